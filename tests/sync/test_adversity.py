"""What happens at the worst moment, or twice, or by halves: nothing is lost, doubled or wrongly told."""

from dataclasses import replace
from typing import Any

import httpx
import pytest

from server import sync
from server.domain.contact import Contact
from server.domain.marks import FOLDERS
from server.domain.people import PersonType
from server.services import issues
from server.store import LeaseLost
from simulator.world import AccessType, Fault
from tests.sync.house import SETS, House

ADA = Contact(display_name="Ada Byron", given_name="Ada", surname="Byron", emails=("ada@e.example",), business_phone="+44 1")
ERROR = "Error in SAP Cloud for Customer SSI"
SHARE = "SAP Cloud for Customer SSI"
EVERYWHERE = pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
REFUSED_MOVES: dict[AccessType, tuple[tuple[str, str, str], ...]] = {  # vendor, kind and match of faults
    "office365": (("graph", "status", "PATCH"), ("graph", "status", "POST /v1.0/me/contactFolders")),  # nor may it be copied
    "exchange_direct": (("exchange", "ErrorQuotaExceeded", "/MoveItem"),),
}


def quiet(house: House) -> None:
    """Nothing is written any more."""
    house.later()
    house.forward(minutes=30)
    house.mark_events()
    house.done()
    assert house.happened() == []


def test_two_equal_contacts_whose_creates_were_lost_get_a_record_each(house: House) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), ADA)
    house.remote.put_contact(house.folder(), ADA)
    house.world.faults.append(Fault("c4c", "acted_drop", match="POST /sap/c4c/odata/v1/c4codataapi/ContactCollection", times=2))
    house.session()
    assert len(house.own()) == 2
    house.world.faults.clear()
    house.forward(minutes=20)
    house.session()
    house.later()
    assert (len(house.own()), len(house.items())) == (2, 2)
    assert len({link.record_id for link in house.links}) == 2
    quiet(house)


def test_a_record_that_a_colleague_changes_before_we_know_that_it_is_ours_is_ours_with_that_change(house: House) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), ADA)
    house.world.faults.append(Fault("c4c", "acted_drop", match="POST /sap/c4c/odata/v1/c4codataapi/ContactCollection"))
    house.session()
    house.world.faults.clear()
    (row,) = house.own().values()
    house.change_record(row, JobTitle="Countess", Phone="+44 20 5550 1234")
    house.forward(minutes=20)
    house.session()
    house.later()
    mailbox, c4c = house.people()
    assert mailbox == c4c
    assert [one[-1] for one in c4c] == ["Countess"]
    quiet(house)


@pytest.mark.parametrize("type", ["account", "individual_customer"])
def test_what_both_sides_changed_before_we_know_of_a_record_of_ours_reaches_the_other(house: House, type: PersonType) -> None:
    house.done()
    house.forward(minutes=30)
    new = Contact(surname="Byron", company="Engines Ltd", business_phone="+44 1", emails=("ada@e.example",))
    ref = house.remote.put_contact(house.folder(type), new)
    house.world.faults.append(Fault("c4c", "acted_drop", match=f"POST /sap/c4c/odata/v1/c4codataapi/{SETS[type]}"))
    house.session()
    house.world.faults.clear()
    (row,) = house.own(type).values()
    house.change_record(row, Phone="+44 20 5550 1234")
    house.remote.change_contact(ref, web_page="https://engines.example")
    house.forward(minutes=20)
    house.session()
    house.later()
    assert (len(house.own(type)), len(house.items(type))) == (1, 1)
    (contact,) = house.items(type).values()
    assert (row["Phone"], row["WebSite"]) == ("+44 20 5550 1234", "https://engines.example")
    assert (contact.business_phone, contact.web_page) == ("+44 20 5550 1234", "https://engines.example")
    quiet(house)


def test_a_contact_whose_company_is_unknown_keeps_it_when_its_create_is_found_later(house: House) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), replace(ADA, company="Engines Ltd"))
    house.world.faults.append(Fault("c4c", "acted_drop", match="POST /sap/c4c/odata/v1/c4codataapi/ContactCollection"))
    house.session()
    house.world.faults.clear()
    (row,) = house.own().values()
    house.change_record(row, JobTitle="Countess")
    house.forward(minutes=20)
    house.session()
    house.later()
    (contact,) = house.items().values()
    assert (contact.company, contact.job_title) == ("Engines Ltd", "Countess")
    quiet(house)


def test_what_changes_during_a_session_counts_for_the_same_guard(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    for number in range(6):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    house.forward(minutes=30)
    first, later = ([house.item(f"Byron{number}")[0] for number in two] for two in ((0, 1), (2, 3)))
    for ref in first:
        house.remote.change_contact(ref, job_title="Countess")
    house.add_record(LastName="New")  # after what is created the mailbox is read once more
    send = httpx.Client.send

    def sent(*args: Any, **options: Any) -> httpx.Response:
        answer = send(*args, **options)
        if any(row.get("JobTitle") for row in house.own().values()):
            while later:
                house.remote.change_contact(later.pop(), job_title="Countess")
        return answer

    monkeypatch.setattr(httpx.Client, "send", sent)
    house.done()
    assert later == []
    assert [row.get("JobTitle") for row in house.own().values()].count("Countess") == 2
    assert "2 " in house.told["guard"].cause
    assert len(house.items()) == 7


def test_a_create_that_never_arrived_is_made_once_beside_new_records(house: House) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), ADA)
    house.world.faults.append(Fault("c4c", "drop", match="POST /sap/c4c/odata/v1/c4codataapi/ContactCollection"))
    house.session()
    house.world.faults.clear()
    house.forward(minutes=20)
    house.add_record(FirstName="Eve", LastName="Dunn")
    house.done()
    assert len(house.own()) == 2
    quiet(house)
    assert (len(house.own()), len(house.items())) == (2, 2)


def test_the_first_uploads_may_be_answered_days_later(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    house.remote.put_contact(house.folder(), ADA)
    house.done()
    house.later()
    house.later()
    issues.answer(house.deps, house.principal, house.issues["first_upload"].id, "upload")
    house.later()
    assert len(house.own()) == 1
    quiet(house)


@EVERYWHERE
def test_a_refused_create_that_is_mended_loses_its_mark_too(house: House) -> None:
    house.done()
    ref = house.remote.put_contact(house.folder(), replace(ADA, job_title="x" * 41))
    house.later()
    assert (house.own(), list(house.issues)) == ({}, ["rejected"])
    assert [name for name in house.remote.categories_of(ref) if "Error" in name]
    house.remote.change_contact(ref, job_title="Countess")
    house.later()
    assert len(house.own()) == 1
    assert (house.issues, [n for n in house.remote.categories_of(ref) if "Error" in n or n.startswith("SSI")]) == ({}, [])
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
@pytest.mark.parametrize(
    ("mark", "type"), [(SHARE, "contact"), ("Account", "account"), ("Individual Customer", "individual_customer")]
)
def test_a_marked_contact_of_the_owners_own_folder_moves_to_ours(house: House, mark: str, type: str) -> None:
    house.done()
    ref = house.remote.put_contact(house.remote.own_contacts, replace(ADA, company="Engines"))
    other = house.remote.put_contact(house.remote.own_contacts, Contact(given_name="Bob", surname="Cole"))
    house.later()
    house.remote.categorize_contact(ref, mark)
    house.later()
    assert list(house.remote.contacts(house.remote.own_contacts)) == [other]
    assert (len(house.items(type)), len(house.own(type))) == (1, 1)
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
@pytest.mark.parametrize("is_ours", [False, True], ids=["own folder", "our folder"])
def test_a_contact_that_may_not_be_moved_is_told_and_stays_and_all_else_goes_on(
    house: House, access_type: AccessType, is_ours: bool
) -> None:
    old = house.add_record(LastName="Old")
    house.done()
    folder = house.folder() if is_ours else house.remote.own_contacts
    ref = house.remote.put_contact(folder, replace(ADA, company="Engines"))
    house.later()
    house.change_record(old, JobTitle="Countess")
    house.remote.categorize_contact(ref, "Account")
    house.world.faults += [Fault(vendor, kind, match, status=400) for vendor, kind, match in REFUSED_MOVES[access_type]]
    house.later()
    assert house.item("Old")[1].job_title == "Countess"
    assert (ref in house.remote.contacts(folder), len(house.own()), "rejected" in house.issues) == (True, 1 + is_ours, True)
    assert ERROR in house.remote.categories_of(ref)
    house.later()  # it is tried again, since it was touched
    ((moved, _),) = house.items("account").items()
    assert (len(house.own("account")), house.issues) == (1, {})
    assert ERROR not in house.remote.categories_of(moved)
    quiet(house)


def test_a_yes_to_many_held_deletions_reads_none_of_them_singly(house: House) -> None:
    house.set_profile(guard_items=5, guard_share=5)
    for number in range(150):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    for ref in list(house.items()):
        house.remote.drop_contact(ref)
    house.later()
    assert "guard" in house.issues
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "apply")
    house.mark()
    house.later()
    assert len(house.requests("graph")) < 20
    assert "guard" not in house.issues
    assert len(house.own()) == 150
    quiet(house)
    assert house.items() == {}


def refuse(house: House, *, refused: bool = True) -> None:
    """Let C4C lock the person's user, or unlock it."""
    users = house.world.c4c.locked_users
    (users.add if refused else users.discard)(house.person.user_id)
    house.forward(hours=1)  # tokens that are held run out


def test_a_locked_user_stops_the_sessions_and_everybody_is_told_at_once(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    refuse(house)
    row = house.session()
    assert (row.state, row.next_due_at) == ("failed", None)
    assert house.principal.organization.admin_contact in house.why
    assert house.connection.state == "active", "the mailbox has no part in it"
    with house.deps.store.transaction() as tx:
        assert [notice.kind for notice in tx.take_notices(house.deps.now(), 60, 10)] == ["sync_failing"]
    refuse(house, refused=False)
    house.done(forced=True)
    assert house.row.next_due_at is not None
    assert len(house.items()) == 1


def test_a_user_who_is_locked_amid_a_session_is_no_fault_of_contacts(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.forward(minutes=30)
    for number in range(3):
        house.remote.put_contact(house.folder(), Contact(given_name="Bob", surname=f"Cole{number}"))
    house.world.faults.append(Fault("c4c", "status", status=401, match="ContactCollection", times=None))
    house.session()
    assert house.issues == {}
    assert not any(ERROR in house.remote.categories_of(ref) for ref in house.items())
    house.world.faults.clear()
    house.forward(minutes=20)
    house.done(forced=True)
    house.later()
    assert len(house.own()) == len(house.items()) == 4


def test_who_is_no_employee_is_told_and_messages_go_on(house: House) -> None:
    (user,) = [
        row for row in house.world.crm.rows("EmployeeBasicDataCollection").values() if row["UserID"] == house.person.user_id
    ]
    ids = {name: user.pop(name) for name in ("EmployeeID", "BusinessPartnerID")}
    house.done()
    told = house.told["no_employee"]
    assert house.principal.organization.admin_contact in told.remedy
    user |= ids
    house.add_record(FirstName="Ada", LastName="Byron")
    house.later()
    assert len(house.items()) == 1
    assert house.issues == {}


def test_a_higher_limit_brings_down_who_was_left_out(house: House) -> None:
    house.set_profile(max_people=2)
    for number in range(5):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    house.set_profile(max_people=4)
    house.forward(minutes=30)
    house.done(forced=True)
    assert len(house.items()) == 4
    assert house.told["too_many"].cause.startswith("1 ")
    house.set_profile(max_people=9)
    house.forward(hours=25)
    house.done()
    assert (len(house.items()), house.issues) == (5, {})
    quiet(house)


def test_two_new_contacts_are_not_both_taken_for_the_one_whose_contact_was_deleted(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    house.remote.drop_contact(house.item("Byron")[0])
    house.later()
    house.remote.put_contact(house.folder(), ADA)
    house.remote.put_contact(house.folder(), replace(ADA, business_phone="+44 2"))
    house.later()
    linked = [link for link in house.links if link.state == "linked"]
    assert len({link.item_ref for link in linked}) == len({link.record_id for link in linked}) == len(house.own()) == 2
    quiet(house)


@EVERYWHERE
def test_a_copy_is_somebody_new_and_the_original_stays_what_it_was(house: House) -> None:
    row = house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    ref, contact = house.item("Byron")
    copy = house.remote.put_contact(house.folder(), contact, link=house.remote.link_of(ref))
    house.later()
    house.remote.change_contact(copy, job_title="Countess")
    house.later()
    assert (len(house.own()), len(house.items()), row.get("JobTitle") or "") == (2, 2, "")
    assert house.remote.link_of(copy) != house.remote.link_of(ref)
    quiet(house)


def test_of_two_equal_contacts_one_is_paired_and_none_is_lost(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    house.remote.put_contact(house.folder(), ADA)
    house.remote.put_contact(house.folder(), ADA)
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example", Phone="+44 1")
    house.done()
    assert (len(house.items()), len(house.own())) == (2, 1)
    issues.answer(house.deps, house.principal, house.issues["first_upload"].id, "upload")
    house.later()
    assert (len(house.items()), len(house.own())) == (2, 2)
    quiet(house)


def test_what_the_guard_held_and_nobody_wants_now_stays_held(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(6)]
    house.done()
    for row in rows[:4]:
        house.change_record(row, StatusCode="4")
    house.later()
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "not_now")
    house.later()
    house.later()
    assert (len(house.items()), house.issues) == (6, {})
    house.forward(hours=25)
    house.done()
    assert len(house.items()) == 6
    house.forward(minutes=30)
    house.done(forced=True)
    assert (len(house.items()), list(house.issues)) == (6, ["guard"])
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "apply")
    house.later()
    assert len(house.items()) == 2
    quiet(house)


def test_a_filter_that_goes_around_comes_back_to_where_it_was(house: House) -> None:
    house.set_profile(guard_items=1000)
    house.add_record(FirstName="Ada", LastName="Byron")
    other = house.world.people[1].employee_id
    house.world.crm.rows("ContactCollection").clear()
    house.add_record(FirstName="Ada", LastName="Byron")
    house.add_record(FirstName="Eve", LastName="Dunn", ContactOwnerID=other)
    house.done()
    seen = [len(house.items())]
    for wanted in ("all", "none", "mine", "all", "mine"):
        house.set_profile(contacts_filter=wanted)
        house.later()
        seen.append(len(house.items()))
    assert seen == [1, 2, 2, 1, 2, 1]
    quiet(house)


def test_a_worker_that_lost_its_lease_writes_down_nothing(house: House) -> None:
    house.done()
    for number in range(3):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.forward(minutes=30)
    late = house.take()
    house.forward(minutes=5)
    house.done()
    before = house.links
    with pytest.raises(LeaseLost):
        sync.run_session(house.deps, late)
    assert (house.links, len(house.items())) == (before, 3)


def test_another_mailbox_begins_anew_and_the_first_keeps_what_it_has(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    taken = house.take()
    with house.deps.store.transaction() as tx:
        tx.keep_session(taken, house.deps.now(), 45, account="another:mailbox")
        tx.end_session(taken, next_due_at=house.deps.now(), now=house.deps.now())
    house.later()
    assert (len(house.items()), len(house.own())) == (1, 1)
    assert [link.state for link in house.links] == ["linked"]
    quiet(house)


def test_a_record_that_the_mailbox_refused_comes_when_it_was_mended(house: House) -> None:
    house.done()
    row = house.add_record(FirstName="Ada", LastName="Byron")
    house.world.faults.append(Fault(house.remote.vendor, "status", status=400, match="/$batch", times=1))
    house.later()
    house.change_record(row, JobTitle="Countess")
    house.later()
    assert (len(house.items()), house.issues) == (1, {})


def test_german_names_go_both_ways_unchanged(house: House) -> None:
    row = house.add_record(FirstName="Jörg", LastName="Müßig-Öztürk", Email="Jörg.M@e.example")
    house.done()
    ref, contact = house.item("Müßig-Öztürk")
    house.remote.change_contact(ref, job_title="Geschäftsführer – Süd")
    house.later()
    assert (row["JobTitle"], row["LastName"], contact.given_name) == ("Geschäftsführer – Süd", "Müßig-Öztürk", "Jörg")
    quiet(house)


def test_another_spelling_of_an_address_or_an_equal_change_on_both_sides_is_no_conflict(house: House) -> None:
    row = house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    house.change_record(row, Email="ADA@e.example", JobTitle="Countess")
    house.remote.change_contact(house.item("Byron")[0], job_title="Countess")
    house.later()
    assert house.issues == {}
    quiet(house)


def test_a_folder_in_the_bin_is_made_anew_and_a_renamed_one_gets_its_name_back(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.remote.rename_folder(house.folder(), "Leute")
    house.forward(hours=25)
    house.done()
    assert len(house.items()) == 1
    folder = house.remote.state.folders[house.folder()]
    house.remote.delete_folder(folder.id)
    house.later()
    assert (len(house.items()), len(house.own())) == (1, 1)
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
def test_a_type_that_is_marked_in_our_own_folder_goes_there_with_its_record_left(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    house.remote.categorize_contact(house.item("Byron")[0], "Individual Customer")
    house.later()
    house.later()
    assert (len(house.items()), len(house.items("individual_customer"))) == (0, 1)
    assert (len(house.own()), len(house.own("individual_customer"))) == (1, 1)
    quiet(house)


@EVERYWHERE
def test_a_pause_that_is_asked_for_amid_everything_loses_and_doubles_nothing(house: House) -> None:
    house.done()
    for number in range(30):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
        house.remote.put_contact(house.folder(), Contact(given_name="Bob", surname=f"Cole{number}"))
    for vendor, match in ((house.remote.vendor, house.remote.creating_contacts), ("c4c", "ContactCollection")):
        house.forward(minutes=30)
        house.world.faults.append(Fault(vendor, "status", status=429, match=match, retry_after_s=60, times=None))
        house.session()
        house.world.faults.clear()
    house.forward(minutes=20)
    house.session()
    house.later()
    house.later()
    assert (len(house.items()), len(house.own())) == (60, 60)
    quiet(house)


def test_contacts_that_may_not_be_uploaded_are_left_where_their_owner_has_them(house: House) -> None:
    house.set_profile(contacts_read_only=True)
    house.done()
    ref = house.remote.put_contact(house.remote.own_contacts, ADA)
    house.remote.categorize_contact(ref, "Private", SHARE)
    house.later()
    assert list(house.remote.contacts(house.remote.own_contacts)) == [ref]
    assert (house.remote.categories_of(ref), house.own()) == (["Private"], {})
    assert list(house.issues) == ["may_not_upload"]
    quiet(house)


def test_a_record_that_c4c_locks_for_another_is_written_later_and_nothing_is_told(house: House) -> None:
    row = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.remote.change_contact(house.item("Byron")[0], job_title="Countess")
    house.world.faults.append(Fault("c4c", "locked", match="Contact"))
    house.later()
    house.later()
    assert (row["JobTitle"], house.issues) == ("Countess", {})
    quiet(house)


def test_private_fields_are_mirrored_once_they_are_wanted(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.remote.change_contact(house.item("Byron")[0], home_phone="+44 7")
    house.later()
    house.set_profile(contacts_home=True)
    house.later()
    assert [row["Phone"] for row in house.world.crm.rows("ContactPersonalAddressCollection").values()] == ["+44 7"]
    quiet(house)


def test_who_was_not_wanted_goes_up_when_their_owner_marks_them(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    ref = house.remote.put_contact(house.folder(), ADA)
    house.done()
    issues.answer(house.deps, house.principal, house.issues["first_upload"].id, "keep")
    house.later()
    house.remote.change_contact(ref, job_title="Countess")
    house.later()
    assert house.own() == {}
    house.remote.categorize_contact(ref, SHARE)
    house.later()
    assert len(house.own()) == 1
    quiet(house)


@EVERYWHERE
def test_contacts_that_might_not_go_up_do_when_the_direction_is_changed(house: House) -> None:
    house.set_profile(contacts_read_only=True)
    house.done()
    house.remote.put_contact(house.folder(), ADA)
    house.later()
    assert (house.own(), list(house.issues)) == ({}, ["may_not_upload"])
    house.set_profile(contacts_read_only=False)
    house.later()
    assert (len(house.own()), house.issues) == (1, {})
    quiet(house)


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_a_full_mailbox_is_filled_when_there_is_room(house: House) -> None:
    house.done()
    for number in range(150):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.world.faults.append(Fault("exchange", "ErrorQuotaExceeded", match="CreateItem", times=None))
    house.forward(minutes=30)
    row = house.session()
    assert (row.state, house.why) == ("failed", "The mailbox is full.")
    assert row.next_due_at is not None
    house.world.faults.clear()
    house.later()
    assert (len(house.items()), house.issues) == (150, {})
    quiet(house)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
def test_a_contact_that_is_deleted_right_after_we_moved_it_is_missed(house: House) -> None:
    house.done()
    ref = house.remote.put_contact(house.folder(), ADA)
    house.remote.categorize_contact(ref, "Individual Customer")
    house.later()
    house.remote.drop_contact(next(iter(house.items("individual_customer"))))
    house.later()
    assert [(link.state, link.code, link.item_ref) for link in house.links] == [("ignored", "deleted", None)]
    quiet(house)
