"""A save when a remote is sick at any of its steps: never said to be done when it is not, and in the end done exactly once."""

from dataclasses import dataclass
from typing import Any

import pytest

from simulator.c4c import TOKEN_PATH
from simulator.c4c_odata import SERVICE
from tests.api import links_of
from tests.faults.house import SHORT, House, Process, timed
from tests.faults.table import CASES, SLOW, Case, some

LARGE = {"large.zip": 3_200_000}  # more than goes along with the activity


@dataclass(frozen=True)
class Step:
    """A request of a save. `is_cold`: only a process without keys and tokens makes it."""

    remote: str
    match: str
    is_cold: bool = False
    files: dict[str, int] | None = None
    is_second: bool = False  # the save adds links to an activity that is there
    is_write: bool = False


STEPS = {
    "keys": Step("identity", "/discovery/v2.0/keys", is_cold=True),
    "tenant": Step("identity", "0d6f8f3f7a10/v2.0/.well-known/openid-configuration", is_cold=True),
    "mailbox-sign-in": Step("identity", "/oauth2/v2.0/token", is_cold=True),
    "message": Step("graph", "?$select=id%2CinternetMessageId"),
    "mime": Step("graph", "/$value"),
    "c4c-sign-in": Step("c4c", TOKEN_PATH, is_cold=True),
    "before-save": Step("c4c", "/$batch"),
    "create": Step("c4c", "POST " + SERVICE + "EMailCollection", is_write=True),
    "attach": Step("c4c", "POST " + SERVICE + "EMailAttachmentsCollection", files=LARGE, is_write=True),
    "links": Step("c4c", "/$batch", is_second=True),
    "categories": Step("graph", "GET /v1.0/me/outlook/masterCategories", is_cold=True),
    "mark-read": Step("graph", "?$select=id%2Ccategories"),
    "mark": Step("graph", "PATCH /v1.0/me/messages/", is_write=True),
}


def combined() -> list[Any]:
    """Every step with every fault; the short run takes all of them for the writes, and one moment of each for the rest."""
    made = []
    for turn, (name, _step) in enumerate(STEPS.items()):
        usual = {str(case) for case in CASES} if name in ("create", "mark") else some(CASES, turn)
        for case in (*CASES, *SLOW):
            if name == "mime" and str(case) == "garbage-after":
                continue  # half a message in a flawless answer is a message
            marks = () if str(case) in usual else pytest.mark.soak
            made.append(pytest.param(name, case, id=f"{name}-{case}", marks=marks))
    return made


@pytest.mark.parametrize(("name", "case"), combined())
def test_a_save_outlives_a_fault(house: House, patient: Process, hasty: Process, name: str, case: Case) -> None:
    step, waits = STEPS[name], case.takes_time
    process = house.process(**(SHORT if waits else {})) if step.is_cold else hasty if waits else patient
    item = house.message("with_attachment_known_contact", step.files)
    links = links_of(patient.api.context(item))
    if step.is_cold:
        process.sign_out()
    if step.is_second:
        assert patient.api.save(item, links[:1]).status_code == 201
    fault = house.proxies[step.remote].strike(case.fault(step.match, house.trap.url))
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links)))
    said = answer.json.get("detail") or answer.json["reason"] or ""
    print(f"{name} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('state', '')} {said}")
    assert fault.strikes > 0
    assert not case.heals or answer.json.get("state") == "saved"
    save_id = process.tells(item, answer)
    if answer.status_code == 409 and case.when != "before":
        assert not step.is_write, "said to have failed although C4C acted"
    house.lift()
    process.recovers(item, links, answer, save_id)
    process.holds_once(item, {*LARGE} if step.files else {"Offer 2026-118.pdf"})
