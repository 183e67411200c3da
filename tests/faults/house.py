"""The product with a fault proxy before each remote, and what must be true whatever the remotes do."""

import gc
import re
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, TimeoutError as FutureTimeout
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from werkzeug.test import TestResponse

from server import wiring
from server.config import Settings
from server.mail import Mailbox
from server.services import Deps
from server.store import Connection
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.ports import Simulator
from simulator.world import Row, StoredMessage, World
from tests.api import Api, Item, activities, children, file_names, numbers
from tests.conftest import set_up, settings_of
from tests.faults.proxy import LOOPBACK, Proxy, Tls
from tests.test_saves import with_files

Links = list[dict[str, str]]

SAVED = "Saved in SAP Cloud for Customer SSI"
PATIENCE_S = 20.0
ROUNDS = 12
RUNS = 20
KEPT = 10  # processes that have ended
NUMBERED = {"contact": ("ContactCollection", "ContactID"), "account": ("CorporateAccountCollection", "AccountID")}
SLACK_S = 2.0  # of a busy machine
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


@contextmanager
def behind_proxies(folder: Path) -> Iterator[tuple[Simulator, dict[str, Proxy], Settings]]:
    """A simulator whose vendors are reached through a proxy each, and the settings of an installation on SQLite that uses them.

    The proxies' addresses are the vendors' public ones, so whatever the vendors say about themselves leads through them.
    """
    with ExitStack() as stack:
        simulator = stack.enter_context(Simulator(demo.small(), folder))
        tls = Tls(folder / "ca" / "server.pem", simulator.ca_file)
        proxies = {}
        for name in ("c4c", "graph", "identity"):
            port = getattr(simulator, name)
            proxies[name] = stack.enter_context(Proxy(port.port, tls))
            port.url = proxies[name].url
        key = folder / "key"
        key.write_text("A" * 43 + "=\n")
        key.chmod(0o600)
        document = simulator.provisioning()
        settings = settings_of(f"sqlite:///{folder / 'ssi.sqlite'}", key, document["environment"])
        set_up(settings, document)
        yield simulator, proxies, settings


@dataclass
class House:
    """The remotes, what stands between, and every process of the product that was composed."""

    simulator: Simulator
    settings: Settings
    proxies: dict[str, Proxy]  # "c4c", "graph", "identity"
    trap: Trap
    people: ThreadPoolExecutor = field(default_factory=partial(ThreadPoolExecutor, 4))  # whose threads call the API
    running: "list[Process]" = field(default_factory=list)
    _ended: "list[Process]" = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.simulator.world

    def process(self, *, pauses: float = 0.1, **settings: Any) -> "Process":
        """Compose the product as another process would; keyword arguments replace settings.

        Only so much of the pauses that Graph asks for is waited, which changes nothing but the time that the tests take.
        """
        chosen = replace(self.settings, **settings)
        deps = wiring.build(chosen, now=self.world.now)
        deps = replace(deps, mailbox=partial(_with_pauses, deps.mailbox, pauses))
        api = Api(create_app(deps, wiring.face(chosen)), self.simulator, self.world.people[0])
        self.running.append(Process(self, deps, api))
        return self.running[-1]

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

    def end(self, processes: "list[Process]") -> None:
        """End these processes; their connections go from time to time, when that disturbs no test."""
        for process in processes:
            process.deps.background.shutdown()
            process.deps.store.close()
            self.running.remove(process)
        self._ended += processes
        if len(self._ended) > KEPT:
            self._collect()

    def _collect(self) -> None:
        self._ended.clear()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ResourceWarning)
            gc.collect()

    def close(self) -> None:
        self.people.shutdown()
        self.end([*self.running])
        self._collect()


def _with_pauses(opened: Callable[[Connection], Mailbox], share: float, connection: Connection) -> Mailbox:
    mailbox = opened(connection)
    mailbox._calls._sleep = lambda seconds: time.sleep(seconds * share)  # type: ignore[attr-defined]
    return mailbox


@dataclass(frozen=True)
class Process:
    """One process of the product, and a person who uses it."""

    house: House
    deps: Deps
    api: Api

    @property
    def lookup_s(self) -> float:
        """How long a person waits for a lookup at most."""
        return self.deps.limits.context_deadline_s + SLACK_S

    @property
    def save_s(self) -> float:
        """How long a person waits for a save at most: first the message is read, by some requests with deadlines of their own."""
        return self.deps.limits.save_deadline_s + 2.0 + SLACK_S

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

    def tells(self, item: Item, answer: TestResponse, files: set[str], links: Links) -> str | None:
        """Compare what was said of a save with what C4C and the mailbox hold; return its id if one was promised."""
        made = activities(self.house.world, item)
        marks = self.api.categories(item)
        assert len(made) <= 1
        assert (SAVED in marks) <= (len(made) == 1)
        if answer.status_code in (200, 201):
            assert answer.json["state"] == "saved"
            assert answer.json["activity"]["id"] == made[0]["ObjectID"]
            assert (answer.json["marks"] == ["saved"]) <= (SAVED in marks)
            self.is_whole(made[0], files, links)
        elif answer.status_code == 202:
            assert answer.json["state"] in ("pending", "unknown")
            assert answer.json["activity"] is None
            assert SAVED not in marks
        elif answer.status_code == 409:
            assert answer.json["code"] == "save_failed"
            assert is_a_sentence(answer.json["detail"])
            told = self.api.get("/saves/" + answer.json["save_id"])
            assert SAVED not in marks or (told.json["state"], told.json["reason"]) == ("saved", answer.json["detail"])
        else:
            tells_what_to_do(answer)
            return None
        return str(answer.json.get("id") or answer.json["save_id"])

    def recovers(self, item: Item, links: Links, answer: TestResponse, save_id: str | None) -> None:
        """Have the save come to its end: by itself where it was accepted, else by what the person was told to do."""
        for round in range(ROUNDS):
            if save_id is None:
                self.house.forward(float(answer.headers.get("Retry-After", 1)))
                answer = self.api.save(item, links)
                save_id = answer.json.get("id") or answer.json.get("save_id")
                continue
            told = self.api.get("/saves/" + save_id)
            if told.status_code == 200 and (told.json["state"], told.json["marks"]) == ("saved", ["saved"]):
                if answer.status_code != 409:
                    return
                answer = self.api.save(item, links)  # what was saved before is, the change was refused: wish it again
                continue
            if told.status_code == 200 and (told.json["state"] == "failed" or round > 2):
                retried = self.api.post(f"/saves/{save_id}/retry")
                answer = retried if retried.status_code == 200 else answer
            self.house.forward(20)
            self.work()
        pytest.fail(f"not saved in {ROUNDS} rounds: {told.json if save_id else answer.json}")

    def holds_once(self, item: Item, files: set[str], links: Links) -> None:
        """Assert that C4C has the message exactly once, whole, and that the message says so."""
        (activity,) = activities(self.house.world, item)
        self.is_whole(activity, files, links)
        assert self.api.categories(item) == [SAVED]

    def is_whole(self, activity: Row, files: set[str], links: Links) -> None:
        """Assert that the activity has each file once, and each link."""
        world = self.house.world
        assert file_names(world, activity) == sorted(files)
        assert len(children(world, activity, "parties")) == len(numbers(world, activity))
        linked = {world.crm.rows(NUMBERED[one["type"]][0])[one["id"]][NUMBERED[one["type"]][1]] for one in links}
        assert linked <= numbers(world, activity)


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
