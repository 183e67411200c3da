"""Google's mail API on the wire: who may call, quota units, batches, and errors in Google's shape; `google_mail` has the answers.

As strict as the service where a client could go wrong: paths, query parameters and bodies are those of the description that the
installed client library ships, a token opens only what its scopes allow, each call costs its units of a user's quota for the
minute, and the parts of a batch are judged alone and answered in another order. People and Calendar are not simulated.

Faults of its own, beside those of `simulator.serving`: "rateLimitExceeded", "userRateLimitExceeded" and "dailyLimitExceeded" (403
with that reason), "throttled" (429), each also for a part of a batch; "second_writer" (another client adds a label just before a
modify) and "history_expired" (404 for a startHistoryId). Source: domain notes on Gmail, section 3.
"""

from __future__ import annotations

import json
import weakref
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import Message
from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, Response, g, request

from simulator.google_discovery import Description, GoogleError, Json, invalid
from simulator.google_identity import Grant
from simulator.google_mail import Call, Gmail
from simulator.serving import watch
from simulator.world import GetWorld, Person, World

UNITS_PER_MINUTE = 6000  # of one user in one project, since 1 May 2026
BATCH_SIZE = 100

VerifyToken = Callable[[str], Grant | None]

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
}
_TEXTS = {
    "rateLimitExceeded": "Quota exceeded for quota metric 'Queries' and limit 'Units per minute per user'.",
    "userRateLimitExceeded": "User-rate limit exceeded.",
    "dailyLimitExceeded": "Daily Limit Exceeded",
}
_STATUSES = {
    401: ("authError", "Request had invalid authentication credentials."),
    403: ("forbidden", "The caller does not have permission"),
    404: ("notFound", "Requested entity was not found."),
    429: ("rateLimitExceeded", "Too many concurrent requests for user"),
    503: ("backendError", "Service temporarily unavailable."),
}
_METHODS = ["GET", "POST", "PUT", "PATCH", "DELETE"]


@dataclass(frozen=True, slots=True)
class _Asked:
    """A request as it came, alone or as part of a batch."""

    method: str
    path: str
    query: str
    token: str
    content_type: str
    body: bytes


def create_app(get_world: GetWorld, verify_token: VerifyToken) -> Flask:
    """Return the service as a WSGI application; `verify_token` tells what an access token opens, None if it is not good."""
    app = Flask("simulator.google")
    watch(app, "google", get_world)
    service = app.extensions["google"] = GoogleService(get_world, verify_token)

    @app.route("/gmail/v1/<path:path>", methods=_METHODS)
    def gmail(path: str) -> Response:
        sent = str(request.environ.get("RAW_URI") or request.path).partition("?")[0]
        asked = _Asked(
            request.method,
            sent,
            request.query_string.decode("latin-1"),
            _bearer(),
            request.content_type or "",
            request.get_data(),
        )
        status, body, headers = service.answer(asked)
        return _response(status, body, headers)

    @app.post("/batch/gmail/v1")
    def batch() -> Response:
        try:
            return Response(service.batch(request.content_type or "", request.get_data(), _bearer()), 200, content_type=_MIXED)
        except GoogleError as error:
            return _response(error.status, error.body(), error.headers)

    @app.after_request
    def _speak_json(response: Response) -> Response:
        """Give the faults that all vendors share, and unknown paths, the shape of Google's errors."""
        if response.status_code >= 400 and response.mimetype in ("text/plain", "text/html"):
            reason, text = _STATUSES.get(response.status_code, ("backendError", "Internal error encountered."))
            response.set_data(json.dumps(GoogleError(response.status_code, reason, text).body()))
            response.content_type = _JSON
        return response

    return app


_JSON = "application/json; charset=UTF-8"
_BOUNDARY = "batch_simulated_answer"
_MIXED = f"multipart/mixed; boundary={_BOUNDARY}"


def service_of(app: Flask) -> GoogleService:
    """What an app that `create_app` made counts."""
    return cast(GoogleService, app.extensions["google"])


def _bearer() -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else ""


def _response(status: int, body: Json | None, headers: dict[str, str]) -> Response:
    text = b"" if body is None else json.dumps(body, indent=2).encode()
    return Response(text, status, headers, content_type=_JSON if body is not None else None)


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

    def __init__(self, get_world: GetWorld, verify_token: VerifyToken) -> None:
        self._get_world = get_world
        self._verify_token = verify_token
        self.description = Description("gmail.v1")
        self._gmail = Gmail(self.description.palette)
        self._meters: weakref.WeakKeyDictionary[World, dict[str, _Meter]] = weakref.WeakKeyDictionary()

    def units(self, person: Person) -> int:
        """How many quota units this person's calls have cost in the World of the moment."""
        return self._meter(person).total

    def answer(self, asked: _Asked) -> tuple[int, Json | None, dict[str, str]]:
        """Return status, body and headers."""
        try:
            body = self._answered(asked)
        except GoogleError as error:
            return error.status, error.body(), error.headers
        return 200 if body is not None else 204, body, {}

    def batch(self, content_type: str, body: bytes, token: str) -> bytes:
        """Answer each part for itself, the last one first, as no order is promised. Raises: GoogleError."""
        whole = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1") + b"\r\n\r\n" + body)
        payload: Any = whole.get_payload()
        if not whole.is_multipart() or whole.get_content_type() != "multipart/mixed":
            raise invalid("Failed to parse batch request, error: no multipart body.", reason="badRequest")
        parts: list[Message] = list(payload)
        if len(parts) > BATCH_SIZE:
            raise invalid(f"The batch request contains too many calls, at most {BATCH_SIZE}.", reason="badRequest")
        asked = [(str(part.get("Content-ID", "")), _inner(part, token)) for part in parts]
        g.parts = [f"{one.method} {one.path}" for _, one in asked]
        written = [_part(identifier, *self._judged(one)) for identifier, one in reversed(asked)]
        return b"".join(written) + f"--{_BOUNDARY}--\r\n".encode()

    def _judged(self, asked: _Asked) -> tuple[int, Json | None]:
        """Answer one part, with the faults that `simulator.serving` sees to for a whole request."""
        fault = self._get_world().take_fault("google", asked.method, asked.path, frozenset({"status"}))
        if fault:
            reason, text = _STATUSES.get(fault.status, ("backendError", "Internal error encountered."))
            return fault.status, GoogleError(fault.status, reason, text).body()
        status, body, _ = self.answer(asked)
        return status, body

    def _answered(self, asked: _Asked) -> Json | None:
        """Raises: GoogleError."""
        grant = self._verify_token(asked.token) if asked.token else None
        if grant is None:
            challenge = {"WWW-Authenticate": 'Bearer realm="https://accounts.google.com/", error="invalid_token"'}
            raise GoogleError(401, *_STATUSES[401], headers=challenge)
        g.actor = grant.person.email
        method, path = self.description.method(asked.method, asked.path)
        if not method.scopes & grant.scopes:
            raise GoogleError(403, "insufficientPermissions", "Request had insufficient authentication scopes.")
        query = self.description.checked_query(method, parse_qs(asked.query, keep_blank_values=True))
        body = self.description.checked_body(method, asked.body, asked.content_type)
        self._charge(grant.person, method.id, asked)
        call = Call(method.id, path, query, body, f"{asked.method} {asked.path}", grant.person)
        world = self._get_world()
        with world.lock:
            return self._gmail.answer(world, call)

    def _charge(self, person: Person, method: str, asked: _Asked) -> None:
        """Raises: GoogleError when the quota is used up, or a fault says so."""
        world = self._get_world()
        fault = world.take_fault("google", asked.method, asked.path, frozenset({*_TEXTS, "throttled"}))
        if fault and fault.kind == "throttled":
            headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
            raise GoogleError(429, *_STATUSES[429], domain="usageLimits", headers=headers)
        if fault:
            raise GoogleError(403, fault.kind, _TEXTS[fault.kind], domain="usageLimits")
        with world.lock:
            if not self._meter(person).spend(_UNITS.get(method, 5), world.now().timestamp()):
                raise GoogleError(403, "rateLimitExceeded", _TEXTS["rateLimitExceeded"], domain="usageLimits")

    def _meter(self, person: Person) -> _Meter:
        return self._meters.setdefault(self._get_world(), {}).setdefault(person.email, _Meter())


def _inner(part: Message, token: str) -> _Asked:
    """Read the request that a part holds; its own Authorization wins over the batch's. Raises: GoogleError."""
    payload = part.get_payload(decode=True)
    if part.get_content_type() != "application/http" or not isinstance(payload, bytes):
        raise invalid("Failed to parse batch request, error: a part is not application/http.", reason="badRequest")
    line, _, rest = payload.lstrip().partition(b"\n")
    words = line.decode("latin-1").split()
    if len(words) not in (2, 3):
        raise invalid("Failed to parse batch request, error: no request line.", reason="badRequest")
    inner = message_from_bytes(rest)
    path, _, query = words[1].partition("?")
    scheme, _, own = str(inner.get("Authorization", "")).partition(" ")
    content = inner.get_payload(decode=True)
    return _Asked(
        method=words[0].upper(),
        path=path,
        query=query,
        token=own.strip() if scheme.lower() == "bearer" else token,
        content_type=str(inner.get("Content-Type", "")),
        body=content.strip() if isinstance(content, bytes) else b"",
    )


def _part(identifier: str, status: int, body: Json | None) -> bytes:
    text = "" if body is None else json.dumps(body)
    named = f"Content-ID: <response-{identifier.strip('<>')}>\r\n" if identifier else ""
    return (
        f"--{_BOUNDARY}\r\nContent-Type: application/http\r\n{named}\r\n"
        f"HTTP/1.1 {status} {'OK' if status < 300 else 'Error'}\r\nContent-Type: {_JSON}\r\nVary: Origin\r\n"
        f"Content-Length: {len(text.encode())}\r\n\r\n{text}\r\n"
    ).encode()
