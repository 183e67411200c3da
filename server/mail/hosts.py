"""HTTP to mail servers whose address a person gave: checked on the resolved address, bounded in time and size.

`Guard` resolves a name once, drops every address that the operator's `AllowList` does not permit, and connects to one of the
rest; the name then only serves TLS (SNI and the certificate). It sits below urllib3's connections, so that whatever a library
does above it (a redirect, an NTLM handshake, a reconnect) passes through it again. It tells nobody why a connection failed:
refused by the guard, no such name, closed and silent look the same, or the product would be a map of the network it runs in.

`session()` gives a requests session upon it. Proxies, cookies, redirects and the environment's settings are off. An answer is
read whole, up to a number of bytes after decompression and until a deadline, and only if its end would show that it was cut
(requests and urllib3 do not insist on that: toolchain.md section 3). What goes wrong is a requests exception.
"""

from __future__ import annotations

import socket
import ssl
import struct
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.cookiejar import DefaultCookiePolicy
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.exceptions import ChunkedEncodingError, InvalidProxyURL, ReadTimeout
from spnego.exceptions import SpnegoError
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import HTTPError, NewConnectionError, ReadTimeoutError
from urllib3.poolmanager import PoolManager
from urllib3.util import Timeout

from server import logs
from server.domain.hosts import Address, AllowList
from server.errors import Transient
from server.transport import Breaker

log = logs.get(__name__)

CONNECT_S = 10.0
SERVERS_KEPT = 1_000  # of which is known whether they answer
MAX_ADDRESSES = 3  # of a name that are tried, one after the other
PIECE_BYTES = 32 * 1024  # larger ones make exchangelib's reader slow again, since it copies what is left of a piece
USER_AGENT = "ssi-sidebar"

Resolve = Callable[[str, int], list[Address]]
Dial = Callable[[tuple[str, int], float], socket.socket]


class TooLarge(requests.exceptions.ConnectionError):
    """The answer is larger than was asked for; the rest was not read."""


class AtRest(requests.exceptions.ConnectionError):
    """The server answered nobody of late and was not asked."""


def resolve(host: str, port: int) -> list[Address]:
    """Ask the system for a host's addresses. Raises: OSError."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except UnicodeError as error:  # a label that is empty or too long
        raise OSError("not a host name") from error
    return list(dict.fromkeys(ip_address(str(entry[4][0]).partition("%")[0]) for entry in found))


class Guard:
    """Makes connections to servers that a person named. Thread-safe; one per process is enough."""

    def __init__(
        self,
        allowed: AllowList,
        *,
        ssl_context: ssl.SSLContext,
        resolve: Resolve = resolve,
        dial: Dial = socket.create_connection,
    ) -> None:
        self.allowed = allowed
        self.ssl_context = ssl_context
        self._resolve = resolve
        self._dial = dial
        self._lock = threading.Lock()
        self._breakers: OrderedDict[tuple[str, str], Breaker] = OrderedDict()

    def breaker(self, url: str) -> Breaker:
        """Return what keeps calls from the server at this address while it answers nobody."""
        parts = urlsplit(url)
        place = (parts.scheme, parts.netloc)
        with self._lock:
            breaker = self._breakers.setdefault(place, Breaker("The server"))
            self._breakers.move_to_end(place)
            while len(self._breakers) > SERVERS_KEPT:
                self._breakers.popitem(last=False)
        return breaker

    def connect(self, host: str, port: int, timeout_s: float, *, secure: bool) -> socket.socket:
        """Return a connected socket. Raises: OSError whatever the reason."""
        found = self._resolve(host, port)
        permitted = [address for address in found if self.allowed.permits(host, address, port, secure=secure)]
        if not permitted:
            log.warning("connection to a user-given host not permitted", host=host, port=port, found=len(found))
            raise OSError("not permitted")
        failure: OSError | None = None
        for address in permitted[:MAX_ADDRESSES]:
            try:
                return self._dial((str(address), port), min(timeout_s, CONNECT_S))
            except OSError as error:
                failure = error
        raise OSError("no address answers") from failure


class _Line:
    """The connection of an adapter, held by a second handle, so that it can be cut from outside whatever it waits for."""

    def __init__(self) -> None:
        self._handle: socket.socket | None = None
        self._was_cut = False

    def hold(self, connected: socket.socket) -> None:
        """Raises: OSError if it was cut before there was a connection."""
        self.let_go()
        self._handle = connected.dup()
        if self._was_cut:
            connected.close()
            raise OSError("The deadline has passed.")

    def let_go(self) -> None:
        if self._handle is not None:
            self._handle.close()

    def cut(self) -> None:
        self._was_cut = True
        if self._handle is not None:
            with suppress(OSError):  # it went first
                self._handle.shutdown(socket.SHUT_RDWR)

    @contextmanager
    def in_time(self, seconds: float) -> Iterator[None]:
        """Cut it when the block takes longer: a server that drips a byte now and then keeps every socket time-out happy."""
        timer = threading.Timer(seconds, self.cut)
        timer.daemon = True
        self._was_cut = False
        timer.start()
        try:
            yield
        except requests.exceptions.RequestException as error:
            if self._was_cut:
                raise ReadTimeout("the deadline passed") from error
            raise
        finally:
            timer.cancel()


class _Checked:
    """What both kinds of connection share: the guard in the place of urllib3's own connecting."""

    guard: Guard
    line: _Line
    host: str
    port: int
    timeout: Any
    secure: bool

    def _new_conn(self) -> socket.socket:
        timeout_s = float(self.timeout) if isinstance(self.timeout, int | float) else CONNECT_S
        try:
            connected = self.guard.connect(self.host, self.port, timeout_s, secure=self.secure)
        except OSError as error:
            raise NewConnectionError(self, "The server cannot be reached.") from error  # type: ignore[arg-type]  # it is one
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.line.hold(connected)
        return connected


class _Connection(_Checked, HTTPConnection):
    secure = False

    def __init__(self, *args: Any, guard: Guard, line: _Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard, self.line = guard, line


class _SecureConnection(_Checked, HTTPSConnection):
    secure = True

    def __init__(self, *args: Any, guard: Guard, line: _Line, **options: Any) -> None:
        super().__init__(*args, **options)
        self.guard, self.line = guard, line


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


class _Pools(PoolManager):
    """Pools of one connection each: NTLM signs in a connection, not a request."""

    def __init__(self, guard: Guard, line: _Line) -> None:
        super().__init__(num_pools=1, maxsize=1, block=True, ssl_context=guard.ssl_context)
        self._ours: dict[str, Any] = {"guard": guard, "line": line}

    def _new_pool(self, scheme: str, host: str, port: int, request_context: dict[str, Any] | None = None) -> HTTPConnectionPool:
        options = dict(self.connection_pool_kw if request_context is None else request_context)
        for name in ("scheme", "host", "port"):
            options.pop(name, None)
        if scheme == "https":
            return _SecurePool(host, port, **self._ours, **options)
        options.pop("ssl_context", None)
        return _Pool(host, port, **self._ours, **options)


class GuardedAdapter(HTTPAdapter):
    """requests upon a Guard. `deadline_s` bounds a whole exchange, `max_bytes` gives the largest body of the next answer.

    `is_try`: what somebody typed is tried. How that goes counts for no other call, nor the others for it.
    """

    def __init__(self, guard: Guard, *, deadline_s: float, max_bytes: Callable[[], int], is_try: bool = False) -> None:
        self._guard = guard
        self._is_try = is_try
        self._line = _Line()
        self._deadline_s = deadline_s
        self._max_bytes = max_bytes
        super().__init__(max_retries=0)

    def close(self) -> None:
        super().close()
        self._line.let_go()

    def init_poolmanager(self, *_: Any, **__: Any) -> None:
        self.poolmanager = _Pools(self._guard, self._line)

    def proxy_manager_for(self, *_: Any, **__: Any) -> Any:
        raise InvalidProxyURL("A user-given server is never called through a proxy.")

    def get_connection_with_tls_context(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> HTTPConnectionPool:
        """Return the pool for the request's host; verification is the guard's SSL context, whatever was asked."""
        return self.poolmanager.connection_from_url(request.url or "")

    def cert_verify(self, *_: Any, **__: Any) -> None:
        """Leave the connection as it is: its context trusts what the operator trusts."""

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Send and read the whole answer. Raises: requests.exceptions.RequestException."""
        breaker = Breaker("The server") if self._is_try else self._guard.breaker(request.url or "")
        try:
            with breaker.calling(self._deadline_s, connect_s=CONNECT_S), self._line.in_time(self._deadline_s):
                timeout = Timeout(connect=CONNECT_S, read=self._deadline_s)
                response = super().send(request, stream=True, timeout=timeout, verify=True, proxies={})  # type: ignore[arg-type]
                response.peer_certificate = _peer_certificate(response)  # type: ignore[attr-defined]  # for NTLM's channel binding
                try:
                    response._content = body = self._body(response)
                except requests.exceptions.RequestException:
                    response.close()
                    raise
        except Transient as error:
            raise AtRest(str(error)) from error
        response._content_consumed = True  # as requests does once a body is read
        # exchangelib reads byte by byte, as this method does unless told otherwise: 17 s for a message of 26 MB.
        response.iter_content = lambda *_, **__: _pieces(body)  # type: ignore[method-assign]
        return response

    def _body(self, response: requests.Response) -> bytes:
        length = response.headers.get("Content-Length", "").strip()
        if not (length.isdecimal() or "chunked" in response.headers.get("Transfer-Encoding", "").lower()):
            raise ChunkedEncodingError("a body without a length")
        chunks, size, limit = [], 0, self._max_bytes()
        try:
            for chunk in response.raw.stream(65536, decode_content=True):
                size += len(chunk)
                if size > limit:
                    raise TooLarge("the answer is too large")
                chunks.append(chunk)
        except ReadTimeoutError as error:
            raise ReadTimeout("no more bytes came") from error
        except HTTPError as error:
            raise ChunkedEncodingError("the answer was cut") from error
        return b"".join(chunks)


def _pieces(body: bytes) -> Iterator[bytes]:
    for start in range(0, len(body), PIECE_BYTES):
        yield body[start : start + PIECE_BYTES]


def _peer_certificate(response: requests.Response) -> bytes | None:
    """Return the server's certificate (DER), None without TLS. The connection is only at hand before the body is read."""
    connection = getattr(response.raw, "connection", None)
    connected = getattr(connection, "sock", None)
    return connected.getpeercert(True) if isinstance(connected, ssl.SSLSocket) else None


class Session(requests.Session):
    """A session that asks only whom it is told to ask: no environment, no cookies, no redirects."""

    def __init__(self, adapter: GuardedAdapter, headers: Mapping[str, str]) -> None:
        super().__init__()
        self.trust_env = False
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self.headers.update({"User-Agent": USER_AGENT, **headers})
        self.mount("https://", adapter)
        self.mount("http://", adapter)

    def request(self, *args: Any, **options: Any) -> requests.Response:
        """Send one request. Raises: requests.exceptions.RequestException, also for an NTLM handshake that makes no sense."""
        options["allow_redirects"] = False
        try:
            return super().request(*args, **options)
        except (
            PermissionError,
            ValueError,
            KeyError,
            struct.error,
            SpnegoError,
        ) as error:  # requests_ntlm and pyspnego on a server that breaks off
            if isinstance(error, requests.exceptions.RequestException):
                raise
            raise requests.exceptions.ConnectionError("the handshake broke off") from error


def session(
    guard: Guard,
    *,
    deadline_s: float,
    max_bytes: Callable[[], int],
    headers: Mapping[str, str] | None = None,
    is_try: bool = False,
) -> Session:
    """Return a session of one connection per host; the rest as GuardedAdapter."""
    return Session(GuardedAdapter(guard, deadline_s=deadline_s, max_bytes=max_bytes, is_try=is_try), headers or {})


def never_sent(error: BaseException) -> bool:
    """Say whether this failure happened before a connection was made, so that the server cannot have acted."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, AtRest | NewConnectionError | urllib3.exceptions.ConnectTimeoutError):
            return True
        seen = seen.__cause__ or seen.__context__
    return False
