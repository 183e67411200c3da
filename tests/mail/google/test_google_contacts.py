"""What only concerns contacts at Google: groups for folders, Google's forms of names, and writes that meet."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId
from server.errors import Conflict, NotFound, RateLimited, Rejected, Transient, Unknown
from server.mail import ContactEdit, ContactItem, NewContact
from server.mail.google import GoogleMailbox
from server.mail.google.contacts import changed_at
from simulator.google.book import MY_CONTACTS, groups_of, memberships
from simulator.google.people import PeopleService
from tests.mail.contract_changes import Reader
from tests.mail.contract_contacts import ADA, BOB, LINK, NAMES, after_reading, items_of, louder, people
from tests.mail.google.remote import GoogleRemote

ROUNDS = 100


@pytest.fixture
def folders(mailbox: GoogleMailbox) -> dict[FolderId, str]:
    return {folder: one.ref for folder, one in mailbox.ensure_folders(FOLDERS).items()}


@pytest.fixture
def folder(folders: dict[FolderId, str]) -> str:
    return folders["contacts"]


def test_each_question_takes_few_requests(mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]) -> None:
    def asked() -> int:
        return len(remote.world.requests("google"))

    seen = [asked()]
    made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    seen.append(asked())
    found = mailbox.find_contact(folders["contacts"], LINK)
    seen.append(asked())
    changed = mailbox.update_contact(made.ref, BOB, etag=made.etag)
    seen.append(asked())
    moved = mailbox.move_contact(made.ref, folders["accounts"], etag=changed.etag)
    seen.append(asked())
    mailbox.delete_contact(moved.ref, etag=moved.etag)
    seen.append(asked())
    assert found == made
    assert [after - before for before, after in pairwise(seen)] == [2, 1, 2, 2, 2]


@pytest.mark.soak
def test_4500_contacts_are_created_in_24_requests_and_a_round_without_changes_takes_two(
    mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]
) -> None:
    reader = Reader(mailbox, folders)
    before = remote.requests()
    made = items_of(mailbox.create_contacts(folders["contacts"], people(4_500)))
    assert remote.requests() - before == 1 + 23  # the groups; 200 with each
    assert len(remote.contacts(folders["contacts"])) == len({item.ref for item in made}) == 4_500
    assert {contact.ref for contact in reader.round().contacts} == {item.ref for item in made}
    before = remote.requests()
    reader.round()
    assert remote.requests() - before == 2


def test_450_contacts_are_created_in_four_requests_and_changed_in_six(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    before = remote.requests()
    made = items_of(mailbox.create_contacts(folder, people(450)))
    assert remote.requests() - before == 1 + 3  # the groups; 200 with each
    before = remote.requests()
    changed = items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made]))
    assert remote.requests() - before == 3 * 2  # 200 are read, then written
    assert [item.contact for item in changed] == [replace(item.contact, notes="!") for item in made]


# Values


def test_what_changes_of_one_is_left_alone_of_the_others_that_are_written_with_it(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    refs = [remote.put_contact(folder, ADA, link=f"link {n}") for n in range(3)]
    emails = [{"value": "b@example.com"}, {"value": "a@example.com", "metadata": {"sourcePrimary": True}}]
    for ref in refs:
        remote.adorn(ref)
        remote.put(ref, emailAddresses=emails)
    items = [mailbox.contact(ref) for ref in refs]
    before = {ref: remote.book.contacts[ref].content for ref in refs}
    edits = [
        ContactEdit(items[0].ref, items[0].etag, louder),
        ContactEdit(items[1].ref, items[1].etag, lambda contact: replace(contact, given_name="", emails=("c@example.com",))),
        ContactEdit(items[2].ref, items[2].etag, lambda contact: contact, link="new"),
    ]
    items_of(mailbox.update_contacts(edits))
    changed = []
    for ref in refs:
        now = remote.book.contacts[ref].content
        changed.append({field for field in before[ref].keys() | now.keys() if before[ref].get(field) != now.get(field)})
        assert remote.is_adorned(ref)
    assert changed == [{"biographies"}, {"names", "emailAddresses"}, {"clientData"}]


def test_what_a_contact_of_ours_has_no_place_for_stays(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    ref = remote.put_contact(folder, ADA)
    content = remote.book.contacts[ref].content
    emails = [{"value": f"{n}@example.com", "type": "home", "displayName": "Ada"} for n in range(5)]
    phones = [*content["phoneNumbers"], {"type": "home", "value": "second"}, {"type": "Boat", "value": "third"}]
    job = [content["organizations"][0] | {"location": "Ockham"}, {"name": "Royal Society"}]
    remote.put(ref, emailAddresses=emails, phoneNumbers=phones, organizations=job)
    item = mailbox.contact(ref)
    assert item.contact.emails == ("0@example.com", "1@example.com", "2@example.com")
    wanted = replace(item.contact, emails=("1@example.com", "new@example.com"), home_phone="first", company="Mills")
    assert mailbox.update_contact(ref, wanted, etag=item.etag).contact == wanted
    content = remote.book.contacts[ref].content
    assert content["emailAddresses"] == [emails[1], {"value": "new@example.com"}, emails[3], emails[4]]
    assert [p["value"] for p in content["phoneNumbers"] if p["type"] in ("home", "Boat")] == ["first", "second", "third"]
    assert content["organizations"] == [job[0] | {"name": "Mills"}, job[1]]


@pytest.mark.parametrize("wanted", [(), ("n@x.example",), ("1@x.example", "n@x.example"), ("4@x.example", "n@x.example")])
def test_of_more_addresses_than_a_contact_shows_the_last_stay_unseen(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, wanted: tuple[str, ...]
) -> None:
    ref = remote.put_contact(folder, ADA, link=LINK)
    remote.put(ref, emailAddresses=[{"value": f"{n}@x.example"} for n in range(5)])
    item = mailbox.contact(ref)
    contact = replace(item.contact, emails=wanted)
    remote.fail("acted_drop", match=":updateContact")
    changed = mailbox.update_contact(ref, contact, etag=item.etag)
    assert (changed.contact, changed.link) == (contact, LINK)
    with remote.changes() as happened:
        assert mailbox.update_contact(ref, contact, etag=changed.etag, link=LINK) == changed
    assert happened == []
    moved_on = mailbox.update_contact(ref, contact, etag=changed.etag, link="another")
    assert (moved_on.contact, moved_on.link) == (contact, "another")
    kept = [email["value"] for email in remote.book.contacts[ref].content["emailAddresses"]]
    assert kept == [*wanted, *(email for email in ("3@x.example", "4@x.example") if email not in wanted)]
    changed = mailbox.update_contact(ref, replace(contact, emails=("z@x.example",)), etag=moved_on.etag, link=LINK)
    assert (changed.contact.emails, changed.link) == (("z@x.example",), LINK)


def test_the_main_address_comes_first_wherever_it_stands(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    emails = [{"value": "b@example.com"}, {"value": "a@example.com", "metadata": {"sourcePrimary": True}}]
    ref = remote.put("", emailAddresses=emails, memberships=memberships([MY_CONTACTS, folder]))
    item = mailbox.contact(ref)
    assert item.contact.emails == ("a@example.com", "b@example.com")
    changed = mailbox.update_contact(ref, replace(item.contact, emails=("b@example.com", "a@example.com")), etag=item.etag)
    assert changed.contact.emails == ("b@example.com", "a@example.com")


def test_a_company_gets_no_name_of_a_person(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    company = Contact(display_name="Engines Ltd", company="Engines Ltd")
    made = mailbox.create_contact(folder, company, link=LINK)
    assert made.contact == company
    assert "names" not in remote.book.contacts[made.ref].content
    assert mailbox.update_contact(made.ref, company, etag=made.etag) == made


def test_the_parts_that_google_guesses_of_a_name_are_left_alone(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    shown = Contact(display_name="Ada King Byron", company="Engines Ltd")
    made = mailbox.create_contact(folder, shown, link=LINK)
    assert (made.contact.given_name, made.contact.surname) == ("Ada King", "Byron")
    with remote.changes() as happened:
        assert mailbox.update_contact(made.ref, shown, etag=made.etag) == made
    assert happened == []


def test_a_middle_name_stays_when_a_part_of_the_name_changes(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    name = {"givenName": "Ada", "middleName": "King", "familyName": "Byron"}
    ref = remote.put("", names=[name], memberships=memberships([folder]))
    item = mailbox.contact(ref)
    assert item.contact.display_name == "Ada King Byron"
    mailbox.update_contact(ref, replace(item.contact, given_name="Augusta", display_name="Augusta King Byron"), etag=item.etag)
    (kept,) = remote.book.contacts[ref].content["names"]
    assert (kept["givenName"], kept["middleName"], kept["familyName"]) == ("Augusta", "King", "Byron")


def test_when_a_contact_was_changed_is_not_when_the_profile_was_that_google_linked_it_with() -> None:
    sources = [
        {"type": "PROFILE", "updateTime": "2026-11-23T09:00:00Z"},
        {"type": "CONTACT", "updateTime": "2026-11-20T08:00:00.123456789Z"},
    ]
    assert changed_at({"metadata": {"sources": sources}}) == datetime(2026, 11, 20, 8, 0, 0, 123456, UTC)
    assert changed_at({"metadata": {"sources": sources[:1]}}) is None


# Groups


def test_a_contact_in_two_of_our_folders_is_in_the_first(
    mailbox: GoogleMailbox, remote: GoogleRemote, folders: dict[FolderId, str]
) -> None:
    ref = remote.put_contact(folders["accounts"], BOB)
    remote.put(ref, memberships=memberships([folders["individual_customers"], folders["accounts"], MY_CONTACTS]))
    item = mailbox.contact(ref)
    assert (item.folder, item.categories) == (folders["accounts"], ())
    moved = mailbox.move_contact(ref, folders["contacts"], etag=item.etag)
    assert moved.folder == folders["contacts"]
    assert set(groups_of(remote.book.contacts[ref].content)) == {MY_CONTACTS, folders["contacts"]}


def test_groups_of_google_are_no_folders_and_no_categories(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    starred = "contactGroups/starred"
    ref = remote.put_contact(folder, BOB)
    remote.put(ref, memberships=memberships([starred, MY_CONTACTS, folder]))
    assert mailbox.contact(ref).categories == ()
    mailbox.set_contact_mark(ref, "saved", names=NAMES)
    mailbox.set_contact_mark(ref, None, names=NAMES)
    assert groups_of(remote.book.contacts[ref].content) == [starred, MY_CONTACTS, folder]


def test_a_contact_whose_mark_was_its_only_group_stays_among_my_contacts(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    mark = remote.add_folder("contacts", NAMES["saved"])
    ref = remote.put("", names=[{"givenName": "Ada"}], memberships=memberships([mark]))
    item = mailbox.contact(ref)
    assert (item.folder, item.categories) == (MY_CONTACTS, (NAMES["saved"],))
    assert mailbox.set_contact_mark(ref, None, names=NAMES).categories == ()
    assert groups_of(remote.book.contacts[ref].content) == [MY_CONTACTS]
    assert mailbox.move_contact(ref, folder, etag=mailbox.contact(ref).etag).folder == folder


def test_more_groups_than_a_page_are_known(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    names = [f"Group {number}" for number in range(1_001)]
    for name in names:
        remote.add_folder("contacts", name)
    ref = remote.put_contact(folder, BOB)
    remote.categorize_contact(ref, names[-1])
    assert mailbox.contact(ref).categories == (names[-1],)


def test_a_group_deleted_in_the_middle_of_marking_is_made_anew(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    mailbox = meddling(":updateContact", lambda: remote.delete_folder(groups[NAMES["saved"]]))
    folder = mailbox.ensure_folders(FOLDERS)["contacts"].ref
    remote.add_folder("contacts", NAMES["saved"])
    groups = {name: ref for ref, name in remote.groups.items()}
    ref = remote.put_contact(folder, BOB)
    assert mailbox.set_contact_mark(ref, "saved", names=NAMES).categories == (NAMES["saved"],)
    assert remote.categories_of(ref) == [NAMES["saved"]]
    assert groups[NAMES["saved"]] not in remote.groups


# Some of many that fail


@pytest.mark.parametrize(("is_named", "most"), [(True, 5), (False, 35)])
def test_those_that_google_refuses_are_told_and_the_others_are_created(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, is_named: bool, most: int
) -> None:
    if not is_named:
        remote.fail("unnamed", times=None)
    new = people(250)
    for number in (199, 249):
        new[number] = replace(new[number], contact=remote.refused)
    before = remote.requests()
    outcome = mailbox.create_contacts(folder, new)
    assert remote.requests() - before <= most
    assert [n for n, told in enumerate(outcome) if isinstance(told, Rejected)] == [199, 249]
    items = [told for told in outcome if isinstance(told, ContactItem)]
    assert [(item.contact, item.link) for item in items] == [(one.contact, one.link) for one in new if one.contact.emails]
    assert remote.contacts(folder) == {item.ref: item.contact for item in items}


@pytest.mark.parametrize(("is_named", "most"), [(True, 3), (False, 16)])
def test_those_that_somebody_changed_or_google_refuses_are_told_and_the_others_are_updated(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, is_named: bool, most: int
) -> None:
    if not is_named:
        remote.fail("unnamed", times=None)
    made = items_of(mailbox.create_contacts(folder, people(6)))
    edit = after_reading(lambda: (remote.change_contact(made[2].ref, notes="Theirs"), remote.drop_contact(made[4].ref)))
    edits = [ContactEdit(item.ref, item.etag, edit) for item in made]
    edits[3] = replace(edits[3], edit=lambda _: remote.refused)
    before = remote.requests()
    outcome = mailbox.update_contacts(edits)
    assert remote.requests() - before <= most
    assert [type(told) for told in outcome] == [ContactItem, ContactItem, Conflict, Rejected, NotFound, ContactItem]
    assert [contact.notes for contact in remote.contacts(folder).values()] == ["!", "!", "Theirs", "", "!"]


def test_a_contact_that_was_written_but_is_not_shown_is_looked_for(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    remote.fail("unshown", match=":batchCreateContacts")
    made = items_of(mailbox.create_contacts(folder, people(3)))
    assert remote.contacts(folder) == {item.ref: item.contact for item in made}
    remote.fail("unshown", match=":batchUpdateContacts")
    changed = items_of(mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made]))
    assert [item.contact.notes for item in changed] == ["!"] * 3
    remote.fail("unshown", match=":batchGet")
    outcome = mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in changed])
    assert [type(told) for told in outcome] == [Transient, ContactItem, ContactItem]
    assert [contact.notes for contact in remote.contacts(folder).values()] == ["!", "!!", "!!"]


def test_an_update_of_many_that_is_never_confirmed_can_be_tried_again(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    made = items_of(mailbox.create_contacts(folder, people(2)))
    remote.fail("drop", match=":batchUpdateContacts", times=None)
    outcome = mailbox.update_contacts([ContactEdit(item.ref, item.etag, louder) for item in made])
    assert [type(told) for told in outcome] == [Transient, Transient]
    assert remote.contacts(folder) == {item.ref: item.contact for item in made}


def test_a_group_that_is_deleted_before_many_are_created_raises_not_found(
    meddling: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    mailbox = meddling(":batchCreateContacts", lambda: remote.delete_folder(folder))
    folder = mailbox.ensure_folders(FOLDERS)["contacts"].ref
    with pytest.raises(NotFound):
        mailbox.create_contacts(folder, people(3))
    assert all(item.is_deleted for item in remote.book.contacts.values())


# Writers that meet


def test_somebody_who_was_faster_is_not_overwritten(mailbox: GoogleMailbox, remote: GoogleRemote, folder: str) -> None:
    made = mailbox.create_contact(folder, ADA, link=LINK)
    remote.fail("etag_race")
    with pytest.raises(Conflict):
        mailbox.update_contact(made.ref, BOB, etag=made.etag)
    assert remote.contacts(folder) == {made.ref: ADA}
    assert remote.book.contacts[made.ref].content["nicknames"] == [{"value": "Changed by another client"}]
    remote.fail("etag_race", times=2)
    assert mailbox.set_contact_mark(made.ref, "saved", names=NAMES).categories == (NAMES["saved"],)
    remote.fail("etag_race", times=None)
    with pytest.raises(Conflict):
        mailbox.set_contact_mark(made.ref, "share", names=NAMES)
    assert remote.categories_of(made.ref) == [NAMES["saved"]]


def test_of_two_writers_in_a_hundred_races_nothing_is_lost(
    open_mailbox: Callable[..., GoogleMailbox], remote: GoogleRemote
) -> None:
    """Each adds a line of its own to the notes, reading again when it was too late."""
    ours, theirs = open_mailbox(), open_mailbox()
    folder = ours.ensure_folders(FOLDERS)["contacts"].ref
    ref = ours.create_contact(folder, BOB, link=LINK).ref

    def write(mailbox: GoogleMailbox, line: str) -> None:
        while True:
            item = mailbox.contact(ref)
            try:
                mailbox.update_contact(ref, replace(item.contact, notes=f"{item.contact.notes}\n{line}"), etag=item.etag)
            except Conflict:
                continue
            return

    with ThreadPoolExecutor(2) as pool:
        for number in range(ROUNDS):
            list(pool.map(write, (ours, theirs), (f"ours {number}", f"theirs {number}")))
    lines = remote.contacts(folder)[ref].notes.strip().splitlines()
    assert sorted(lines) == sorted(f"{who} {number}" for who in ("ours", "theirs") for number in range(ROUNDS))


def test_the_writes_of_a_mailbox_go_one_after_another(
    mailbox: GoogleMailbox, remote: GoogleRemote, people: PeopleService, folder: str
) -> None:
    people.write_s = 0.02
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: mailbox.create_contact(folder, BOB, link=str(n)), range(8)))
        list(pool.map(lambda n: items_of(mailbox.create_contacts(folder, [NewContact(ADA, f"link {n}")])), range(8)))
    assert len(remote.contacts(folder)) == 16
    assert 409 not in {access.status for access in remote.world.requests("google")}


def test_a_write_that_meets_another_process_is_tried_again(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, sleeps: list[float]
) -> None:
    made = mailbox.create_contact(folder, ADA, link=LINK)
    remote.fail("status", status=409, match=":updateContact", times=2)
    assert mailbox.update_contact(made.ref, BOB, etag=made.etag).contact == BOB
    assert len(sleeps) == 2
    remote.fail("status", status=409, match=":deleteContact", times=None)
    with pytest.raises(Transient):
        mailbox.delete_contact(made.ref, etag=mailbox.contact(made.ref).etag)


# Answers that are lost or late


def test_a_contact_that_google_does_not_show_yet_is_not_made_twice(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, forward: Callable[..., None]
) -> None:
    remote.book.delay = timedelta(minutes=5)
    remote.fail("acted_drop", match=":createContact")
    with pytest.raises(Unknown):
        mailbox.create_contact(folder, ADA, link=LINK)
    assert mailbox.find_contact(folder, LINK) is None
    forward(minutes=6)
    found = mailbox.find_contact(folder, LINK)
    assert found is not None
    assert remote.contacts(folder) == {found.ref: ADA}


def test_many_contacts_that_google_does_not_show_yet_are_not_made_twice(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, forward: Callable[..., None]
) -> None:
    remote.book.delay = timedelta(minutes=5)
    remote.fail("acted_drop", match=":batchCreateContacts")
    new = people(250)
    outcome = mailbox.create_contacts(folder, new)
    assert [type(told) for told in outcome] == [Unknown] * 200 + [ContactItem] * 50
    assert len(remote.contacts(folder)) == 250
    forward(minutes=6)
    assert all(mailbox.find_contact(folder, one.link) for one in (new[0], new[199]))


def test_many_of_which_the_answer_was_lost_are_found_by_one_look(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str
) -> None:
    remote.fail("acted_drop", match=":batchCreateContacts", times=2)
    before = remote.requests()
    made = items_of(mailbox.create_contacts(folder, people(450)))
    assert remote.requests() - before == 1 + 3 + 1
    assert remote.contacts(folder) == {item.ref: item.contact for item in made}


@pytest.mark.parametrize("kind", ["html", "rateLimitExceeded"])
def test_who_cannot_look_for_what_may_have_been_made_says_unknown(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, kind: str
) -> None:
    remote.fail("acted_drop", match=":createContact")
    remote.fail(kind, match="people/me/connections" if kind == "rateLimitExceeded" else "POST /batch", times=None)
    with pytest.raises(Unknown):
        mailbox.create_contact(folder, ADA, link=LINK)
    remote.heal()
    assert mailbox.find_contact(folder, LINK) is not None


@pytest.mark.parametrize("pause", [None, 2])
def test_the_quota_for_contacts_is_waited_for(
    mailbox: GoogleMailbox, remote: GoogleRemote, folder: str, sleeps: list[float], pause: int | None
) -> None:
    made = mailbox.create_contact(folder, ADA, link=LINK)
    remote.fail("status", status=429, retry_after_s=pause, match=":updateContact", times=1)
    assert mailbox.update_contact(made.ref, BOB, etag=made.etag).contact == BOB
    assert sleeps == [pause or 0.5]
    remote.fail("rateLimitExceeded", match="/v1/people", times=None)
    with pytest.raises(RateLimited):
        mailbox.contact(made.ref)
