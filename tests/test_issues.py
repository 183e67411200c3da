"""What issues promise: one row per item, content that is sealed and goes with it, answers and retries that reach the engine."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import sqlalchemy as sa

from server.domain.records import RecordRef
from server.domain.sentences import because
from server.errors import InvalidInput, NotFound
from server.services import Deps, Principal, issues
from server.services.issues import Finding
from server.store import Connection, MailboxSync

FINDING = Finding(
    kind="contact",
    key=issues.key_of("contact", "AAA"),
    code="rejected",
    cause=because("unknown_value", field="home_address.country", value="Ruritanien"),
    name="Cem Yıldız",
    values={"surname": "Yıldız"},
    item_ref="AAA",
    record=RecordRef("contact", "00163E0000000000000000000000000A"),
    number="1001",
)


@pytest.fixture
def principals(deps: Deps) -> list[Principal]:
    with deps.store.transaction(reading=True) as tx:
        (tenant,) = tx.tenants()
        found = [tx.principal_of(user.id) for user in tx.users(tenant.id)]
    return [one for one in found if one is not None]


@pytest.fixture
def principal(principals: list[Principal]) -> Principal:
    return principals[0]


@pytest.fixture
def connection(deps: Deps, principal: Principal) -> Connection:
    """A mailbox whose last session is over."""
    with deps.store.transaction() as tx:
        made = tx.put_connection(principal.user, "graph", principal.user.email, "t", deps.now())
        tx.set_connection_state(made.id, "active", "", deps.now())
        tx.queue_session(made, deps.now())
        (sync,) = tx.take_sessions(deps.now(), 60, 10)
        tx.end_session(sync, next_due_at=None, now=deps.now(), state="done", finished_at=deps.now())
        return tx.connection(made.id)


@pytest.fixture
def session(deps: Deps, connection: Connection) -> Callable[[], MailboxSync]:
    def read() -> MailboxSync:
        with deps.store.transaction(reading=True) as tx:
            sync = tx.session_of(connection.id)
        assert sync is not None
        return sync

    return read


def is_due(deps: Deps, sync: MailboxSync) -> bool:
    return sync.next_due_at is not None and sync.next_due_at <= deps.now()


def the_issue(deps: Deps, principal: Principal) -> issues.Told:
    (found,) = issues.told(deps, principal)
    return found


def test_an_issue_says_what_is_wrong_how_to_mend_it_and_which_item_it_is(
    deps: Deps, principal: Principal, connection: Connection
) -> None:
    issues.report(deps, connection, [FINDING])
    told = the_issue(deps, principal)
    assert (told.kind, told.code) == ("contact", "rejected")
    assert told.cause == "SAP Cloud for Customer does not know “Ruritanien” as “Country (home)”."
    assert told.remedy == "Mend it in your mailbox or in SAP Cloud for Customer, then try again."
    assert (told.name, dict(told.values), told.record, told.item_ref) == (FINDING.name, FINDING.values, FINDING.record, "AAA")
    assert (told.can_retry, told.choices) == (True, ())
    assert "1001" in told.url
    assert told.since is not None
    assert told.since == told.seen_at


def test_what_is_found_again_stays_one_issue_that_tells_what_is_known_now(
    deps: Deps, principal: Principal, connection: Connection, forward: Callable[..., None]
) -> None:
    issues.report(deps, connection, [FINDING])
    first = the_issue(deps, principal)
    forward(minutes=30)
    issues.report(deps, connection, [replace(FINDING, cause=because("no_surname"), name="C. Yıldız")])
    told = the_issue(deps, principal)
    assert (told.id, told.since) == (first.id, first.since)
    assert (told.cause, told.name) == ("It has no last name, and no other name can stand in.", "C. Yıldız")
    assert told.seen_at is not None
    assert told.since is not None
    assert told.seen_at > told.since


def test_what_is_mended_is_gone(deps: Deps, principal: Principal, connection: Connection) -> None:
    other = replace(FINDING, key=issues.key_of("contact", "BBB"), name="Ada")
    issues.report(deps, connection, [FINDING, other])
    issues.report(deps, connection, [], mended=[FINDING.key])
    assert the_issue(deps, principal).name == "Ada"


def test_nothing_of_the_item_is_stored_in_the_clear(deps: Deps, principal: Principal, connection: Connection) -> None:
    issues.report(deps, connection, [FINDING])
    with deps.store._engine.connect() as db:
        (row,) = db.execute(sa.text("SELECT * FROM issue")).mappings()
    stored = b" ".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    assert "Yıldız".encode() not in stored
    assert b"Ruritanien" not in stored
    assert b"Y\\u0131ld\\u0131z" not in stored
    assert row["sealed"] is not None


def test_two_items_with_long_refs_have_two_issues(deps: Deps, principal: Principal, connection: Connection) -> None:
    keys = [issues.key_of("email", "A" * 500 + end) for end in "12"]
    assert all(len(key) <= 400 for key in keys)
    issues.report(deps, connection, [replace(FINDING, key=key) for key in keys])
    assert len(issues.told(deps, principal)) == 2


def test_nobody_sees_or_answers_another_persons_issue(deps: Deps, principals: list[Principal], connection: Connection) -> None:
    issues.report(deps, connection, [replace(FINDING, choices=("upload", "keep"))])
    mine, other = principals[:2]
    assert issues.told(deps, other) == []
    with pytest.raises(NotFound):
        issues.answer(deps, other, the_issue(deps, mine).id, "upload")
    with pytest.raises(NotFound):
        issues.retry(deps, other, the_issue(deps, mine).id)
    assert len(issues.told(deps, mine)) == 1


@pytest.mark.parametrize(("choice", "uploads"), [("upload", "yes"), ("keep", "no")])
def test_the_answer_to_the_first_upload_reaches_the_next_session_which_begins_at_once(
    choice: str,
    uploads: str,
    deps: Deps,
    principal: Principal,
    connection: Connection,
    session: Callable[[], MailboxSync],
) -> None:
    issues.report(deps, connection, [replace(FINDING, kind="mailbox", code="first_upload", choices=issues.FIRST_UPLOAD)])
    issues.answer(deps, principal, the_issue(deps, principal).id, choice)
    assert (session().uploads, is_due(deps, session())) == (uploads, True)
    assert issues.told(deps, principal) == []


@pytest.mark.parametrize("choice", issues.GUARD)
def test_only_a_yes_lets_the_session_do_what_the_guard_held_back(
    choice: str, deps: Deps, principal: Principal, connection: Connection, session: Callable[[], MailboxSync]
) -> None:
    issues.report(deps, connection, [replace(FINDING, kind="mailbox", code="guard", choices=issues.GUARD)])
    issues.answer(deps, principal, the_issue(deps, principal).id, choice)
    is_yes = choice == "apply"
    assert (session().allowed_at is not None) == is_yes
    assert is_due(deps, session()) == is_yes
    assert issues.told(deps, principal) == []


def test_what_only_had_to_be_told_can_be_dismissed(deps: Deps, principal: Principal, connection: Connection) -> None:
    issues.report(deps, connection, [replace(FINDING, code="conflict", choices=(issues.DISMISS,))])
    issues.dismiss(deps, principal, the_issue(deps, principal).id)
    assert issues.told(deps, principal) == []


@pytest.mark.parametrize("choice", ["upload", "dismiss", ""])
def test_an_answer_that_the_issue_does_not_have_is_refused(
    choice: str, deps: Deps, principal: Principal, connection: Connection
) -> None:
    issues.report(deps, connection, [replace(FINDING, code="guard", choices=issues.GUARD)])
    with pytest.raises(InvalidInput):
        issues.answer(deps, principal, the_issue(deps, principal).id, choice)
    assert len(issues.told(deps, principal)) == 1


def test_a_retry_has_the_next_session_try_this_item_and_keeps_the_issue_until_then(
    deps: Deps, principal: Principal, connection: Connection, session: Callable[[], MailboxSync], forward: Callable[..., None]
) -> None:
    issues.report(deps, connection, [FINDING, replace(FINDING, key="contact:BBB")])
    forward(minutes=1)
    tried, other = issues.told(deps, principal)
    assert (tried.is_waiting, other.is_waiting) == (False, False)
    issues.retry(deps, principal, tried.id)
    assert {one.id for one in issues.told(deps, principal) if one.is_waiting} == {tried.id}
    assert is_due(deps, session())
    assert session().forced_at is not None


def test_a_forced_session_tries_everything_again(deps: Deps, principal: Principal, connection: Connection) -> None:
    issues.report(deps, connection, [FINDING, replace(FINDING, key="contact:BBB")])
    with deps.store.transaction() as tx:
        tx.wake_session(connection.id, deps.now(), forced=True)
    assert [one.is_waiting for one in issues.told(deps, principal)] == [True, True]


def test_a_question_is_answered_and_not_tried_again(deps: Deps, principal: Principal, connection: Connection) -> None:
    issues.report(deps, connection, [replace(FINDING, choices=issues.GUARD)])
    with pytest.raises(InvalidInput):
        issues.retry(deps, principal, the_issue(deps, principal).id)


def test_questions_come_first(deps: Deps, principal: Principal, connection: Connection, forward: Callable[..., None]) -> None:
    issues.report(deps, connection, [replace(FINDING, key="mailbox:guard", kind="mailbox", code="guard", choices=issues.GUARD)])
    forward(minutes=1)
    issues.report(deps, connection, [FINDING])
    assert [one.code for one in issues.told(deps, principal)] == ["guard", "rejected"]
