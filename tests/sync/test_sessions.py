"""Sessions mirror people both ways."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
import sqlalchemy as sa

from server import sync
from server.domain.contact import Contact
from server.domain.marks import FOLDERS
from server.domain.people import PersonType
from server.services import Deps, issues
from simulator.world import Fault
from tests.sync.house import House

ADA = Contact(display_name="Ada Byron", given_name="Ada", surname="Byron", emails=("ada@e.example",), business_phone="+44 1")
ERROR = "Error in SAP Cloud for Customer SSI"
FOLDERS_AND_MARKS = 20


@contextmanager
def transactions(deps: Deps) -> Iterator[list[Any]]:
    """Collect the transactions that write, and are begun within the block."""
    begun: list[Any] = []

    def note(connection: sa.Connection) -> None:
        if not connection.get_execution_options().get("ssi_reads"):
            begun.append(connection)

    sa.event.listen(deps.store._engine, "begin", note)
    yield begun
    sa.event.remove(deps.store._engine, "begin", note)


def test_a_first_session_brings_down_what_is_the_persons(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example", Phone="+44 1")
    row = house.done()
    assert house.people() == ([("Ada", "Byron", "ada@e.example", "+44 1", "")],) * 2
    assert row.first_done_at is not None


def test_a_change_in_c4c_comes_down(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.change_record(ada, LastName="Lovelace")
    house.later()
    assert house.people() == ([("Ada", "Lovelace", "", "", "")],) * 2


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
def test_a_change_in_the_mailbox_goes_up(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    ref, _ = house.item("Byron")
    house.remote.change_contact(ref, surname="Lovelace", job_title="Countess")
    house.later()
    assert house.people() == ([("Ada", "Lovelace", "", "", "Countess")],) * 2


def test_a_contact_that_is_put_into_the_folder_becomes_a_record(house: House) -> None:
    house.done()
    house.remote.put_contact(house.folder(), replace(ADA, notes="Likes numbers."))
    house.later()
    assert house.people() == ([("Ada", "Byron", "ada@e.example", "+44 1", "")],) * 2
    (link,) = house.links
    assert (link.state, link.origin) == ("linked", "mailbox")
    assert house.remote.link_of(str(link.item_ref)) == link.id


@pytest.mark.parametrize("type", ["account", "individual_customer"])
def test_other_types_are_mirrored_in_their_own_folders(house: House, type: PersonType) -> None:
    names = {"Name": "Engines Ltd"} if type == "account" else {"FirstName": "Ada", "LastName": "Byron"}
    row = house.add_record(type, **names, Email="ada@e.example")
    house.done()
    ((ref, contact),) = house.items(type).items()
    assert contact.emails == ("ada@e.example",)
    house.remote.change_contact(ref, business_phone="+44 9")
    house.later()
    assert row["Phone"] == "+44 9"


def test_who_is_new_on_both_sides_at_once_is_paired(house: House) -> None:
    house.done()
    house.add_record(FirstName="Ada", LastName="Byron", Email="Ada@e.example", JobTitle="Countess")
    house.remote.put_contact(house.folder(), ADA)
    house.later()
    house.later()
    assert (len(house.items()), len(house.own())) == (1, 1)
    (row,) = house.own().values()
    assert (house.item("Byron")[1].job_title, row["Phone"]) == ("Countess", "+44 1")


def test_before_the_first_session_contacts_in_the_folder_are_paired_or_asked_about(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    house.remote.put_contact(house.folder(), ADA)
    house.remote.put_contact(house.folder(), Contact(given_name="Bob", surname="Cole"))
    house.add_record(FirstName="ADA", LastName="Byron", Email="Ada@E.example", JobTitle="Countess")
    house.done()
    assert house.item("Byron")[1].job_title == "Countess"
    assert len(house.own()) == 1
    question = house.issues["first_upload"]
    issues.answer(house.deps, house.principal, question.id, "upload")
    house.later()
    assert sorted(row["LastName"] for row in house.own().values()) == ["Byron", "Cole"]
    assert "first_upload" not in house.issues


def test_the_later_change_wins_and_the_other_is_kept_on_an_issue(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron", JobTitle="Countess")
    house.done()
    house.remote.change_contact(house.item("Byron")[0], job_title="Analyst")
    house.forward(minutes=1)
    house.change_record(ada, JobTitle="Programmer")
    house.later()
    assert house.people() == ([("Ada", "Byron", "", "", "Programmer")],) * 2
    (told,) = [one for one in issues.told(house.deps, house.principal) if one.code == "conflict"]
    assert told.values == {"job_title": "Analyst"}


def test_a_deleted_contact_leaves_its_record_and_stays_deleted(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.remote.drop_contact(house.item("Byron")[0])
    house.later()
    house.change_record(ada, JobTitle="Countess")
    house.later()
    assert (house.items(), len(house.own())) == ({}, 1)


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
def test_a_deleted_contact_can_make_its_record_obsolete(house: House) -> None:
    house.set_profile(deleting="obsolete")
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.remote.drop_contact(house.item("Byron")[0])
    house.later()
    assert house.own() == {}


def test_a_record_that_is_gone_takes_its_contact_along(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.change_record(ada, StatusCode="4")
    house.later()
    assert house.items() == {}


def test_a_contact_of_the_owners_own_stays_when_its_record_goes(house: House) -> None:
    house.done()
    house.remote.put_contact(house.folder(), ADA)
    house.later()
    (row,) = house.own().values()
    house.change_record(row, StatusCode="4")
    house.later()
    assert len(house.items()) == 1
    house.remote.change_contact(house.item("Byron")[0], job_title="Countess")
    house.later()
    assert house.own() == {}


def test_a_record_that_becomes_anothers_leaves_with_the_daily_sweep(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.change_record(ada, ContactOwnerID=house.world.people[1].employee_id)
    house.later()
    assert len(house.items()) == 1
    house.forward(hours=24)
    house.done()
    assert house.items() == {}


def test_a_folder_that_was_deleted_is_filled_again(house: House) -> None:
    for number in range(3):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    house.remote.delete_folder(house.folder())
    house.later()
    assert len(house.items()) == len(house.own()) == 3


def test_read_only_restores_contacts(house: House) -> None:
    house.set_profile(contacts_read_only=True)
    house.add_record(FirstName="Ada", LastName="Byron")
    house.add_record(FirstName="Bob", LastName="Cole")
    house.done()
    house.remote.change_contact(house.item("Byron")[0], job_title="Countess")
    house.remote.drop_contact(house.item("Cole")[0])
    house.remote.put_contact(house.folder(), Contact(given_name="Eve", surname="Dunn"))
    house.later()
    assert sorted(c.surname for c in house.items().values()) == ["Byron", "Cole", "Dunn"]
    assert house.item("Byron")[1].job_title == ""
    assert len(house.own()) == 2
    assert {"restored", "may_not_upload"} <= house.issues.keys()


def test_the_guard_holds_back_what_would_change_too_much_until_somebody_says_yes(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(6)]
    house.done()
    for row in rows[:4]:
        house.change_record(row, StatusCode="4")
    house.change_record(rows[5], JobTitle="Countess")
    extra = house.add_record(FirstName="Eve", LastName="Dunn")
    house.later()
    assert len(house.items()) == 7, "what is new comes all the same"
    assert extra["LastName"] in {c.surname for c in house.items().values()}
    house.later()
    issues.answer(house.deps, house.principal, house.issues["guard"].id, "apply")
    house.later()
    assert len(house.items()) == 3
    assert house.item("Byron5")[1].job_title == "Countess"
    assert "guard" not in house.issues


def test_what_c4c_refuses_is_told_on_the_contact_until_it_is_mended(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", JobTitle="Countess")
    house.done()
    ref = house.item("Byron")[0]
    house.remote.change_contact(ref, job_title="x" * 41, given_name="Augusta")
    house.later()
    (row,) = house.own().values()
    assert (row["FirstName"], row["JobTitle"]) == ("Ada", "Countess"), "nothing of it is half done"
    assert "Job title" in house.told["rejected"].cause
    assert ERROR in house.remote.categories_of(ref)
    house.remote.change_contact(ref, job_title="Analyst")
    house.later()
    assert (row["FirstName"], row["JobTitle"]) == ("Augusta", "Analyst")
    assert ERROR not in house.remote.categories_of(ref)
    assert house.issues == {}


def test_a_new_contact_without_any_name_is_told(house: House) -> None:
    house.done()
    ref = house.remote.put_contact(house.folder(), Contact(emails=("ada@e.example",)))
    house.later()
    assert (house.own(), ERROR in house.remote.categories_of(ref)) == ({}, True)
    house.remote.change_contact(ref, surname="Byron")
    house.later()
    assert len(house.own()) == 1
    assert house.issues == {}


@pytest.mark.parametrize(("company", "found"), [("Engines Ltd", "Engines Ltd"), ("Engines", "Engines Ltd"), ("Other", None)])
def test_the_account_of_a_new_contact_is_found_by_its_company(house: House, company: str, found: str | None) -> None:
    account = house.add_record("account", Name="Engines Ltd", BusinessPartnerFormattedName="Engines Ltd")
    house.done()
    house.remote.put_contact(house.folder(), replace(ADA, company=company))
    house.later()
    (row,) = house.own().values()
    assert row.get("AccountID") == (account["AccountID"] if found else row.get("AccountID"))
    assert bool(row.get("AccountID")) is (found is not None)


def test_an_account_is_made_where_the_profile_says_so(house: House) -> None:
    house.set_profile(create_accounts=True, default_country="GB")
    house.done()
    house.remote.put_contact(house.folder(), replace(ADA, company="Engines Ltd"))
    house.remote.put_contact(house.folder(), Contact(given_name="Bob", surname="Cole", company="Engines Ltd"))
    house.later()
    (account,) = house.own("account").values()
    assert {row["AccountID"] for row in house.own().values()} == {account["AccountID"]}
    house.later()
    assert len(house.items("account")) == 1


def test_switching_a_type_off_leaves_everything_and_on_again_pairs_it(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.set_profile(contacts_filter="none")
    house.later()
    house.change_record(ada, JobTitle="Countess")
    house.later()
    assert house.item("Byron")[1].job_title == ""
    house.set_profile(contacts_filter="mine")
    house.later()
    assert house.item("Byron")[1].job_title == "Countess"
    assert len(house.items()) == len(house.own()) == 1


def test_no_more_than_the_limit_and_the_rest_is_told(house: House) -> None:
    house.set_profile(max_people=2)
    for number in range(5):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    assert len(house.items()) == 2
    assert house.told["too_many"].cause.startswith("3 ")


def test_a_contact_marked_as_individual_customer_is_mirrored_as_that(house: House) -> None:
    house.done()
    ref = house.remote.put_contact(house.folder(), ADA)
    house.remote.categorize_contact(ref, "Individual Customer")
    house.later()
    assert (len(house.own()), len(house.own("individual_customer"))) == (0, 1)
    assert (len(house.items()), len(house.items("individual_customer"))) == (0, 1)


def test_a_contact_that_is_moved_to_another_folder_is_another_type(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    house.remote.drag_contact(house.item("Byron")[0], house.folder("individual_customer"))
    house.later()
    house.later()
    assert (len(house.own()), len(house.own("individual_customer"))) == (1, 1)
    assert (len(house.items()), len(house.items("individual_customer"))) == (0, 1)


def test_a_lost_cursor_costs_a_whole_list_and_nothing_else(house: House) -> None:
    for number in range(3):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.done()
    house.remote.drop_contact(house.item("Byron1")[0])
    house.remote.forget_changes()
    house.forward(minutes=30)
    house.mark_events()
    house.done()
    assert (len(house.items()), len(house.own())) == (2, 3)
    assert house.happened() == []


def test_other_contacts_and_categories_are_not_touched(house: House) -> None:
    own = house.remote.put_contact(house.remote.own_contacts, ADA)
    house.remote.categorize_contact(own, "Private")
    house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    house.later()
    assert (house.remote.contacts(house.remote.own_contacts), house.remote.categories_of(own)) == ({own: ADA}, ["Private"])
    assert len(house.own()) == 1


def test_further_addresses_stay(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.done()
    ref = house.item("Byron")[0]
    house.remote.change_contact(ref, emails=("ada@e.example", "ada@home.example"))
    house.later()
    house.change_record(ada, Email="byron@e.example")
    house.later()
    assert house.item("Byron")[1].emails == ("byron@e.example", "ada@home.example")
    assert ada["Email"] == "byron@e.example"


# What it costs


def test_an_idle_session_asks_each_side_once_and_writes_nothing(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.later()
    house.later()
    house.forward(minutes=30)
    house.mark()
    house.mark_events()
    taken = house.take()
    with transactions(house.deps) as begun:
        sync.run_session(house.deps, taken)
    assert house.row.state == "done"
    assert (len(house.requests("graph")), len(house.requests("c4c"))) == (1, 1)
    assert house.happened() == []
    assert len(begun) == 2, "its begin and its end, beside the claim, which is shared"


def test_a_first_session_asks_hardly_more_than_the_protocols_need(house: House) -> None:
    for number in range(450):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}", Email=f"ada{number}@e.example")
    house.done()  # of an empty mailbox: folders and categories
    house.forward(minutes=30)
    assert len(house.items()) == 450
    graph, c4c = len(house.requests("graph")), len(house.requests("c4c"))
    assert graph <= 23 * 1.3 + FOLDERS_AND_MARKS
    assert c4c <= 4


def test_a_session_that_died_goes_on_where_it_was(house: House) -> None:
    for number in range(300):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    house.world.faults.append(Fault("graph", "acted_drop", match="/$batch", times=None))
    row = house.session()
    assert (row.state, row.first_done_at) == ("queued", None)
    house.world.faults.clear()
    house.forward(minutes=5)
    house.done()
    house.later()
    assert sorted(c.surname for c in house.items().values()) == sorted(f"Byron{n}" for n in range(300))


def test_a_session_that_begins_does_not_show_how_far_the_one_before_it_came(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    assert house.done().total > 0
    house.world.faults.append(Fault("graph", "status", status=503, times=None))
    house.forward(minutes=31)
    row = house.session()
    assert (row.phase, row.done, row.total) == ("", 0, 0)


def test_a_dry_run_tells_and_changes_nothing(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.change_record(ada, JobTitle="Countess")
    house.add_record(FirstName="Eve", LastName="Dunn")
    house.remote.put_contact(house.folder(), Contact(given_name="Bob", surname="Cole"))
    house.forward(minutes=30)
    before, row = house.people(), house.row
    planned = sync.plan_only(house.deps, house.principal)
    assert sorted(planned) == [
        ("change in the mailbox", "contact", "Ada Byron"),
        ("create in C4C", "contact", "Bob Cole"),
        ("create in the mailbox", "contact", "Eve Dunn"),
    ]
    assert (house.people(), house.row) == (before, row)


def test_what_keeps_failing_waits_longer_and_is_told_by_mail(house: House) -> None:
    house.done()
    house.world.faults.append(Fault("c4c", "status", status=503, times=None))
    pauses = []
    for _ in range(10):
        house.forward(minutes=31)
        row = house.session()
        assert row.next_due_at is not None
        pauses.append((row.next_due_at - house.deps.now()).total_seconds())
    assert row.failures == 10
    assert pauses[0] < 60 < pauses[3] < pauses[9] <= 33 * 60
    with house.deps.store.transaction() as tx:
        notices = tx.take_notices(house.deps.now(), 60, 10)
    assert [notice.kind for notice in notices] == ["sync_failing"]


@pytest.mark.parametrize("access_type", ["office365", "exchange_direct"], indirect=True)
def test_a_mark_that_is_gone_or_has_another_colour_is_put_right_within_a_day(house: House) -> None:
    house.done()
    before = house.remote.master
    first, second = sorted(name for name in before if "SAP" in name)[:2]
    for name in (first, second):
        house.remote.delete_category(name)
    house.remote.add_category(second, "preset14")
    assert house.remote.master != before
    house.forward(hours=24)
    house.done()
    assert house.remote.master == before


def test_sessions_come_at_the_profiles_interval_and_not_all_in_the_same_moment(house: House) -> None:
    house.set_profile(interval_min=20)
    pauses = set[float]()
    for _ in range(6):
        row = house.later()
        assert row.next_due_at is not None
        assert row.finished_at is not None
        pauses.add((row.next_due_at - row.finished_at).total_seconds())
    assert len(pauses) > 1
    assert all(18 * 60 <= pause <= 22 * 60 for pause in pauses)
