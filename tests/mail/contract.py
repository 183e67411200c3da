"""Every promise of `server.mail.Mailbox`, once.

A provider's test module subclasses `MailboxContract`, gives the fixtures `mailbox` (its adapter, as the product builds it) and
`remote` (what really is in that mailbox, and a way to make the provider sick), and says what is its own:
`foreign_id_form`, the form of id that it cannot read. Contacts and changes have modules of their own, `contract_contacts` and
`contract_changes`.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC
from email import message_from_bytes, policy

import pytest

from server.domain.marks import MARKS, MarkId, reason_category
from server.errors import Conflict, Forbidden, InvalidInput, NeedsReauth, NotFound, RateLimited, Rejected, Transient, Unknown
from server.mail import Category, IdForm, Mailbox
from simulator.world import StoredMessage
from tests.figures import Count
from tests.mail.contract_changes import CONTACT_CALLS, ChangePromises, contact_calls
from tests.mail.contract_contacts import ContactPromises, FolderPromises
from tests.mail.remote import Remote

NAMES: dict[MarkId, str] = {mark.id: mark.name for mark in MARKS.values()}
GERMAN: dict[MarkId, str] = {**NAMES, "saved": "In SAP Cloud for Customer gesichert (SSI)"}
CALLS = ("head", "mime", "find", "ensure_marks", "set_mark", *CONTACT_CALLS)
USUAL_CALLS = {
    *("head", "mime", "set_mark", "check", "changes", "set_marks"),
    *("contact", "create_contacts", "update_contact", "delete_contact"),
}
DIFFICULT = [
    "plain",
    "It's O'Neill's \"quoted\" & <tagged> 100% #1 + more; a/b\\c",
    "日本語の件名と絵文字 📦👩‍👩‍👧",
    "العربية \u202b מעורב עם עברית",
    "e\u0301 against \u00e9, zero\u200bwidth",
    "x" * 250,
]


def mime(message_id: str = "<one@example.com>", subject: str = "Hello", text: str = "Hi.") -> bytes:
    lines = [
        "From: Ada <ada@example.com>",
        "To: me@example.org",
        f"Subject: {subject}",
        f"Message-ID: {message_id}",
        "Date: Fri, 20 Nov 2026 10:00:00 +0100",
        "Content-Type: text/plain; charset=utf-8",
        "Content-Transfer-Encoding: 8bit",
        "",
        text,
    ]
    return "\r\n".join(lines).encode()


def names_in(categories: Mapping[MarkId, Category]) -> dict[MarkId, str]:
    return {mark: category.name for mark, category in categories.items()}


class MailboxContract(FolderPromises, ContactPromises, ChangePromises):
    foreign_id_form: IdForm
    has_item_class = True  # the provider knows MAPI message classes
    replaces_marks = True  # marks are written as a whole and with an etag, so that writers can meet

    @pytest.fixture(autouse=True)
    def _tells_how_many(self, count: Count) -> None:
        count(f"promises of a mailbox: {type(self).__name__.removeprefix('Test')}", 1)

    @pytest.fixture
    def message(self, remote: Remote) -> StoredMessage:
        """A message from a person, with a category of the owner's."""
        message = remote.case("known_contact")
        remote.categorize(message, "Follow-up")
        return message

    # Nouns

    def test_a_ref_survives_a_move(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        ref = mailbox.head(message.rest_id).ref
        remote.move(message, "deleteditems")
        assert mailbox.head(ref).ref == ref
        assert mailbox.set_mark(ref, "saved", names=NAMES).categories == ("Follow-up", NAMES["saved"])

    def test_the_etag_changes_whenever_the_message_does(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        first = mailbox.head(message.rest_id).etag
        assert mailbox.head(message.rest_id).etag == first != ""
        remote.categorize(message, "Private")
        second = mailbox.head(message.rest_id).etag
        marked = mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        assert len({first, second, marked.etag}) == 3
        assert mailbox.head(message.rest_id).etag == marked.etag

    # Any method

    @pytest.fixture(params=[pytest.param(name, marks=() if name in USUAL_CALLS else pytest.mark.soak) for name in CALLS])
    def call(
        self, request: pytest.FixtureRequest, mailbox: Mailbox, remote: Remote, message: StoredMessage
    ) -> Callable[[], object]:
        """Each method in turn, with arguments that work: in the ordinary run ten that ask in different ways, else all."""
        calls: dict[str, Callable[[], object]] = {
            "head": lambda: mailbox.head(message.rest_id),
            "mime": lambda: mailbox.mime(message.immutable_id, max_bytes=10**6),
            "find": lambda: mailbox.find("<anything@example.com>"),
            "ensure_marks": lambda: mailbox.ensure_marks(NAMES),
            "set_mark": lambda: mailbox.set_mark(message.immutable_id, "saved", names=NAMES),
        }
        return calls[request.param] if request.param in calls else contact_calls(mailbox, remote)[request.param]

    @pytest.mark.parametrize("status", [429, 503])
    def test_busy_twice_and_then_well_is_not_noticed(
        self, call: Callable[[], object], remote: Remote, sleeps: list[float], status: int
    ) -> None:
        remote.fail("status", status=status, retry_after_s=1, times=2)
        call()
        assert sum(sleeps) >= 2  # Retry-After was obeyed

    def test_a_dropped_connection_is_not_noticed(self, call: Callable[[], object], remote: Remote) -> None:
        remote.fail("drop", times=1)
        call()

    def test_asked_for_a_long_pause_raises_rate_limited_with_its_length(
        self, call: Callable[[], object], remote: Remote, sleeps: list[float]
    ) -> None:
        remote.fail("status", status=429, retry_after_s=60, times=None)
        with pytest.raises(RateLimited) as caught:
            call()
        assert caught.value.retry_after_s == 60
        assert sum(sleeps) <= 5

    def test_busy_without_end_raises_transient(self, call: Callable[[], object], remote: Remote, sleeps: list[float]) -> None:
        remote.fail("status", status=503, times=None)
        with pytest.raises(Transient):
            call()
        assert sum(sleeps) <= 5

    @pytest.mark.parametrize("kind", ["html", "drop"])
    def test_an_answer_that_is_none_raises_transient(
        self, call: Callable[[], object], remote: Remote, kind: str, request: pytest.FixtureRequest
    ) -> None:
        """Of creating a contact Transient would say that there is none, which nobody saw: that is Unknown."""
        creating = {"create_contact": remote.creating_contact, "create_contacts": remote.creating_contacts}
        called = request.node.callspec.params["call"]
        is_creating = called in creating
        remote.fail(kind, match=creating.get(called, ""), times=None)
        with pytest.raises(Unknown if is_creating else Transient):
            call()

    def test_a_token_that_is_no_longer_accepted_raises_needs_reauth(self, call: Callable[[], object], remote: Remote) -> None:
        remote.revoke()
        with pytest.raises(NeedsReauth):
            call()

    def test_what_the_account_may_not_do_raises_forbidden(self, call: Callable[[], object], remote: Remote) -> None:
        remote.fail("status", status=403, times=None)
        with pytest.raises(Forbidden):
            call()

    def test_a_mailbox_that_is_elsewhere_raises_rejected(self, call: Callable[[], object], remote: Remote) -> None:
        remote.leave_provider()
        with pytest.raises(Rejected, match="mailbox"):
            call()

    @pytest.mark.parametrize("text", DIFFICULT)
    def test_difficult_text_is_read_and_marked_like_any_other(self, mailbox: Mailbox, remote: Remote, text: str) -> None:
        stored = remote.receive(mime(subject=text, text=text, message_id="<diff'icult+%23&@example.com>"))
        remote.categorize(stored, text)
        head = mailbox.head(stored.rest_id)
        assert (head.subject, head.categories) == (text, (text,))
        assert mailbox.mime(head.ref, max_bytes=10**6) == stored.mime
        assert [found.ref for found in mailbox.find("<diff'icult+%23&@example.com>")] == [head.ref]
        mailbox.set_mark(head.ref, "error", reason=text, names=NAMES)
        assert stored.categories == [text, NAMES["error"], reason_category(text)]

    # head

    def test_head_takes_any_id_that_the_mail_client_gives(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        for form, identifier in remote.ids(message).items():
            assert mailbox.head(identifier, form).ref == message.immutable_id

    def test_head_tells_what_the_mailbox_knows(self, mailbox: Mailbox, remote: Remote) -> None:
        stored = remote.case("attachments")
        remote.categorize(stored, "Follow-up", "Offer")
        head = mailbox.head(stored.rest_id)
        assert head.message_id is not None
        assert head.message_id.encode() in stored.mime
        assert (head.subject, head.item_class) == ("Everything you asked for", "IPM.Note" if self.has_item_class else "")
        assert head.received_at == stored.received_at.replace(microsecond=0)
        assert head.received_at.tzinfo is UTC
        assert head.categories == ("Follow-up", "Offer")
        assert (head.has_attachments, head.conversation) == (True, stored.conversation_id)
        assert head.size_bytes is not None
        assert len(stored.mime) / 2 < head.size_bytes < len(stored.mime) * 2  # a mailbox counts in its own form

    def test_head_tells_the_class_of_automatic_messages(self, mailbox: Mailbox, remote: Remote) -> None:
        classes = {"bounce": "REPORT.IPM.Note.NDR", "meeting_answer": "IPM.Schedule.Meeting.Resp.Pos"}
        for case, item_class in classes.items():
            assert mailbox.head(remote.case(case).rest_id).item_class == (item_class if self.has_item_class else "")

    def test_head_of_a_message_without_message_id_has_none(self, mailbox: Mailbox, remote: Remote) -> None:
        assert mailbox.head(remote.case("no_message_id").rest_id).message_id is None

    @pytest.mark.parametrize("identifier", ["AAMkNobodyHasThis=", "", "x", "..", "../../me", "a b", "AA?$select=id", "é", "A\n"])
    def test_head_of_what_is_not_there_raises_not_found(self, mailbox: Mailbox, identifier: str) -> None:
        with pytest.raises(NotFound):
            mailbox.head(identifier)

    def test_head_by_the_id_form_of_another_provider_raises_invalid_input(self, mailbox: Mailbox, message: StoredMessage) -> None:
        with pytest.raises(InvalidInput):
            mailbox.head(message.rest_id, self.foreign_id_form)

    # mime

    def test_mime_is_the_message_as_it_travelled(self, mailbox: Mailbox, remote: Remote) -> None:
        stored = remote.case("attachments")
        assert mailbox.mime(stored.immutable_id, max_bytes=10**6) == stored.mime

    def test_all_attachments_are_in_the_mime_byte_for_byte(self, mailbox: Mailbox, remote: Remote) -> None:
        stored = remote.case("attachments")
        read = message_from_bytes(mailbox.mime(remote.ref(stored), max_bytes=10**6), policy=policy.default)
        files = {part.get_filename(): part.get_payload(decode=True) for part in read.walk() if part.get_filename()}
        assert {"logo.png", "setup.exe", "Offer 2026-118.pdf"} <= files.keys()
        assert files["setup.exe"] == b"MZ" + bytes(500)

    def test_mime_of_what_is_not_there_raises_not_found(self, mailbox: Mailbox) -> None:
        with pytest.raises(NotFound):
            mailbox.mime("AAMkNobodyHasThis=", max_bytes=10**6)

    def test_mime_that_is_larger_than_allowed_raises_rejected(self, mailbox: Mailbox, message: StoredMessage) -> None:
        size = len(message.mime)
        assert len(mailbox.mime(message.immutable_id, max_bytes=size)) == size
        with pytest.raises(Rejected, match="larger than"):
            mailbox.mime(message.immutable_id, max_bytes=size - 1)

    # find

    def test_find_returns_every_copy_the_newest_first(self, mailbox: Mailbox, remote: Remote) -> None:
        copies = [remote.receive(mime("<copied@example.com>"), hours_ago=hours) for hours in (3, 1, 2)]
        remote.move(copies[0], "deleteditems")
        found = mailbox.find("<copied@example.com>")
        assert [head.ref for head in found] == [copies[n].immutable_id for n in (1, 2, 0)]
        assert found[0] == mailbox.head(copies[1].rest_id)

    def test_find_takes_the_id_without_brackets_too(self, mailbox: Mailbox, remote: Remote) -> None:
        stored = remote.receive(mime("<copied@example.com>"))
        assert [head.ref for head in mailbox.find("copied@example.com")] == [stored.immutable_id]

    def test_find_reads_more_than_a_page(self, mailbox: Mailbox, remote: Remote) -> None:
        refs = {remote.receive(mime("<many@example.com>"), hours_ago=hour).immutable_id for hour in range(60)}
        assert {head.ref for head in mailbox.find("<many@example.com>")} == refs

    def test_find_returns_nothing_for_an_id_that_nobody_knows(self, mailbox: Mailbox) -> None:
        assert mailbox.find("<unknown@example.com>") == []

    # ensure_marks

    def test_ensure_marks_creates_what_is_missing_in_its_colour(self, mailbox: Mailbox, remote: Remote) -> None:
        others = remote.master
        assert names_in(mailbox.ensure_marks(GERMAN)) == GERMAN
        assert remote.master == others | {GERMAN[mark.id]: mark.color for mark in MARKS.values()}

    def test_ensure_marks_restores_the_colour_and_leaves_others_alone(self, mailbox: Mailbox, remote: Remote) -> None:
        remote.add_category(NAMES["saved"], "preset14")
        remote.add_category("SAP Cloud for Customers, all of them", "preset14")
        others = {name: color for name, color in remote.master.items() if name not in NAMES.values()}
        mailbox.ensure_marks(NAMES)
        assert remote.master[NAMES["saved"]] == MARKS["saved"].color
        assert {name: color for name, color in remote.master.items() if name not in NAMES.values()} == others

    @pytest.mark.parametrize(
        ("mark", "spelled"),
        [
            ("saved", "saved in sap cloud FOR customer ssi"),
            ("share", "SAP Cloud for Customer"),
            ("share", "sap cloud for customer"),
            ("saved", "Saved in SAP Cloud for Customer SSI"),  # the English name, while German was asked for
        ],
    )
    def test_ensure_marks_uses_ours_as_the_mailbox_spells_it(
        self, mailbox: Mailbox, remote: Remote, mark: MarkId, spelled: str
    ) -> None:
        remote.add_category(spelled, "none")
        assert names_in(mailbox.ensure_marks(GERMAN)) == GERMAN | {mark: spelled}
        assert remote.master[spelled] == MARKS[mark].color
        assert GERMAN[mark] not in remote.master

    def test_ensure_marks_again_changes_nothing(self, mailbox: Mailbox, remote: Remote) -> None:
        first = mailbox.ensure_marks(NAMES)
        with remote.changes() as happened:
            assert mailbox.ensure_marks(NAMES) == first
        assert happened == []

    def test_two_that_ensure_marks_at_once_make_each_category_once(self, mailbox: Mailbox, remote: Remote) -> None:
        with ThreadPoolExecutor(2) as pool:
            both = list(pool.map(lambda _: mailbox.ensure_marks(NAMES), range(2)))
        assert [names_in(found) for found in both] == [NAMES, NAMES]
        made = [category.name for category in remote.state.categories.values() if category.name in NAMES.values()]
        assert sorted(made) == sorted(NAMES.values())

    def test_a_mark_that_its_owner_renamed_gets_its_name_back_or_is_made_anew(self, mailbox: Mailbox, remote: Remote) -> None:
        first = mailbox.ensure_marks(NAMES)
        remote.rename_category(NAMES["saved"], "Done")
        known = {mark: category.ref for mark, category in first.items()}
        again = mailbox.ensure_marks(NAMES, known=known)
        assert names_in(again) == NAMES
        assert (again["saved"].ref == first["saved"].ref) == ("renames" in mailbox.capabilities)
        assert ("Done" in remote.master) == ("renames" not in mailbox.capabilities)
        assert {m: c for m, c in again.items() if m != "saved"} == {m: c for m, c in first.items() if m != "saved"}

    def test_a_mark_that_was_deleted_is_made_anew(self, mailbox: Mailbox, remote: Remote) -> None:
        first = mailbox.ensure_marks(NAMES)
        remote.delete_category(NAMES["saved"])
        again = mailbox.ensure_marks(NAMES, known={mark: category.ref for mark, category in first.items()})
        assert names_in(again) == NAMES
        assert remote.master[NAMES["saved"]] == MARKS["saved"].color

    def test_categories_are_all_that_the_mailbox_knows(self, mailbox: Mailbox, remote: Remote) -> None:
        ours = mailbox.ensure_marks(NAMES)
        known = mailbox.categories()
        assert {category.name for category in known} == set(remote.master)
        assert set(ours.values()) <= set(known)

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_ensuring_marks_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, kind: str
    ) -> None:
        remote.fail(kind, match=remote.creating)
        assert names_in(mailbox.ensure_marks(NAMES)) == NAMES
        assert set(NAMES.values()) <= set(remote.master)

    # set_mark

    def test_set_mark_replaces_our_mark_and_keeps_what_others_set(
        self, mailbox: Mailbox, remote: Remote, message: StoredMessage
    ) -> None:
        remote.categorize(message, NAMES["pending"], "Follow-up", "Offer")
        marked = mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        assert marked.categories == ("Follow-up", "Offer", NAMES["saved"])
        assert message.categories == list(marked.categories)

    def test_set_mark_beside_an_error_carries_the_reason_until_it_is_mended(
        self, mailbox: Mailbox, message: StoredMessage
    ) -> None:
        mailbox.set_mark(message.immutable_id, "error", reason="C4C is locked", names=NAMES)
        assert message.categories == ["Follow-up", NAMES["error"], reason_category("C4C is locked")]
        mailbox.set_mark(message.immutable_id, "error", reason="Another", names=NAMES)
        assert message.categories == ["Follow-up", NAMES["error"], reason_category("Another")]
        mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        assert message.categories == ["Follow-up", NAMES["saved"]]

    def test_set_mark_to_none_takes_ours_away(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        remote.categorize(message, NAMES["error"], "Follow-up", reason_category("No"), "SAP Cloud for Customer")
        assert mailbox.set_mark(message.immutable_id, None, names=NAMES).categories == ("Follow-up",)

    def test_set_mark_writes_the_names_that_the_mailbox_uses(self, mailbox: Mailbox, message: StoredMessage) -> None:
        mailbox.set_mark(message.immutable_id, "saved", names=GERMAN)
        assert message.categories == ["Follow-up", GERMAN["saved"]]

    @pytest.mark.parametrize("times", [1, 2])
    def test_what_a_second_writer_adds_meanwhile_survives(
        self, mailbox: Mailbox, remote: Remote, message: StoredMessage, times: int
    ) -> None:
        remote.fail("second_writer", times=times)
        marked = mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        others = [e.detail["after"][-1] for e in remote.world.events(kind="categories") if e.actor == "second writer"]
        assert len(others) == (times if self.replaces_marks else 1)
        assert set(marked.categories) == set(message.categories) == {"Follow-up", *others, NAMES["saved"]}

    def test_others_that_never_stop_raise_conflict(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        remote.fail("second_writer", times=None)
        if not self.replaces_marks:  # what others add is not touched, so nobody is in the way
            assert NAMES["saved"] in mailbox.set_mark(message.immutable_id, "saved", names=NAMES).categories
            return
        with pytest.raises(Conflict):
            mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        assert "Follow-up" in message.categories
        assert NAMES["saved"] not in message.categories

    def test_a_message_that_already_is_so_is_not_written(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        remote.categorize(message, NAMES["saved"].upper(), "Follow-up")
        with remote.changes() as happened:
            marked = mailbox.set_mark(message.immutable_id, "saved", names=NAMES)
        assert happened == []
        assert marked.categories == (NAMES["saved"].upper(), "Follow-up")
        assert marked.etag == mailbox.head(message.rest_id).etag

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_marking_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, message: StoredMessage, kind: str
    ) -> None:
        remote.fail(kind, match=remote.marking)
        assert mailbox.set_mark(message.immutable_id, "saved", names=NAMES).categories == ("Follow-up", NAMES["saved"])
        assert message.categories == ["Follow-up", NAMES["saved"]]

    def test_answers_that_are_always_lost_raise_transient(self, mailbox: Mailbox, remote: Remote, message: StoredMessage) -> None:
        remote.fail("garbage", match=remote.marking, times=None)
        with pytest.raises(Transient):
            mailbox.set_mark(message.immutable_id, "saved", names=NAMES)

    def test_set_mark_on_what_is_not_there_raises_not_found(self, mailbox: Mailbox) -> None:
        with pytest.raises(NotFound):
            mailbox.set_mark("AAMkNobodyHasThis=", "saved", names=NAMES)

    # capabilities

    def test_capabilities_name_what_the_mailbox_can_do(self, mailbox: Mailbox) -> None:
        assert mailbox.capabilities & {"categories", "labels"}
