"""What a body may look like before anybody asks what it says, and how long an answer may take."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import CancelledError, ThreadPoolExecutor, TimeoutError as FutureTimeout
from contextvars import copy_context
from typing import Any, TypeVar

from flask import g

from server.errors import InvalidInput, Transient

T = TypeVar("T")

MAX_WAITING = 32  # answers under way at a time; a sick database or sign-in service may hold many of them
GRACE_S = 0.15  # a use case that keeps a deadline of its own knows better what took so long
MAX_DEPTH = 32  # levels of lists and objects, the body itself being the first


def check_shape(body: Any) -> None:
    """Raises: InvalidInput for a body that is no object, or that is nested deeper than anything we take."""
    if not isinstance(body, dict):
        raise InvalidInput("body", "The request must be one JSON object.")
    level: list[Any] = [body]
    for _ in range(MAX_DEPTH):
        inner = (child for value in level for child in (value.values() if isinstance(value, dict) else value))
        level = [child for child in inner if isinstance(child, dict | list)]
        if not level:
            return
    raise InvalidInput("body", f"The request is nested more than {MAX_DEPTH} levels deep.")


class Deadline:
    """Answers questions within a time that a person waits, whatever stands still behind them.

    What was asked goes on in its thread and ends by its own deadlines; what it learned is there for the next call.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._threads = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="answer")

    def keep(self, ask: Callable[[], T], *, since: float | None = None) -> T:
        """Return what `ask` gives. Raises: what it raises; Transient when the time since the request came is up.

        `since` is a later moment, by time.perf_counter(), from which the time counts.
        """
        began = g.started if since is None else since
        future = self._threads.submit(copy_context().run, ask)
        try:
            return future.result(timeout=max(0.0, self._seconds - (time.perf_counter() - began)))
        except (FutureTimeout, CancelledError):
            future.cancel()
            raise Transient("This takes longer than usual. Try again in a moment.", retry_after_s=1) from None
