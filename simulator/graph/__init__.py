"""The mail and contacts part of Microsoft Graph v1.0, over the World's mailboxes.

As strict as the service where a client could go wrong: etags and change keys, `categories` replaced as a whole, ids by
`Prefer: IdType`, unknown names refused, at most four requests at once for a mailbox, $batch of at most 20 with every part
judged alone, done and answered in any order, delta tokens that are opaque and expire. What is not simulated answers 501, loudly.

Faults of its own, beside those of `simulator.serving`: "throttled" (429 with Retry-After, also for a part of a batch),
"second_writer" (another client adds a category just before a PATCH or DELETE is applied), "sync_state_lost" (410 for a delta
token), "cut" (the connection ends in the middle of the answer), "missed" (a change is not notified), and the behaviours that
`graph.contacts` names. Sources: domain notes on Outlook, section 3; where the documentation is silent the comment says so.
"""

from __future__ import annotations

import base64
import json
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl

from flask import Flask, Response, g, request

from simulator.graph.calls import Answer, Call
from simulator.graph.contacts import ContactRequest
from simulator.graph.mail import MailRequest
from simulator.graph.resources import GraphError, Json, Library, stamp
from simulator.graph.subscriptions import Subscriptions
from simulator.serving import watch
from simulator.world import GetWorld, Person

CONCURRENT_REQUESTS = 4  # per mailbox (learn Q&A 1660054; the limits page says per app)
BATCH_SIZE = 20

VerifyToken = Callable[[str], Person | None]


def create_app(get_world: GetWorld, verify_token: VerifyToken, subscriptions: Subscriptions | None = None) -> Flask:
    """Return the service as a WSGI application at /v1.0; `verify_token` tells whose a bearer token is, None if it is not good.

    Whoever wants notifications to be sent gives the `subscriptions`, and has a `Courier` deliver or does it by hand.
    """
    app = Flask(__name__)
    watch(app, "graph", get_world)
    service = _Service(get_world, subscriptions if subscriptions is not None else Subscriptions())
    gate = _Gate()

    @app.route("/v1.0/", defaults={"path": ""}, methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    @app.route("/v1.0/<path:path>", methods=["GET", "POST", "PATCH", "PUT", "DELETE"])
    def _graph(path: str) -> Response:
        try:
            person = _caller(verify_token)
            g.actor = person.email
            gate.enter(person.email)
            g.entered = person.email
            return _response(service.answer(_call_of(person)))
        except GraphError as error:
            return _response(service.refusal(error))

    @app.after_request
    def _speak_json(response: Response) -> Response:
        """Give the faults that all vendors share the shape of a Graph error."""
        if response.status_code >= 400 and response.mimetype == "text/plain":
            error = GraphError(response.status_code, *_STATUS_CODES.get(response.status_code, ("UnknownError", "")))
            body = service.refusal(error).body
            response.set_data(json.dumps(body))
            response.content_type = "application/json"
        return response

    @app.after_request
    def _cut(response: Response) -> Response:
        if get_world().take_fault("graph", request.method, request.path, frozenset({"cut"})):
            whole = response.get_data()
            response.set_data(whole[: len(whole) // 2])
            response.headers["Content-Length"] = str(len(whole))
            response.headers["Connection"] = "close"
        return response

    @app.teardown_request
    def _leave(_: BaseException | None) -> None:
        if entered := g.pop("entered", None):
            gate.leave(entered)

    return app


_STATUS_CODES = {
    429: ("TooManyRequests", "Too many requests."),
    500: ("InternalServerError", "An internal error occurred."),
    502: ("BadGateway", "Bad gateway."),
    503: ("ServiceUnavailable", "The service is temporarily unavailable."),
    504: ("GatewayTimeout", "The gateway timed out."),
}


class _Gate:
    """Counts the requests that are running for each mailbox."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: Counter[str] = Counter()

    def enter(self, mailbox: str) -> None:
        """Raises: GraphError when the mailbox is busy."""
        with self._lock:
            if self._running[mailbox] >= CONCURRENT_REQUESTS:
                text = "Application is over its MailboxConcurrency limit."
                raise GraphError(429, "ApplicationThrottled", text, headers={"Retry-After": "1"})
            self._running[mailbox] += 1

    def leave(self, mailbox: str) -> None:
        with self._lock:
            self._running[mailbox] -= 1


def _caller(verify_token: VerifyToken) -> Person:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    person = verify_token(token.strip()) if scheme.lower() == "bearer" and token else None
    if person is None:
        text = "Lifetime validation failed, the token is expired." if token else "Access token is empty."
        challenge = 'Bearer realm="", client_id="00000003-0000-0000-c000-000000000000", error="invalid_token"'
        raise GraphError(401, "InvalidAuthenticationToken", text, headers={"WWW-Authenticate": challenge})
    return person


def _call_of(person: Person) -> Call:
    """Read Flask's request; the path is taken as it was sent, since an id may hold an encoded slash."""
    sent = str(request.environ.get("RAW_URI") or request.environ.get("REQUEST_URI") or request.path)
    before, _, path = sent.partition("?")[0].partition("/v1.0")
    return Call(
        method=request.method,
        path=path,
        query=request.args.to_dict(),
        headers={name.lower(): value for name, value in request.headers.items()},
        body=request.get_data(),
        person=person,
        base=f"{request.scheme}://{request.host}{before if before.startswith('/') else request.script_root}/v1.0",
    )


def _response(answer: Answer) -> Response:
    body = answer.body if isinstance(answer.body, bytes) else b"" if answer.body is None else json.dumps(answer.body).encode()
    response = Response(body, answer.status, content_type=answer.content_type if answer.body is not None else None)
    identifier = str(uuid.uuid4())
    response.headers["request-id"] = identifier
    response.headers["client-request-id"] = request.headers.get("client-request-id", identifier)
    response.headers.update(answer.headers)
    return response


class _Service:
    """Answers calls; every answer is made while the World is locked, so that a request sees one state."""

    def __init__(self, get_world: GetWorld, subscriptions: Subscriptions) -> None:
        self._get_world = get_world
        self._subscriptions = subscriptions
        self._library = Library()

    def answer(self, call: Call) -> Answer:
        """Raises: GraphError."""
        if call.segments == ("$batch",):
            return self._batch(call)
        world = self._get_world()
        if fault := world.take_fault("graph", call.method, f"/v1.0{call.path}", frozenset({"throttled"})):
            raise GraphError(
                429, "TooManyRequests", "Too many requests.", headers={"Retry-After": str(fault.retry_after_s or 10)}
            )
        if call.segments[0] == "subscriptions":
            return self._subscriptions.answer(world, call)
        kind = ContactRequest if call.collection in ("contacts", "contactFolders") else MailRequest
        with world.lock:
            return kind(world, self._library, call).answer()

    def refusal(self, error: GraphError) -> Answer:
        identifier = str(uuid.uuid4())
        inner = {"date": stamp(self._get_world().now())[:-1], "request-id": identifier, "client-request-id": identifier}
        return Answer(
            error.status, {"error": {"code": error.code, "message": str(error), "innerError": inner}}, headers=error.headers
        )

    def _batch(self, call: Call) -> Answer:
        """Answer each part for itself; the answers come back in another order (json-batching page)."""
        parts = call.json().get("requests")
        if call.method != "POST" or not isinstance(parts, list) or not parts or not all(isinstance(p, dict) for p in parts):
            raise GraphError(400, "BadRequest", "Invalid batch payload format.")
        if len(parts) > BATCH_SIZE:
            text = f"Number of batch request steps exceeds the maximum value of {BATCH_SIZE}."
            raise GraphError(400, "MaximumValueExceeded", text)
        ids = [part.get("id") for part in parts]
        if len(set(ids)) != len(ids) or not all(isinstance(i, str) and i for i in ids):
            raise GraphError(400, "BadRequest", "Invalid batch payload format: ids must be unique and not empty.")
        g.parts = [f"{part.get('method', '').upper()} {part.get('url', '')}" for part in parts]
        done: dict[str, Answer] = {}
        for part in _as_taken(parts):
            done[part["id"]] = self._part(call, part, done)
        return Answer(200, {"responses": [_part_json(i, answer) for i, answer in done.items()]})

    def _part(self, call: Call, part: Json, done: dict[str, Answer]) -> Answer:
        needs = part.get("dependsOn") or []
        try:
            if any(name not in done for name in needs):
                raise GraphError(400, "BadRequest", "dependsOn must name an earlier request of the batch.")
            if any(done[name].status >= 400 for name in needs):
                raise GraphError(424, "FailedDependency", "A request this one depends on has failed.")
            inner = _inner_call(call, part)
            fault = self._get_world().take_fault("graph", inner.method, f"/v1.0{inner.path}", frozenset({"status"}))
            if fault:
                headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
                raise GraphError(fault.status, *_STATUS_CODES.get(fault.status, ("UnknownError", "")), headers=headers)
            return self.answer(inner)
        except GraphError as error:
            return self.refusal(error)


def _as_taken(parts: list[Json]) -> list[Json]:
    """Return the parts in an order in which the service may act: some at a time, of which none waits for another.

    (Page throttling-limits, "Outlook service limits".) Those that depend on others, whose order counts, come behind them.
    """
    free = [part for part in parts if not part.get("dependsOn")]
    waves = (free[start : start + CONCURRENT_REQUESTS] for start in range(0, len(free), CONCURRENT_REQUESTS))
    return [part for wave in waves for part in reversed(wave)] + [part for part in parts if part.get("dependsOn")]


def _inner_call(call: Call, part: Json) -> Call:
    path, _, query = str(part.get("url", "")).partition("?")
    headers = {str(k).lower(): str(v) for k, v in (part.get("headers") or {}).items()}
    body = b"" if part.get("body") is None else json.dumps(part["body"]).encode()
    path = "/" + path.lstrip("/")
    if path == "/$batch":
        raise GraphError(400, "BadRequest", "A batch cannot hold a batch.")
    return replace(
        call, method=str(part.get("method", "")).upper(), path=path, query=dict(parse_qsl(query)), headers=headers, body=body
    )


def _part_json(identifier: str, answer: Answer) -> Json:
    body: Any = answer.body
    if isinstance(body, bytes):
        body = base64.b64encode(body).decode()
    headers = {**answer.headers, **({"Content-Type": answer.content_type} if body is not None else {})}
    return {"id": identifier, "status": answer.status, "headers": headers, **({} if body is None else {"body": body})}
