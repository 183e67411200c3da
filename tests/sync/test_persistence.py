"""Lists that move while they are read, and answers that stay the same whatever we try: a mailbox is not held up, nor asked on."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import httpx
import pytest

from server.domain.marks import FOLDERS
from server.services import issues
from simulator.world import Fault
from tests.sync.house import House
from tests.sync.test_adversity import ADA, EVERYWHERE, quiet

CREATING = "POST /sap/c4c/odata/v1/c4codataapi/ContactCollection"


def before(number: int, match: str, act: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Have something happen just before the n-th request goes out whose address holds `match`."""
    send, left = httpx.Client.send, number

    def sent(client: httpx.Client, request: httpx.Request, **kwargs: Any) -> httpx.Response:
        nonlocal left
        left -= match in str(request.url)
        if left == 0:
            left = -1
            act()
        return send(client, request, **kwargs)

    monkeypatch.setattr(httpx.Client, "send", sent)


def test_a_record_that_is_told_twice_still_gets_what_its_contact_has_new(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.set_profile(guard_items=1000)
    ada, *others = [house.add_record(FirstName="Ada", LastName=f"Byron{number}") for number in range(130)]
    house.done()
    house.forward(minutes=60)
    house.change_record(ada)
    house.remote.change_contact(house.item("Byron0")[0], job_title="Countess")
    house.forward(minutes=1)
    for row in others:
        house.change_record(row, Phone="+44 1")
    before(2, "c4codataapi/$batch", lambda: house.change_record(ada), monkeypatch)
    house.done()
    assert ada["JobTitle"] == "Countess"
    quiet(house)


def test_a_record_that_is_told_twice_is_paired_once(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.done()
    house.forward(minutes=60)
    ada = house.add_record(FirstName="Ada", LastName="Byron", Email="ada@e.example")
    house.remote.put_contact(house.folder(), ADA)
    house.forward(minutes=1)
    for number in range(130):
        house.add_record(FirstName="Ada", LastName=f"Byron{number}")
    before(2, "c4codataapi/$batch", lambda: house.change_record(ada, JobTitle="Countess"), monkeypatch)
    house.done()
    assert (len(house.items()), len(house.own())) == (131, 131)
    assert house.item("Byron")[1].job_title == "Countess"
    quiet(house)


def test_a_record_that_can_be_seen_without_having_changed_comes_with_the_daily_sweep(house: House) -> None:
    house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    for status in ("2", "4"):
        row = house.add_record(FirstName="Eve", LastName=f"Dunn{status}", StatusCode=status)
        row["EntityLastChangedOn"] -= timedelta(days=3)
    house.later()
    assert len(house.items()) == 1
    house.forward(hours=25)
    house.done()
    assert sorted(contact.surname for contact in house.items().values()) == ["Byron", "Dunn2"]
    quiet(house)


def test_a_service_that_asks_for_rest_gets_it_whoever_notified_meanwhile(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    house.done()
    house.forward(minutes=30)

    def notify() -> None:
        house.forward(seconds=5)
        with house.deps.store.transaction() as tx:
            tx.wake_session(house.connection.id, house.deps.now(), by_notice=True)

    house.world.faults.append(Fault("graph", "status", status=429, retry_after_s=900, times=None))
    before(1, "", notify, monkeypatch)
    row = house.session()
    assert row.next_due_at is not None
    assert row.next_due_at >= house.deps.now() + timedelta(seconds=890)


@EVERYWHERE
def test_a_contact_that_cannot_be_deleted_holds_up_nobody_else(house: House) -> None:
    ada = house.add_record(FirstName="Ada", LastName="Byron")
    house.done()
    house.change_record(ada, StatusCode="4")
    house.add_record(FirstName="Eve", LastName="Dunn")
    refusal = Fault(house.remote.vendor, "status", status=400, match=house.remote.deleting_contact, times=None)
    house.world.faults.append(refusal)
    house.later()
    assert [contact.surname for contact in house.items().values() if contact.surname != "Byron"] == ["Dunn"]
    assert list(house.issues) == ["rejected"]
    house.world.faults.clear()
    house.forward(minutes=30)
    house.done(forced=True)
    assert [contact.surname for contact in house.items().values()] == ["Dunn"]
    assert house.issues == {}
    quiet(house)


def test_a_yes_to_many_uploads_reads_none_of_them_singly(house: House) -> None:
    house.deps.mailbox(house.connection).ensure_folders(FOLDERS)
    for number in range(150):
        house.remote.put_contact(house.folder(), replace(ADA, surname=f"Byron{number}", emails=()))
    house.done()
    issues.answer(house.deps, house.principal, house.issues["first_upload"].id, "upload")
    house.mark()
    house.later()
    assert len(house.own()) == 150
    assert len(house.requests("graph")) < 30
    quiet(house)


def pause_s(house: House) -> float:
    """Run the session that is due next; return how long it is until the one after it."""
    due = house.row.next_due_at
    assert due is not None
    house.forward(seconds=max(0.0, (due - house.deps.now()).total_seconds()) + 1)
    due = house.done().next_due_at
    assert due is not None
    return (due - house.deps.now()).total_seconds()


def test_a_record_that_c4c_never_confirms_is_told_and_not_asked_for_every_minute(house: House) -> None:
    house.done()
    house.remote.put_contact(house.folder(), ADA)
    house.world.faults.append(Fault("c4c", "status", status=500, match=CREATING, times=None))
    assert pause_s(house) < 60
    assert min(pause_s(house) for _ in range(3)) > 1000
    assert list(house.issues) == ["rejected"]
    house.world.faults.clear()
    house.later()
    assert (house.issues, len(house.own())) == ({}, 1)
    quiet(house)


@pytest.mark.parametrize("access_type", ["exchange_direct"], indirect=True)
def test_a_contact_that_the_mailbox_never_confirms_is_told_and_not_asked_for_every_minute(house: House) -> None:
    house.done()
    house.add_record(FirstName="Ada", LastName="Byron")
    house.world.faults.append(Fault("exchange", "status", status=500, match=house.remote.creating_contacts, times=None))
    assert pause_s(house) < 60
    assert min(pause_s(house) for _ in range(2)) > 1000
    assert list(house.issues) == ["rejected"]
    house.world.faults.clear()
    house.later()
    assert (house.issues, len(house.items())) == ({}, 1)
    quiet(house)


def test_a_name_that_another_program_keeps_on_a_contact_may_be_long(house: House) -> None:
    house.done()
    house.remote.put_contact(house.folder(), ADA, link="x" * 200)
    house.later()
    (link,) = house.links
    assert (link.state, len(house.own())) == ("linked", 1)
    house.set_profile(contacts_read_only=True)
    house.remote.put_contact(house.folder(), replace(ADA, surname="Lovelace"), link="x" * 200)
    house.later()
    assert {len(one.item_name) <= 60 for one in house.links} == {True}  # as much as the column takes
