"""What answers nobody keeps nobody waiting for long: neither its own people, nor those of other tenants."""

import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any

import pytest
from apiflask import APIFlask
from werkzeug.test import TestResponse

from server import wiring
from server.config import Settings
from server.errors import Transient
from server.services import Background, Deps, provisioning
from server.transport import BREAKS_AFTER, REST_S, Breaker
from server.web import create_app
from simulator.ports import Simulator
from simulator.world import World
from tests.api import Api, Item

DEADLINE_S = 10.0
OTHER_TENANT = "aaaaaaaa-1111-4222-8333-bbbbbbbbbbbb"


@dataclass
class Peer:
    """What a breaker stands before, with a clock that only its answers move."""

    takes_s: float = 0.0
    answers: bool = True
    asked: int = 0
    time_s: float = 1000.0

    def __post_init__(self) -> None:
        self.breaker = Breaker("It", clock=lambda: self.time_s)

    def call(self) -> str:
        try:
            with self.breaker.calling(DEADLINE_S):
                self.asked += 1
                self.time_s += self.takes_s
                if not self.answers:
                    raise ConnectionError
        except ConnectionError:
            return "failed"
        except Transient:
            return "not asked"
        return "answered"

    def fall_silent(self) -> None:
        self.takes_s, self.answers = DEADLINE_S, False
        assert [self.call() for _ in range(BREAKS_AFTER)] == ["failed"] * BREAKS_AFTER


def test_after_some_calls_in_vain_a_peer_is_not_asked_until_it_had_its_rest() -> None:
    peer = Peer()
    peer.fall_silent()
    assert [peer.call() for _ in range(100)] == ["not asked"] * 100
    peer.time_s += REST_S - 1
    assert peer.call() == "not asked"
    peer.time_s += 1
    assert [peer.call() for _ in range(3)] == ["failed", "not asked", "not asked"]
    peer.time_s += REST_S
    peer.answers, peer.takes_s = True, 0.1
    assert [peer.call() for _ in range(3)] == ["answered"] * 3


def test_who_is_not_asked_is_told_how_long_that_lasts() -> None:
    peer = Peer()
    peer.fall_silent()
    peer.time_s += 10
    with pytest.raises(Transient) as refused, peer.breaker.calling(DEADLINE_S):
        pytest.fail("it was asked")
    assert refused.value.retry_after_s == REST_S - 10


def test_only_one_call_finds_out_whether_a_peer_answers_again() -> None:
    peer = Peer()
    peer.fall_silent()
    peer.time_s += REST_S
    with peer.breaker.calling(DEADLINE_S):
        assert [peer.call() for _ in range(3)] == ["not asked"] * 3
    peer.answers = True
    assert peer.call() == "answered"


def test_a_call_that_found_out_nothing_leaves_it_to_the_next() -> None:
    """As one that was given up before it was sent."""
    peer = Peer()
    peer.fall_silent()
    peer.time_s += REST_S
    peer.takes_s = 0.1
    assert [peer.call(), peer.call()] == ["failed", "failed"]


def test_a_call_that_never_came_to_an_end_does_not_keep_a_peer_shut_for_ever() -> None:
    peer = Peer()
    peer.fall_silent()
    peer.time_s += REST_S
    with peer.breaker.calling(DEADLINE_S):
        peer.time_s += DEADLINE_S
        peer.answers = True
        assert peer.call() == "answered"


def test_an_answer_now_and_then_is_enough() -> None:
    peer = Peer()
    for _ in range(5):
        peer.takes_s, peer.answers = DEADLINE_S, False
        assert [peer.call() for _ in range(BREAKS_AFTER - 1)] == ["failed"] * (BREAKS_AFTER - 1)
        peer.answers = True
        assert peer.call() == "answered"


def test_what_fails_at_once_is_asked_again_and_again() -> None:
    """A server that refuses connections keeps no thread, and is to be found as soon as it is back."""
    peer = Peer(takes_s=0.1, answers=False)
    assert [peer.call() for _ in range(50)] == ["failed"] * 50


def test_nobody_has_more_of_the_threads_than_their_share() -> None:
    background, opened = Background(ThreadPoolExecutor(4), share=2), threading.Event()
    held = [background.submit("one", opened.wait, 20) for _ in range(2)]
    with pytest.raises(Transient):
        background.submit("one", opened.wait, 20)
    assert background.submit("other", str, 7).result(20) == "7"
    opened.set()
    assert [future.result(20) for future in held] == [True, True]
    background.submit("one", str, 7).result(20)
    background.shutdown()


def test_work_that_finds_no_thread_takes_no_share() -> None:
    background = Background(ThreadPoolExecutor(1), share=2)
    background.shutdown()
    for _ in range(3):
        with pytest.raises(RuntimeError):
            background.submit("one", str, 7)


class Silence:
    """A C4C that takes every connection and says nothing."""

    def __init__(self) -> None:
        self.visitors: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=500)
        self.url = f"https://localhost:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._take, daemon=True).start()

    def _take(self) -> None:
        with suppress(OSError):
            while True:
                self.visitors.append(self._listener.accept()[0])

    def end(self) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for visitor in self.visitors:
            visitor.close()


@pytest.fixture
def silence() -> Iterator[Silence]:
    silence = Silence()
    yield silence
    silence.end()


@dataclass(frozen=True)
class Neighbour:
    """Somebody of the tenant whose C4C is silent, at a process of the product."""

    app: APIFlask
    token: str
    like: Item

    def look_up(self, address: str) -> TestResponse:
        item = {**self.like, "internet_message_id": f"<{address}>", "from": {"name": "", "address": address}}
        return self.app.test_client().post("/api/context", headers={"Authorization": f"Bearer {self.token}"}, json={"item": item})


@pytest.fixture
def neighbour(
    settings: Settings, simulator: Simulator, world: World, silence: Silence
) -> Iterator[Callable[..., tuple[Neighbour, Api]]]:
    """Compose the product with these settings; give somebody whose tenant's C4C is silent, and the first person of ours."""
    made: list[Deps] = []

    def compose(**values: Any) -> tuple[Neighbour, Api]:
        deps = wiring.build(replace(settings, **values), now=world.now)
        made.append(deps)
        ours_is, world.entra_tenant = world.entra_tenant, OTHER_TENANT
        document = simulator.provisioning()
        world.entra_tenant = ours_is
        document["tenant"]["name"] = "elsewhere"
        document["tenant"]["c4c"] |= {"url": f"{silence.url}/odata/", "token_url": f"{silence.url}/token"}
        provisioning.provision(deps, document)
        app, person = create_app(deps, wiring.face(settings)), world.people[0]
        issuer = f"{simulator.identity.url}/{OTHER_TENANT}/v2.0"
        token = simulator.provider.mint_api_token(world, person, tid=OTHER_TENANT, iss=issuer)
        ours = Api(app, simulator, person)
        ours.learn_keys()
        return Neighbour(app, token, ours.item("known_contact")), ours

    yield compose
    silence.end()
    for deps in made:
        deps.background.shutdown()
        deps.store.close()


def test_a_c4c_that_answers_nobody_is_left_alone_and_its_people_are_told_at_once(
    neighbour: Callable[..., tuple[Neighbour, Api]], silence: Silence
) -> None:
    theirs, ours = neighbour(c4c_timeout_s=0.2)
    answers = [theirs.look_up(f"person{n}@example.com") for n in range(BREAKS_AFTER)]
    assert [answer.status_code for answer in answers] == [503] * BREAKS_AFTER
    asked = len(silence.visitors)
    for n in range(50):
        refused = theirs.look_up(f"other{n}@example.com")
        assert refused.status_code == 503
        assert 0 < int(refused.headers["Retry-After"]) <= REST_S
    assert len(silence.visitors) == asked
    assert ours.context("known_contact")["cards"]


def test_while_one_c4c_keeps_everybody_waiting_the_people_of_others_are_answered(
    neighbour: Callable[..., tuple[Neighbour, Api]], silence: Silence
) -> None:
    theirs, ours = neighbour(c4c_timeout_s=20.0, context_deadline_s=0.5, threads=2)
    with ThreadPoolExecutor(8) as people:
        answers = list(people.map(theirs.look_up, (f"person{n}@example.com" for n in range(40))))
    assert {answer.status_code for answer in answers} == {503}
    assert silence.visitors
    assert ours.context("known_contact")["cards"]
    assert ours.save(ours.item("known_contact")).status_code == 201
