"""The dispatcher: takes rows that are due, and has the use cases work on them, here or in other processes.

The row is the truth: a lost wake-up costs at most one poll, and a row whose holder died falls free when its lease runs out. Rows
are taken in batches, as many as the threads can soon begin with. With a broker (`server.worker.celery`) sessions, scans and
notifications' orders are not begun where they were taken: a message names the row and its fence, and whoever gets it takes the
row up, which makes the fence a new one. So a message that is lost costs one lease, and one that comes twice finds a stale fence.
While the broker is away, each process performs what it takes.

This is the second place that catches broadly: a fault in one job is logged once and must not end the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from queue import Empty, SimpleQueue
from typing import Any, Protocol, TypeVar

from server import logs
from server.errors import SsiError, Transient
from server.services import Deps
from server.services.connections import PROVIDERS
from server.store import DatabaseAway, LeaseLost
from server.worker.kinds import BY_NAME, LONG, OUR_FAULT, SHORT, Held, Kind
from server.worker.leases import Leases

T = TypeVar("T")

PAYLOADS_KEPT = timedelta(days=7)
_CLEANING_S = 3600.0
_ARRANGING_S = 60.0
_ARRANGED = 500  # mailboxes at a time
_AT_ONCE = 10  # rows of one kind in one `run_once`

log = logs.get(__name__)


class Broker(Protocol):
    """Carries jobs to whichever process has a thread free."""

    def room(self) -> int:
        """Return how many more jobs should be sent; 0 or less while enough wait. Raises: Transient while it is away."""

    def send(self, kind: str, row_id: str, fence: int) -> None:
        """Raises: Transient while it is away; then the job is the caller's still."""


@dataclass(frozen=True, slots=True)
class Job:
    """A row that this process holds."""

    kind: Kind[Any]
    row: Held


class Dispatcher:
    """Runs jobs in threads of this process until stopped: `threads` for sessions and scans, one more for what is short."""

    def __init__(self, deps: Deps, *, threads: int, poll_s: float, broker: Broker | None = None) -> None:
        self._deps = deps
        self._leases = Leases(deps)
        self._stopping = threading.Event()
        self._cleaned_at: datetime | None = None
        self._arranged_at: datetime | None = None
        self._short = _Lane(self, SHORT, threads=min(1, threads), poll_s=poll_s, before=self.keep_house)
        self._long = _Lane(self, LONG, threads=threads, poll_s=poll_s, broker=broker)

    def start(self) -> None:
        self._leases.start()
        self._short.start()
        self._long.start()

    def wake(self) -> None:
        """Look at once instead of at the next poll."""
        self._short.wake()
        self._long.wake()

    def stop(self, timeout_s: float = 25.0) -> None:
        """Finish what is being worked on, give back what is not, and end."""
        self._stopping.set()
        self.wake()
        self._short.stop(timeout_s)
        self._long.stop(timeout_s)
        self._leases.stop()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def run_once(self) -> int:
        """Work on what is due now, some of each kind, in this thread; return how many rows that were."""
        self.clean()
        return sum(self._some(kind) for kind in (*SHORT, *LONG))

    def _some(self, kind: Kind[Any]) -> int:
        for number in range(_AT_ONCE):
            taken = self.taken(kind, 1)
            if not taken:
                return number
            self.perform(taken[0])
        return _AT_ONCE

    def taken(self, kind: Kind[Any], limit: int) -> Sequence[Job]:
        """Take rows of a kind, as many as are due and wanted, and keep them."""
        rows: Sequence[Held] = _guarded(f"take {kind.name}", lambda: kind.take(self._deps, limit)) or ()
        for row in rows:
            self._leases.keep(kind.table, row.id, row.fence)
        return [Job(kind, row) for row in rows]

    def perform(self, job: Job) -> None:
        """Do a job that was taken here, or taken up. Raises nothing."""
        kind, row = job.kind, job.row
        logs.clear()
        try:
            kind.perform(self._deps, row)
        except LeaseLost:
            log.info("another worker goes on", job=kind.name, row=row.id)
        except DatabaseAway:
            log.warning("job put off", job=kind.name, row=row.id, reason="DatabaseAway")
        except SsiError as error:
            log.warning("job put off", job=kind.name, row=row.id, reason=type(error).__name__)
            self._note(job, str(error), is_away=isinstance(error, Transient))
        except Exception as error:
            log.error("job failed", job=kind.name, row=row.id, exc_info=error)
            self._note(job, OUR_FAULT, is_away=False)
        finally:
            self._leases.drop(kind.table, row.id, row.fence)

    def _note(self, job: Job, reason: str, *, is_away: bool) -> None:
        _guarded(f"put off {job.kind.name}", lambda: job.kind.broke(self._deps, job.row, reason[:400], is_away))

    def take_up(self, kind_name: str, row_id: str, fence: int) -> None:
        """Perform a row that another process took, unless it is too late for that. Raises nothing."""
        kind = BY_NAME.get(kind_name)
        if kind is None or kind.take_up is None:  # a newer release's
            log.warning("unknown job", job=kind_name)
            return
        take_up = kind.take_up

        def look() -> Held | None:
            with self._deps.store.transaction() as tx:
                return take_up(tx, row_id, fence, self._deps.now(), self._deps.limits.lease_s)

        row = _guarded(f"take up {kind_name}", look)
        if row is not None:
            self._leases.keep(kind.table, row.id, row.fence)
            self.perform(Job(kind, row))
        self._long.wake()

    def hand_over(self, job: Job) -> None:
        """The job is another process's: no longer keep its lease alive."""
        self._leases.drop(job.kind.table, job.row.id, job.row.fence)

    def give_back(self, job: Job) -> None:
        _guarded(f"give back {job.kind.name}", lambda: self._leases.give_back(job.kind.table, job.row.id, job.row.fence))

    def keep_house(self) -> None:
        """Forget what is over, and find mailboxes in use that nobody arranged a session or notifications for."""
        self.clean()
        now = self._deps.now()
        if self._arranged_at is None or (now - self._arranged_at).total_seconds() > _ARRANGING_S:
            self._arranged_at = now
            _guarded("arrange", lambda: _arrange(self._deps))

    def clean(self) -> None:
        """Forget what is over, if that was not done for an hour."""
        now = self._deps.now()
        if self._cleaned_at is None or (now - self._cleaned_at).total_seconds() > _CLEANING_S:
            self._cleaned_at = now
            _guarded("forget", lambda: _forget(self._deps))


class _Lane:
    """Threads that perform jobs of some kinds, and one that takes as many as they can soon begin with."""

    def __init__(
        self,
        dispatcher: Dispatcher,
        kinds: Sequence[Kind[Any]],
        *,
        threads: int,
        poll_s: float,
        broker: Broker | None = None,
        before: Callable[[], None] = lambda: None,
    ) -> None:
        self._before = before
        self._dispatcher, self._kinds, self._size, self._poll_s = dispatcher, kinds, threads, poll_s
        self._broker = broker
        self._broker_is_away = False
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._unfinished = 0
        self._woken = threading.Event()
        name = "+".join(kind.name for kind in kinds)
        self._threads = [threading.Thread(target=self._serve, name=f"{name}-{n}", daemon=True) for n in range(threads)]
        self._taker = threading.Thread(target=self._take, name=f"{name}-taker", daemon=True)

    def start(self) -> None:
        for thread in (*self._threads, self._taker):
            thread.start()

    def wake(self) -> None:
        self._woken.set()

    def stop(self, timeout_s: float) -> None:
        self._taker.join(timeout_s)
        while (job := self._next()) is not None:
            self._dispatcher.give_back(job)
        for _ in self._threads:
            self._jobs.put(None)
        for thread in self._threads:
            thread.join(timeout_s)

    def _next(self) -> Job | None:
        try:
            return self._jobs.get_nowait()
        except Empty:
            return None

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._dispatcher.perform(job)
            with self._lock:
                self._unfinished -= 1
            self._woken.set()

    def _take(self) -> None:
        while not self._dispatcher.is_stopping:
            self._before()
            if not _guarded("take", self._fill):
                self._woken.wait(self._poll_s)
                self._woken.clear()

    def _fill(self) -> int:
        """Take what there is room for; return how many jobs that were."""
        taken = 0
        for kind in self._kinds:
            broker = self._broker if kind.take_up is not None else None
            room = self._room_at(broker) if broker else None
            if room is None:  # not for others, or the broker is away
                room, broker = self._room(), None
            jobs = self._dispatcher.taken(kind, room) if room > 0 else ()
            for job in jobs:
                if broker is None or not self._sent(broker, job):
                    self._put(job)
            taken += len(jobs)
        return taken

    def _room(self) -> int:
        """Return how many jobs more can wait here: none until each thread has but one left, so that batches are large."""
        with self._lock:
            unfinished = self._unfinished
        return 0 if unfinished > self._size else 2 * self._size - unfinished

    def _put(self, job: Job) -> None:
        with self._lock:
            self._unfinished += 1
        self._jobs.put(job)

    def _room_at(self, broker: Broker) -> int | None:
        """Return how many jobs the broker wants; None while it is away."""
        try:
            room = broker.room()
        except SsiError as error:
            if not self._broker_is_away:
                log.warning("the broker is away: jobs are done where they are taken", reason=str(error))
            self._broker_is_away = True
            return None
        if self._broker_is_away:
            log.warning("the broker is back")
        self._broker_is_away = False
        return room

    def _sent(self, broker: Broker, job: Job) -> bool:
        try:
            broker.send(job.kind.name, job.row.id, job.row.fence)
        except SsiError:  # the next look tells it
            return False
        self._dispatcher.hand_over(job)
        return True


def _forget(deps: Deps) -> None:
    now = deps.now()
    with deps.store.transaction() as tx:
        tx.forget_expired(now)
        tx.forget_payloads(now - PAYLOADS_KEPT, now)


def _arrange(deps: Deps) -> None:
    """Have sessions begin where none ever did, as for a mailbox that its owner's sign-in in the mail client opened.

    Notifications are ordered after a first session; here for who had none when an operator's address was set, or was not there.
    """
    pushing = frozenset(name for name in PROVIDERS.values() if "push" in deps.capabilities(name))
    with deps.store.transaction() as tx:
        for connection in tx.unscheduled(_ARRANGED):
            tx.queue_session(connection, deps.now())
        for connection in tx.unsubscribed(pushing, _ARRANGED) if deps.hooks_url else ():
            tx.want_subscription(connection, deps.now())


def _guarded(what: str, act: Callable[[], T]) -> T | None:
    """Do something of our own around the jobs; None if it failed."""
    try:
        return act()
    except LeaseLost:
        log.info("another worker goes on", at=what)
    except SsiError as error:
        log.warning("put off", at=what, reason=type(error).__name__)
    except Exception as error:
        log.error("failed", at=what, exc_info=error)
    return None
