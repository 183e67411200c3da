"""How calls to Google's APIs travel: described by Google's client library, sent by our gateway.

The library makes path, query and body of each call from the discovery document it ships; httplib2, by which it would send them,
takes a cut answer for a whole one and knows no size or deadline. Calls that belong together and may be made twice travel as one
batch, whose parts are judged alone. What the service is too busy for is asked again for a few seconds; then it is the caller's
to wait.

Each call to Gmail costs units of a quota per user and minute (gmail.md 3.5); a `Budget`, one per mailbox and process, keeps us
below it, and an answer 403 for going too fast is treated like 429. The numbers for contacts are not published: each call counts
the same. Tokens come from `get_token` for each request and are never kept.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, Literal, NoReturn, cast

import httpx
from googleapiclient.discovery import build

from server.errors import (
    AlreadyExists,
    Conflict,
    CursorExpired,
    Forbidden,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    Transient,
    Unknown,
)
from server.transport import Gateway, Reply, raise_for_busy

Api = Literal["gmail", "people"]
PEERS: dict[Api, str] = {"gmail": "Gmail", "people": "Google Contacts"}
ATTEMPTS = 4  # of one call while the service is busy
PATIENCE_S = 5.0  # how long one call waits in all because the service, or the budget, asked for a pause
MAX_JSON = 16 * 1024 * 1024  # bytes of an answer that is no message: a thousand contacts, or a batch
BATCH_CALLS = 50  # Google allows 100 and advises against more than 50
A_DAY_IS_OVER_S = 3600.0  # when to ask again after the day's quota is used up; it is reset at midnight Pacific time

_UNITS = {
    "gmail.users.getProfile": 1,
    "gmail.users.labels.list": 1,
    "gmail.users.labels.get": 1,
    "gmail.users.history.list": 2,
    "gmail.users.labels.create": 5,
    "gmail.users.labels.patch": 5,
    "gmail.users.messages.list": 5,
    "gmail.users.messages.modify": 5,
    "gmail.users.messages.get": 20,
    "gmail.users.stop": 50,
    "gmail.users.watch": 100,
}
_UNITS_OF_OTHERS = 5  # of a call to the People API, by a budget of its own
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded", "RATE_LIMIT_EXCEEDED"})
_DAY_IS_OVER = frozenset({"dailyLimitExceeded", "quotaExceeded"})
_NOT_GRANTED = frozenset({"insufficientPermissions", "ACCESS_TOKEN_SCOPE_INSUFFICIENT"})
_SCOPES: dict[Api, str] = {"gmail": "to read and change mail (gmail.modify)", "people": "to change contacts (contacts)"}
_BATCH_PATHS: dict[Api, str] = {"gmail": "/batch/gmail/v1", "people": "/batch"}  # the second as the discovery document says
_BOUNDARY = "ssi-sidebar-batch"


@dataclass(frozen=True, slots=True)
class Call:
    """One call as Google's client describes it."""

    name: str  # "gmail.users.messages.get"
    method: str
    url: str
    body: str | None

    @property
    def changes(self) -> bool:
        return self.method != "GET"

    @property
    def api(self) -> Api:
        return cast(Api, self.name.partition(".")[0])

    @property
    def peer(self) -> str:
        return PEERS[self.api]


def describe(url: str, api: Api = "gmail") -> Any:
    """Return Google's client for an API at `url`, which builds calls and sends nothing. One serves a whole process."""

    def described(
        http: object, postproc: object, uri: str, method: str = "GET", body: str | None = None, methodId: str = "", **_: object
    ) -> Call:
        return Call(methodId, method, uri, body)

    # Without something as `http` the library would look for credentials on this machine.
    options = {"api_endpoint": url.rstrip("/")}
    return build(api, "v1", http=object(), static_discovery=True, requestBuilder=described, client_options=options)


class Budget:
    """Quota units that one user's calls may cost: `per_second` in the long run, `burst` at once. Thread-safe.

    By the default less than 5,000 a minute of the 6,000 that Google allows, and slower than the rate at which one project was
    refused before the minute's quota was used up (gmail.md 3.5).
    """

    def __init__(self, *, per_second: float = 60, burst: float = 1200, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = per_second, burst, clock
        self._left, self._at = burst, clock()
        self._lock = threading.Lock()

    def reserve(self, units: int, patience_s: float) -> float:
        """Take the units and return how many seconds to wait before they are spent.

        Raises: RateLimited when that is longer than `patience_s`; nothing is taken then.
        """
        with self._lock:
            now = self._clock()
            left = min(self._burst, self._left + (now - self._at) * self._rate) - units
            wait = max(0.0, -left / self._rate)
            if wait > patience_s:
                raise RateLimited("Google is used too fast for this mailbox.", retry_after_s=wait)
            self._left, self._at = left, now
            return wait


class Calls:
    """Makes calls to one API for one person. Thread-safe if `get_token` is.

    `url` is the API's address without a path, `service` what `describe` made of it. `in_flight` is entered for each
    request, e.g. a semaphore per mailbox. Writes to contacts go one after another, as Google asks (description of
    people.updateContact).
    """

    def __init__(
        self,
        gateway: Gateway,
        *,
        url: str,
        service: Any,
        get_token: Callable[[], str],
        budget: Budget | None = None,
        in_flight: AbstractContextManager[object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.service = service
        self._gateway = gateway
        self._url = url.rstrip("/")
        self._get_token = get_token
        self._budget = budget if budget is not None else Budget()
        self._in_flight = in_flight if in_flight is not None else nullcontext()
        self._sleep = sleep
        self._writing = threading.Lock()

    def asked(self, *calls: Call, max_bytes: int = MAX_JSON) -> list[dict[str, Any]]:
        """Make calls that read and return their answers. Raises: what `object_of` raises for the first that was refused."""
        replies = self.exchange(calls, max_bytes=max_bytes)
        return [object_of(reply, call) for reply, call in zip(replies, calls, strict=True)]

    def written(self, call: Call) -> dict[str, Any]:
        """Make a call that changes something and return its answer. Raises: what `object_of` raises."""
        with self._writing if call.api == "people" else nullcontext():
            return object_of(self.exchange([call])[0], call)

    def exchange(self, calls: Sequence[Call], *, max_bytes: int = MAX_JSON) -> list[Reply]:
        """Make calls, those that the service is too busy for again after a short time; returns the last answer to each.

        Several are made as batches, perhaps twice: only what does no harm then.
        """
        replies: dict[int, Reply] = {}
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            pending = [n for n in range(len(calls)) if n not in replies or _is_busy(replies[n], calls[n])]
            for start in range(0, len(pending), BATCH_CALLS):
                numbers = pending[start : start + BATCH_CALLS]
                replies |= zip(numbers, self._sent([calls[n] for n in numbers], max_bytes), strict=True)
            pauses = [_pause(replies[n], attempt) for n in pending if _is_busy(replies[n], calls[n])]
            if not pauses or attempt == ATTEMPTS or waited + max(pauses) > PATIENCE_S:
                break
            self._sleep(max(pauses))
            waited += max(pauses)
        return [replies[n] for n in range(len(calls))]

    def _sent(self, calls: Sequence[Call], max_bytes: int) -> list[Reply]:
        """Send one call as it is, several as a batch; the answer to a batch that failed is that to each part."""
        wait = self._budget.reserve(sum(_units(call) for call in calls), PATIENCE_S)
        if wait:
            self._sleep(wait)
        headers = {"Authorization": f"Bearer {self._get_token()}"}
        try:
            with self._in_flight:
                replies = self._answered(calls, headers, max_bytes)
                _raise_if_refused(replies, calls[0].peer)
        except RateLimited as error:  # or nothing was sent, since the pause after an earlier answer is not over
            rest = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
            return [Reply(429, httpx.Headers(rest), b"", 0.0)] * len(calls)
        return replies

    def _answered(self, calls: Sequence[Call], headers: Mapping[str, str], max_bytes: int) -> list[Reply]:
        if len(calls) == 1:
            (call,) = calls
            content = None if call.body is None else call.body.encode()
            kind = {"Content-Type": "application/json"} if content is not None else {}
            reply = self._gateway.send(
                call.method,
                call.url,
                headers={**headers, **kind},
                content=content,
                max_bytes=max_bytes,
                may_repeat=call.method == "GET",
            )
            return [reply]
        reply = self._gateway.send(
            "POST",
            self._url + _BATCH_PATHS[calls[0].api],
            headers={**headers, "Content-Type": f"multipart/mixed; boundary={_BOUNDARY}"},
            content=_batch(calls),
            max_bytes=MAX_JSON,
            is_write=False,
            may_repeat=True,
        )
        return _parts(reply, calls) if reply.is_success else [reply] * len(calls)


def _units(call: Call) -> int:
    return _UNITS[call.name] if call.api == "gmail" else _UNITS_OF_OTHERS


def _batch(calls: Sequence[Call]) -> bytes:
    """Write calls as the parts of a batch; a part's Content-ID is its number."""
    parts = []
    for number, call in enumerate(calls):
        target = httpx.URL(call.url).raw_path.decode("ascii")
        content = (call.body or "").encode()
        kind = f"Content-Type: application/json\r\nContent-Length: {len(content)}\r\n" if content else ""
        head = f"--{_BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <{number}>\r\n\r\n"
        parts.append(f"{head}{call.method} {target}\r\n{kind}\r\n".encode("ascii") + content + b"\r\n")
    return b"".join([*parts, f"--{_BOUNDARY}--\r\n".encode("ascii")])


def _parts(reply: Reply, calls: Sequence[Call]) -> list[Reply]:
    """Read the answer to a batch, whose parts come in any order. Raises: Transient if it is none, or parts are missing."""
    content_type = reply.headers.get("content-type", "")
    whole = message_from_bytes(b"Content-Type: " + content_type.encode("latin-1", "replace") + b"\r\n\r\n" + reply.content)
    found: dict[int, Reply] = {}
    inner: Any = whole.get_payload() if whole.is_multipart() else []
    for part in inner:
        number = re.fullmatch(r"<?response-<?([0-9]{1,4})>*", str(part.get("Content-ID", "")).strip())
        payload = part.get_payload(decode=True)
        head, _, body = (payload if isinstance(payload, bytes) else b"").partition(b"\r\n\r\n")
        status = re.match(rb"HTTP/[0-9.]+ ([0-9]{3})", head)
        if number and status:
            found[int(number[1])] = Reply(int(status[1]), httpx.Headers(list(_fields(head))), body, reply.elapsed_ms)
    if found.keys() != set(range(len(calls))):
        raise Transient(f"{calls[0].peer} did not answer in its own language.")
    return [found[number] for number in range(len(calls))]


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.strip(), value.strip()


class Refusal(Exception):
    """Status and reason of Google's error, to be chained: `str()` holds no content.

    `contacts` are those for which many were refused: google.rpc.Code by index, or by resource name.
    """

    def __init__(self, told: str, contacts: Mapping[str, int]) -> None:
        super().__init__(told)
        self.contacts = contacts


def _raise_if_refused(replies: Sequence[Reply], peer: str) -> None:
    """Raises: RateLimited if the service asked for a pause and did nothing at all."""
    if all(_is_refusal(reply) for reply in replies):
        asked = [reply.retry_after_s for reply in replies]
        raise RateLimited(f"{peer} asked for a pause.", retry_after_s=max((s for s in asked if s is not None), default=None))


def _is_refusal(reply: Reply) -> bool:
    return reply.status == 429 or (reply.status == 403 and _reason(reply) in _TOO_FAST)


def _is_busy(reply: Reply, call: Call) -> bool:
    if reply.status == 403:
        return _is_refusal(reply)
    if reply.status == 409:  # contacts: somebody else writes to the same account at this moment
        return _reason(reply) == "ABORTED"
    return reply.status in (429, 503) or (not call.changes and reply.status in (500, 502, 504))


def _pause(reply: Reply, attempt: int) -> float:
    return reply.retry_after_s if reply.retry_after_s is not None else 0.25 * 2**attempt


def object_of(reply: Reply, call: Call) -> dict[str, Any]:
    """Return the JSON object that a call was answered with, {} for an answer that has none.

    Raises: Unknown after a write, else Transient, if it is none, e.g. a maintenance page; what `_refuse` raises.
    """
    if not reply.is_success:
        _refuse(reply, call)
    if reply.status == 204:
        return {}
    try:
        value = json.loads(reply.content)
    except ValueError as error:
        _not_google(call, error)
    if not isinstance(value, dict):
        _not_google(call, None)
    return value


def tried(reply: Reply, call: Call) -> None:
    """Judge a write that was made in vain, to learn whether it is allowed. Raises: what `object_of` raises of the account."""
    try:
        object_of(reply, call)
    except (Conflict, NotFound, Rejected):
        return
    except Unknown as error:
        raise Transient(f"{call.peer} reported a fault.") from error


def _not_google(call: Call, error: Exception | None) -> NoReturn:
    if call.changes:
        raise unconfirmed(call.peer) from error
    raise Transient(f"{call.peer} did not answer in its own language.") from error


def unconfirmed(peer: str) -> Unknown:
    return Unknown(f"{peer} did not confirm; whether it acted is not known yet.")


def _refuse(reply: Reply, call: Call) -> NoReturn:
    """Translate a status that is no success; the reasons are Google's own words (its page on resolving errors)."""
    raise_for_busy(reply, call.peer, changes=call.changes)
    reason = _reason(reply)
    cause = Refusal(f"{reply.status} {reason}", _contact_errors(reply))
    if reply.status == 401:
        raise NeedsReauth(f"{call.peer} no longer accepts the sign-in.") from cause
    if reply.status == 403:
        _refuse_permission(reply, call, reason, cause)
    if reply.status == 404:
        _refuse_missing(call, cause)
    if reply.status == 409 and reason == "ABORTED":
        raise Transient(f"{call.peer} is busy with another change.") from cause
    if reply.status == 409 or (call.name.startswith("gmail.users.labels.") and "conflicts" in _text(reply)):
        raise AlreadyExists("It is there already.") from cause  # 400 was seen, too (gmail.md 3.1)
    if call.name == "people.people.connections.list" and (reply.status == 410 or reason == "EXPIRED_SYNC_TOKEN"):
        raise CursorExpired(f"{call.peer} no longer knows what changed since then.") from cause  # 410: older pages of Google's
    if reply.status == 400:
        _refuse_request(call, reason, cause)
    raise Rejected(f"{call.peer} refused the request ({reply.status} {reason}).") from cause


def _refuse_permission(reply: Reply, call: Call, reason: str, cause: Refusal) -> NoReturn:
    if reason in _TOO_FAST | _DAY_IS_OVER:
        pause = reply.retry_after_s if reason in _TOO_FAST else A_DAY_IS_OVER_S
        raise RateLimited(f"{call.peer} asked for a pause.", retry_after_s=pause) from cause
    detail = f"{call.peer} does not allow this account to do that in the mailbox."
    if reason in _NOT_GRANTED:
        detail = f"{call.peer} was not given the permission {_SCOPES[call.api]}: sign in again and tick it."
    raise Forbidden(detail, code="mailbox_forbidden") from cause


def lacks_scope(error: Forbidden) -> bool:
    """Say whether what `object_of` raised means that the person has not granted a permission."""
    return str(error.__cause__).partition(" ")[2] in _NOT_GRANTED


def _refuse_missing(call: Call, cause: Refusal) -> NoReturn:
    if call.name == "gmail.users.history.list":
        raise CursorExpired(f"{call.peer} no longer knows what changed since then.") from cause  # its description: full sync
    raise NotFound(f"The mailbox holds no such {'message' if call.api == 'gmail' else 'contact or group'}.") from cause


def _refuse_request(call: Call, reason: str, cause: Refusal) -> NoReturn:
    """Translate a 400 that means more than that the request was wrong, each as its method's description says."""
    if call.name in ("people.people.updateContact", "people.people.batchUpdateContacts") and reason == "FAILED_PRECONDITION":
        raise Conflict("The contact was changed by somebody else.") from cause
    if call.name == "people.people.connections.list" and re.search("[?&](syncToken|pageToken)=", call.url):
        raise CursorExpired(f"{call.peer} no longer knows what changed since then.") from cause  # a token it cannot read
    if reason in ("failedPrecondition", "FAILED_PRECONDITION"):
        raise Rejected("The mailbox is not at Google.") from cause
    if call.name in ("gmail.users.messages.list", "gmail.users.history.list") and re.search("[?&]pageToken=", call.url):
        raise CursorExpired(f"{call.peer} no longer knows where the list goes on.") from cause
    if call.name == "gmail.users.messages.modify":
        raise Conflict("A label was deleted by somebody else.") from cause  # "Invalid label: Label_7"; the id was read just now
    raise Rejected(f"{call.peer} refused the request (400 {reason}).") from cause


def _error(reply: Reply) -> dict[str, Any]:
    try:
        error = json.loads(reply.content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _reason(reply: Reply) -> str:
    """Return the word for what is wrong: of the older shape's errors, else of an ErrorInfo, else the status."""
    error = _error(reply)
    told = [one for name in ("errors", "details") for one in _dicts(error.get(name)) if one.get("reason")]
    reason = told[0]["reason"] if told else error.get("status", "")
    return re.sub(r"[^A-Za-z0-9_.-]", "", str(reason))[:60]


def _dicts(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _contact_errors(reply: Reply) -> dict[str, int]:
    """Return whom BatchCreateContactsErrorDetails or BatchUpdateContactsErrorDetails name, e.g. {"17": 3}."""
    told = [one["contactErrors"] for one in _dicts(_error(reply).get("details")) if isinstance(one.get("contactErrors"), dict)]
    statuses = {str(key): status for errors in told for key, status in errors.items() if isinstance(status, dict)}
    return {key: code for key, status in statuses.items() if isinstance(code := status.get("code"), int)}


def _text(reply: Reply) -> str:
    return str(_error(reply).get("message", ""))
