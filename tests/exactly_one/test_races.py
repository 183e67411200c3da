"""Many at once: one message, four processes on one PostgreSQL, two people who do not wait for each other."""

import random
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import pytest

from simulator import demo
from simulator.ports import Simulator
from simulator.world import Person, World
from tests.api import link, row_of
from tests.conftest import new_database
from tests.exactly_one.checker import Call, Checker, Tally
from tests.exactly_one.letters import Letter, deliver
from tests.processes import Installed, eventually

PROCESSES = 4
AT_ONCE = 100
PRESSES = 20  # of one person for one save, at most
FILES = {"one.pdf": 3000, "two.csv": 100}
ENVIRONMENT = {"SSI_THREADS": "16", "SSI_WORKER_THREADS": "1", "SSI_LEASE_S": "10", "SSI_UNKNOWN_SETTLE_S": "5"}

Count = Callable[[str, int], None]


@dataclass
class Crowd:
    """Two people and the installation they share."""

    installed: Installed
    checker: Checker
    pool: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, AT_ONCE))

    @property
    def world(self) -> World:
        return self.installed.simulator.world

    @property
    def people(self) -> list[Person]:
        return self.world.people[:2]

    def links(self) -> list[dict[str, str]]:
        account = row_of(self.world, "CorporateAccountCollection", Email="info@harrowgate-pumps.example")
        opportunity = row_of(self.world, "OpportunityCollection", Name="Second production line")
        ticket = row_of(self.world, "ServiceRequestCollection", Name="Seal of pump 7 leaks")
        return [link("account", account), link("opportunity", opportunity), link("ticket", ticket)]

    def letter(self) -> Letter:
        return deliver(self.world, self.people, FILES)

    def save(self, person: Person, letter: Letter, links: list[dict[str, str]], *, after_s: float = 0.0) -> tuple[Call, Any]:
        """Press Save, after a while, and again after each pause that a mailbox asks for which is called too often at once."""
        body = {"item": letter.item(self.world, person), "links": links}
        for _ in range(PRESSES):
            time.sleep(after_s)
            call = self.checker.asked(person, letter, links)
            answer = self.installed.send(person, "POST", "/saves", body)
            self.checker.answered(call, answer.status_code, answer.json())
            if answer.status_code != 503:
                break
            after_s = float(answer.headers["Retry-After"])
        return call, answer

    def settle(self, *letters: Letter) -> None:
        """Wait until nothing is left to be done, and judge."""

        def is_settled() -> bool:
            return all(self.checker.is_settled(letter) for letter in letters)

        eventually(is_settled, 60)
        self.checker.check(*letters, settled=True)
        assert all(len(self.checker.living(letter)) == 1 for letter in letters)


@pytest.fixture(scope="module")
def crowd(postgres_server: str, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Crowd]:
    database = new_database(postgres_server, f"races_{uuid.uuid4().hex}")
    with (
        Simulator(demo.small(), tmp_path_factory.mktemp("vendors")) as simulator,
        Installed(simulator, tmp_path_factory.mktemp("installed"), database) as installed,
    ):
        installed.serve(processes=PROCESSES, **ENVIRONMENT)
        yield Crowd(installed, Checker(simulator.world, seed=request.config.getoption("randomly_seed")))


@pytest.fixture(autouse=True)
def _told(crowd: Crowd, tell: Callable[[Tally], None]) -> None:
    tell(crowd.checker.tally)


def race(crowd: Crowd, count: Count) -> None:
    """Let two people, who wish different links, press Save a hundred times at once."""
    letter, links, people = crowd.letter(), crowd.links(), crowd.people
    wishes = [(people[0], links[:2]), (people[1], links[1:])]
    calls = [crowd.pool.submit(crowd.save, person, letter, wish) for person, wish in wishes * (AT_ONCE // 2)]
    answers = [call.result() for call in calls]
    assert {answer.status_code for _, answer in answers} <= {200, 201, 202}
    for person in people:
        assert len({answer.json()["id"] for call, answer in answers if call.person == person}) == 1
    crowd.settle(letter)
    (life,) = crowd.checker.living(letter)
    assert len(life.links) == len(links)
    count("saves at once", AT_ONCE)


def test_a_hundred_saves_of_one_message_make_one_activity(crowd: Crowd, count: Count) -> None:
    race(crowd, count)


@pytest.mark.soak
def test_a_hundred_saves_at_once_again_and_again(crowd: Crowd, count: Count) -> None:
    for _ in range(3):
        race(crowd, count)


@pytest.mark.parametrize("rounds", [10, pytest.param(60, marks=pytest.mark.soak)])
def test_a_double_click_is_one_save(crowd: Crowd, rng: random.Random, count: Count, rounds: int) -> None:
    me, links = crowd.people[0], crowd.links()
    for _ in range(rounds):
        letter = crowd.letter()
        second = crowd.pool.submit(crowd.save, me, letter, links, after_s=rng.uniform(0, 0.05))
        first = crowd.save(me, letter, links)
        assert {first[0].outcome, second.result()[0].outcome} <= {"saved", "accepted"}
        assert first[1].json()["id"] == second.result()[1].json()["id"]
        crowd.settle(letter)
    count("double clicks", rounds)


@pytest.mark.parametrize("rounds", [5, pytest.param(30, marks=pytest.mark.soak)])
def test_a_colleagues_links_join_the_save_that_is_under_way(crowd: Crowd, rng: random.Random, count: Count, rounds: int) -> None:
    (me, colleague), links = crowd.people, crowd.links()
    for _ in range(rounds):
        letter = crowd.letter()
        joined = crowd.pool.submit(crowd.save, colleague, letter, links[1:], after_s=rng.uniform(0, 0.3))
        mine = crowd.save(me, letter, links[:1])
        assert {mine[0].outcome, joined.result()[0].outcome} <= {"saved", "accepted"}
        crowd.settle(letter)
        (life,) = crowd.checker.living(letter)
        assert len(life.links) == len(links)
    count("saves that a colleague joined", rounds)
