"""How fast one mailbox may be asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from server.errors import RateLimited
from server.transport import LONGEST_PAUSE_S

PATIENCE_S = 5.0


class Pace:
    """At most `places` requests at once, and none before a pause is over that the provider asked for. Thread-safe.

    One per mailbox and process, shared by all that ask it; enter it for each request. Microsoft allows four at once (outlook.md
    section 3, "Throttling"), and counts what comes during a pause against the app.
    """

    def __init__(
        self,
        places: int = 4,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._places = threading.BoundedSemaphore(places)
        self._clock, self._sleep = clock, sleep
        self._lock = threading.Lock()
        self._until = 0.0

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._lock:
            self._until = max(self._until, self._clock() + min(seconds, LONGEST_PAUSE_S))

    def __enter__(self) -> None:
        """Raises: RateLimited when the pause lasts longer than a caller should wait."""
        self._places.acquire()
        while (left := self._until - self._clock()) > 0:  # another answer may make it longer meanwhile
            if left > PATIENCE_S:
                self._places.release()
                raise RateLimited("The mailbox asked for a pause.", retry_after_s=left)
            self._sleep(left)

    def __exit__(self, *_: object) -> None:
        self._places.release()
