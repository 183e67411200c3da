"""Where C4C shows a person no records of some type, the others go on, and nothing of that type is touched."""

import pytest

from server.domain.contact import Contact
from simulator.world import Fault
from tests.sync.house import House

pytestmark = pytest.mark.parametrize("access_type", ["office365", "exchange_direct", "google"], indirect=True)


def hide(house: House, collection: str = "CorporateAccountCollection") -> None:
    house.world.faults.append(Fault("c4c", "part_status", status=403, match=collection, times=None))


def test_of_a_type_that_c4c_does_not_show_nothing_is_touched_until_it_shows_it_again(house: House) -> None:
    firm = house.add_record("account", Name="Harrow Ltd")
    house.add_record(LastName="Ada")
    house.done()
    hide(house)
    (ref,) = house.items("account")
    house.remote.change_contact(ref, business_phone="+44 1")
    house.remote.put_contact(house.folder("account"), Contact(company="Willow Ltd"))
    house.remote.put_contact(house.folder(), Contact(surname="Bea"))
    house.add_record(LastName="Cleo")
    house.later()
    assert house.told["no_rights"].name == "account"
    assert sorted(contact.surname for contact in house.items().values()) == ["Ada", "Bea", "Cleo"]
    assert len(house.own()) == 3
    assert (len(house.items("account")), len(house.own("account"))) == (2, 1)

    house.mark()
    house.later()
    asked = [call.parts for call in house.requests("c4c") if call.parts]
    assert asked == [("GET ContactCollection", "GET IndividualCustomerCollection")]  # until a day is over
    house.change_record(firm, City="Leeds")
    house.world.faults.clear()
    house.forward(hours=24)
    house.done()
    assert "no_rights" not in house.told
    assert sorted(str(row["Name"]) for row in house.own("account").values()) == ["Harrow Ltd", "Willow Ltd"]
    assert firm["Phone"] == "+44 1"
    (harrow,) = [contact for contact in house.items("account").values() if contact.company == "Harrow Ltd"]
    assert harrow.business_address.city == "Leeds"
    house.mark_events()
    house.later()
    assert house.happened() == []


def test_who_may_see_no_accounts_creates_contacts_without_one(house: House) -> None:
    house.done()
    hide(house)
    house.remote.put_contact(house.folder(), Contact(surname="Ada", company="Harrow Ltd"))
    house.later()
    assert [row["LastName"] for row in house.own().values()] == ["Ada"]
    assert set(house.told) == {"no_rights"}


def test_who_may_see_nobody_is_told_that_the_session_failed(house: House) -> None:
    house.done()
    for collection in ("ContactCollection", "CorporateAccountCollection", "IndividualCustomerCollection"):
        hide(house, collection)
    house.forward(minutes=30)
    assert house.session().state == "failed"
