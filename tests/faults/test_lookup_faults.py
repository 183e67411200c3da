"""A lookup when something it needs is sick: an answer in time, nothing untrue in it, and all well once the fault is over."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from simulator.c4c import TOKEN_PATH
from tests.api import Item, links_of
from tests.faults.conftest import Tally
from tests.faults.house import SHORT, House, Process, is_a_sentence, tells_what_to_do, timed
from tests.faults.proxy import Fault
from tests.faults.table import CASES, Case, slow, some

LOOKUP = "/$batch"
STEPS = {
    "lookup": ("c4c", LOOKUP),
    "c4c-sign-in": ("c4c", TOKEN_PATH),
    "keys": ("identity", "/discovery/v2.0/keys"),
    "metadata": ("identity", "/common/v2.0/.well-known/openid-configuration"),
}


def combined() -> list[Any]:
    """Every step with every fault; the short run takes all of them for what each lookup asks, and one moment of each for keys."""
    made = []
    for turn, step in enumerate(STEPS):
        short = {str(case) for case in CASES} if step == "lookup" else some(CASES, turn) if step == "keys" else set()
        for case in (*CASES, *slow(None if step == "lookup" else turn)):
            made.append(pytest.param(step, case, id=f"{step}-{case}", marks=() if str(case) in short else pytest.mark.soak))
    return made


@pytest.mark.parametrize(("step", "case"), combined())
def test_a_lookup_outlives_a_fault(house: House, patient: Process, hasty: Process, tally: Tally, step: str, case: Case) -> None:
    remote, match = STEPS[step]
    process = hasty if case.takes_time else patient
    if step != "lookup":  # only a process that just started has to ask for keys and tokens
        process = house.process(**(SHORT if case.takes_time else {}))
    item = house.message()
    fault = house.proxies[remote].strike(case.fault(match, house.trap.url))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/context", {"item": item})))
    print(f"{step} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert took < process.lookup_s
    tally.fault(remote, case)
    in_time = case.heals and case.seconds < process.deps.limits.context_deadline_s  # else the answer waits for the next call
    assert not in_time or answer.status_code == 200
    if answer.status_code == 200:
        shows_everybody(answer)
    else:
        tells_what_to_do(answer)
    house.lift()
    shows_everybody(recovered(process, item, answer))
    tally.lookup()


def shows_everybody(answer: TestResponse) -> None:
    assert [card["type"] for card in answer.json["cards"]] == ["contact", "account"]
    assert (answer.json["unknown"], answer.json["failed"]) == ([], [])


def recovered(process: Process, item: Item, answer: TestResponse) -> TestResponse:
    """Ask again when the answer says so, as the pane does; a busy machine may need a second time."""
    for _ in range(3):
        process.house.forward(float(answer.headers.get("Retry-After", 0)))
        answer = process.api.post("/context", {"item": item})
        if answer.status_code == 200:
            break
    assert answer.status_code == 200, answer.text
    return answer


PREVIEW = {"message": "?$select=id%2CinternetMessageId", "mime": "/$value"}


@pytest.mark.soak
@pytest.mark.parametrize("case", [*CASES, *slow(0)], ids=str)
@pytest.mark.parametrize("step", PREVIEW)
def test_what_a_save_would_hold_is_told_whole_or_not_at_all(
    house: House, patient: Process, hasty: Process, tally: Tally, step: str, case: Case
) -> None:
    process = hasty if case.takes_time else patient
    item = house.message("with_attachment_known_contact")
    fault = house.proxies["graph"].strike(case.fault(PREVIEW[step], house.trap.url))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/saves/preview", {"item": item})))
    print(f"{step} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert took < process.save_s
    tally.fault("graph", case)
    in_time = case.heals and case.seconds < process.deps.limits.context_deadline_s  # else the answer waits for the next call
    assert not in_time or answer.status_code == 200
    if answer.status_code != 200:
        tells_what_to_do(answer)
        house.lift()
        process.house.forward(float(answer.headers.get("Retry-After", 0)))
        answer = process.api.post("/saves/preview", {"item": item})
    is_half = (step, str(case)) == ("mime", "garbage-after")  # half a message in a flawless answer is a message
    assert is_half or [file["name"] for file in answer.json["attachments"]] == ["Offer 2026-118.pdf"]
    tally.lookup()


@pytest.mark.parametrize("kind", ["hang", "down"])
def test_what_our_database_knows_is_shown_while_c4c_is_away(house: House, patient: Process, kind: str) -> None:
    item = house.message()
    saved = patient.api.save(item, links_of(patient.api.context(item))).json
    house.proxies["c4c"].strike(Fault(kind))
    answer, took = timed(lambda: patient.answered(lambda: patient.api.post("/context", {"item": item, "refresh": True})))
    assert (answer.status_code, answer.json["cards"], answer.json["unknown"]) == (200, [], [])
    assert (answer.json["save"]["state"], answer.json["save"]["id"]) == ("saved", saved["id"])
    assert is_a_sentence(answer.json["trouble"]["detail"])
    assert took < patient.lookup_s
    house.lift()
    shows_everybody(patient.api.post("/context", {"item": item}))
