"""Everything that leaves the process: one gateway that builds HTTP clients and turns what can go wrong into the error tree.

What decides "retry or look first" is whether the peer may have acted. A failure before the request was written is Transient;
after that a read is still Transient, but a write is Unknown. A 2xx that is cut anywhere raises in httpx (h11 checks the
framing at each byte; requests and urllib3 do not, domain page toolchain.md section 3), so only this gateway writes. An answer
whose end only the end of the connection shows is not taken, since nobody could tell that it was cut; neither is one that was
packed and does not unpack to its end.

What an answer costs is bounded. Each wait gets what is left of the call's deadline, so that a peer which sends a byte now and
then cannot prolong it. No more is kept than the caller asked for, of a packed answer no more is unpacked, and what says that it
is larger is not read at all.

One httpx.Client per thread (a shared pool is the bottleneck, toolchain.md section 7) with one shared SSLContext; cookies are
never kept by the client, so that users of one thread cannot meet. Redirects are not followed: no vendor API needs one.
"""

from __future__ import annotations

import io
import math
import ssl
import threading
import time
import urllib.request
import weakref
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import Cookie, DefaultCookiePolicy
from pathlib import Path
from typing import Any, NoReturn

import httpcore
import httpx

from server.errors import RateLimited, Rejected, Transient, Unknown

LONGEST_PAUSE_S = 3600.0  # that a peer can have us wait; what asks for more is asked again by then
MAX_BYTES = 8 * 1024 * 1024  # of an answer: more than any page of JSON that is asked for
BREAKS_AFTER = 5  # calls in a row that waited in vain for one peer
REST_S = 30.0  # in which nobody calls it then

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_asks: ContextVar[Callable[[], None] | None] = ContextVar("asks", default=None)
_PIECE = 64 * 1024  # bytes sent at a time
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


@contextmanager
def asking_first(ask: Callable[[], None]) -> Iterator[None]:
    """Have `ask` called before every request of this context that changes something; what it raises keeps it from being sent."""
    token = _asks.set(ask)
    try:
        yield
    finally:
        _asks.reset(token)


def unasked() -> None:
    """Ask nobody: within `asking_first`, for what has to be undone."""


def ask_first() -> None:
    """Call it before a request that changes something is sent past the Gateway. Raises: as whoever is asked."""
    if (ask := _asks.get()) is not None:
        ask()


class Breaker:
    """Keeps callers from waiting for a peer that answers nobody, since others want their threads. Thread-safe.

    One for each peer and process. After BREAKS_AFTER calls in a row that waited in vain nobody calls for REST_S; then one call
    finds out, and the others stay away until it was answered. What fails at once costs nobody's time and counts for nothing.
    """

    def __init__(self, peer: str, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._peer, self._clock = peer, clock
        self._lock = threading.Lock()
        self._in_vain = 0  # calls since the last answer
        self._closed_until = 0.0

    @contextmanager
    def calling(self, deadline_s: float, *, connect_s: float = math.inf) -> Iterator[None]:
        """Hold it around a call, which may take `connect_s` to connect. It waited in vain if it failed after half of either.

        Raises: Transient, if nobody calls now.
        """
        started = self._clock()
        self._begin(started, deadline_s)
        was_answered = False
        try:
            yield
            was_answered = True
        finally:
            self._end(was_answered, self._clock() - started >= min(deadline_s, connect_s) / 2)

    def _begin(self, now: float, deadline_s: float) -> None:
        with self._lock:
            if self._in_vain < BREAKS_AFTER:
                return
            if now < self._closed_until:
                left = self._closed_until - now
                raise Transient(f"{self._peer} does not answer right now.", retry_after_s=min(left, REST_S))
            self._closed_until = now + deadline_s  # for all but this one, which finds out

    def _end(self, was_answered: bool, was_slow: bool) -> None:
        with self._lock:
            if was_answered:
                self._in_vain = 0
            elif was_slow:
                self._in_vain += 1
                self._closed_until = self._clock() + REST_S
            elif self._in_vain >= BREAKS_AFTER:
                self._closed_until = self._clock()  # this one found out nothing: let the next try


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer, body read."""

    status: int
    headers: httpx.Headers
    content: bytes
    elapsed_ms: float  # from the first byte sent to the last byte read

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300

    @property
    def retry_after_s(self) -> float | None:
        """Seconds of the Retry-After header, given as a number or a date; None if absent or unreadable."""
        return retry_after_s(self.headers.get("retry-after"), self.headers.get("date"))


def retry_after_s(value: str | None, date: str | None = None) -> float | None:
    """Read a Retry-After value; a date counts from the peer's own Date header, so that clock skew does not matter."""
    if not value:
        return None
    try:
        seconds = float(value)
        return min(max(0.0, seconds), LONGEST_PAUSE_S) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
        start = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return min(max(0.0, (until - start).total_seconds()), LONGEST_PAUSE_S) if start else None


class Gateway:
    """Sends requests to one kind of peer. Thread-safe.

    `peer` names it in errors for people ("SAP Cloud for Customer"); `timeout_s` is the deadline of a whole call, connecting
    and reading the body included. Without `keeps_alive` each call has a connection of its own: for what is asked rarely and may
    not be asked twice, since a connection that was kept may break just when it is used again.
    """

    def __init__(
        self,
        peer: str,
        *,
        timeout_s: float,
        ssl_context: ssl.SSLContext,
        proxy_url: str | None = None,
        keeps_alive: bool = True,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer = peer
        self.timeout_s = timeout_s
        self._kept = 20 if keeps_alive else 0
        self._ssl = ssl_context
        self._proxy = proxy_url
        self._clock = clock
        self._local = threading.local()
        self._call = _Call()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | Iterable[bytes] | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
        max_bytes: int = MAX_BYTES,
        timeout_s: float | None = None,
        is_write: bool | None = None,
        may_repeat: bool = False,
    ) -> Reply:
        """Send one request and read the whole answer, whatever its status.

        `content` in pieces needs its Content-Length among the headers, and must give the same pieces again if it is asked again.
        `is_write` says whether the peer changes something (default: by method; a POST that only asks sets False). With
        `may_repeat` the request is sent once more if its connection breaks, as one that was kept alive may.
        The answer may come packed unless the headers say `Accept-Encoding: identity`, which bounds the memory to what comes in.

        Raises: Transient when nothing was sent or a read failed; Unknown when a write failed after it was sent, or its answer is
        larger than `max_bytes`; Rejected when a read's is.
        """
        changes = method.upper() not in _SAFE if is_write is None else is_write
        if changes:
            ask_first()
        limit = timeout_s or self.timeout_s
        started = self._clock()
        self._call.until = started + limit
        request = self._client.build_request(
            method, url, headers=headers, params=params, content=content, data=data, json=json, timeout=httpx.Timeout(limit)
        )
        try:
            try:
                response, body = self._answer(request, max_bytes)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not may_repeat:
                    raise
                response, body = self._answer(request, max_bytes)
        except _NOT_SENT as error:
            raise Transient(f"{self.peer} cannot be reached.") from error
        except _TooLarge as error:
            if changes:
                self._failed(changes, error)
            raise Rejected(f"{self.peer} sent an answer that is too large.") from error
        except (httpx.TransportError, httpx.DecodingError) as error:
            self._failed(changes, error)
        return Reply(response.status_code, response.headers, body, (self._clock() - started) * 1000)

    def _answer(self, request: httpx.Request, max_bytes: int) -> tuple[httpx.Response, bytes]:
        response = self._client.send(request, stream=True)
        try:
            if not _shows_its_end(response):
                raise httpx.RemoteProtocolError("a body without a length", request=request)
            return response, _read(response, max_bytes)
        finally:
            response.close()

    def _failed(self, changes: bool, error: Exception) -> NoReturn:
        if changes:
            raise Unknown(f"{self.peer} did not confirm; whether it acted is not known yet.") from error
        raise Transient(f"{self.peer} did not answer in time.") from error

    @property
    def _client(self) -> httpx.Client:
        client: httpx.Client | None = getattr(self._local, "client", None)
        if client is None:
            pool = httpx.HTTPTransport(
                verify=self._ssl,
                proxy=self._proxy,
                trust_env=False,
                limits=httpx.Limits(max_connections=20, max_keepalive_connections=self._kept, keepalive_expiry=20),
            )
            # httpx has no other place for it, and its own timeouts begin anew with each byte.
            # It gets no hold of `self`: the pool must not keep its client alive.
            pool._pool._network_backend = _TimedNetwork(pool._pool._network_backend, self._call, self._clock)
            headers = {"User-Agent": "ssi-sidebar", "Accept-Encoding": "gzip"}
            client = httpx.Client(transport=pool, trust_env=False, follow_redirects=False, headers=headers)
            weakref.finalize(client, pool.close)  # with the thread whose client it was
            # Cookies belong to a person's session with C4C and are sent by hand; a jar here would mix people.
            client.cookies.jar.set_policy(_NoCookies())
            self._local.client = client
        return client


def _shows_its_end(response: httpx.Response) -> bool:
    """Say whether a cut body would be noticed; one that just ends with the connection may have been cut anywhere."""
    framed = {"content-length", "transfer-encoding"} & response.headers.keys()
    return bool(framed) or response.status_code in (204, 304) or response.request.method == "HEAD"


class _TooLarge(Exception):
    """The answer is larger than the caller wants."""


def _read(response: httpx.Response, max_bytes: int) -> bytes:
    """Return the body, unpacked. Raises: _TooLarge; httpx.DecodingError if it cannot be unpacked, or not to its end."""
    size = response.headers.get("content-length", "0")
    if response.request.method != "HEAD" and size.isdecimal() and int(size) > max_bytes:
        raise _TooLarge(f"{size} bytes are more than {max_bytes}")
    unpacker = _unpacker(response)
    body = io.BytesIO()
    for chunk in response.iter_raw():
        body.write(_unpacked(unpacker, chunk, max_bytes + 1 - body.tell()) if unpacker else chunk)
        if body.tell() > max_bytes:
            raise _TooLarge(f"more than {max_bytes} bytes")
    if unpacker and response.num_bytes_downloaded and not unpacker.eof:
        raise httpx.DecodingError("the packed answer was cut", request=response.request)
    return body.getvalue()


def _unpacker(response: httpx.Response) -> Any:
    """Return what unpacks the body, None if it is not packed. Raises: httpx.DecodingError if it is not packed as we asked."""
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if encoding in ("", "identity"):
        return None
    if encoding not in ("gzip", "x-gzip") or "gzip" not in response.request.headers.get("accept-encoding", ""):
        raise httpx.DecodingError("an encoding that was not asked for", request=response.request)
    return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)  # 16: with gzip's header


def _unpacked(unpacker: Any, chunk: bytes, at_most: int) -> bytes:
    """Raises: httpx.DecodingError."""
    try:
        unpacked: bytes = unpacker.decompress(chunk, at_most)
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from error
    if unpacker.unused_data:
        raise httpx.DecodingError("something follows the packed answer")
    return unpacked


class _Call(threading.local):
    """The call that a thread makes."""

    until = 0.0  # by the Gateway's clock


class _TimedNetwork(httpcore.NetworkBackend):
    """The network, where each wait ends with the call that it belongs to."""

    def __init__(self, network: httpcore.NetworkBackend, call: _Call, clock: Callable[[], float]) -> None:
        self._network = network
        self._call = call
        self._clock = clock

    def _left(self) -> float:
        """Return how many seconds are left of the call; 0.0 or less: none."""
        return self._call.until - self._clock()

    def connect_tcp(
        self, host: str, port: int, timeout: float | None = None, local_address: str | None = None, socket_options: Any = None
    ) -> httpcore.NetworkStream:
        left = _more_than_none(self._left(), httpcore.ConnectTimeout)
        return _TimedStream(self._network.connect_tcp(host, port, left, local_address, socket_options), self._left)


class _TimedStream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream, left: Callable[[], float]) -> None:
        self._stream = stream
        self._left = left

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _more_than_none(self._left(), httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        for start in range(0, len(buffer), _PIECE):  # as a whole, a slow reader would get the time for each part of it anew
            self._stream.write(buffer[start : start + _PIECE], _more_than_none(self._left(), httpcore.WriteTimeout))

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        left = _more_than_none(self._left(), httpcore.ConnectTimeout)
        return _TimedStream(self._stream.start_tls(ssl_context, server_hostname, left), self._left)

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)

    def close(self) -> None:
        self._stream.close()


def _more_than_none(left: float, over: type[httpcore.TimeoutException]) -> float:
    """Return a time that a socket can wait for; 0 would mean not to wait. Raises: `over` if none is left."""
    if left <= 0:
        raise over("the deadline has passed")
    return left


def ssl_context(ca_file: Path | None) -> ssl.SSLContext:
    """Return a context that trusts the system's authorities and, if given, those in `ca_file`. Build it once per process."""
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(cafile=str(ca_file))
    return context


def raise_for_busy(reply: Reply, peer: str, *, changes: bool) -> None:
    """Translate the statuses that mean "not now" on every HTTP API.

    429 and 503 say that the peer did not act. 500, 502 and 504 after a write do not say so: Unknown.

    Raises: RateLimited, Transient, Unknown.
    """
    if reply.status == 429:
        raise RateLimited(f"{peer} asked for a pause.", retry_after_s=reply.retry_after_s)
    if reply.status == 503:
        raise Transient(f"{peer} is not available right now.", retry_after_s=reply.retry_after_s)
    if reply.status in (500, 502, 504):
        if changes:
            raise Unknown(f"{peer} reported a fault; whether it acted is not known yet.")
        raise Transient(f"{peer} reported a fault.", retry_after_s=reply.retry_after_s)


class _NoCookies(DefaultCookiePolicy):
    def set_ok(self, cookie: Cookie, request: urllib.request.Request) -> bool:
        return False
