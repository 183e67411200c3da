"""Random short histories: whatever people, vendors, restarts and time do to each other, each save is carried out exactly once.

hypothesis chooses what happens next, and finds the shortest history that breaks a promise. Two people hold copies of two
messages; their requests stand still, get lost before or after the vendor acted, or are refused; the product is started anew
while an old process is still in the middle of a save; a colleague deletes the activity, a second writer changes the categories,
C4C's list shows a new activity late. After each step the Checker judges from the World's log, and at the end, when nothing is
left to be done. Everything is in one process and time belongs to the World, so a history takes a fraction of a second.
"""

import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import hypothesis
import pytest
from flask import request
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule, run_state_machine_as_test

from server import wiring
from server.config import Settings
from server.services import Background, Deps, wishes
from server.web import create_app
from server.worker import Dispatcher
from simulator import demo
from simulator.c4c import TOKEN_PATH
from simulator.c4c.odata import SERVICE
from simulator.ports import Simulator
from simulator.world import Fault, Gate, Person, World
from tests.api import Api, link, row_of
from tests.conftest import Installation, settings_of
from tests.exactly_one.checker import Call, Checker, Tally
from tests.exactly_one.letters import deliver

Count = Callable[[str, int], None]

INLINE_BYTES = 1000  # in place of 3 MB, so that a small file is as much work as a large one
SMALL, LARGE = {"one.csv": 100, "two.csv": 200}, {"one.pdf": 3000, "two.zip": 2000, "three.csv": 100}
PATIENCE_S = 30.0
SETTLE_S = 30.0  # SSI_UNKNOWN_SETTLE_S: a request to C4C acts within this time or never
INDEX_S = 25.0  # C4C's lists show a new activity so late

CREATE = f"POST {SERVICE}EMailCollection"
LOOK = f"GET {SERVICE}EMail"
WRITES = {CREATE, f"POST {SERVICE}EMailAttachmentsCollection"}
STEPS = (
    ("c4c", f"POST {SERVICE}$batch"),
    *(("c4c", line) for line in sorted(WRITES)),
    ("c4c", LOOK),
    ("c4c", f"POST {TOKEN_PATH}"),
    ("graph", "GET /v1.0/me/messages/"),
    ("graph", "PATCH /v1.0/me/messages/"),
    ("graph", "/v1.0/me/outlook/masterCategories"),
)
PAUSE_S = 30  # longer than the product waits for within a call
TROUBLES: tuple[dict[str, Any], ...] = (
    {"kind": "drop", "times": 2},  # a read is asked once more by itself
    {"kind": "acted_drop", "times": 2},
    {"kind": "status", "status": 500},
    {"kind": "status", "status": 503, "retry_after_s": PAUSE_S},
    {"kind": "status", "status": 429, "retry_after_s": PAUSE_S},
    {"kind": "html"},
    {"kind": "garbage"},
)
STANDS = tuple((vendor, line) for vendor, line in STEPS if line in WRITES or "PATCH" in line or "$batch" in line)


class Crew(ThreadPoolExecutor):
    """The threads of one process, and what they still do."""

    def __init__(self) -> None:
        super().__init__(16)
        self._futures: set[Future[Any]] = set()

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future = super().submit(fn, *args, **kwargs)
        self._futures.add(future)
        return future

    def drain(self, *, but: int = 0) -> None:
        """Wait until all is done `but` for so many."""
        while len(busy := {future for future in self._futures if not future.done()}) > but:
            done, _ = wait(busy, PATIENCE_S, "FIRST_COMPLETED")
            assert done, "the product stands still"
        self._futures = busy


@dataclass
class Process:
    """The product as one process would be."""

    deps: Deps
    crew: Crew
    app: Any

    @classmethod
    def start(cls, settings: Settings, now: Callable[[], datetime]) -> "Process":
        deps, crew = wiring.build(settings, now=now), Crew()
        deps.background.shutdown()
        patient = replace(deps.limits, context_deadline_s=PATIENCE_S, save_deadline_s=1.0)
        deps = replace(deps, background=Background(crew, 16), sleep=lambda _: None, limits=patient)
        return cls(deps, crew, create_app(deps, wiring.face(settings)))

    def work(self) -> None:
        dispatcher = Dispatcher(self.deps, threads=0, poll_s=1)
        while dispatcher.run_once():
            pass

    def end(self) -> None:
        self.crew.shutdown()
        self.deps.store.close()


class Watch(Gate):
    """Sees every request: a create that was not preceded by a look at what C4C has is an offence. Stops those for `stop`."""

    def __init__(self) -> None:
        super().__init__()
        self.stop: Gate | None = None
        self.offences: list[str] = []
        self._looked: set[str] = set()  # keys that were asked for since the last create

    def counts(self, line: str, *, acted: bool) -> bool:
        if not acted and line.startswith("c4c "):
            text = unquote(request.query_string.decode() + request.get_data(as_text=True))
            keys = re.findall(r"exactly-\d{8}@one\.example", text)
            if line == f"c4c {CREATE}":
                self.offences += [f"{key} was created without a look" for key in keys[:1] if key not in self._looked]
                self._looked -= set(keys)
            else:
                self._looked |= set(keys)
        return self.stop is not None and self.stop.counts(line, acted=acted)

    def stand(self, timeout_s: float) -> bool:
        assert self.stop is not None
        return self.stop.stand(timeout_s)


@dataclass
class Standing:
    """A save in the middle of which a request stands still."""

    gate: Gate
    acted: bool
    since: datetime
    process: Process
    call: Call
    answer: Future[Any]


@dataclass
class Ground:
    """Where histories take place; each has a World and a database of its own."""

    simulator: Simulator
    installation: Installation
    folder: Path
    seed: object
    tally: Tally
    histories: int = 0
    steps: int = 0
    crowd: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(4))

    def world(self) -> World:
        self.simulator.world = demo.small()
        self.simulator.provisioning()
        return self.simulator.world

    def settings(self) -> Settings:
        database = self.folder / "ssi.sqlite"
        for old in self.folder.glob("ssi.sqlite*"):
            old.unlink()
        shutil.copy(self.installation.database, database)
        environment = self.simulator.provisioning()["environment"]
        return settings_of(f"sqlite:///{database}", self.installation.key, environment)


people = st.integers(0, 1)
letters = st.integers(0, 1)
links = st.sets(st.integers(0, 2))
files = st.booleans()
places = st.sampled_from(STEPS)
troubles = st.sampled_from(TROUBLES)


class History(RuleBasedStateMachine):
    """One history. What each step does is told by its name."""

    def __init__(self, ground: Ground) -> None:
        super().__init__()
        self.ground = ground
        self.world = ground.world()
        self.world.gate = self.watch = Watch()
        self.settings_ = ground.settings()
        self.processes = [Process.start(self.settings_, self.world.now)]
        self.checker = Checker(self.world, seed=ground.seed, tally=ground.tally)
        both = self.world.people[:2]
        self.letters = [deliver(self.world, both, SMALL), deliver(self.world, both, LARGE)]
        self.links = [
            link("account", row_of(self.world, "CorporateAccountCollection", Email="info@harrowgate-pumps.example")),
            link("opportunity", row_of(self.world, "OpportunityCollection", Name="Second production line")),
            link("ticket", row_of(self.world, "ServiceRequestCollection", Name="Seal of pump 7 leaks")),
        ]
        self.last: dict[tuple[int, int], Call] = {}  # (person, letter) -> the newest press of Save
        self.ids: dict[tuple[int, int], str] = {}
        self.deleted: set[int] = set()  # letters whose activity was deleted once
        self.standing: Standing | None = None

    # What happens

    @rule(who=people, which=letters, links=links, files=files)
    def save(self, who: int, which: int, links: set[int], files: bool) -> None:
        self._note(who, which, *self._press(who, which, links, files))

    @rule(who=people, which=letters, links=links, files=files, place=places, trouble=troubles, delay=st.booleans())
    def save_in_trouble(
        self, who: int, which: int, links: set[int], files: bool, place: tuple[str, str], trouble: dict[str, Any], delay: bool
    ) -> None:
        vendor, line = place
        fault = Fault(vendor, match=line, **trouble)
        self.world.faults += [fault, *([Fault("c4c", "index_delay", seconds=INDEX_S)] if delay else [])]
        call, answer = self._press(who, which, links, files)
        struck = fault.times != trouble.get("times", 1)
        self.world.faults.clear()
        if struck and line == LOOK and which in self.deleted and answer.status_code == 200:
            return  # while C4C does not answer, what was saved is taken to be there still
        self._note(who, which, call, answer)
        if struck and line in WRITES and fault.kind in ("drop", "acted_drop") and call.outcome == "accepted":
            assert answer.json["state"] == "unknown"
            assert self._state(who, which) in ("unknown", "saved")

    @rule(who=people, which=letters, links=links, files=files, line=st.sampled_from(sorted(WRITES)), acted=st.booleans())
    def save_without_an_answer(self, who: int, which: int, links: set[int], files: bool, line: str, acted: bool) -> None:
        """C4C, whose lists are late, acted or did not; nobody can know."""
        trouble = {"kind": "acted_drop" if acted else "drop"}
        self.save_in_trouble(who, which, links, files=files, place=("c4c", line), trouble=trouble, delay=True)

    @precondition(lambda self: self.standing is None)
    @rule(who=people, which=letters, links=links, files=files, place=st.sampled_from(STANDS), acted=st.booleans())
    def save_that_stands_still(
        self, who: int, which: int, links: set[int], files: bool, place: tuple[str, str], acted: bool
    ) -> None:
        self.watch.stop = gate = Gate(acted=acted, match=" ".join(place))
        call = self._asked(who, which, links, files)
        since, process = self.world.now(), self.processes[-1]
        answer = self.ground.crowd.submit(self._send, who, which, links, files)
        while not gate.reached.wait(0.002) and not answer.done():
            pass
        self.last[who, which] = call
        if gate.reached.is_set():
            self.standing = Standing(gate, acted, since, process, call, answer)
        else:
            self.watch.stop = None
            self._note(who, which, call, answer.result())

    @precondition(lambda self: self.standing is not None)
    @rule(lost=st.booleans())
    def what_stood_still_goes_on(self, lost: bool) -> None:
        standing, self.standing = self.standing, None
        assert standing is not None
        is_too_late = not standing.acted and self.world.now() - standing.since > timedelta(seconds=SETTLE_S - 1)
        standing.gate.open(lost=lost or is_too_late)
        self.watch.stop = None
        answer = standing.answer.result(PATIENCE_S)
        standing.process.crew.drain()
        # What is said now may be old news: others may have saved it, or deleted it, while this one stood still.
        if answer.status_code == 202 or (answer.status_code in (200, 201) and self.checker.living(standing.call.letter)):
            self.checker.answered(standing.call, answer.status_code, answer.json)

    @precondition(lambda self: self.ids)
    @rule(data=st.data(), place=st.none() | places, trouble=troubles)
    def retry(self, data: st.DataObject, place: tuple[str, str] | None, trouble: dict[str, Any]) -> None:
        who, which = data.draw(st.sampled_from(sorted(self.ids)))
        if place is not None:
            self.world.faults.append(Fault(place[0], match=place[1], **trouble))
        answer = self._api(who).post(f"/saves/{self.ids[who, which]}/retry")
        self.world.faults.clear()
        assert answer.status_code in (200, 202, 422, 503), answer.text
        if answer.status_code == 202:
            self.checker.answered(self.last[who, which], answer.status_code, answer.json)

    @rule(who=people, which=letters, refresh=st.booleans(), delay=st.booleans())
    def look(self, who: int, which: int, refresh: bool, delay: bool) -> None:
        if delay:
            self.world.faults.append(Fault("c4c", "drop", "$batch"))
        state = self._state(who, which, refresh=refresh)
        self.world.faults.clear()
        if state == "saved":
            assert self.checker.lives(self.letters[which]), "shown as saved, and never was"
        call = self.last.get((who, which))
        if state == "none" and call is not None and call.is_promised:
            assert self.checker.is_void(call), "shown as not saved, though it was promised"

    @rule(after_s=st.sampled_from((0, 5, 31, 130)), place=st.none() | places, trouble=troubles)
    def the_worker_works(self, after_s: int, place: tuple[str, str] | None, trouble: dict[str, Any]) -> None:
        self._forward(after_s)
        if place is not None:
            self.world.faults.append(Fault(place[0], match=place[1], **trouble))
        self.processes[-1].work()
        self.world.faults.clear()

    @rule(seconds=st.sampled_from((2, 5, 31, 130, 3700)))
    def time_passes(self, seconds: int) -> None:
        self._forward(seconds)

    @rule()
    def restart(self) -> None:
        self.processes.append(Process.start(self.settings_, self.world.now))

    @rule(which=letters)
    def a_colleague_deletes_the_activity(self, which: int) -> None:
        for life in self.checker.living(self.letters[which]):
            delete(self.world, life.id)
            self.deleted.add(which)

    @rule(who=people, which=letters)
    def a_second_writer_comes_between(self, who: int, which: int) -> None:
        line = f"PATCH /v1.0/me/messages/{self.letters[which].refs[self._person(who).email]}"
        self.world.faults.append(Fault("graph", "second_writer", line))
        self.save(who, which, set(), files=True)
        self.world.faults.clear()

    # What must hold

    @invariant()
    def each_save_is_carried_out_once(self) -> None:
        self._drain()
        self.ground.steps += 1
        self.checker.check(*self.letters, settled=False)
        assert not self.watch.offences, f"seed {self.ground.seed}: {self.watch.offences}"

    def teardown(self) -> None:
        try:
            if not self.ground.tally.doubles and not self.watch.offences:
                self._settle()
        finally:
            self._end()

    def _settle(self) -> None:
        """Let everything come to its end; who was promised nothing presses Save again."""
        self.world.faults.clear()
        if self.standing is not None:
            self.what_stood_still_goes_on(lost=False)
        for _ in range(2):
            self._forward(5)
            self.processes[-1].work()
            self._drain()
        self.checker.check(*self.letters, settled=False)
        for (who, which), call in sorted(self.last.items()):
            if not call.is_promised:
                self._forward(130)
                again, answer = self._press(who, which, set(), False)
                self._note(who, which, again, answer)
                assert again.is_promised, answer.text
        for _ in range(4):
            self._forward(130)
            self.processes[-1].work()
            self._drain()
        self.checker.check(*self.letters, settled=True)
        for who, which in self.last:
            if self.checker.living(self.letters[which]):
                assert self._state(who, which, refresh=True) == "saved"

    def _end(self) -> None:
        self.world.gate = None
        for process in self.processes:
            process.end()
        self.ground.histories += 1

    # Internals

    def _person(self, who: int) -> Person:
        return self.world.people[who]

    def _api(self, who: int) -> Api:
        return Api(self.processes[-1].app, self.ground.simulator, self._person(who))

    def _asked(self, who: int, which: int, links: set[int], files: bool) -> Call:
        chosen = [self.links[n] for n in sorted(links)]
        return self.checker.asked(self._person(who), self.letters[which], chosen, None if files else ())

    def _send(self, who: int, which: int, links: set[int], files: bool) -> Any:
        chosen = [self.links[n] for n in sorted(links)]
        item = self.letters[which].item(self.world, self._person(who))
        return self._api(who).save(item, chosen, **({} if files else {"attachments": []}))

    def _press(self, who: int, which: int, links: set[int], files: bool) -> tuple[Call, Any]:
        return self._asked(who, which, links, files), self._send(who, which, links, files)

    def _note(self, who: int, which: int, call: Call, answer: Any) -> None:
        assert answer.status_code in (200, 201, 202, 503), answer.text
        self.checker.answered(call, answer.status_code, answer.json)
        self.last[who, which] = call
        if call.is_promised:
            self.ids[who, which] = answer.json["id"]

    def _state(self, who: int, which: int, *, refresh: bool = False) -> str:
        item = self.letters[which].item(self.world, self._person(who))
        answer = self._api(who).post("/context", {"item": item, "refresh": refresh})
        assert answer.status_code in (200, 503), answer.text
        return str(answer.json["save"]["state"]) if answer.status_code == 200 else ""

    def _forward(self, seconds: float) -> None:
        self.world.clock_skew += timedelta(seconds=seconds)

    def _drain(self) -> None:
        for process in self.processes:
            process.crew.drain(but=int(self.standing is not None and self.standing.process is process))


def delete(world: World, activity_id: str) -> None:
    """Delete an activity with all that belongs to it, as somebody may do in C4C."""
    with world.lock:
        key = world.crm.rows("EMailCollection").pop(activity_id)["GroupwareItemID"]
        for name, rows in world.crm.sets.items():
            world.crm.sets[name] = {ref: row for ref, row in rows.items() if row.get("ParentObjectID") != activity_id}
        world.happened("c4c", "delete", "COLLEAGUE", set="EMailCollection", id=activity_id, groupware_item_id=key)


@pytest.fixture
def ground(
    simulator: Simulator,
    _installation: Installation,
    tmp_path: Path,
    seed: object,
    tell: Callable[[Tally], None],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Ground]:
    monkeypatch.setattr(wishes, "INLINE_BYTES", INLINE_BYTES)
    monkeypatch.setenv("SSL_CERT_FILE", str(simulator.ca_file))  # the system's own authorities take long to read at each start
    ground = Ground(simulator, _installation, tmp_path, seed, Tally())
    tell(ground.tally)
    yield ground
    ground.crowd.shutdown()


@pytest.mark.parametrize("examples", [10, pytest.param(60, marks=pytest.mark.soak)])
def test_short_histories_of_all_sorts_end_with_one_activity_each(ground: Ground, count: Count, examples: int) -> None:
    settings = hypothesis.settings(
        max_examples=examples,
        stateful_step_count=10,
        deadline=None,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(hypothesis.HealthCheck),
    )

    @hypothesis.seed(ground.seed)
    class Seeded(History):
        def __init__(self) -> None:
            super().__init__(ground)

    print("seed", ground.seed)
    run_state_machine_as_test(Seeded, settings=settings)
    count("histories", ground.histories)
    count("steps of histories", ground.steps)


def test_a_process_that_slept_while_it_marked_leaves_no_old_mark(ground: Ground) -> None:
    history = History(ground)
    history.save_without_an_answer(who=1, which=1, links={0}, files=False, line=CREATE, acted=False)
    history.save_that_stands_still(
        who=0, which=1, links={0, 1, 2}, files=True, place=("graph", "PATCH /v1.0/me/messages/"), acted=False
    )
    assert history.standing is not None  # about to say "pending"
    history.the_worker_works(after_s=130, place=None, trouble=TROUBLES[0])  # another process finishes the save
    history.teardown()  # in which the first one wakes up


def test_an_activity_that_was_deleted_is_made_anew_by_a_colleague_too(me: Api, colleague: Api, world: World) -> None:
    letter = deliver(world, [me.person, colleague.person], SMALL)
    first = me.save(letter.item(world, me.person))
    delete(world, first.json["activity"]["id"])
    assert colleague.save(letter.item(world, colleague.person)).json["activity"] is not None
    assert len(list(world.saved_activities(letter.key))) == 1
