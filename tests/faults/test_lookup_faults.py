"""A lookup when something it needs is sick: an answer in time, nothing untrue in it, and all well once the fault is over."""

import time
from typing import Any

import pytest

from simulator.c4c import TOKEN_PATH
from tests.api import Item
from tests.faults.conftest import SHORT, House, Process
from tests.faults.matrix import CASES, Case

TARGETS = {
    "c4c lookup": ("c4c", "/$batch"),
    "c4c sign-in": ("c4c", TOKEN_PATH),
    "keys": ("identity", "/discovery/v2.0/keys"),
    "metadata": ("identity", "/common/v2.0/.well-known/openid-configuration"),
}


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("target", TARGETS)
def test_a_lookup_outlives_a_fault(house: House, target: str, case: Case, record_property: Any) -> None:
    remote, match = TARGETS[target]
    process = house.process(**SHORT)
    item = house.message()
    fault = house.remote(remote).strike(case.fault(match, trap_url=house.trap.url))
    started = time.perf_counter()
    answer = process.answered(lambda: process.api.post("/context", {"item": item}))
    took = time.perf_counter() - started
    print("TOOK", target, case, answer.status_code, answer.json.get("code"), answer.json.get("detail"), round(took, 2))
    assert fault.strikes > 0
    if case.heals:
        assert answer.status_code == 200
    if answer.status_code == 200:
        assert [card["type"] for card in answer.json["cards"]] == ["contact", "account"]
    else:
        assert_tells_what_to_do(answer)
    house.lift()
    house.forward(float(answer.headers.get("Retry-After", 0)))
    again = process.api.context(item)
    assert [card["type"] for card in again["cards"]] == ["contact", "account"]


def assert_tells_what_to_do(answer: Any) -> None:
    """A Problem with one clear sentence, and when or how to go on."""
    assert answer.content_type == "application/problem+json"
    detail = answer.json["detail"]
    assert detail.endswith(".")
    assert "<" not in detail
    assert len(detail) < 300
    if answer.status_code == 503:
        assert int(answer.headers["Retry-After"]) >= 1
    elif answer.status_code == 403:
        assert "Ask your administrator" in detail
    else:
        assert (answer.status_code, answer.json["code"]) == (401, "needs_sign_in")
