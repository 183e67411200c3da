"""SAP Cloud for Customer on a port: sign-in, CSRF, the OData service `c4codataapi` and the OAuth token endpoint.

Strict where C4C is strict (c4c-odata.md section 6). Basic is for the World's provisioned people (UserID or address) and for
ADMIN; a Bearer comes from the token endpoint for a SAML assertion of the trusted identity provider. Basic needs a CSRF token
with its cookie for every write, Bearer does not (S1). One OData request is answered by `simulator.c4c.odata`, a batch by
several of them; this module adds what HTTP needs around that.

Faults of its own, beside those of `simulator.serving`:
    csrf         a write is answered 403 with `x-csrf-token: Required`
    locked       a write is refused because another user holds the record
    silent_empty a list with an `or` in its $filter comes back empty (S5)
    index_delay  an EMail that is created is missing for `seconds` from lists and CheckEmailByGroupwareID, not when read by key
    moved        after a list was read, also by a part of a batch, somebody changes the first record that it showed
    part_status  a single OData request, also one inside a batch, is answered with `status`
For the faults that concern single requests, `match` sees the path of the part.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Callable
from datetime import timedelta
from urllib.parse import quote

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, RequestEntityTooLarge

from simulator import saml
from simulator.c4c.batch import Reply, Request, read, write
from simulator.c4c.odata import SERVICE, Service, resource
from simulator.c4c.payload import error
from simulator.c4c.query import ODataError
from simulator.c4c.records import User
from simulator.serving import watch
from simulator.world import GetWorld, Person, World

ADMIN = ("_ADMIN", "simulated-admin-password")
TOKEN_PATH = "/sap/bc/sec/oauth2/token"
SCOPE = "UIWC:CC_HOME"
GRANT = "urn:ietf:params:oauth:grant-type:saml2-bearer"
BATCH_STATUS = 202  # by OData V2; C4C's own is not shown in any capture
MAX_REQUEST_BYTES = 80_000_000
MAX_URL_BYTES = 8_192  # C4C has a limit and does not say which (S1)
CSRF_LIFETIME = timedelta(minutes=30)
_COOKIE = "sap-XSRF_C4C_100"
_CSRF_KEY = b"simulated"
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def trust(world: World, certificate_pem: str) -> None:
    """Register the identity provider's signing certificate in the tenant; the one before is forgotten."""
    world.c4c.saml_certificate_pem = certificate_pem


def create_app(get_world: GetWorld, *, public_url: Callable[[], str] | str) -> Flask:
    """Build the application. `public_url` is what clients call it by, without a slash at the end."""
    app = Flask(__name__, static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_REQUEST_BYTES
    app.after_request(_say_time)  # registered first, it runs last: the time includes the simulated latency
    watch(app, "c4c", get_world)
    tenant = _Tenant(get_world, public_url)
    app.add_url_rule(SERVICE, "root", tenant.service, methods=_METHODS, defaults={"path": ""})
    app.add_url_rule(SERVICE.rstrip("/"), "bare", tenant.bare, methods=["GET"], strict_slashes=True)
    app.add_url_rule(SERVICE + "<path:path>", "service", tenant.service, methods=_METHODS)
    app.add_url_rule(TOKEN_PATH, "token", tenant.token, methods=["POST"])
    app.teardown_request(tenant.release)
    app.register_error_handler(HTTPException, _http_error)
    return app


class _Tenant:
    """The views."""

    def __init__(self, get_world: GetWorld, public_url: Callable[[], str] | str) -> None:
        self._get_world = get_world
        self._public_url = public_url

    @property
    def _origin(self) -> str:
        return self._public_url if isinstance(self._public_url, str) else self._public_url()

    def bare(self) -> Response:
        """The service document needs the slash at the end (S1)."""
        return Response("<html><body>Resource not found</body></html>", 404, content_type="text/html")

    def service(self, path: str) -> Response:
        world = self._get_world()
        if len(request.path) + len(request.query_string) > MAX_URL_BYTES:
            return Response("<html><body>Request URI too long</body></html>", 414, content_type="text/html")
        caller = _caller(world)
        if caller is None:
            refused = Response("<html><body>Logon failed</body></html>", 401, content_type="text/html")
            refused.headers["WWW-Authenticate"] = 'Basic realm="SAP NetWeaver Application Server"'
            return refused
        user, by_password = caller
        g.actor = user.user_id
        if request.method != "GET" and not _csrf_holds(world, user, needed=by_password):
            headers = {"x-csrf-token": "Required"}
            return Response("CSRF token validation failed", 403, headers, content_type="text/plain;charset=utf-8")
        wants_token = request.method == "GET" and request.headers.get("x-csrf-token", "").lower() == "fetch"
        if wants_token and "/" in path:
            # cloud-sdk-js issue 1185: fetching the token from a nested path breaks the service.
            return Response("<html><body>Internal Server Error</body></html>", 500, content_type="text/html")
        response = self._batch(world, user) if path == "$batch" else self._single(world, user, path)
        if wants_token:
            _give_csrf(world, user, response, secure=self._origin.startswith("https:"))
        return response

    def token(self) -> Response:
        world = self._get_world()
        try:
            with world.lock:
                user_id, token = _exchange(world, self._origin + TOKEN_PATH)
        except _OAuthError as refused:
            headers = {"WWW-Authenticate": 'Basic realm="OAuth"'} if refused.status == 401 else {}
            body = {"error": refused.code, "error_description": str(refused)}
            return _json(body, refused.status, headers)
        g.actor = user_id
        lifetime = str(world.c4c.token_lifetime_s)
        return _json({"access_token": token, "token_type": "Bearer", "expires_in": lifetime, "scope": SCOPE}, 200, {})

    def release(self, failure: BaseException | None) -> None:
        """Give the record locks back. It runs after the simulated latency, for which a writer holds them."""
        world = self._get_world()
        with world.lock:
            for object_id in g.get("held", ()):
                world.crm.record_locks.pop(object_id, None)

    def _single(self, world: World, user: User, path: str) -> Response:
        query = request.query_string.decode("latin-1")
        target = quote(path, safe="/()'$,=")
        asked = Request(request.method, f"{target}?{query}" if query else target, _lower_headers(), request.get_data())
        with world.lock:
            service = self._open(world, user)
            reply = _finished(service, service.answer(asked))
        return _response(reply)

    def _batch(self, world: World, user: User) -> Response:
        if request.method != "POST":
            return _response(_error_reply(ODataError("$batch needs POST", 405)))
        try:
            operations = read(request.headers.get("Content-Type", ""), request.get_data())
        except ODataError as refused:
            return _response(_error_reply(refused))
        replies: list[Reply | list[Reply]] = []
        with world.lock:
            service = self._open(world, user)
            for operation in operations:
                changes = operation if isinstance(operation, list) else [operation]
                changes = [self._relative(change) for change in changes]
                g.parts += [f"{change.method} {resource(change.target.partition('?')[0])}" for change in changes]
                if isinstance(operation, list):
                    replies.append(_changeset(service, changes))
                elif changes[0].method != "GET":
                    replies.append(_error_reply(ODataError("A change must be part of a changeset")))
                else:
                    replies.append(service.answer(changes[0], in_batch=True))
        content_type, body = write(replies)
        return Response(body, BATCH_STATUS, {"dataserviceversion": "2.0"}, content_type=content_type)

    def _open(self, world: World, user: User) -> Service:
        service = Service(world, user, self._origin + SERVICE)
        g.held = service.changes.held  # the list grows while the request writes
        return service

    def _relative(self, change: Request) -> Request:
        for prefix in (self._origin + SERVICE, SERVICE):
            if change.target.startswith(prefix):
                return Request(change.method, change.target.removeprefix(prefix), change.headers, change.body)
        return change


def _changeset(service: Service, changes: list[Request]) -> Reply | list[Reply]:
    """All or nothing; a refusal takes the place of all answers, as OData V2 has it."""
    replies = []
    for change in changes:
        reply = service.answer(change, in_batch=True)
        if reply.status >= 400:
            service.changes.rollback()
            return reply
        replies.append(reply)
    service.changes.commit()
    return replies


def _finished(service: Service, reply: Reply) -> Reply:
    if reply.status < 400:
        service.changes.commit()
    else:
        service.changes.rollback()
    return reply


# -- who calls


def _caller(world: World) -> tuple[User, bool] | None:
    """The user and whether a password was used; None if the caller is not known."""
    scheme, _, credentials = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        with world.lock:
            user_id, until = world.c4c.tokens.get(credentials.strip(), ("", world.now()))
        person = world.person(user_id) if user_id and until > world.now() else None
        return (_user(person), False) if person is not None and _may_log_on(world, person) else None
    name, password = _basic(request.headers.get("Authorization", ""))
    if (name, password) == ADMIN:
        return User(ADMIN[0], "Administrator", is_admin=True), True
    person = next((p for p in world.people if name and name.lower() in (p.user_id.lower(), p.email.lower())), None)
    if person is None or person.password != password or not _may_log_on(world, person):
        return None
    # A program cannot change an initial password, so it is as good as a wrong one. (No source tells C4C's answer; 401 follows
    # from the Basic scheme. https://community.sap.com, "All about password related issues", tells of both states.)
    if person.user_id in world.c4c.locked_passwords | world.c4c.initial_passwords:
        return None
    return _user(person), True


def _may_log_on(world: World, person: Person) -> bool:
    return person.provisioned and person.user_id not in world.c4c.locked_users


def _user(person: Person) -> User:
    return User(person.user_id, person.name)


def _basic(header: str) -> tuple[str, str]:
    scheme, _, credentials = header.partition(" ")
    if scheme.lower() != "basic":
        return "", ""
    try:
        name, _, password = base64.b64decode(credentials, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return name, password


# -- CSRF: the token is bound to a cookie that is only set when the token was asked for (KBA 3339155)


def _csrf_token(cookie: str, user: User) -> str:
    digest = hmac.new(_CSRF_KEY, f"{cookie} {user.user_id}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).decode("ascii")


def _give_csrf(world: World, user: User, response: Response, *, secure: bool) -> None:
    cookie = f"{int(world.now().timestamp())}-{secrets.token_urlsafe(12)}"
    response.headers["x-csrf-token"] = _csrf_token(cookie, user)
    response.set_cookie(_COOKIE, cookie, path="/", secure=secure, httponly=True)


def _csrf_holds(world: World, user: User, *, needed: bool) -> bool:
    if not needed:
        return True
    if world.take_fault("c4c", request.method, request.path, frozenset({"csrf"})):
        return False
    cookie = request.cookies.get(_COOKIE, "")
    born = cookie.partition("-")[0]
    if not born.isdecimal() or world.now().timestamp() - int(born) > CSRF_LIFETIME.total_seconds():
        return False
    return hmac.compare_digest(request.headers.get("x-csrf-token", "").encode(), _csrf_token(cookie, user).encode())


# -- the token endpoint


class _OAuthError(Exception):
    """RFC 6749 section 5.2."""

    def __init__(self, code: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.code = code
        self.status = status


def _exchange(world: World, token_url: str) -> tuple[str, str]:
    """Check the client and its assertion; return the UserID and a new access token. Raises: _OAuthError."""
    tenant, form = world.c4c, request.form
    client, secret = _basic(request.headers.get("Authorization", ""))
    if client != tenant.oauth_client_id or not hmac.compare_digest(secret, tenant.oauth_client_secret):
        raise _OAuthError("invalid_client", "Client authentication failed", 401)
    if form.get("client_id", client) != client:
        raise _OAuthError("invalid_request", "Parameter client_id differs from the authenticated client")
    if form.get("grant_type") != GRANT:
        raise _OAuthError("unsupported_grant_type", "The grant type is not supported")
    if form.get("scope") != SCOPE:
        raise _OAuthError("invalid_scope", "The scope is not granted to the client")
    try:
        document = base64.b64decode(form.get("assertion", "").translate(str.maketrans("-_", "+/")), validate=True)
        subject = saml.verify(
            document,
            certificate_pem=tenant.saml_certificate_pem,
            issuer=tenant.saml_issuer,
            audience=tenant.audience,
            recipient=token_url,
            now=world.now(),
        )
    except binascii.Error:
        raise _OAuthError("invalid_request", "The assertion is not base64") from None
    except saml.Refused as refused:
        raise _OAuthError("invalid_grant", f"SAML 2.0 assertion refused: {refused}") from None
    if subject.client_id not in ("", client):
        raise _OAuthError("invalid_grant", "The assertion was made for another client")
    _use_once(world, subject)
    person = _subject_person(world, subject)
    token = secrets.token_urlsafe(32)
    tenant.tokens[token] = (person.user_id, world.now() + timedelta(seconds=tenant.token_lifetime_s))
    world.happened("c4c", "token", person.user_id)
    return person.user_id, token


def _use_once(world: World, subject: saml.Subject) -> None:
    used = world.c4c.used_assertions
    for assertion_id, until in list(used.items()):
        if until < world.now():
            del used[assertion_id]
    if not subject.assertion_id or subject.assertion_id in used:
        raise _OAuthError("invalid_grant", "The assertion was used before")
    used[subject.assertion_id] = subject.expires_at + saml.SKEW


def _subject_person(world: World, subject: saml.Subject) -> Person:
    name = subject.name.lower()
    by_address = subject.name_format == saml.EMAIL
    person = next((p for p in world.people if name == (p.email if by_address else p.user_id).lower()), None)
    if person is None or not _may_log_on(world, person):
        raise _OAuthError("invalid_grant", "The user is unknown or locked")
    return person


# -- HTTP


def _lower_headers() -> dict[str, str]:
    return {name.lower(): value for name, value in request.headers.items()}


def _error_reply(refused: ODataError) -> Reply:
    body = error(refused.message, atom=False)
    return Reply(refused.status, (("Content-Type", "application/json"), *refused.headers.items()), body)


def _response(reply: Reply) -> Response:
    response = Response(reply.body, reply.status)
    for name, value in reply.headers:
        response.headers[name] = value
    return response


def _json(body: dict[str, str], status: int, headers: dict[str, str]) -> Response:
    response = Response(json.dumps(body), status, headers, content_type="application/json;charset=UTF-8")
    response.headers["Cache-Control"] = "no-store"
    return response


def _say_time(response: Response) -> Response:
    if request.path.startswith(SERVICE):
        response.headers["c4c-odata-response-time"] = f"{int((time.perf_counter() - g.started) * 1000)} ms"
    return response


def _http_error(failure: HTTPException) -> Response:
    status = failure.code or 500
    if isinstance(failure, RequestEntityTooLarge):
        status = 413
    return Response(f"<html><body>{status}</body></html>", status, content_type="text/html")
