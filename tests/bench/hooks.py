"""How the receiver of notifications keeps up: the time to each answer, and whether what was answered 202 is in the database.

Microsoft Graph joins notifications to one address into a request (change-notifications-delivery-webhooks), and each mailbox has
an address of its own here: a request holds what one mailbox's folders have to tell, mostly one notification. No mailbox is told
of twice within ten seconds, and what woke is put back to sleep all the time, as a worker would, so that each request costs a
write: the dear case. Requests leave at their time, whether the ones before were answered or not, and their time counts from then.

In a second phase the database is killed and started again while requests come in: what was answered 202 has to be there all the
same. The client, the server and the database, which keeps fsync on, share the machine's cores.
"""

from __future__ import annotations

import http.client
import json
import random
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import sqlalchemy as sa

from server import wiring
from server.config import Settings
from simulator import demo
from simulator.ports import HOOKS
from tests.bench.figures import CannotMeasure, Figure, percentile
from tests.bench.product import simulated
from tests.processes import SHORT, Installed, eventually
from tests.services import free_port, postgres

MAILBOXES = 2_000
PER_SECOND = 200  # notifications
JOINED = (1, 1, 1, 1, 1, 1, 1, 2, 2, 4)  # how many are in a request, each as often as here
MEASURED_S, KILLED_S = 30, 10
KILLED_AT_S, AWAY_S = 3.0, 2.0  # in the second phase: when the database is killed, and for how long
CONNECTIONS = 32


@dataclass(frozen=True)
class Order:
    """A mailbox whose notifications come to an address of its own."""

    connection_id: str
    path: str
    refs: tuple[str, ...]  # Graph's subscriptions: one for each folder
    secret: str

    def told(self, chance: random.Random) -> bytes:
        """Return a request of Graph's."""
        value = [
            {
                "subscriptionId": ref,
                "subscriptionExpirationDateTime": "2030-01-01T00:00:00.0000000Z",
                "clientState": self.secret,
                "changeType": chance.choice(("created", "updated", "deleted")),
                "tenantId": "3f2c9a1e-6a57-4b1c-9a51-0d6f8f3f7a10",
                "resource": f"Users/{self.connection_id}/Messages/AAMkAG{chance.getrandbits(400):0100x}",
                "resourceData": {"@odata.type": "#Microsoft.Graph.Message", "id": f"AAMkAG{chance.getrandbits(400):0100x}"},
            }
            for ref in chance.choices(self.refs, k=chance.choice(JOINED))
        ]
        return json.dumps({"value": value}).encode()


@dataclass(frozen=True)
class Answer:
    """What a request was answered with, 0 for nothing, and after how many milliseconds since it was due to be sent."""

    connection_id: str
    status: int
    ms: float


def measure() -> Iterator[Figure]:
    chance = random.Random(12)
    with ExitStack() as stack:
        database = stack.enter_context(_Database())
        simulator, folder = stack.enter_context(simulated(demo.small()))
        (folder / "installation").mkdir()
        installed = stack.enter_context(Installed(simulator, folder / "installation", database.url))
        kept = {name: value for name, value in installed.environment.items() if name not in SHORT}
        installed.environment = {**kept, "SSI_HOOKS_URL": HOOKS}
        orders = _orders(installed)
        chance.shuffle(orders)
        installed.serve(SSI_WORKER_THREADS="0")
        sleeper = stack.enter_context(_Sleeper(database.url))
        calm = _sent(installed.port, orders, MEASURED_S, chance)
        time.sleep(2)
        with ThreadPoolExecutor(1) as beside:
            sending = beside.submit(_sent, installed.port, orders, KILLED_S, chance)
            time.sleep(KILLED_AT_S)
            database.kill()
            time.sleep(AWAY_S)
            database.start()  # in this thread, as it ends with the thread that started it
            killed = sending.result()
        eventually(installed.answers)
        sleeper.sweep()
    yield from _times(calm)
    yield _stored(calm, killed, sleeper.woken)


def _times(answers: list[Answer]) -> Iterator[Figure]:
    if odd := {answer.status for answer in answers} - {202}:
        raise CannotMeasure(f"Notifications were answered {odd}.")
    times = [answer.ms for answer in answers]
    how = f"{len(times):,} requests in {MEASURED_S} s, {PER_SECOND} notifications a second for {MAILBOXES:,} mailboxes, 1 process"
    yield Figure("hooks_p50_ms", percentile(times, 50), how)
    yield Figure("hooks_p99_ms", percentile(times, 99), "of the same", limit=300)
    yield Figure("hooks_max_ms", round(max(times), 1), "of the same", limit=2500)


def _stored(calm: list[Answer], killed: list[Answer], woken: Counter[str]) -> Figure:
    """Return for which share of the answers 202 a mailbox woke."""
    statuses = Counter(answer.status for answer in killed)
    if set(statuses) != {202, 503}:
        raise CannotMeasure(f"While the database was killed, notifications were answered {dict(statuses)}.")
    taken = Counter(answer.connection_id for answer in calm + killed if answer.status == 202)
    stored = sum(min(number, woken[connection_id]) for connection_id, number in taken.items())
    how = f"rows that woke, to {taken.total():,} answers 202; {statuses[503]} were 503 while PostgreSQL was killed and back"
    return Figure("hooks_stored_ratio", round(stored / taken.total(), 4), how, limit=1.0, at_least=True)


def _orders(installed: Installed) -> list[Order]:
    """Let people with mailboxes be there, whose first session is over and whose notifications are ordered."""
    deps = wiring.build(Settings.from_environment(installed.environment))
    found = []
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        organization = next(one for one in tx.organizations(tenant.id) if one.access_type == "office365")
        for number in range(MAILBOXES):
            email = f"person-{number}@hooks.example"
            tx.add_user(tenant.id, organization.id, email=email, name="", c4c_user_id=f"HOOKS{number}", now=deps.now())
        for user in tx.users(tenant.id):
            if user.email.endswith("@hooks.example"):
                connection = tx.put_connection(user, "graph", user.email, "", deps.now())
                tx.queue_session(connection, deps.now())
                tx.want_subscription(connection, deps.now())
        held = tx.take_subscriptions(deps.now(), 3600, MAILBOXES)
    with deps.store.transaction() as tx:
        for one in held:
            secret, refs = f"{one.id}" * 2, tuple(f"{one.id}-{folder}" for folder in range(5))
            tx.begin_subscription(one, deps.vault.seal(one.tenant_id, one.id, "secret", secret.encode()))
            expires_at = deps.now() + timedelta(days=2)
            tx.end_renewal(one, next_due_at=None, ref=",".join(refs), expires_at=expires_at)
            found.append(Order(one.connection_id, f"/hooks/graph/{one.id}", refs, secret))
    with deps.store._engine.begin() as connection:
        connection.execute(sa.text("UPDATE mailbox_sync SET next_due_at = NULL, state = 'done'"))
        connection.execute(sa.text("UPDATE address_scan SET next_due_at = NULL"))
    deps.background.shutdown()
    deps.store.close()
    if len(found) != MAILBOXES:
        raise CannotMeasure(f"There are {len(found)} orders.")
    return found


class _Database:
    """A PostgreSQL that can be killed and started again where it was."""

    def __init__(self) -> None:
        self._port, self._running = free_port(), ExitStack()
        self._place = tempfile.TemporaryDirectory(prefix="ssi-postgres-", ignore_cleanup_errors=True)

    def __enter__(self) -> _Database:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._place.cleanup()

    def start(self) -> None:
        self.url = self._running.enter_context(postgres(durable=True, place=Path(self._place.name), port=self._port))

    def kill(self) -> None:
        self._running.close()


class _Sleeper:
    """Puts mailboxes that woke back to sleep, as a worker's session does, and counts how often each woke."""

    def __init__(self, url: str) -> None:
        self.woken: Counter[str] = Counter()
        self._engine = sa.create_engine(url, poolclass=sa.NullPool)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> _Sleeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join(10)
        self._engine.dispose()

    def sweep(self) -> None:
        query = "UPDATE mailbox_sync SET next_due_at = NULL WHERE next_due_at IS NOT NULL RETURNING connection_id"
        with self._engine.begin() as connection:
            self.woken.update(str(row[0]) for row in connection.execute(sa.text(query)))

    def _run(self) -> None:
        while not self._ended.wait(1.0):
            with suppress(sa.exc.OperationalError):  # the database is killed
                self.sweep()


def _sent(port: int, orders: list[Order], seconds: float, chance: random.Random) -> list[Answer]:
    """Send requests to one mailbox after the other, at their times."""
    between_s = sum(JOINED) / len(JOINED) / PER_SECOND
    planned = [(n * between_s, orders[n % len(orders)]) for n in range(int(seconds / between_s))]
    requests = iter([(at, order, order.told(chance)) for at, order in planned])
    lock, begun = threading.Lock(), time.perf_counter() + 0.5

    def client() -> list[Answer]:
        connection, answers = http.client.HTTPConnection("127.0.0.1", port, timeout=30), []
        while True:
            with lock:
                request = next(requests, None)
            if request is None:
                return answers
            at, order, body = request
            time.sleep(max(0.0, begun + at - time.perf_counter()))
            status = _status(connection, order.path, body)
            answers.append(Answer(order.connection_id, status, (time.perf_counter() - begun - at) * 1000))

    with ThreadPoolExecutor(CONNECTIONS) as pool:
        clients = [pool.submit(client) for _ in range(CONNECTIONS)]
        return [answer for one in clients for answer in one.result()]


def _status(connection: http.client.HTTPConnection, path: str, body: bytes) -> int:
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        response.read()
    except (OSError, http.client.HTTPException):
        connection.close()
        return 0
    return response.status
