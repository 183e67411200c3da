"""A save ends as one activity with the right mark, wherever its process is killed.

An undisturbed save is watched first: its requests to the vendors and its commits are the points at which a save can be killed,
each before the step acts and after it acted, and for requests that write also so that the vendor acts only when the process is
dead. Then a dozen people save at once, each one's save stands still at another point, and the server is killed with SIGKILL and
started again. If nothing had been promised yet, the person saves again.
"""

import random
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
import pytest

from simulator import demo
from simulator.ports import Simulator
from simulator.world import Person, World
from tests.api import Item, link, row_of
from tests.exactly_one.checker import SAVED, Call, Checker
from tests.exactly_one.letters import Letter, deliver
from tests.exactly_one.steps import CallGate, Moment, PostgresRelay, Steps
from tests.processes import Installed, eventually

PEOPLE = 12
SETTLED_S = 60.0  # promised: after so long at the latest the marks are right
FILES = {"one.zip": 1_600_000, "two.zip": 1_600_000, "three.csv": 100}  # more than goes along with the activity in one request
ALONE = {"SSI_WORKER_THREADS": "0", "SSI_THREADS": str(PEOPLE + 4)}  # nobody else works while the saves stand still
BACK = {"SSI_WORKER_THREADS": "2", "SSI_THREADS": "8"}


@dataclass(frozen=True)
class Point:
    number: int  # of the step
    name: str
    moment: Moment

    def __str__(self) -> str:
        return f"{self.number:2} {self.moment:6} {self.name}"


@dataclass
class Site:
    """The product in processes of its own, its vendors and its database, and a dozen people."""

    installed: Installed
    steps: Steps
    checker: Checker
    database: str = ""  # libpq address of PostgreSQL, past the relay
    slowest_s: float = 0.0  # from restart to the right marks
    pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(PEOPLE))

    @property
    def world(self) -> World:
        return self.installed.simulator.world

    @property
    def people(self) -> list[Person]:
        return self.world.people[:PEOPLE]

    def links(self) -> list[dict[str, str]]:
        contact = row_of(self.world, "ContactCollection", Email=sender(self.world))
        account = row_of(self.world, "CorporateAccountCollection", AccountID=contact["AccountID"])
        opportunity = row_of(self.world, "OpportunityCollection", Name="Second production line")
        return [link("contact", contact), link("account", account), link("opportunity", opportunity)]

    def save(self, person: Person, letter: Letter, **wish: Any) -> tuple[Call, httpx.Response]:
        links = wish.pop("links", self.links())
        files = None if "attachments" not in wish else ()
        call = self.checker.asked(person, letter, links, files)
        body = {"item": letter.item(self.world, person), "links": links, **wish}
        answer = self.installed.send(person, "POST", "/saves", body)
        self.checker.answered(call, answer.status_code, answer.json())
        return call, answer

    def start_cold(self) -> None:
        """Start a server that knows nobody: no tokens, no categories in the mailboxes, nobody else at work."""
        self.installed.kill()
        if self.database:
            with psycopg.connect(self.database) as connection:
                connection.execute("DELETE FROM connection")
        for person in self.people:
            mailbox = self.world.mailbox(person.email)
            mailbox.categories = {one: c for one, c in mailbox.categories.items() if c.name in OWN}
        self.installed.serve(**ALONE)

    def state(self, person: Person, item: Item) -> str:
        answer = self.installed.send(person, "POST", "/context", {"item": item})
        return str(answer.json()["save"]["state"]) if answer.status_code == 200 else ""


OWN = {name for name, _ in demo.OWN_CATEGORIES}


def sender(world: World) -> str:
    owner, ref = world.cases["known_contact"]
    mailbox = world.mailbox(owner)
    return str(demo.item(mailbox, mailbox.messages[ref])["from"]["address"])


Prepare = Callable[[Site, Person], tuple[Letter, dict[str, Any]]]
"""Brings about what is there before the save that will be killed; returns the message and what is wished."""


def nothing_yet(site: Site, person: Person) -> tuple[Letter, dict[str, Any]]:
    return deliver(site.world, [person], FILES), {}


def saved_in_part(site: Site, person: Person) -> tuple[Letter, dict[str, Any]]:
    """The activity is there with one link; the rest is wished later."""
    letter = deliver(site.world, [person], FILES)
    _, answer = site.save(person, letter, links=site.links()[:1], attachments=[])
    assert answer.status_code == 201
    return letter, {}


def points_of(site: Site, prepare: Prepare) -> list[Point]:
    """Watch an undisturbed save; return where it can be killed."""
    site.start_cold()
    person = site.people[0]
    letter, wish = prepare(site, person)
    site.steps.begin(person.email)
    _, answer = site.save(person, letter, **wish)
    assert answer.status_code in (200, 201), answer.text
    points = []
    for number, name in enumerate(site.steps.seen(person.email)):
        moments: list[Moment] = ["before", "after", *(["late"] if name.startswith("c4c POST EMail") else [])]
        points += [Point(number, name, moment) for moment in moments]
    return points


def kill_at(site: Site, points: Sequence[Point], prepare: Prepare) -> None:
    """Kill one server in the middle of as many saves as there are points, and see all of them through."""
    steps = site.steps
    site.start_cold()
    cases = []
    for person, point in zip(site.people, points, strict=False):
        letter, wish = prepare(site, person)
        cases.append((person, point, letter, wish))
    for person, *_ in cases:
        steps.begin(person.email)
    stands = [steps.stand_at(person.email, point.number, point.moment) for person, point, *_ in cases]
    saves = [site.pool.submit(site.save, person, letter, **wish) for person, _, letter, wish in cases]
    for stand, (person, point, *_) in zip(stands, cases, strict=True):
        assert stand.reached.wait(30), f"{point}: the save of {person.user_id} went {steps.seen(person.email)}"
        assert steps.seen(person.email)[point.number] == point.name
    site.installed.kill()
    steps.clear()
    for stand in stands:
        stand.let_go.set()
    for save in saves:
        assert isinstance(save.exception(20), httpx.TransportError)
    site.installed.serve(**BACK)
    started = time.monotonic()
    for person, point, letter, wish in cases:
        see_through(site, person, letter, wish, point)
    site.slowest_s = max(site.slowest_s, time.monotonic() - started)


def see_through(site: Site, person: Person, letter: Letter, wish: dict[str, Any], point: Point) -> None:
    item = letter.item(site.world, person)
    found = eventually(lambda: site.state(person, item))
    if found == "none" or (found == "saved" and not is_whole(site, letter)):  # nothing had been promised
        call, answer = site.save(person, letter, **wish)
        assert answer.status_code in (200, 201, 202), f"{point}: {answer.text}"
    eventually(lambda: SAVED in letter.copy(site.world, person).categories and site.state(person, item) == "saved", SETTLED_S)
    _, again = site.save(person, letter, **wish)
    assert again.status_code == 200, f"{point}: {again.text}"
    site.checker.check(letter, settled=True)


def is_whole(site: Site, letter: Letter) -> bool:
    living = site.checker.living(letter)
    return bool(living) and set(living[0].files) == set(letter.files) and len(living[0].links) == len(site.links())


def dealt(points: Sequence[Point], rng: random.Random) -> Iterator[list[Point]]:
    """Deal the points so that neighbours, which wait for the same things, are killed in different groups."""
    hands = -(-len(points) // PEOPLE)
    for hand in range(hands):
        yield list(points[hand::hands])


@pytest.fixture(scope="module")
def vendors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Simulator]:
    with Simulator(demo.small(people=PEOPLE), tmp_path_factory.mktemp("vendors")) as simulator:
        yield simulator


@pytest.fixture
def steps(vendors: Simulator) -> Iterator[Steps]:
    steps = Steps()
    vendors.world.gate = CallGate(vendors.world, steps)
    yield steps
    vendors.world.gate = None


@pytest.fixture
def on_postgres(vendors: Simulator, steps: Steps, postgres_server: str, tmp_path: Any, seed: int) -> Iterator[Site]:
    name = f"kills_{random.getrandbits(64):x}"
    plain = postgres_server.replace("+psycopg", "")
    with psycopg.connect(plain, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    address, _, _ = plain.rpartition("/")
    port = int(address.rpartition(":")[2])
    with PostgresRelay(port, steps) as relay:
        relayed = f"postgresql+psycopg://postgres@127.0.0.1:{relay.port}/{name}?sslmode=disable&gssencmode=disable"
        with Installed(vendors, tmp_path, relayed) as installed:
            with psycopg.connect(f"{address}/{name}") as connection:
                users = connection.execute('SELECT id, tenant_id, email, c4c_user_id FROM "user"').fetchall()
            owners = {one: email for user_id, _, email, c4c_user in users for one in (user_id, c4c_user)}
            relay.know(owners, {tenant for _, tenant, *_ in users})
            yield Site(installed, steps, Checker(vendors.world, seed=seed), f"{address}/{name}")


def kill_everywhere(site: Site, points: Sequence[Point], prepare: Prepare, rng: random.Random) -> None:
    for hand in dealt(points, rng):
        kill_at(site, hand, prepare)


def test_a_first_save_killed_at_any_step_ends_as_one_activity(
    on_postgres: Site, rng: random.Random, count: Callable[[str, int], None]
) -> None:
    points = points_of(on_postgres, nothing_yet)
    print(*points, sep="\n")
    kill_everywhere(on_postgres, points, nothing_yet, rng)
    count("kill points", len(points))
    print(f"{len(points)} points; right marks at most {on_postgres.slowest_s:.1f} s after restart; {on_postgres.checker.tally}")
    assert on_postgres.slowest_s < SETTLED_S
    assert len(points) >= 25
