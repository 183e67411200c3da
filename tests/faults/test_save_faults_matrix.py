"""A save when a remote is sick at any of its steps: never said to be done when it is not, and in the end done exactly once."""

from dataclasses import dataclass
from typing import Any

import pytest

from simulator.c4c import TOKEN_PATH
from simulator.c4c.odata import SERVICE
from tests.api import links_of
from tests.faults.conftest import Tally
from tests.faults.house import PATIENCE_S, SHORT, House, Process, timed
from tests.faults.proxy import Fault
from tests.faults.table import CASES, Case, slow, some

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


FILES = {"Offer 2026-118.pdf"}


SIGN_INS = [name for name, step in STEPS.items() if step.remote == "identity"]


def usual(name: str) -> set[str]:
    """Return what the short run tries: all for C4C's and Graph's write, and each fault at one of the steps of a sign-in."""
    if name in ("create", "mark"):
        return {str(case) for case in CASES}
    if name in SIGN_INS:
        return some(CASES, 0, SIGN_INS.index(name), len(SIGN_INS))
    return set()


def combined() -> list[Any]:
    """Every step with every fault."""
    made = []
    for turn, name in enumerate(STEPS):
        short = usual(name)
        for case in (*CASES, *slow(None if name in ("create", "mark") else turn)):
            if name == "mime" and str(case) == "garbage-after":
                continue  # half a message in a flawless answer is a message
            if name == "keys" and str(case) not in short:
                continue  # it is the same for lookups
            made.append(pytest.param(name, case, id=f"{name}-{case}", marks=() if str(case) in short else pytest.mark.soak))
    return made


@pytest.mark.parametrize(("name", "case"), combined())
def test_a_save_outlives_a_fault(house: House, patient: Process, hasty: Process, tally: Tally, name: str, case: Case) -> None:
    step, waits = STEPS[name], case.takes_time
    process = house.process(**(SHORT if waits else {})) if step.is_cold else hasty if waits else patient
    item, files = house.message("with_attachment_known_contact", step.files), {*LARGE} if step.files else FILES
    links = links_of(patient.api.context(item))
    if step.is_cold:
        process.sign_out()
        if name != "keys":
            process.api.learn_keys()
    if step.is_second:
        assert patient.api.save(item, links[:1]).status_code == 201
    fault = house.proxies[step.remote].strike(case.fault(step.match, house.trap.url))
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links)))
    said = answer.json.get("detail") or answer.json["reason"] or ""
    print(f"{name} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('state', '')} {said}")
    if waits and name == "mark" and not fault.strikes:
        process.work()  # a slow machine spent the save's time before its last step, which is then the worker's
    assert fault.strikes > 0
    assert took < process.save_s
    tally.fault(step.remote, case)
    assert not case.heals or answer.json.get("state") == "saved"
    save_id = process.tells(item, answer, files, links)
    if answer.status_code == 409 and case.when != "before":
        assert not step.is_write, "said to have failed although C4C acted"
    house.lift()
    process.recovers(item, links, answer, save_id)
    process.holds_once(item, files, links)
    tally.save(item)


def test_a_create_that_may_still_be_under_way_is_not_sent_again(house: House, hasty: Process, tally: Tally) -> None:
    item = house.message("with_attachment_known_contact")
    links = links_of(hasty.api.context(item))
    fault = house.proxies["c4c"].strike(Fault("latency", match=STEPS["create"].match, seconds=PATIENCE_S))
    answer = hasty.answered(lambda: hasty.api.save(item, links))
    save_id = hasty.tells(item, answer, FILES, links)
    assert (answer.status_code, fault.strikes) == (202, 1)
    house.forward(20)
    hasty.work()
    assert hasty.api.get(f"/saves/{save_id}").json["state"] == "unknown"
    assert fault.strikes == 1
    house.lift()  # only now C4C gets it
    hasty.recovers(item, links, answer, save_id)
    hasty.holds_once(item, FILES, links)
    tally.save(item)
