"""A lookup when something it needs is sick: an answer in time, nothing untrue in it, and all well once the fault is over."""

from typing import Any

import pytest
from werkzeug.test import TestResponse

from simulator.c4c import TOKEN_PATH
from tests.api import Item
from tests.faults.house import SHORT, House, Process, tells_what_to_do, timed
from tests.faults.table import CASES, SLOW, Case, some

LOOKUP = "/$batch"
STEPS = {
    "lookup": ("c4c", LOOKUP),
    "c4c-sign-in": ("c4c", TOKEN_PATH),
    "keys": ("identity", "/discovery/v2.0/keys"),
    "metadata": ("identity", "/common/v2.0/.well-known/openid-configuration"),
}


def combined() -> list[Any]:
    """Every step with every fault; not all of them belong to the short run."""
    made = []
    for turn, step in enumerate(STEPS):
        usual = {str(case) for case in CASES} if step == "lookup" else some(CASES, turn)
        for case in (*CASES, *SLOW):
            marks = () if str(case) in usual else pytest.mark.soak
            made.append(pytest.param(step, case, id=f"{step}-{case}", marks=marks))
    return made


@pytest.mark.parametrize(("step", "case"), combined())
def test_a_lookup_outlives_a_fault(house: House, patient: Process, hasty: Process, step: str, case: Case) -> None:
    remote, match = STEPS[step]
    process = hasty if case.takes_time else patient
    if step != "lookup":  # only a process that just started has to ask for keys and tokens
        process = house.process(**(SHORT if case.takes_time else {}))
    item = house.message()
    fault = house.proxies[remote].strike(case.fault(match, house.trap.url))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/context", {"item": item})))
    print(f"{step} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert not case.heals or answer.status_code == 200
    if answer.status_code == 200:
        shows_everybody(answer)
    else:
        tells_what_to_do(answer)
    house.lift()
    shows_everybody(recovered(process, item, answer))


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
