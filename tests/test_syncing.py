"""GET and POST /api/sync: what the pane is told of the engine, and Force Sync."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest

from server.domain.records import RecordRef
from server.domain.sentences import because
from server.errors import InvalidInput
from server.services import Deps, issues, threads
from server.services.syncing import time_left
from server.store import Connection
from tests.api import Api

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
FIELDS = {
    *("state", "is_first", "phase", "done", "total", "left_s", "last", "next_at"),
    *("suspended", "failures", "reason", "issues", "first_issues"),
}


@pytest.fixture
def connection(me: Api, deps: Deps) -> Connection:
    """The first person's mailbox, which their first save connected and for which a session is arranged."""
    me.post("/saves", {"item": me.item("known_contact"), "links": []})
    with deps.store.transaction() as tx:
        (tenant,) = tx.tenants()
        user = tx.user_by_email(tenant.id, me.person.email)
        assert user is not None
        (found,) = tx.connections_of(user.id)
        tx.queue_session(found, deps.now())
    return found


def test_without_a_mailbox_nothing_runs_and_force_sync_says_why(me: Api) -> None:
    told = me.get("/sync").json
    assert told.keys() == FIELDS
    assert (told["state"], told["last"], told["next_at"], told["issues"]) == ("off", None, None, 0)
    refused = me.post("/sync", {})
    assert (refused.status_code, refused.json["code"]) == (409, "mailbox_not_connected")
    assert "Connect it in User Settings." in refused.json["detail"]


def test_force_sync_begins_a_session_at_once(me: Api, connection: Connection, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        (taken,) = tx.take_sessions(deps.now(), 60, 1)
        tx.keep_session(taken, deps.now(), 60, state="done", finished_at=deps.now(), counts={"emails_saved": 2})
    assert me.get("/sync").json["state"] == "running"
    with deps.store.transaction() as tx:
        tx.end_session(taken, next_due_at=deps.now() + timedelta(minutes=30), now=deps.now())
    told = me.get("/sync").json
    assert (told["state"], told["last"]["counts"]) == ("done", {"emails_saved": 2})
    assert told["next_at"].endswith("Z")
    forced = me.post("/sync", {})
    assert (forced.status_code, forced.json["state"]) == (202, "queued")


def test_what_its_owner_suspended_is_not_forced(me: Api, connection: Connection, deps: Deps) -> None:
    with deps.store.transaction() as tx:
        tx.suspend_session(connection.id, deps.now())
    told = me.get("/sync").json
    assert (told["state"], told["suspended"], told["next_at"]) == ("suspended", True, None)
    refused = me.post("/sync")
    assert (refused.status_code, refused.json["code"]) == (409, "sync_suspended")


def test_issues_are_counted_and_the_first_are_told_to_their_owner_alone(
    me: Api, colleague: Api, connection: Connection, deps: Deps, forward: Callable[..., None]
) -> None:
    findings = [issues.Finding("contact", issues.key_of("contact", str(n)), "rejected", name=f"Person {n}") for n in range(60)]
    findings.append(issues.Finding("mailbox", "mailbox:guard", "guard", choices=issues.GUARD))
    issues.report(deps, connection, findings)
    forward(seconds=1)
    last = RecordRef("contact", "A" * 32)
    issues.report(
        deps, connection, [issues.Finding("contact", "contact:x", "no_surname", name="L", record=last, number="1000234")]
    )
    told = me.get("/sync").json
    assert (told["issues"], len(told["first_issues"])) == (62, 50)
    question = next(one for one in told["first_issues"] if one["is_question"])
    assert (question["kind"], question["name"]) == ("mailbox", "")
    assert any("1000234" in one["url"] for one in told["first_issues"])
    assert colleague.get("/sync").json["issues"] == 0


def test_the_engine_speaks_the_language_of_who_asks_else_the_persons(me: Api, connection: Connection, deps: Deps) -> None:
    cause = because("too_long", field="business_address.city", limit=40)
    issues.report(deps, connection, [issues.Finding("contact", "contact:x", "rejected", cause)])
    with deps.store.transaction() as tx:
        tx.set_language(connection.user_id, "de")
        (taken,) = tx.take_sessions(deps.now(), 60, 1)
        tx.end_session(taken, next_due_at=None, now=deps.now(), state="failed", reason="mailbox_full")

    def told(wanted: str = "") -> tuple[str, str, str]:
        answer = me.send("GET", "/sync", headers={"Accept-Language": wanted} if wanted else {}).json
        (issue,) = answer["first_issues"]
        return answer["reason"], issue["cause"], issue["remedy"].split()[0]

    english = ("The mailbox is full.", "“City” is longer than the 40 characters that SAP Cloud for Customer takes.", "Mend")
    german = ("Das Postfach ist voll.", "„Ort“ ist länger als die 40 Zeichen, die SAP Cloud for Customer annimmt.", "Bringen")
    assert told("en-GB, en;q=0.1") == told("fr, en;q=0.1") == english
    assert told("de-AT, en;q=0.1") == told("fr") == told() == german


@pytest.mark.parametrize(
    ("took_s", "done", "total", "left_s"),
    [
        (120, 1200, 4500, 330),  # 10 a second
        (60, 4500, 4500, None),
        (3, 1, 2, None),  # too early to tell
        (60, 0, 4500, None),
        (60, 0, 0, None),
        (60, 5, 4, None),  # of a phase that is not this one's
    ],
)
def test_how_long_it_takes_is_told_once_it_can_be(took_s: int, done: int, total: int, left_s: float | None) -> None:
    assert time_left(NOON - timedelta(seconds=took_s), NOON, done, total) == left_s
    assert time_left(None, NOON, done, total) is None


def test_a_conversation_whose_id_is_longer_than_a_row_holds_is_not_followed(connection: Connection, deps: Deps) -> None:
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(connection.user_id)
    assert principal is not None
    with pytest.raises(InvalidInput):
        threads.following(deps, principal, connection, "x" * 401, "Offer", [])
    follow = threads.following(deps, principal, connection, "x" * 400, "Offer", [])
    with deps.store.transaction() as tx:
        follow(tx)
    assert [thread.name for thread in threads.followed(deps, principal)] == ["Offer"]
