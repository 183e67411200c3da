"""The product with a fault proxy before each remote, and what must be true whatever the remotes do."""

import gc
import re
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
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
from tests.api import Api, Item, activities, children, file_names, numbers
from tests.faults.proxy import LOOPBACK, Proxy
from tests.test_saves import with_files

SAVED = "Saved in SAP Cloud for Customer SSI"
ERROR = "Error in SAP Cloud for Customer SSI"
PATIENCE_S = 20.0
ROUNDS = 12
RUNS = 20
SHORT = {
    "c4c_timeout_s": 0.4,
    "graph_timeout_s": 0.4,
    "identity_timeout_s": 0.4,
    "context_deadline_s": 0.6,
    "save_deadline_s": 0.8,
}
"""Settings for tests that let deadlines pass."""


class Trap:
    """A server that nobody may ever reach; it remembers what each who did said first."""

    def __init__(self) -> None:
        self._listener = socket.create_server((LOOPBACK, 0))
        self.url = f"https://localhost:{self._listener.getsockname()[1]}/elsewhere"
        self.caught: list[bytes] = []

    def __enter__(self) -> "Trap":
        threading.Thread(target=self._catch, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _catch(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                with connection:
                    connection.settimeout(1)
                    self.caught.append(connection.recv(65536))


@dataclass
class House:
    """The remotes, what stands between, and every process of the product that was composed."""

    simulator: Simulator
    settings: Settings
    proxies: dict[str, Proxy]  # "c4c", "graph", "identity"
    trap: Trap
    people: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 4))  # whose threads call the API
    _deps: list[Deps] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.simulator.world

    def process(self, **settings: Any) -> "Process":
        """Compose the product as another process would; keyword arguments replace settings."""
        chosen = replace(self.settings, **settings)
        deps = wiring.build(chosen, now=self.world.now)
        self._deps.append(deps)
        return Process(self, deps, Api(create_app(deps, wiring.face(chosen)), self.simulator, self.world.people[0]))

    def lift(self) -> None:
        for proxy in self.proxies.values():
            proxy.lift()

    def forward(self, seconds: float) -> None:
        self.world.clock_skew += timedelta(seconds=seconds)

    def message(self, case: str = "known_contact", files: dict[str, int] | None = None) -> Item:
        """Put a copy of a demo message, with an identity of its own, into the mailbox; return it as Outlook describes it."""
        owner, ref = self.world.cases[case]
        mailbox = self.world.mailbox(owner)
        model, one = mailbox.messages[ref], uuid.uuid4().hex
        mime = re.sub(rb"(?im)^message-id:[^\r\n]*", f"Message-ID: <{one}@fault.example>".encode(), model.mime, count=1)
        fresh = StoredMessage(
            with_files(mime, files) if files else mime,
            model.folder,
            model.received_at,
            immutable_id=f"AAkALg{one}",
            ews_id=f"AAMk/{one}=",
        )
        mailbox.messages[fresh.immutable_id] = fresh
        return demo.item(mailbox, fresh)

    def close(self) -> None:
        self.people.shutdown()
        while self._deps:
            deps = self._deps.pop()
            deps.background.shutdown()
            deps.store.close()
        del deps
        with warnings.catch_warnings():  # the processes' connections end with them, here and not during somebody else's test
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()


@dataclass(frozen=True)
class Process:
    """One process of the product, and a person who uses it."""

    house: House
    deps: Deps
    api: Api

    def work(self) -> None:
        """Do what a worker finds due, until nothing is; which must be soon, or it would never rest."""
        dispatcher = Dispatcher(self.deps, threads=0, poll_s=1)
        assert 0 in (dispatcher.run_once() for _ in range(RUNS)), "the worker does the same again and again"

    def answered(self, call: Callable[[], TestResponse], within_s: float = PATIENCE_S) -> TestResponse:
        """Return the answer to a call; a call that does not come to its end fails the test."""
        future = self.house.people.submit(call)
        try:
            return future.result(within_s)
        except FutureTimeout:
            self.house.lift()
            pytest.fail(f"no answer within {within_s:.0f} s")

    def sign_out(self) -> None:
        """Forget the stored sign-in to the mailbox, so that the next save exchanges the person's own."""
        with self.deps.store.transaction(reading=True) as tx:
            (user,) = (u for t in tx.tenants() for u in tx.users(t.id) if u.email == self.api.person.email)
            connection = tx.connection_of(user.id, "graph")
        if connection is not None:
            self.deps.vault.forget(connection.id)

    def tells(self, item: Item, answer: TestResponse) -> str | None:
        """Compare what was said of a save with what C4C and the mailbox hold; return its id if one was promised."""
        made = activities(self.house.world, item)
        marks = self.api.categories(item)
        assert len(made) <= 1
        assert (SAVED in marks) <= (len(made) == 1)
        if answer.status_code in (200, 201):
            assert answer.json["state"] == "saved"
            assert [answer.json["activity"]["id"]] == [row["ObjectID"] for row in made]
            assert (answer.json["marks"] == ["saved"]) <= (SAVED in marks)
        elif answer.status_code == 202:
            assert answer.json["state"] in ("pending", "unknown")
            assert answer.json["activity"] is None
            assert SAVED not in marks
        elif answer.status_code == 409:
            assert answer.json["code"] == "save_failed"
            assert is_a_sentence(answer.json["detail"])
            assert SAVED not in marks
        else:
            tells_what_to_do(answer)
            return None
        return str(answer.json.get("id") or answer.json["save_id"])

    def recovers(self, item: Item, links: Any, answer: TestResponse, save_id: str | None) -> None:
        """Have the save come to its end: by itself where it was accepted, else by what the person was told to do."""
        for round in range(ROUNDS):
            if save_id is None:
                self.house.forward(float(answer.headers.get("Retry-After", 1)))
                answer = self.api.save(item, links)
                save_id = answer.json.get("id") or answer.json.get("save_id")
                continue
            told = self.api.get("/saves/" + save_id)
            if told.status_code == 200 and (told.json["state"], told.json["marks"]) == ("saved", ["saved"]):
                return
            if told.status_code == 200 and (told.json["state"] == "failed" or round > 2):
                self.api.post(f"/saves/{save_id}/retry")
            self.house.forward(20)
            self.work()
        pytest.fail(f"not saved in {ROUNDS} rounds: {told.json if save_id else answer.json}")

    def holds_once(self, item: Item, files: set[str]) -> None:
        """Assert that C4C has the message exactly once, whole, and that the message says so."""
        world = self.house.world
        (activity,) = activities(world, item)
        assert file_names(world, activity) == sorted(files)
        assert len(children(world, activity, "parties")) == len(numbers(world, activity))
        assert self.api.categories(item) == [SAVED]


def tells_what_to_do(answer: TestResponse) -> None:
    """Assert that this is a Problem: one clear sentence, and when or how to go on."""
    assert answer.content_type == "application/problem+json"
    detail = answer.json["detail"]
    assert is_a_sentence(detail)
    if answer.status_code == 503:
        assert answer.json["code"] in ("unavailable", "busy")
        assert int(answer.headers["Retry-After"]) >= 1
    elif answer.status_code == 403:
        assert "Ask your administrator, it@" in detail
    elif answer.status_code == 422:
        assert answer.json["code"] == "rejected"
    else:
        assert (answer.status_code, answer.json["code"]) == (401, "needs_sign_in")


def is_a_sentence(text: str) -> bool:
    return 10 < len(text) < 300 and text.endswith(".") and "<" not in text and "Traceback" not in text


def timed(call: Callable[[], TestResponse]) -> tuple[TestResponse, float]:
    started = time.perf_counter()
    return call(), time.perf_counter() - started
