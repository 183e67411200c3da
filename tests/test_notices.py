"""A person whose mailbox can no longer be opened gets one mail that says why and where to mend it, and none without need."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta

import pytest
import sqlalchemy as sa

from server.errors import Rejected
from server.mail.smtp import Smtp
from server.services import Deps, Principal, notices, syncing
from server.services.notices import compose
from server.store import Notice
from server.transport import ssl_context
from server.worker import Dispatcher
from server.worker.kinds import NOTICE
from simulator.ports import Simulator
from simulator.smtp import ACCOUNT
from simulator.world import Fault, World

URL = "https://sidebar.example.com"
CAUSE = "The sign-in to the mailbox was withdrawn."


@dataclass
class Mailroom:
    """The product with a mail server, and the mailboxes of the World's people."""

    deps: Deps
    world: World

    def principal(self, number: int = 0) -> Principal:
        email = self.world.people[number].email
        with self.deps.store.transaction(reading=True) as tx:
            users = {user.email: user for tenant in tx.tenants() for user in tx.users(tenant.id)}
            principal = tx.principal_of(users[email].id)
        assert principal
        return principal

    def break_mailbox(self, number: int = 0, cause: str = CAUSE) -> str:
        """Have a person's mailbox refuse us for that cause; return the connection's id."""
        principal, now = self.principal(number), self.deps.now()
        with self.deps.store.transaction() as tx:
            connections = tx.connections_of(principal.user.id)
            connection = connections[0] if connections else tx.put_connection(principal.user, "graph", "m@x.example", "t", now)
            fence = tx.lease_connection(connection.id, now, 60)
            assert fence
            if connection.provider == "graph":
                assert tx.save_credentials(connection.id, fence, b"a key that worked", now)
            tx.give_up(connection.id, fence, cause, now)
            tx.release_connection(connection.id, fence)
        return connection.id

    def work(self) -> int:
        """Send what is due; return how many notices were worked on."""
        return work(self.deps)

    def outcomes(self) -> list[tuple[str, bool, bool]]:
        """Why each notice was not sent, whether it was, and whether it is still due."""
        with self.deps.store._engine.connect() as connection:
            query = sa.text("SELECT outcome, sent_at IS NOT NULL, next_due_at IS NOT NULL FROM notice ORDER BY since")
            return [(row[0], bool(row[1]), bool(row[2])) for row in connection.execute(query)]


def work(deps: Deps) -> int:
    """Do with the mails that are due as a worker does; return how many that were."""
    dispatcher = Dispatcher(deps, threads=0, poll_s=1)
    jobs = dispatcher.taken(NOTICE, 10)
    for job in jobs:
        dispatcher.perform(job)
    return len(jobs)


@pytest.fixture
def room(deps: Deps, world: World, simulator: Simulator) -> Mailroom:
    at = ACCOUNT.user.replace("@", "%40")
    url = f"smtp://{at}@localhost:{simulator.smtp.port}"
    smtp = Smtp(url, ACCOUNT.password, ACCOUNT.user, ssl_context(simulator.ca_file), 5, now=world.now)
    return Mailroom(replace(deps, send_mail=smtp.send, public_url=URL), world)


impersonated = pytest.mark.parametrize("access_type", ["exchange_impersonation"], indirect=True)


def test_a_broken_mailbox_is_told_once_with_cause_link_and_whom_to_ask(room: Mailroom) -> None:
    room.break_mailbox()
    assert room.work() == 1
    assert room.work() == 0
    (mail,) = room.world.mails
    assert mail.recipients == (room.world.people[0].email,)
    for part in (CAUSE, f"{URL}/settings/sync/email\n", room.principal().organization.admin_contact):
        assert part in mail.text
    assert mail.text.count("https://") == 1
    assert room.outcomes() == [("", True, False)]


def test_each_person_gets_their_own(room: Mailroom) -> None:
    room.break_mailbox(0)
    room.break_mailbox(1)
    assert room.work() == 2
    assert {mail.recipients for mail in room.world.mails} == {(person.email,) for person in room.world.people[:2]}


def test_the_next_break_is_told_again(room: Mailroom, forward: Callable[..., None]) -> None:
    connection = room.break_mailbox()
    room.work()
    forward(days=1)
    with room.deps.store.transaction() as tx:
        tx.renew_connection(connection, "t", room.deps.now())
    room.break_mailbox()
    room.work()
    assert len({mail.headers["message-id"] for mail in room.world.mails}) == 2


# -- What needs no mail ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["renewed", "disconnected", "suspended", "person disabled", "person removed"])
def test_what_was_settled_meanwhile_needs_no_mail(room: Mailroom, how: str) -> None:
    connection, user = room.break_mailbox(), room.principal().user.id
    with room.deps.store.transaction() as tx:
        match how:
            case "renewed":
                tx.renew_connection(connection, "t", room.deps.now())
            case "disconnected":
                tx.disconnect(connection, "You disconnected it.", room.deps.now())
            case "suspended":
                tx.set_connection_state(connection, "suspended", "By the administrator.", room.deps.now())
            case "person disabled":
                tx.set_user_enabled(user, False)
            case "person removed":
                tx.remove_user(user)
    room.work()
    assert room.world.mails == []
    assert not any(is_due for _, _, is_due in room.outcomes())


def test_what_is_mended_while_the_notice_waits_for_another_try_needs_no_mail(
    room: Mailroom, forward: Callable[..., None]
) -> None:
    connection = room.break_mailbox()
    room.world.faults.append(Fault("smtp", "status", match="RCPT", status=451))
    room.work()
    with room.deps.store.transaction() as tx:
        tx.renew_connection(connection, "t", room.deps.now())
    forward(hours=2)
    room.work()
    assert room.world.mails == []


def test_a_mailbox_that_is_connected_again_while_its_mail_is_sent_disturbs_nobody(room: Mailroom) -> None:
    connection = room.break_mailbox()
    send = room.deps.send_mail
    assert send

    def slowly(letter: object) -> None:
        send(letter)  # type: ignore[arg-type]  # it is a Letter
        with room.deps.store.transaction() as tx:
            tx.renew_connection(connection, "t", room.deps.now())

    assert work(replace(room.deps, send_mail=slowly)) == 1
    assert room.outcomes() == []


def test_without_a_mail_server_notices_are_dropped(room: Mailroom) -> None:
    room.break_mailbox()
    without = replace(room.deps, send_mail=None)
    assert work(without) == 1
    assert work(without) == 0
    assert room.outcomes() == [("No mail server is set up.", False, False)]


# -- Trying again ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["drop", "acted_drop"])
def test_a_mail_whose_outcome_is_not_known_is_sent_again_as_the_same(
    room: Mailroom, forward: Callable[..., None], kind: str
) -> None:
    room.break_mailbox()
    room.world.faults.append(Fault("smtp", kind, match="MESSAGE"))
    room.work()
    forward(minutes=5)
    room.work()
    assert len(room.world.mails) == {"drop": 1, "acted_drop": 2}[kind]
    assert len({mail.headers["message-id"] for mail in room.world.mails}) == 1
    assert room.outcomes() == [("", True, False)]


def test_a_mail_is_sent_again_after_its_worker_died(room: Mailroom, forward: Callable[..., None]) -> None:
    room.break_mailbox()
    with room.deps.store.transaction() as tx:
        assert tx.take_notices(room.deps.now(), notices.LEASE_S, 1)
    assert room.work() == 0
    forward(seconds=notices.LEASE_S + 1)
    assert room.work() == 1
    assert len(room.world.mails) == 1


def test_a_busy_mail_server_is_asked_ever_more_rarely_and_after_a_day_no_more(
    room: Mailroom, forward: Callable[..., None]
) -> None:
    room.break_mailbox()
    room.world.faults.append(Fault("smtp", "status", match="RCPT", status=451, times=None))
    tries: list[timedelta] = []
    for minute in range(36 * 60):
        if room.work():
            tries.append(timedelta(minutes=minute))
        forward(minutes=1)
    assert timedelta(hours=24) <= tries[-1] < timedelta(hours=26)
    assert tries[2] - tries[1] < tries[5] - tries[4]
    assert 20 < len(tries) < 50
    ((outcome, was_sent, is_due),) = room.outcomes()
    assert ("451" in outcome, was_sent, is_due) == (True, False, False)


def test_an_address_that_is_refused_for_good_is_not_tried_again(room: Mailroom, forward: Callable[..., None]) -> None:
    room.break_mailbox()
    room.world.faults.append(Fault("smtp", "status", match="RCPT", status=550))
    room.work()
    forward(hours=2)
    assert room.work() == 0
    ((outcome, was_sent, _),) = room.outcomes()
    assert ("550" in outcome, was_sent) == (True, False)


# -- Under Impersonation ---------------------------------------------------------------------------------------------------


@impersonated
def test_the_administrator_is_told_once_for_all_people_with_the_same_cause(room: Mailroom, forward: Callable[..., None]) -> None:
    first, second = room.principal(0), room.principal(1)
    with room.deps.store.transaction() as tx:
        same = first.organization.id
        table = sa.text('UPDATE "user" SET organization_id = :o WHERE id = :u')
        tx._db.execute(table, {"o": same, "u": second.user.id})
    room.break_mailbox(0)
    room.work()
    forward(hours=1)
    room.break_mailbox(1)
    room.work()
    (mail,) = room.world.mails
    assert mail.recipients == (first.organization.admin_contact,)
    assert first.organization.name in mail.text
    assert first.user.email not in mail.text
    assert [outcome for outcome, *_ in room.outcomes()] == ["", "The administrator was told."]


@impersonated
def test_another_cause_is_told_too(room: Mailroom, forward: Callable[..., None]) -> None:
    connection = room.break_mailbox(0)
    room.work()
    forward(hours=1)
    with room.deps.store.transaction() as tx:
        tx.renew_connection(connection, "t", room.deps.now())
    room.break_mailbox(0, "The service account is locked.")
    room.work()
    assert len(room.world.mails) == 2


# -- The texts -------------------------------------------------------------------------------------------------------------


def _notice(room: Mailroom, reason: str = CAUSE) -> Notice:
    principal = room.principal()
    return Notice("a1", principal.tenant.id, principal.user.id, "c1", "mailbox_broken", reason, room.deps.now(), 0, 1)


def test_the_text_is_in_the_language_asked_for_and_else_in_english(room: Mailroom) -> None:
    def subject(language: str) -> str:
        (letter,) = compose(_notice(room), room.principal(), "m@x.example", URL, language=language)
        return letter.subject

    assert "Postfach" in subject("de")
    assert subject("en") == subject("fr") == subject("")


@pytest.mark.parametrize("access_type", ["office365", "exchange_impersonation"], indirect=True)
def test_all_languages_have_the_same_texts_with_the_same_places(room: Mailroom) -> None:
    letters = [*compose(_notice(room), room.principal(), "m@x.example", URL, language="en")]
    letters += compose(_notice(room), room.principal(), "m@x.example", URL, language="de")
    assert len({letter.text.count("\n\n") for letter in letters}) == 1
    for letter in letters:
        assert CAUSE in letter.text
        assert f"{URL}/settings/sync/email" in letter.text
        assert "{" not in letter.text
        assert letter.message_id == "notice-a1@sidebar.example.com"


def test_values_are_neither_places_nor_lines_of_their_own(room: Mailroom) -> None:
    principal = room.principal()
    hostile = replace(principal, user=replace(principal.user, name="{link}\r\n\r\nhttps://evil.example"))
    (letter,) = compose(_notice(room, "{0.__class__}\nnext"), hostile, "m@x.example", URL)
    text = letter.text
    assert "Hello {link} https://evil.example,\n" in text
    assert "{0.__class__} next\n" in text


# -- Sessions that keep failing --------------------------------------------------------------------------------------------


def _failing(room: Mailroom, failures: int = notices.FAILING) -> None:
    """Let so many sessions of the first person's mailbox have failed in a row, and owe the mail about it."""
    principal, now = room.principal(), room.deps.now()
    with room.deps.store.transaction() as tx:
        connection = tx.put_connection(principal.user, "graph", "m@x.example", "t", now)
        tx.queue_session(connection, now)
        (held,) = tx.take_sessions(now, 45, 1)
    why = syncing.reason_kept(room.deps, held, Rejected(CAUSE))
    with room.deps.store.transaction() as tx:
        tx.end_session(held, next_due_at=None, now=now, failures=failures, **why)
        notices.session_failed(tx, held, notices.FAILING, why["reason"], now)


def _tell_admins(room: Mailroom) -> None:
    principal = room.principal()
    organization, profile = principal.organization, replace(principal.organization.profile, admins_told=True)
    with room.deps.store.transaction() as tx:
        contact = organization.admin_contact
        tx.put_organization(principal.tenant.id, organization.name, organization.access_type, contact, profile)


def test_sessions_that_keep_failing_are_told_to_their_person_in_their_language(room: Mailroom) -> None:
    with room.deps.store.transaction() as tx:
        tx.set_language(room.principal().user.id, "de")
    _failing(room)
    room.work()
    (mail,) = room.world.mails
    assert mail.recipients == (room.world.people[0].email,)
    assert "mehrmals hintereinander" in mail.text
    assert f"Es wurde abgelehnt. Einzelheiten: „{CAUSE}“" in mail.text
    assert f"{URL}/settings/\n" in mail.text


@pytest.mark.parametrize("kind", ["sync_failing", "mailbox_broken"])
def test_administrators_are_told_too_where_they_want_it(room: Mailroom, kind: str) -> None:
    _tell_admins(room)
    if kind == "sync_failing":
        _failing(room)
    else:
        room.break_mailbox()
    room.work()
    principal = room.principal()
    assert {mail.recipients for mail in room.world.mails} == {(principal.user.email,), (principal.organization.admin_contact,)}
    assert len({mail.headers["message-id"] for mail in room.world.mails}) == 2


def test_sessions_that_go_well_again_need_no_mail(room: Mailroom) -> None:
    _failing(room, failures=0)
    room.work()
    assert room.world.mails == []
    assert room.outcomes() == [("Sessions go well again.", False, False)]


def test_a_mailbox_is_written_about_once_however_long_its_sessions_fail(room: Mailroom) -> None:
    principal, now = room.principal(), room.deps.now()
    with room.deps.store.transaction() as tx:
        connection = tx.put_connection(principal.user, "graph", "m@x.example", "t", now)
        tx.queue_session(connection, now)
        (held,) = tx.take_sessions(now, 45, 1)
        for failures in range(1, 30):
            notices.session_failed(tx, held, failures, "rejected", now)
        tx.end_session(held, next_due_at=None, now=now, failures=30)
    room.work()
    assert len(room.world.mails) == 1
