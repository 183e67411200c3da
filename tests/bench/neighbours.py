"""Whether a tenant whose C4C answers nobody hurts the others: ten tenants at one server process, and one C4C that falls silent.

People of all tenants look up addresses that nobody asked about before, so that C4C is asked each time; they come at their own
pace, whether others are answered or not. First all is well; then the last tenant's C4C takes requests and says nothing. After
that the same for sessions, with the two threads of the server's own worker.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from queue import Empty, SimpleQueue

from server import wiring
from server.config import Settings
from server.services import Deps, provisioning
from server.services.connections import identify, mailbox_connection
from server.store import Connection, schema
from simulator import demo
from simulator.ports import Simulator
from simulator.world import Person
from tests.bench.figures import CannotMeasure, Figure, percentile
from tests.bench.product import Caller, Item, Product, never_seen, running, simulated
from tests.faults.proxy import Fault, Proxy, Tls
from tests.processes import eventually

TENANTS = 10
SICK_PEOPLE = 6  # of the last one; the others have one each
LOOKUPS_PER_S = 20
C4C_MS = 50
WELL_S, SILENT_S = 60, 90
SESSIONS_EVERY_S = 15.0  # of the nine tenants, all due at once
SESSION_ROUNDS = 7
CLIENTS = 64
PATIENCE_S = 300.0


def measure() -> Iterator[Figure]:
    with _street() as street:
        yield from _lookups(street)
        yield from _sessions(street)


# Lookups


@dataclass(frozen=True)
class Asked:
    """A lookup: of which tenant, how long it took, whether it was answered."""

    tenant: int
    ms: float
    is_answered: bool


def _lookups(street: _Street) -> Iterator[Figure]:
    street.product.slow(C4C_MS)
    street.ask(5)  # signs everybody in
    well = street.ask(WELL_S)
    if not all(one.is_answered for one in well):
        raise CannotMeasure("Lookups failed while all was well.")
    with street.silence() as fault:
        silent = street.ask(SILENT_S)
    street.product.slow(0)
    nine = [one for one in silent if one.tenant != TENANTS - 1]
    before, after = (percentile([one.ms for one in some if one.tenant != TENANTS - 1], 95) for some in (well, nine))
    how = f"{before:g} ms before, {after:g} ms with the tenth silent; {LOOKUPS_PER_S} lookups/s, C4C takes {C4C_MS} ms"
    yield Figure("neighbours_p95_ratio", round(after / before, 2), how, limit=1.2)
    yield Figure("neighbours_failed", sum(not one.is_answered for one in nine), f"of {len(nine)} lookups of the nine", limit=0)
    how = f"requests in {SILENT_S} s; at most 8 at a time, and after 5 in vain one every 30 s"
    yield Figure("silent_tenant_calls", fault.strikes, how)
    tenth = [one.ms for one in silent if one.tenant == TENANTS - 1]
    how = f"until its people are told, {len(tenth)} lookups; half of them {percentile(tenth, 50):g} ms at most"
    yield Figure("silent_tenant_p95_ms", percentile(tenth, 95), how)


# Sessions


def _sessions(street: _Street) -> Iterator[Figure]:
    connections = street.connect()
    well = [late for _ in range(2) for late in street.sessions(connections)]
    with street.silence():
        late = [late for _ in range(SESSION_ROUNDS) for late in street.sessions(connections)]
    how = (
        f"of {len(late)} sessions of the nine, while {SICK_PEOPLE} mailboxes of the tenth hold up both threads; "
        f"half began after {percentile(late, 50):g} s, with all well the last after {max(well):.1f} s"
    )
    yield Figure("neighbours_session_late_max_s", percentile(late, 100), how)


# The street


@dataclass
class _Street:
    """The tenants, their people, and what stands before the last one's C4C."""

    product: Product
    deps: Deps
    proxy: Proxy
    households: Sequence[Sequence[Person]]  # of each tenant
    _idle: list[SimpleQueue[Caller]] = field(default_factory=lambda: [SimpleQueue() for _ in range(TENANTS)])
    _count: int = 0

    def __post_init__(self) -> None:
        self._like = self.product.items(self.households[0][0])[0]

    @contextmanager
    def silence(self) -> Iterator[Fault]:
        """Let the last tenant's C4C say nothing for the length of the block."""
        fault = self.proxy.strike(Fault("hang"))
        yield fault
        self.proxy.lift()

    def ask(self, seconds: float) -> list[Asked]:
        """Have lookups begin at their pace, one tenant after the other; return what became of each."""
        with ThreadPoolExecutor(CLIENTS) as pool:
            began, asked = time.monotonic(), []
            for number in range(round(seconds * LOOKUPS_PER_S)):
                at = began + number / LOOKUPS_PER_S
                time.sleep(max(0.0, at - time.monotonic()))
                self._count += 1
                asked.append(pool.submit(self._look_up, number % TENANTS, self._new_item(), at))
            return [one.result() for one in asked]

    def _new_item(self) -> Item:
        stranger = {"name": "", "address": f"person{self._count}@cold.example"}
        return {**never_seen(self._like), "from": stranger, "to": [], "cc": []}

    def _look_up(self, tenant: int, item: Item, at: float) -> Asked:
        person = self.households[tenant][0]
        try:
            caller = self._idle[tenant].get_nowait()
        except Empty:
            caller = self.product.caller(person)
        body = {"item": {**item, "mailbox": person.email}}
        answer, _ = caller.send("POST", "/api/context", body, busy_is_an_answer=True)
        self._idle[tenant].put(caller)
        return Asked(tenant, (time.monotonic() - at) * 1000, "cards" in answer)

    def connect(self) -> list[Connection]:
        """Have all mailboxes connected and their first sessions done; return those of the nine."""
        connections = []
        for person in (person for household in self.households for person in household):
            caller = identify(self.deps, self.product.simulator.bearer(person))
            connection = mailbox_connection(self.deps, caller)
            connections.append(connection)
            with self.deps.store.transaction() as tx:
                tx.queue_session(connection, self.deps.now())
        eventually(lambda: all(self._began(one, done=True) for one in connections), PATIENCE_S)
        return connections[: TENANTS - 1]

    def sessions(self, connections: Sequence[Connection]) -> list[float]:
        """Have sessions due, the silent tenant's too; return how late each of these mailboxes began, after a while."""
        due = datetime.now(UTC)
        free = schema.mailbox_sync.c.lease_until.is_(None)
        with self.deps.store._engine.begin() as db:
            db.execute(schema.mailbox_sync.update().where(free).values(next_due_at=due))
        time.sleep(SESSIONS_EVERY_S)

        def all_began() -> list[datetime] | None:
            began = [self._began(one) for one in connections]
            return [at for at in began if at is not None and at >= due] if all(at and at >= due for at in began) else None

        return [(at - due).total_seconds() for at in eventually(all_began, PATIENCE_S)]

    def _began(self, connection: Connection, *, done: bool = False) -> datetime | None:
        with self.deps.store.transaction(reading=True) as tx:
            row = tx.session_of(connection.id)
        if row is None:
            return None
        return row.first_done_at if done else row.began_at


@contextmanager
def _street() -> Iterator[_Street]:
    world = demo.small(people=TENANTS - 1 + SICK_PEOPLE)
    people = [person for person in world.people if person.provisioned]
    households = [[person] for person in people[: TENANTS - 1]] + [people[TENANTS - 1 :]]
    for number, household in enumerate(households[1:], 1):
        for person in household:
            person.tenant = f"{number:08d}-1111-4222-8333-bbbbbbbbbbbb"
            person.provisioned = False  # the installation begins with the first tenant
    with simulated(world) as (simulator, folder):
        tls = Tls(folder / "simulator" / "ca" / "server.pem", simulator.ca_file)
        with Proxy(simulator.c4c.port, tls) as proxy, running(simulator, folder) as product:
            deps = wiring.build(Settings.from_environment(product.installed.environment))
            for household in households[1:]:
                for person in household:
                    person.provisioned = True
                _move_in(deps, simulator, household, proxy.url if household is households[-1] else simulator.c4c.url)
            product.settle()
            yield _Street(product, deps, proxy, households)
            deps.background.shutdown()
            deps.store.close()


def _move_in(deps: Deps, simulator: Simulator, household: Sequence[Person], c4c_url: str) -> None:
    """Set up a tenant of these people, whose C4C is reached by this origin."""
    document = simulator.provisioning()
    tenant = document["tenant"]
    tenant |= {"name": household[0].tenant, "identity_tenants": [household[0].tenant]}
    tenant["c4c"]["url"] = tenant["c4c"]["url"].replace(simulator.c4c.url, c4c_url)
    document["users"] = [user for user in document["users"] if user["email"] in {person.email for person in household}]
    provisioning.provision(deps, document)
