"""How calls to Google's APIs travel: described by Google's client library, sent by our gateway.

The library makes path, query and body of each call from the discovery document it ships; httplib2, by which it would send them,
takes a cut answer for a whole one and knows no size or deadline. Reads that belong together travel as one batch, whose parts are
judged alone. What the service is too busy for is asked again for a few seconds; then it is the caller's to wait.

Each call costs units of a quota per user and minute (gmail.md 3.5); a `Budget`, one per mailbox and process, keeps us below it,
and an answer 403 for going too fast is treated like 429. Tokens come from `get_token` for each request and are never kept.
"""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from email import message_from_bytes
from typing import Any, NoReturn

import httpx
from googleapiclient.discovery import build

from server.errors import AlreadyExists, Conflict, Forbidden, NeedsReauth, NotFound, RateLimited, Rejected, Transient, Unknown
from server.transport import Gateway, Reply, raise_for_busy

PEER = "Gmail"
ATTEMPTS = 4  # of one call while the service is busy
PATIENCE_S = 5.0  # how long one call waits in all because the service, or the budget, asked for a pause
MAX_JSON = 4 * 1024 * 1024  # bytes of an answer that is no message
MAX_BATCH = 16 * 1024 * 1024  # bytes of a batch's answers
BATCH_CALLS = 50  # Google allows 100 and advises against more than 50
A_DAY_IS_OVER_S = 3600.0  # when to ask again after the day's quota is used up; it is reset at midnight Pacific time

_UNITS = {
    "gmail.users.labels.list": 1,
    "gmail.users.labels.get": 1,
    "gmail.users.labels.create": 5,
    "gmail.users.labels.patch": 5,
    "gmail.users.messages.list": 5,
    "gmail.users.messages.modify": 5,
    "gmail.users.messages.get": 20,
}
_TOO_FAST = frozenset({"rateLimitExceeded", "userRateLimitExceeded"})
_DAY_IS_OVER = frozenset({"dailyLimitExceeded", "quotaExceeded"})
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


def describe(url: str) -> Any:
    """Return Google's client for the Gmail API at `url`, which builds calls and sends nothing. One serves a whole process."""

    def described(
        http: object, postproc: object, uri: str, method: str = "GET", body: str | None = None, methodId: str = "", **_: object
    ) -> Call:
        return Call(methodId, method, uri, body)

    # Without something as `http` the library would look for credentials on this machine.
    options = {"api_endpoint": url.rstrip("/")}
    return build("gmail", "v1", http=object(), static_discovery=True, requestBuilder=described, client_options=options)


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
                raise RateLimited(f"{PEER} is used too fast for this mailbox.", retry_after_s=wait)
            self._left, self._at = left, now
            return wait


class Calls:
    """Makes calls for one person. Thread-safe if `get_token` is.

    `url` is the API's address without a path, `service` what `describe` made of it. `in_flight` is entered for each
    request, e.g. a semaphore per mailbox.
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
        self._batch_url = url.rstrip("/") + "/batch/gmail/v1"
        self._get_token = get_token
        self._budget = budget if budget is not None else Budget()
        self._in_flight = in_flight if in_flight is not None else nullcontext()
        self._sleep = sleep

    def asked(self, *calls: Call, max_bytes: int = MAX_JSON) -> list[dict[str, Any]]:
        """Make calls that read and return their answers. Raises: what `object_of` raises for the first that was refused."""
        replies = self.exchange(calls, max_bytes=max_bytes)
        return [object_of(reply, call) for reply, call in zip(replies, calls, strict=True)]

    def written(self, call: Call) -> dict[str, Any]:
        """Make a call that changes something and return its answer. Raises: what `object_of` raises."""
        return object_of(self.exchange([call])[0], call)

    def exchange(self, calls: Sequence[Call], *, max_bytes: int = MAX_JSON) -> list[Reply]:
        """Make calls, those that the service is too busy for again after a short time; returns the last answer to each."""
        replies: dict[int, Reply] = {}
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            pending = [n for n in range(len(calls)) if n not in replies or _is_busy(replies[n], calls[n].changes)]
            for start in range(0, len(pending), BATCH_CALLS):
                numbers = pending[start : start + BATCH_CALLS]
                replies |= zip(numbers, self._sent([calls[n] for n in numbers], max_bytes), strict=True)
            pauses = [_pause(replies[n], attempt) for n in pending if _is_busy(replies[n], calls[n].changes)]
            if not pauses or attempt == ATTEMPTS or waited + max(pauses) > PATIENCE_S:
                break
            self._sleep(max(pauses))
            waited += max(pauses)
        return [replies[n] for n in range(len(calls))]

    def _sent(self, calls: Sequence[Call], max_bytes: int) -> list[Reply]:
        """Send one call as it is, several that read as a batch; the answer to a batch that failed is that to each part."""
        wait = self._budget.reserve(sum(_UNITS[call.name] for call in calls), PATIENCE_S)
        if wait:
            self._sleep(wait)
        headers = {"Authorization": f"Bearer {self._get_token()}"}
        if len(calls) == 1:
            (call,) = calls
            content = None if call.body is None else call.body.encode()
            headers |= {"Content-Type": "application/json"} if content is not None else {}
            with self._in_flight:
                reply = self._gateway.send(
                    call.method,
                    call.url,
                    headers=headers,
                    content=content,
                    max_bytes=max_bytes,
                    may_repeat=call.method == "GET",
                )
            return [reply]
        headers["Content-Type"] = f"multipart/mixed; boundary={_BOUNDARY}"
        with self._in_flight:
            reply = self._gateway.send(
                "POST",
                self._batch_url,
                headers=headers,
                content=_batch(calls),
                max_bytes=MAX_BATCH,
                is_write=False,
                may_repeat=True,
            )
        return _parts(reply, len(calls)) if reply.is_success else [reply] * len(calls)


def _batch(calls: Sequence[Call]) -> bytes:
    """Write calls that read as the parts of a batch; a part's Content-ID is its number."""
    parts = []
    for number, call in enumerate(calls):
        target = httpx.URL(call.url).raw_path.decode("ascii")
        parts.append(f"--{_BOUNDARY}\r\nContent-Type: application/http\r\nContent-ID: <{number}>\r\n\r\nGET {target}\r\n\r\n")
    return "".join([*parts, f"--{_BOUNDARY}--\r\n"]).encode("ascii")


def _parts(reply: Reply, count: int) -> list[Reply]:
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
    if found.keys() != set(range(count)):
        raise Transient(f"{PEER} did not answer in its own language.")
    return [found[number] for number in range(count)]


def _fields(head: bytes) -> Iterator[tuple[bytes, bytes]]:
    for line in head.split(b"\r\n")[1:]:
        name, colon, value = line.partition(b":")
        if colon:
            yield name.strip(), value.strip()


class Refusal(Exception):
    """Status and reason of Google's error, to be chained: `str()` holds no content."""


def _is_busy(reply: Reply, changes: bool) -> bool:
    if reply.status == 403:
        return _reason(reply) in _TOO_FAST
    return reply.status in (429, 503) or (not changes and reply.status in (500, 502, 504))


def _pause(reply: Reply, attempt: int) -> float:
    return reply.retry_after_s if reply.retry_after_s is not None else 0.25 * 2**attempt


def object_of(reply: Reply, call: Call) -> dict[str, Any]:
    """Return the JSON object that a call was answered with.

    Raises: Unknown after a write, else Transient, if it is none, e.g. a maintenance page; what `_refuse` raises.
    """
    if not reply.is_success:
        _refuse(reply, call)
    try:
        value = json.loads(reply.content)
    except ValueError as error:
        _not_google(call, error)
    if not isinstance(value, dict):
        _not_google(call, None)
    return value


def _not_google(call: Call, error: Exception | None) -> NoReturn:
    if call.changes:
        raise Unknown(f"{PEER} did not confirm; whether it acted is not known yet.") from error
    raise Transient(f"{PEER} did not answer in its own language.") from error


def _refuse(reply: Reply, call: Call) -> NoReturn:
    """Translate a status that is no success; the reasons are Google's own words (its page on resolving errors)."""
    raise_for_busy(reply, PEER, changes=call.changes)
    reason = _reason(reply)
    cause = Refusal(f"{reply.status} {reason}")
    if reply.status == 401:
        raise NeedsReauth(f"{PEER} no longer accepts the sign-in.") from cause
    if reply.status == 403 and reason in _TOO_FAST | _DAY_IS_OVER:
        pause = reply.retry_after_s if reason in _TOO_FAST else A_DAY_IS_OVER_S
        raise RateLimited(f"{PEER} asked for a pause.", retry_after_s=pause) from cause
    if reply.status == 403:
        raise Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden") from cause
    if reply.status == 400 and reason == "failedPrecondition":
        raise Rejected("The mailbox is not at Google.") from cause
    if reply.status == 404:
        raise NotFound("The mailbox holds no such message.") from cause
    if reply.status == 409 or (call.name.startswith("gmail.users.labels.") and "conflicts" in _text(reply)):
        raise AlreadyExists("It is there already.") from cause  # 400 was seen, too (gmail.md 3.1)
    if reply.status == 400 and call.name.endswith("modify"):
        raise Conflict("A label was deleted by somebody else.") from cause  # "Invalid label: Label_7"; the id was read just now
    raise Rejected(f"{PEER} refused the request ({reply.status} {reason}).") from cause


def _error(reply: Reply) -> dict[str, Any]:
    try:
        error = json.loads(reply.content)["error"]
    except (ValueError, KeyError, TypeError):
        return {}
    return error if isinstance(error, dict) else {}


def _reason(reply: Reply) -> str:
    errors = _error(reply).get("errors")
    first = errors[0] if isinstance(errors, list) and errors and isinstance(errors[0], dict) else {}
    return re.sub(r"[^A-Za-z0-9_.-]", "", str(first.get("reason", "")))[:60]


def _text(reply: Reply) -> str:
    return str(_error(reply).get("message", ""))
