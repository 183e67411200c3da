"""A reply that is cut at any byte makes neither a double nor a false success.

Three proofs, each on the one before: the Gateway, the only reader of replies, never hands a cut one up, at each byte of every reply
that a save reads; a whole save, with any one of its replies cut, says nothing untrue and ends as one activity; the same for
commits whose answer the database could not give any more.
"""

import random
import re
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from server import wiring
from server.errors import SsiError, Transient, Unknown
from server.services import Deps
from server.transport import Gateway
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.c4c import TOKEN_PATH
from simulator.ports import Simulator
from simulator.world import World
from tests.api import Api, link, row_of
from tests.conftest import Installation, _set_up, _settings
from tests.exactly_one.checker import Checker
from tests.exactly_one.letters import Letter, deliver
from tests.exactly_one.steps import LOOPBACK, PostgresRelay, Steps
from tests.faults.proxy import Fault, Proxy, Tls

Count = Callable[[str, int], None]

FILES = {"one.pdf": 3000, "two.csv": 100}
WHOLE = 2048  # bytes; a longer body is cut at its ends and at positions chosen by the seed
ENDS, CHOSEN = 32, 64
LARGE = 25_000_000  # bytes of a file
A_DAY = 25 * 3600.0  # after which everything that is kept for a while is asked anew


@dataclass(frozen=True)
class Kind:
    """A reply that a save reads: the request that it answers, by a part of its line, and the how many-th of them it is."""

    name: str
    remote: str
    line: str
    changes: bool = False  # the request writes, so that only a look can tell what became of it
    is_cold: bool = False  # asked only after a while
    is_later: bool = False  # asked by a later wish
    number: int = 1

    def __str__(self) -> str:
        return self.name


KINDS = [
    Kind("who signs tokens", "identity", "/v2.0/.well-known/openid-configuration", is_cold=True),
    Kind("keys", "identity", "/discovery/v2.0/keys", is_cold=True),
    Kind("where to sign in", "identity", "/v2.0/.well-known/openid-configuration", is_cold=True, number=2),
    Kind("token of the mailbox", "identity", "/oauth2/v2.0/token", is_cold=True),
    Kind("head", "graph", "$expand="),
    Kind("message", "graph", "/$value"),
    Kind("token of C4C", "c4c", TOKEN_PATH, is_cold=True),
    Kind("what C4C has", "c4c", "/$batch"),
    Kind("activity", "c4c", "POST /sap/c4c/odata/v1/c4codataapi/EMailCollection", changes=True),
    Kind("categories", "graph", "GET /v1.0/me/outlook/masterCategories", is_cold=True),
    Kind("category", "graph", "POST /v1.0/me/outlook/masterCategories", changes=True, is_cold=True),
    Kind("marks", "graph", "$select=id%2Ccategories"),
    Kind("mark", "graph", "PATCH", changes=True),
    Kind("activity read", "c4c", "GET /sap/c4c/odata/v1/c4codataapi/EMailCollection(", is_later=True),
    Kind("files", "c4c", "GET /sap/c4c/odata/v1/c4codataapi/EMailAttachmentsCollection", is_later=True),
    Kind("file", "c4c", "POST /sap/c4c/odata/v1/c4codataapi/EMailAttachmentsCollection", changes=True, is_later=True),
    Kind("links", "c4c", "/$batch", changes=True, is_later=True, number=2),
]


# The Gateway


class Parrot:
    """A server on loopback that answers every request with the same bytes, as far as it is told to."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = f"http://{LOOPBACK}:{self._listener.getsockname()[1]}/"
        self.says = b""
        self.resets = False

    def __enter__(self) -> "Parrot":
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, suppress(OSError):
                    client.recv(65536)  # requests here are small and come in one piece
                    client.sendall(self.says)
                    if self.resets:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    with Parrot() as parrot:
        yield parrot


def places_in(reply: bytes, rng: random.Random, *, ends: int = ENDS, chosen: int = CHOSEN) -> list[int]:
    """Return after how many bytes a reply is cut."""
    head = reply.index(b"\r\n\r\n") + 4
    body = range(head, len(reply))
    if len(body) > WHOLE:
        middle = rng.sample(body[ends:-ends], chosen)
        return [*range(head), *body[:ends], *sorted(middle), *body[-ends:]]
    return list(range(len(reply)))


def cut_everywhere(parrot: Parrot, reply: bytes, places: Sequence[int], *, changes: bool) -> int:
    """See that no cut of this reply gets through the Gateway; return how many were tried."""
    gateway = Gateway("The peer", timeout_s=10, ssl_context=ssl.create_default_context())
    expected = Unknown if changes else Transient
    parrot.says, parrot.resets = reply, False
    assert gateway.send("POST", parrot.url, is_write=changes).content == reply.partition(b"\r\n\r\n")[2]
    for place in places:
        parrot.says, parrot.resets = reply[:place], place % 2 == 1
        with pytest.raises(expected):
            gateway.send("POST", parrot.url, is_write=changes)
    return len(places)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_cut_reply_gets_through_the_gateway(
    kind: Kind, replies: dict[Kind, bytes], parrot: Parrot, rng: random.Random, count: Count
) -> None:
    count("cuts of replies", cut_everywhere(parrot, replies[kind], places_in(replies[kind], rng), changes=kind.changes))


@pytest.mark.parametrize("framing", [b"Connection: close", b"Transfer-Encoding: chunked"])
def test_a_reply_without_a_length_is_whole_only_if_its_end_can_be_told(parrot: Parrot, framing: bytes) -> None:
    body = b"Subject: half a message" * 9
    chunked = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n%b\r\n\r\n" % framing
    if framing.startswith(b"Transfer"):
        cut_everywhere_chunked(parrot, head + chunked, body)
    else:
        parrot.says = head + body
        with pytest.raises(Transient):
            Gateway("The peer", timeout_s=10, ssl_context=ssl.create_default_context()).send("GET", parrot.url)
