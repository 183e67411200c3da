"""The OData v2 protocol as SAP Cloud for Customer speaks it: reads, writes, $batch, CSRF, errors. No entity names.

One ODataClient per tenant and user; it keeps that user's CSRF token and cookies and nothing else. All users of a tenant share
one semaphore, because SAP asks for fewer than ten calls at a time over all interfaces (KBA 3577788). Reads are repeated when
C4C asks for a pause; writes never are, except where C4C says that it did not look at them (CSRF token, expired token).

The facts behind the code are in the domain page c4c-odata.md section 1; its source keys stand in brackets here.
"""

from __future__ import annotations

import base64
import json
import re
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import quote, urlsplit

import httpx

from server.c4c import multipart
from server.c4c.edm import UNASKABLE, Binary, Row, text
from server.errors import Conflict, Forbidden, NeedsReauth, NotFound, Rejected, SsiError, Transient, Unknown
from server.transport import Breaker, Gateway, Reply, raise_for_busy

PEER = "SAP Cloud for Customer"

_READ_RETRIES = 2
_PIECE = 3 * 65_536  # bytes of a file that are sent at a time; a multiple of three, as base64 wants
_SLOT_WAIT_S = 10.0
_BATCH_MEDIA_TYPE = "multipart/mixed"
_QUERY_SAFE = "'(),:/$@!~"  # left readable in a query; `+`, `&`, `#`, `%`, space and everything else is encoded
# C4C names the holder ("record locked by user ..."), in the user's language and with an empty error code [S10].
_LOCKED = re.compile(r"\blocked by\b|gesperrt|verrouill|bloquead|bloccat", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Result:
    """What came back for one Read or Write: rows, or the error that this one alone ran into."""

    rows: tuple[Row, ...] = ()
    next: str | None = None  # where the next page is, relative to the service root
    count: int | None = None  # of all rows of the list, if it was asked for
    error: SsiError | None = None

    def or_raise(self) -> Result:
        """Raises: the error, if this is one."""
        if self.error is not None:
            raise self.error
        return self


@dataclass(frozen=True, slots=True)
class Answers:
    """Results in the order they were asked for, and what they cost."""

    results: tuple[Result, ...]
    server_ms: float  # C4C's own measure where it gave one (c4c-odata-response-time), else the time until the answer was read
    requests: int


@dataclass(frozen=True, slots=True)
class Read:
    """One question. `key` asks for one entity, else it is a list; `texts` wants the ...CodeText properties too."""

    entity_set: str
    key: str | None = None
    filter: str = ""
    select: tuple[str, ...] = ()
    expand: tuple[str, ...] = ()
    orderby: str = ""
    top: int | None = None
    skip: int | None = None
    parameters: Mapping[str, str] = field(default_factory=dict)  # of a function import: name -> literal
    texts: bool = False
    count: bool = False  # of all rows, whatever `top` and `skip` say

    @property
    def target(self) -> str:
        """The URL relative to the service root, encoded."""
        options = {
            "$filter": self.filter,
            "$select": ",".join(self.select),
            "$expand": ",".join(self.expand),
            "$orderby": self.orderby,
            "$top": "" if self.top is None else str(self.top),
            "$skip": "" if not self.skip else str(self.skip),
            "$inlinecount": "allpages" if self.count else "",
            "$format": "json",  # the default is Atom [S1]
        }
        given = {**self.parameters, **options}
        query = [f"{name}={quote(value, safe=_QUERY_SAFE)}" for name, value in given.items() if value]
        return entity(self.entity_set, self.key) + "?" + "&".join(query)

    @property
    def headers(self) -> dict[str, str]:
        return _read_headers(texts=self.texts)


@dataclass(frozen=True, slots=True)
class Write:
    """One change. `if_match` is an etag as C4C wrote it; the body may hold Binary values."""

    method: Literal["POST", "PATCH", "DELETE"]
    target: str
    body: Mapping[str, Any] | None = None
    if_match: str | None = None


def entity(entity_set: str, key: str | None = None) -> str:
    """Return the path of a set, or of one entity by its ObjectID."""
    return entity_set if key is None else f"{entity_set}({quote(text(key), safe=_QUERY_SAFE)})"


def basic(user: str, password: str) -> Callable[[], Mapping[str, str]]:
    """Return an `authorize` for a user with a password. Needs CSRF tokens."""
    value = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode("ascii")
    return lambda: {"Authorization": value}


# --- the client -----------------------------------------------------------------------------------------------------------


class ODataClient:
    """Speaks to one tenant's service as one user. Thread-safe.

    `base_url` is the service root (".../sap/c4c/odata/v1/c4codataapi"). `authorize` gives the headers that prove who the user
    is and may raise; `renew` forgets what it gave, so that a token which C4C no longer takes is replaced once. `needs_csrf` is
    True for passwords, False for OAuth [S1]. `slots` is shared by all users of the tenant. `pool` runs `parallel` reads and
    belongs to the caller, whose threads keep their connections. `patience_s` bounds the pauses of one read.

    Every method may raise NeedsReauth, Forbidden and Transient; methods that write also Rejected and Unknown.
    """

    def __init__(
        self,
        gateway: Gateway,
        base_url: str,
        *,
        authorize: Callable[[], Mapping[str, str]],
        slots: threading.Semaphore,
        needs_csrf: bool,
        sleep: Callable[[float], None],
        renew: Callable[[], None] | None = None,
        breaker: Breaker | None = None,
        pool: Executor | None = None,
        patience_s: float = 3.0,
    ) -> None:
        self._gateway = gateway
        self._root = base_url.rstrip("/") + "/"
        self._authorize = authorize
        self._renew = renew
        self._slots = slots
        self._breaker = breaker or Breaker(PEER)
        self._sleep = sleep
        self._pool = pool
        self._patience_s = patience_s
        self._csrf = _CsrfSession() if needs_csrf else None

    def ask(self, read: Read) -> Result:
        """Return one page. Raises: NotFound for an unknown key, Rejected if C4C does not take the question."""
        return self._get(read)[0].or_raise()

    def rows(self, read: Read) -> Iterator[Row]:
        """Yield all pages' rows. Raises: as `ask`, at any page."""
        result = self.ask(read)
        yield from result.rows
        while result.next is not None:
            reply = self._send("GET", result.next, headers=read.headers, changes=False)
            result = self._result(reply, changes=False).or_raise()
            yield from result.rows

    def batch(self, reads: Sequence[Read]) -> Answers:
        """Ask everything in one request; each question succeeds or fails for itself.

        Raises: Transient also when the reply cannot be read or does not hold one part for each question.
        """
        parts = self._batch([multipart.Request("GET", read.target, read.headers) for read in reads], changes=False)
        results = tuple(
            self._result(_reply(part), changes=False) if isinstance(part, multipart.Part) else _unreadable(changes=False)
            for part in parts.replies
        )
        return Answers(results, parts.server_ms, 1)

    def parallel(self, reads: Sequence[Read]) -> Answers:
        """Ask everything at the same time, each in its own GET; never raises for one question alone."""
        if self._pool is None:
            raise ValueError("parallel reads need a pool")
        got = list(self._pool.map(self._get, reads))
        return Answers(tuple(result for result, _ in got), max((ms for _, ms in got), default=0.0), len(got))

    def create(self, entity_set: str, body: Mapping[str, Any], *, wants_row: bool = True) -> Row:
        """Create an entity with its children in one call; return C4C's row, without the children [S1].

        With `wants_row` False C4C is asked not to echo the entity, and {} is returned.
        """
        headers = {} if wants_row else {"odata-no-response-payload": "true"}
        reply = self._write(Write("POST", entity(entity_set), body), headers)
        if not wants_row and reply.status in (201, 204):
            return {}
        rows = self._result(reply, changes=True).or_raise().rows
        if len(rows) != 1:
            raise Unknown(f"{PEER} did not say what it created.")
        return rows[0]

    def change(self, write: Write) -> None:
        """Perform one PATCH or DELETE; 200 and 204 are both success [S1, S20], but not a page that somebody else sent.

        Raises: Conflict if `if_match` no longer holds; NotFound; Unknown.
        """
        reply = self._write(write, {})
        if reply.status != 200 or reply.content:
            self._result(reply, changes=True).or_raise()

    def changeset(self, writes: Sequence[Write]) -> list[Result]:
        """Perform all writes or none.

        Raises: what the refused write ran into; Unknown if the reply cannot be read.
        """
        requests = [multipart.Request(write.method, write.target, _write_headers(write), _bytes(write)) for write in writes]
        (reply,) = self._batch([requests], changes=True).replies
        if isinstance(reply, multipart.Part):  # one plain reply in place of the changeset: it was refused whole [S14]
            raise _error(_reply(reply), changes=True) or Unknown(f"{PEER} gave an answer that is not a change's.")
        if len(reply) != len(writes):
            raise (_error(_reply(reply[0]), changes=True) if reply else None) or _unconfirmed()
        results = [self._result(_reply(part), changes=True) for part in reply]
        for result in results:
            result.or_raise()
        return results

    # --- one request ---

    def _get(self, read: Read) -> tuple[Result, float]:
        try:
            reply = self._send("GET", read.target, headers=read.headers, changes=False)
        except SsiError as error:
            return Result(error=error), 0.0
        return self._result(reply, changes=False), _server_ms(reply)

    def _write(self, write: Write, headers: Mapping[str, str]) -> Reply:
        content = None if write.body is None else _Body(write.body)
        length = {} if content is None else {"Content-Length": str(len(content))}
        return self._send(
            write.method, write.target, headers={**_write_headers(write), **headers, **length}, content=content, changes=True
        )

    def _batch(self, requests: Sequence[multipart.Request | multipart.Changeset], *, changes: bool) -> _BatchReply:
        boundary = "batch-" + uuid.uuid4().hex
        headers = {
            "Content-Type": f"{_BATCH_MEDIA_TYPE}; boundary={boundary}",
            "Accept": _BATCH_MEDIA_TYPE,
            "odata-v2-strict-json-format": "true",
        }
        content = multipart.written(requests, boundary)
        reply = self._send("POST", "$batch", headers=headers, content=content, changes=changes)
        error = _error(reply, changes=changes)
        if error is not None:
            raise error
        try:
            replies = multipart.read(reply.headers.get("content-type", ""), reply.content)
        except multipart.UnreadableBatch as unreadable:
            raise _unreadable_error(changes=changes) from unreadable
        if len(replies) != len(requests):
            raise _unreadable_error(changes=changes)
        return _BatchReply(replies, _server_ms(reply))

    def _send(
        self, method: str, target: str, *, headers: Mapping[str, str], content: bytes | _Body | None = None, changes: bool
    ) -> Reply:
        """Send, with a fresh access token or CSRF token once if C4C asks for it, and pauses for reads. Status is not judged."""
        renewed = refetched = False
        paused_s, retries = 0.0, 0
        while True:
            session = self._session_headers() if method != "GET" else {}
            reply = self._once(method, self._root + target, {**headers, **session}, content, changes=changes)
            if reply.status == 401 and self._renew is not None and not renewed:
                self._renew()
                renewed = True
            elif self._csrf is not None and _wants_csrf_token(reply) and not refetched:
                self._csrf.forget(session)
                refetched = True
            elif reply.status in (429, 503) and not changes and retries < _READ_RETRIES:
                pause_s = 0.25 * 2**retries if reply.retry_after_s is None else reply.retry_after_s
                if paused_s + pause_s > self._patience_s:
                    return reply
                self._sleep(pause_s)
                paused_s, retries = paused_s + pause_s, retries + 1
            else:
                return reply

    def _once(self, method: str, url: str, headers: Mapping[str, str], content: bytes | _Body | None, *, changes: bool) -> Reply:
        proven = {**headers, **self._authorize()}  # which may wait for a token: not in a slot, which others want
        if self._csrf is not None:
            proven.update(self._csrf.cookie_header())
        if not self._slots.acquire(timeout=_SLOT_WAIT_S):
            raise Transient(f"Too many calls to {PEER} are under way.", retry_after_s=1.0)
        try:
            with self._breaker.calling(self._gateway.timeout_s):
                reply = self._gateway.send(method, url, headers=proven, content=content, is_write=changes, may_repeat=not changes)
        finally:
            self._slots.release()
        if self._csrf is not None:
            self._csrf.keep_cookies(reply.headers)
        return reply

    def _session_headers(self) -> dict[str, str]:
        """Return the CSRF header, fetching the token on the service root if there is none: elsewhere it can answer 500 [S17]."""
        if self._csrf is None:
            return {}
        with self._csrf.fetching:
            token = self._csrf.token
            if token is None:
                headers = {"x-csrf-token": "fetch", "Accept": "application/json"}
                reply = self._once("GET", self._root, headers, None, changes=False)
                error = _error(reply, changes=False)
                if error is not None:
                    raise error
                token = reply.headers.get("x-csrf-token")
                if not token:
                    raise Transient(f"{PEER} gave no CSRF token.")
                self._csrf.token = token
        return {"x-csrf-token": token}

    def _result(self, reply: Reply, *, changes: bool) -> Result:
        error = _error(reply, changes=changes)
        if error is not None:
            return Result(error=error)
        if changes and reply.status == 204:
            return Result()
        try:
            data = json.loads(reply.content)["d"]
        except (ValueError, KeyError, TypeError, RecursionError):
            return _unreadable(changes=changes)
        if not isinstance(data, dict | list):
            return _unreadable(changes=changes)
        found = data.get("results", data) if isinstance(data, dict) else data
        rows = found if isinstance(found, list) else [found]
        if not all(isinstance(row, dict) for row in rows):
            return _unreadable(changes=changes)
        following, counted = (data.get("__next"), data.get("__count")) if isinstance(data, dict) else (None, None)
        count = int(counted) if isinstance(counted, str) and counted.isdecimal() else None  # a text [S1]
        if not isinstance(following, str):
            return Result(tuple(rows), count=count)
        target = self._relative(following)
        return Result(tuple(rows), target, count) if target is not None else _unreadable(changes=changes)

    def _relative(self, url: str) -> str | None:
        """Return a next link relative to the service root, None if it leads out of it; its host does not count."""
        parts = urlsplit(url)
        root = urlsplit(self._root).path
        path = parts.path if not parts.path.startswith(root) else parts.path[len(root) :]
        if path.startswith(("/", "..")) or not parts.query:
            return None
        return f"{path}?{quote(parts.query, safe=_QUERY_SAFE + '%&=+;*?')}"


@dataclass(frozen=True, slots=True)
class _BatchReply:
    replies: list[multipart.Part | list[multipart.Part]]
    server_ms: float


class _CsrfSession:
    """A CSRF token and all cookies that came with it: C4C compares them, and the cookie's name varies [S8, S9]."""

    def __init__(self) -> None:
        self.fetching = threading.Lock()
        self.token: str | None = None
        self._cookies: dict[str, str] = {}
        self._lock = threading.Lock()

    def forget(self, session: Mapping[str, str]) -> None:
        """Drop the token that was refused, unless another thread has replaced it already."""
        with self.fetching:
            if self.token == session.get("x-csrf-token"):
                self.token = None

    def cookie_header(self) -> dict[str, str]:
        with self._lock:
            return {"Cookie": "; ".join(f"{n}={v}" for n, v in self._cookies.items())} if self._cookies else {}

    def keep_cookies(self, headers: httpx.Headers) -> None:
        for line in headers.get_list("set-cookie"):
            pair, _, attributes = line.partition(";")
            name, equals_sign, value = pair.partition("=")
            if not equals_sign:
                continue
            with self._lock:
                if re.search(r"max-age\s*=\s*(0|-)", attributes, re.IGNORECASE):
                    self._cookies.pop(name.strip(), None)
                else:
                    self._cookies[name.strip()] = value.strip()


# --- replies --------------------------------------------------------------------------------------------------------------


def _read_headers(*, texts: bool) -> dict[str, str]:
    # Strict format makes single entities and expanded lists standard V2 JSON [S6]; both shapes are read all the same.
    headers = {"Accept": "application/json", "odata-v2-strict-json-format": "true"}
    return headers if texts else {**headers, "odata-no-codedescs": "true"}


def _write_headers(write: Write) -> dict[str, str]:
    headers = _read_headers(texts=False)
    if write.body is not None:
        headers["Content-Type"] = "application/json"
    return {**headers, "If-Match": write.if_match} if write.if_match else headers


class _Body:
    """A body as JSON, in pieces and as often as it is asked for: a request may have to be sent again."""

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._values: list[Binary] = []
        mark = uuid.uuid4().hex

        def later(value: object) -> str:
            if not isinstance(value, Binary):
                raise TypeError(f"{type(value).__name__} has no JSON")
            self._values.append(value)
            return mark

        text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), default=later)
        self._texts = [piece.encode() for piece in text.split(mark)]

    def __len__(self) -> int:
        return sum(map(len, self._texts)) + sum(4 * -(-len(value.content) // 3) for value in self._values)

    def __iter__(self) -> Iterator[bytes]:
        yield self._texts[0]
        for value, following in zip(self._values, self._texts[1:], strict=True):
            for start in range(0, len(value.content), _PIECE):
                yield base64.b64encode(value.content[start : start + _PIECE])
            yield following


def _bytes(write: Write) -> bytes | None:
    return None if write.body is None else b"".join(_Body(write.body))


def _reply(part: multipart.Part) -> Reply:
    return Reply(part.status, httpx.Headers(dict(part.headers)), part.body, 0.0)


def _server_ms(reply: Reply) -> float:
    """Read `c4c-odata-response-time: 2061 ms` [S1]."""
    found = re.match(r"\s*([\d.]+)", reply.headers.get("c4c-odata-response-time", ""))
    return float(found[1]) if found else reply.elapsed_ms


def _wants_csrf_token(reply: Reply) -> bool:
    if reply.status != 403:
        return False
    return reply.headers.get("x-csrf-token", "").lower() == "required" or b"CSRF token" in reply.content[:2000]


def _unreadable_error(*, changes: bool) -> SsiError:
    return _unconfirmed() if changes else Transient(f"{PEER} gave an answer that cannot be read.")


def _unconfirmed() -> Unknown:
    return Unknown(f"{PEER} did not confirm the change in a way that can be read.")


def _unreadable(*, changes: bool) -> Result:
    return Result(error=_unreadable_error(changes=changes))


def _error(reply: Reply, *, changes: bool) -> SsiError | None:
    """Translate a status into the error tree; None for success."""
    status = reply.status
    if reply.is_success:
        return None
    said = _said(reply)
    if status == 401:
        return NeedsReauth(f"{PEER} no longer accepts this sign-in.")
    if status == 403:
        sentence = said or f"{PEER} does not allow this."
        return Rejected(sentence) if changes else Forbidden(sentence, code="c4c_forbidden")
    if _LOCKED.search(said):
        return Transient(f"Somebody else is changing the record in {PEER}.", retry_after_s=2.0, code="locked")
    if status == 404:
        return NotFound(f"{PEER} does not have this record.")
    if status in (409, 412):
        return Conflict(f"The record was changed in {PEER} in the meantime.")
    try:
        raise_for_busy(reply, PEER, changes=changes)
    except (Transient, Unknown) as error:
        return error
    if 400 <= status < 500:
        return Rejected(said or f"{PEER} refused the request.")
    return _unreadable_error(changes=changes)


def _said(reply: Reply) -> str:
    """Return C4C's own sentence from an error body, one line of at most 300 characters; '' if there is none, or only HTML."""
    try:
        value = json.loads(reply.content)["error"]["message"]["value"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
    line = " ".join(UNASKABLE.sub(" ", value).split()) if isinstance(value, str) else ""
    return line if len(line) <= 300 else line[:299] + "…"
