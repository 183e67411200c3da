"""Whether 100,000 mailboxes get a session every 30 minutes: how many the store hands out in a second, and how late they begin.

The store is the real one on PostgreSQL, the rows are as many and as wide as they would be, and the sessions do nothing but end.
Time is not real: a worker (`server.worker`) is played by its rules, so that an hour passes in minutes. Several work at once, and
their clocks are never apart by more than TICK_S. How long a session takes comes from `./run bench sessions`. Machines are taken
to add up, as they do while the store hands out far more (claims_per_s) than falls due.

The hour begins at the end of an outage of half an hour: every mailbox is due, and the crowd comes again after its interval. What
fell due before the hour began is told apart from what fell due in it. A whole day is 4.8 million sessions, more than PostgreSQL
hands out while somebody waits for a figure; so the day is played by the same rules without a database.
"""

from __future__ import annotations

import heapq
import itertools
import random
import secrets
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

import sqlalchemy as sa

from server.domain.profile import Profile
from server.store import C4CSettings, MailboxSync, Principal, Store, Transaction, schema
from server.sync import _interval_s
from tests.bench.figures import CannotMeasure, Figure, percentile
from tests.services import postgres

MAILBOXES = 100_000
OUTAGE_S = 1800.0
HOURS = 1.0  # in the database
DAY_HOURS = 24.0  # without
IDLE_SESSIONS_PER_S = 47.8  # of one machine of two cores: idle_sessions_per_s of `./run bench sessions`
MACHINES = 2  # the fewest that can: 100,000 in 30 minutes are 55.6 a second
WORKERS, THREADS = 2, 8  # of each machine, as there
POLL_S = 1.0  # SSI_POLL_S, SSI_LEASE_S: their defaults
LEASE_S = 45.0
PAUSES = 10_000  # of the engine's own, with its jitter, to choose from
LEFT = 1_000  # sessions that still wait, read at a time
TICK_S = 1.0
CLAIMERS = 4
CLAIMING_S = 15.0
START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
CURSOR_BYTES = 2_600  # 3,500 characters: about what Graph's links to the changes of our folders take

R = TypeVar("R")


def measure() -> Iterator[Figure]:
    with _crowd() as (url, person):
        pauses = [_interval_s(person) for _ in range(PAUSES)]
        yield from _hour(url, pauses)
        yield _claims(url)
    yield from _day(pauses)


# A worker, played


class Book(Protocol[R]):
    """Who is due, and when, in seconds since the hour began."""

    def take(self, now_s: float, limit: int) -> list[tuple[float, R]]:
        """Return since when each was due, and the session."""

    def end(self, ended: Sequence[tuple[R, float]]) -> None:
        """Give back sessions that ended at these times."""


@dataclass
class Worker(Generic[R]):
    """A lane of `server.worker`: looks for work when a session ends and after POLL_S, takes what its threads can soon begin."""

    book: Book[R]
    takes_s: float  # each session
    now_s: float
    waited: array[float] = field(default_factory=lambda: array("d"))  # how late those began that fell due in the hour
    crowd: array[float] = field(default_factory=lambda: array("d"))  # when those began that were due before it

    def __post_init__(self) -> None:
        self._numbers = itertools.count()  # of two that end at once: sessions have no order
        self._running: list[tuple[float, int, R]] = []
        self._waiting: deque[tuple[float, R]] = deque()

    def work_until(self, end_s: float) -> None:
        ended: list[tuple[R, float]] = []
        while self.now_s < end_s:
            while self._running and self._running[0][0] <= self.now_s:
                at, _, session = heapq.heappop(self._running)
                ended.append((session, at))
            self._begin()
            unfinished = len(self._running) + len(self._waiting)
            if unfinished <= THREADS:
                self._waiting.extend(self.book.take(self.now_s, 2 * THREADS - unfinished))
                self._begin()
            poll_s = self.now_s + POLL_S
            self.now_s = min(poll_s, self._running[0][0]) if self._running else poll_s
        self.book.end(ended)

    def _begin(self) -> None:
        while self._waiting and len(self._running) < THREADS:
            due_s, session = self._waiting.popleft()
            self.note(due_s)
            heapq.heappush(self._running, (self.now_s + self.takes_s, next(self._numbers), session))

    def note(self, due_s: float) -> None:
        """Keep that a session which was due since then begins now."""
        if due_s < 0:
            self.crowd.append(self.now_s)
        else:
            self.waited.append(self.now_s - due_s)


def _played(book: Book[R], hours: float, run: Callable[..., Iterable[None]] = map) -> list[Worker[R]]:
    """Let the workers work for so long, one tick after the other; `run` may let them work at the same time.

    Whoever still waits at the end is as late as that.
    """
    count, takes_s = MACHINES * WORKERS, WORKERS * THREADS / IDLE_SESSIONS_PER_S
    workers = [Worker(book, takes_s, now_s=number / count) for number in range(count)]
    for tick in range(1, round(hours * 3600 / TICK_S) + 1):
        for _ in run(Worker.work_until, workers, [tick * TICK_S] * count):
            pass
    while left := book.take(hours * 3600, LEFT):
        for due_s, _ in left:
            workers[0].note(due_s)
    return workers


# The hour, in the database


@dataclass(frozen=True)
class _Rows:
    """Implements Book by the store."""

    store: Store
    pauses: Sequence[float]

    def take(self, now_s: float, limit: int) -> list[tuple[float, MailboxSync]]:
        with self.store.transaction() as tx:
            taken = tx.take_sessions(_at(now_s), LEASE_S, limit)
        return [((one.next_due_at - START).total_seconds(), one) for one in taken if one.next_due_at is not None]

    def end(self, ended: Sequence[tuple[MailboxSync, float]]) -> None:
        if ended:
            with self.store.transaction() as tx:  # one for all: it is the workers' time that is played, not the database's
                for session, at_s in ended:
                    _end(tx, session, _at(at_s), random.choice(self.pauses))


def _hour(url: str, pauses: Sequence[float]) -> Iterator[Figure]:
    store, began = Store(url), time.monotonic()
    before = _read(url)
    with ThreadPoolExecutor(MACHINES * WORKERS) as pool:
        workers = _played(_Rows(store, pauses), HOURS, pool.map)
    store.close()
    took, after = time.monotonic() - began, _read(url)
    waited, crowd = _of_all(workers)
    if len(crowd) != MAILBOXES:
        raise CannotMeasure(f"Of {MAILBOXES:,} mailboxes that were due {len(crowd):,} sessions began.")
    how = f"{_told(HOURS)} played in {took:.0f} s, {len(waited):,} sessions that fell due in it, after {MAILBOXES:,} due at once"
    yield from _lags("start_lag", waited, how)
    how = "counted from the end of half an hour's outage, with all mailboxes due"
    yield Figure("start_lag_after_outage_max_s", percentile(crowd, 100), how)
    scans, rows = (now - then for now, then in zip(after, before, strict=True))
    how = f"of mailbox_sync, to take and end one, those under way passed over (pg_stat); scans of the whole table: {scans}"
    yield Figure("session_rows_read", round(rows / (len(waited) + len(crowd)), 1), how)


def _claims(url: str) -> Figure:
    """Take sessions, begin each and end it, as fast as the store allows, in the transactions that the engine has for it."""
    store, now = Store(url), START + timedelta(days=1)
    until = time.monotonic() + CLAIMING_S

    def work(_: int) -> int:
        done = 0
        while time.monotonic() < until:
            with store.transaction() as tx:
                taken = tx.take_sessions(now, LEASE_S, THREADS)
            for session in taken:
                with store.transaction() as tx:
                    tx.keep_session(session, now, LEASE_S, state="running", began_at=now, attempts=session.attempts + 1)
                    tx.connection(session.connection_id)
                    tx.principal_of(session.user_id)
                with store.transaction() as tx:
                    _end(tx, session, now, DAY_HOURS * 3600)
            done += len(taken)
        return done

    with ThreadPoolExecutor(CLAIMERS) as pool:
        rate = sum(pool.map(work, range(CLAIMERS))) / CLAIMING_S
    store.close()
    how = f"{CLAIMERS} threads take {THREADS} at a time of {MAILBOXES:,} that are due, begin each and end it, as the engine does"
    return Figure("claims_per_s", round(rate), how, limit=200, at_least=True)


def _end(tx: Transaction, session: MailboxSync, now: datetime, pause_s: float) -> None:
    """End a session that found nothing to do, with what the engine keeps then."""
    tx.end_session(
        replace(session, began_at=now),
        next_due_at=now + timedelta(seconds=pause_s),
        now=now,
        cursor=secrets.token_urlsafe(CURSOR_BYTES),
        crm_cursors=session.crm_cursors,
        counts={},
        state="done",
        phase="",
        done=0,
        total=0,
        finished_at=now,
        attempts=0,
        failures=0,
        reason="",
    )


# The day, without


class _Heap:
    """Implements Book in memory, with nothing but the times."""

    def __init__(self, pauses: Sequence[float]) -> None:
        self._pauses = pauses
        self._due = [-OUTAGE_S * n / MAILBOXES for n in range(MAILBOXES, 0, -1)]

    def take(self, now_s: float, limit: int) -> list[tuple[float, None]]:
        taken: list[tuple[float, None]] = []
        while len(taken) < limit and self._due and self._due[0] <= now_s:
            taken.append((heapq.heappop(self._due), None))
        return taken

    def end(self, ended: Sequence[tuple[None, float]]) -> None:
        for _, at_s in ended:
            heapq.heappush(self._due, at_s + random.choice(self._pauses))


def _day(pauses: Sequence[float]) -> Iterator[Figure]:
    waited, _ = _of_all(_played(_Heap(pauses), DAY_HOURS))
    how = f"the same rules without a database, {_told(DAY_HOURS)}, {len(waited):,} sessions"
    yield from _lags("start_lag_day", waited, how)


def _of_all(workers: Iterable[Worker[Any]]) -> tuple[array[float], array[float]]:
    """Return how late sessions began, and when those did that were due before."""
    waited, crowd = array("d"), array("d")
    for worker in workers:
        waited.extend(worker.waited)
        crowd.extend(worker.crowd)
    return waited, crowd


def _lags(name: str, waited: Sequence[float], how: str) -> Iterator[Figure]:
    machines = f"{MACHINES} machines of {IDLE_SESSIONS_PER_S} sessions/s"
    yield Figure(f"{name}_p99_s", percentile(waited, 99), f"{machines}; {how}", limit=120)
    yield Figure(f"{name}_max_s", percentile(waited, 100), f"half of them waited {percentile(waited, 50):g} s at most", limit=300)


def _told(hours: float) -> str:
    return f"{hours:g} virtual hour{'' if hours == 1 else 's'}"


# The installation


def _at(seconds: float) -> datetime:
    return START + timedelta(seconds=seconds)


@contextmanager
def _crowd() -> Iterator[tuple[str, Principal]]:
    """Have the mailboxes connected and due, one as the store makes it and the others like it; yield the URL and one's owner."""
    with postgres() as url:
        store = Store(url)
        store.migrate()
        with store.transaction() as tx:
            tenant_id = tx.add_tenant("crowd", b"wrapped", C4CSettings("https://crm.example/"), (), START)
            organization_id = tx.put_organization(tenant_id, "all", "office365", "it@crowd.example", Profile())
            address = "person@crowd.example"
            user_id = tx.add_user(tenant_id, organization_id, email=address, name="A person", c4c_user_id="PERSON", now=START)
            person = tx.principal_of(user_id)
            if person is None:
                raise CannotMeasure("There is nobody.")
            connection = tx.put_connection(person.user, "graph", address, "", START)
            tx.queue_session(connection, START)
            (session,) = tx.take_sessions(START, LEASE_S, 1)
            folders = {name: [secrets.token_urlsafe(90), name] for name in ("emails", "contacts", "accounts")}
            tx.keep_session(session, START, LEASE_S, folders=folders, first_done_at=START)
            _end(tx, session, START, -OUTAGE_S)
        store.close()
        _multiply(url)
        yield url, person


def _multiply(url: str) -> None:
    """Make as many of the one person, their connection and their session, due one after the other in the outage."""
    number, new_id = "copy.number", "md5('mailbox ' || copy.number)"
    changed = {
        "user": {"id": new_id, **{name: f"{name} || {number}" for name in ("email", "email_key", "c4c_user_id")}},
        "connection": {"id": new_id, "user_id": new_id},
        "mailbox_sync": {
            "id": new_id,
            "user_id": new_id,
            "connection_id": new_id,
            "next_due_at": f"next_due_at + {number} * interval '{OUTAGE_S / MAILBOXES} s'",
        },
    }
    engine = sa.create_engine(url)
    with engine.begin() as db:
        for table, values in changed.items():
            columns = [column.name for column in schema.metadata.tables[table].c]
            names, found = (", ".join(some) for some in ((f'"{c}"' for c in columns), (values.get(c, f'"{c}"') for c in columns)))
            copies = f"generate_series(1, {MAILBOXES - 1}) AS copy(number)"
            db.execute(sa.text(f'INSERT INTO "{table}" ({names}) SELECT {found} FROM "{table}", {copies}'))
    engine.dispose()


def _read(url: str) -> tuple[int, int]:
    """Return how often the table of sessions was read from end to end so far, and how many of its rows were read."""
    engine = sa.create_engine(url)
    with engine.connect() as db:
        query = "SELECT seq_scan, seq_tup_read + idx_tup_fetch FROM pg_stat_user_tables WHERE relname = 'mailbox_sync'"
        scans, rows = db.execute(sa.text(query)).one()
    engine.dispose()
    return int(scans), int(rows)
