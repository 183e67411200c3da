"""What one call to a remote costs at most, in time and memory, and what its answer must prove to be taken."""

import gc
import gzip
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

import pytest

from server.errors import Rejected, Transient, Unknown
from server.transport import Gateway
from tests.faults.proxy import LOOPBACK

DEADLINE_S = 0.3
MANY_S = 5.0  # what a call takes that nobody ends
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"

Talk = Callable[[socket.socket], None]


@contextmanager
def peer(talk: Talk) -> Iterator[str]:
    """Run a server that treats each client so; yield its URL."""
    listener = socket.create_server((LOOPBACK, 0))

    def serve() -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                with client, suppress(OSError):
                    talk(client)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{listener.getsockname()[1]}/"
    finally:
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        thread.join(MANY_S)


def says(*parts: bytes) -> Talk:
    def talk(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(b"".join(parts))

    return talk


def waits_for_the_end(client: socket.socket) -> None:
    client.settimeout(MANY_S)
    while client.recv(65536):
        pass


def whole(body: bytes, head: bytes = HEAD) -> bytes:
    return head + b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


@pytest.fixture
def gateway() -> Gateway:
    return Gateway("The peer", timeout_s=DEADLINE_S, ssl_context=ssl.create_default_context())


# Time


def drips_its_head(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(HEAD)
    for number in range(int(MANY_S / 0.05)):
        client.sendall(b"x-%d: 1\r\n" % number)
        time.sleep(0.05)


def drips_its_body(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n")
    for _ in range(int(MANY_S / 0.05)):
        client.sendall(b" ")
        time.sleep(0.05)


def falls_silent_in_its_body(client: socket.socket) -> None:
    client.recv(65536)
    time.sleep(DEADLINE_S * 0.8)
    client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
    waits_for_the_end(client)


def reads_slowly(client: socket.socket) -> None:
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    for _ in range(20):
        client.recv(4096)
        time.sleep(0.05)


@pytest.mark.parametrize("talk", [drips_its_head, drips_its_body, falls_silent_in_its_body, reads_slowly])
@pytest.mark.parametrize("changes", [True, False])
def test_a_call_ends_with_its_deadline_however_slowly_the_peer_goes_on(gateway: Gateway, talk: Talk, changes: bool) -> None:
    with peer(talk) as url:
        started = time.monotonic()
        with pytest.raises(Unknown if changes else Transient):
            gateway.send("POST", url, content=b" " * (8 * 1024 * 1024 if talk is reads_slowly else 10), is_write=changes)
        took = time.monotonic() - started
    assert DEADLINE_S * 0.9 < took < DEADLINE_S * 1.5 + 0.3


def test_a_gateway_that_nobody_needs_any_more_closes_its_connections() -> None:
    ended = threading.Event()

    def talk(client: socket.socket) -> None:
        says(whole(b"{}"))(client)
        waits_for_the_end(client)
        ended.set()

    with peer(talk) as url:
        Gateway("The peer", timeout_s=MANY_S, ssl_context=ssl.create_default_context()).send("GET", url)
        gc.collect()
        assert ended.wait(MANY_S)


# Size


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(HEAD + b"Content-Length: 1000001\r\n\r\n", id="says so"),
        pytest.param(whole(gzip.compress(b" " * 1_000_001), HEAD + b"Content-Encoding: gzip\r\n"), id="packed"),
        pytest.param(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"2710\r\n" + b" " * 10_000 + b"\r\n", id="in chunks"),
    ],
)
def test_too_large_an_answer_is_refused_and_leaves_open_what_a_write_did(gateway: Gateway, answer: bytes) -> None:
    def talk(client: socket.socket) -> None:
        client.recv(65536)
        client.sendall(answer)
        while answer.endswith(b" \r\n"):
            client.sendall(answer[answer.index(b"2710") :])
        waits_for_the_end(client)

    with peer(talk) as url:
        with pytest.raises(Rejected, match="too large"):
            gateway.send("GET", url, max_bytes=1_000_000)
        with pytest.raises(Unknown):
            gateway.send("POST", url, max_bytes=1_000_000)


def test_an_answer_as_large_as_allowed_is_taken(gateway: Gateway) -> None:
    body = b" " * 1_000_000
    for answer in (whole(body), whole(gzip.compress(body), HEAD + b"Content-Encoding: gzip\r\n")):
        with peer(says(answer)) as url:
            assert gateway.send("GET", url, max_bytes=len(body)).content == body


# Packed answers


PACKED = gzip.compress(b'{"d": {"results": []}}' * 50)


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        pytest.param(b"gzip", b'{"d": {}}', id="not packed at all"),
        pytest.param(b"gzip", PACKED[:-1], id="cut at its end"),
        pytest.param(b"gzip", PACKED[:12], id="cut at its beginning"),
        pytest.param(b"gzip", PACKED[:-6] + b"\0" + PACKED[-5:], id="damaged"),
        pytest.param(b"gzip", PACKED + b"{", id="with something after it"),
        pytest.param(b"br", PACKED, id="in a way that was not asked for"),
    ],
)
def test_what_does_not_unpack_to_its_end_is_not_taken(gateway: Gateway, encoding: bytes, body: bytes) -> None:
    with peer(says(whole(body, HEAD + b"Content-Encoding: " + encoding + b"\r\n"))) as url:
        with pytest.raises(Transient):
            gateway.send("GET", url)
        with pytest.raises(Unknown):
            gateway.send("POST", url)


def test_whoever_asks_for_a_plain_answer_gets_no_packed_one(gateway: Gateway) -> None:
    with peer(says(whole(PACKED, HEAD + b"Content-Encoding: gzip\r\n"))) as url:
        assert gateway.send("GET", url).content == gzip.decompress(PACKED)
        with pytest.raises(Transient):
            gateway.send("GET", url, headers={"Accept-Encoding": "identity"})


# Connections


def breaks_when_it_is_used_again(client: socket.socket) -> None:
    client.recv(65536)
    client.sendall(whole(b"{}"))
    client.recv(65536)


def test_without_kept_connections_none_breaks_when_it_is_used_again() -> None:
    trusting = ssl.create_default_context()
    keeping, fresh = (Gateway("The peer", timeout_s=MANY_S, ssl_context=trusting, keeps_alive=keeps) for keeps in (True, False))
    with peer(breaks_when_it_is_used_again) as url:
        for _ in range(3):
            assert fresh.send("GET", url).content == b"{}"
        assert keeping.send("GET", url).content == b"{}"
        with pytest.raises(Transient):
            keeping.send("GET", url)
