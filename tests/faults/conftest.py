"""The product in front of the simulator with a fault proxy before every remote.

The proxies' addresses are the vendors' public ones, so whatever the vendors say about themselves leads through them. One
installation serves all tests of this folder in a process, since each takes a message of its own; what must be cold (keys, tokens)
is composed anew.
"""

import gc
import re
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from server import wiring
from server.config import Settings
from server.services import Deps
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.ports import Simulator
from simulator.world import StoredMessage, World
from tests.api import Api, Item
from tests.conftest import Installation, _set_up, _settings, new_database
from tests.faults.proxy import Proxy, Tls, Trap
from tests.test_saves import with_files

PATIENCE_S = 20.0
SHORT = {
    "c4c_timeout_s": 0.4,
    "graph_timeout_s": 0.4,
    "identity_timeout_s": 0.4,
    "context_deadline_s": 0.6,
    "save_deadline_s": 0.8,
}
"""Deadlines for tests that let them pass."""


@dataclass
class House:
    """The product, its remotes and what stands between them."""

    simulator: Simulator
    settings: Settings
    c4c: Proxy
    graph: Proxy
    identity: Proxy
    trap: Trap
    database: Proxy | None = None
    people: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 4))  # whose threads call the API
    deps: list[Deps] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.simulator.world

    def close(self) -> None:
        """End all processes. Their connections are dropped as by a process that ends, here and not when some other test runs."""
        self.people.shutdown()
        while self.deps:
            deps = self.deps.pop()
            deps.background.shutdown()
            deps.store.close()
        del deps
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def remote(self, name: str) -> Proxy:
        return getattr(self, name)

    def lift(self) -> None:
        for proxy in (self.c4c, self.graph, self.identity, self.database):
            if proxy is not None:
                proxy.lift()

    def process(self, **settings: Any) -> "Process":
        """Compose the product as a process would; keyword arguments replace settings."""
        chosen = replace(self.settings, **settings)
        deps = wiring.build(chosen, now=self.world.now)
        self.deps.append(deps)
        return Process(self, deps, Api(create_app(deps, wiring.face(chosen)), self.simulator, self.world.people[0]))

    def forward(self, seconds: float) -> None:
        self.world.clock_skew += timedelta(seconds=seconds)

    def sign_out(self, process: "Process") -> None:
        """Have the stored sign-in to the mailbox and its categories forgotten, so that both are asked for anew."""
        with process.deps.store.transaction() as tx:
            (user,) = [u for t in tx.tenants() for u in tx.users(t.id) if u.email == self.world.people[0].email]
            connection = tx.connection_of(user.id, "graph")
        if connection is not None:
            process.deps.vault.forget(connection.id)

    def message(self, case: str = "known_contact", files: dict[str, int] | None = None) -> Item:
        """Put a copy of a demo message with an identity of its own into its mailbox; return it as Outlook describes it."""
        owner, ref = self.world.cases[case]
        mailbox = self.world.mailbox(owner)
        kept, one = mailbox.messages[ref], uuid.uuid4().hex
        mime = re.sub(rb"(?im)^message-id:[^\r\n]*", f"Message-ID: <{one}@fault.example>".encode(), kept.mime, count=1)
        if files:
            mime = with_files(mime, files)
        fresh = StoredMessage(mime, kept.folder, kept.received_at, immutable_id="AAkALg" + one, ews_id="AAMk/" + one + "=")
        mailbox.messages[fresh.immutable_id] = fresh
        return demo.item(mailbox, fresh)


@dataclass(frozen=True)
class Process:
    house: House
    deps: Deps
    api: Api

    def work(self) -> None:
        """Do what a worker finds due, until nothing is."""
        dispatcher = Dispatcher(self.deps, threads=0, poll_s=1)
        while dispatcher.run_once():
            pass

    def answered(self, call: Callable[[], TestResponse]) -> TestResponse:
        """Return the answer to a call; a call that nothing ends fails the test."""
        future = self.house.people.submit(call)
        try:
            return future.result(PATIENCE_S)
        except FutureTimeout:
            self.house.lift()
            pytest.fail(f"no answer within {PATIENCE_S:.0f} s")


@pytest.fixture(scope="package")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    state = tmp_path_factory.mktemp("vendors")
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(demo.small(), state))
        tls = Tls(state / "ca" / "server.pem", simulator.ca_file)
        proxies = {}
        for name in ("c4c", "graph", "identity"):
            port = getattr(simulator, name)
            proxies[name] = stack.enter_context(Proxy(port.port, tls))
            port.url = proxies[name].url
        trap = stack.enter_context(Trap())
        folder = tmp_path_factory.mktemp("installation")
        key = folder / "key"
        key.write_text("A" * 43 + "=\n")
        key.chmod(0o600)
        document = simulator.provisioning()
        settings = _settings(f"sqlite:///{folder / 'ssi.sqlite'}", key, document["environment"])
        _set_up(settings, document)
        house = House(simulator, settings, trap=trap, **proxies)
        yield house
        house.close()


@pytest.fixture(autouse=True)
def _well(house: House) -> Iterator[None]:
    """Leave the house as it was found: nothing is broken, nobody fell into the trap."""
    yield
    house.lift()
    assert house.trap.caught == []


@pytest.fixture(scope="package")
def shared(house: House) -> Process:
    """A process that has done all this before: signed in, categories made, connections warm."""
    process = house.process(**SHORT)
    saved = process.api.save(house.message())
    assert saved.status_code == 201, saved.text
    return process
