"""Whoever is killed in the middle of sessions, and however often: both sides come to agree, and nothing is lost or doubled.

Two workers on Redis and PostgreSQL, a server, and people with mailboxes at Microsoft 365, Exchange and Gmail. In each round
C4C gets contacts and letters are marked (not at Gmail); while the sessions are at it, somebody is killed at a request that
happens to come by, or a worker is stopped for longer than its lease lasts and goes on when another has finished its session.
The oracle is the World.
"""

from __future__ import annotations

import os
import random
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import sqlalchemy as sa

from server import wiring
from server.config import Settings
from server.services import Deps
from server.services.connections import identify, mailbox_connection, own_connection
from server.store import DatabaseAway
from simulator import demo
from simulator.ports import Simulator
from simulator.world import Gate, Person, World
from tests.exactly_one.letters import Letter, deliver
from tests.processes import Installed, eventually
from tests.services import free_port, postgres, redis
from tests.sync.conftest import remote_of
from tests.sync.house import House

SAVED = ("Saved in SAP Cloud for Customer SSI", "Gespeichert in SAP Cloud for Customer SSI")
SETTLED_S = 60.0
CONTACTS = 8  # new in C4C for each person in each round
VICTIMS = ("worker", "redis", "database", "server", "zombie")


@dataclass
class Site:
    """The installation, what runs of it, and what people did so far."""

    installed: Installed
    deps: Deps
    places: dict[str, Callable[[], AbstractContextManager[str]]]  # service -> how it is started where it was
    running: dict[str, ExitStack] = field(default_factory=dict)
    letters: list[tuple[Person, Letter]] = field(default_factory=list)
    number: int = 0

    @property
    def world(self) -> World:
        return self.installed.simulator.world

    @property
    def people(self) -> list[Person]:
        return self.world.people[:3]

    def house(self, person: Person) -> House:
        remote = remote_of(self.world, self.installed.simulator, person.access_type, person)
        return House(self.deps, self.world, person, remote, lambda **_: None)

    # What people do

    def connect(self) -> None:
        for person in self.people:
            caller = identify(self.deps, self.installed.simulator.bearer(person))
            connection = own_connection(self.deps, caller.principal) or mailbox_connection(self.deps, caller)
            with self.deps.store.transaction() as tx:
                tx.queue_session(connection, self.deps.now())

    def do_something(self) -> None:
        """Let colleagues create contacts in C4C, and each person share a letter."""
        for person in self.people:
            with self.world.lock:
                for _ in range(CONTACTS):
                    self.number += 1
                    name = f"Number{self.number}"
                    self.house(person).add_record(FirstName="Kim", LastName=name, Email=f"{name.lower()}@kills.example")
                if person.access_type != "google":
                    letter = deliver(self.world, [person], {})
                    message = letter.copy(self.world, person)
                    message.categories = ["SAP Cloud for Customer SSI"]
                    self.world.mailbox(person.email).touch(message, self.world.now())
                    self.letters.append((person, letter))

    def wake(self) -> None:
        """Have all sessions begin now, whatever they wait for."""
        engine = sa.create_engine(self.installed.environment["SSI_DATABASE_URL"], poolclass=sa.NullPool)
        with engine.begin() as connection:
            connection.execute(sa.text("UPDATE mailbox_sync SET next_due_at = now(), woken_at = now()"))

    # What happens to programs

    def start(self, service: str) -> None:
        self.running[service] = stack = ExitStack()
        stack.enter_context(self.places[service]())

    def strike(self, victim: str) -> None:
        """Kill, and start again."""
        processes = self.installed._running  # the server, then the workers
        if victim in self.running:
            self.running.pop(victim).close()
            time.sleep(0.5)
            self.start(victim)
        elif victim == "zombie":
            os.killpg(processes[1].pid, signal.SIGSTOP)
            time.sleep(4)  # longer than a lease, and than its heir needs
            os.killpg(processes[1].pid, signal.SIGCONT)
        else:
            process = processes.pop(0 if victim == "server" else 1)
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
            if victim == "server":
                self.installed.serve()
                processes.insert(0, processes.pop())
            else:
                self.installed.work()

    # What is true at the end

    def differences(self) -> list[str]:
        """Say what is not yet as it has to be."""
        found = []
        for person in self.people:
            mailbox, c4c = self.contacts(person)
            if mailbox != c4c:
                row = self.house(person).row
                missing, more = sorted(set(c4c) - set(mailbox)), sorted(set(mailbox) - set(c4c))
                found.append(
                    f"{person.access_type}: {missing=} {more=} {row.state} {row.reason!r} {row.next_due_at} {row.counts}"
                )
        for person, letter in self.letters:
            if not self.is_saved(person, letter):
                marks, row = letter.copy(self.world, person).categories, self.house(person).row
                issues = [issue.cause for issue in self.house(person).told.values()]
                found.append(f"{person.access_type}: {letter.key} {marks} {issues} {row.state} {row.reason!r} {row.counts}")
        return found

    def agrees(self) -> bool:
        try:
            return not self.differences()
        except DatabaseAway:
            return False

    def contacts(self, person: Person) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
        """Surnames and addresses that the mailbox and C4C have, of the contacts that this test made."""
        house = self.house(person)
        found = house.row.folders.get("contacts")
        with self.world.lock:
            items = house.remote.contacts(found[0]).values() if found else ()
            mailbox = [(item.surname, item.emails[0] if item.emails else "") for item in items]
            c4c = [(str(row["LastName"]), str(row.get("Email") or "")) for row in house.own().values()]
        return _ours(mailbox), _ours(c4c)

    def is_saved(self, person: Person, letter: Letter) -> bool:
        marks = letter.copy(self.world, person).categories
        return any(mark in SAVED for mark in marks) and len(list(self.world.saved_activities(letter.key))) >= 1

    def check(self) -> None:
        """Wait until both sides agree; assert that nothing is there twice."""
        self.wake()
        with suppress(AssertionError):
            eventually(self.agrees, SETTLED_S)
        assert self.differences() == []
        for person in self.people:
            mailbox, _ = self.contacts(person)
            assert len(mailbox) == len(set(mailbox))
        for _, letter in self.letters:
            assert len(list(self.world.saved_activities(letter.key))) == 1


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    world = demo.small()
    for person, access_type in zip(world.people[1:3], ("exchange_direct", "google"), strict=True):
        demo.rehome(world, person, access_type)  # type: ignore[arg-type]
    keeping = tempfile.TemporaryDirectory(prefix="ssi-postgres-", ignore_cleanup_errors=True)  # PostgreSQL's user must reach it
    folder, database_port, redis_port = Path(keeping.name), free_port(), free_port()
    places: dict[str, Callable[[], AbstractContextManager[str]]] = {
        "database": lambda: postgres(durable=True, place=folder, port=database_port),
        "redis": lambda: redis(port=redis_port),
    }
    with keeping, ExitStack() as stack:
        simulator = stack.enter_context(Simulator(world, tmp_path / "simulator"))
        running: dict[str, ExitStack] = {}
        stack.callback(lambda: [one.close() for one in running.values()])
        running["database"] = ExitStack()
        url = running["database"].enter_context(places["database"]())
        running["redis"] = ExitStack()
        broker = running["redis"].enter_context(places["redis"]())
        installed = stack.enter_context(Installed(simulator, tmp_path, url))
        installed.environment |= {"SSI_REDIS_URL": broker, "SSI_WORKER_THREADS": "2", "SSI_LEASE_S": "3"}
        deps = wiring.build(Settings.from_environment(installed.environment))
        site = Site(installed, deps, places, running)
        site.connect()
        installed.serve(SSI_WORKER_THREADS="0")
        installed.work()
        installed.work()
        yield site
        deps.background.shutdown()
        deps.store.close()


def _ours(contacts: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Leave out the demo's, of which C4C does not show everything to everybody."""
    return sorted(one for one in contacts if one[1].endswith("@kills.example"))


def haunt(site: Site, victims: list[str], chance: random.Random) -> None:
    for victim in victims:
        site.do_something()
        site.wake()
        number = chance.randint(1, 12)
        site.world.gate = gate = Gate(number, acted=chance.random() < 0.5)
        gate.reached.wait(10)
        site.strike(victim)
        site.world.gate = None
        gate.open(lost=victim not in ("redis", "zombie") and chance.random() < 0.5)
        site.check()


def test_workers_that_are_killed_in_the_middle_of_sessions_leave_nothing_undone_or_done_twice(site: Site) -> None:
    haunt(site, ["worker", "worker", "zombie"], random.Random(1))


@pytest.mark.soak
def test_fifty_kills_of_everybody_leave_nothing_undone_or_done_twice(site: Site) -> None:
    haunt(site, [VICTIMS[number % len(VICTIMS)] for number in range(50)], random.Random(2))
