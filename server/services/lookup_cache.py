"""Answers of C4C for a short while, per user, in this process only; who asks the same at the same time waits for one answer.

Keys hold the user's id and generation: our own writes and Refresh raise the generation in the database, which makes every
process forget without talking to each other. C4C content never leaves process memory and is never shared between users.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any


@dataclass(frozen=True, slots=True)
class Kept:
    value: Any
    at: datetime


class LookupCache:
    """A bounded store of answers. Thread-safe; the least recently used goes first."""

    def __init__(self, *, max_age_s: float, max_entries: int = 5_000, now: Callable[[], datetime]) -> None:
        self._max_age = timedelta(seconds=max_age_s)
        self._max_entries = max_entries
        self._now = now
        self._entries: OrderedDict[Hashable, Kept] = OrderedDict()
        self._under_way: dict[Hashable, Future[Any]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> Kept | None:
        with self._lock:
            kept = self._entries.get(key)
            if kept is None:
                return None
            if self._now() - kept.at > self._max_age:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return kept

    def put(self, key: Hashable, value: Any) -> None:
        with self._lock:
            self._entries[key] = Kept(value, self._now())
            self._entries.move_to_end(key)
            while len(self._entries) > self._max_entries:
                self._entries.popitem(last=False)

    def join(self, key: Hashable, start: Callable[[], Future[Any]]) -> Future[Any]:
        """Return the answer to `key` that is under way, or the one that `start` begins now."""

        def forget(ended: Future[Any]) -> None:
            with self._lock:
                if self._under_way.get(key) is ended:
                    del self._under_way[key]

        with self._lock:
            future = self._under_way.get(key)
            if future is not None and not future.done():
                return future
            future = self._under_way[key] = start()
        future.add_done_callback(forget)
        return future
