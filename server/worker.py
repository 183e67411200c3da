"""The dispatcher: finds rows that are due and has the use cases work on them.

The row is the truth: a lost wake-up costs at most one poll, and a row whose holder died falls free when its lease runs out.
This is the second place that catches broadly: a fault in one job is logged once and must not end the others.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import datetime, timedelta

from server import logs, sync
from server.errors import SsiError
from server.services import Deps, notices, saving
from server.services.context import scan_addresses

Job = Callable[[Deps], int]

PAYLOADS_KEPT = timedelta(days=7)
_HOUSEKEEPING_S = 3600.0

log = logs.get(__name__)


class Dispatcher:
    """Runs jobs in threads of this process until stopped."""

    def __init__(self, deps: Deps, *, threads: int, poll_s: float) -> None:
        self._deps = deps
        self._poll_s = poll_s
        self._stopping = threading.Event()
        self._woken = threading.Event()
        self._cleaned_at: datetime | None = None
        self._threads = [threading.Thread(target=self._serve, name=f"worker-{n}", daemon=True) for n in range(threads)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Look at once instead of at the next poll."""
        self._woken.set()

    def stop(self, timeout_s: float = 25.0) -> None:
        """Finish what is being worked on and end."""
        self._stopping.set()
        self._woken.set()
        for thread in self._threads:
            thread.join(timeout_s)

    def run_once(self) -> int:
        """Work on what is due now, some of each kind; return how many rows that were."""
        self._clean()
        return sum(_guarded(job, self._deps) for job in (_save, _scan, _sync, _notify))

    def _clean(self) -> None:
        now = self._deps.now()
        if self._cleaned_at is None or (now - self._cleaned_at).total_seconds() > _HOUSEKEEPING_S:
            self._cleaned_at = now
            _guarded(_forget, self._deps)

    def _serve(self) -> None:
        while not self._stopping.is_set():
            if self.run_once() == 0:
                self._woken.wait(self._poll_s)
                self._woken.clear()


def _save(deps: Deps) -> int:
    return saving.perform_due(deps)


def _scan(deps: Deps) -> int:
    with deps.store.transaction() as tx:
        scan = tx.take_scan(deps.now(), deps.limits.scan_lease_s)
    if scan is None:
        return 0
    scan_addresses(deps, scan)
    return 1


def _sync(deps: Deps) -> int:
    return sync.run_due(deps)


def _notify(deps: Deps) -> int:
    return notices.send_due(deps)


def _forget(deps: Deps) -> int:
    now = deps.now()
    with deps.store.transaction() as tx:
        tx.forget_expired(now)
        return tx.forget_payloads(now - PAYLOADS_KEPT, now)


def _guarded(job: Job, deps: Deps) -> int:
    logs.clear()
    try:
        return job(deps)
    except SsiError as error:
        log.warning("job put off", job=job.__name__, reason=type(error).__name__)
    except Exception as error:
        log.error("job failed", job=job.__name__, exc_info=error)
    return 0
