"""What sessions of the sync engine cost: requests beside the fewest the protocols allow, time, and whose the time is.

Why these are the fewest:

- An idle session asks each side once whether something changed: Graph's delta links and C4C's four collections each fit in one
  $batch; Exchange has one GetEvents; Google has its messages and its contacts in two services.
- A first session of 4,500 contacts that C4C has and the mailbox does not: C4C gives a thousand rows of a collection at a time,
  the first of them together with the question for the other types, so five. A contact has to be sent to be there: Graph takes 20
  in a $batch, 225 requests; Exchange up to 100 in a CreateItem, 45; Google 200 in a batchCreateContacts, 23. Before that the
  mailbox is asked which categories (labels) and folders it has, told to make the missing ones, and asked for its changes: of
  all folders in one $batch at Graph, 5 requests; at Exchange 5 (folders under two parents), and then each of seven folders has
  a sync state of its own, 12; at Google 5, if what can be is sent in batches, and 3 for mail, messages and contacts. And what
  was written comes back as changes, which nothing skips: pages of 1,000 at Graph and Google, 5; of 512 at Exchange, 9.

Sessions per second are those of idle mailboxes at Microsoft 365, by two `ssi worker` processes on Redis and PostgreSQL. The
simulator's Graph and C4C run on the same two cores as the workers and the database: whose CPU time it was is told, from
/proc/PID/stat, and "alone" is what the workers would do on two cores if nobody else were there.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from server import sync, wiring
from server.config import Settings
from server.domain.marks import mark_of, names_for
from server.services import Deps
from server.services.connections import identify, mailbox_connection, own_connection
from server.store import Connection, MailboxSync
from simulator import demo
from simulator.c4c.records import seed
from simulator.ports import HOOKS, Simulator
from simulator.world import AccessType, Person, World
from tests.bench.figures import CannotMeasure, Figure, median
from tests.bench.product import BUSY, Product, simulated
from tests.processes import SHORT, Installed, eventually
from tests.services import postgres, redis

CONTACTS = 4_500
MANY_CONTACTS = 45_000
MAILBOXES = 200
THREADS = 8  # sessions at a time of each worker
ROUNDS = 3
MARKS = 5
PATIENCE_S = 1800.0
VENDORS: dict[str, AccessType] = {"graph": "office365", "exchange": "exchange_direct", "google": "google"}
FEWEST_IDLE = {"graph": 1, "exchange": 1, "google": 2}
FEWEST_FIRST = {"graph": 5 + 225 + 5, "exchange": 12 + 45 + 9, "google": 8 + 23 + 5}
FEWEST_C4C = 5


def measure() -> Iterator[Figure]:
    yield from idle_requests()
    yield from throughput()
    yield from latency()
    for provider in VENDORS:
        yield from first_session(provider, CONTACTS)


def measure_growth() -> Iterator[Figure]:
    """Whether a first session's time grows as its contacts do. Takes long."""
    small, large = (_first(provider="graph", contacts=number) for number in (CONTACTS, MANY_CONTACTS))
    ratio = (large.seconds / MANY_CONTACTS) / (small.seconds / CONTACTS)
    how = f"seconds for each of {MANY_CONTACTS:,} contacts ({large.seconds:.0f} s) to {CONTACTS:,} ({small.seconds:.0f} s)"
    yield Figure("first_session_growth_ratio", round(ratio, 2), how, limit=1.3)
    yield Figure("first_session_45000_rss_mb", round(large.megabytes), "VmHWM of the worker", limit=200)


# Requests


def idle_requests() -> Iterator[Figure]:
    for provider, access_type in VENDORS.items():
        with _house(access_type) as (house, deps):
            connection = house.connect(deps, house.person)
            for _ in range(5):  # the first, and what follows from it
                row = house.session(deps, connection)
            if row.state != "done":
                raise CannotMeasure(f"The session at {provider} ended as {row.state}: {row.reason}")
            before = len(house.world.access)
            house.session(deps, connection)
            mail, c4c = house.requests(provider, before)
            fewest = FEWEST_IDLE[provider]
            how = f"{mail} to the mailbox (fewest {fewest}), {c4c} to C4C (fewest 1), tokens not counted"
            yield Figure(f"idle_session_requests_{provider}", mail + c4c, how, limit=3 if provider == "graph" else None)


@dataclass(frozen=True)
class First:
    """A first session: requests, time, and the most memory that the worker had."""

    mail: int
    c4c: int
    seconds: float
    megabytes: float


def first_session(provider: str, contacts: int) -> Iterator[Figure]:
    first, fewest = _first(provider, contacts), FEWEST_FIRST[provider] + FEWEST_C4C
    asked = first.mail + first.c4c
    how = f"{first.mail} to the mailbox (fewest {FEWEST_FIRST[provider]}), {first.c4c} to C4C (fewest {FEWEST_C4C})"
    yield Figure(f"first_session_requests_ratio_{provider}", round(asked / fewest, 2), how, limit=1.3)
    yield Figure(f"first_session_s_{provider}", round(first.seconds, 1), f"{contacts:,} contacts, from empty folders")
    yield Figure(f"first_session_rss_mb_{provider}", round(first.megabytes), "VmHWM of the worker", limit=200)


def _first(provider: str, contacts: int) -> First:
    with _house(VENDORS[provider]) as (house, deps):
        house.own_contacts(contacts)
        connection = house.connect(deps, house.person)
        before, started = len(house.world.access), time.monotonic()
        house.installed.work()
        pid = house.installed._running[-1].pid
        eventually(lambda: house.is_first_done(deps, connection), PATIENCE_S)
        seconds = time.monotonic() - started
        mail, c4c = house.requests(provider, before)
        return First(mail, c4c, seconds, _most_megabytes(pid))


# Time


def throughput() -> Iterator[Figure]:
    with ExitStack() as stack:
        database, broker = stack.enter_context(postgres()), stack.enter_context(redis())
        house, deps = stack.enter_context(_house("office365", people=MAILBOXES, database=database, SSI_REDIS_URL=broker))
        connections = [house.connect(deps, person) for person in house.product.people]
        workers = [house.work(threads=THREADS) for _ in range(2)]
        engine = sa.create_engine(database)
        eventually(lambda: all(house.is_first_done(deps, one) for one in connections), PATIENCE_S)
        time.sleep(3)  # for what follows the first sessions
        rates, shares = [], []
        for _ in range(ROUNDS):
            before = _Clocks.read(workers)
            started = time.monotonic()
            with engine.begin() as connection:
                began = connection.execute(sa.text("SELECT clock_timestamp()")).scalar_one()
                connection.execute(sa.text("UPDATE mailbox_sync SET next_due_at = clock_timestamp()"))
            eventually(lambda: _done_since(engine, began) == len(connections), 300)  # noqa: B023 - asked at once
            took = time.monotonic() - started
            rates.append(len(connections) / took)
            shares.append(_Clocks.read(workers).since(before))
        rate, middle = statistics.median(rates), shares[-1]
        each = {name: 1000 * seconds / len(connections) for name, seconds in middle.items()}
        told = ", ".join(f"{name} {ms:.0f}" for name, ms in each.items())
        how = f"{len(connections)} mailboxes due at once, 2 workers x {THREADS} threads; ms of CPU for each session: {told}"
        yield Figure("idle_sessions_per_s", round(rate, 1), how, limit=30, at_least=True)
        alone = 2 * 1000 / (each["workers"] + each["database and Redis"])
        yield Figure("idle_sessions_per_s_alone", round(alone, 1), "two cores by the CPU of workers, database and Redis only")
        engine.dispose()


def _done_since(engine: sa.Engine, began: Any) -> int:
    with engine.connect() as connection:
        query = sa.text("SELECT count(*) FROM mailbox_sync WHERE finished_at >= :began AND state = 'done'")
        return int(connection.execute(query, {"began": began}).scalar_one())


def latency() -> Iterator[Figure]:
    """From the mark on a message to its activity in C4C and the mark that it is saved."""
    with _house("office365") as (house, deps):
        house.simulator.server_url = house.installed.url("")
        house.installed.environment["SSI_HOOKS_URL"] = HOOKS
        connection = house.connect(deps, house.person)
        house.installed.serve()
        eventually(lambda: house.is_first_done(deps, connection), PATIENCE_S)
        eventually(lambda: house.simulator.subscriptions.orders(house.world))
        took = []
        for _ in range(MARKS):
            time.sleep(3)
            took.append(house.mark_and_wait())
        how = f"median of {MARKS}, the longest {max(took):.1f} s; with notifications, the server's own worker"
        yield Figure("mark_to_saved_s", median(took), how, limit=5)


# The house


@dataclass
class _House:
    """An installation without the server, and one person of its World."""

    simulator: Simulator
    installed: Installed
    person: Person

    @property
    def world(self) -> World:
        return self.simulator.world

    @property
    def product(self) -> Product:
        return Product(self.simulator, self.installed)

    def connect(self, deps: Deps, person: Person) -> Connection:
        """Have a person's mailbox connected, and its first session wait."""
        caller = identify(deps, self.simulator.bearer(person))
        connection = own_connection(deps, caller.principal) or mailbox_connection(deps, caller)
        with deps.store.transaction() as tx:
            tx.queue_session(connection, deps.now())
        return connection

    def work(self, *, threads: int) -> int:
        """Start a worker; return its process id."""
        self.installed._start("worker", "--threads", str(threads))
        return self.installed._running[-1].pid

    def row(self, deps: Deps, connection: Connection) -> MailboxSync:
        with deps.store.transaction(reading=True) as tx:
            found = tx.session_of(connection.id)
        if found is None:
            raise CannotMeasure("There is no session.")
        return found

    def is_first_done(self, deps: Deps, connection: Connection) -> bool:
        row = self.row(deps, connection)
        if row.state == "failed":
            raise CannotMeasure(f"A first session failed: {row.reason}")
        return row.first_done_at is not None

    def session(self, deps: Deps, connection: Connection) -> MailboxSync:
        with deps.store.transaction() as tx:
            tx.wake_session(connection.id, deps.now())
            taken = tx.take_sessions(deps.now(), 300, limit=100)
        for one in taken:
            if one.connection_id == connection.id:
                sync.run_session(deps, one)
        return self.row(deps, connection)

    def requests(self, provider: str, since: int) -> tuple[int, int]:
        """How often the mailbox and C4C were asked, without sign-ins."""
        calls = [call for call in self.world.access[since:] if call.status != 401 and "oauth2/token" not in call.path]
        return sum(call.vendor == provider for call in calls), sum(call.vendor == "c4c" for call in calls)

    def own_contacts(self, number: int) -> None:
        """Let the person own so many contacts in C4C, and nothing else."""
        with self.world.lock:
            rows = self.world.crm.rows("ContactCollection")
            for key in [key for key, row in rows.items() if row.get("ContactOwnerID") == self.person.employee_id]:
                del rows[key]
            for n in range(number):
                values = {"FirstName": "Person", "LastName": f"Number {n}", "Email": f"person-{n}@bench.example"}
                row = seed(
                    self.world,
                    "ContactCollection",
                    ContactOwnerID=self.person.employee_id,
                    StatusCode="2",
                    Phone=f"+49 30 {n:07}",
                    JobTitle="Buyer",
                    **values,
                )
                row["Name"] = f"Person Number {n}"

    def mark_and_wait(self) -> float:
        """Put the share mark on a message that is new in the inbox; return the seconds until it is saved."""
        mailbox = self.world.mailbox(self.person.email)
        names = names_for(frozenset({"categories"}), self.person.language)
        like = next(item for item in self.product.items(self.person) if "aldermill.example" not in item["from"]["address"])
        self.product.deliver(self.person, like)
        time.sleep(1)
        with self.world.lock:
            message = list(mailbox.messages.values())[-1]
            message.categories = ["SAP Cloud for Customer SSI"]
            mailbox.touch(message, self.world.now())
        count, started = len(self.world.crm.rows("EMailCollection")), time.monotonic()

        def is_saved() -> bool:
            is_marked = any(mark_of(name, names) == "saved" for name in message.categories)
            return is_marked and len(self.world.crm.rows("EMailCollection")) > count

        eventually(is_saved)
        return time.monotonic() - started


@contextmanager
def _house(access_type: AccessType, *, people: int = 3, database: str = "", **environment: str) -> Iterator[tuple[_House, Deps]]:
    world = demo.small(people=people)
    demo.rehome(world, world.people[0], access_type)
    with simulated(world) as (simulator, folder):
        place = folder / "installation"
        place.mkdir()
        with Installed(simulator, place, database) as installed:
            kept = {name: value for name, value in installed.environment.items() if name not in SHORT}
            installed.environment = {**kept, **BUSY, "SSI_HOOKS_URL": "off", "SSI_LOG_FORMAT": "text", **environment}
            deps = wiring.build(Settings.from_environment(installed.environment))
            with deps.store._engine.begin() as connection:  # only what is measured happens
                connection.execute(sa.text("UPDATE address_scan SET next_due_at = NULL"))
                connection.execute(sa.text("UPDATE mailbox_sync SET next_due_at = NULL"))
            yield _House(simulator, installed, world.people[0]), deps
            deps.background.shutdown()
            deps.store.close()


@dataclass(frozen=True)
class _Clocks:
    """CPU seconds so far: of the workers, of the simulator (this process), and of what else we started."""

    workers: float
    simulator: float
    others: float

    @classmethod
    def read(cls, workers: list[int]) -> _Clocks:
        ticks = os.sysconf("SC_CLK_TCK")
        mine = sum(_ticks(pid) for pid in workers) / ticks
        others = sum(_ticks(pid) for pid in _family(os.getpid()) - set(workers)) / ticks
        return cls(mine, sum(os.times()[:2]), others)

    def since(self, before: _Clocks) -> dict[str, float]:
        return {
            "workers": self.workers - before.workers,
            "simulator": self.simulator - before.simulator,
            "database and Redis": self.others - before.others,
        }


def _family(parent: int) -> set[int]:
    """Return all processes that descend from this one."""
    children = {int(pid) for file in Path(f"/proc/{parent}/task").glob("*/children") for pid in file.read_text().split()}
    return children.union(*(_family(child) for child in children))


def _ticks(pid: int) -> int:
    """Return the process's CPU time; 0 if it has just ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].split()
    except FileNotFoundError:
        return 0
    return int(fields[11]) + int(fields[12])  # utime, stime (proc(5))


def _most_megabytes(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise CannotMeasure("/proc does not tell VmHWM.")
