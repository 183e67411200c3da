"""The heartbeat: one thread of the process keeps alive the leases of all that the process works on.

Leases are short, so that a dead process's work is soon taken over, and a step of the work may take longer. Who lost a lease all
the same is not stopped here: the next write names a fence that is stale, and raises LeaseLost.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from server import logs
from server.services import Deps
from server.store import DatabaseAway

BEATS = 4.5  # in the time of one lease: two may be missed

log = logs.get(__name__)


class Leases:
    """The rows that this process holds. Thread-safe."""

    def __init__(self, deps: Deps) -> None:
        self._deps = deps
        self._lock = threading.Lock()
        self._held: defaultdict[str, dict[str, int]] = defaultdict(dict)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="leases", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._ended.set()

    @contextmanager
    def kept(self, table: str, row_id: str, fence: int) -> Iterator[None]:
        """Keep a lease alive for the length of the block."""
        self.keep(table, row_id, fence)
        try:
            yield
        finally:
            self.drop(table, row_id, fence)

    def keep(self, table: str, row_id: str, fence: int) -> None:
        if table:
            with self._lock:
                self._held[table][row_id] = fence

    def drop(self, table: str, row_id: str, fence: int) -> None:
        with self._lock:
            if self._held[table].get(row_id) == fence:  # it may have been lost and taken again
                del self._held[table][row_id]

    def give_back(self, table: str, row_id: str, fence: int) -> None:
        """Let others have a row at once that nothing was done with. Raises: DatabaseAway."""
        self.drop(table, row_id, fence)
        if table:
            with self._deps.store.transaction() as tx:
                tx.give_back(table, row_id, fence)

    def beat(self) -> None:
        """Renew everything now. Raises: DatabaseAway."""
        with self._lock:
            held = {table: dict(rows) for table, rows in self._held.items() if rows}
        for table, rows in held.items():
            with self._deps.store.transaction() as tx:
                kept = tx.renew_leases(table, rows, self._deps.now(), self._deps.limits.lease_s)
            for row_id in rows.keys() - kept:
                self.drop(table, row_id, rows[row_id])

    def _serve(self) -> None:
        while not self._ended.wait(self._deps.limits.lease_s / BEATS):
            try:
                self.beat()
            except DatabaseAway:
                log.warning("leases could not be renewed")
