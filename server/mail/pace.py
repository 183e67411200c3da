"""How fast one mailbox may be asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from server.errors import RateLimited
from server.transport import LONGEST_PAUSE_S

PATIENCE_S = 5.0
RESTS_S = (0.5, 1.0, 2.0, 30.0, 60.0, 120.0)
"""How long to leave a mailbox alone at least after the first, second, ... refusal in a row. One that refuses for ten minutes is
asked no more than ten times, whatever its provider says of when to come back, or does not say."""


class Pace:
    """At most `places` requests at once, and none before a pause is over that the provider asked for. Thread-safe.

    One per mailbox and process, shared by all that ask it; enter it for each request, and leave it by RateLimited where the
    provider refused (429): then nobody else asks until the pause is over, and after that one at a time until there is another
    answer. Microsoft allows four at once (outlook.md section 3, "Throttling"), and counts what comes during a pause against the
    app.
    """

    def __init__(
        self,
        places: int = 4,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._places = places
        self._clock, self._sleep = clock, sleep
        self._changed = threading.Condition()
        self._inside = 0
        self._refusals = 0  # since the last other answer
        self._until = 0.0

    def pause(self, seconds: float) -> None:
        """Let nobody ask for so long."""
        with self._changed:
            self._until = max(self._until, self._clock() + min(seconds, LONGEST_PAUSE_S))

    def __enter__(self) -> None:
        """Raises: RateLimited when the pause lasts longer than a caller should wait."""
        self._left()
        with self._changed:
            self._changed.wait_for(lambda: self._inside < (1 if self._refusals else self._places))
            self._inside += 1
        try:
            while (left := self._left()) > 0:  # another answer may make it longer meanwhile
                self._sleep(left)
        except RateLimited:
            self._leave()
            raise

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if isinstance(error, RateLimited):
            error.retry_after_s = self._refused(error.retry_after_s or 0.0)
        self._leave(is_answered=error is None)

    def _left(self) -> float:
        """Return how many seconds are left of the pause, 0 or less if it is over. Raises: RateLimited when that is too long."""
        left = self._until - self._clock()
        if left > PATIENCE_S:
            raise RateLimited("The mailbox asked for a pause.", retry_after_s=left)
        return left

    def _refused(self, asked_s: float) -> float:
        """Begin a pause, of as many seconds as were asked for or more; return how many are left of it."""
        with self._changed:
            now, rest_s = self._clock(), 0.0
            if now >= self._until:  # else it was sent together with one that was refused before
                rest_s = RESTS_S[min(self._refusals, len(RESTS_S) - 1)]
                self._refusals += 1
            self._until = max(self._until, now + min(max(asked_s, rest_s), LONGEST_PAUSE_S))
            return self._until - now

    def _leave(self, *, is_answered: bool = False) -> None:
        with self._changed:
            self._inside -= 1
            if is_answered:
                self._refusals = 0
            self._changed.notify_all()
