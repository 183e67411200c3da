"""Signing in to the pages: the cookies, what a form must carry, the sign-in pages, and the page of the pane's dialog.

Two cookies, both of this host alone, sent by browsers only with https and never shown to scripts: one holds the token of the
page session, the other a secret by which a flow knows the browser it began in. A form carries an HMAC of one of them; beside
it, what the browser says of the form's origin must be this origin.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import re
import secrets
from collections.abc import Callable
from urllib.parse import urlencode

from apiflask import APIBlueprint
from flask import Response, g, request
from werkzeug.exceptions import BadRequest

from server import logs
from server.errors import NotFound, SsiError, Transient
from server.services import Deps, signing_in, syncing
from server.web.html import Html, Refusal, go, office_policy, refusal_of
from server.web.problems import problem
from server.web.throttle import Charge, Throttle, network
from server.wiring import Face

SESSION = "__Host-ssi"
BROWSER = "__Host-ssi-flow"
HOME = "/settings/sync/email"
PANE = "/pane/sign-in"
FLOW_S = 600  # how long a browser is known for a sign-in elsewhere
MAX_ENTRY = 320  # characters of anything typed but a password
MAX_PASSWORD = 1024
GUESSES_PER_MINUTE = 5  # at the password of one C4C user

log = logs.get(__name__)

_NEXT = re.compile(r"/(?:settings|pane)(?:/[a-z0-9]+(?:-[a-z0-9]+)*)*/?")
_MAX_NEXT = 200
_SECRET = re.compile(r"[A-Za-z0-9_-]{43}")


def own_path(wanted: str) -> str:
    """Return a path of ours to go on to: the one wanted if it is one of our pages', else the settings.

    Only plain segments pass, so no other host, scheme, query, escape or control character can be in it.
    """
    return wanted if len(wanted) <= _MAX_NEXT and _NEXT.fullmatch(wanted) else HOME


def sign_in_path(next_path: str, *, tenant: str = "", fresh: bool = False) -> str:
    query = {"next": next_path} | ({"tenant": tenant} if tenant else {}) | ({"fresh": "1"} if fresh else {})
    return f"/sign-in?{urlencode(query, safe='/')}"


class Door:
    """Knows who visits our pages, and lets no other site's form in. One for the application."""

    def __init__(self, deps: Deps, face: Face, html: Html) -> None:
        self._deps = deps
        self._origin = face.public_url
        self._html = html
        self._is_framed = bool(face.pages_frame_ancestors)
        self._users = Throttle(deps.limits.user_calls_per_minute, deps.now)

    def watch(self, bp: APIBlueprint) -> None:
        """Stand before all routes of a blueprint."""
        bp.before_request(self._recognise)
        bp.before_request(self._check_form)
        bp.after_request(self._remember_browser)

    def watch_settings(self, bp: APIBlueprint, *, wants_fresh: Callable[[], bool] = lambda: False) -> None:
        """Stand before all routes of a blueprint of User Settings: they are for people who signed in, at times a moment ago."""
        self.watch(bp)

        @bp.before_request
        def _only_people() -> Response | None:
            if g.visitor is None and request.path.endswith("/progress"):
                return problem(401, "needs_sign_in", "Sign in to see this.")
            if g.visitor is None:
                return go(sign_in_path(HOME if request.path.startswith("/connect/") else request.path, fresh=wants_fresh()))
            if wants_fresh() and not g.visitor.is_fresh:
                return go(sign_in_path(request.path, tenant=g.visitor.principal.tenant.name, fresh=True))
            return None

        @bp.before_request
        def _not_too_often() -> Response | None:
            wait_s = self._users.take(g.visitor.principal.user.id, 1.0 if request.method == "POST" else 0.1)
            return too_often(self._html, wait_s) if wait_s else None

        @bp.before_request
        def _learn_language() -> None:
            syncing.learn_language(self._deps, g.visitor.principal, self._html.text().language)

    def browser(self) -> str:
        """Return this browser's secret for a flow that begins now, and see to it that the browser keeps it."""
        g.keeps_browser = True
        secret: str = g.browser
        return secret

    def entry_token(self) -> str:
        """Return what a form must carry from somebody who is not signed in, or not yet again."""
        return _hmac(self.browser().encode())

    def admit(self, signed_in: signing_in.SignedIn) -> Response:
        """Give the browser its new session, end the one it had, and go on. A token from before the sign-in is never kept."""
        self._end()
        response = go(own_path(signed_in.next_path))
        self._set(response, SESSION, signed_in.token, signed_in.max_age_s)
        return response

    def let_go(self, next_path: str = "") -> Response:
        """End the session; with a path to go on to, somebody else signs in, who is not whoever the provider still knows."""
        self._end()
        response = go(sign_in_path(own_path(next_path), fresh=True) if next_path else "/sign-in?out=1")
        self._set(response, SESSION, "", 0)
        return response

    def _end(self) -> None:
        if g.visitor is not None:
            signing_in.sign_out(self._deps, request.cookies[SESSION])

    def _recognise(self) -> None:
        token, browser = request.cookies.get(SESSION, ""), request.cookies.get(BROWSER, "")
        g.visitor = signing_in.visitor(self._deps, token) if 0 < len(token) <= MAX_PASSWORD else None
        g.csrf = _hmac(g.visitor.csrf_key) if g.visitor else ""
        g.policy = self._html.policy()
        g.browser = browser if _SECRET.fullmatch(browser) else secrets.token_urlsafe(32)

    def _check_form(self) -> Response | None:
        if request.method in ("GET", "HEAD", "OPTIONS"):
            return None
        if not self._is_from_here():
            return self._html.refused(Refusal("other_site", {}, "", 403))
        is_entry = request.path.startswith("/sign-in")
        expected = _hmac(g.browser.encode()) if is_entry else g.csrf
        given = request.form.get("csrf", "")
        if not is_entry and g.visitor is None:  # the session ended while the form was open
            return go(sign_in_path(own_path(request.form.get("next") or request.path)))
        if not hmac.compare_digest(given.encode(), expected.encode()):
            return self._html.refused(Refusal("old_page", {}, "", 403), retry=own_path(request.path))
        return None

    def _is_from_here(self) -> bool:
        """Believe Sec-Fetch-Site, which no page can forge; Origin where it is missing.

        Our own forms come with "Origin: null" from browsers that apply Referrer-Policy to it (Fetch, "append a request Origin
        header"), so null alone is neither a reason to let in nor to refuse.
        """
        origin, site = request.headers.get("Origin", "null"), request.headers.get("Sec-Fetch-Site")
        return origin in (self._origin, "null") and (site == "same-origin" or (site is None and origin == self._origin))

    def _remember_browser(self, response: Response) -> Response:
        if g.get("keeps_browser"):
            self._set(response, BROWSER, g.browser, FLOW_S)
        return response

    def _set(self, response: Response, name: str, value: str, max_age_s: int) -> None:
        """A page that C4C frames gets its cookies only as third-party ones, which are kept apart for each site that frames us."""
        response.set_cookie(
            name,
            value,
            max_age=max_age_s,
            secure=True,
            httponly=True,
            samesite="None" if self._is_framed else "Lax",
            partitioned=self._is_framed,
        )
        response.headers["Cache-Control"] = "no-store"


def blueprint(deps: Deps, face: Face, html: Html, door: Door) -> APIBlueprint:
    """Return the routes under /sign-in, /sign-out and /pane/sign-in."""
    bp = APIBlueprint("auth", __name__, enable_openapi=False)
    door.watch(bp)
    html.take_errors(bp)
    strangers = Throttle(deps.limits.failed_sign_ins_per_minute, deps.now)
    guesses = Throttle(GUESSES_PER_MINUTE, deps.now)
    users = Throttle(deps.limits.user_calls_per_minute, deps.now)

    @bp.get("/sign-in")
    def sign_in() -> Response:
        next_path, wants_fresh = own_path(request.args.get("next", "")), "fresh" in request.args
        if g.visitor is not None and (g.visitor.is_fresh or not wants_fresh):
            return go(next_path)
        return form(request.args.get("tenant", ""), next_path, wants_fresh)

    @bp.post("/sign-in")
    def begin() -> Response:
        tenant, next_path = request.form.get("tenant", "")[:MAX_ENTRY], own_path(request.form.get("next", ""))
        fresh, way = bool(request.form.get("fresh")), way_of(tenant)
        if way is None:
            return form(tenant, next_path, fresh)
        wait_s = strangers.take(network(request.remote_addr))
        if wait_s:
            return too_often(html, wait_s)
        uri, browser = f"{face.public_url}/sign-in/callback/{way.id}", door.browser()
        try:
            url = signing_in.begin(deps, way.tenant, browser=browser, redirect_uri=uri, next_path=next_path, fresh=fresh)
        except SsiError as error:
            return form(tenant, next_path, fresh, refusal=_refusal(error))
        return html.leave(url, "company")

    @bp.get("/sign-in/callback/<string(length=32):tenant>")
    def callback(tenant: str) -> Response:
        """Where the provider of one tenant sends people. An answer that comes elsewhere is another provider's (RFC 9700, 4.4)."""
        try:
            signed_in = signing_in.finish(deps, browser=g.browser, answer=answer_of_provider(), tenant=tenant)
        except SsiError as error:
            return html.refused(_refusal(error), contact=contact(), retry=sign_in_path(HOME))
        return door.admit(signed_in)

    @bp.post("/sign-in/password")
    def by_password() -> Response:
        """Have C4C judge a password, which counts as a guess until it is known to be right."""
        entered = request.form
        tenant, user, next_path = entered.get("tenant", ""), entered.get("user", ""), own_path(entered.get("next", ""))
        password, fresh, way = entered.get("password", ""), bool(entered.get("fresh")), way_of(tenant[:MAX_ENTRY])
        if not user or not password or max(len(tenant), len(user)) > MAX_ENTRY or len(password) > MAX_PASSWORD:
            return form(tenant, next_path, fresh, user, Refusal("entry_missing", {}, "", 422))
        if way is None:
            return form(tenant, next_path, fresh, user)
        guess = Charge((guesses, f"{way.id} {user.strip().lower()}"), (strangers, network(request.remote_addr)))
        wait_s = guess.take()
        if wait_s:
            return _later(form(tenant, next_path, fresh, user, _haste(wait_s)), wait_s)
        try:
            signed_in = signing_in.by_password(deps, way.tenant, user, password, next_path=next_path)
        except SsiError as error:
            if isinstance(error, Transient):  # nobody judged it
                guess.give_back()
            refusal = _refusal(error)
            log.info("sign-in refused", tenant=way.id, reason=refusal.code)
            return form(tenant, next_path, fresh, user, refusal)
        guess.give_back()
        return door.admit(signed_in)

    @bp.post("/sign-out")
    def sign_out() -> Response:
        return door.let_go(request.form.get("next", ""))

    @bp.get(PANE)
    def pane() -> Response:
        """The pane's dialog: ask whether the person who is signed in here is the one who opened it. Any page can lead here."""
        if g.visitor is None or not g.visitor.is_fresh:
            return sign_in_for_pane()
        return html.page("pane_continue.html", next_path=PANE)

    @bp.post(PANE)
    def give_to_pane() -> Response:
        """The dialog's last page: it hands a token to the pane that opened it, by Office.js and by nothing else."""
        if not g.visitor.is_fresh:
            return sign_in_for_pane()
        wait_s = users.take(g.visitor.principal.user.id)
        if wait_s:
            return too_often(html, wait_s)
        token, seconds = signing_in.pane_token(deps, g.visitor, request.cookies[SESSION])
        page = html.page("pane_sign_in.html", token=token, seconds=seconds, office_js_url=face.office_js_url)
        g.policy = office_policy(face, "'none'")
        return page

    def sign_in_for_pane() -> Response:
        tenant = g.visitor.principal.tenant.name if g.visitor else request.args.get("tenant", "")[:MAX_ENTRY]
        return go(sign_in_path(PANE, tenant=tenant, fresh=True))

    def way_of(tenant: str) -> signing_in.Way | None:
        """Return how people sign in; None for an unknown tenant, and as long as it is not said which of several."""
        try:
            return signing_in.ways(deps, tenant or None)
        except NotFound:
            return None

    def form(tenant: str, next_path: str, fresh: bool, user: str = "", refusal: Refusal | None = None) -> Response:
        """Ask for what is needed to sign in, or first for the tenant. Whoever guesses the names of tenants has to wait."""
        tenant = tenant[:MAX_ENTRY] or (g.visitor.principal.tenant.name if g.visitor else "")
        way = way_of(tenant)
        if way is None and tenant:
            wait_s = strangers.take(network(request.remote_addr))
            if wait_s:
                return too_often(html, wait_s)
            refusal = Refusal("tenant_unknown", {"tenant": tenant}, "", 404)
        return html.page(
            "sign_in.html",
            refusal.status if refusal else 200,
            way=way,
            tenant=way.tenant if way else tenant,
            user=user[:MAX_ENTRY],
            next_path=next_path,
            for_pane=next_path == PANE,
            fresh=fresh,
            is_out="out" in request.args,
            refusal=refusal,
            contact=contact(),
            entry_csrf=door.entry_token(),
        )

    return bp


def answer_of_provider() -> dict[str, str]:
    """Return what a sign-in service sent back. Raises: BadRequest for one that says something twice (RFC 6749, 3.1)."""
    answer = request.args.to_dict(flat=False)
    if any(len(values) > 1 for values in answer.values()):
        raise BadRequest
    return {name: values[0] for name, values in answer.items()}


def contact() -> str:
    """Return whom to ask, "" as long as it is not known who visits."""
    found: str = g.visitor.principal.organization.admin_contact if g.visitor else ""
    return found


def too_often(html: Html, wait_s: float) -> Response:
    return _later(html.refused(_haste(wait_s)), wait_s)


def _haste(wait_s: float) -> Refusal:
    return Refusal("too_often", {"seconds": str(math.ceil(wait_s))}, "", 429)


def _later(response: Response, wait_s: float) -> Response:
    response.headers["Retry-After"] = str(math.ceil(wait_s))
    return response


def _refusal(error: SsiError) -> Refusal:
    """Return what to tell of a sign-in. What is not found is the tenant's way to sign in, changed since the page was made."""
    return Refusal("way_changed", {}, str(error), 409) if isinstance(error, NotFound) else refusal_of(error)


def _hmac(key: bytes) -> str:
    return hmac.new(key, b"csrf", hashlib.sha256).hexdigest()
