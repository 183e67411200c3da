"""A reply that is cut at any byte makes neither a double nor a false success.

Three proofs, each on the one before: the Gateway, the only reader of replies, never hands a cut one up, at each byte of every
reply that a save reads; a whole save, with any one of its replies cut, says nothing untrue and ends as one activity; the same
for commits whose answer the database could not give any more.
"""

import random
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import pytest

from server import wiring
from server.errors import Transient, Unknown
from server.services import Deps
from server.transport import Gateway
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.c4c import TOKEN_PATH
from simulator.c4c.odata import SERVICE
from simulator.ports import Simulator
from simulator.world import World
from tests.api import Api, link, row_of
from tests.exactly_one.checker import Call, Checker, Tally
from tests.exactly_one.letters import Letter, deliver
from tests.exactly_one.steps import LOOPBACK
from tests.faults.house import behind_proxies
from tests.faults.proxy import Fault, Proxy

Count = Callable[[str, int], None]

FILES = {"one.pdf": 3000, "two.csv": 100}
LARGE = {"large.zip": 25_000_000}
WHOLE = 2048  # bytes; a longer body is cut at its ends and at places chosen by the seed
ENDS, CHOSEN = 32, 64
WHILE_S = 25 * 3600.0  # after so long everything that is kept for a while is asked anew


@dataclass(frozen=True)
class Kind:
    """A reply that a save reads: the one to the `number`-th request whose line holds `line`."""

    name: str
    remote: str
    line: str
    number: int = 1
    changes: bool = False  # the request writes: only a look can tell what became of it
    is_cold: bool = False  # asked once in a while
    is_later: bool = False  # asked when a later wish adds to the activity

    def __str__(self) -> str:
        return self.name


KINDS = [
    Kind("who signs tokens", "identity", "/v2.0/.well-known/openid-configuration", is_cold=True),
    Kind("keys", "identity", "/discovery/v2.0/keys", is_cold=True),
    Kind("where to sign in", "identity", "/v2.0/.well-known/openid-configuration", 2, is_cold=True),
    Kind("token of the mailbox", "identity", "/oauth2/v2.0/token", is_cold=True),
    Kind("head", "graph", "&$expand="),
    Kind("message", "graph", "/$value"),
    Kind("token of C4C", "c4c", TOKEN_PATH, is_cold=True),
    Kind("what C4C has", "c4c", "$batch"),
    Kind("activity", "c4c", f"POST {SERVICE}EMailCollection", changes=True),
    Kind("categories", "graph", "GET /v1.0/me/outlook/masterCategories", is_cold=True),
    Kind("category", "graph", "POST /v1.0/me/outlook/masterCategories", changes=True, is_cold=True),
    Kind("marks", "graph", "$select=id%2Ccategories"),
    Kind("mark", "graph", "PATCH", changes=True),
    Kind("activity read", "c4c", f"GET {SERVICE}EMailCollection(", is_later=True),
    Kind("names of files", "c4c", f"GET {SERVICE}EMailAttachmentsCollection", is_later=True),
    Kind("file", "c4c", f"POST {SERVICE}EMailAttachmentsCollection", changes=True, is_later=True),
    Kind("links", "c4c", "$batch", 2, changes=True, is_later=True),
]


class Knife:
    """Cuts the reply of one kind after some bytes; others of the same line go by whole."""

    def __init__(self, kind: Kind, place: Callable[[bytes], int] = len, *, always: bool = False) -> None:
        self.whole = b""  # the reply as it was
        self._kind = kind
        self._place = place
        self._always = always

    def fault(self) -> Fault:
        times = None if self._always else 1
        return Fault("answer", "after", self._kind.line, answer=self.answer, times=times, skip=self._kind.number - 1)

    def answer(self, own: bytes) -> Iterable[bytes]:
        self.whole = own
        yield own[: self._place(own)]


@dataclass
class House:
    """The product with a proxy before each vendor; each message is its own, the World goes on."""

    simulator: Simulator
    proxies: dict[str, Proxy]
    deps: Deps
    api: Api
    checker: Checker
    known: dict[Kind, bytes] = field(default_factory=dict)
    pause_s: float = 0.0  # for which the last answer asked

    @property
    def world(self) -> World:
        return self.simulator.world

    def reply(self, kind: Kind) -> bytes:
        """One reply of this kind, as it came."""
        if kind not in self.known:
            knife, letter = Knife(kind), self.letter(kind, FILES)
            call = self.cut(kind, knife, letter)
            self.see_through(letter, call)  # the connection ends with the reply, which the next request may notice
            self.known[kind] = knife.whole
        return self.known[kind]

    def links(self) -> list[dict[str, str]]:
        account = row_of(self.world, "CorporateAccountCollection", Email="info@harrowgate-pumps.example")
        opportunity = row_of(self.world, "OpportunityCollection", Name="Second production line")
        return [link("account", account), link("opportunity", opportunity)]

    def letter(self, kind: Kind, files: dict[str, int]) -> Letter:
        """Deliver a message, and bring about the state in which a save of it reads this kind of reply."""
        letter = deliver(self.world, [self.api.person], files)
        if kind.is_cold:
            self.grow_cold()
        if kind.is_later:
            call = self.save(letter, links=self.links()[:1], attachments=[])
            assert call.outcome == "saved"
        return letter

    def grow_cold(self) -> None:
        self.forward(WHILE_S)
        with self.deps.store.transaction(reading=True) as tx:
            (user,) = [u for t in tx.tenants() for u in tx.users(t.id) if u.email == self.api.person.email]
            connection = tx.connection_of(user.id, "graph")
        if connection is not None:
            self.deps.vault.forget(connection.id)
        mailbox = self.world.mailbox(self.api.person.email)
        mailbox.categories = {ref: c for ref, c in mailbox.categories.items() if c.name in dict(demo.OWN_CATEGORIES)}

    def save(self, letter: Letter, **wish: Any) -> Call:
        links = wish.pop("links", self.links())
        call = self.checker.asked(self.api.person, letter, links, None if "attachments" not in wish else ())
        answer = self.api.save(letter.item(self.world, self.api.person), links, **wish)
        self.checker.answered(call, answer.status_code, answer.json)
        assert answer.status_code in (200, 201, 202, 503), answer.text
        self.pause_s = float(answer.headers.get("Retry-After", 0))
        return call

    def cut(self, kind: Kind, knife: Knife, letter: Letter) -> Call:
        """Save with a knife at one of the replies."""
        self.proxies[kind.remote].strike(knife.fault())
        call = self.save(letter)
        self.proxies[kind.remote].lift()
        assert knife.whole, "the save does not read this"
        self.checker.check(letter, settled=False)
        return call

    def see_through(self, letter: Letter, call: Call) -> None:
        """Let time pass and the worker work; the person saves again what was not promised, when that was asked for."""
        if not call.is_promised:
            self.forward(self.pause_s)
            call = self.save(letter)
            assert call.is_promised
        for _ in range(3):
            self.forward(31)
            self.work()
        self.checker.check(letter, settled=True)
        assert len(self.checker.living(letter)) == 1

    def forward(self, seconds: float) -> None:
        self.world.clock_skew += timedelta(seconds=seconds)

    def work(self) -> None:
        dispatcher = Dispatcher(self.deps, threads=0, poll_s=1)
        while dispatcher.run_once():
            pass


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[House]:
    with behind_proxies(tmp_path_factory.mktemp("house")) as (simulator, proxies, settings):
        deps = wiring.build(settings, now=simulator.world.now)
        api = Api(create_app(deps, wiring.face(settings)), simulator, simulator.world.people[0])
        checker = Checker(simulator.world, seed=request.config.getoption("randomly_seed"))
        yield House(simulator, proxies, deps, api, checker)
        deps.background.shutdown()
        deps.store.close()


@pytest.fixture
def told(house: House, tell: Callable[[Tally], None]) -> None:
    tell(house.checker.tally)


# The Gateway


class Parrot:
    """A server on loopback that answers every request with the same bytes."""

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
                    client.recv(65536)  # the request, which is small
                    client.sendall(self.says)
                    if self.resets:
                        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.fixture(scope="module")
def parrot() -> Iterator[Parrot]:
    with Parrot() as parrot:
        yield parrot


@pytest.fixture
def gateway() -> Gateway:
    return Gateway("The peer", timeout_s=10, ssl_context=ssl.create_default_context())


def cut_everywhere(gateway: Gateway, parrot: Parrot, reply: bytes, places: Sequence[int], *, changes: bool) -> int:
    """See that no cut of this reply gets through; return how many were tried. Every other one resets the connection."""
    parrot.says, parrot.resets = reply, False
    assert gateway.send("POST", parrot.url, is_write=changes, max_bytes=2 * len(reply)).content
    for place in places:
        parrot.says, parrot.resets = reply[:place], place % 2 == 1
        with pytest.raises(Unknown if changes else Transient):
            gateway.send("POST", parrot.url, is_write=changes, max_bytes=2 * len(reply))
    return len(places)


def places_in(reply: bytes, rng: random.Random, *, ends: int = ENDS, chosen: int = CHOSEN) -> list[int]:
    """Return after how many bytes a reply is to be cut."""
    head = reply.index(b"\r\n\r\n") + 4
    body = range(head, len(reply))
    if len(body) <= WHOLE:
        return list(range(len(reply)))
    return [*range(head), *body[:ends], *sorted(rng.sample(body[ends:-ends], chosen)), *body[-ends:]]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_no_cut_reply_gets_through_the_gateway(
    kind: Kind, house: House, gateway: Gateway, parrot: Parrot, rng: random.Random, count: Count
) -> None:
    reply = house.reply(kind)
    if not reply.partition(b"\r\n\r\n")[2]:
        reply = reply.replace(b"Content-Length: 0", b"Content-Length: 1") + b"."  # so that there is something to be cut
    count("cuts at the gateway", cut_everywhere(gateway, parrot, reply, places_in(reply, rng), changes=kind.changes))


def test_a_reply_in_chunks_is_whole_only_with_its_last_chunk(gateway: Gateway, parrot: Parrot, count: Count) -> None:
    body = b"".join(b"%x\r\n%b\r\n" % (len(text), text) for text in (b"Subject: one\r\n\r\n", b"text " * 30))
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n" + body + b"0\r\n\r\n"
    count("cuts at the gateway", cut_everywhere(gateway, parrot, reply, range(len(reply)), changes=False))


@pytest.mark.parametrize("changes", [True, False])
def test_a_reply_whose_end_cannot_be_told_from_a_cut_is_not_taken(gateway: Gateway, parrot: Parrot, changes: bool) -> None:
    parrot.says = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nConnection: close\r\n\r\nSubject: half a mess"
    parrot.resets = False
    with pytest.raises(Unknown if changes else Transient):
        gateway.send("POST", parrot.url, is_write=changes)


@pytest.mark.parametrize(
    ("ends", "chosen"), [(2, 4), pytest.param(ENDS, CHOSEN, marks=pytest.mark.soak)], ids=["some", "as many as ever"]
)
def test_no_cut_of_a_large_message_gets_through(
    house: House, gateway: Gateway, parrot: Parrot, rng: random.Random, count: Count, ends: int, chosen: int
) -> None:
    person, letter = house.api.person, deliver(house.world, [house.api.person], LARGE)
    mime = letter.copy(house.world, person).mime
    reply = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(mime) + mime
    places = places_in(reply, rng, ends=ends, chosen=chosen)
    count("cuts at the gateway", cut_everywhere(gateway, parrot, reply, places, changes=False))


# Whole saves


def telling(reply: bytes, rng: random.Random) -> list[int]:
    """Return places of every sort: in status line, head and body and at their ends, and one by chance."""
    line, head, end = reply.index(b"\r\n"), reply.index(b"\r\n\r\n") + 4, len(reply)
    return sorted({0, 9, line, head - 1, min(head, end - 1), end - 1, rng.randrange(end)})


def cut_at(house: House, kind: Kind, place: int) -> None:
    letter = house.letter(kind, FILES)
    call = house.cut(kind, Knife(kind, lambda own: min(place, len(own) - 1)), letter)
    house.see_through(letter, call)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_save_with_a_cut_reply_ends_as_one_activity(
    kind: Kind, house: House, told: None, rng: random.Random, count: Count
) -> None:
    places = telling(house.reply(kind), rng)
    for place in places:
        cut_at(house, kind, place)
    count("saves with a cut reply", len(places))


@pytest.mark.soak
def test_a_save_whose_activity_is_confirmed_up_to_any_byte_ends_as_one_activity(
    house: House, told: None, rng: random.Random, count: Count
) -> None:
    kind = next(kind for kind in KINDS if kind.name == "activity")
    places = places_in(house.reply(kind), rng)
    for place in places:
        cut_at(house, kind, place)
    count("saves with a cut reply", len(places))


@pytest.mark.parametrize("always", [False, True], ids=["once", "again and again"])
def test_a_large_message_whose_download_is_cut_is_saved_whole_or_not_at_all(
    house: House, told: None, rng: random.Random, count: Count, always: bool
) -> None:
    kind = next(kind for kind in KINDS if kind.name == "message")
    letter = deliver(house.world, [house.api.person], LARGE)
    call = house.cut(kind, Knife(kind, lambda own: rng.randrange(len(own)), always=always), letter)
    assert call.outcome == ("lost" if always else "saved")
    house.see_through(letter, call)
    count("saves with a cut reply", 1)


def test_a_large_file_whose_answer_is_cut_is_there_once(house: House, told: None, rng: random.Random, count: Count) -> None:
    kind = next(kind for kind in KINDS if kind.name == "file")
    letter = deliver(house.world, [house.api.person], LARGE)
    call = house.cut(kind, Knife(kind, lambda own: rng.randrange(len(own))), letter)
    assert call.outcome == "accepted"
    house.see_through(letter, call)
    count("saves with a cut reply", 1)
