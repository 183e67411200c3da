"""A save when a remote is sick at any of its steps: never said to be done when it is not, and in the end done exactly once."""

import time
from dataclasses import dataclass
from typing import Any

import pytest
from werkzeug.test import TestResponse

from simulator.c4c import TOKEN_PATH
from simulator.c4c_odata import SERVICE
from tests.api import Item, activities, children, file_names, links_of, numbers
from tests.faults.conftest import SHORT, House, Process
from tests.faults.matrix import CASES, Case
from tests.faults.test_lookup_faults import assert_tells_what_to_do

SAVED = "Saved in SAP Cloud for Customer SSI"
PENDING = "Pending in SAP Cloud for Customer SSI"
LARGE = {"large.zip": 3_200_000}  # more than goes along with the activity
ROUNDS = 12


@dataclass(frozen=True)
class Step:
    """A request of a save: where it goes and what it holds. `is_cold` needs a process that has no keys and tokens yet."""

    remote: str
    match: str
    is_cold: bool = False
    needs_file: bool = False
    is_second: bool = False  # of a save that adds links to an activity that is there


STEPS = {
    "keys": Step("identity", "/discovery/v2.0/keys", is_cold=True),
    "mailbox sign-in metadata": Step("identity", "/v2.0/.well-known/openid-configuration", is_cold=True),
    "mailbox sign-in": Step("identity", "/oauth2/v2.0/token", is_cold=True),
    "message": Step("graph", "?$select=id%2CinternetMessageId"),
    "mime": Step("graph", "/$value"),
    "c4c sign-in": Step("c4c", TOKEN_PATH, is_cold=True),
    "before save": Step("c4c", "/$batch"),
    "create": Step("c4c", "POST " + SERVICE + "EMailCollection"),
    "attach": Step("c4c", "POST " + SERVICE + "EMailAttachmentsCollection", needs_file=True),
    "links": Step("c4c", "/$batch", is_second=True),
    "categories": Step("graph", "GET /v1.0/me/outlook/masterCategories", is_cold=True),
    "mark read": Step("graph", "?$select=id%2Ccategories"),
    "mark written": Step("graph", "PATCH /v1.0/me/messages/"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("name", STEPS)
def test_a_save_outlives_a_fault(house: House, shared: Process, name: str, case: Case) -> None:
    step = STEPS[name]
    process = house.process(**SHORT) if step.is_cold else shared
    api = process.api
    item = house.message("with_attachment_known_contact", LARGE if step.needs_file else None)
    links = links_of(shared.api.context(item))
    if step.is_cold:
        house.sign_out(process)
    if step.is_second:
        assert api.save(item, links[:1]).status_code == 201
    fault = house.remote(step.remote).strike(case.fault(step.match, trap_url=house.trap.url))
    started = time.perf_counter()
    answer = process.answered(lambda: api.save(item, links))
    print("TOOK", name, case, answer.status_code, answer.json.get("code"), answer.json.get("state"), answer.json.get("detail") or answer.json.get("reason"), round(time.perf_counter() - started, 2))
    assert fault.strikes > 0
    if case.heals:
        assert answer.json.get("state") == "saved"
    promised = tells_the_truth(house, process, item, answer)
    house.lift()
    recovers(house, process, item, links, answer, promised)
    is_saved_once(house, item, links, 2 if step.needs_file else 1)


def tells_the_truth(house: House, process: Process, item: Item, answer: TestResponse) -> str | None:
    """Compare what was said with what C4C and the mailbox hold; return the save's id if one was promised."""
    made = activities(house.world, item)
    assert len(made) <= 1
    marks = process.api.categories(item)
    if answer.status_code in (200, 201):
        assert answer.json["state"] == "saved"
        assert len(made) == 1
        assert answer.json["activity"]["id"] == made[0]["ObjectID"]
        return str(answer.json["id"])
    if answer.status_code == 202:
        assert answer.json["state"] in ("pending", "unknown")
        assert answer.json["activity"] is None
        return str(answer.json["id"])
    if answer.status_code == 409:
        assert answer.json["code"] == "save_failed"
        assert answer.json["detail"].endswith(".")
        return str(answer.json["save_id"])
    assert_tells_what_to_do(answer)
    return None


def recovers(house: House, process: Process, item: Item, links: Any, answer: TestResponse, save_id: str | None) -> None:
    """By itself where it was accepted, else by another try of the person."""
    api = process.api
    for _ in range(ROUNDS):
        if save_id is None:
            house.forward(float(answer.headers.get("Retry-After", 1)))
            answer = api.save(item, links)
            save_id = answer.json.get("id") or answer.json.get("save_id")
            continue
        told = api.get("/saves/" + save_id)
        if told.status_code != 200:
            house.forward(float(told.headers.get("Retry-After", 1)))
            continue
        if told.json["state"] == "failed":
            api.post(f"/saves/{save_id}/retry")
            continue
        if told.json["state"] == "saved" and told.json["marks"] == ["saved"]:
            return
        house.forward(20)
        process.work()
    pytest.fail(f"not saved after {ROUNDS} rounds: {told.json}")


def is_saved_once(house: House, item: Item, links: Any, files: int) -> None:
    (activity,) = activities(house.world, item)
    names = file_names(house.world, activity)
    assert len(names) == len(set(names)) == files
    assert len(children(house.world, activity, "parties")) == len(numbers(house.world, activity))
    found = house.world.mailbox(house.world.people[0].email).find(item["id"])
    assert found is not None
    assert found.categories == [SAVED]
