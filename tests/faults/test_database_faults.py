"""Lookup and save when PostgreSQL is sick: answers in time, and no save is lost, doubled or claimed for nothing."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from tests.api import activities, links_of
from tests.conftest import _set_up, new_database
from tests.faults.conftest import warm
from tests.faults.house import SHORT, House, Process, tells_what_to_do, timed
from tests.faults.proxy import Proxy
from tests.faults.table import CASES, SLOW, Case

SQL_CASES = [case for case in (*CASES, *SLOW) if case.answer is None and case.name not in ("elsewhere", "cut-in-head")]
COMMITS = 16  # a save has fewer
FILE = {"Offer 2026-118.pdf"}


@pytest.fixture(scope="module")
def database(house: House, postgres_server: str) -> Iterator[str]:
    """URL of a set-up database, through a proxy of its own."""
    url = sa.make_url(new_database(postgres_server, "faults"))
    _set_up(replace(house.settings, database_url=url.render_as_string(False)), house.simulator.provisioning())
    assert url.port is not None
    with Proxy(url.port) as proxy:
        house.proxies["database"] = proxy
        yield url.set(port=proxy.port).render_as_string(False)
        del house.proxies["database"]


@pytest.fixture(scope="module")
def patient(house: House, database: str) -> Process:
    return warm(house.process(database_url=database))


@pytest.fixture(scope="module")
def hasty(house: House, database: str) -> Process:
    return warm(house.process(database_url=database, **SHORT))


def sick(*, hangs: Any = ()) -> list[Any]:
    """The faults that bytes can have; `hangs` marks those that never end by themselves."""
    return [
        pytest.param(
            case, id=str(case), marks=(*(hangs if case.kind == "hang" else ()), *([pytest.mark.soak] if case in SLOW else []))
        )
        for case in SQL_CASES
    ]


@pytest.mark.parametrize("case", sick())
def test_a_lookup_outlives_a_sick_database(house: House, patient: Process, hasty: Process, case: Case) -> None:
    process = hasty if case.takes_time else patient
    item = house.message()
    times = 1 if case.kind == "latency" and case.heals else None
    fault = house.proxies["database"].strike(case.fault("", house.trap.url, times=times))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/context", {"item": item})))
    print(f"database {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    if case.heals:
        assert answer.status_code == 200
    else:
        tells_what_to_do(answer)
    house.lift()
    assert [card["type"] for card in process.api.context(item)["cards"]] == ["contact", "account"]


@pytest.mark.parametrize("what", ["everything", "promise", "commits"])
@pytest.mark.parametrize("case", sick())
def test_a_save_outlives_a_sick_database(house: House, patient: Process, hasty: Process, case: Case, what: str) -> None:
    process = hasty if case.takes_time else patient
    item = house.message("with_attachment_known_contact")
    links = links_of(process.api.context(item))
    times = 1 if case.kind == "latency" and case.heals else None
    match = {"everything": "", "promise": item["id"], "commits": "COMMIT"}[what]
    fault = house.proxies["database"].strike(case.fault(match, house.trap.url, times=times))
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links)))
    print(f"database {what} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert not case.heals or answer.json.get("state") == "saved"
    save_id = process.tells(item, answer)
    house.lift()
    process.recovers(item, links, answer, save_id)
    process.holds_once(item, FILE)


@pytest.mark.parametrize("number", range(COMMITS), ids=lambda number: f"commit-{number}")
def test_a_commit_whose_answer_is_lost_neither_loses_nor_doubles_a_save(house: House, patient: Process, number: int) -> None:
    item = house.message("with_attachment_known_contact")
    links = links_of(patient.api.context(item))
    case = Case("commit", "reset", "after")
    fault = replace(case.fault("COMMIT", house.trap.url, times=1), skip=number)
    house.proxies["database"].strike(fault)
    answer = patient.answered(lambda: patient.api.save(item, links))
    print(f"commit {number}: {fault.strikes} lost, {answer.status_code} {answer.json.get('detail', '')}")
    save_id = patient.tells(item, answer)
    house.lift()
    patient.recovers(item, links, answer, save_id)
    patient.holds_once(item, FILE)
    assert len(activities(house.world, item)) == 1
