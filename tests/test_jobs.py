"""Work that fails again and again ends as dead, with its reason, and somebody can drive it on; work that is held stays held."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from server.errors import NotFound
from server.mail.smtp import Letter
from server.services import Deps, operations
from server.services.connections import identify, mailbox_connection
from server.store import Connection, MailboxSync
from server.worker import Dispatcher
from server.worker.kinds import MAX_TRIES, SESSION, TRIES_WHILE_AWAY
from server.worker.leases import Leases
from simulator.ports import Simulator
from simulator.world import Fault, World

Forward = Callable[..., None]


def work(deps: Deps) -> None:
    Dispatcher(deps, threads=0, poll_s=1).run_once()


def sql(deps: Deps, statement: str) -> None:
    with deps.store._engine.begin() as connection:
        connection.execute(sa.text(statement))


def broken(*_: Any) -> Any:
    raise ZeroDivisionError("a fault of ours")


@pytest.fixture
def connection(deps: Deps, world: World, simulator: Simulator) -> Connection:
    """A connected mailbox whose first session waits."""
    connection = mailbox_connection(deps, identify(deps, simulator.bearer(world.people[0])))
    with deps.store.transaction() as tx:
        tx.queue_session(connection, deps.now())
    return connection


def session(deps: Deps, connection: Connection) -> MailboxSync:
    with deps.store.transaction(reading=True) as tx:
        found = tx.session_of(connection.id)
    assert found is not None
    return found


def one_scan(deps: Deps) -> None:
    sql(deps, "UPDATE address_scan SET next_due_at = '2026-01-01' WHERE id = (SELECT min(id) FROM address_scan)")


def tried(deps: Deps, healthy: Deps, forward: Forward, kind: str) -> tuple[dict[str, Any], int]:
    """Work until a job of the kind is dead; return it, and after how many tries."""
    for number in range(1, 40):
        work(deps)
        dead = [job for job in operations.jobs(healthy, dead_only=True) if job["kind"] == kind]
        if dead:
            return dead[0], number
        forward(hours=6)
    raise AssertionError("it never dies")


# What dies, and how it is driven on


def test_a_scan_that_breaks_is_dead_after_eight_tries_and_is_driven_on(deps: Deps, forward: Forward) -> None:
    one_scan(deps)
    job, tries = tried(replace(deps, c4c=broken), deps, forward, "scan")
    assert (tries, job["attempts"]) == (MAX_TRIES, MAX_TRIES)
    assert (job["reason"], job["tenant"]) == ("We made a mistake with it. The log says more.", "demo")
    assert "@" in job["user"]
    assert operations.retry_job(deps, job["id"]) == "scan"
    work(deps)
    assert operations.jobs(deps) == []


def test_a_scan_waits_for_a_day_while_c4c_does_not_answer(deps: Deps, world: World, forward: Forward) -> None:
    one_scan(deps)
    world.faults.append(Fault("c4c", "status", status=503, times=None))
    job, tries = tried(deps, deps, forward, "scan")
    assert tries == TRIES_WHILE_AWAY
    assert "SAP Cloud for Customer" in job["reason"]


def test_a_mail_that_breaks_while_it_is_made_is_dead_after_eight_tries(
    deps: Deps, connection: Connection, forward: Forward
) -> None:
    sql(deps, "UPDATE mailbox_sync SET next_due_at = NULL, failures = 10")
    with deps.store.transaction() as tx:
        tx.owe_notice(connection, "sync_failing", "It is so.", deps.now())
    job, tries = tried(replace(deps, send_mail=broken), deps, forward, "notice")
    assert tries == MAX_TRIES
    sent: list[Letter] = []
    operations.retry_job(deps, job["id"])
    work(replace(deps, send_mail=sent.append))
    assert len(sent) == 1
    assert operations.jobs(deps) == []


def test_a_session_that_ends_its_worker_each_time_is_given_up_and_can_be_forced(deps: Deps, connection: Connection) -> None:
    sql(deps, "UPDATE mailbox_sync SET attempts = 20")
    work(deps)
    assert session(deps, connection).state == "failed"
    (job,) = operations.jobs(deps, dead_only=True)
    assert (job["kind"], job["reason"] != "") == ("session", True)
    operations.retry_job(deps, job["id"])
    work(deps)
    assert session(deps, connection).state == "done"


def test_a_session_that_breaks_is_tried_less_and_less_often_and_then_given_up(
    deps: Deps, connection: Connection, forward: Forward
) -> None:
    sick = replace(deps, mailbox=broken)
    work(sick)
    due = session(deps, connection).next_due_at
    assert due is not None
    assert timedelta(seconds=20) < due - deps.now() <= timedelta(seconds=30)
    forward(hours=1)
    _, more = tried(sick, deps, forward, "session")
    assert more + 1 == 20


def test_what_runs_and_what_waits_is_shown_with_whose_it_is(deps: Deps, connection: Connection, world: World) -> None:
    one_scan(deps)
    with deps.store.transaction() as tx:
        assert len(tx.take_sessions(deps.now(), 45, 1)) == 1
    shown = {(job["kind"], job["state"]) for job in operations.jobs(deps)}
    assert shown == {("session", "running"), ("scan", "waiting")}
    assert world.people[0].email in {job["user"] for job in operations.jobs(deps)}
    assert operations.jobs(deps, dead_only=True) == []


def test_what_is_no_job_or_has_no_mailbox_is_not_driven_on(deps: Deps, connection: Connection) -> None:
    with pytest.raises(NotFound):
        operations.retry_job(deps, "0" * 32)
    with deps.store.transaction() as tx:
        tx.disconnect(connection.id, "The owner disconnected it.", deps.now())
    with pytest.raises(NotFound):
        operations.retry_job(deps, session(deps, connection).id)


# What is held


def test_the_heartbeat_keeps_a_long_session_from_being_taken_over(deps: Deps, connection: Connection, forward: Forward) -> None:
    leases = Leases(deps)
    (held,) = SESSION.take(deps, 1)
    with leases.kept(SESSION.table, held.id, held.fence):
        for _ in range(5):
            forward(seconds=30)
            leases.beat()
            assert SESSION.take(deps, 1) == []
    leases.beat()
    forward(seconds=46)
    (heir,) = SESSION.take(deps, 1)
    assert heir.fence > held.fence


def test_who_lost_a_lease_does_not_get_it_back_by_a_late_beat(deps: Deps, connection: Connection, forward: Forward) -> None:
    leases = Leases(deps)
    (held,) = SESSION.take(deps, 1)
    leases.keep(SESSION.table, held.id, held.fence)
    forward(seconds=46)
    (heir,) = SESSION.take(deps, 1)
    forward(seconds=40)
    leases.beat()
    forward(seconds=6)
    (third,) = SESSION.take(deps, 1)
    assert (held.fence, heir.fence, third.fence) == (1, 2, 3)


def test_what_was_not_begun_when_a_worker_stops_is_free_at_once(deps: Deps, connection: Connection) -> None:
    dispatcher = Dispatcher(deps, threads=0, poll_s=1)
    (job,) = dispatcher.taken(SESSION, 1)
    assert dispatcher.taken(SESSION, 1) == []
    dispatcher.give_back(job)
    assert len(dispatcher.taken(SESSION, 1)) == 1


def test_a_message_that_comes_twice_runs_one_session(deps: Deps, connection: Connection, world: World) -> None:
    (held,) = SESSION.take(deps, 1)
    dispatcher = Dispatcher(deps, threads=0, poll_s=1)
    dispatcher.take_up("session", held.id, held.fence)
    assert session(deps, connection).state == "done"
    seen = len(world.access)
    dispatcher.take_up("session", held.id, held.fence)
    dispatcher.take_up("a newer release's", held.id, held.fence)
    assert len(world.access) == seen


def test_a_mailbox_that_its_owners_sign_in_opened_gets_its_first_session(deps: Deps, world: World, simulator: Simulator) -> None:
    connection = mailbox_connection(deps, identify(deps, simulator.bearer(world.people[0])))
    Dispatcher(deps, threads=0, poll_s=1).keep_house()
    work(deps)
    assert session(deps, connection).state == "done"
