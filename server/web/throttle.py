"""How often somebody may call, so that one person's or one tenant's haste is not everybody's wait.

Token buckets, in this process alone: with several web processes each has its own, and nobody waits for a shared store. A
bucket holds what may be used in one minute and fills evenly; a call that changes or looks up takes one, a plain GET, as the
pane's look at a save under way, a tenth. Whoever finds the bucket empty is told how long to wait.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from datetime import datetime

_KEPT = 50_000  # buckets; the one that was not used for longest is forgotten, which makes it full


class Throttle:
    """Buckets of one kind, e.g. one for each user. `per_minute` 0 means no limit. Thread-safe."""

    def __init__(self, per_minute: int, now: Callable[[], datetime]) -> None:
        self._per_minute = per_minute
        self._now = now
        self._lock = threading.Lock()
        self._buckets: OrderedDict[str, tuple[float, datetime]] = OrderedDict()  # key -> what was left, and when

    def take(self, key: str, cost: float = 1.0) -> float:
        """Take from a bucket; return 0.0, or, taking nothing, in how many seconds it would hold enough."""
        if not self._per_minute:
            return 0.0
        now, per_second = self._now(), self._per_minute / 60
        with self._lock:
            left, at = self._buckets.get(key, (float(self._per_minute), now))
            left = min(float(self._per_minute), left + max(0.0, (now - at).total_seconds()) * per_second)
            if left < cost:
                return (cost - left) / per_second
            self._buckets[key] = (left - cost, now)
            self._buckets.move_to_end(key)
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return 0.0
