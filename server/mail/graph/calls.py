"""How requests to Microsoft Graph travel: one by one, or up to 20 as a $batch whose parts are judged alone.

What the service is too busy for is asked again for a few seconds; then it is the caller's to wait. At most four requests may
run at once for a mailbox (outlook.md section 3, "Throttling"); as that holds for the whole process, the caller hands in what
counts them. (The service runs four parts of a batch at a time, so batches are sent one after another, and a part that met
other requests of ours is asked again like any that was throttled.) Every request asks for immutable ids. Tokens come from
`get_token` for each request and are never kept.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote

import httpx

from server.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from server.transport import Gateway, Reply, raise_for_busy

PEER = "Microsoft 365"
ATTEMPTS = 4  # of one request while the service is busy
PATIENCE_S = 5.0  # how long one request waits in all because the service asked for a pause
MAX_PAGES = 20  # of a list
MAX_JSON = 4 * 1024 * 1024  # bytes of an answer that is neither a message nor a page of changes
BATCH_PARTS = 20
TRIES = 3  # of read, merge and write, when others change the same thing

_ID = re.compile(r"[A-Za-z0-9_=+/-]{1,1024}\Z")
_LOST = 0  # the status of what came back broken or not at all

Key = TypeVar("Key", bound=Hashable)


class Refusal(Exception):
    """Status and code of Graph's error, to be chained: `str()` holds no content."""


class Elsewhere(Rejected):
    """The account has no mailbox at Microsoft 365, or no longer."""


@dataclass(frozen=True, slots=True)
class Call:
    """A request below Graph's address. `path` begins with "/" and holds the query."""

    method: str
    path: str
    body: Mapping[str, Any] | None = None
    if_match: str = ""
    page_size: int = 0  # 0: as the service likes
    changes: bool = False  # False also for a write that cannot change anything, see `GraphMailbox.check`


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a call, alone or as a part of a batch."""

    status: int
    headers: httpx.Headers
    content: bytes = b""
    part: Any = None  # the body of a part, which came as JSON
    error: Exception | None = None  # why it was lost

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def reply(self) -> Reply:
        return Reply(self.status, self.headers, self.content, 0.0)

    @property
    def value(self) -> dict[str, Any] | None:
        """The body if it is a JSON object, else None."""
        try:
            body = json.loads(self.content) if self.content else self.part
        except ValueError:
            return None
        return body if isinstance(body, dict) else None

    @property
    def code(self) -> str:
        """Graph's word for the error; "" if there is none."""
        error = (self.value or {}).get("error")
        return re.sub(r"[^A-Za-z0-9_.-]", "", str(error.get("code", "")))[:60] if isinstance(error, dict) else ""


def get(path: str, query: Mapping[str, str] | None = None, *, page_size: int = 0) -> Call:
    return Call("GET", path + _query(query or {}), page_size=page_size)


def write(method: str, path: str, body: Mapping[str, Any] | None = None, *, if_match: str = "") -> Call:
    return Call(method, path, body, if_match, changes=True)


def moment(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def segment(ref: str) -> str:
    """Return an id as a segment of a path. Raises: NotFound for what cannot be an id, so that it never becomes another path."""
    if not _ID.match(ref):
        raise NotFound("The mailbox holds no such item.")
    return quote(ref, safe="")


class Calls:
    """Makes calls for one person. Thread-safe if `get_token` is. `url` is Graph's address including the version."""

    def __init__(
        self,
        gateway: Gateway,
        *,
        url: str,
        get_token: Callable[[], str],
        in_flight: AbstractContextManager[object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._gateway = gateway
        self._root = url.rstrip("/")
        self._get_token = get_token
        self._in_flight = in_flight if in_flight is not None else nullcontext()
        self._sleep = sleep

    def asked(self, *calls: Call) -> list[dict[str, Any]]:
        """Make calls that read and return their answers. Raises: what `object_of` raises for the first that was refused."""
        return [object_of(answer, call) for answer, call in zip(self.exchange(calls), calls, strict=True)]

    def written(self, call: Call) -> dict[str, Any]:
        """Make a call that changes something and return its answer. Raises: what `object_of` raises."""
        return object_of(self.exchange([call])[0], call)

    def each(self, asked: Mapping[Key, Call], *, max_bytes: int = MAX_JSON) -> dict[Key, dict[str, Any] | SsiError]:
        """Make calls about one item each; return the answer or the error of each. Raises: what concerns the whole mailbox."""
        found: dict[Key, dict[str, Any] | SsiError] = {}
        answers = self.exchange(list(asked.values()), max_bytes=max_bytes)
        for (key, call), answer in zip(asked.items(), answers, strict=True):
            try:
                found[key] = object_of(answer, call)
            except (NeedsReauth, Forbidden, Elsewhere):
                raise
            except SsiError as error:
                found[key] = error
        return found

    def listed(self, call: Call) -> list[dict[str, Any]]:
        """Read a collection to its end."""
        return self.rest_of(self.asked(call)[0])

    def rest_of(self, page: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Return what is in a page of a collection and in all that follow."""
        items: list[dict[str, Any]] = []
        for _ in range(MAX_PAGES):
            items += page.get("value") or []
            following = page.get("@odata.nextLink")
            if following is None:
                break
            (page,) = self.asked(get(self.path_of(str(following))))
        return items

    def path_of(self, link: str) -> str:
        """Return the path of a link that Graph sent. Raises: Rejected if it leads elsewhere, where the token must not go."""
        if not link.startswith(self._root + "/"):
            raise Rejected(f"{PEER} sent a link to somewhere else.")
        return link.removeprefix(self._root)

    def pause(self, seconds: float) -> None:
        self._sleep(seconds)

    def exchange(self, calls: Sequence[Call], *, max_bytes: int = MAX_JSON, may_be_packed: bool = True) -> list[Answer]:
        """Make calls, those that the service is too busy for again after a short time; return the last answer to each.

        An answer to a write that was lost is one, too; see `object_of`.

        Raises: Transient when the service cannot be reached; Rejected when the answers are larger than `max_bytes`.
        """
        answers: dict[int, Answer] = {}
        waited = 0.0
        for attempt in range(1, ATTEMPTS + 1):
            pending = [n for n, call in enumerate(calls) if n not in answers or _is_busy(answers[n], call)]
            for start in range(0, len(pending), BATCH_PARTS):
                numbers = pending[start : start + BATCH_PARTS]
                sent = self._sent([calls[n] for n in numbers], max_bytes, may_be_packed)
                answers |= zip(numbers, sent, strict=True)
            pauses = [_pause(answers[n], attempt) for n in pending if _is_busy(answers[n], calls[n])]
            if not pauses or attempt == ATTEMPTS or waited + max(pauses) > PATIENCE_S:
                break
            self._sleep(max(pauses))
            waited += max(pauses)
        return [answers[n] for n in range(len(calls))]

    def _sent(self, calls: Sequence[Call], max_bytes: int, may_be_packed: bool) -> list[Answer]:
        """Send one call as it is, several as a batch; the answer to a batch that failed is that to each part."""
        changes = any(call.changes for call in calls)
        if len(calls) == 1:
            (call,) = calls
            method, path, body, headers = call.method, call.path, call.body, _headers(call)
        else:
            method, path, headers = "POST", "/$batch", {}
            body = {"requests": [_part(number, call) for number, call in enumerate(calls)]}
        headers["Authorization"] = f"Bearer {self._get_token()}"
        headers |= {} if may_be_packed else {"Accept-Encoding": "identity"}
        try:
            with self._in_flight:
                reply = self._gateway.send(
                    method,
                    self._root + path,
                    headers=headers,
                    json=body,
                    max_bytes=max_bytes,
                    is_write=changes,
                    may_repeat=not changes,
                )
                answer = Answer(reply.status, reply.headers, reply.content)
                is_packed = answer.is_success and len(calls) > 1
                answers = _parts(answer, len(calls)) if is_packed else [answer] * len(calls)
                _raise_if_refused(answers)
        except RateLimited as error:  # or nothing was sent, since the pause after an earlier answer is not over
            rest = {} if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
            return [Answer(429, httpx.Headers(rest))] * len(calls)
        except Unknown as error:
            return [Answer(_LOST, httpx.Headers(), error=error)] * len(calls)
        return answers


def _query(query: Mapping[str, str]) -> str:
    return "?" + "&".join(f"{name}={quote(value, safe='')}" for name, value in query.items()) if query else ""


def _headers(call: Call) -> dict[str, str]:
    pages = f", odata.maxpagesize={call.page_size}" if call.page_size else ""
    headers = {"Prefer": 'IdType="ImmutableId"' + pages}
    return headers | ({"If-Match": call.if_match} if call.if_match else {})


def _part(number: int, call: Call) -> dict[str, Any]:
    part: dict[str, Any] = {"id": str(number), "method": call.method, "url": call.path, "headers": _headers(call)}
    if call.body is not None:
        part["headers"]["Content-Type"] = "application/json"
        part["body"] = call.body
    return part


def _parts(answer: Answer, count: int) -> list[Answer]:
    """Read the answer to a batch, whose parts come in any order; a part that is missing is lost."""
    found: dict[str, Answer] = {}
    responses = (answer.value or {}).get("responses")
    for one in responses if isinstance(responses, list) else []:
        if isinstance(one, dict) and isinstance(one.get("status"), int):
            headers = {str(name): str(value) for name, value in (one.get("headers") or {}).items()}
            found[str(one.get("id"))] = Answer(one["status"], httpx.Headers(headers), part=one.get("body"))
    return [found.get(str(number), Answer(_LOST, httpx.Headers())) for number in range(count)]


def _raise_if_refused(answers: Sequence[Answer]) -> None:
    """Raises: RateLimited if the service asked for a pause and did nothing at all."""
    if all(answer.status == 429 for answer in answers):
        asked = [answer.reply.retry_after_s for answer in answers]
        raise RateLimited(f"{PEER} asked for a pause.", retry_after_s=max((s for s in asked if s is not None), default=None))


def _is_busy(answer: Answer, call: Call) -> bool:
    return answer.status in (429, 503) or (not call.changes and answer.status in (500, 502, 504))


def _pause(answer: Answer, attempt: int) -> float:
    asked = answer.reply.retry_after_s
    return asked if asked is not None else 0.25 * 2**attempt


def object_of(answer: Answer, call: Call) -> dict[str, Any]:
    """Return the JSON object that a call was answered with.

    Raises: Unknown after a write, else Transient, if it is none, e.g. a maintenance page; what `refuse` raises.
    """
    if answer.status != _LOST and not answer.is_success:
        refuse(answer, call)
    value = answer.value
    if answer.status == _LOST or value is None:
        not_graph(call, answer.error)
    return value


def done(answer: Answer, call: Call) -> None:
    """Take an answer that has no body. Raises: as `object_of`."""
    if answer.status != 204:
        object_of(answer, call)
        not_graph(call, None)


def not_graph(call: Call, error: Exception | None) -> NoReturn:
    if call.changes:
        raise Unknown(f"{PEER} did not confirm; whether it acted is not known yet.") from error
    raise Transient(f"{PEER} did not answer in its own language.") from error


def refuse(answer: Answer, call: Call) -> NoReturn:
    """Translate a status that is no success; the error codes are Graph's own words (its errors page)."""
    raise_for_busy(answer.reply, PEER, changes=call.changes)
    code = answer.code
    cause = Refusal(f"{answer.status} {code}")
    if answer.status == 401:
        raise NeedsReauth(f"{PEER} no longer accepts the sign-in.") from cause
    if answer.status == 403:
        raise Forbidden(f"{PEER} does not allow this account to do that in the mailbox.", code="mailbox_forbidden") from cause
    if code in ("MailboxNotEnabledForRESTAPI", "MailboxNotSupportedForRESTAPI"):
        raise Elsewhere(f"The mailbox is not at {PEER}.") from cause
    if answer.status in (404, 410) or code == "ErrorInvalidIdMalformed":
        raise NotFound("The mailbox holds no such item.") from cause
    if answer.status == 412 or code == "ErrorIrresolvableConflict":
        raise Conflict("The item was changed by somebody else.") from cause
    if answer.status == 409 or code == "ErrorFolderExists":  # which also comes with 400
        raise AlreadyExists("It is there already.") from cause
    raise Rejected(f"{PEER} refused the request ({answer.status} {code}).") from cause


def raise_if_none_went(outcome: Sequence[object]) -> None:
    """Raises: Transient if the service could answer about no item at all, which concerns the whole mailbox."""
    failed = [one for one in outcome if isinstance(one, Transient)]
    if failed and len(failed) == len(outcome):
        raise failed[0]
