"""What the store promises to the sync engine on both databases: who holds a session, which rows are whose, what is kept."""

import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from server.errors import Conflict, NotFound
from server.store import Connection, Issue, LeaseLost, Link, MailboxSync, Principal, Store, new_id

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
pytestmark = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)


def after(**span: float) -> datetime:
    return NOW + timedelta(**span)


@pytest.fixture
def store(database: str) -> Iterator[Store]:
    store = Store(database)
    yield store
    store.close()


@pytest.fixture
def people(store: Store) -> list[Principal]:
    with store.transaction(reading=True) as tx:
        found = [tx.principal_of(user.id) for tenant in tx.tenants() for user in tx.users(tenant.id)]
    return [principal for principal in found if principal is not None]


@pytest.fixture
def connections(store: Store, people: list[Principal]) -> list[Connection]:
    with store.transaction() as tx:
        return [tx.put_connection(p.user, "graph", p.user.email, "tid", NOW) for p in people]


def take(store: Store, now: datetime = NOW, limit: int = 10) -> list[MailboxSync]:
    with store.transaction() as tx:
        return tx.take_sessions(now, 45, limit)


def queue(store: Store, *connections: Connection) -> None:
    with store.transaction() as tx:
        for connection in connections:
            tx.queue_session(connection, NOW)


def begun(store: Store, connection: Connection) -> MailboxSync:
    queue(store, connection)
    (taken,) = take(store)
    with store.transaction() as tx:
        tx.keep_session(taken, NOW, 45, began_at=NOW)
    return replace(taken, began_at=NOW)


def keep(store: Store, held: MailboxSync, *links: Link) -> None:
    with store.transaction() as tx:
        tx.put_links(links)
        tx.keep_session(held, NOW, 45)


def row(store: Store, connection: Connection) -> MailboxSync:
    with store.transaction(reading=True) as tx:
        found = tx.session_of(connection.id)
    assert found is not None
    return found


def link(connection: Connection, number: int = 1, **values: object) -> Link:
    made = Link(
        f"{number:032x}",
        connection.tenant_id,
        connection.user_id,
        connection.id,
        "contact",
        "linked",
        "c4c",
        f"{number:032X}",
        f"i{number}",
    )
    return replace(made, **values)  # type: ignore[arg-type]


def issue(connection: Connection, key: str = "k", **values: object) -> Issue:
    made = Issue("", connection.tenant_id, connection.user_id, connection.id, "contact", key, "rejected")
    return replace(made, id=new_id(), **values)  # type: ignore[arg-type]


# Sessions


def test_sessions_that_are_due_are_taken_once_the_longest_waiting_first(store: Store, connections: list[Connection]) -> None:
    queue(store, *connections)
    with store.transaction() as tx:
        tx.wake_session(connections[0].id, after(seconds=9))
    first = take(store, after(seconds=10), limit=len(connections) - 1)
    assert connections[0].id not in {taken.connection_id for taken in first}
    assert [taken.connection_id for taken in take(store, after(seconds=10))] == [connections[0].id]
    assert take(store, after(seconds=54)) == []


def test_workers_that_claim_at_once_share_the_sessions_out(store: Store, connections: list[Connection]) -> None:
    queue(store, *connections)
    with ThreadPoolExecutor(4) as pool:
        taken = [one.id for some in pool.map(lambda _: take(store, limit=1), range(12)) for one in some]
    assert len(taken) == len(set(taken)) == len(connections)


def test_who_was_taken_for_dead_can_write_nothing_more(store: Store, connections: list[Connection]) -> None:
    queue(store, connections[0])
    (late,) = take(store)
    (heir,) = take(store, after(seconds=46))
    with store.transaction() as tx:
        assert tx.hold_session(late.id, late.fence, after(seconds=47), 45) is None
        assert tx.renew_leases("mailbox_sync", {late.id: late.fence}, after(seconds=48), 45) == set()
        assert tx.renew_leases("mailbox_sync", {heir.id: heir.fence}, after(seconds=48), 45) == {heir.id}
    with pytest.raises(LeaseLost):
        keep(store, late, link(connections[0]))
    with store.transaction(reading=True) as tx:
        assert list(tx.links(connections[0].id)) == []


def test_of_two_that_take_up_what_another_process_took_one_gets_it(store: Store, connections: list[Connection]) -> None:
    queue(store, connections[0])
    (taken,) = take(store)
    with store.transaction() as tx:
        begun_with = tx.hold_session(taken.id, taken.fence, NOW, 45)
        assert tx.hold_session(taken.id, taken.fence, NOW, 45) is None
    assert begun_with is not None
    keep(store, begun_with)
    with pytest.raises(LeaseLost):
        keep(store, taken)


def test_who_asks_for_a_session_while_one_runs_gets_another_right_after_it(store: Store, connections: list[Connection]) -> None:
    running = begun(store, connections[0])
    with store.transaction() as tx:
        assert tx.wake_session(connections[0].id, after(seconds=5))
        tx.end_session(running, next_due_at=after(minutes=30), now=after(seconds=6))
    assert row(store, connections[0]).next_due_at == after(seconds=6)
    (again,) = take(store, after(seconds=6))
    with store.transaction() as tx:
        tx.keep_session(again, after(seconds=7), 45, began_at=after(seconds=7))
        tx.end_session(replace(again, began_at=after(seconds=7)), next_due_at=after(minutes=30), now=after(seconds=8))
    assert row(store, connections[0]).next_due_at == after(minutes=30)


def test_nothing_wakes_a_session_that_is_suspended_or_whose_mailbox_is_not_connected(
    store: Store, connections: list[Connection]
) -> None:
    running = begun(store, connections[0])
    with store.transaction() as tx:
        tx.suspend_session(connections[0].id, NOW)
        assert not tx.wake_session(connections[0].id, NOW, forced=True)
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.keep_session(running, NOW, 45)
    assert take(store, after(days=1)) == []
    with store.transaction() as tx:
        tx.resume_session(connections[0].id, after(days=1))
    assert [taken.connection_id for taken in take(store, after(days=1))] == [connections[0].id]
    with store.transaction() as tx:
        tx.disconnect(connections[0].id, "", after(days=1))
        assert not tx.wake_session(connections[0].id, after(days=2))
    assert take(store, after(days=3)) == []


def test_what_a_session_keeps_is_read_as_it_was_written(store: Store, connections: list[Connection]) -> None:
    running = begun(store, connections[0])
    kept = {
        "cursor": "c" * 5000,
        "crm_cursors": {"contact": after(minutes=-5)},
        "counts": {"saved": 2},
        "swept_at": NOW,
        "failures": 3,
    }
    with store.transaction() as tx:
        tx.keep_session(running, NOW, 45, marks={"saved": ["r", "n"]}, **kept)
    found = row(store, connections[0])
    assert {name: getattr(found, name) for name in kept} == kept
    assert found.marks == {"saved": ("r", "n")}


def test_another_mailbox_begins_with_nothing_of_the_one_before(store: Store, connections: list[Connection]) -> None:
    running = begun(store, connections[0])
    with store.transaction() as tx:
        tx.keep_session(running, NOW, 45, cursor="c", counts={"saved": 2}, uploads="yes", first_done_at=NOW)
        tx.put_links([link(connections[0]), link(connections[1], 2)])
        tx.put_issue(issue(connections[0]), NOW)
        tx.follow(connections[0], "thread", None, NOW)
        tx.want_subscription(connections[0], NOW)
        tx.forget_mailbox(running, "graph:other")
    found = row(store, connections[0])
    assert (found.account, found.cursor, found.counts, found.uploads, found.first_done_at) == (
        "graph:other",
        None,
        {},
        "ask",
        None,
    )
    with store.transaction(reading=True) as tx:
        assert (list(tx.links(connections[0].id)), tx.issues_on(connections[0].id)) == ([], {})
        assert (tx.followed(connections[0].id), tx.subscription_of(connections[0].id)) == ([], None)
        assert len(list(tx.links(connections[1].id))) == 1


def test_mailboxes_in_use_without_a_session_are_found(store: Store, connections: list[Connection]) -> None:
    queue(store, *connections[1:])
    with store.transaction() as tx:
        assert tx.unscheduled(10) == []  # nothing opens it yet
        fence = tx.lease_connection(connections[0].id, NOW, 60)
        assert fence
        tx.save_credentials(connections[0].id, fence, b"sealed", NOW)
        assert [found.id for found in tx.unscheduled(10)] == [connections[0].id]
    with store.transaction() as tx:
        tx.disconnect(connections[0].id, "", NOW)
        assert tx.unscheduled(10) == []


# Links


def test_links_are_found_by_both_of_their_sides_however_many_are_asked_for(store: Store, connections: list[Connection]) -> None:
    made = [link(connections[0], number) for number in range(1, 1203)]
    with store.transaction() as tx:
        tx.put_links(made)
        tx.put_links([link(connections[1], 5000, record_id=made[0].record_id, item_ref="i1")])
    refs, ids = [f"i{n}" for n in range(1, 1300)], [str(one.record_id) for one in made]
    with store.transaction(reading=True) as tx:
        assert {found.id for found in tx.links_by_item(connections[0].id, refs).values()} == {one.id for one in made}
        assert set(tx.links_by_record(connections[0].id, "contact", ids)) == set(ids)
        assert tx.links_by_record(connections[0].id, "account", ids) == {}
        assert tx.count_links(connections[0].id) == {("contact", "linked"): 1202}
        assert list(tx.links(connections[0].id, "account")) == []


def test_a_link_that_is_put_again_is_changed(store: Store, connections: list[Connection]) -> None:
    changed = link(connections[0], state="ignored", item_ref=None, code="unlinked", item_base="b" * 900)
    with store.transaction() as tx:
        tx.put_links([link(connections[0])])
        tx.put_links([changed])
    with store.transaction(reading=True) as tx:
        assert list(tx.links(connections[0].id)) == tx.links_in_state(connections[0].id, "ignored", "held") == [changed]


@pytest.mark.parametrize("same", ["record_id", "item_ref"])
def test_neither_a_record_nor_a_contact_has_two_links_in_a_mailbox(
    store: Store, connections: list[Connection], same: str
) -> None:
    first = link(connections[0])
    with store.transaction() as tx:
        tx.put_links([first])
    with pytest.raises(Conflict), store.transaction() as tx:
        tx.put_links([link(connections[0], 2, **{same: getattr(first, same)})])
    with store.transaction() as tx:  # those of which one side is not known are no two of the same
        tx.put_links([link(connections[0], n, **{same: None}) for n in (3, 4)])
        tx.drop_links(connections[0].id, [f"{3:032x}"])
        tx.drop_links(connections[1].id, [first.id])
    with store.transaction(reading=True) as tx:
        assert [one.id for one in tx.links(connections[0].id)] == [first.id, f"{4:032x}"]


# Issues, threads, subscriptions


def test_an_issue_stays_one_however_often_it_is_found(store: Store, connections: list[Connection]) -> None:
    with store.transaction() as tx:
        tx.put_issue(issue(connections[0], choices=("upload", "keep")), NOW)
        tx.put_issue(issue(connections[0], code="restored", sealed=b"s"), after(hours=1))
        tx.put_issue(issue(connections[1]), NOW)
    user_id = connections[0].user_id
    with store.transaction(reading=True) as tx:
        (found,) = tx.issues_of(user_id)
        assert tx.count_issues(user_id) == 1
        assert (found.code, found.since, found.seen_at, found.sealed, found.choices) == (
            "restored",
            NOW,
            after(hours=1),
            b"s",
            (),
        )
        assert tx.issue(user_id, found.id) == found
        with pytest.raises(NotFound):
            tx.issue(connections[1].user_id, found.id)
    with store.transaction() as tx:
        tx.end_issues(connections[0].id, ["k", "unknown"])
        assert (tx.issues_of(user_id), tx.count_issues(connections[1].user_id)) == ([], 1)


def test_a_thread_is_followed_once_and_ended_by_its_reader_only(store: Store, connections: list[Connection]) -> None:
    with store.transaction() as tx:
        tx.follow(connections[0], "thread", b"name", NOW)
        tx.follow(connections[0], "thread", None, after(hours=1))
        (kept,) = tx.followed(connections[0].id)
        tx.unfollow(connections[1].user_id, kept.id)
        assert [(one.conversation, one.sealed) for one in tx.followed(connections[0].id)] == [("thread", b"name")]
        tx.unfollow(connections[0].user_id, kept.id)
        assert tx.followed(connections[0].id) == []


def test_a_subscription_is_renewed_by_one_worker(store: Store, connections: list[Connection]) -> None:
    with store.transaction() as tx:
        tx.want_subscription(connections[0], NOW)
        tx.want_subscription(connections[0], NOW)
        (held,) = tx.take_subscriptions(NOW, 45, 10)
        assert tx.take_subscriptions(NOW, 45, 10) == []
        tx.end_renewal(held, next_due_at=after(hours=1), ref="r", expires_at=after(hours=2), secret=b"s")
    with store.transaction() as tx:
        tx.renew_soon(held.id, after(minutes=1))
        kept = tx.subscription(held.id)
    assert (kept.ref, kept.expires_at, kept.next_due_at) == ("r", after(hours=2), after(minutes=1))
    with store.transaction() as tx:
        assert len(tx.take_subscriptions(after(minutes=1), 45, 10)) == 1
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.end_renewal(held, next_due_at=None)


def test_all_that_is_a_persons_goes_with_them(store: Store, connections: list[Connection]) -> None:
    running = begun(store, connections[0])
    with store.transaction() as tx:
        tx.put_links([link(connections[0])])
        tx.put_issue(issue(connections[0]), NOW)
        tx.follow(connections[0], "thread", None, NOW)
        tx.want_subscription(connections[0], NOW)
        tx.set_own_settings(connections[0].user_id, {"auto_save": True})
        tx.remove_user(connections[0].user_id)
    with store.transaction(reading=True) as tx:
        assert tx.session_of(running.connection_id) is None
        assert (list(tx.links(connections[0].id)), tx.issues_on(connections[0].id)) == ([], {})
        assert (tx.followed(connections[0].id), tx.subscription_of(connections[0].id)) == ([], None)


def test_what_a_person_chose_is_in_effect_where_it_is_unlocked(store: Store, people: list[Principal]) -> None:
    mine = people[0]
    with store.transaction() as tx:
        tx.set_own_settings(mine.user.id, {"auto_save": True, "guard_items": 5000})
        tx.set_language(mine.user.id, "de")
        found = tx.principal_of(mine.user.id)
    assert found is not None
    assert (found.profile.auto_save, found.profile.guard_items, found.user.language) == (True, mine.profile.guard_items, "de")


def test_sessions_that_are_due_are_found_by_their_time_and_not_by_reading_all(store: Store) -> None:
    plans: list[str] = []

    def explain(connection: Any, cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        if "mailbox_sync" in statement and not plans:
            how = "EXPLAIN QUERY PLAN " if connection.dialect.name == "sqlite" else "EXPLAIN "
            plans.append("")
            rows = connection.exec_driver_sql(how + statement, parameters).fetchall()
            plans[0] = "\n".join(" ".join(map(str, row)) for row in rows)

    with store.transaction() as tx:
        if store._engine.dialect.name == "postgresql":  # which prefers to read a table whole as long as it is small
            tx._db.exec_driver_sql("SET LOCAL enable_seqscan = off")
        sa.event.listen(store._engine, "before_cursor_execute", explain)
        tx.take_sessions(NOW, 45, 10)
    sa.event.remove(store._engine, "before_cursor_execute", explain)
    assert "ix_mailbox_sync_next_due_at" in plans[0]
    assert not re.search(r"SCAN mailbox_sync\b(?! USING)|Seq Scan on mailbox_sync", plans[0])
