"""Google's mail API on the wire: who may call, quota units, batches, and errors in Google's shape; `google.mail` has the answers.

As strict as the service where a client could go wrong: paths, query parameters and bodies are those of the description that the
installed client library ships, a token opens only what its scopes allow, each call costs its units of a user's quota for the
minute, and the parts of a batch are judged alone and answered in another order. An add-on opens one message only, with the
token of the event that told of it. `google.people` simulates contacts; the calendar is not simulated.

Faults of its own, beside those of `simulator.serving`: "rateLimitExceeded", "userRateLimitExceeded" and "dailyLimitExceeded" (403
with that reason), "throttled" (429), each also for a part of a batch; "second_writer" (another client adds a label just before a
modify), "history_expired" (404 for a startHistoryId) and "empty_page" (history begins with a page without records, whose token
leads on). Source: domain notes on Gmail, section 3.
"""

from __future__ import annotations

import json
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast
from urllib.parse import parse_qs

from flask import Flask, Response, g, request

from simulator.google.batch import JSON, MESSAGE_TOKEN, MIXED, STATUSES, Asked, answered, bearer, parts_of, plain_error
from simulator.google.discovery import Description, GoogleError, Json
from simulator.google.identity import Grant, MessageGrant
from simulator.google.mail import Call, Gmail
from simulator.google.push import Pushes
from simulator.serving import watch
from simulator.world import GetWorld, Person, World

UNITS_PER_MINUTE = 6000  # of one user in one project, since 1 May 2026

VerifyToken = Callable[[str], Grant | None]
VerifyMessageToken = Callable[[str], MessageGrant | None]

_UNITS = {
    "gmail.users.getProfile": 1,
    "gmail.users.labels.list": 1,
    "gmail.users.labels.get": 1,
    "gmail.users.history.list": 2,
    "gmail.users.messages.list": 5,
    "gmail.users.messages.modify": 5,
    "gmail.users.labels.create": 5,
    "gmail.users.labels.update": 5,
    "gmail.users.labels.patch": 5,
    "gmail.users.labels.delete": 5,
    "gmail.users.messages.get": 20,
    "gmail.users.messages.batchModify": 50,
    "gmail.users.stop": 50,
    "gmail.users.watch": 100,
}
_TEXTS = {
    "rateLimitExceeded": "Quota exceeded for quota metric 'Queries' and limit 'Units per minute per user'.",
    "userRateLimitExceeded": "User-rate limit exceeded.",
    "dailyLimitExceeded": "Daily Limit Exceeded",
}
_ONE_MESSAGE = frozenset(f"gmail.addons.current.message.{what}" for what in ("action", "metadata", "readonly"))
_METADATA = frozenset({"gmail.addons.current.message.metadata"})
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


def create_app(
    get_world: GetWorld, verify_token: VerifyToken, verify_message_token: VerifyMessageToken = lambda _: None
) -> Flask:
    """Return the service as a WSGI application; `verify_token` tells what an access token opens, None if it is not good, and
    `verify_message_token` the same of the token of an add-on's event."""
    app = Flask("simulator.google")
    watch(app, "google", get_world)
    service = app.extensions["google"] = GoogleService(get_world, verify_token, verify_message_token)

    @app.route("/gmail/v1/<path:path>", methods=_METHODS)
    def gmail(path: str) -> Response:
        return _response(*service.answer(as_it_came()))

    @app.post("/batch/gmail/v1")
    def batch() -> Response:
        try:
            return Response(service.batch(as_it_came()), 200, content_type=MIXED)
        except GoogleError as error:
            return _response(error.status, error.body(), error.headers)

    @app.after_request
    def _speak_json(response: Response) -> Response:
        """Give the faults that all vendors share, and unknown paths, the shape of Google's errors."""
        if response.status_code >= 400 and response.mimetype in ("text/plain", "text/html"):
            response.set_data(json.dumps(plain_error(response.status_code).body()))
            response.content_type = JSON
        return response

    return app


def service_of(app: Flask) -> GoogleService:
    """What an app that `create_app` made counts."""
    return cast(GoogleService, app.extensions["google"])


def as_it_came() -> Asked:
    """Return the request that Flask is at."""
    return Asked(
        method=request.method,
        path=str(request.environ.get("RAW_URI") or request.path).partition("?")[0],
        query=request.query_string.decode("latin-1"),
        token=bearer(request.headers.get("Authorization", "")),
        content_type=request.content_type or "",
        body=request.get_data(),
        message_token=request.headers.get(MESSAGE_TOKEN, ""),
    )


def _response(status: int, body: Json | None, headers: dict[str, str]) -> Response:
    text = b"" if body is None else json.dumps(body, indent=2).encode()
    return Response(text, status, headers, content_type=JSON if body is not None else None)


@dataclass(slots=True)
class _Meter:
    """Units that one user spent: in all, and in the last minute."""

    total: int = 0
    recent: deque[tuple[float, int]] = field(default_factory=deque)  # (when in seconds, units)

    def spend(self, units: int, now: float) -> bool:
        while self.recent and self.recent[0][0] <= now - 60:
            self.recent.popleft()
        if sum(spent for _, spent in self.recent) + units > UNITS_PER_MINUTE:
            return False
        self.recent.append((now, units))
        self.total += units
        return True


class GoogleService:
    """Answers requests; every answer is made while the World is locked, so that a request sees one state."""

    def __init__(self, get_world: GetWorld, verify_token: VerifyToken, verify_message_token: VerifyMessageToken) -> None:
        self._get_world = get_world
        self._verify_token = verify_token
        self._verify_message_token = verify_message_token
        self.description = Description("gmail.v1")
        self.gmail = Gmail(self.description.palette)
        self._meters: weakref.WeakKeyDictionary[World, dict[str, _Meter]] = weakref.WeakKeyDictionary()

    def units(self, person: Person) -> int:
        """How many quota units this person's calls have cost in the World of the moment."""
        return self._meter(person).total

    @property
    def pushes(self) -> Pushes:
        """The topics that exist, and who is watched, in the World of the moment."""
        return self.gmail.pushes(self._get_world())

    def answer(self, asked: Asked) -> tuple[int, Json | None, dict[str, str]]:
        """Return status, body and headers."""
        try:
            body = self._answered(asked)
        except GoogleError as error:
            return error.status, error.body(), error.headers
        return 200 if body is not None else 204, body, {}

    def batch(self, asked: Asked) -> bytes:
        """Raises: GoogleError when it is no batch."""
        parts = parts_of(asked.content_type, asked.body, asked.token)
        g.parts = [f"{one.method} {one.path}" for _, one in parts]
        return answered(parts, self._judged)

    def _judged(self, asked: Asked) -> tuple[int, Json | None]:
        """Answer one part, with the faults that `simulator.serving` sees to for a whole request."""
        fault = self._get_world().take_fault("google", asked.method, asked.path, frozenset({"status"}))
        if fault:
            return fault.status, plain_error(fault.status).body()
        status, body, _ = self.answer(asked)
        return status, body

    def _answered(self, asked: Asked) -> Json | None:
        """Raises: GoogleError."""
        grant = self._verify_token(asked.token) if asked.token else None
        if grant is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'}
            raise GoogleError(401, *STATUSES[401], headers=challenge)
        g.actor = grant.person.email
        method, path = self.description.method(asked.method, asked.path)
        if not method.scopes & grant.scopes:
            raise GoogleError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
        query = self.description.checked_query(method, parse_qs(asked.query, keep_blank_values=True))
        body = self.description.checked_body(method, asked.body, asked.content_type)
        if method.scopes & grant.scopes <= _ONE_MESSAGE:
            self._check_message(asked, grant.person, path.get("messageId") or path["id"])
        if method.scopes & grant.scopes == _METADATA and query.get("format") not in ("metadata", "minimal"):
            raise GoogleError(403, "forbidden", f"Metadata scope doesn't allow format {str(query.get('format')).upper()}")
        self._charge(grant.person, method.id, asked)
        call = Call(method.id, path, query, body, f"{asked.method} {asked.path}", grant.person)
        world = self._get_world()
        with world.lock:
            return self.gmail.answer(world, call)

    def _check_message(self, asked: Asked, person: Person, message: str) -> None:
        """Raises: GoogleError unless an add-on's event about this message was meant for this person.

        The texts are those of Apps Script, which has the same rule (odoo/mail-client-extensions issue 44); REST's are not written
        anywhere.
        """
        if not asked.message_token:
            raise GoogleError(403, "forbidden", "Access denied: : Missing access token for per message scopes authorization.")
        opened = self._verify_message_token(asked.message_token)
        if opened is None:
            raise GoogleError(403, "forbidden", "Access denied: : Expired access token.")
        if opened != MessageGrant(person, message):
            raise GoogleError(403, "forbidden", "Access denied: : Invalid access token.")

    def _charge(self, person: Person, method: str, asked: Asked) -> None:
        """Raises: GoogleError when the quota is used up, or a fault says so."""
        world = self._get_world()
        fault = world.take_fault("google", asked.method, asked.path, frozenset({*_TEXTS, "throttled"}))
        if fault and fault.kind == "throttled":
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            raise GoogleError(429, *STATUSES[429], domain="usageLimits", headers=headers)
        if fault:
            raise GoogleError(403, fault.kind, _TEXTS[fault.kind], domain="usageLimits")
        with world.lock:
            if not self._meter(person).spend(_UNITS.get(method, 5), world.now().timestamp()):
                raise GoogleError(403, "rateLimitExceeded", _TEXTS["rateLimitExceeded"], domain="usageLimits")

    def _meter(self, person: Person) -> _Meter:
        return self._meters.setdefault(self._get_world(), {}).setdefault(person.email, _Meter())
