"""What only concerns Exchange about changes and contacts: what a round costs, what ends a subscription, and who meets whom."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import pytest

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, FolderId
from server.errors import Conflict, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail import ContactEdit, ContactItem, Gone
from server.mail.exchange import ExchangeMailbox, Login, failures
from server.mail.exchange.changes import LOOKS, PAGE
from simulator.ews.sync import EVENTS_AT_ONCE
from simulator.world import Gate, StoredContact
from tests.ews_contract import Recorder
from tests.mail.contract import NAMES, mime as mime_of
from tests.mail.contract_changes import Reader
from tests.mail.contract_contacts import ADA, BOB, LINK, items_of, louder, people
from tests.mail.exchange.remote import SERVICE, ExchangeRemote, Open


@pytest.fixture
def folders(mailbox: ExchangeMailbox) -> dict[FolderId, str]:
    return {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}


@pytest.fixture
def reader(mailbox: ExchangeMailbox, folders: dict[FolderId, str]) -> Reader:
    """A reader that has read everything."""
    reader = Reader(mailbox, folders)
    reader.round()
    return reader


Asked = Callable[[Callable[[], object]], list[str]]


@pytest.fixture
def asked(remote: ExchangeRemote) -> Asked:
    """Do something and say which operations that took."""

    def asked(do: Callable[[], object]) -> list[str]:
        before = len(remote.operations())
        do()
        return remote.operations()[before:]

    return asked


# What it costs


def test_the_beginning_costs_one_request_for_each_folder_and_two_to_follow_them(reader: Reader, asked: Asked) -> None:
    reader.cursor = None
    assert asked(reader.round) == ["GetFolder", "Subscribe", *["SyncFolderItems"] * 6]


def test_what_changed_costs_one_request_for_each_folder_it_is_in_and_one_for_the_contacts_themselves(
    remote: ExchangeRemote, reader: Reader, asked: Asked
) -> None:
    assert asked(reader.round) == ["GetEvents"]
    remote.receive(mime_of())
    assert asked(reader.round) == ["GetEvents", "SyncFolderItems"]
    for number in range(3):
        remote.put_contact(reader.folders["contacts"], Contact(display_name=f"Person {number}"))
    assert asked(reader.round) == ["GetEvents", "SyncFolderItems", "GetItem"]
    assert asked(reader.round) == ["GetEvents"]


def test_a_hundred_messages_are_marked_by_two_requests(mailbox: ExchangeMailbox, remote: ExchangeRemote, asked: Asked) -> None:
    refs = [mailbox.head(remote.receive(mime_of(f"<m{n}@example.com>")).rest_id).ref for n in range(100)]
    assert asked(lambda: mailbox.set_marks(refs, "saved", names=NAMES)) == ["GetItem", "UpdateItem"]
    assert asked(lambda: mailbox.set_marks(refs, "saved", names=NAMES)) == ["GetItem"]


def test_another_process_looks_a_hundred_messages_up_by_one_search(
    open_mailbox: Open, remote: ExchangeRemote, asked: Asked
) -> None:
    refs = [remote.receive(mime_of(f"<m{n}@example.com>")).immutable_id for n in range(100)]
    said = asked(lambda: open_mailbox().set_marks(refs, "saved", names=NAMES))
    assert said == ["FindFolder", *["FindItem"] * said.count("FindItem"), "UpdateItem"]
    assert said.count("FindItem") <= 2  # a page holds a hundred
    assert all(remote.state.messages[ref].categories == [NAMES["saved"]] for ref in refs)


def test_what_clashed_among_many_is_written_again_and_nothing_else(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, asked: Asked
) -> None:
    stored = [remote.receive(mime_of(f"<m{n}@example.com>")) for n in range(10)]
    refs = [mailbox.head(message.rest_id).ref for message in stored]
    remote.fail("second_writer", times=1)
    with remote.changes() as happened:
        assert asked(lambda: mailbox.set_marks(refs, "saved", names=NAMES)) == ["GetItem", "UpdateItem"] * 2
    assert [event.kind for event in happened].count("categories") == 11
    assert all(NAMES["saved"] in message.categories for message in stored)


@pytest.mark.parametrize("count", [2_500, pytest.param(50_000, marks=pytest.mark.soak)])
def test_a_large_folder_is_told_in_pages_of_512_and_the_cursor_stays_small(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], count: int
) -> None:
    for number in range(count):
        stored = StoredContact(folders["contacts"], {"displayName": f"Person {number}", "personalNotes": "n" * 200})
        remote.state.contacts[stored.immutable_id] = stored
        remote.state.touch(stored, remote.world.now())
    reader, refs, pages = Reader(mailbox, folders), set[str](), 0
    while True:
        page = reader.page()
        pages += 1
        refs |= {contact.ref for contact in page.contacts}
        assert len(page.cursor) < 4096
        if page.is_complete:
            break
    assert len(refs) == count
    assert remote.operations().count("SyncFolderItems") <= count // 512 + 6
    assert remote.operations().count("GetItem") == -(-count // 512)


def test_contacts_too_large_for_one_answer_are_read_by_halves(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], asked: Asked
) -> None:
    for number in range(4):
        remote.put_contact(folders["contacts"], Contact(display_name=f"Person {number}", notes="n" * 3_000_000))
    reader = Reader(mailbox, folders)
    said = asked(reader.page)
    assert said.count("GetItem") == 3
    assert len(reader.round().contacts) == 0


def test_what_is_unmarked_or_comes_in_the_middle_of_the_beginning_is_told(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    remote.state.messages.clear()
    unmarked = remote.receive(mime_of("<first@example.com>"), hours_ago=2)
    remote.categorize(unmarked, NAMES["saved"])
    for number in range(PAGE):
        remote.receive(mime_of(f"<m{number}@example.com>"), hours_ago=1)
    reader = Reader(mailbox, folders)
    page = reader.page()
    assert unmarked.immutable_id in {message.ref for message in page.messages}
    assert not page.is_complete
    remote.categorize(unmarked)
    come = remote.receive(mime_of("<come@example.com>"))
    assert reader.messages() == {unmarked.immutable_id: ("inbox", ()), come.immutable_id: ("inbox", ())}


def test_of_the_owners_own_contacts_only_the_marked_ones_are_read(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], recorder: Recorder, asked: Asked
) -> None:
    own = [remote.put_contact(remote.own_contacts, Contact(display_name=f"Person {n}", notes="private")) for n in range(PAGE + 1)]
    remote.categorize_contact(own[7], NAMES["share"])
    reader = Reader(mailbox, folders, {"share": NAMES["share"]})
    told: list[ContactItem] = []
    said = asked(lambda: told.extend(reader.round().contacts))
    assert [item.ref for item in told] == [own[7]]
    assert sorted(said) == ["GetFolder", "GetItem", "Subscribe", *["SyncFolderItems"] * 8]
    answers = b"".join(recorder.answered)
    assert (answers.count(b"Person "), answers.count(b"private")) == (1, 1)
    assert asked(reader.round) == ["GetEvents"]


def test_marks_that_are_asked_for_later_are_told_from_the_beginning(remote: ExchangeRemote, reader: Reader) -> None:
    ref = remote.put_contact(remote.own_contacts, ADA)
    remote.categorize_contact(ref, NAMES["share"])
    assert reader.round().contacts == ()
    reader.marks = {"share": NAMES["share"]}
    told = reader.round()
    assert ([item.contact for item in told.contacts], told.whole) == ([ADA], frozenset())
    reader.folders = {"emails": reader.folders["emails"]}  # where no contact can lie
    remote.change_contact(ref, notes="new")
    assert reader.round().contacts == ()


# What ends a subscription


def test_a_subscription_that_nobody_asked_about_for_a_day_is_made_anew_without_loss(
    remote: ExchangeRemote, reader: Reader, asked: Asked, forward: Callable[..., None]
) -> None:
    remote.receive(mime_of("<before@example.com>"))
    forward(hours=25)
    message = remote.receive(mime_of("<after@example.com>"))
    told: list[str] = []
    said = asked(lambda: told.extend(reader.messages()))
    assert said == ["GetEvents", "GetFolder", "Subscribe", *["SyncFolderItems"] * 6]
    assert len(told) == 2
    assert message.immutable_id in told
    assert asked(reader.round) == ["GetEvents"]


def test_another_account_that_signs_in_makes_its_own_subscription_without_loss(
    open_mailbox: Open, remote: ExchangeRemote, reader: Reader, asked: Asked
) -> None:
    reader.mailbox = open_mailbox(Login(SERVICE.user, SERVICE.password, "basic"), impersonate=True)
    message = remote.receive(mime_of())
    told: list[str] = []
    said = asked(lambda: told.extend(reader.messages()))
    assert said == ["GetEvents", "GetFolder", "Subscribe", *["SyncFolderItems"] * 6]
    assert told == [message.immutable_id]
    assert asked(reader.round) == ["GetEvents"]


def test_folders_that_are_asked_for_differently_are_watched_by_another_subscription(
    remote: ExchangeRemote, reader: Reader, asked: Asked
) -> None:
    message = remote.receive(mime_of())
    reader.folders = {"emails": reader.folders["emails"]}
    told: list[str] = []
    said = asked(lambda: told.extend(reader.messages()))
    assert said == ["Unsubscribe", "GetFolder", "Subscribe", *["SyncFolderItems"] * 3]
    assert told == [message.immutable_id]


def test_more_events_than_one_answer_holds_lose_nothing(remote: ExchangeRemote, reader: Reader, asked: Asked) -> None:
    stored = [remote.receive(mime_of(f"<m{n}@example.com>")) for n in range(80)]
    told: list[str] = []
    said = asked(lambda: told.extend(reader.messages()))
    assert set(told) == {message.immutable_id for message in stored}
    assert said.count("SyncFolderItems") == 1
    assert asked(reader.round) == ["GetEvents"]


def test_more_events_than_are_worth_asking_for_are_left_to_a_new_subscription_without_loss(
    remote: ExchangeRemote, reader: Reader, asked: Asked
) -> None:
    stored = [remote.receive(mime_of(f"<m{n}@example.com>")) for n in range(LOOKS * EVENTS_AT_ONCE)]
    told: list[str] = []
    said = asked(lambda: told.extend(reader.messages()))
    assert said == [*["GetEvents"] * LOOKS, "Unsubscribe", "GetFolder", "Subscribe", *["SyncFolderItems"] * 6]
    assert set(told) == {message.immutable_id for message in stored}
    assert asked(reader.round) == ["GetEvents"]


def test_what_happens_while_a_round_is_read_is_told_by_the_next(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, reader: Reader
) -> None:
    first = remote.put_contact(reader.folders["contacts"], Contact(display_name="Ada"))
    remote.world.gate = gate = Gate(match="GetItem")
    with ThreadPoolExecutor(1) as pool:
        told = pool.submit(reader.round)
        assert gate.reached.wait(10)
        second = remote.put_contact(reader.folders["contacts"], Contact(display_name="Bob"))
        remote.drop_contact(first)
        gate.open()
        assert told.result().contacts == ()  # it was gone by then
    told_next = reader.round()
    assert [contact.ref for contact in told_next.contacts] == [second]
    assert Gone(first, reader.folders["contacts"]) in told_next.gone


def test_reading_a_message_is_no_change_to_tell(remote: ExchangeRemote, reader: Reader) -> None:
    message = remote.receive(mime_of())
    reader.round()
    message.is_read = not message.is_read
    remote.state.touch(message, remote.world.now())
    assert reader.messages() == {}


# Contacts


@pytest.mark.parametrize(
    ("contact", "shown"),
    [
        (ADA, "Ada Byron"),
        (Contact(given_name="Ada", surname="Byron"), "Ada Byron"),
        (Contact(company="Engines Ltd", emails=("a@example.com",)), "Engines Ltd"),
        (Contact(emails=("nameless@example.com",)), "nameless@example.com"),
        (Contact(mobile_phone="+1 555 0100"), "+1 555 0100"),
        (Contact(), ""),
    ],
)
def test_a_contact_is_listed_by_its_name_or_by_what_it_has_instead(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], contact: Contact, shown: str
) -> None:
    made = mailbox.create_contact(folders["contacts"], contact, link=LINK)
    (stored,) = (c for c in remote.state.contacts.values() if remote.contact_ref(c) == made.ref)
    assert stored.properties.get("fileAs", "") == shown
    changed = mailbox.update_contact(made.ref, BOB, etag=made.etag)
    assert stored.properties["fileAs"] == "Bob Cole"
    stored.properties["fileAs"] = "Cole, Bob (the tall one)"  # by its owner
    mailbox.update_contact(made.ref, ADA, etag=changed.etag)
    assert stored.properties["fileAs"] == "Cole, Bob (the tall one)"


def test_other_telephones_and_addresses_of_a_contact_stay(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    ref = remote.put_contact(folders["contacts"], ADA)
    (stored,) = (c for c in remote.state.contacts.values() if remote.contact_ref(c) == ref)
    stored.properties["businessPhones"] = [ADA.business_phone, "+44 20 7946 0009"]
    stored.properties["otherAddress"] = {"city": "Leeds"}
    mailbox.update_contact(ref, replace(BOB, business_phone="+1 555 0100"), etag=mailbox.contact(ref).etag)
    assert stored.properties["businessPhones"] == ["+1 555 0100", "+44 20 7946 0009"]
    assert stored.properties["otherAddress"] == {"city": "Leeds"}


@pytest.mark.parametrize(
    "contact", [replace(BOB, notes="a\x00b"), replace(BOB, company="\ud800"), replace(BOB, emails=("a@example.com",) * 4)]
)
def test_what_xml_or_exchange_cannot_hold_is_refused_and_nothing_is_written(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], contact: Contact
) -> None:
    made = mailbox.create_contact(folders["contacts"], BOB, link=LINK)
    with pytest.raises(Rejected):
        mailbox.create_contact(folders["contacts"], contact, link="another")
    with pytest.raises(Rejected):
        mailbox.update_contact(made.ref, contact, etag=made.etag)
    assert remote.contacts(folders["contacts"]) == {made.ref: BOB}


def test_a_hundred_races_for_a_contact_lose_nothing(
    open_mailbox: Open, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    """Two mailboxes change different fields of one contact: whoever is refused reads again, and both values are there."""
    ours, theirs = open_mailbox(), open_mailbox()
    ref = ours.create_contact(folders["contacts"], ADA, link=LINK).ref

    def insist(mailbox: ExchangeMailbox, field: str, value: str) -> int:
        refused = 0
        while True:
            item = mailbox.contact(ref)
            try:
                mailbox.update_contact(ref, replace(item.contact, **{field: value}), etag=item.etag)
                return refused
            except Conflict:
                refused += 1

    refused = 0
    with ThreadPoolExecutor(2) as pool:
        for number in range(100):
            wishes = ((ours, "job_title", f"Title {number}"), (theirs, "notes", f"Note {number}"))
            refused += sum(pool.map(lambda wish: insist(*wish), wishes))
            assert remote.contacts(folders["contacts"]) == {
                ref: replace(ADA, job_title=f"Title {number}", notes=f"Note {number}")
            }
    assert refused > 0  # they did meet


def test_a_contact_that_is_changed_between_reading_and_deleting_stays(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    made = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    remote.fail("acted_drop", match="/DeleteItem")  # the first answer is lost, and the owner takes the contact back
    remote.world.gate = gate = Gate(match="/DeleteItem")
    with ThreadPoolExecutor(1) as pool:
        deleted = pool.submit(mailbox.delete_contact, made.ref, etag=made.etag)
        assert gate.reached.wait(10)
        remote.change_contact(made.ref, notes="Theirs")
        gate.open(lost=True)
        with pytest.raises(Conflict):
            deleted.result()
    assert remote.contacts(folders["contacts"]) == {made.ref: replace(ADA, notes="Theirs")}


def test_a_server_that_is_too_slow_may_still_create_so_nothing_is_created_twice(
    open_mailbox: Open, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    remote.fail("hang", match="/CreateItem", seconds=2)
    hasty = open_mailbox(deadline_s=0.5)
    with pytest.raises(Unknown):
        hasty.create_contact(folders["contacts"], ADA, link=LINK)

    def made() -> ContactItem | None:
        return open_mailbox().find_contact(folders["contacts"], LINK)

    while made() is None:
        assert len(remote.operations()) < 1000
    assert list(remote.contacts(folders["contacts"]).values()) == [ADA]


@pytest.mark.parametrize("fault", [{"kind": "status", "status": 502}, {"kind": "status", "status": 504}, {"kind": "html"}])
def test_behind_a_page_of_a_proxy_the_server_may_still_create_so_nothing_is_created_again(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], remote: ExchangeRemote, asked: Asked, fault: dict[str, Any]
) -> None:
    remote.fail(**fault, match="/CreateItem")

    def create() -> None:
        with pytest.raises(Unknown):
            mailbox.create_contact(folders["contacts"], ADA, link=LINK)

    assert asked(create) == ["CreateItem", "FindItem", "FindItem"]


def test_a_contact_that_appears_late_is_found(open_mailbox: Open, folders: dict[FolderId, str], remote: ExchangeRemote) -> None:
    late: list[str] = []

    def sleep(seconds: float) -> None:
        late.append(remote.put_contact(folders["contacts"], ADA, link=LINK))

    mailbox = open_mailbox(sleep=sleep)
    remote.fail("status", status=504, match="/CreateItem")
    assert mailbox.create_contact(folders["contacts"], ADA, link=LINK).ref == late[0]
    assert list(remote.contacts(folders["contacts"])) == late


def test_a_connection_that_is_cut_while_the_server_works_is_no_reason_to_create_again(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], remote: ExchangeRemote, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(failures, "AT_ONCE_S", 0.0)
    remote.fail("drop", match="/CreateItem")
    with pytest.raises(Unknown):
        mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    assert remote.contacts(folders["contacts"]) == {}


def test_what_cannot_be_looked_for_may_have_been_created(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], remote: ExchangeRemote
) -> None:
    remote.fail("acted_drop", match="/CreateItem")
    remote.fail("status", status=503, match="/FindItem", times=None)
    with pytest.raises(Unknown) as caught:
        mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    assert isinstance(caught.value.__cause__, Transient)
    remote.heal()
    assert list(remote.contacts(folders["contacts"]).values()) == [ADA]


def test_without_a_link_nothing_is_tried_again(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], remote: ExchangeRemote, asked: Asked
) -> None:
    remote.fail("acted_drop", match="/CreateItem")

    def create() -> None:
        with pytest.raises(Unknown):
            mailbox.create_contact(folders["contacts"], ADA, link="")

    assert asked(create) == ["CreateItem"]
    assert list(remote.contacts(folders["contacts"]).values()) == [ADA]


def test_a_second_try_that_is_refused_does_not_say_that_the_first_was(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], remote: ExchangeRemote
) -> None:
    remote.fail("drop", match="/CreateItem")
    remote.fail("status", status=503, match="/CreateItem", times=None)
    with pytest.raises(Unknown) as caught:
        mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    assert isinstance(caught.value.__cause__, Transient)


# Many contacts at a time


@pytest.mark.parametrize("count", [450, pytest.param(4_500, marks=pytest.mark.soak)])
def test_many_contacts_cost_a_request_for_each_hundred_and_are_told_in_pages_of_512(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, reader: Reader, asked: Asked, count: int
) -> None:
    hundreds, pages, folders = -(-count // 100), -(-count // PAGE), 6
    made: list[ContactItem] = []
    said = asked(lambda: made.extend(items_of(mailbox.create_contacts(reader.folders["contacts"], people(count)))))
    assert said == ["CreateItem"] * hundreds
    assert len(remote.contacts(reader.folders["contacts"])) == count
    said = asked(lambda: made.extend(reader.round().contacts))
    assert said.count("GetItem") == pages
    assert len(said) <= 2 * pages + LOOKS + 3 + folders
    assert len(made) == 2 * count
    assert len({item.ref for item in made}) == count
    assert asked(reader.round) == ["GetEvents"]
    edits = [ContactEdit(item.ref, item.etag, louder) for item in made[:count]]
    assert asked(lambda: items_of(mailbox.update_contacts(edits))) == ["GetItem", "UpdateItem"] * hundreds
    assert {contact.notes for contact in remote.contacts(reader.folders["contacts"]).values()} == {"!"}


def test_contacts_too_large_for_one_request_are_written_by_several(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], asked: Asked
) -> None:
    new = [replace(one, contact=replace(one.contact, notes="n" * 3_000_000)) for one in people(3)]
    made: list[ContactItem] = []
    assert asked(lambda: made.extend(items_of(mailbox.create_contacts(folders["contacts"], new)))) == ["CreateItem"] * 3
    said = asked(lambda: items_of(mailbox.update_contacts([ContactEdit(one.ref, one.etag, louder) for one in made])))
    assert (said.count("UpdateItem"), said[-3:]) == (3, ["UpdateItem"] * 3)


def test_when_the_server_stops_half_way_only_the_rest_is_asked_for_again(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], asked: Asked, sleeps: list[float]
) -> None:
    new, made = people(5), list[ContactItem]()
    remote.fail("store_goes")
    said = asked(lambda: made.extend(items_of(mailbox.create_contacts(folders["contacts"], new))))
    assert (said, sleeps) == (["CreateItem"] * 2, [0.5])
    assert remote.contacts(folders["contacts"]) == {item.ref: one.contact for item, one in zip(made, new, strict=True)}
    remote.fail("store_goes")
    edits = [ContactEdit(item.ref, item.etag, louder) for item in made]
    assert asked(lambda: items_of(mailbox.update_contacts(edits))) == ["GetItem", "UpdateItem", "UpdateItem"]
    assert {contact.notes for contact in remote.contacts(folders["contacts"]).values()} == {"!"}


def test_messages_that_were_marked_before_the_server_stopped_are_not_written_again(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, asked: Asked
) -> None:
    refs = [mailbox.head(remote.receive(mime_of(f"<m{n}@example.com>")).rest_id).ref for n in range(5)]
    remote.fail("store_goes")
    with remote.changes() as happened:
        assert asked(lambda: mailbox.set_marks(refs, "saved", names=NAMES)) == ["GetItem", "UpdateItem", "UpdateItem"]
    assert [event.kind for event in happened] == ["categories"] * 5


def test_a_server_that_keeps_stopping_raises_transient_and_what_it_made_is_found_once(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    new = people(9)
    remote.fail("store_goes", times=None)
    with pytest.raises(Transient):
        mailbox.create_contacts(folders["contacts"], new)
    found = [mailbox.find_contact(folders["contacts"], one.link) for one in new]
    made = {item.ref: item.contact for item in found if item is not None}
    assert remote.contacts(folders["contacts"]) == made
    assert 0 < len(made) < len(new)


def test_a_mailbox_that_is_full_refuses_the_rest_without_another_try(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], asked: Asked
) -> None:
    remote.fail("quota")
    outcome: list[ContactItem | SsiError] = []
    assert asked(lambda: outcome.extend(mailbox.create_contacts(folders["contacts"], people(4)))) == ["CreateItem"]
    assert [type(one) for one in outcome] == [ContactItem, Rejected, Rejected, Rejected]
    assert {str(one) for one in outcome[1:]} == {"The mailbox is full."}


def test_many_whose_request_was_never_read_are_created_by_the_next(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], asked: Asked
) -> None:
    remote.fail("drop", match="/CreateItem")
    said = asked(lambda: items_of(mailbox.create_contacts(folders["contacts"], people(60))))
    assert said == ["CreateItem", *["FindItem"] * 4, "CreateItem"]
    assert len(remote.contacts(folders["contacts"])) == 60


def test_of_many_behind_a_proxys_page_those_that_were_made_are_found_and_the_rest_is_unknown(
    open_mailbox: Open, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    new, late = people(3), list[str]()
    others = remote.put_contact(folders["contacts"], BOB, link=new[2].link.upper())  # Exchange may not mind the case

    def sleep(seconds: float) -> None:
        late.extend(remote.put_contact(folders["contacts"], one.contact, link=one.link) for one in new[:2])

    remote.fail("status", status=504, match="/CreateItem")
    first, second, third = open_mailbox(sleep=sleep).create_contacts(folders["contacts"], new)
    assert [item.ref for item in items_of([first, second])] == late
    assert isinstance(third, Unknown)
    assert set(remote.contacts(folders["contacts"])) == {others, *late}


def test_a_contact_that_another_writes_to_in_between_is_the_only_one_that_is_not_changed(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str], asked: Asked
) -> None:
    made = items_of(mailbox.create_contacts(folders["contacts"], people(3)))
    remote.fail("second_writer")
    outcome: list[ContactItem | SsiError] = []
    edits = [ContactEdit(item.ref, item.etag, louder) for item in made]
    assert asked(lambda: outcome.extend(mailbox.update_contacts(edits))) == ["GetItem", "UpdateItem"]
    assert [type(one) for one in outcome] == [Conflict, ContactItem, ContactItem]
    assert [contact.notes for contact in remote.contacts(folders["contacts"]).values()] == ["", "!", "!"]


# Folders


def test_a_folder_that_was_thrown_away_is_none_of_ours(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, folders: dict[FolderId, str]
) -> None:
    del remote.state.folders[folders["contacts"]]
    with pytest.raises(NotFound):
        mailbox.changes(None, folders=folders)
    again = mailbox.ensure_folders(FOLDERS, known=folders)
    assert again["contacts"].ref not in folders.values()


def test_our_folders_cost_a_search_when_they_are_there(
    mailbox: ExchangeMailbox, folders: dict[FolderId, str], asked: Asked
) -> None:
    assert asked(lambda: mailbox.ensure_folders(FOLDERS, known=folders)) == ["FindFolder", "FindFolder"]


# The schema


def test_all_that_is_said_about_contacts_and_changes_is_what_the_schema_describes(
    mailbox: ExchangeMailbox, remote: ExchangeRemote, recorder: Recorder, forward: Callable[..., None]
) -> None:
    folders = {identifier: folder.ref for identifier, folder in mailbox.ensure_folders(FOLDERS).items()}
    remote.rename_folder(folders["accounts"], "Mine")
    mailbox.ensure_folders(FOLDERS, known=folders)
    mailbox.check()
    reader = Reader(mailbox, folders)
    reader.round()
    item = mailbox.create_contact(folders["contacts"], ADA, link=LINK)
    remote.adorn(item.ref)
    item = mailbox.update_contact(item.ref, BOB, etag=mailbox.contact(item.ref).etag, link="")
    item = mailbox.update_contact(item.ref, replace(ADA, display_name=""), etag=item.etag, link=LINK)
    mailbox.set_contact_mark(item.ref, "saved", names=NAMES)
    mailbox.set_contact_mark(item.ref, None, names=NAMES)
    assert mailbox.find_contact(folders["contacts"], LINK) is not None
    remote.fail("acted_drop", match="/CreateItem")
    many = items_of(mailbox.create_contacts(folders["contacts"], people(3)))
    items_of(mailbox.update_contacts([ContactEdit(one.ref, one.etag, louder) for one in many]))
    message = remote.receive(mime_of())
    message.is_read = not message.is_read
    ref = mailbox.head(message.rest_id).ref
    mailbox.set_marks([ref, "AAMkNobody"], "saved", names=NAMES)
    mailbox.move(ref, folders["emails"])
    reader.round()
    message.is_read = not message.is_read
    remote.state.touch(message, remote.world.now())
    moved = mailbox.move_contact(item.ref, folders["accounts"], etag=mailbox.contact(item.ref).etag)
    reader.round()
    mailbox.delete_contact(moved.ref, etag=moved.etag)
    remote.delete_folder(folders["individual_customers"])
    with pytest.raises(NotFound):
        reader.round()
    with pytest.raises(NotFound):
        mailbox.create_contact(folders["individual_customers"], ADA, link=LINK)
    reader.folders = {"contacts": folders["contacts"]}
    reader.round()
    forward(hours=25)
    reader.round()
    said = {"FindFolder", "CreateFolder", "UpdateFolder", "GetFolder", "ResolveNames", "Subscribe", "GetEvents", "Unsubscribe"}
    said |= {"SyncFolderItems", "GetItem", "CreateItem", "UpdateItem", "MoveItem", "DeleteItem", "FindItem"}
    assert set(remote.operations()) == said
    recorder.check()
