"""What the store promises on both databases: leases with fences, uniqueness, whose rows they are, one schema."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext

from server.domain.records import RecordRef
from server.errors import Conflict, NotFound, Transient
from server.store import C4CSettings, Connection, LeaseLost, Principal, Save, SaveRequest, Store, schema
from tests.conftest import new_database

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
BOTH = pytest.mark.parametrize("database", ["sqlite", "postgres"], indirect=True)
KEY = "message@example.com"


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


@pytest.fixture
def save(store: Store, people: list[Principal]) -> Save:
    with store.transaction() as tx:
        return tx.put_save(people[0].tenant.id, KEY, "fingerprint", NOW)


def wish(store: Store, save: Save, connection: Connection, text: str = "wish", now: datetime = NOW) -> SaveRequest:
    with store.transaction() as tx:
        return tx.put_request(
            save, connection, item_ref="ref", item_id="item", payload=text.encode(), wish_hash=text.encode(), now=now
        )


def lease(store: Store, save: Save, now: datetime = NOW, for_s: float = 45) -> int | None:
    with store.transaction() as tx:
        return tx.lease_save(save.id, now, for_s)


# Leases


@BOTH
def test_a_lease_has_one_holder_until_it_runs_out_or_is_given_back(store: Store, save: Save) -> None:
    first = lease(store, save)
    assert first is not None
    assert lease(store, save, after(seconds=44)) is None
    second = lease(store, save, after(seconds=46))
    assert second == first + 1
    with store.transaction() as tx:
        tx.release_save(save.id, first)  # late, and no longer its to give back
    assert lease(store, save, after(seconds=47)) is None
    with store.transaction() as tx:
        tx.release_save(save.id, second)
    assert lease(store, save, after(seconds=48)) == second + 1


@BOTH
def test_a_lease_that_is_renewed_lasts(store: Store, save: Save) -> None:
    fence = lease(store, save)
    assert fence is not None
    with store.transaction() as tx:
        tx.renew_save(save.id, fence, after(seconds=40), 45)
    assert lease(store, save, after(seconds=80)) is None


@BOTH
def test_a_lease_that_is_nearly_whole_is_not_written_again_and_nine_tenths_are_always_left(store: Store, save: Save) -> None:
    fence = lease(store, save)
    assert fence is not None
    with store.transaction() as tx:
        tx.renew_save(save.id, fence, after(seconds=4), 45)
    assert until(store, save) == after(seconds=45)
    with store.transaction() as tx:
        tx.renew_save(save.id, fence, after(seconds=5), 45)
    assert until(store, save) == after(seconds=50)


def until(store: Store, save: Save) -> datetime | None:
    with store.transaction(reading=True) as tx:
        return tx._db.execute(sa.select(schema.save.c.lease_until).where(schema.save.c.id == save.id)).scalar_one()


@BOTH
def test_a_holder_that_wakes_up_late_is_refused_whatever_it_writes(
    store: Store, save: Save, connections: list[Connection], people: list[Principal]
) -> None:
    request = wish(store, save, connections[0])
    late, current = lease(store, save), lease(store, save, after(minutes=1))
    assert late is not None
    assert current is not None
    user = people[0].user.id
    writes: list[Callable[[Any, int], object]] = [
        lambda tx, fence: tx.renew_save(save.id, fence, NOW, 45),
        lambda tx, fence: tx.create_sent(save.id, fence, NOW),
        lambda tx, fence: tx.activity_known(save.id, fence, "A" * 32, "1", user, NOW),
        lambda tx, fence: tx.activity_gone(save.id, fence),
        lambda tx, fence: tx.change_request(request, fence, NOW, state="saved"),
    ]
    for write in writes:
        with pytest.raises(LeaseLost), store.transaction() as tx:
            write(tx, late)
        with store.transaction() as tx:
            write(tx, current)


@BOTH
def test_of_many_that_want_a_lease_one_gets_it(store: Store, save: Save) -> None:
    with ThreadPoolExecutor(12) as pool:
        got = list(pool.map(lambda _: lease(store, save), range(12)))
    assert len([fence for fence in got if fence is not None]) == 1


@BOTH
def test_credentials_of_a_late_holder_are_not_kept(store: Store, connections: list[Connection]) -> None:
    connection = connections[0]
    with store.transaction() as tx:
        late = tx.lease_connection(connection.id, NOW, 30)
        assert tx.lease_connection(connection.id, NOW, 30) is None
        current = tx.lease_connection(connection.id, after(seconds=31), 30)
    assert late is not None
    assert current is not None
    with store.transaction() as tx:
        assert tx.save_credentials(connection.id, current, b"new", NOW)
        assert not tx.save_credentials(connection.id, late, b"old", NOW)
        assert tx.connection(connection.id).credentials == b"new"


@BOTH
def test_each_scan_goes_to_one_worker(store: Store, people: list[Principal]) -> None:
    with store.transaction() as tx:
        tx.want_scans(people[0].user, ["contact", "account", "lead"], NOW)  # contact and account are arranged already
        for principal in people:
            tx.want_scans(principal.user, ["lead"], NOW)

    def take(_: int) -> Any:
        with store.transaction() as tx:
            return tx.take_scans(NOW, 300, 1)

    with ThreadPoolExecutor(8) as pool:
        taken = [scan for some in pool.map(take, range(8)) for scan in some]
    assert {scan.type for scan in taken} == {"lead"}
    assert sorted(scan.user_id for scan in taken) == sorted(principal.user.id for principal in people)


@BOTH
def test_a_scan_goes_on_where_it_was_when_its_worker_died(store: Store, people: list[Principal]) -> None:
    with store.transaction() as tx:
        tx.want_scans(people[0].user, ["lead"], NOW)
        (dead,) = tx.take_scans(NOW, 300, 1)
        tx.keep_scan(dead, after(days=-1), NOW, 300)
    with store.transaction() as tx:
        assert tx.take_scans(after(seconds=299), 300, 1) == []
        (heir,) = tx.take_scans(after(seconds=301), 300, 1)
    assert heir.changed_at == after(days=-1)
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.finish_scan(dead, NOW, NOW)
    with pytest.raises(LeaseLost), store.transaction() as tx:
        tx.keep_scan(dead, NOW, NOW, 300)
    with store.transaction() as tx:
        tx.finish_scan(heir, NOW, after(hours=6))
        assert tx.take_scans(after(hours=5), 300, 1) == []


# Saves and wishes


@BOTH
def test_one_message_is_one_save_per_tenant_however_many_ask_at_once(store: Store, people: list[Principal]) -> None:
    def put(_: int) -> str:
        with store.transaction() as tx:
            return tx.put_save(people[0].tenant.id, "another", "fingerprint", NOW).id

    with ThreadPoolExecutor(12) as pool:
        assert len(set(pool.map(put, range(12)))) == 1


@BOTH
def test_another_tenant_has_another_save_and_another_index(store: Store, save: Save) -> None:
    with store.transaction() as tx:
        other = tx.add_tenant("other", b"key", C4CSettings("https://c4c.example.com/"), ["tid-2"], NOW)
        assert tx.save_by_key(other, KEY) is None
        assert tx.put_save(other, KEY, "fingerprint", NOW).id != save.id
        tx.learn_spellings(save.tenant_id, [(b"h" * 16, "contact", "A" * 32)])
        assert tx.spellings(other, [b"h" * 16]) == {}
        assert tx.spellings(save.tenant_id, [b"h" * 16]) == {"contact": ("A" * 32,)}


@BOTH
def test_the_same_wish_again_is_one_wish_and_another_is_another(store: Store, save: Save, connections: list[Connection]) -> None:
    first = wish(store, save, connections[0])
    same = wish(store, save, connections[0])
    other = wish(store, save, connections[0], "other")
    assert first.id == same.id == other.id
    assert (same.wish, other.wish) == (first.wish, first.wish + 1)
    assert (other.payload, other.state, other.mark) == (b"other", "pending", "pending")
    assert wish(store, save, connections[1]).id != first.id


@BOTH
def test_what_is_recorded_of_an_older_wish_does_not_touch_the_newer(
    store: Store, save: Save, connections: list[Connection]
) -> None:
    older = wish(store, save, connections[0])
    fence = lease(store, save)
    assert fence is not None
    newer = wish(store, save, connections[0], "newer", after(seconds=1))
    with store.transaction() as tx:
        assert not tx.change_request(older, fence, NOW, state="failed", payload=None, next_due_at=None)
        assert tx.due_request(newer.id) == newer
        assert tx.change_request(newer, fence, NOW, state="saved", links=(RecordRef("contact", "A" * 32),))
        assert tx.due_request(newer.id).links == (RecordRef("contact", "A" * 32),)


@BOTH
def test_the_first_who_saved_stays_the_one_who_saved(store: Store, save: Save, people: list[Principal]) -> None:
    fence = lease(store, save)
    assert fence is not None
    with store.transaction() as tx:
        tx.activity_known(save.id, fence, "A" * 32, "1", people[0].user.id, NOW)
        tx.activity_known(save.id, fence, "A" * 32, "1", people[1].user.id, after(hours=1))
        known = tx.save(save.id)
        assert (known.saved_by, known.saved_at) == (people[0].user.id, NOW)
        tx.activity_gone(save.id, fence)
        assert tx.save(save.id).activity_id is None


@BOTH
def test_what_is_due_comes_longest_waiting_first_and_not_while_somebody_works_on_it(
    store: Store, save: Save, connections: list[Connection], people: list[Principal]
) -> None:
    with store.transaction() as tx:
        saves = [tx.put_save(people[0].tenant.id, f"m{n}", "f", NOW) for n in range(3)]
    requests = [wish(store, one, connections[0], now=after(minutes=-n)) for n, one in enumerate(saves)]

    def due(now: datetime, limit: int = 10) -> list[str]:
        with store.transaction(reading=True) as tx:
            return [request.id for request in tx.due_requests(now, limit)]

    assert due(after(minutes=-5)) == []
    assert due(NOW) == [request.id for request in reversed(requests)]
    assert due(NOW, 1) == [requests[2].id]
    lease(store, saves[2])
    assert due(NOW) == [requests[1].id, requests[0].id]
    assert due(after(minutes=1)) == [request.id for request in reversed(requests)]


@BOTH
def test_a_request_exists_for_its_own_user_only(
    store: Store, save: Save, connections: list[Connection], people: list[Principal]
) -> None:
    mine = wish(store, save, connections[0])
    with store.transaction(reading=True) as tx:
        assert tx.request(people[0], mine.id) == mine
        with pytest.raises(NotFound):
            tx.request(people[1], mine.id)
        assert tx.request_for_item(people[1].user.id, "item") is None
        assert tx.request_on(save.id, people[1].user.id) is None


@BOTH
def test_wishes_are_forgotten_when_their_time_is_over(store: Store, save: Save, connections: list[Connection]) -> None:
    old = wish(store, save, connections[0], now=after(days=-7, seconds=-1))
    young = wish(store, save, connections[1], now=after(days=-7))
    with store.transaction() as tx:
        assert tx.forget_payloads(after(days=-7), NOW) == 1
        forgotten, kept = tx.due_request(old.id), tx.due_request(young.id)
        assert tx.forget_payloads(after(days=-7), NOW) == 0
    assert (forgotten.payload, forgotten.state, forgotten.mark, forgotten.code) == (None, "failed", "error", "expired")
    assert (kept.payload, kept.state) == (b"wish", "pending")


# People


@BOTH
def test_nothing_that_must_be_unique_can_be_there_twice(store: Store, people: list[Principal]) -> None:
    me, colleague = people[:2]
    tenant, organization = me.tenant.id, me.organization.id
    rest: dict[str, Any] = {"name": "N", "now": NOW}
    doubles: list[Callable[[Any], object]] = [
        lambda tx: tx.add_tenant(me.tenant.name, b"", C4CSettings("u"), [], NOW),
        lambda tx: tx.add_tenant("new", b"", C4CSettings("u"), [identity_tenant(store)], NOW),
        lambda tx: tx.add_user(tenant, organization, email=me.user.email.upper(), c4c_user_id="NEW", **rest),
        lambda tx: tx.add_user(tenant, organization, email="new@example.com", c4c_user_id=me.user.c4c_user_id, **rest),
        lambda tx: tx.bind_identity(tenant, colleague.user.id, *identity_of(store, me)),
    ]
    for double in doubles:
        with pytest.raises(Conflict), store.transaction() as tx:
            double(tx)
    with pytest.raises(NotFound), store.transaction() as tx:
        tx.bind_identity(tenant, me.user.id, "a tenant that is not admitted", "subject")


def identity_tenant(store: Store) -> str:
    with store.transaction(reading=True) as tx:
        return str(tx._db.execute(sa.select(schema.identity_tenant.c.issuer_tenant)).scalar_one())


def identity_of(store: Store, principal: Principal) -> tuple[str, str]:
    columns = (schema.identity.c.issuer_tenant, schema.identity.c.subject)
    with store.transaction(reading=True) as tx:
        row = tx._db.execute(sa.select(*columns).where(schema.identity.c.user_id == principal.user.id)).one()
    return str(row[0]), str(row[1])


@BOTH
def test_a_person_is_found_by_identity_while_enabled(store: Store, people: list[Principal]) -> None:
    me = people[0]
    issuer_tenant, subject = identity_of(store, me)
    with store.transaction() as tx:
        assert tx.principal(issuer_tenant, subject) == me
        assert tx.principal("other", subject) is None
        tx.set_user_enabled(me.user.id, False)
        assert tx.principal(issuer_tenant, subject) is None
        assert tx.principal_of(me.user.id) is None


@BOTH
def test_an_organization_is_made_once_and_changed_after(store: Store, people: list[Principal]) -> None:
    tenant, organization = people[0].tenant, people[0].organization
    with store.transaction() as tx:
        same = tx.put_organization(tenant.id, organization.name, "google", "else@example.com", organization.profile)
        assert same == organization.id
        (changed,) = tx.organizations(tenant.id)
    assert (changed.access_type, changed.admin_contact) == ("google", "else@example.com")


@BOTH
def test_a_connection_is_made_once_and_reports_since_when(
    store: Store, connections: list[Connection], people: list[Principal]
) -> None:
    with store.transaction() as tx:
        assert tx.put_connection(people[0].user, "graph", "x@example.com", "tid", after(days=1)) == connections[0]
        tx.set_connection_state(connections[0].id, "needs_reauth", "consent withdrawn", after(hours=1))
        tx.set_connection_state(connections[0].id, "needs_reauth", "again", after(hours=2))
        now = tx.connection(connections[0].id)
    assert (now.state, now.reason, now.since) == ("needs_reauth", "consent withdrawn", after(hours=1))


@BOTH
def test_generations_only_grow(store: Store, people: list[Principal]) -> None:
    def bump(_: int) -> int:
        with store.transaction() as tx:
            return tx.bump_generation(people[0].user.id)

    with ThreadPoolExecutor(8) as pool:
        assert sorted(pool.map(bump, range(8))) == [people[0].user.generation + n for n in range(1, 9)]


# Transactions


@BOTH
def test_a_transaction_that_fails_leaves_nothing_and_tells_nobody(store: Store, people: list[Principal]) -> None:
    told: list[str] = []

    def fail() -> None:
        with store.transaction() as tx:
            tx.after_commit(lambda: told.append("failed"))
            tx.put_save(people[0].tenant.id, "rolled back", "f", NOW)
            tx.add_tenant(people[0].tenant.name, b"", C4CSettings("u"), [], NOW)

    with pytest.raises(Conflict):
        fail()
    with store.transaction() as tx:
        tx.after_commit(lambda: told.append("committed"))
        assert tx.save_by_key(people[0].tenant.id, "rolled back") is None
        assert told == []
    assert told == ["committed"]


@BOTH
def test_a_refused_row_does_not_spoil_its_transaction(store: Store, people: list[Principal]) -> None:
    with store.transaction() as tx:
        with pytest.raises(Conflict):
            tx.add_tenant(people[0].tenant.name, b"", C4CSettings("u"), [], NOW)
        tx.put_save(people[0].tenant.id, "kept", "f", NOW)
    with store.transaction(reading=True) as tx:
        assert tx.save_by_key(people[0].tenant.id, "kept") is not None


def test_reading_goes_on_beside_a_writer(store: Store, people: list[Principal]) -> None:
    with store.transaction() as writer:
        writer.put_save(people[0].tenant.id, "unseen", "f", NOW)
        with store.transaction(reading=True) as reader:
            assert reader.save_by_key(people[0].tenant.id, "unseen") is None


@BOTH
def test_writers_wait_for_each_other(store: Store, people: list[Principal]) -> None:
    begun, done = threading.Event(), threading.Event()

    def second() -> None:
        begun.set()
        with store.transaction() as tx:
            tx.bump_generation(people[0].user.id)
        done.set()

    thread = threading.Thread(target=second)
    with store.transaction() as tx:
        first = tx.bump_generation(people[0].user.id)
        thread.start()
        begun.wait(5)
        assert not done.is_set()
    thread.join(10)
    with store.transaction(reading=True) as tx:
        found = tx.principal_of(people[0].user.id)
    assert found is not None
    assert found.user.generation == first + 1


@BOTH
def test_times_come_back_in_utc(store: Store, people: list[Principal]) -> None:
    berlin = NOW.astimezone(timezone(timedelta(hours=1)))
    with store.transaction() as tx:
        connection = tx.put_connection(people[0].user, "graph", "m", "t", berlin)
    assert connection.since == NOW
    assert connection.since.tzinfo == UTC


def test_a_database_that_is_not_there_is_a_passing_trouble() -> None:
    store = Store("postgresql+psycopg://nobody@127.0.0.1:9/nothing")
    with pytest.raises(Transient), store.transaction():
        pass
    assert not store.is_ready()
    store.close()


@BOTH
def test_the_audit_trail_holds_ids(store: Store, people: list[Principal]) -> None:
    with store.transaction() as tx:
        tx.record("test", NOW, tenant_id=people[0].tenant.id, user_id=people[0].user.id, request="abc")
        row = tx._db.execute(sa.select(schema.audit).where(schema.audit.c.action == "test")).one()
    assert (row.at, json.loads(row.detail)) == (NOW, {"request": "abc"})


# The schema


@pytest.fixture(params=["sqlite", "postgres"])
def empty(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'empty.sqlite'}"
    return new_database(request.getfixturevalue("postgres_server"), "empty_" + os.urandom(4).hex())


def test_the_migrations_make_what_the_code_describes_and_take_it_back(empty: str) -> None:
    store = Store(empty)
    assert not store.is_ready()
    store.migrate()
    store.migrate()
    assert store.is_ready()
    store.close()
    engine = sa.create_engine(empty, poolclass=sa.NullPool)
    with engine.begin() as connection:
        context = MigrationContext.configure(connection, opts={"compare_type": True, "compare_server_default": True})
        assert compare_metadata(context, schema.metadata) == []
        config = Config()
        config.set_main_option("script_location", str(Path(schema.__file__).with_name("migrations")))
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert set(sa.inspect(connection).get_table_names()) <= {"alembic_version"}


def test_processes_that_migrate_at_once_do_not_get_in_each_others_way(empty: str) -> None:
    migrate = "import sys; from server.store import Store; Store(sys.argv[1]).migrate()"
    processes = [subprocess.Popen([sys.executable, "-c", migrate, empty], stderr=subprocess.PIPE) for _ in range(2)]
    results = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert [code for _, code in results] == [0, 0], results
    store = Store(empty)
    assert store.is_ready()
    store.close()
