"""Lookup and save when the database is sick: answers in time, and no save is lost, doubled or claimed for nothing."""

import sqlite3
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from server.store import DatabaseAway, Store, engine
from tests.api import links_of
from tests.conftest import new_database, set_up
from tests.faults.conftest import Tally, warm
from tests.faults.house import SHORT, SLACK_S, House, Process, tells_what_to_do, timed
from tests.faults.proxy import Fault, Proxy, When
from tests.faults.table import EACH, SQL_CASES, Case, slow, some

COMMITS = 16  # a save has fewer
FILES = {"Offer 2026-118.pdf"}
CONNECT_S = 3.0  # to notice that a connection is dead, and then that no other can be had
STEPS = {"everything": "", "promise": "its id", "commits": "COMMIT"}
"""What of a save is struck: "promise" is the statement that holds the message's key."""


@pytest.fixture(scope="module")
def database(house: House, postgres_server: str) -> Iterator[str]:
    """URL of a set-up database, through a proxy of its own."""
    url = sa.make_url(new_database(postgres_server, "faults"))
    set_up(replace(house.settings, database_url=url.render_as_string(False)), house.simulator.provisioning())
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
    """A process with short deadlines, the store's included."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PATIENCE", engine.Patience(ping_s=0.3, read_s=0.4, write_s=0.6))
        return warm(house.process(database_url=database, **SHORT))


def combined(*steps: str) -> list[Any]:
    made = []
    for turn, step in enumerate(steps):
        short = some(SQL_CASES, turn)
        for case in (*SQL_CASES, *slow(turn)):
            made.append(pytest.param(step, case, id=f"{step}-{case}", marks=() if str(case) in short else pytest.mark.soak))
    return made


@pytest.mark.parametrize(("step", "case"), combined("lookup"))
def test_a_lookup_outlives_a_sick_database(
    house: House, patient: Process, hasty: Process, tally: Tally, step: str, case: Case
) -> None:
    process = hasty if case.takes_time else patient
    item = house.message()
    times = 1 if case.kind == "latency" and case.heals else None
    fault = house.proxies["database"].strike(case.fault("", house.trap.url, times=times))
    answer, took = timed(lambda: process.answered(lambda: process.api.post("/context", {"item": item})))
    print(f"database {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert took < process.lookup_s
    tally.fault("database", case)
    if case.heals:
        assert answer.status_code == 200
    else:
        tells_what_to_do(answer)
    house.lift()
    assert [card["type"] for card in process.api.context(item)["cards"]] == ["contact", "account"]
    tally.lookup()


@pytest.mark.parametrize(("step", "case"), combined(*STEPS))
def test_a_save_outlives_a_sick_database(
    house: House, patient: Process, hasty: Process, tally: Tally, step: str, case: Case
) -> None:
    process = hasty if case.takes_time else patient
    item = house.message("with_attachment_known_contact")
    links = links_of(process.api.context(item))
    times = 1 if case.kind == "latency" and case.heals else None
    match = item["id"] if step == "promise" else STEPS[step]
    fault = house.proxies["database"].strike(case.fault(match, house.trap.url, times=times))
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links)))
    print(f"database {step} {case}: {answer.status_code} after {took:.2f} s, {answer.json.get('detail', '')}")
    assert fault.strikes > 0
    assert took < process.save_s + CONNECT_S
    tally.fault("database", case)
    assert not case.heals or answer.json.get("state") == "saved"
    save_id = process.tells(item, answer, FILES, links)
    house.lift()
    process.recovers(item, links, answer, save_id)
    process.holds_once(item, FILES, links)
    tally.save(item)


@pytest.mark.soak
@pytest.mark.parametrize("number", range(COMMITS), ids=lambda number: f"commit-{number}")
def test_a_commit_whose_answer_is_lost_neither_loses_nor_doubles_a_save(
    house: House, database: str, tally: Tally, number: int
) -> None:
    process = warm(house.process(database_url=database, save_deadline_s=1.5))
    item = house.message("with_attachment_known_contact")
    links = links_of(process.api.context(item))
    case = Case("reset", "reset", "after")
    fault = replace(case.fault("COMMIT", house.trap.url, times=1), skip=number)
    house.proxies["database"].strike(fault)
    answer = process.answered(lambda: process.api.save(item, links))
    print(f"commit {number}: {fault.strikes} lost, {answer.status_code} {answer.json.get('detail', '')}")
    if fault.strikes:
        tally.fault("database", case)
    save_id = process.tells(item, answer, FILES, links)
    house.lift()
    process.recovers(item, links, answer, save_id)
    process.holds_once(item, FILES, links)
    tally.save(item)


def test_a_database_that_somebody_else_has_locked_is_waited_for_and_then_told(house: House, tally: Tally) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "SQLITE_WAIT_S", 0.3)
        process = warm(house.process())
    path = sa.make_url(house.settings.database_url).database
    item = house.message("with_attachment_known_contact")
    other = sqlite3.connect(str(path), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    looked_up = process.api.context(item)
    assert [card["type"] for card in looked_up["cards"]] == ["contact", "account"]  # to read, nobody waits for a writer
    answer, took = timed(lambda: process.answered(lambda: process.api.save(item, links_of(looked_up))))
    assert took < SLACK_S
    tells_what_to_do(answer)
    other.execute("ROLLBACK")
    other.close()
    process.recovers(item, links_of(looked_up), answer, process.tells(item, answer, FILES, links_of(looked_up)))
    process.holds_once(item, FILES, links_of(looked_up))
    tally.save(item)


# The store alone


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(engine, "PATIENCE", engine.Patience(ping_s=0.2, read_s=0.3, write_s=0.5, idle_s=0.7))
        store = Store(database)
        yield store
        store.close()


def look(store: Store) -> None:
    with store.transaction(reading=True) as tx:
        assert tx.tenants()


@pytest.mark.parametrize("match", ["", "BEGIN", "FROM tenant", "COMMIT"], ids=["whatever", "begin", "question", "commit"])
@pytest.mark.parametrize("when", EACH)
def test_a_connection_that_was_given_up_is_used_by_nobody_again(house: House, store: Store, when: When, match: str) -> None:
    look(store)
    house.proxies["database"].strike(Fault("hang", when, match))
    started = time.monotonic()
    with pytest.raises(DatabaseAway) as away, store.transaction(reading=match != "COMMIT") as tx:
        tx.tenants()
    assert time.monotonic() - started < CONNECT_S
    assert isinstance(away.value.__cause__, sa.exc.OperationalError)
    assert away.value.__cause__.connection_invalidated or match == ""  # then not even a new one was to be had
    assert store._engine.pool.checkedout() == 0  # type: ignore[attr-defined]
    house.lift()
    look(store)


def backend(store: Store) -> int:
    with store.transaction() as tx:
        return int(tx._db.exec_driver_sql("SELECT pg_backend_pid()").scalar_one())


def test_who_waits_for_another_transaction_waits_within_bounds_and_keeps_the_connection(house: House, store: Store) -> None:
    connected_as = backend(store)
    other = Store(store._engine.url.render_as_string(False))
    with other._engine.connect() as holder:
        holder.exec_driver_sql("LOCK TABLE tenant")
        started = time.monotonic()
        with pytest.raises(DatabaseAway), store.transaction() as tx:
            tx.tenants()
        assert time.monotonic() - started < SLACK_S
        assert backend(store) == connected_as
        holder.rollback()
    other.close()
    look(store)


def test_a_server_that_others_have_replaced_as_the_primary_is_left(store: Store) -> None:
    connected_as = backend(store)
    with pytest.raises(DatabaseAway), store.transaction() as tx:
        tx._db.exec_driver_sql("SET TRANSACTION READ ONLY; DELETE FROM audit")
    assert backend(store) != connected_as


def test_what_a_client_holds_that_fell_silent_is_freed(store: Store) -> None:
    freed = False

    def hold() -> None:
        nonlocal freed
        with store.transaction() as tx:
            tx._db.exec_driver_sql("LOCK TABLE tenant")
            time.sleep(1.0)
            look(store)  # with another connection: the server has ended this one
            freed = True
            tx.tenants()

    look(store)
    with pytest.raises(DatabaseAway):
        hold()
    assert freed
    look(store)


def test_bringing_the_schema_up_to_date_may_take_its_time(store: Store) -> None:
    look(store)
    with store._engine.execution_options(ssi_waits=True).begin() as connection:
        connection.exec_driver_sql("SELECT pg_sleep(0.8)")
    with pytest.raises(DatabaseAway), store.transaction() as tx:
        tx._db.exec_driver_sql("SELECT pg_sleep(0.8)")  # nothing else may
