"""What a refusal quotes reaches the person whose it is, in their language, and lies nowhere in the clear."""

from collections.abc import Iterator
from dataclasses import replace

import sqlalchemy as sa

from server.domain.contact import Contact, PostalAddress
from server.services import issues, notices
from simulator.world import Fault
from tests.sync.house import House

ADA = Contact(display_name="Ada Byron", given_name="Ada", surname="Byron", emails=("ada@e.example",))
QUOTED = "Ruritanien-Zenda"
SAYS = f"The value {QUOTED} is not allowed"


def rows(house: House, *tables: str) -> Iterator[tuple[str, bytes]]:
    """All that these tables hold, by their names."""
    with house.deps.store._engine.connect() as db:
        for table in tables:
            for row in db.execute(sa.text(f"SELECT * FROM {table}")).mappings():
                values = [value if isinstance(value, bytes) else str(value).encode() for value in row.values()]
                yield table, b" ".join(values)


def assert_sealed(house: House) -> None:
    found = list(rows(house, "issue", "mailbox_sync", "link", "notice", "audit"))
    assert {"mailbox_sync"} <= {table for table, _ in found}
    assert [table for table, row in found if QUOTED.encode() in row] == []


def speaks_german(house: House) -> None:
    with house.deps.store.transaction() as tx:
        tx.set_language(house.principal.user.id, "de")


def test_a_value_that_c4c_does_not_know_is_named_to_its_owner_only(house: House) -> None:
    house.done()
    speaks_german(house)
    ref = house.remote.put_contact(house.folder(), replace(ADA, business_address=PostalAddress(country=QUOTED)))
    house.later()
    sentence = f"SAP Cloud for Customer kennt „{QUOTED}“ als „Land“ nicht."
    assert house.told["rejected"].cause == sentence
    assert house.told["rejected"].remedy.startswith("Bringen Sie es im Postfach oder in SAP Cloud for Customer in Ordnung")
    (english,) = issues.told(house.deps, house.principal, language="en")
    assert english.cause == f"SAP Cloud for Customer does not know “{QUOTED}” as “Country”."
    assert any(sentence[:20] in category for category in house.remote.categories_of(ref))
    assert_sealed(house)


def test_what_c4c_says_of_a_contact_is_quoted_to_its_owner_only(house: House) -> None:
    house.done()
    house.world.faults.append(Fault("c4c", "part_status", "POST /sap/c4c/odata/v1/c4codataapi/ContactCollection", 400, says=SAYS))
    house.remote.put_contact(house.folder(), ADA)
    house.later()
    assert house.told["rejected"].cause == f"It was refused. Details: “{SAYS}”"
    assert_sealed(house)


def test_what_ends_a_session_is_quoted_to_its_owner_only(house: House) -> None:
    speaks_german(house)
    house.done()
    house.world.faults.append(Fault("c4c", "part_status", "ContactCollection", 400, times=None, says=SAYS))
    for _ in range(notices.FAILING):
        house.forward(hours=1)
        row = house.session()
    assert (row.state, row.reason, row.failures) == ("failed", "rejected", notices.FAILING)
    assert house.why == f"Es wurde abgelehnt. Einzelheiten: „{SAYS}“"
    assert [table for table, _ in rows(house, "notice")] == ["notice"]
    assert_sealed(house)
    house.world.faults.clear()
    house.done(forced=True)
    assert house.why == ""
    assert house.row.facts is None
