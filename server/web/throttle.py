"""How often somebody may call, so that one person's or one tenant's haste is not everybody's wait.

Token buckets, in this process alone: with several web processes each has its own, and nobody waits for a shared store. A
bucket holds what may be used in one minute and fills evenly; a call that changes or looks up takes one, a plain GET, as the
pane's look at a save under way, a tenth. Whoever finds the bucket empty is told how long to wait.

Where only failures count, what is tried takes before it is known how it ends, and a success gives it back: so tries at the
same moment are counted, too.
"""

from __future__ import annotations

import ipaddress
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
        now = self._now()
        with self._lock:
            left = self._left(key, now)
            if left < cost:
                return (cost - left) * 60 / self._per_minute
            self._buckets[key] = (left - cost, now)
            self._buckets.move_to_end(key)
            if len(self._buckets) > _KEPT:
                self._buckets.popitem(last=False)
        return 0.0

    def give_back(self, key: str, cost: float = 1.0) -> None:
        """Put back what was taken for something that turned out not to count."""
        now = self._now()
        with self._lock:
            if key in self._buckets:
                self._buckets[key] = (min(float(self._per_minute), self._left(key, now) + cost), now)

    def _left(self, key: str, now: datetime) -> float:
        left, at = self._buckets.get(key, (float(self._per_minute), now))
        return min(float(self._per_minute), left + max(0.0, (now - at).total_seconds()) * self._per_minute / 60)


class Charge:
    """One of each of several buckets, taken together or not at all."""

    def __init__(self, *places: tuple[Throttle, str]) -> None:
        self._places = places

    def take(self) -> float:
        """Return as Throttle.take does; whoever has to wait for one bucket has taken from none."""
        for number, (throttle, key) in enumerate(self._places):
            wait_s = throttle.take(key)
            if wait_s:
                Charge(*self._places[:number]).give_back()
                return wait_s
        return 0.0

    def give_back(self) -> None:
        for throttle, key in self._places:
            throttle.give_back(key)


def network(address: str | None) -> str:
    """Return the key of who calls from a network address: an IPv6 network's people have at least a /64 to choose from."""
    try:
        ip = ipaddress.ip_address((address or "").partition("%")[0])
    except ValueError:  # a socket of this machine has no address
        return address or ""
    if isinstance(ip, ipaddress.IPv4Address):
        return str(ip)
    return str(ip.ipv4_mapped or ipaddress.ip_network((ip, 64), strict=False))
