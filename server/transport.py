"""Everything that leaves the process: one gateway that builds HTTP clients and turns what can go wrong into the error tree.

What decides "retry or look first" is whether the peer may have acted. A failure before the request was written is Transient;
after that a read is still Transient, but a write is Unknown. A 2xx that is cut anywhere raises in httpx (h11 checks the
framing at each byte; requests and urllib3 do not, domain page toolchain.md section 3), so only this gateway writes. An answer
whose end only the end of the connection shows is not taken, since nobody could tell that it was cut.

One httpx.Client per thread (a shared pool is the bottleneck, toolchain.md section 7) with one shared SSLContext; cookies are
never kept by the client, so that users of one thread cannot meet. Redirects are not followed: no vendor API needs one.
"""

from __future__ import annotations

import ssl
import threading
import time
import urllib.request
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from http.cookiejar import Cookie, DefaultCookiePolicy
from pathlib import Path
from typing import Any, NoReturn

import httpx

from server.errors import RateLimited, Rejected, Transient, Unknown

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})
_NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


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
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        until = parsedate_to_datetime(value)
        start = parsedate_to_datetime(date) if date else None
    except ValueError:
        return None
    return max(0.0, (until - start).total_seconds()) if start else None


class Gateway:
    """Sends requests to one kind of peer. Thread-safe.

    `peer` names it in errors for people ("SAP Cloud for Customer"); `timeout_s` is the deadline of a whole call, connecting
    and reading the body included.
    """

    def __init__(
        self,
        peer: str,
        *,
        timeout_s: float,
        ssl_context: ssl.SSLContext,
        proxy_url: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.peer = peer
        self.timeout_s = timeout_s
        self._ssl = ssl_context
        self._proxy = proxy_url
        self._clock = clock
        self._local = threading.local()

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        params: Mapping[str, str] | None = None,
        content: bytes | None = None,
        data: Mapping[str, str] | None = None,
        json: Any = None,
        max_bytes: int = 64 * 1024 * 1024,
        timeout_s: float | None = None,
        is_write: bool | None = None,
        may_repeat: bool | None = None,
    ) -> Reply:
        """Send one request and read the whole answer, whatever its status.

        `is_write` says whether the peer changes something (default: by method; a POST that only asks sets False). With
        `may_repeat` (default: by method) the request is sent once more if its connection breaks, as one that was kept alive may.

        Raises: Transient when nothing was sent or a read failed; Unknown when a write failed after it was sent; Rejected when
        the answer is larger than `max_bytes`.
        """
        is_safe = method.upper() in _SAFE
        changes = not is_safe if is_write is None else is_write
        limit = timeout_s or self.timeout_s
        started = self._clock()
        request = self._client.build_request(
            method, url, headers=headers, params=params, content=content, data=data, json=json, timeout=httpx.Timeout(limit)
        )
        try:
            try:
                response, body = self._answer(request, started + limit, max_bytes)
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                if not (is_safe if may_repeat is None else may_repeat):
                    raise
                response, body = self._answer(request, started + limit, max_bytes)
        except _NOT_SENT as error:
            raise Transient(f"{self.peer} cannot be reached.") from error
        except httpx.TransportError as error:
            self._failed(changes, error)
        return Reply(response.status_code, response.headers, body, (self._clock() - started) * 1000)

    def _answer(self, request: httpx.Request, until: float, max_bytes: int) -> tuple[httpx.Response, bytes]:
        response = self._client.send(request, stream=True)
        try:
            if not _shows_its_end(response):
                raise httpx.RemoteProtocolError("a body without a length", request=request)
            return response, self._read(response, until, max_bytes)
        finally:
            response.close()

    def _read(self, response: httpx.Response, until: float, max_bytes: int) -> bytes:
        chunks: list[bytes] = []
        size = 0
        for chunk in response.iter_bytes():
            size += len(chunk)
            if size > max_bytes:
                raise Rejected(f"{self.peer} sent an answer that is too large.")
            if self._clock() > until:
                raise httpx.ReadTimeout("deadline passed while reading", request=response.request)
            chunks.append(chunk)
        return b"".join(chunks)

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
                limits=httpx.Limits(max_connections=20, max_keepalive_connections=20, keepalive_expiry=20),
            )
            client = httpx.Client(transport=pool, trust_env=False, follow_redirects=False, headers={"User-Agent": "ssi-sidebar"})
            weakref.finalize(client, pool.close)  # with the thread whose client it was
            # Cookies belong to a person's session with C4C and are sent by hand; a jar here would mix people.
            client.cookies.jar.set_policy(_NoCookies())
            self._local.client = client
        return client


def _shows_its_end(response: httpx.Response) -> bool:
    """Say whether a cut body would be noticed; one that just ends with the connection may have been cut anywhere."""
    framed = {"content-length", "transfer-encoding"} & response.headers.keys()
    return bool(framed) or response.status_code in (204, 304) or response.request.method == "HEAD"


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
