"""A TCP proxy on loopback that stands between the product and one remote, and misbehaves when it is told to.

With `tls` it speaks HTTP/1.1 over TLS on both sides and knows requests; without, it passes bytes through (PostgreSQL) and what
the client sends in one piece counts as a request. A Fault strikes the requests that it matches, before the remote has seen
them, after it has acted, or in the middle of its reply, until it is lifted or used up.
"""

import http.client
import select
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

LOOPBACK = "127.0.0.1"
HOLD_S = 120.0  # how long a connection hangs that nobody lifts
PIECE = 7  # bytes
_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close() then sends RST
_FRAMING = ("content-length", "connection", "transfer-encoding")

When = Literal["before", "after", "mid"]
Deliver = Callable[[], bytes]
"""Hand the request to the remote and return its reply."""
Answer = Callable[[bytes], Iterable[bytes]]
"""Make an answer, in parts, from the remote's own, which is b"" if it did not act."""


@dataclass
class Fault:
    """What goes wrong with requests that hold `match` in "METHOD path" (without TLS: in what was sent).

    `kind`: "latency" (wait `seconds`, then go on, also if the client has gone meanwhile), "hang" (say nothing until lifted, then
    close), "reset" (RST), "cut" (close), "down" (reset every connection and refuse new ones until lifted), "slice" (the
    reply in pieces of 7 bytes, `seconds` apart), "answer" (send `answer` in place of the remote's; "after": it has acted).
    """

    kind: str
    when: When = "before"
    match: str = ""
    seconds: float = 0.0
    share: float = 0.5  # of the reply that is sent before "mid" strikes
    answer: Answer | None = None
    times: int | None = None
    skip: int = 0  # so many matching requests pass unharmed first
    strikes: int = 0
    lifted: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True)
class Tls:
    """Both sides' TLS: the certificate to show (key and chain, PEM) and the authority that the remote is checked against."""

    server_pem: Path
    ca_file: Path

    def contexts(self) -> tuple[ssl.SSLContext, ssl.SSLContext]:
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server.load_cert_chain(self.server_pem)
        return server, ssl.create_default_context(cafile=str(self.ca_file))


class _Over(Exception):
    """This connection ends here."""


class Proxy:
    """Listens on a free loopback port while it is open as a context. Thread-safe."""

    def __init__(self, target_port: int, tls: Tls | None = None) -> None:
        self._target = target_port
        self._server_tls, self._client_tls = tls.contexts() if tls else (None, None)
        self._faults: list[Fault] = []
        self._connections: set[socket.socket] = set()
        self._busy = 0  # requests that a fault holds
        self._lock = threading.Condition()
        self._listener = _bound(0)
        self.port: int = self._listener.getsockname()[1]
        self.url = f"https://localhost:{self.port}"

    def __enter__(self) -> "Proxy":
        self._listen()
        return self

    def __exit__(self, *_: object) -> None:
        self.lift()
        self._refuse()
        self._listener.close()

    def strike(self, fault: Fault) -> Fault:
        """Let this happen from now on."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def lift(self) -> None:
        """End all faults, and wait until what they held has come to its end."""
        with self._lock:
            faults, self._faults = self._faults, []
            for fault in faults:
                fault.lifted.set()
            if any(fault.kind == "down" and fault.strikes for fault in faults):
                self._listen()
            assert self._lock.wait_for(lambda: self._busy == 0, HOLD_S / 2)

    # Connections

    def _listen(self) -> None:
        self._listener.listen(64)
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):  # it was closed
            while True:
                connection, _ = listener.accept()
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _refuse(self) -> None:
        """Reset all connections and refuse new ones."""
        with self._lock:
            old, self._listener = self._listener, _bound(self.port)
            connections = list(self._connections)
        with suppress(OSError):
            old.shutdown(socket.SHUT_RDWR)  # wakes accept()
        old.close()
        for connection in connections:
            with suppress(OSError):
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                connection.shutdown(socket.SHUT_RDWR)

    def _serve(self, connection: socket.socket) -> None:
        try:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._server_tls is not None:
                connection.settimeout(HOLD_S)
                connection = self._server_tls.wrap_socket(connection, server_side=True)
            with self._lock:
                self._connections.add(connection)
            (self._pass_bytes if self._server_tls is None else self._pass_requests)(connection)
        except (_Over, OSError, http.client.HTTPException):
            pass
        finally:
            with self._lock:
                self._connections.discard(connection)
            connection.close()

    def _pass_requests(self, client: socket.socket) -> None:
        upstream = http.client.HTTPSConnection("localhost", self._target, timeout=HOLD_S, context=self._client_tls)
        with client.makefile("rb") as incoming:
            try:
                while line := incoming.readline():
                    method, path, _ = line.decode("latin-1").split(" ", 2)
                    headers = http.client.parse_headers(incoming)
                    body = incoming.read(int(headers.get("Content-Length", 0)))

                    def deliver(method: str = method, path: str = path, headers: Any = headers, body: bytes = body) -> bytes:
                        return _delivered(upstream, method, path, headers, body)

                    with self._taken(f"{method} {path}") as fault:
                        self._exchange(client, fault, deliver)
            finally:
                upstream.close()

    def _pass_bytes(self, client: socket.socket) -> None:
        with socket.create_connection((LOOPBACK, self._target)) as server:
            while True:
                ready, _, _ = select.select([client, server], [], [])
                if server in ready:
                    client.sendall(_received(server))
                    continue
                data = _received(client)

                def deliver(data: bytes = data) -> bytes:
                    server.sendall(data)
                    return _received(server)

                with self._taken(data.decode("latin-1")) as fault:
                    if fault is None:
                        server.sendall(data)
                    else:
                        self._exchange(client, fault, deliver)

    # One exchange

    @contextmanager
    def _taken(self, line: str) -> Iterator[Fault | None]:
        """Find the fault that strikes this request, and be busy while it does."""
        with self._lock:
            fault = next((one for one in self._faults if one.match in line), None)
            if fault is not None and fault.skip > 0:
                fault.skip -= 1
                fault = None
            if fault is None:
                busy = 0
            else:
                busy = 1
                fault.strikes += 1
                if fault.times == fault.strikes:
                    self._faults.remove(fault)
            self._busy += busy
        try:
            yield fault
        finally:
            with self._lock:
                self._busy -= busy
                self._lock.notify_all()

    def _exchange(self, client: socket.socket, fault: Fault | None, deliver: Deliver) -> None:
        """Carry one request and its reply. Raises: _Over if the connection ends with it."""
        if fault is None:
            client.sendall(deliver())
            return
        if fault.answer is not None:
            for part in fault.answer(deliver() if fault.when == "after" else b""):
                client.sendall(part)
            raise _Over
        if fault.when == "before":
            self._trouble(fault, client)
        reply = deliver()
        sent = int(len(reply) * fault.share) if fault.when == "mid" else 0
        client.sendall(reply[:sent])
        if fault.when != "before":
            self._trouble(fault, client)
        size = PIECE if fault.kind == "slice" else max(1, len(reply))
        for start in range(sent, len(reply), size):
            client.sendall(reply[start : start + size])
            if fault.kind == "slice" and fault.seconds:
                fault.lifted.wait(fault.seconds)

    def _trouble(self, fault: Fault, client: socket.socket) -> None:
        """Raises: _Over if the connection does not outlive it."""
        if fault.kind == "latency":
            fault.lifted.wait(fault.seconds)
        if fault.kind in ("latency", "slice"):
            return
        if fault.kind == "hang":
            fault.lifted.wait(HOLD_S)
        elif fault.kind == "down":
            self._refuse()
        elif fault.kind == "reset":
            client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        elif isinstance(client, ssl.SSLSocket):
            client.settimeout(0)
            with suppress(OSError):
                client.unwrap()  # an orderly end of TLS: only HTTP's own framing shows that something is missing
        raise _Over


def _bound(port: int) -> socket.socket:
    """Return a socket that holds the port; until it listens, the kernel refuses connections."""
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind((LOOPBACK, port))
    return listener


def _received(peer: socket.socket) -> bytes:
    data = peer.recv(65536)
    if not data:
        raise _Over
    return data


def _delivered(upstream: http.client.HTTPSConnection, method: str, path: str, headers: Any, body: bytes) -> bytes:
    upstream.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers.items():
        upstream.putheader(name, value)
    upstream.endheaders(body)
    reply = upstream.getresponse()
    content = reply.read()
    lines = [f"{name}: {value}" for name, value in reply.getheaders() if name.lower() not in _FRAMING]
    length = [] if reply.status == 204 else [f"Content-Length: {len(content)}"]
    return "\r\n".join([f"HTTP/1.1 {reply.status} {reply.reason}", *lines, *length, "", ""]).encode("latin-1") + content
