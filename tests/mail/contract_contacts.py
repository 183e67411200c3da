"""The promises of `server.mail.Mailbox` about our folders and the contacts in them."""

from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from datetime import UTC, timedelta
from typing import Any

import pytest

from server.domain.contact import Contact, PostalAddress
from server.domain.marks import FOLDERS, MARKS, FolderId, MarkId, reason_category
from server.errors import Conflict, NotFound, Rejected, SsiError, Unknown
from server.mail import ContactEdit, ContactItem, Mailbox, NewContact
from tests.mail.remote import Remote

NAMES: dict[MarkId, str] = {mark.id: mark.name for mark in MARKS.values()}
GERMAN: dict[FolderId, str] = {**FOLDERS, "contacts": "SAP-Kontakte", "emails": "SAP-E-Mails"}
LINK = "0f7c4d2e-contact-00163E0000000000000000000000AB12"
ADA = Contact(
    display_name="Ada Byron",
    given_name="Ada",
    surname="Byron",
    company="Engines Ltd",
    department="Analysis",
    job_title="Countess",
    emails=("ada@engines.example", "a.byron@example.com", "ada@home.example"),
    business_phone="+44 20 7946 0001",
    mobile_phone="+44 7700 900001",
    home_phone="+44 20 7946 0002",
    fax="+44 20 7946 0003",
    business_address=PostalAddress("1 Mill Lane\nHall 2", "London", "Greater London", "EC1A 1BB", "United Kingdom"),
    home_address=PostalAddress("2 Park Row", "Bath", "Somerset", "BA1 1AA", "United Kingdom"),
    web_page="https://engines.example/ada",
    notes="Met at the fair.\nLikes numbers.",
)
BOB = Contact(display_name="Bob Cole", given_name="Bob", surname="Cole", emails=("bob@example.com",))
OTHER: dict[str, Any] = {
    "emails": ("new@example.com",),
    "business_address": PostalAddress(city="Leeds"),
    "home_address": PostalAddress("3 Elm Street", "York", "", "YO1 7HH", "United Kingdom"),
    "web_page": "https://new.example/",
}
EMPTY: dict[str, Any] = {"emails": (), "business_address": PostalAddress(), "home_address": PostalAddress()}
DIFFICULT = ["It's <O'Neill> & \"co\" 100% #1; a/b\\c", "日本語 📦👩‍👩‍👧", "עברית \u202b מעורב", "e\u0301 é", "x" * 250]


def difficult(text: str) -> Contact:
    """Return a contact that has a text wherever it can."""
    emails = ("a+b'c@example.com",)
    return Contact(display_name=text, given_name=text, surname=text, company=text, notes=text + "\n" + text, emails=emails)


def people(number: int) -> list[NewContact]:
    """Return so many to be created, each with a name and a link of its own."""
    names = [str(n) for n in range(number)]
    return [
        NewContact(replace(BOB, display_name=f"Bob {n}", surname=n, emails=(f"bob{n}@example.com",)), f"link {n}") for n in names
    ]


def items_of(outcome: Sequence[ContactItem | SsiError]) -> list[ContactItem]:
    """Return the contacts, raising the first error."""
    for one in outcome:
        if isinstance(one, SsiError):
            raise one
    return [one for one in outcome if isinstance(one, ContactItem)]


def louder(contact: Contact) -> Contact:
    """An edit that must not be applied twice."""
    return replace(contact, notes=contact.notes + "!")


def after_reading(act: Callable[[], object]) -> Callable[[Contact], Contact]:
    """Return the edit `louder` which, when it is asked the first time, that is between reading and writing, also acts."""
    acts = iter([act])

    def edit(contact: Contact) -> Contact:
        for one in acts:
            one()
        return louder(contact)

    return edit


class FolderPromises:
    def test_ensure_folders_creates_what_is_missing(self, mailbox: Mailbox, remote: Remote) -> None:
        others = remote.folders
        made = mailbox.ensure_folders(GERMAN)
        assert {identifier: folder.name for identifier, folder in made.items()} == GERMAN
        assert remote.folders == others | {folder.ref: folder.name for folder in made.values()}

    def test_ensure_folders_again_changes_nothing(self, mailbox: Mailbox, remote: Remote) -> None:
        first = mailbox.ensure_folders(FOLDERS)
        with remote.changes() as happened:
            assert mailbox.ensure_folders(FOLDERS) == first
            assert mailbox.ensure_folders(FOLDERS, known={i: folder.ref for i, folder in first.items()}) == first
        assert happened == []

    @pytest.mark.parametrize("name", ["SAP Contacts", "sap CONTACTS"])
    def test_ensure_folders_uses_ours_as_the_mailbox_spells_it(self, mailbox: Mailbox, remote: Remote, name: str) -> None:
        ref = remote.add_folder("contacts", name)
        found = mailbox.ensure_folders(GERMAN)["contacts"]
        assert (found.ref, found.name) == (ref, name)

    @pytest.mark.parametrize("folder", ["emails", "contacts"])
    def test_a_folder_of_ours_that_was_renamed_gets_its_name_back(
        self, mailbox: Mailbox, remote: Remote, folder: FolderId
    ) -> None:
        first = mailbox.ensure_folders(GERMAN)
        remote.rename_folder(first[folder].ref, "Mine")
        assert mailbox.ensure_folders(GERMAN, known={i: one.ref for i, one in first.items()}) == first
        assert remote.folders[first[folder].ref] == GERMAN[folder]

    @pytest.mark.parametrize("folder", ["emails", "individual_customers"])
    def test_a_folder_that_was_deleted_is_made_anew(self, mailbox: Mailbox, remote: Remote, folder: FolderId) -> None:
        first = mailbox.ensure_folders(FOLDERS)
        remote.delete_folder(first[folder].ref)
        again = mailbox.ensure_folders(FOLDERS, known={i: one.ref for i, one in first.items()})
        assert remote.folders[again[folder].ref] == FOLDERS[folder]
        assert {i: one for i, one in again.items() if i != folder} == {i: one for i, one in first.items() if i != folder}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_ensuring_folders_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, kind: str
    ) -> None:
        remote.fail(kind, match=remote.creating_folder)
        made = mailbox.ensure_folders(FOLDERS)
        ours = {ref: name for ref, name in remote.folders.items() if name in FOLDERS.values()}
        assert ours == {folder.ref: folder.name for folder in made.values()}
        assert len(ours) == 4


class ContactPromises:
    @pytest.fixture
    def folders(self, mailbox: Mailbox) -> dict[FolderId, str]:
        return {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}

    @pytest.fixture
    def folder(self, folders: dict[FolderId, str]) -> str:
        return folders["contacts"]

    # create

    def test_a_contact_is_created_with_all_it_has_and_its_link(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        assert (made.contact, made.folder, made.link) == (ADA, folder, LINK)
        assert remote.contacts(folder) == {made.ref: ADA}
        assert remote.link_of(made.ref) == LINK
        assert mailbox.contact(made.ref) == made

    @pytest.mark.parametrize("text", DIFFICULT)
    def test_difficult_text_is_kept_as_it_is(self, mailbox: Mailbox, remote: Remote, folder: str, text: str) -> None:
        made = mailbox.create_contact(folder, difficult(text), link=LINK)
        assert made.contact == difficult(text)
        assert remote.contacts(folder) == {made.ref: difficult(text)}
        changed = mailbox.update_contact(made.ref, replace(made.contact, department=text), etag=made.etag)
        assert changed.contact == replace(difficult(text), department=text)

    def test_a_contact_without_any_name_is_created(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, Contact(emails=("nameless@example.com",), mobile_phone="+1 555 0100"), link=LINK)
        (stored,) = remote.contacts(folder).values()
        for contact in (made.contact, stored):
            assert (contact.emails, contact.mobile_phone) == (("nameless@example.com",), "+1 555 0100")
            assert (contact.given_name, contact.surname) == ("", "")

    def test_to_create_in_a_folder_that_is_not_there_raises_not_found(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        remote.delete_folder(folder)
        with pytest.raises(NotFound):
            mailbox.create_contact(folder, ADA, link=LINK)

    def test_a_value_that_the_provider_does_not_take_raises_rejected(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, BOB, link=LINK)
        remote.fail("status", status=400, match=remote.creating_contact)
        with pytest.raises(Rejected):
            mailbox.create_contact(folder, ADA, link="another")
        remote.fail("status", status=400, match=remote.updating_contact)
        with pytest.raises(Rejected):
            mailbox.update_contact(made.ref, ADA, etag=made.etag)
        assert remote.contacts(folder) == {made.ref: BOB}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_creating_makes_no_second_contact(
        self, mailbox: Mailbox, remote: Remote, folder: str, kind: str
    ) -> None:
        remote.fail(kind, match=remote.creating_contact)
        try:
            made = mailbox.create_contact(folder, ADA, link=LINK)
        except Unknown:  # where writes are seen late
            assert mailbox.find_contact(folder, LINK) is None
            made = mailbox.create_contact(folder, ADA, link=LINK)
        assert remote.contacts(folder) == {made.ref: ADA}

    def test_a_creation_of_which_nothing_is_heard_raises_unknown_and_makes_no_second_contact(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        remote.fail("acted_drop", match=remote.creating_and_looking, times=None)
        with pytest.raises(Unknown):
            mailbox.create_contact(folder, ADA, link=LINK)
        remote.heal()
        found = mailbox.find_contact(folder, LINK)
        assert found is not None
        assert remote.contacts(folder) == {found.ref: ADA}

    # contact and find_contact

    def test_a_contact_is_found_by_its_link_among_others(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        mailbox.create_contact(folder, BOB, link="somebody else")
        remote.put_contact(folder, BOB)
        made = mailbox.create_contact(folder, ADA, link=LINK)
        assert mailbox.find_contact(folder, LINK) == made
        assert mailbox.find_contact(folder, LINK[:-1]) is None

    def test_a_link_is_looked_for_in_its_folder_only(self, mailbox: Mailbox, folders: dict[FolderId, str]) -> None:
        mailbox.create_contact(folders["accounts"], ADA, link=LINK)
        assert mailbox.find_contact(folders["contacts"], LINK) is None

    @pytest.mark.parametrize("link", ["it's ' or 1 eq 1", 'a"b<c>&d', "%27 #?/+"])
    def test_a_link_is_text_and_never_a_condition(self, mailbox: Mailbox, folder: str, link: str) -> None:
        mailbox.create_contact(folder, BOB, link="another")
        assert mailbox.find_contact(folder, link) is None
        made = mailbox.create_contact(folder, ADA, link=link)
        assert mailbox.find_contact(folder, link) == made

    def test_to_find_in_a_folder_that_is_not_there_raises_not_found(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        remote.delete_folder(folder)
        with pytest.raises(NotFound):
            mailbox.find_contact(folder, LINK)

    def test_a_contact_of_the_owner_has_no_link(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        found = mailbox.contact(remote.put_contact(folder, ADA))
        assert (found.contact, found.link, found.folder) == (ADA, "", folder)

    @pytest.mark.parametrize("ref", ["AAMkNobodyHasThis=", "", "..", "../../me", "a b", "people/../x", "é"])
    def test_a_contact_that_is_not_there_raises_not_found(self, mailbox: Mailbox, ref: str) -> None:
        with pytest.raises(NotFound):
            mailbox.contact(ref)

    # update

    @pytest.mark.parametrize("name", [field.name for field in fields(Contact)])
    def test_each_value_is_changed_and_taken_away_and_the_others_stay(
        self, mailbox: Mailbox, remote: Remote, folder: str, name: str
    ) -> None:
        item = mailbox.create_contact(folder, ADA, link=LINK)
        for values in (OTHER, EMPTY):
            if values is EMPTY and name == "display_name":
                continue  # a contact is always shown under some name
            wanted = replace(item.contact, **{name: values.get(name, "" if values is EMPTY else "Other")})
            item = mailbox.update_contact(item.ref, wanted, etag=item.etag)
            assert item.contact == wanted
            assert remote.contacts(folder) == {item.ref: wanted}
        assert item.link == LINK

    def test_what_else_a_contact_holds_stays(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        ref = remote.put_contact(folder, BOB)
        remote.adorn(ref)
        remote.categorize_contact(ref, "Follow-up")
        changed = mailbox.update_contact(ref, ADA, etag=mailbox.contact(ref).etag, link=LINK)
        assert (changed.contact, changed.link, changed.categories) == (ADA, LINK, ("Follow-up",))
        assert remote.is_adorned(ref)

    def test_a_link_is_replaced_kept_and_taken_away(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        item = mailbox.create_contact(folder, BOB, link=LINK)
        for link, expected in (("new", "new"), (None, "new"), ("", "")):
            item = mailbox.update_contact(item.ref, BOB, etag=item.etag, link=link)
            assert (item.link, remote.link_of(item.ref)) == (expected, expected)
        assert mailbox.find_contact(folder, "new") is None

    def test_a_contact_that_is_so_already_is_not_written(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        with remote.changes() as happened:
            assert mailbox.update_contact(made.ref, ADA, etag=made.etag, link=LINK) == made
        assert happened == []

    @pytest.fixture(params=["update", "move", "delete"])
    def write(
        self, request: pytest.FixtureRequest, mailbox: Mailbox, folders: dict[FolderId, str]
    ) -> Callable[[str, str], object]:
        """Each method that writes to a contact with an etag: write(ref, etag)."""
        writes: dict[str, Callable[[str, str], object]] = {
            "update": lambda ref, etag: mailbox.update_contact(ref, BOB, etag=etag),
            "move": lambda ref, etag: mailbox.move_contact(ref, folders["accounts"], etag=etag),
            "delete": lambda ref, etag: mailbox.delete_contact(ref, etag=etag),
        }
        return writes[request.param]

    def test_a_contact_that_others_changed_is_not_written_and_raises_conflict(
        self, mailbox: Mailbox, remote: Remote, folder: str, write: Callable[[str, str], object]
    ) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        remote.change_contact(made.ref, notes="Theirs")
        with pytest.raises(Conflict):
            write(made.ref, made.etag)
        assert remote.contacts(folder) == {made.ref: replace(ADA, notes="Theirs")}

    def test_the_etag_of_a_contact_changes_whenever_it_does(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        assert mailbox.contact(made.ref).etag == made.etag != ""
        remote.change_contact(made.ref, notes="Theirs")
        second = mailbox.contact(made.ref)
        third = mailbox.update_contact(made.ref, BOB, etag=second.etag)
        assert len({made.etag, second.etag, third.etag}) == 3
        assert mailbox.contact(made.ref) == third

    def test_to_update_or_move_what_was_deleted_meanwhile_raises_not_found(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
        remote.drop_contact(made.ref)
        with pytest.raises(NotFound):
            mailbox.update_contact(made.ref, BOB, etag=made.etag)
        with pytest.raises(NotFound):
            mailbox.move_contact(made.ref, folders["accounts"], etag=made.etag)
        assert remote.contacts(folders["accounts"]) == {}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_updating_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, folder: str, kind: str
    ) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        remote.fail(kind, match=remote.updating_contact)
        changed = mailbox.update_contact(made.ref, BOB, etag=made.etag)
        assert changed.contact == BOB
        assert remote.contacts(folder) == {made.ref: BOB}
        assert mailbox.contact(made.ref) == changed

    # create_contacts

    def test_many_are_created_in_their_order_with_their_links_in_few_requests(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        new = people(45)
        before = remote.requests()
        made = items_of(mailbox.create_contacts(folder, new))
        assert remote.requests() - before <= remote.requests_to_create
        assert [(item.contact, item.link, item.folder) for item in made] == [(one.contact, one.link, folder) for one in new]
        assert remote.contacts(folder) == {item.ref: item.contact for item in made}
        assert remote.link_of(made[-1].ref) == new[-1].link
        for item in made[::22]:
            assert mailbox.contact(item.ref) == item

    def test_to_create_or_update_none_asks_nobody(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        before = remote.requests()
        assert (mailbox.create_contacts(folder, []), mailbox.update_contacts([])) == ([], [])
        assert remote.requests() == before

    def test_one_that_is_refused_keeps_no_other_from_being_created(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        new = people(5)
        new[2] = NewContact(remote.refused, new[2].link)
        outcome = mailbox.create_contacts(folder, new)
        assert isinstance(outcome[2], Rejected)
        del outcome[2], new[2]
        assert [item.contact for item in items_of(outcome)] == [one.contact for one in new]
        assert remote.contacts(folder) == {item.ref: item.contact for item in items_of(outcome)}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_creating_many_makes_no_double(
        self, mailbox: Mailbox, remote: Remote, folder: str, kind: str
    ) -> None:
        new = people(5)
        remote.fail(kind, match=remote.creating_contacts)
        outcome = mailbox.create_contacts(folder, new)
        for n, (one, asked) in enumerate(zip(outcome, new, strict=True)):
            if isinstance(one, Unknown):  # where writes are seen late
                found = mailbox.find_contact(folder, asked.link)
                outcome[n] = found or mailbox.create_contact(folder, asked.contact, link=asked.link)
        assert [(item.contact, item.link) for item in items_of(outcome)] == [(one.contact, one.link) for one in new]
        assert remote.contacts(folder) == {item.ref: item.contact for item in items_of(outcome)}

    def test_many_of_which_nothing_is_heard_are_unknown_and_not_doubled(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        new = people(3)
        remote.fail("acted_drop", match=remote.creating_and_looking, times=None)
        assert [type(one) for one in mailbox.create_contacts(folder, new)] == [Unknown] * 3
        remote.heal()
        found = [mailbox.find_contact(folder, one.link) for one in new]
        assert remote.contacts(folder) == {item.ref: one.contact for item, one in zip(found, new, strict=True) if item}
        assert None not in found

    def test_to_create_many_in_a_folder_that_is_not_there_raises_not_found(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        remote.delete_folder(folder)
        with pytest.raises(NotFound):
            mailbox.create_contacts(folder, people(3))

    def test_difficult_text_of_many_is_kept_as_it_is(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        wanted = [difficult(text) for text in DIFFICULT]
        made = items_of(mailbox.create_contacts(folder, [NewContact(one, f"link {n}") for n, one in enumerate(wanted)]))
        assert [item.contact for item in made] == wanted
        edits = [ContactEdit(item.ref, item.etag, lambda c: replace(c, department=c.surname)) for item in made]
        changed = items_of(mailbox.update_contacts(edits))
        assert [item.contact for item in changed] == [replace(one, department=one.surname) for one in wanted]
        assert remote.contacts(folder) == {item.ref: item.contact for item in changed}

    def test_a_pause_asked_for_in_the_middle_is_outlived(
        self, mailbox: Mailbox, remote: Remote, folder: str, sleeps: list[float]
    ) -> None:
        for kind in ("status", "throttled"):  # of a whole request; of a part, where parts are judged alone
            remote.fail(kind, status=429, retry_after_s=1, match=remote.creating_contacts)
        made = items_of(mailbox.create_contacts(folder, people(5)))
        assert len(remote.contacts(folder)) == len(made) == 5
        remote.heal()
        edit = after_reading(lambda: remote.fail("status", status=429, retry_after_s=1, match=remote.updating_contacts))
        assert len(items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, edit) for item in made]))) == 5
        assert [contact.notes for contact in remote.contacts(folder).values()] == ["!"] * 5
        assert sum(sleeps) >= 2

    # update_contacts

    def test_many_are_given_what_is_made_of_what_they_are_in_few_requests(
        self, mailbox: Mailbox, remote: Remote, folder: str
    ) -> None:
        made = items_of(mailbox.create_contacts(folder, people(45)))
        edits = [ContactEdit(item.ref, item.etag, louder, link="new" if n == 44 else None) for n, item in enumerate(made)]
        remote.adorn(made[7].ref)
        edits[7] = replace(edits[7], etag=mailbox.contact(made[7].ref).etag)
        before = remote.requests()
        changed = items_of(mailbox.update_contacts(edits))
        assert remote.requests() - before <= remote.requests_to_update
        assert [item.contact for item in changed] == [replace(item.contact, notes="!") for item in made]
        assert [item.link for item in changed] == [*(item.link for item in made[:-1]), "new"]
        assert remote.contacts(folder) == {item.ref: item.contact for item in changed}
        assert remote.is_adorned(made[7].ref)
        for item in changed[::22]:
            assert mailbox.contact(item.ref) == item

    def test_what_cannot_be_changed_keeps_no_other_from_it(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = items_of(mailbox.create_contacts(folder, people(6)))
        contacts = [item.contact for item in made]
        remote.change_contact(made[1].ref, notes="Theirs")
        remote.drop_contact(made[2].ref)
        edits = [ContactEdit(item.ref, item.etag, louder) for item in made]
        edits[3] = replace(edits[3], edit=lambda _: remote.refused)
        edits[4] = replace(edits[4], ref="AAMkNobodyHasThis=")
        outcome = mailbox.update_contacts(edits)
        assert [type(one) for one in outcome] == [ContactItem, Conflict, NotFound, Rejected, NotFound, ContactItem]
        assert remote.contacts(folder) == {
            made[0].ref: louder(contacts[0]),
            made[1].ref: replace(contacts[1], notes="Theirs"),
            made[3].ref: contacts[3],
            made[4].ref: contacts[4],
            made[5].ref: louder(contacts[5]),
        }

    def test_those_that_are_so_already_are_not_written(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = items_of(mailbox.create_contacts(folder, people(3)))
        edits = [ContactEdit(item.ref, item.etag, lambda contact: contact, link=item.link) for item in made]
        with remote.changes() as happened:
            assert mailbox.update_contacts(edits) == made
        assert happened == []
        (changed,) = items_of(mailbox.update_contacts([ContactEdit(made[0].ref, made[0].etag, louder)]))
        with remote.changes() as happened:
            assert [type(one) for one in mailbox.update_contacts(edits)] == [Conflict, ContactItem, ContactItem]
        assert happened == []
        assert remote.contacts(folder)[made[0].ref] == changed.contact

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_updating_many_is_settled_and_nothing_is_changed_twice(
        self, mailbox: Mailbox, remote: Remote, folder: str, kind: str
    ) -> None:
        made = items_of(mailbox.create_contacts(folder, people(3)))
        edit = after_reading(lambda: remote.fail(kind, match=remote.updating_contacts))
        changed = items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, edit) for item in made]))
        assert [item.contact.notes for item in changed] == ["!"] * 3
        assert remote.contacts(folder) == {item.ref: item.contact for item in changed}
        assert [mailbox.contact(item.ref) for item in changed] == changed

    # changed_at

    def test_a_contact_tells_when_it_was_changed_the_last_time(
        self, mailbox: Mailbox, remote: Remote, folder: str, forward: Callable[..., None]
    ) -> None:
        mailbox.ensure_marks(NAMES)
        item = mailbox.create_contact(folder, BOB, link=LINK)

        def by_other() -> ContactItem:
            remote.change_contact(item.ref, notes="Theirs")
            return mailbox.contact(item.ref)

        def by_mark() -> ContactItem:
            mailbox.set_contact_mark(item.ref, "saved", names=NAMES)
            return mailbox.contact(item.ref)

        def many() -> ContactItem:
            return items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder)]))[0]

        changes: list[Callable[[], ContactItem]] = [
            lambda: item,
            lambda: mailbox.update_contact(item.ref, ADA, etag=item.etag),
            many,
            by_other,
            by_mark,
            lambda: items_of(mailbox.create_contacts(folder, people(1)))[0],
        ]
        for change in changes:
            item = change()
            read = mailbox.contact(item.ref).changed_at
            assert read is not None
            assert read.tzinfo is UTC
            assert abs(read - remote.world.now()) < timedelta(seconds=30)
            assert item.changed_at in (read, None)  # not every answer to a write tells it
            forward(minutes=1)

    # move

    def test_a_moved_contact_keeps_all_it_holds(self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
        remote.adorn(made.ref)
        remote.categorize_contact(made.ref, "Follow-up")
        moved = mailbox.move_contact(made.ref, folders["accounts"], etag=mailbox.contact(made.ref).etag)
        assert (moved.contact, moved.link, moved.folder, moved.categories) == (ADA, LINK, folders["accounts"], ("Follow-up",))
        assert mailbox.contact(moved.ref) == moved
        assert remote.contacts(folders["contacts"]) == {}
        assert remote.contacts(folders["accounts"]) == {moved.ref: ADA}
        assert remote.is_adorned(moved.ref)

    def test_to_move_to_a_folder_that_is_not_there_raises_not_found(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str]
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
        remote.delete_folder(folders["accounts"])
        with pytest.raises(NotFound):
            mailbox.move_contact(made.ref, folders["accounts"], etag=made.etag)
        assert remote.contacts(folders["contacts"]) == {made.ref: ADA}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_moving_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, folders: dict[FolderId, str], kind: str
    ) -> None:
        made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
        remote.fail(kind, match=remote.moving_contact)
        moved = mailbox.move_contact(made.ref, folders["accounts"], etag=made.etag)
        assert remote.contacts(folders["contacts"]) == {}
        assert remote.contacts(folders["accounts"]) == {moved.ref: ADA}

    # delete

    def test_a_deleted_contact_can_be_had_back_by_its_owner(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        mailbox.delete_contact(made.ref, etag=made.etag)
        assert remote.contacts(folder) == {}
        assert remote.is_trashed(ADA)
        assert mailbox.find_contact(folder, LINK) is None
        with pytest.raises(NotFound):
            mailbox.contact(made.ref)

    def test_to_delete_what_is_gone_is_no_error(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        remote.drop_contact(made.ref)
        mailbox.delete_contact(made.ref, etag=made.etag)
        assert remote.contacts(folder) == {}

    @pytest.mark.parametrize("kind", ["acted_drop", "garbage"])
    def test_an_answer_lost_while_deleting_is_settled_by_reading_again(
        self, mailbox: Mailbox, remote: Remote, folder: str, kind: str
    ) -> None:
        made = mailbox.create_contact(folder, ADA, link=LINK)
        remote.fail(kind, match=remote.deleting_contact)
        mailbox.delete_contact(made.ref, etag=made.etag)
        assert remote.contacts(folder) == {}

    # set_contact_mark

    def test_a_contact_is_marked_as_a_message_is(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        mailbox.ensure_marks(NAMES)
        ref = remote.put_contact(folder, ADA)
        remote.adorn(ref)
        remote.categorize_contact(ref, "Follow-up")
        marked = mailbox.set_contact_mark(ref, "error", reason="No company", names=NAMES)
        assert set(marked.categories) == {"Follow-up", NAMES["error"], reason_category("No company")}
        assert set(remote.categories_of(ref)) == set(marked.categories)
        assert marked.etag == mailbox.contact(ref).etag
        assert set(mailbox.set_contact_mark(ref, "saved", names=NAMES).categories) == {"Follow-up", NAMES["saved"]}
        assert mailbox.set_contact_mark(ref, None, names=NAMES).categories == ("Follow-up",)
        assert remote.contacts(folder) == {ref: ADA}
        assert remote.is_adorned(ref)

    def test_a_contact_that_is_marked_so_already_is_not_written(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        mailbox.ensure_marks(NAMES)
        ref = remote.put_contact(folder, ADA)
        first = mailbox.set_contact_mark(ref, "saved", names=NAMES)
        with remote.changes() as happened:
            assert mailbox.set_contact_mark(ref, "saved", names=NAMES) == first
        assert happened == []

    def test_to_mark_a_contact_that_is_not_there_raises_not_found(self, mailbox: Mailbox, remote: Remote, folder: str) -> None:
        ref = remote.put_contact(folder, ADA)
        remote.drop_contact(ref)
        with pytest.raises(NotFound):
            mailbox.set_contact_mark(ref, "saved", names=NAMES)
