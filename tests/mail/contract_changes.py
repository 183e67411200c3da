"""The promises of `server.mail.Mailbox` about what changes, notifications, many messages at once, and the check."""

from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, MARKS, FolderId, MarkId
from server.errors import CursorExpired, Forbidden, NotFound, Rejected, SsiError, Transient
from server.mail import Changes, ContactEdit, ContactItem, Gone, Hook, Mailbox, Marked, NewContact, Subscription
from simulator.world import Gate, StoredMessage
from tests.mail.remote import Remote

NAMES: dict[MarkId, str] = {mark.id: mark.name for mark in MARKS.values()}
MANY = 1_100  # contacts: more than a page of any provider
HOOK = Hook("https://sidebar.example.com/hooks/mail/7", "a-secret-of-ours")


def letter(number: int) -> bytes:
    lines = [
        "From: Ada <ada@example.com>",
        "To: me@example.org",
        f"Subject: Letter {number}",
        f"Message-ID: <c{number}@example.com>",
    ]
    return "\r\n".join([*lines, "Date: Fri, 20 Nov 2026 10:00:00 +0100", "", "Hi."]).encode()


class Reader:
    """Follows a mailbox as a session does: from page to page, keeping the cursor."""

    def __init__(self, mailbox: Mailbox, folders: dict[FolderId, str], marks: Mapping[MarkId, str] | None = None) -> None:
        self.mailbox, self.folders, self.marks = mailbox, folders, marks
        self.cursor: str | None = None
        self.known: dict[tuple[str, str], str] = {}  # etags by folder and ref

    def page(self) -> Changes:
        page = self.mailbox.changes(self.cursor, folders=self.folders, marks=self.marks, known=self._known)
        self.cursor = page.cursor
        return page

    def _known(self, folder: str, refs: Collection[str]) -> dict[str, str]:
        return {ref: self.known[folder, ref] for ref in refs if (folder, ref) in self.known}

    def round(self) -> Changes:
        """Read to the end of a round and return all of it as one."""
        pages = [self.page()]
        while not pages[-1].is_complete:
            pages.append(self.page())
        return Changes(
            messages=tuple(m for page in pages for m in page.messages),
            contacts=tuple(c for page in pages for c in page.contacts),
            gone=tuple(g for page in pages for g in page.gone),
            cursor=pages[-1].cursor,
            is_complete=True,
            whole=pages[-1].whole,
            unchanged=frozenset(ref for page in pages for ref in page.unchanged),
        )

    def messages(self) -> dict[str, tuple[str, tuple[str, ...]]]:
        """The messages of a round: ref -> place and categories."""
        return {m.ref: (m.place, m.categories) for m in self.round().messages}


class ChangePromises:
    tells_marked_contacts = False  # also of the owner's own folder of contacts those that carry our marks
    idle_requests = 1  # HTTP requests when nothing changed; what the protocol has at least

    @pytest.fixture
    def folders(self, mailbox: Mailbox) -> dict[FolderId, str]:
        mailbox.ensure_marks(NAMES)
        return {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}

    @pytest.fixture
    def again(self, open_mailbox: Callable[[], Mailbox]) -> Callable[[], Mailbox]:
        """Open the mailbox as another process would, which remembers nothing."""
        return open_mailbox

    @pytest.fixture
    def reader(self, mailbox: Mailbox, folders: dict[FolderId, str]) -> Reader:
        """A reader that has read everything."""
        reader = Reader(mailbox, folders)
        reader.round()
        return reader

    # The beginning

    def test_it_begins_with_all_contacts_and_the_messages_that_carry_something_or_lie_in_our_folder(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        for message in remote.state.messages.values():
            remote.categorize(message)
        marked, moved, sent = (remote.receive(letter(n)) for n in range(3))
        remote.categorize(marked, NAMES["share"], "Follow-up")
        remote.move(moved, folders["emails"])
        remote.move(sent, "sentitems")
        remote.categorize(sent, "Offer")
        refs = {name: remote.put_contact(folders[name], Contact(display_name=name)) for name in FOLDERS if name != "emails"}
        told = Reader(mailbox, folders).round()
        categories = {m.ref: (m.place, set(m.categories)) for m in told.messages}
        assert categories == {
            remote.ref(marked): ("inbox", {NAMES["share"], "Follow-up"}),
            remote.ref(moved): ("emails", set(moved.categories)),
            remote.ref(sent): ("sent", {"Offer"}),
        }
        assert {m.received_at for m in told.messages} == {m.received_at.replace(microsecond=0) for m in (marked, moved, sent)}
        assert {c.ref: (c.folder, c.contact.display_name) for c in told.contacts} == {
            ref: (folders[name], name) for name, ref in refs.items()
        }
        assert told.whole == {"contacts", "accounts", "individual_customers"}
        assert told.gone == ()

    # Messages

    def test_a_message_that_comes_is_told_once_with_its_place(self, remote: Remote, reader: Reader) -> None:
        received, sent = remote.receive(letter(1)), remote.receive(letter(2), place="sentitems")
        assert reader.messages() == {remote.ref(received): ("inbox", ()), remote.ref(sent): ("sent", ())}
        assert reader.messages() == {}

    def test_a_message_is_told_when_it_is_marked_and_when_it_is_unmarked(self, remote: Remote, reader: Reader) -> None:
        message = remote.receive(letter(1))
        reader.round()
        remote.categorize(message, NAMES["share"])
        assert reader.messages() == {remote.ref(message): ("inbox", (NAMES["share"],))}
        remote.categorize(message)
        assert reader.messages() == {remote.ref(message): ("inbox", ())}

    def test_what_we_mark_ourselves_is_told_as_it_is_then(self, mailbox: Mailbox, remote: Remote, reader: Reader) -> None:
        message = remote.receive(letter(1))
        mailbox.set_mark(remote.ref(message), "saved", names=NAMES)
        assert reader.messages() == {remote.ref(message): ("inbox", (NAMES["saved"],))}

    def test_a_message_that_is_moved_to_our_folder_is_told_there(self, mailbox: Mailbox, remote: Remote, reader: Reader) -> None:
        message = remote.receive(letter(1))
        reader.round()
        remote.move(message, reader.folders["emails"])
        ((ref, (place, _)),) = reader.messages().items()
        assert (ref, place) == (remote.ref(message), "emails")
        mailbox.move(ref, "inbox")
        ((ref, (place, _)),) = reader.messages().items()
        assert (ref, place) == (remote.ref(message), "inbox")

    def test_what_is_deleted_or_goes_elsewhere_is_not_told(self, remote: Remote, reader: Reader) -> None:
        first, second, third = (remote.receive(letter(n)) for n in range(3))
        reader.round()
        remote.delete(first)
        remote.move(second, "deleteditems")
        remote.delete(remote.receive(letter(4)))
        remote.categorize(third, NAMES["share"])
        remote.delete(third)
        assert reader.messages() == {}

    def test_a_message_is_told_with_the_conversation_that_it_belongs_to(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        marked = remote.receive(letter(1))
        remote.categorize(marked, NAMES["share"])
        reader = Reader(mailbox, folders)
        first = {m.ref: m.conversation for m in reader.round().messages}
        received, sent = remote.receive(letter(2)), remote.receive(letter(3), place="sentitems")
        told = first | {m.ref: m.conversation for m in reader.round().messages}
        for message in (marked, received, sent):
            assert told[remote.ref(message)] == mailbox.head(remote.ref(message)).conversation != ""

    # Contacts

    def test_contacts_that_are_made_changed_marked_and_deleted_are_told(self, remote: Remote, reader: Reader) -> None:
        folder = reader.folders["contacts"]
        made = remote.put_contact(folder, Contact(display_name="Ada", notes="one"), link="a link")
        told = reader.round()
        assert [(c.ref, c.contact.notes, c.link, c.folder) for c in told.contacts] == [(made, "one", "a link", folder)]
        assert told.whole == frozenset()
        remote.change_contact(made, notes="two")
        assert [(c.ref, c.contact.notes, c.link) for c in reader.round().contacts] == [(made, "two", "a link")]
        remote.categorize_contact(made, "Follow-up")
        assert [(c.ref, c.categories) for c in reader.round().contacts] == [(made, ("Follow-up",))]
        remote.drop_contact(made)
        told = reader.round()
        assert (told.contacts, Gone(made, folder) in told.gone) == ((), True)

    def test_a_contact_that_the_caller_knows_is_told_or_named_as_unchanged_and_one_that_changed_since_is_told(
        self, mailbox: Mailbox, remote: Remote, reader: Reader
    ) -> None:
        reader.round()
        folder = reader.folders["contacts"]
        made = mailbox.create_contacts(folder, [NewContact(Contact(surname=n), f"link-{n}") for n in ("Ada", "Bob", "Cleo")])
        same, changed, gone = [one for one in made if isinstance(one, ContactItem)]
        reader.known |= {(folder, one.ref): one.etag for one in (same, changed, gone)}
        remote.change_contact(changed.ref, job_title="Countess")
        remote.drop_contact(gone.ref)
        told = reader.round()
        assert {c.ref: c.contact.job_title for c in told.contacts if c.ref != same.ref} == {changed.ref: "Countess"}
        assert ({c.ref for c in told.contacts} | told.unchanged) == {same.ref, changed.ref}
        assert changed.ref not in told.unchanged

    def test_a_contact_is_told_with_the_time_of_its_last_change(
        self, mailbox: Mailbox, remote: Remote, reader: Reader, forward: Callable[..., None]
    ) -> None:
        made = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
        (told,) = reader.round().contacts
        forward(minutes=1)
        remote.change_contact(made, notes="later")
        (later,) = reader.round().contacts
        assert told.changed_at is not None
        assert later.changed_at is not None
        assert later.changed_at > told.changed_at
        assert later.changed_at == mailbox.contact(made).changed_at

    def test_a_contact_that_its_owner_moves_is_gone_here_and_new_there_with_its_link(
        self, remote: Remote, reader: Reader
    ) -> None:
        source, target = reader.folders["contacts"], reader.folders["accounts"]
        ref = remote.put_contact(source, Contact(display_name="Ada"), link="a link")
        reader.round()
        remote.drag_contact(ref, target)
        told = reader.round()
        assert [(c.folder, c.link, c.contact.display_name) for c in told.contacts] == [(target, "a link", "Ada")]
        assert Gone(ref, source) in told.gone
        assert Gone(told.contacts[0].ref, target) not in told.gone

    def test_contacts_elsewhere_are_not_told(self, remote: Remote, reader: Reader) -> None:
        other = remote.add_folder("contacts", "My own friends")
        remote.put_contact(other, Contact(display_name="Ada"))
        assert reader.round().contacts == ()

    # Contacts that the owner marks in a folder of their own

    def test_a_contact_elsewhere_that_carries_our_mark_is_told_and_no_other(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        own = remote.own_contacts if self.tells_marked_contacts else remote.add_folder("contacts", "My own friends")
        marked = remote.put_contact(own, Contact(display_name="Ada", notes="one"), link="a link")
        other = remote.put_contact(own, Contact(display_name="Bob"))
        remote.categorize_contact(marked, "Follow-up", NAMES["share"])
        remote.categorize_contact(other, "Follow-up")
        reader = Reader(mailbox, folders, {mark: NAMES[mark] for mark in ("share", "account")})
        told = [reader.round()]
        remote.change_contact(other, notes="of no interest")
        told.append(reader.round())
        remote.change_contact(marked, notes="two")
        told.append(reader.round())
        remote.categorize_contact(other, NAMES["account"].upper())
        told.append(reader.round())
        remote.drop_contact(marked)
        remote.categorize_contact(other)
        told.append(reader.round())
        expected = [
            [(marked, "one", own, "a link")],
            [],
            [(marked, "two", own, "a link")],
            [(other, "of no interest", own, "")],
            [],
        ]
        if not self.tells_marked_contacts:
            expected = [[]] * 5
        assert [[(c.ref, c.contact.notes, c.folder, c.link) for c in page.contacts] for page in told] == expected
        assert own not in {gone.folder for page in told for gone in page.gone}
        assert told[0].whole == {"contacts", "accounts", "individual_customers"}
        before = remote.requests()
        reader.round()
        assert remote.requests() - before == self.idle_requests

    def test_a_contact_elsewhere_that_loses_its_mark_while_it_is_read_is_not_told(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        own = remote.own_contacts if self.tells_marked_contacts else remote.add_folder("contacts", "My own friends")
        ref = remote.put_contact(own, Contact(display_name="Ada"))
        for number in range(1, 9):  # more than there are requests
            remote.categorize_contact(ref, NAMES["share"])
            gate = remote.world.gate = Gate(number)
            with ThreadPoolExecutor(1) as pool:
                reading = pool.submit(Reader(mailbox, folders, {"share": NAMES["share"]}).round)
                reading.add_done_callback(lambda _, reached=gate.reached: reached.set())
                assert gate.reached.wait(10)
                remote.categorize_contact(ref)
                gate.open()
                assert {c.categories for c in reading.result().contacts} <= {(NAMES["share"],)}

    def test_a_contact_that_is_moved_to_our_folders_is_told_there_only(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        own = remote.own_contacts if self.tells_marked_contacts else remote.add_folder("contacts", "My own friends")
        ref = remote.put_contact(own, Contact(display_name="Ada"))
        remote.categorize_contact(ref, NAMES["share"])
        reader = Reader(mailbox, folders, {"share": NAMES["share"]})
        reader.round()
        moved = mailbox.move_contact(ref, folders["contacts"], etag=mailbox.contact(ref).etag)
        told = reader.round()
        assert [(c.ref, c.folder) for c in told.contacts] == [(moved.ref, folders["contacts"])]
        assert {gone.folder for gone in told.gone} <= set(folders.values())

    # Rounds

    def test_many_contacts_are_told_page_by_page_each_once(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        refs = {remote.put_contact(folders["contacts"], Contact(display_name=f"Person {n}")) for n in range(MANY)}
        reader = Reader(mailbox, folders)
        first = reader.page()
        assert not first.is_complete
        rest = reader.round()
        told = [contact.ref for contact in (*first.contacts, *rest.contacts)]
        assert len(told) == len(set(told))
        assert set(told) == refs
        assert reader.round().contacts == ()
        assert len(reader.cursor or "") < 64 * 1024

    @pytest.mark.parametrize("kind", ["drop", "html", "garbage", "status"])
    def test_a_round_that_breaks_off_goes_on_without_loss(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], kind: str
    ) -> None:
        refs = {remote.put_contact(folders["contacts"], Contact(display_name=f"Person {n}")) for n in range(MANY)}
        reader = Reader(mailbox, folders)
        told: set[str] = set()
        while True:
            remote.fail(kind, times=None)
            with pytest.raises(Transient):
                reader.page()
            remote.heal()
            page = reader.page()
            told |= {contact.ref for contact in page.contacts}
            if page.is_complete:
                break
        assert told == refs

    def test_the_same_cursor_tells_the_same_again(self, mailbox: Mailbox, remote: Remote, reader: Reader) -> None:
        remote.receive(letter(1))
        remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
        first, second = (mailbox.changes(reader.cursor, folders=reader.folders) for _ in range(2))
        assert (first.messages, first.contacts) == (second.messages, second.contacts)
        assert len(first.messages) == len(first.contacts) == 1

    def test_another_process_goes_on_with_the_cursor(
        self, mailbox: Mailbox, remote: Remote, reader: Reader, again: Callable[[], Mailbox]
    ) -> None:
        message = remote.receive(letter(1))
        reader.mailbox = again()
        assert reader.messages() == {remote.ref(message): ("inbox", ())}

    def test_when_nothing_changed_that_costs_as_few_requests_as_there_are(self, remote: Remote, reader: Reader) -> None:
        reader.round()
        before = remote.requests()
        told = reader.round()
        assert remote.requests() - before == self.idle_requests
        assert (told.messages, told.contacts, told.gone, told.whole) == ((), (), (), frozenset())

    def test_a_folder_that_is_asked_for_later_begins_and_one_that_is_not_is_forgotten(
        self, remote: Remote, reader: Reader
    ) -> None:
        everything = dict(reader.folders)
        ref = remote.put_contact(everything["accounts"], Contact(display_name="Engines Ltd"))
        reader.folders = {name: folder for name, folder in everything.items() if name != "accounts"}
        told = reader.round()
        assert (told.contacts, told.whole) == ((), frozenset())
        reader.folders = everything
        told = reader.round()
        assert ([c.ref for c in told.contacts], "accounts" in told.whole) == ([ref], True)

    def test_without_folders_only_messages_are_told(self, mailbox: Mailbox, remote: Remote, reader: Reader) -> None:
        reader.folders = {}
        reader.round()
        message = remote.receive(letter(1))
        assert reader.messages() == {remote.ref(message): ("inbox", ())}

    @pytest.mark.parametrize("cursor", ["", "x", "e30", '{"v":1}', "AAAA" * 100, "é"])
    def test_what_is_no_cursor_raises_cursor_expired(self, mailbox: Mailbox, folders: dict[FolderId, str], cursor: str) -> None:
        with pytest.raises(CursorExpired):
            mailbox.changes(cursor, folders=folders)

    def test_a_cursor_that_the_provider_forgot_raises_cursor_expired_and_none_begins_again(
        self, remote: Remote, reader: Reader
    ) -> None:
        ref = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
        reader.round()
        remote.forget_changes()
        remote.change_contact(ref, notes="so that there is something to tell")
        remote.receive(letter(1))
        with pytest.raises(CursorExpired):
            reader.round()
        reader.cursor = None
        told = reader.round()
        assert [c.ref for c in told.contacts] == [ref]
        assert "contacts" in told.whole

    @pytest.mark.parametrize("folder", ["emails", "contacts"])
    def test_a_folder_that_is_gone_raises_not_found(self, remote: Remote, reader: Reader, folder: FolderId) -> None:
        remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
        remote.move(remote.receive(letter(1)), reader.folders["emails"])
        reader.round()
        remote.delete_folder(reader.folders[folder])
        with pytest.raises(NotFound):
            reader.round()

    # set_marks and move

    def test_many_messages_are_marked_at_once_and_each_keeps_the_others_categories(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        messages = [remote.receive(letter(n)) for n in range(100)]
        for number, message in enumerate(messages):
            remote.categorize(message, *(["Follow-up"] if number % 2 else [NAMES["pending"]]))
        before = remote.requests()
        outcome = mailbox.set_marks([remote.ref(m) for m in messages], "saved", names=NAMES)
        assert remote.requests() - before <= 20
        for number, message in enumerate(messages):
            expected = {"Follow-up", NAMES["saved"]} if number % 2 else {NAMES["saved"]}
            marked = outcome[remote.ref(message)]
            assert isinstance(marked, Marked)
            assert set(marked.categories) == set(message.categories) == expected
        ref = remote.ref(messages[7])
        last = outcome[ref]
        assert isinstance(last, Marked)
        assert mailbox.head(ref).etag == last.etag

    def test_one_message_that_fails_keeps_no_other_from_being_marked(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        messages = [remote.receive(letter(n)) for n in range(3)]
        refs = [remote.ref(m) for m in messages]
        remote.delete(messages[1])
        outcome = mailbox.set_marks([*refs, "AAMkNobodyHasThis="], "saved", names=NAMES)
        assert {ref: type(one) for ref, one in outcome.items()} == {
            refs[0]: Marked,
            refs[1]: NotFound,
            refs[2]: Marked,
            "AAMkNobodyHasThis=": NotFound,
        }
        assert [NAMES["saved"] in m.categories for m in (messages[0], messages[2])] == [True, True]

    def test_messages_that_are_so_already_are_not_written(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        message = remote.receive(letter(1))
        first = mailbox.set_marks([remote.ref(message)], "saved", names=NAMES)
        with remote.changes() as happened:
            assert mailbox.set_marks([remote.ref(message)], "saved", names=NAMES) == first
            assert mailbox.set_marks([], "saved", names=NAMES) == {}
        assert happened == []

    def test_errors_of_the_whole_mailbox_are_raised_by_set_marks(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        refs = [remote.ref(remote.receive(letter(n))) for n in range(3)]
        remote.revoke()
        with pytest.raises(SsiError) as caught:
            mailbox.set_marks(refs, "saved", names=NAMES)
        assert type(caught.value).__name__ == "NeedsReauth"

    def test_a_message_is_moved_and_keeps_its_ref(self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]) -> None:
        message: StoredMessage = remote.receive(letter(1))
        remote.categorize(message, "Follow-up")
        ref = remote.ref(message)
        for to in (folders["emails"], "inbox"):
            mailbox.move(ref, to)
            assert remote.place_of(message) == to
            with remote.changes() as happened:
                mailbox.move(ref, to)
            assert happened == []
            assert "Follow-up" in mailbox.head(ref).categories

    def test_to_move_what_is_not_there_or_to_where_is_nothing_raises_not_found(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        message = remote.receive(letter(1))
        with pytest.raises(NotFound):
            mailbox.move("AAMkNobodyHasThis=", "inbox")
        remote.delete_folder(folders["emails"])
        with pytest.raises(NotFound):
            mailbox.move(remote.ref(message), folders["emails"])
        assert remote.place_of(message) == "inbox"

    # Notifications

    def test_without_push_there_is_no_subscription(self, mailbox: Mailbox, folders: dict[FolderId, str]) -> None:
        if "push" in mailbox.capabilities:
            assert mailbox.subscribe(self.hook(), folders=folders).expires_at is not None
            return
        with pytest.raises(Rejected):
            mailbox.subscribe(self.hook(), folders=folders)

    def hook(self) -> Hook:
        """Where the provider can send notifications to."""
        return HOOK

    @pytest.fixture
    def subscription(self, mailbox: Mailbox, folders: dict[FolderId, str]) -> Subscription | None:
        return mailbox.subscribe(self.hook(), folders=folders) if "push" in mailbox.capabilities else None

    def test_a_subscription_is_renewed_until_the_provider_ends_it(
        self, mailbox: Mailbox, remote: Remote, subscription: Subscription | None, forward: Callable[..., None]
    ) -> None:
        if subscription is None:
            return
        forward(hours=12)
        renewed = mailbox.renew(subscription)
        assert renewed.expires_at > subscription.expires_at > remote.world.now()
        remote.end_subscriptions()
        with pytest.raises(NotFound):
            mailbox.renew(renewed)
        mailbox.unsubscribe(renewed)

    @pytest.mark.parametrize(
        "body", [b"", b"{}", b"[]", b"null", b'{"value": []}', b'{"value": [{"clientState": null}]}', b"\xff"]
    )
    def test_a_notification_that_proves_nothing_raises_forbidden(
        self, mailbox: Mailbox, subscription: Subscription | None, body: bytes
    ) -> None:
        if subscription is None:
            return
        with pytest.raises(Forbidden):
            mailbox.verify(subscription, self.hook(), body)

    # check

    def test_check_says_whose_mailbox_it_is(self, mailbox: Mailbox, remote: Remote) -> None:
        owner = mailbox.check()
        assert (owner.address.lower(), owner.name) == (remote.person.email.lower(), remote.person.name)
        assert owner.account != ""
        assert mailbox.check() == owner

    def test_check_changes_nothing(self, mailbox: Mailbox, remote: Remote) -> None:
        with remote.changes() as happened:
            mailbox.check()
        assert happened == []


CONTACT_CALLS = (
    *("check", "categories", "ensure_folders", "changes", "set_marks", "move", "contact", "find_contact", "create_contact"),
    *("create_contacts", "update_contact", "update_contacts", "set_contact_mark", "move_contact", "delete_contact"),
)


def only(outcome: Sequence[ContactItem | SsiError]) -> ContactItem:
    """Return the only one of an outcome, or raise its error."""
    (one,) = outcome
    if isinstance(one, SsiError):
        raise one
    return one


def contact_calls(mailbox: Mailbox, remote: Remote) -> dict[str, Callable[[], Any]]:
    """Each method about folders, contacts and changes, with arguments that work."""
    folders = {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}
    mailbox.ensure_marks(NAMES)
    item = mailbox.contact(remote.put_contact(folders["contacts"], Contact(display_name="Ada"), link="there"))
    message = remote.ref(remote.receive(letter(77)))
    bob, eve = Contact(display_name="Bob"), Contact(display_name="Eve")
    new, edit = NewContact(bob, "new"), ContactEdit(item.ref, item.etag, lambda _: eve)
    return {
        "check": mailbox.check,
        "categories": mailbox.categories,
        "ensure_folders": lambda: mailbox.ensure_folders(FOLDERS),
        "changes": lambda: mailbox.changes(None, folders=folders),
        "set_marks": lambda: mailbox.set_marks([message], "saved", names=NAMES),
        "move": lambda: mailbox.move(message, folders["emails"]),
        "contact": lambda: mailbox.contact(item.ref),
        "find_contact": lambda: mailbox.find_contact(folders["contacts"], "there"),
        "create_contact": lambda: mailbox.create_contact(folders["contacts"], bob, link="new"),
        "create_contacts": lambda: only(mailbox.create_contacts(folders["contacts"], [new])),
        "update_contact": lambda: mailbox.update_contact(item.ref, eve, etag=item.etag),
        "update_contacts": lambda: only(mailbox.update_contacts([edit])),
        "set_contact_mark": lambda: mailbox.set_contact_mark(item.ref, "saved", names=NAMES),
        "move_contact": lambda: mailbox.move_contact(item.ref, folders["accounts"], etag=item.etag),
        "delete_contact": lambda: mailbox.delete_contact(item.ref, etag=item.etag),
    }
