"""What only concerns changes at Google: history and sync tokens that end, messages by the batch, and notifications by Pub/Sub."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import timedelta
from typing import Any

import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId
from server.errors import CursorExpired, Forbidden, NotFound, RateLimited, Rejected, Transient
from server.mail import Gone, Hook
from server.mail.google import MAX_NOTICE, GoogleMailbox
from server.mail.google.calls import Budget, Calls, describe
from server.mail.google.changes import LISTED, READS, WAITING, Position, concerned
from server.transport import Gateway
from simulator.google import GoogleService
from simulator.google.book import MY_CONTACTS, memberships
from simulator.google.push import payload
from tests.mail.contract_changes import Reader, letter
from tests.mail.google.remote import GoogleRemote

TOPIC = "projects/ssi/topics/mail"
HOOK = Hook("https://sidebar.example.com/hooks/gmail", "unused")


@pytest.fixture
def folders(mailbox: GoogleMailbox) -> dict[FolderId, str]:
    return {folder: one.ref for folder, one in mailbox.ensure_folders(FOLDERS).items()}


@pytest.fixture
def reader(mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]) -> Reader:
    """A reader that has read everything."""
    reader = Reader(mailbox, folders)
    reader.round()
    return reader


# What it costs


def test_when_nothing_changed_that_costs_three_units_and_two_requests(
    remote: GoogleRemote, reader: Reader, spent: Callable[[], tuple[int, int]]
) -> None:
    spent()
    reader.round()
    assert spent() == (2, 3)
    reader.folders = {"emails": reader.folders["emails"]}
    reader.round()
    assert spent() == (1, 3)


def test_reading_mail_elsewhere_costs_nothing_more(
    remote: GoogleRemote, reader: Reader, spent: Callable[[], tuple[int, int]]
) -> None:
    spent()
    for message in remote.state.messages.values():
        message.is_read = not message.is_read
    assert reader.messages() == {}
    assert spent() == (2, 3)  # the history has something, but nothing to read


@pytest.mark.soak
def test_the_first_listing_of_4500_contacts_takes_a_request_for_a_thousand(
    mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str], spent: Callable[[], tuple[int, int]]
) -> None:
    for number in range(4_500):
        remote.put_contact(folders["contacts"], Contact(display_name=f"Person {number}"))
    for message in remote.state.messages.values():
        remote.categorize(message)
    spent()
    assert len(Reader(mailbox, folders).round().contacts) == 4_500
    assert spent()[0] == 5 + 2  # the contacts; of the messages since when, and which


@pytest.mark.soak
def test_fifty_thousand_contacts_are_told(mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]) -> None:
    refs = {remote.put_contact(folders["accounts"], Contact(display_name=f"Person {n}")) for n in range(50_000)}
    reader = Reader(mailbox, folders)
    assert {contact.ref for contact in reader.round().contacts} == refs
    assert len(reader.cursor or "") < 1024
    assert reader.round().contacts == ()


# Messages


def test_many_marked_messages_are_told_each_once(
    mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]
) -> None:
    for message in remote.state.messages.values():
        remote.categorize(message)
    received = [remote.receive(letter(n)) for n in range(2 * READS + 10)]
    for number, message in enumerate(received):
        remote.categorize(message, "Follow-up")
        if number % 2:
            remote.move(message, folders["emails"])
    told = Reader(mailbox, folders).round().messages
    assert sorted(m.ref for m in told) == sorted(m.immutable_id for m in received)
    assert {m.place for m in told} == {"inbox", "emails"}


def test_more_history_than_can_be_read_at_once_is_told_whole(remote: GoogleRemote, reader: Reader) -> None:
    received = [remote.receive(letter(n)) for n in range(2 * READS + 10)]
    first = reader.page()
    assert (len(first.messages), first.is_complete) == (READS, False)
    remote.categorize(received[3], "Follow-up")  # told already, and changed again before the round is over
    late = remote.receive(letter(999))
    told = [*first.messages, *reader.round().messages, *reader.round().messages]
    assert {m.ref for m in told} == {m.immutable_id for m in (*received, late)}
    assert [m.categories for m in told if m.ref == received[3].immutable_id] == [(), ("Follow-up",)]
    assert reader.messages() == {}


@pytest.mark.soak
def test_history_of_many_pages_is_told_each_message_once_whatever_the_quota_allows(
    remote: GoogleRemote, reader: Reader, forward: Callable[..., None]
) -> None:
    refs = {remote.receive(letter(n)).immutable_id for n in range(LISTED + READS)}
    told: list[str] = []
    is_complete = False
    while not is_complete:
        try:
            page = reader.page()
        except RateLimited:  # by Google's own count
            forward(minutes=1)
            continue
        told += [message.ref for message in page.messages]
        is_complete = page.is_complete
        assert len(page.cursor) < 32 * 1024
    assert (len(told), set(told)) == (len(refs), refs)


def test_a_page_of_history_without_records_leads_on_to_the_next(remote: GoogleRemote, reader: Reader) -> None:
    received = [remote.receive(letter(n)) for n in range(3)]
    remote.fail("empty_page", match="/history", times=None)
    first = reader.page()
    assert (first.messages, first.is_complete) == ((), False)
    assert {m.ref for m in reader.round().messages} == {m.immutable_id for m in received}
    remote.heal()
    late = remote.receive(letter(999))
    assert reader.messages().keys() == {late.immutable_id}


def test_no_more_messages_wait_than_a_cursor_holds() -> None:
    def record(number: int, count: int) -> dict[str, Any]:
        changes = [{"message": {"id": f"{number:x}{n:04x}"}, "labelIds": ["Label_1"]} for n in range(count)]
        return {"id": str(number), "labelsAdded": changes}

    assert [len(concerned([record(1, count)])[0]) for count in (0, 1, WAITING)] == [0, 1, WAITING]
    refs, records = concerned([record(1, WAITING - 1), record(2, 1), record(3, 1), record(4, 1)])
    assert (len(refs), records) == (WAITING, 2)
    assert concerned([record(1, 3), record(1, 3)]) == ([f"1{n:04x}" for n in range(3)], 2)
    unread = {"labelsRemoved": [{"message": {"id": "1"}, "labelIds": ["UNREAD"]}]}
    assert concerned([unread]) == ([], 1)


@pytest.mark.parametrize("label", ["TRASH", "SPAM"])
def test_a_message_that_comes_back_from_trash_or_spam_concerns_us(label: str) -> None:
    back = {"labelsRemoved": [{"message": {"id": "1", "labelIds": ["SENT"]}, "labelIds": [label]}]}
    assert concerned([back]) == (["1"], 1)


def test_a_message_of_the_inbox_that_lies_in_our_folder_too_is_told_there(remote: GoogleRemote, reader: Reader) -> None:
    message = remote.receive(letter(1))
    remote.categorize(message, FOLDERS["emails"])
    assert reader.messages() == {message.immutable_id: ("emails", (FOLDERS["emails"],))}


def test_spam_and_drafts_are_not_told(remote: GoogleRemote, reader: Reader) -> None:
    draft = remote.receive(letter(1), place="drafts")
    remote.categorize(draft, "Follow-up")
    assert reader.messages() == {}


def test_a_message_deleted_before_it_was_read_is_left_out(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote, reader: Reader
) -> None:
    first, second = remote.receive(letter(1)), remote.receive(letter(2))
    reader.mailbox = meddling("/batch/", lambda: remote.delete(first), after=1)  # the history has been told, and names it
    assert reader.messages().keys() == {second.immutable_id}


# Contacts


def test_a_contact_that_left_our_groups_is_gone_from_each(remote: GoogleRemote, reader: Reader) -> None:
    ref = remote.put_contact(reader.folders["accounts"], Contact(display_name="Ada"))
    reader.round()
    remote.put(ref, memberships=memberships([MY_CONTACTS]))
    told = reader.round()
    contacts = {folder: group for folder, group in reader.folders.items() if folder != "emails"}
    assert (told.contacts, set(told.gone)) == ((), {Gone(ref, group) for group in contacts.values()})


def test_a_contact_that_google_renames_is_gone_by_its_old_name(remote: GoogleRemote, reader: Reader) -> None:
    folder = reader.folders["contacts"]
    ref = remote.put_contact(folder, Contact(display_name="Ada"), link="a link")
    reader.round()
    renamed = remote.book.rename(remote.book.contacts[ref], remote.world.now()).name
    told = reader.round()
    assert [(c.ref, c.link) for c in told.contacts] == [(renamed, "a link")]
    assert Gone(ref, folder) in told.gone
    assert Gone(renamed, folder) not in told.gone


def test_what_google_shows_late_is_told_late(remote: GoogleRemote, reader: Reader, forward: Callable[..., None]) -> None:
    remote.book.delay = timedelta(minutes=5)
    ref = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
    assert reader.round().contacts == ()
    forward(minutes=6)
    assert [c.ref for c in reader.round().contacts] == [ref]


# Cursors that end


@pytest.mark.parametrize("kind", ["history_expired", "sync_token_expired"])
def test_either_service_that_forgot_expires_the_cursor(remote: GoogleRemote, reader: Reader, kind: str) -> None:
    ref = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
    remote.fail(kind)
    with pytest.raises(CursorExpired):
        reader.round()
    reader.cursor = None
    assert [c.ref for c in reader.round().contacts] == [ref]


def test_a_sync_token_that_is_gone_by_google_s_older_word_expires_the_cursor(remote: GoogleRemote, reader: Reader) -> None:
    remote.fail("status", status=410, match="/connections")
    with pytest.raises(CursorExpired):
        reader.round()


@pytest.mark.parametrize("mail", [{"pages": [["marked", "gone"]]}, {"page": "gone"}])
def test_a_page_token_that_gmail_no_longer_takes_expires_the_cursor(reader: Reader, mail: dict[str, Any]) -> None:
    position = Position.read(reader.cursor)
    position.mail = {**(position.mail or {}), **mail, "more": True}
    position.left = {"mail"}
    reader.cursor = position.written()
    with pytest.raises(CursorExpired):
        reader.page()


def test_a_folder_of_messages_that_goes_while_it_is_listed_is_not_found(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote, folders: dict[FolderId, str]
) -> None:
    gone = remote.label(FOLDERS["emails"])
    mailbox = meddling("/batch/", lambda: remote.delete_category(gone.name))
    reader = Reader(mailbox, {"emails": gone.id})
    for _ in range(2):
        with pytest.raises(NotFound):
            reader.page()


# Faults


@pytest.mark.parametrize("pause", [None, 2])
@pytest.mark.parametrize("path", ["/history", "/connections"])
def test_a_quota_that_is_used_up_for_a_moment_is_not_noticed(
    remote: GoogleRemote, reader: Reader, sleeps: list[float], path: str, pause: int | None
) -> None:
    message = remote.receive(letter(1))
    remote.fail("status", status=429, retry_after_s=pause, match=path)
    assert reader.messages() == {message.immutable_id: ("inbox", ())}
    assert len(sleeps) == 1


@pytest.mark.parametrize("kind", ["rateLimitExceeded", "userRateLimitExceeded"])
def test_a_quota_that_stays_used_up_loses_nothing(remote: GoogleRemote, reader: Reader, kind: str) -> None:
    message = remote.receive(letter(1))
    remote.fail(kind, match="/history", times=None)
    with pytest.raises(RateLimited):
        reader.round()
    remote.heal()
    assert reader.messages() == {message.immutable_id: ("inbox", ())}


@pytest.fixture
def cut() -> Iterator[str]:
    """The address of a service that dies in the middle of each answer."""
    page = b'{"connections": [{"resourceName": "people/c1"}, '
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4000\r\n\r\n" + page

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # closed below
                return
            with connection:
                connection.recv(65536)
                connection.sendall(answer)

    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)


def test_half_a_page_is_no_page(
    mailbox: GoogleMailbox, remote: GoogleRemote, reader: Reader, gateway: Gateway, cut: str, people_port: object
) -> None:
    ref = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
    given = {"url": cut, "get_token": lambda: "token"}
    calls = [Calls(gateway, service=describe(cut, api), **given) for api in ("gmail", "people")]  # type: ignore[arg-type]
    reader.mailbox = GoogleMailbox(*calls)
    with pytest.raises(Transient):
        reader.round()
    reader.mailbox = mailbox
    assert [c.ref for c in reader.round().contacts] == [ref]


def test_a_first_round_beyond_the_budget_goes_on_where_it_was(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    now = [0.0]
    mailbox = open_mailbox(budget=Budget(clock=lambda: now[0]))
    received = [remote.receive(letter(n)) for n in range(3 * READS)]
    for message in received:
        remote.categorize(message, "Follow-up")
    reader, told = Reader(mailbox, {}), set()
    while True:
        try:
            page = reader.page()
        except RateLimited as error:
            now[0] += error.retry_after_s or 0
            continue
        told |= {message.ref for message in page.messages}
        if page.is_complete:
            break
    assert told >= {message.immutable_id for message in received}
    assert now[0] > 10  # it did wait


# Notifications


@pytest.fixture
def pushing(open_mailbox: Callable[..., GoogleMailbox], service: GoogleService, remote: GoogleRemote) -> GoogleMailbox:
    service.pushes.topics[TOPIC] = True
    return open_mailbox(topic=TOPIC)


def test_a_mailbox_with_a_topic_is_watched_renewed_and_left_alone(
    pushing: GoogleMailbox,
    service: GoogleService,
    remote: GoogleRemote,
    folders: dict[FolderId, str],
    forward: Callable[..., None],
) -> None:
    assert "push" in pushing.capabilities
    first = pushing.subscribe(HOOK, folders=folders)
    topic, labels, until = service.pushes.watched[remote.person.email]
    assert (topic, labels) == (TOPIC, frozenset({"INBOX", "SENT", folders["emails"]}))
    assert abs(first.expires_at - until) < timedelta(seconds=1)
    forward(days=3)
    renewed = pushing.renew(first)
    assert renewed.expires_at - first.expires_at >= timedelta(days=3)
    assert service.pushes.watched[remote.person.email][1] == labels
    pushing.unsubscribe(renewed)
    assert service.pushes.watched == {}
    pushing.unsubscribe(renewed)


def test_a_notification_tells_that_this_mailbox_changed(pushing: GoogleMailbox, remote: GoogleRemote) -> None:
    subscription = pushing.subscribe(HOOK, folders={})
    assert pushing.verify(subscription, HOOK, payload(remote.person.email.upper(), 77)) == {"changed"}
    with pytest.raises(Forbidden, match="another mailbox"):
        pushing.verify(subscription, HOOK, payload("somebody.else@example.com", 77))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b"null", b'{"message": {"data": "e30="}}', b'{"message": {"data": "?"}}', b"\xff", b"[" * 500_000],
    ids=lambda body: body[:32].decode("latin-1"),
)
def test_a_notification_that_proves_nothing_raises_forbidden(pushing: GoogleMailbox, body: bytes) -> None:
    subscription = pushing.subscribe(HOOK, folders={})
    with pytest.raises(Forbidden):
        pushing.verify(subscription, HOOK, body)


def test_a_notification_that_is_too_large_is_not_read(pushing: GoogleMailbox, remote: GoogleRemote) -> None:
    subscription = pushing.subscribe(HOOK, folders={})
    with pytest.raises(Forbidden, match="too large"):
        pushing.verify(subscription, HOOK, payload(remote.person.email, 77) + b" " * MAX_NOTICE)


@pytest.mark.parametrize("topic", ["projects/ssi/topics/not-granted", "projects/ssi/topics/none"])
def test_a_topic_that_gmail_cannot_publish_to_is_the_operators_to_mend(
    open_mailbox: Callable[..., GoogleMailbox], service: GoogleService, remote: GoogleRemote, topic: str
) -> None:
    service.pushes.topics["projects/ssi/topics/not-granted"] = False
    with pytest.raises(Rejected, match="operator must grant"):
        open_mailbox(topic=topic).subscribe(HOOK, folders={})


@pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
def test_an_order_for_notifications_whose_answer_was_lost_can_be_given_again(
    pushing: GoogleMailbox, service: GoogleService, remote: GoogleRemote, kind: str
) -> None:
    remote.fail(kind, match="/watch")
    with pytest.raises(Transient):
        pushing.subscribe(HOOK, folders={})
    subscription = pushing.subscribe(HOOK, folders={})
    remote.fail(kind, match="/stop")
    with pytest.raises(Transient):
        pushing.unsubscribe(subscription)
    pushing.unsubscribe(subscription)
    assert service.pushes.watched == {}
