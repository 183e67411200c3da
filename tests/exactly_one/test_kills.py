"""A save ends as one activity with the right mark, wherever its process is killed.

An undisturbed save is watched first: its requests to the vendors and its commits are the points at which a save can be killed,
each before the step acts and after it acted, and for requests that write also so that the vendor acts only when the process is
dead. Then a dozen people save at once, each one's save stands still at another point, and the server is killed with SIGKILL and
started again. If nothing had been promised yet, the person saves again.
"""

import re
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa

from simulator import demo
from simulator.c4c.odata import SERVICE
from simulator.ports import Simulator
from simulator.world import Gate, Person, World
from tests.api import Item, link, row_of
from tests.conftest import new_database
from tests.exactly_one.checker import SAVED, Call, Checker, Tally
from tests.exactly_one.letters import Letter, deliver
from tests.exactly_one.steps import EVERYBODY, CallGate, Moment, PostgresRelay, Steps
from tests.processes import Installed, eventually

PEOPLE = 14
AT_C4C = 7  # may stand there at once, since a process keeps so many calls to a tenant under way, and one more
SETTLED_S = 60.0  # promised: after so long at the latest the marks are right
FILES = {"one.pdf": 3000, "two.csv": 100}
# Nobody else works while the saves stand still. A lease that has always run out is renewed, by a commit, whenever it can be.
ALONE = {"SSI_WORKER_THREADS": "0", "SSI_THREADS": str(PEOPLE + 4), "SSI_LEASE_S": "0.001"}
BACK = {"SSI_WORKER_THREADS": "2", "SSI_THREADS": "8"}


@dataclass(frozen=True)
class Point:
    number: int  # of the step
    name: str
    moment: Moment
    is_common: bool = False  # of EVERYBODY, not of the person who saves

    def whose(self, person: Person) -> str:
        return EVERYBODY if self.is_common else person.email

    def __str__(self) -> str:
        return f"{self.number:2} {self.moment:6} {self.name}"


@dataclass
class Site:
    """The product in processes of its own, its vendors and its database, and its people."""

    installed: Installed
    steps: Steps
    checker: Checker
    database: str  # its URL, past the relay
    relay: PostgresRelay | None = None
    slowest_s: float = 0.0  # from restart to the right marks
    pool: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, PEOPLE))

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

    def deliver(self, person: Person) -> Letter:
        letter = deliver(self.world, [person], FILES)
        if self.relay is not None:
            self.relay.know({letter.key: person.email})
        return letter

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
        self.sql("DELETE FROM save_request")
        self.sql("DELETE FROM connection")
        for person in self.people:
            mailbox = self.world.mailbox(person.email)
            mailbox.categories = {one: c for one, c in mailbox.categories.items() if c.name in OWN}
        self.installed.serve(**ALONE)

    def sql(self, statement: str) -> list[Any]:
        engine = sa.create_engine(self.database, poolclass=sa.NullPool)
        with engine.begin() as connection:
            result = connection.execute(sa.text(statement))
            return list(result) if result.returns_rows else []

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
    return site.deliver(person), {}


def saved_in_part(site: Site, person: Person) -> tuple[Letter, dict[str, Any]]:
    """The activity is there with one link; the rest is wished later."""
    letter = site.deliver(person)
    _, answer = site.save(person, letter, links=site.links()[:1], attachments=[])
    assert answer.status_code == 201
    return letter, {}


def points_of(site: Site, prepare: Prepare, *, common: bool = False) -> list[Point]:
    """Watch an undisturbed save; return where it can be killed."""
    site.start_cold()
    person = site.people[0]
    letter, wish = prepare(site, person)
    for whose in (person.email, EVERYBODY):
        site.steps.begin(whose)
    _, answer = site.save(person, letter, **wish)
    assert answer.status_code in (200, 201), answer.text
    points = []
    for number, name in enumerate(site.steps.seen(EVERYBODY if common else person.email)):
        moments: list[Moment] = ["before", "after", *(["late"] if re.match(r"c4c POST (EMail|\$batch)", name) else [])]
        points += [Point(number, name, moment, common) for moment in moments]
    return points


def kill_at(site: Site, points: Sequence[Point], prepare: Prepare) -> None:
    """Kill one server in the middle of as many saves as there are points, and see all of them through."""
    steps = site.steps
    site.start_cold()
    cases = []
    for person, point in zip(site.people, points, strict=False):
        letter, wish = prepare(site, person)
        cases.append((person, point, letter, wish))
    for person, point, *_ in cases:
        steps.begin(point.whose(person))
    stands = [steps.stand_at(point.whose(person), point.number, point.moment) for person, point, *_ in cases]
    saves = [site.pool.submit(site.save, person, letter, **wish) for person, _, letter, wish in cases]
    for stand, (person, point, *_) in zip(stands, cases, strict=True):
        assert stand.reached.wait(30), f"{point}: the save of {person.user_id} went {steps.seen(point.whose(person))}"
        seen = steps.seen(point.whose(person))
        assert seen[point.number] == point.name, f"{point}: the save of {person.user_id} went {seen}"
    site.installed.kill()
    steps.clear()
    for stand in stands:
        stand.let_go.set()
    for save in saves:
        assert isinstance(save.exception(20), httpx.TransportError)
    site.installed.serve(**BACK)
    started = time.monotonic()
    for end in [site.pool.submit(see_through, site, person, letter, wish, point) for person, point, letter, wish in cases]:
        end.result()
    site.slowest_s = max(site.slowest_s, time.monotonic() - started)


def see_through(site: Site, person: Person, letter: Letter, wish: dict[str, Any], point: Point) -> None:
    item = letter.item(site.world, person)
    found = eventually(lambda: site.state(person, item))
    if found == "none" or (found == "saved" and not is_whole(site, letter)):  # nothing had been promised
        _call, answer = site.save(person, letter, **wish)
        assert answer.status_code in (200, 201, 202), f"{point}: {answer.text}"
    eventually(lambda: SAVED in letter.copy(site.world, person).categories and site.state(person, item) == "saved", SETTLED_S)
    site.checker.check(letter, settled=True)


def is_whole(site: Site, letter: Letter) -> bool:
    living = site.checker.living(letter)
    return bool(living) and set(living[0].files) == set(letter.files) and len(living[0].links) == len(site.links())


def dealt(points: Sequence[Point]) -> Iterator[list[Point]]:
    """Deal the points to as few groups as there are people and places at C4C for.

    Those of the sign-in to the mailbox come first and together: who dies there leaves a lease that must run out. The others are
    dealt so that neighbours, which wait for the same things, are killed in different groups.
    """
    signed_in = min((point.number for point in points if point.name.startswith("graph ")), default=0)
    early = [point for point in points if point.number < signed_in]
    later = sorted((point for point in points if point.number >= signed_in), key=lambda point: point.name.startswith("c4c "))
    for some in (early, later):
        at_c4c = sum(point.name.startswith("c4c ") for point in some)
        hands = max(-(-len(some) // PEOPLE), -(-at_c4c // AT_C4C))
        yield from (some[hand::hands] for hand in range(hands))


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
def checker(vendors: Simulator, seed: object, tell: Callable[[Tally], None]) -> Checker:
    checker = Checker(vendors.world, seed=seed)
    tell(checker.tally)
    return checker


@pytest.fixture
def on_postgres(vendors: Simulator, steps: Steps, checker: Checker, postgres_server: str, tmp_path: Path) -> Iterator[Site]:
    database = new_database(postgres_server, f"kills_{uuid.uuid4().hex}")
    url = sa.make_url(database)
    with PostgresRelay(url.port or 0, steps) as relay:
        readable = {"sslmode": "disable", "gssencmode": "disable"}
        relayed = url.set(port=relay.port, query=readable).render_as_string(hide_password=False)
        with Installed(vendors, tmp_path, relayed) as installed:
            site = Site(installed, steps, checker, database, relay)
            users = site.sql('SELECT id, tenant_id, email, c4c_user_id FROM "user"')
            owners = {one: email for user_id, _, email, c4c_user in users for one in (user_id, c4c_user)}
            relay.know(owners, {tenant for _, tenant, *_ in users})
            yield site


@pytest.fixture
def on_sqlite(vendors: Simulator, steps: Steps, checker: Checker, tmp_path: Path) -> Iterator[Site]:
    with Installed(vendors, tmp_path) as installed:
        yield Site(installed, steps, checker, installed.environment["SSI_DATABASE_URL"])


Count = Callable[[str, int], None]


def kill_everywhere(site: Site, points: Sequence[Point], prepare: Prepare, count: Count) -> None:
    print(*points, sep="\n")
    for group in dealt(points):
        kill_at(site, group, prepare)
    print(f"{len(points)} points; right marks at most {site.slowest_s:.1f} s after restart; {site.checker.tally}")
    assert site.slowest_s < SETTLED_S
    count("kill points", len(points))


@pytest.mark.parametrize("every", [3, pytest.param(1, marks=pytest.mark.soak)])
def test_a_first_save_killed_at_any_step_ends_as_one_activity(on_postgres: Site, count: Count, every: int) -> None:
    points = points_of(on_postgres, nothing_yet)
    assert len(points) >= 25
    kill_everywhere(on_postgres, points[::every], nothing_yet, count)


@pytest.mark.soak
def test_requests_that_serve_everybody_may_be_the_last(on_postgres: Site, count: Count) -> None:
    points = points_of(on_postgres, nothing_yet, common=True)
    assert {point.name.split("/", 2)[2] for point in points} >= {"discovery/v2.0/keys", "v2.0/.well-known/openid-configuration"}
    for point in points:
        kill_at(on_postgres, [point], nothing_yet)
    count("kill points", len(points))


@pytest.mark.soak
def test_any_step_of_adding_to_an_activity_may_be_the_last(on_postgres: Site, count: Count) -> None:
    kill_everywhere(on_postgres, points_of(on_postgres, saved_in_part), saved_in_part, count)


@pytest.mark.soak
def test_an_installation_on_sqlite_outlives_a_kill_at_any_request(on_sqlite: Site, count: Count) -> None:
    kill_everywhere(on_sqlite, points_of(on_sqlite, nothing_yet), nothing_yet, count)


def test_it_converges_also_when_only_a_worker_comes_back(on_sqlite: Site) -> None:
    site, person = on_sqlite, on_sqlite.people[0]
    site.start_cold()
    letter, _ = nothing_yet(site, person)
    site.world.gate = gate = Gate(acted=True, match=f"c4c POST {SERVICE}EMailCollection")
    save = site.pool.submit(site.save, person, letter)
    assert gate.reached.wait(20)
    site.installed.kill()
    gate.open()
    assert isinstance(save.exception(20), httpx.TransportError)
    site.installed.work()
    eventually(lambda: SAVED in letter.copy(site.world, person).categories, SETTLED_S)
    site.checker.check(letter, settled=True)
    assert len(site.checker.living(letter)) == 1
