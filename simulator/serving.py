"""Put a vendor's WSGI application on a loopback port, with the faults and the access log that all vendors share."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from io import BytesIO
from types import TracebackType
from typing import Any

from flask import Flask, Response, g, request
from werkzeug.serving import BaseWSGIServer, WSGIRequestHandler, make_server
from werkzeug.test import run_wsgi_app

from simulator.world import GetWorld, World

GATE_S = 60.0  # how long a gate holds a request that nobody lets go


class _Handler(WSGIRequestHandler):
    """HTTP/1.1 with keep-alive and without Nagle's delay, which would add 40 ms to every small answer."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def run_wsgi(self) -> None:
        """Answer one request and keep the connection. Werkzeug's own closes it each time, since it may leave a body unread."""
        if self.headers.get("Transfer-Encoding"):
            self.close_connection = True  # no client of ours sends without a length
            self.send_error(411)
            return
        environ = self.make_environ()
        environ["wsgi.input"] = BytesIO(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
        answer, status, headers = run_wsgi_app(self.server.app, environ, buffered=True)
        body = b"".join(answer)
        code, _, reason = status.partition(" ")
        self.send_response(int(code), reason)
        for name, value in headers:
            self.send_header(name, value)
        if "Content-Length" not in headers and code not in ("204", "304"):
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)
        self.wfile.flush()

    def finish(self) -> None:
        with suppress(OSError):  # what a client that went first did not take
            super().finish()

    def log(self, type: str, message: str, *args: object) -> None:
        """Say nothing: the World keeps the access log."""


class Port:
    """A running server on 127.0.0.1. `url` ends without a slash."""

    def __init__(self, app: Callable[..., Any], *, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._server: BaseWSGIServer = make_server(
            "127.0.0.1", port, app, threaded=True, request_handler=_Handler, ssl_context=tls
        )
        self._server.daemon_threads = True  # type: ignore[attr-defined]  # ThreadedWSGIServer has it
        if tls:
            # The handshake belongs to the connection's thread: in accept() one silent client would stop all others.
            self._server.socket.do_handshake_on_connect = False  # type: ignore[attr-defined]  # it is an SSLSocket
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        self.port: int = self._server.server_port
        self.url = f"{scheme}://{host}:{self.port}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    def __enter__(self) -> Port:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(5)


def drop_connection() -> None:
    """Close the client's connection without an answer, as a dying server does."""
    sock: socket.socket = request.environ["werkzeug.socket"]
    with suppress(OSError):  # the client may have gone first
        sock.shutdown(socket.SHUT_RDWR)


def stopped(world: World, vendor: str, *, acted: bool) -> bool:
    """Stand at the World's gate, if this request is the one it stops; return whether the connection was closed there."""
    gate = world.gate
    if gate is None or not gate.counts(f"{vendor} {request.method} {request.path}", acted=acted):
        return False
    if gate.stand(GATE_S):
        return False
    drop_connection()
    return True


def watch(app: Flask, vendor: str, get_world: GetWorld) -> None:
    """Give a vendor's app its access log, its latency and the faults that every vendor can have.

    The view sets `g.actor` (who called) and, for a batch, `g.parts` (a list of "METHOD target"); latency is applied after
    the view has acted, so that a batch is as slow as it has parts. A view that finds a fault of its own calls
    `world.take_fault` itself.
    """
    common = frozenset({"status", "hang", "drop", "html", "garbage"})

    @app.before_request
    def _before() -> Response | None:
        g.started = time.perf_counter()
        g.actor, g.parts = "", []
        world = get_world()
        if stopped(world, vendor, acted=False):
            return Response(status=503)
        fault = world.take_fault(vendor, request.method, request.path, common)
        if fault is None:
            return None
        if fault.kind == "hang":
            time.sleep(fault.seconds)
            return None
        if fault.kind == "drop":
            drop_connection()
            return Response(status=503)
        if fault.kind == "html":
            return Response("<html><body><h1>Maintenance</h1></body></html>", 200, content_type="text/html")
        if fault.kind == "garbage":
            return Response('{"d": {"results": [', 200, content_type="application/json")
        headers = {} if fault.retry_after_s is None else {"Retry-After": str(fault.retry_after_s)}
        return Response("Service Unavailable", fault.status, headers, content_type="text/plain")

    @app.after_request
    def _after(response: Response) -> Response:
        world = get_world()
        parts = tuple(g.get("parts") or ())
        world.sleep_as(vendor, max(1, len(parts)), spent_s=time.perf_counter() - g.started)
        world.accessed(
            vendor=vendor,
            method=request.method,
            path=request.path,
            query=request.query_string.decode("latin-1"),
            status=response.status_code,
            duration_ms=(time.perf_counter() - g.started) * 1000,
            actor=g.get("actor") or "",
            parts=parts,
            request_bytes=request.content_length or 0,
        )
        if stopped(world, vendor, acted=True):
            return response
        if world.take_fault(vendor, request.method, request.path, frozenset({"acted_drop"})):
            drop_connection()
        return response


def joined(apps: Mapping[str, Flask]) -> Callable[..., Any]:
    """Join apps on one port: a path goes, whole, to the app of the first prefix that it begins with."""

    def dispatch(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        app = next(app for prefix, app in apps.items() if environ["PATH_INFO"].startswith(prefix))
        return app(environ, start)

    return dispatch
