"""What people do while a session is under way, or before it knows what became of its own writes, reaches the other side."""

from collections.abc import Callable

import httpx
import pytest

from server.domain.contact import Contact
from server.domain.people import PersonType
from simulator.world import Fault
from tests.sync.house import SETS, House
from tests.sync.test_deaths import Died

EVERYWHERE = pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)
NO_C4C = Fault("c4c", "status", match="/sap/c4c/odata/v1/c4codataapi/Contact", status=503, times=None)
NO_MAILBOX = Fault("graph", "status", status=429, retry_after_s=60, times=None)


def quiet(house: House) -> None:
    """No session that follows has anything left to do."""
    house.later()
    house.mark_events()
    house.later()
    assert house.happened() == []


@pytest.mark.parametrize("type", ["account", "individual_customer"])
def test_what_is_emptied_before_we_know_of_a_record_of_ours_stays_empty(house: House, type: PersonType) -> None:
    house.done()
    house.forward(minutes=30)
    new = Contact(surname="Byron", company="Engines Ltd", business_phone="+44 1", emails=("ada@e.example",))
    ref = house.remote.put_contact(house.folder(type), new)
    house.world.faults.append(Fault("c4c", "acted_drop", match=f"POST /sap/c4c/odata/v1/c4codataapi/{SETS[type]}"))
    house.session()
    house.world.faults.clear()
    (row,) = house.own(type).values()
    house.remote.change_contact(ref, business_phone="")
    house.forward(minutes=20)
    house.session()
    house.later()
    (contact,) = house.items(type).values()
    assert (row["Phone"], contact.business_phone) == ("", "")
    quiet(house)


@EVERYWHERE
def test_what_an_owner_changes_just_before_their_contact_is_marked_reaches_c4c(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    row = house.add_record(LastName="Old")
    house.done()
    ref = house.item("Old")[0]
    house.remote.change_contact(ref, job_title="too long for C4C, which takes forty characters")
    house.later()
    assert house.issues
    house.remote.change_contact(ref, job_title="Countess")
    house.forward(minutes=30)
    send, begun = httpx.Client.send, list[str]()

    def sent(*args: object, **options: object) -> httpx.Response:
        answer = send(*args, **options)  # type: ignore[arg-type]
        if not begun and row.get("JobTitle") == "Countess":  # now the error mark is taken off
            begun.append(ref)
            house.remote.change_contact(ref, business_phone="+44 20 5550 1234")
        return answer

    monkeypatch.setattr(httpx.Client, "send", sent)
    house.done()
    assert (begun, house.issues) == ([ref], {})
    house.later()
    assert row.get("Phone") == "+44 20 5550 1234"
    quiet(house)


@pytest.mark.parametrize("deleting", ["obsolete", "unlink"])
def test_what_the_guard_holds_waits_also_when_one_of_it_changes_again(house: House, deleting: str) -> None:
    house.set_profile(guard_items=2, guard_share=20, deleting=deleting)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(6)]
    house.done()
    house.forward(minutes=30)
    for number in range(5):
        house.remote.drop_contact(house.item(f"Byron{number}")[0])
    house.done()
    asked, held = house.told["guard"].cause, sorted((link.state, link.code) for link in house.links)
    house.change_record(rows[0], JobTitle="Countess")
    house.later()
    assert (len(house.own()), sorted((link.state, link.code) for link in house.links)) == (6, held)
    assert house.told["guard"].cause == asked


def test_a_change_that_the_guard_holds_does_not_pass_with_a_later_one_of_the_same_contact(house: House) -> None:
    house.set_profile(guard_items=2, guard_share=20)
    rows = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(6)]
    house.done()
    house.forward(minutes=30)
    for number in range(5):
        house.remote.change_contact(house.item(f"Byron{number}")[0], job_title="by mistake")
    house.done()
    house.remote.change_contact(house.item("Byron0")[0], business_phone="+44 1")
    house.later()
    assert [row.get("JobTitle") for row in rows] == [None] * 6
    assert "guard" in house.issues


def test_what_an_owner_changes_reaches_a_record_that_could_not_be_seen_when_its_contact_was_found(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.done()
    house.forward(minutes=30)
    row, send = house.add_record(LastName="New", Phone="+44 1"), httpx.Client.send

    def sent(*args: object, **options: object) -> httpx.Response:
        answer = send(*args, **options)  # type: ignore[arg-type]
        if house.items():
            raise Died
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", sent)
        with pytest.raises(Died):
            house.session()
    house.forward(minutes=5)
    house.remote.change_contact(house.item("New")[0], business_phone="+44 20 5550 1234")
    key, rows = row["ObjectID"], house.world.crm.rows(SETS["contact"])
    hidden = rows.pop(key)
    house.forward(minutes=5)
    house.session()
    rows[key] = hidden
    house.later()
    house.later()
    assert [one["Phone"] for one in house.own().values()] == ["+44 20 5550 1234"]
    assert house.item("New")[1].business_phone == "+44 20 5550 1234"


def test_a_contact_of_the_owners_own_whose_record_is_anothers_comes_back_with_its_folder(house: House) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), Contact(given_name="Ada", surname="Byron", emails=("ada@e.example",)))
    house.done()
    (row,) = house.own().values()
    house.change_record(row, ContactOwnerID="8000000999")
    house.forward(minutes=60 * 25)
    house.done()
    assert len(house.items()) == 1
    house.remote.delete_folder(house.folder())
    house.later()
    house.later()
    assert [contact.surname for contact in house.items().values()] == ["Byron"]
    assert [link.state for link in house.links] == ["linked"]


def let_go_away(house: House, monkeypatch: pytest.MonkeyPatch, away: Fault, when: Callable[[], bool]) -> None:
    """Run a session during which one side does nothing any more as soon as something is so."""
    send = httpx.Client.send

    def sent(*args: object, **options: object) -> httpx.Response:
        answer = send(*args, **options)  # type: ignore[arg-type]
        if away not in house.world.faults and when():
            house.world.faults.append(away)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(httpx.Client, "send", sent)
        assert house.session().state == "queued"
    house.world.faults.remove(away)


def test_what_an_owner_takes_back_after_c4c_went_away_in_the_middle_of_a_session_is_taken_back_there(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(2):
        house.add_record(LastName=f"Byron{number}")
    house.done()
    house.forward(minutes=30)
    refs = [house.item(f"Byron{number}")[0] for number in range(2)]
    for ref in refs:
        house.remote.change_contact(ref, job_title="Countess")
    let_go_away(house, monkeypatch, NO_C4C, lambda: any(row.get("JobTitle") for row in house.own().values()))
    assert sorted(row.get("JobTitle") or "" for row in house.own().values()) == ["", "Countess"]
    for ref in refs:
        house.remote.change_contact(ref, job_title="")
    house.later()
    house.later()
    assert [row.get("JobTitle") or "" for row in house.own().values()] == ["", ""]
    assert [contact.job_title for contact in house.items().values()] == ["", ""]


def test_records_that_were_created_before_c4c_went_away_are_known(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.done()
    house.forward(minutes=30)
    for number in range(2):
        house.remote.put_contact(house.folder(), Contact(given_name="Ada", surname=f"Byron{number}"))
    let_go_away(house, monkeypatch, NO_C4C, lambda: bool(house.own()))
    (row,) = house.own().values()
    house.change_record(row, FirstName="Augusta", LastName="King")  # by which nobody could find it any more
    house.later()
    house.later()
    assert len(house.own()) == len(house.items()) == 2
    assert "King" in {contact.surname for contact in house.items().values()}


def test_a_record_that_was_created_before_the_mailbox_went_away_is_known(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.done()
    house.forward(minutes=30)
    house.remote.put_contact(house.folder(), Contact(given_name="Ada", surname="Byron"))
    let_go_away(house, monkeypatch, NO_MAILBOX, lambda: bool(house.own()))
    (row,) = house.own().values()
    house.change_record(row, FirstName="Augusta", LastName="King")
    house.forward(minutes=30)
    house.later()
    house.later()
    assert (
        [contact.surname for contact in house.items().values()] == [one["LastName"] for one in house.own().values()] == ["King"]
    )


def test_what_an_owner_takes_back_after_the_mailbox_went_away_is_taken_back_in_c4c(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, other = house.add_record(LastName="Old"), house.add_record(LastName="Other")
    house.done()
    house.forward(minutes=30)
    ref = house.item("Old")[0]
    house.remote.change_contact(ref, job_title="Countess")
    house.remote.change_contact(house.item("Other")[0], job_title="Countess")
    house.change_record(other, Phone="+44 1")  # so that one of both is to be written in the mailbox, too
    let_go_away(house, monkeypatch, NO_MAILBOX, lambda: [one.get("JobTitle") for one in (old, other)] == ["Countess"] * 2)
    house.remote.change_contact(ref, job_title="")
    house.forward(minutes=30)
    house.later()
    house.later()
    assert (old.get("JobTitle") or "", house.item("Old")[1].job_title) == ("", "")
    assert (other["JobTitle"], house.item("Other")[1].business_phone) == ("Countess", "+44 1")
