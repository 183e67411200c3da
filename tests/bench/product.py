"""The product as it runs, to be measured: `ssi serve` in processes of its own, in front of the simulator on real ports.

The simulator and the measuring client live in this process and share the machine's cores with the product, as they would on a
developer's machine. While the client waits for an answer it costs nothing, and the World says how long the simulator itself
took for each request (`Access.duration_ms`), so that its time can be taken out. What remains, and so counts as ours, still
holds the TLS and HTTP work of the simulator's port: the figures are upper bounds.
"""

from __future__ import annotations

import http.client
import itertools
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from simulator import demo
from simulator.google.mail import gmail_id
from simulator.mime import File, Mail
from simulator.ports import Simulator
from simulator.world import Access, Latency, Person, StoredMessage, World
from tests.bench.figures import CannotMeasure
from tests.processes import SHORT, Installed

Item = dict[str, Any]

BUSY = {"SSI_USER_CALLS_PER_MINUTE": "10000000", "SSI_TENANT_CALLS_PER_MINUTE": "10000000"}
"""A few people stand for many: what one may call is not what is measured. The calls are counted all the same."""

_numbers = itertools.count(1)


class Product:
    """A running server and the World behind it. `call` keeps one connection for each caller it is made for."""

    def __init__(self, simulator: Simulator, installed: Installed) -> None:
        self.simulator = simulator
        self.installed = installed

    @property
    def world(self) -> World:
        return self.simulator.world

    @property
    def people(self) -> list[Person]:
        return [person for person in self.world.people if person.provisioned and person.connected]

    def caller(self, person: Person) -> Caller:
        return Caller(self.installed.port, self.simulator.bearer(person))

    def items(self, person: Person) -> list[Item]:
        """The person's messages that somebody may look up: with a Message-ID, from or to people outside."""
        return [item for item in demo.items(self.world, person) if item["internet_message_id"]]

    def slow(self, ms: float) -> None:
        """Let C4C take this long to answer."""
        self.world.latency["c4c"] = Latency(base_ms=ms)

    def seen(self, vendor: str | None = None, *, since: int = 0) -> list[Access]:
        """Requests to C4C's data and to Graph since there were so many (`len`) in the access log; without sign-ins."""
        calls = list(self.world.access[since:])
        wanted = ("c4c", "graph") if vendor is None else (vendor,)
        return [call for call in calls if call.vendor in wanted and "oauth2/token" not in call.path]

    @property
    def marker(self) -> int:
        return len(self.world.access)

    def settle(self) -> None:
        """Wait until the background reading of addresses is through, so that only what is measured happens."""
        seen, quiet_since = -1, time.monotonic()
        while time.monotonic() - quiet_since < 2:
            if self.marker != seen:
                seen, quiet_since = self.marker, time.monotonic()
            time.sleep(0.1)

    def workers(self) -> list[int]:
        """Process ids of the processes that answer requests."""
        return self.installed._web_workers()

    def deliver(self, person: Person, like: Item, *files: File) -> Item:
        """Put a message with these files, from the sender of another, into the person's inbox; return it as Outlook does."""
        number = next(_numbers)
        mailbox = self.world.mailbox(person.email)
        mail = Mail(
            datetime.now(UTC).replace(microsecond=0),
            f"Offer {number}",
            (like["from"]["name"], like["from"]["address"]),
            ((person.name, person.email),),
            message_id=f"<offer-{number:06d}@bench.example>",
            text="Please find the offer attached.",
            files=files,
        )
        stored = StoredMessage(mail.written(), mailbox.folder("inbox").id, self.world.now(), immutable_id=f"AAkALg{number:048x}")
        if person.access_type == "google":
            stored.immutable_id = stored.ews_id = stored.conversation_id = gmail_id(stored.immutable_id)
        mailbox.messages[stored.immutable_id] = stored
        mailbox.touch(stored, self.world.now())
        return demo.item(mailbox, stored)


class Caller:
    """One keep-alive connection of one person."""

    def __init__(self, port: int, bearer: str) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
        self._headers = {"Authorization": f"Bearer {bearer}", "Content-Type": "application/json"}

    def send(self, method: str, path: str, body: Any = None, *, busy_is_an_answer: bool = False) -> tuple[dict[str, Any], float]:
        """Return the answer and how long it took, in milliseconds, from the first byte sent to the last one read."""
        payload = None if body is None else json.dumps(body).encode()
        started = time.perf_counter()
        self._connection.request(method, path, payload, self._headers)
        response = self._connection.getresponse()
        content = response.read()
        took = (time.perf_counter() - started) * 1000
        answer: dict[str, Any] = json.loads(content)
        if response.status >= 400 and not (busy_is_an_answer and response.status == 503):
            raise CannotMeasure(f"{method} {path} answered {response.status}: {answer.get('detail')}")
        return answer, took

    def look_up(self, item: Item, **members: Any) -> tuple[dict[str, Any], float]:
        return self.send("POST", "/api/context", {"item": item, **members})

    def save(self, item: Item, links: list[dict[str, str]]) -> tuple[dict[str, Any], float]:
        return self.send("POST", "/api/saves", {"item": item, "links": links})


def never_seen(item: Item) -> Item:
    """The same people on a message nobody has asked about: C4C must be asked for it."""
    number = next(_numbers)
    return {**item, "id": f"AAMkBench{number:08d}=", "internet_message_id": f"<never-{number:06d}@bench.example>"}


@contextmanager
def simulated(world: World) -> Iterator[tuple[Simulator, Path]]:
    """Serve a World for the length of the block; yield it with a folder to work in."""
    with TemporaryDirectory(prefix="ssi-bench-") as folder, Simulator(world, Path(folder, "simulator")) as simulator:
        yield simulator, Path(folder)


@contextmanager
def running(simulator: Simulator, folder: Path, *, processes: int = 1, **environment: str) -> Iterator[Product]:
    """Run a fresh installation with the settings that a newcomer gets, save for BUSY."""
    place = folder / f"installation-{next(_numbers)}"
    place.mkdir()
    with Installed(simulator, place) as installed:
        installed.environment = {name: value for name, value in installed.environment.items() if name not in SHORT} | BUSY
        installed.serve(processes=processes, **environment)
        product = Product(simulator, installed)
        product.settle()
        yield product
