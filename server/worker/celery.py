"""Jobs handed over by Celery on Redis, from whichever process took their rows to whichever has a thread free.

Nothing rests on Redis: a message names a row and its fence, see `server.worker`. So the settings are the plain ones: messages are
acknowledged when work begins, no results are kept, and a worker fetches a message only when it has a thread for it, since one
that waits behind a long session would only outlive its lease. (What Celery does with workers and brokers that die was measured:
domain page toolchain.md, section 6.)
"""

from __future__ import annotations

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from celery import Celery, bootsteps
from celery.worker import state
from kombu.exceptions import OperationalError

from server import logs
from server.errors import InvalidInput, Transient

QUEUE = "ssi"
TASK = "ssi.job"
PATIENCE_S = 2.0  # for Redis to answer
REST_S = 5.0  # after it did not, nobody asks it for so long
SETTLED_S = 0.005  # after a thread has done its work, Celery counts it as free
WAITING_EACH = 2  # messages that may wait, for each thread of a process

log = logs.get(__name__)


class CeleryBroker:
    """Implements `server.worker.Broker`, and performs what others sent. One per process: Celery's worker is one, too."""

    def __init__(
        self, url: str, password: str = "", *, ca_file: Path | None = None, threads: int, rest_s: float = REST_S
    ) -> None:
        """`rest_s`: how long nothing is asked of Redis after it failed. Raises: InvalidInput for what is no address of one."""
        self._threads, self._rest_s = threads, rest_s
        self._is_stopping = threading.Event()
        self._rests_until = 0.0
        self._app = Celery("ssi", broker=_address(url, password), set_as_current=False)
        self._app.set_default()  # by which the threads of its pool find it
        self._app.conf.update(
            task_default_queue=QUEUE,
            task_ignore_result=True,
            task_serializer="json",
            accept_content=["json"],
            broker_transport_options={"socket_timeout": PATIENCE_S, "socket_connect_timeout": PATIENCE_S},
            broker_connection_retry_on_startup=True,
            broker_connection_max_retries=None,
            worker_prefetch_multiplier=1,
            worker_disable_prefetch=True,
            worker_enable_prefetch_count_reduction=False,
            worker_hijack_root_logger=False,
            worker_enable_remote_control=False,  # nobody else tells our workers what to do
        )
        if url.startswith("rediss:"):
            self._app.conf.broker_use_ssl = {
                "ssl_cert_reqs": ssl.CERT_REQUIRED,
                "ssl_ca_certs": str(ca_file) if ca_file else None,
            }
        self._perform: Callable[[str, str, int], None] = lambda kind, row_id, fence: None

        bell = _Bell()
        self._app.steps["consumer"].add(bell.step())

        def begin(kind: str, row_id: str, fence: int) -> None:
            try:
                self._perform(str(kind), str(row_id), int(fence))
            finally:
                bell.ring()

        self._task = self._app.task(begin, name=TASK, shared=False)
        self._channel: Any = None
        # It says at each of its tries that Redis is away; the dispatcher says it once.
        logging.getLogger("celery.worker.consumer.consumer").setLevel(logging.CRITICAL)

    # server.worker.Broker; called by one thread

    def room(self) -> int:
        return WAITING_EACH * self._threads - int(self._asking(self._waiting))

    def send(self, kind: str, row_id: str, fence: int) -> None:
        self._asking(lambda: self._task.apply_async((kind, row_id, fence), retry=False, queue=QUEUE))

    def _waiting(self) -> int:
        channel, self._channel = self._channel or self._app.connection_for_write().channel(), None  # kept only if it answers
        waiting = int(channel.queue_declare(queue=QUEUE).message_count)
        self._channel = channel
        return waiting

    def _asking(self, ask: Callable[[], Any]) -> Any:
        """Raises: Transient if Redis does not answer, or did not a moment ago."""
        if time.monotonic() < self._rests_until:
            raise Transient("Redis is not available right now.")
        try:
            return ask()
        except (OperationalError, OSError, *self._app.connection_for_write().connection_errors) as error:
            self._rests_until = time.monotonic() + self._rest_s
            raise Transient("Redis is not available right now.") from error

    # Performing what was sent

    def start(self, perform: Callable[[str, str, int], None]) -> None:
        """Have jobs performed in threads of this process until `stop`: perform(kind, row_id, fence)."""
        self._perform = perform
        self._thread = threading.Thread(target=self._serve, name="celery", daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        """Run Celery's worker, and another one should it end: a message that is none of ours ends it for good."""
        while not self._is_stopping.is_set():
            worker = self._app.WorkController(
                pool_cls="threads",
                concurrency=self._threads,
                without_mingle=True,
                without_gossip=True,
                without_heartbeat=True,
                loglevel="WARNING",
            )
            worker.start()
            if not self._is_stopping.is_set():
                self._rests_until = time.monotonic() + self._rest_s
                log.error("Celery ended; what waits in Redis is dropped, and done when its leases run out")
                self._drop_waiting()
                self._is_stopping.wait(self._rest_s)

    def _drop_waiting(self) -> None:
        """Take away what waits: the message that ended the worker would be brought to the next one, too."""
        try:
            with self._app.connection_for_write() as connection:
                connection.default_channel.queue_purge(QUEUE)
        except (OperationalError, OSError, *self._app.connection_for_write().connection_errors) as error:
            log.warning("Redis is away", reason=type(error).__name__)

    def stop(self, timeout_s: float = 25.0) -> None:
        """Finish what is being worked on and end. A message that nobody began with costs its row one lease."""
        self._is_stopping.set()
        state.should_stop = 0  # an exit code
        self._thread.join(timeout_s)


class _Bell:
    """Tells Celery's loop that a thread is free. Without prefetching it would look for the next message only once a second."""

    def __init__(self) -> None:
        self._heard, self._rung = os.pipe()
        for end in (self._heard, self._rung):
            os.set_blocking(end, False)

    def ring(self) -> None:
        with suppress(BlockingIOError):  # it rings already
            os.write(self._rung, b".")

    def step(self) -> type[Any]:
        """Return what Celery starts with each connection to Redis."""

        def listen(hub: Any) -> None:
            os.read(self._heard, 4096)
            hub.call_later(SETTLED_S, lambda: None)

        class Listening(bootsteps.StartStopStep):  # type: ignore[misc]
            requires = ("celery.worker.consumer.tasks:Tasks",)

            def start(step, consumer: Any) -> None:
                consumer.hub.add_reader(self._heard, listen, consumer.hub)

        return Listening


def _address(url: str, password: str) -> str:
    """Return the URL with its password. Raises: InvalidInput."""
    parts = urlsplit(url)
    if parts.scheme not in ("redis", "rediss") or not parts.hostname:
        raise InvalidInput("SSI_REDIS_URL", "must be redis://[user@]host[:port][/number], or rediss://")
    if parts.password is not None:
        raise InvalidInput("SSI_REDIS_URL", "must not hold the password; put it into SSI_REDIS_PASSWORD_FILE")
    if not password:
        return url
    place = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=f"{parts.username or ''}:{quote(password, safe='')}@{place}"))
