"""What is mirrored of a contact, and what counts as a change of it."""

import hashlib
from dataclasses import replace

import pytest

from server.domain.contact import Contact, PostalAddress
from server.domain.people import PERSON_TYPES
from server.sync import mapping
from server.sync.mapping import SLOTS, base, fields, read_base, values, with_values
from tests.mail.contract_contacts import ADA


def hasher(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()[:16]


def of(contact: Contact) -> mapping.Base:
    return base("contact", values(contact, fields("contact", home=True)), hasher)


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_values_given_to_an_empty_contact_are_its_values(type: mapping.PersonType) -> None:
    given = values(ADA, fields(type, home=True))
    assert values(with_values(Contact(), given), fields(type, home=True)) == given


def test_what_is_not_mirrored_stays() -> None:
    changed = with_values(ADA, {"given_name": "Augusta", "business_address.city": "Bath"})
    assert changed == replace(ADA, given_name="Augusta", business_address=replace(ADA.business_address, city="Bath"))


@pytest.mark.parametrize(
    ("main", "then"),
    [
        ("new@example.com", ("new@example.com", "a.byron@example.com", "ada@home.example")),
        ("A.Byron@example.com", ("A.Byron@example.com", "ada@home.example")),
        ("", ("a.byron@example.com", "ada@home.example")),
    ],
)
def test_further_addresses_stay_when_the_main_one_changes(main: str, then: tuple[str, ...]) -> None:
    assert with_values(ADA, {"email": main}).emails == then


def test_a_base_is_read_as_it_was_written() -> None:
    assert read_base(of(ADA).text) == of(ADA)


@pytest.mark.parametrize("text", ["", "0" + "a" * 8 * (1 + len(SLOTS)), "1abc"])
def test_a_base_that_cannot_be_read_knows_nothing(text: str) -> None:
    assert read_base(text) == mapping.NOTHING


def test_a_base_shows_nothing_of_the_values() -> None:
    assert not any(value and value in of(ADA).text for value in values(ADA, SLOTS).values())


@pytest.mark.parametrize("name", fields("contact", home=True))
def test_another_value_has_another_hash(name: str) -> None:
    changed = of(with_values(ADA, {name: "Another"}))
    assert {one for one in SLOTS if changed.get(one) != of(ADA).get(one)} == {name}


@pytest.mark.parametrize(
    "same",
    [
        {"surname": " Byron "},
        {"email": "ADA@engines.example"},
        {"business_address.country": "UNITED KINGDOM"},
        {"business_address.street": "1 Mill Lane, Hall 2"},
        {"notes": "Met at the fair. \r\nLikes  numbers.\n"},
    ],
)
def test_another_spelling_is_no_change(same: dict[str, str]) -> None:
    assert of(with_values(ADA, same)) == of(ADA)


def test_fields_that_are_not_mirrored_are_unknown() -> None:
    known = read_base(base("contact", values(ADA, fields("contact")), hasher).text)
    assert set(known.hashes) == set(fields("contact"))
    assert known.get("home_phone") is None


PLAIN = Contact(given_name="Ada", surname="Byron", company="Engines")


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        (replace(PLAIN, emails=("ada@e.example",)), replace(PLAIN, emails=("ADA@e.example",), company="Other"), True),
        (replace(PLAIN, emails=("ada@e.example",)), replace(PLAIN, emails=("ada@f.example",)), False),
        (replace(PLAIN, emails=("ada@e.example",)), replace(PLAIN, given_name="Bob", emails=("ada@e.example",)), False),
        (PLAIN, replace(PLAIN, given_name="ADA"), True),
        (PLAIN, replace(PLAIN, company="Other"), False),
        (PLAIN, replace(PLAIN, emails=("ada@e.example",)), False),
        (Contact(emails=("ada@e.example",)), Contact(emails=("ada@e.example",)), False),
    ],
)
def test_likeness(one: Contact, other: Contact, alike: bool) -> None:
    likes = [mapping.likeness("contact", values(contact, fields("contact"))) for contact in (one, other)]
    assert (likes[0] == likes[1] and likes[0] != "") is alike


def test_an_account_is_known_by_its_company() -> None:
    one = values(Contact(display_name="Acme", business_address=PostalAddress(city="Bonn")), fields("account"))
    other = values(Contact(company="ACME"), fields("account"))
    assert mapping.likeness("account", one).split("\0")[1] == mapping.likeness("account", other).split("\0")[1]
