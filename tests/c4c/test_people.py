"""People of C4C as they are mirrored: nobody is lost or doubled, every field goes both ways, nothing else is touched."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings, strategies as st

from server.c4c import C4C, PeoplePage
from server.c4c.person_rows import SHAPES, joined_street, split_name, split_street
from server.domain.contact import Contact, PostalAddress
from server.domain.people import PERSON_TYPES, Person, PersonType, Scope
from server.errors import Conflict, InvalidInput, NotFound, Rejected, Transient, Unknown
from simulator.c4c.records import seed
from simulator.c4c.schema import schema
from simulator.world import Fault, Person as Colleague, Row, World
from tests.c4c.conftest import Tenant

HERE = PostalAddress("Lange Straße 12a", "Ulm", "Bavaria", "89073", "Germany")
THERE = PostalAddress("1 Infinite Loop, Building 2", "Cupertino", "California", "95014", "United States")
REACHED = {"emails": ("Ann.Other@Example.com",), "business_phone": "+44 1632 960001", "mobile_phone": "+44 1632 960002"}
ANN = Contact(
    given_name="Ann", surname="Other", display_name="Ann Other", department="Purchasing", job_title="Buyer", **REACHED,
    fax="+44 1632 960003", home_phone="+44 1632 960004", business_address=HERE, home_address=THERE, notes="Likes tea.\nNo milk.",
)  # fmt: skip
CUSTOMER = replace(
    ANN, department="", job_title="", home_phone="", home_address=PostalAddress(), web_page="https://ann.example.com"
)
FIRM = replace(CUSTOMER, given_name="", surname="", display_name="Other & Daughters Ltd", company="Other & Daughters Ltd")
WHOLE: dict[PersonType, Contact] = {"contact": ANN, "account": FIRM, "individual_customer": CUSTOMER}
BARE: dict[PersonType, Contact] = {
    "contact": Contact(surname="Bare", display_name="Bare"),
    "account": Contact(company="Bare", display_name="Bare"),
    "individual_customer": Contact(surname="Bare", display_name="Bare"),
}
ODD = 'Zoë 👩‍👩‍👧 \u202eاحمد\u202c O\'Hara "<b>"'


def rows(world: World, type: PersonType) -> dict[str, Row]:
    return world.crm.rows(SHAPES[type].entity_set)


def made(c4c: C4C, me: Colleague, contact: Contact, type: PersonType = "contact", **more: Any) -> Person:
    """Create a record of mine."""
    key = more.pop("key", uuid4().hex)
    return c4c.people.create(type, contact, key=key, owner_id=me.employee_id, role="CRM000", **more)


def reread(c4c: C4C, person: Person) -> Person:
    return c4c.people.read([(person.type, person.id)], home=True)[person.type, person.id]


def all_pages(c4c: C4C, scope: Scope, since: datetime | None = None) -> Iterator[PeoplePage]:
    (page,) = c4c.people.changed([(scope, since)])
    yield page
    while not page.is_last:
        page = c4c.people.next(scope, page.after)
        yield page


def ids(pages: list[PeoplePage]) -> list[str]:
    return [person.id for page in pages for person in page.people]


def crowd(world: World, number: int, *, at: datetime | None = None, step: timedelta = timedelta(seconds=1)) -> list[str]:
    """Replace all contacts by `number` new ones that changed one after the other; their ObjectIDs."""
    world.crm.rows("ContactCollection").clear()
    begin = at or world.now() - timedelta(days=1)
    made = (seed(world, "ContactCollection", LastName=f"N{n}", StatusCode="2", at=begin + n * step) for n in range(number))
    return [row["ObjectID"] for row in made]


# -- fields


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_every_field_goes_to_c4c_and_comes_back(c4c: C4C, me: Colleague, type: PersonType) -> None:
    person = made(c4c, me, WHOLE[type], type)
    assert person.contact == WHOLE[type]
    assert (person.owner_id, person.is_obsolete, person.account_id) == (me.employee_id, False, "")
    assert reread(c4c, person) == person


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_every_field_can_be_filled_changed_and_emptied(c4c: C4C, me: Colleague, type: PersonType) -> None:
    person = made(c4c, me, BARE[type], type)
    assert person.contact == BARE[type]
    for wanted in (WHOLE[type], other_values(WHOLE[type]), BARE[type]):
        c4c.people.change(person, wanted, home=True)
        person = reread(c4c, person)
        assert person.contact == wanted


def other_values(contact: Contact) -> Contact:
    """The same fields filled with other values."""
    changed = {
        one.name: getattr(contact, one.name) + " 2"
        for one in fields(Contact)
        if isinstance(getattr(contact, one.name), str) and getattr(contact, one.name)
    }
    if contact.surname:
        changed["display_name"] = f"{changed['given_name']} {changed['surname']}"
    home = HERE if contact.home_address.city else PostalAddress()
    return replace(contact, **changed, emails=("other@example.com",), business_address=THERE, home_address=home)


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_a_change_of_one_field_writes_that_one_only(c4c: C4C, world: World, me: Colleague, type: PersonType) -> None:
    other = other_values(WHOLE[type])
    person = made(c4c, me, WHOLE[type], type)
    stamps = {"ETag", "ChangedOn", "ChangedBy", "EntityLastChangedOn"}
    for part, prop in SHAPES[type].plain.items():
        before = dict(rows(world, type)[person.id])
        part = "emails" if part == "email" else part
        c4c.people.change(person, replace(person.contact, **{part: getattr(other, part)}), home=True)
        person = reread(c4c, person)
        assert getattr(person.contact, part) == getattr(other, part)
        assert {name for name, value in rows(world, type)[person.id].items() if before.get(name) != value} - stamps == {prop}


def test_nothing_is_written_when_nothing_differs(c4c: C4C, tenant: Tenant, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    before = len(tenant.calls())
    spelled = replace(ANN.business_address, country="GERMANY", region="bavaria", street=" Lange Straße 12a \n")
    again = replace(ANN, business_address=spelled, notes="Likes tea.\r\nNo milk.\r\n", emails=(*ANN.emails, "second@example.com"))
    c4c.people.change(person, again, home=True)
    assert len(tenant.calls()) == before


def test_home_is_only_written_when_asked_for(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    c4c.people.change(person, replace(ANN, home_phone="+44 1632 960009", surname="Changed"))
    now = reread(c4c, person).contact
    assert (now.surname, now.home_phone) == ("Changed", ANN.home_phone)


def test_the_rest_of_a_record_stays(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    row = rows(world, "contact")[person.id]
    row |= {"NickName": "Annie", "BirthName": "Else"}
    (home,) = world.crm.children("ContactPersonalAddressCollection", person.id)
    home["POBox"] = "77"
    second = seed(world, "ContactTextCollectionCollection", parent=row, Text="A second text", at=world.now())
    c4c.people.change(person, replace(BARE["contact"], surname="Bare"), home=True)
    assert (row["NickName"], row["BirthName"], home["POBox"], second["Text"]) == ("Annie", "Else", "77", "A second text")
    assert [one["Text"] for one in world.crm.children("ContactTextCollectionCollection", person.id)] == ["A second text"]


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_difficult_text_goes_both_ways(c4c: C4C, me: Colleague, type: PersonType) -> None:
    notes = f"{ODD}\n\n  {{{{7*7}}}} %27 \u2028 '; --\ttab\n\U0001f600"
    name = {"company": 'O\'Hara "<b>" *', "display_name": 'O\'Hara "<b>" *'} if type == "account" else {"surname": ODD[:30]}
    person = made(c4c, me, replace(BARE[type], **name, notes=notes), type)
    assert person.contact.notes == notes
    assert reread(c4c, person) == person
    changed = replace(person.contact, notes=notes[::-1].strip())
    c4c.people.change(person, changed)
    assert reread(c4c, person).contact == changed


def test_characters_that_c4c_cannot_store_are_left_out(c4c: C4C, me: Colleague) -> None:
    person = made(c4c, me, Contact(surname="A\x00 \x0b B\ufffe\r\n C", notes="x\x00y\x1fz"))
    assert (person.contact.surname, person.contact.notes) == ("A B C", "xyz")
    assert reread(c4c, person) == person


@pytest.mark.parametrize("type", PERSON_TYPES)
def test_what_is_too_long_is_refused_by_name_and_what_fits_is_not(
    c4c: C4C, tenant: Tenant, me: Colleague, type: PersonType
) -> None:
    known = schema().sets[SHAPES[type].entity_set].properties
    for part, prop in SHAPES[type].plain.items():
        limit, name = known[prop].max_length, "emails" if part == "email" else part
        assert limit is not None
        fits, too_long = "x" * limit, "x" * (limit + 1)
        value = getattr(made(c4c, me, with_value(BARE[type], name, fits), type).contact, name)
        assert value == ((fits,) if name == "emails" else fits)
        before = len(tenant.calls())
        with pytest.raises(Rejected) as refused:
            made(c4c, me, with_value(BARE[type], name, too_long), type)
        assert (refused.value.code, refused.value.facts) == ("too_long", {"field": part, "limit": str(limit)})
        assert len(tenant.calls()) == before


def with_value(contact: Contact, name: str, value: str) -> Contact:
    return replace(contact, **{name: (value,) if name == "emails" else value})


@pytest.mark.parametrize(
    ("address", "code", "facts"),
    [
        (PostalAddress(street="x" * 61), "too_long", {"field": "street", "limit": "60"}),
        (PostalAddress(city="x" * 41), "too_long", {"field": "city", "limit": "40"}),
        (PostalAddress(postal_code="x" * 11), "too_long", {"field": "postal_code", "limit": "10"}),
        (PostalAddress(country="Ruritania"), "unknown_value", {"field": "country", "value": "Ruritania"}),
        (PostalAddress(country="Germany", region="Transylvania"), "unknown_value", {"field": "region", "value": "Transylvania"}),
        (PostalAddress(region="Bavaria"), "region_without_country", {"field": "region"}),
    ],
)
def test_an_address_that_c4c_cannot_hold_is_refused_by_name(
    c4c: C4C, me: Colleague, address: PostalAddress, code: str, facts: dict[str, str]
) -> None:
    with pytest.raises(Rejected) as refused:
        made(c4c, me, replace(FIRM, business_address=address), "account")
    assert (refused.value.code, refused.value.facts) == (code, {**facts, "field": f"business_address.{facts['field']}"})
    person = made(c4c, me, ANN)
    if not address.region:
        with pytest.raises(Rejected) as refused:
            c4c.people.change(person, replace(ANN, home_address=address), home=True)
        assert (refused.value.code, refused.value.facts) == (code, {**facts, "field": f"home_address.{facts['field']}"})
        assert reread(c4c, person) == person


def test_what_is_read_and_written_is_what_c4c_has(c4c: C4C) -> None:
    for shape in SHAPES.values():
        known = schema().sets[shape.entity_set].properties
        assert set(shape.select) <= set(known)
        assert all(known[prop].creatable and known[prop].updatable for prop in shape.plain.values())


@pytest.mark.parametrize("country", ["Germany", "germany", "DE", "de"])
def test_a_country_is_known_by_name_and_code(c4c: C4C, tenant: Tenant, me: Colleague, country: str) -> None:
    for _ in range(2):
        person = made(c4c, me, replace(ANN, business_address=PostalAddress(country=country), home_address=PostalAddress()))
        assert person.contact.business_address == PostalAddress(country="Germany")
    assert [call.path.rpartition("/")[2] for call in tenant.calls()] == [
        "CorporateAccountCountryCodeCollection", "ContactCollection", "ContactCollection",
    ]  # fmt: skip


def test_a_contacts_region_may_be_one_that_c4c_does_not_list(c4c: C4C, me: Colleague) -> None:
    somewhere = PostalAddress(region="Upper Nowhere", country="Germany")
    assert made(c4c, me, replace(ANN, business_address=somewhere)).contact.business_address == somewhere


@pytest.mark.parametrize(
    ("contact", "first", "last"),
    [
        (Contact(display_name="Ann Other", given_name="Ann"), "", "Ann Other"),
        (Contact(given_name="Ann"), "", "Ann"),
        (Contact(given_name="Ann", company="Other Ltd"), "", "Ann"),
        (Contact(company="Other Ltd"), "", "Other Ltd"),
        (Contact(given_name="Ann", display_name="Nan"), "Ann", "Nan"),
        (Contact(given_name="Ann", surname="Other", display_name="Nan"), "Ann", "Other"),
    ],
)
def test_without_a_last_name_another_stands_in(c4c: C4C, me: Colleague, contact: Contact, first: str, last: str) -> None:
    person = made(c4c, me, contact)
    assert (person.contact.given_name, person.contact.surname) == (first, last)


@pytest.mark.parametrize(("type", "part"), [("contact", "surname"), ("individual_customer", "surname"), ("account", "company")])
def test_without_any_name_nothing_is_sent(c4c: C4C, tenant: Tenant, me: Colleague, type: PersonType, part: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        made(c4c, me, Contact(emails=("nameless@example.com",)), type)
    assert (refused.value.field, tenant.calls()) == (part, [])


@pytest.mark.parametrize(
    "name", ["Short Ltd", "A rather long name of a company with many words in it, which goes on and on GmbH"]
)
def test_a_companys_name_goes_into_as_many_properties_as_it_needs(c4c: C4C, me: Colleague, name: str) -> None:
    person = made(c4c, me, Contact(company=name), "account")
    assert (person.contact.company, person.contact.display_name) == (name, name)
    assert reread(c4c, person) == person
    for too_long in ("x" * 41, " ".join(["word"] * 40)):
        with pytest.raises(Rejected, match="Company"):
            c4c.people.change(person, replace(person.contact, company=too_long))


@given(st.lists(st.text("aß漢1290-/,.", min_size=1, max_size=12), max_size=6))
@settings(max_examples=300)
def test_no_street_is_lost(words: list[str]) -> None:
    street, number = split_street(" ".join(words))
    assert joined_street(street, number) == " ".join(words)
    assert number == "" or (number[0].isdecimal() and len(number) <= 10 and street != "")


@pytest.mark.parametrize(
    ("street", "parts"),
    [
        ("Lange Straße 12a", ("Lange Straße", "12a")),
        ("12 Main Street", ("12 Main Street", "")),
        ("Main Street", ("Main Street", "")),
        ("Route 66 5-7/9", ("Route 66", "5-7/9")),
        ("4711", ("4711", "")),
        ("Building 2\r\n Lange Straße  12 \n", ("Building 2, Lange Straße", "12")),
    ],
)
def test_a_house_number_is_told_from_its_street(street: str, parts: tuple[str, str]) -> None:
    assert split_street(street) == parts


@given(st.lists(st.text("ab", min_size=1, max_size=39), max_size=4))
def test_no_company_name_is_lost(words: list[str]) -> None:
    parts = split_name(" ".join(words))
    assert " ".join(filter(None, parts)) == " ".join(words)
    assert all(len(part) <= 40 for part in parts)


# -- what changed


def test_what_changed_in_all_types_is_one_request(c4c: C4C, tenant: Tenant, world: World) -> None:
    since = world.now() + timedelta(seconds=1)
    pages = c4c.people.changed([(Scope(type, home=True), since) for type in PERSON_TYPES])
    assert [(page.people, page.is_last) for page in pages] == [((), True)] * 3
    (call,) = tenant.calls()
    assert call.parts == tuple(f"GET {SHAPES[type].entity_set}" for type in PERSON_TYPES)


def test_a_few_changes_are_one_request_too(c4c: C4C, tenant: Tenant, world: World, me: Colleague) -> None:
    since = world.now()
    people = [made(c4c, me, WHOLE[type], type) for type in PERSON_TYPES]
    before = len(tenant.calls())
    pages = c4c.people.changed([(Scope(type, home=True), since) for type in PERSON_TYPES])
    assert [(page.people, page.is_last) for page in pages] == [((person,), True) for person in people]
    assert len(tenant.calls()) == before + 1


def test_a_change_is_told_whichever_part_of_the_record_it_concerns(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    for changed in (replace(ANN, fax=""), replace(ANN, fax="", notes="New"), replace(ANN, fax="", notes="New", home_phone="1")):
        assert person.changed_at is not None
        since = person.changed_at + timedelta(milliseconds=1)
        c4c.people.change(person, changed, home=True)
        ((person,),) = [page.people for page in c4c.people.changed([(Scope("contact", home=True), since)])]
        assert person.contact == changed


@pytest.mark.parametrize("scope", [Scope("contact", home=True), Scope("contact"), Scope("contact", notes=False)])
def test_2500_contacts_come_each_once_in_three_requests(c4c: C4C, tenant: Tenant, world: World, scope: Scope) -> None:
    everybody = crowd(world, 2500)
    pages = list(all_pages(c4c, scope))
    assert ids(pages) == everybody
    assert pages[0].total == 2500
    assert len(tenant.calls()) == len(pages) == 3


def test_the_end_is_found_wherever_it_is(c4c: C4C, tenant: Tenant, world: World) -> None:
    for number in (0, 1, 99, 100, 101, 199, 991, 992):
        everybody, before = crowd(world, number), len(tenant.calls())
        assert ids(list(all_pages(c4c, Scope("contact")))) == everybody
        assert len(tenant.calls()) - before == 1 + (number > 991)
        assert ids(list(all_pages(c4c, Scope("contact"), world.now() - timedelta(days=2)))) == everybody


@pytest.mark.parametrize("notes", [True, False])
def test_many_that_changed_in_the_same_moment_come_each_once(c4c: C4C, world: World, notes: bool) -> None:
    everybody = crowd(world, 2200, step=timedelta(0))
    assert sorted(ids(list(all_pages(c4c, Scope("contact", notes=notes))))) == sorted(everybody)


@pytest.mark.parametrize("step", [timedelta(seconds=1), timedelta(0)])
@pytest.mark.parametrize("notes", [True, False])
def test_nobody_is_lost_when_people_change_between_pages(c4c: C4C, world: World, notes: bool, step: timedelta) -> None:
    everybody = crowd(world, 1300, step=step)
    scope, found = Scope("contact", notes=notes), set()
    for number, page in enumerate(all_pages(c4c, scope)):
        found |= {person.id for person in page.people}
        if number < 3:
            for id in (everybody[number], everybody[900 + number], *[person.id for person in page.people[-1:]]):
                world.crm.rows("ContactCollection")[id] |= {"EntityLastChangedOn": world.now(), "LastName": "Changed"}
    assert found == set(everybody)


@pytest.mark.parametrize("step", [timedelta(seconds=1), timedelta(0)])
@pytest.mark.parametrize("times", [1, 4, 11])
def test_nobody_is_lost_when_people_change_between_the_parts_of_a_request(
    c4c: C4C, world: World, times: int, step: timedelta
) -> None:
    everybody = crowd(world, 1300, step=step)
    world.faults.append(Fault("c4c", "moved", "ContactCollection", times=times))
    pages = list(all_pages(c4c, Scope("contact")))
    assert set(ids(pages)) == set(everybody)
    assert len(pages) < 10 + times


def test_only_the_owners_people_are_told_when_asked_for(c4c: C4C, world: World, me: Colleague) -> None:
    mine = made(c4c, me, ANN)
    other = c4c.people.create("contact", ANN, key=uuid4().hex, owner_id=world.people[1].employee_id, role="")
    scope = Scope("contact", owner_id=me.employee_id)
    told = set(ids(list(all_pages(c4c, scope))))
    assert mine.id in told
    assert other.id not in told
    assert told == {id for id, row in rows(world, "contact").items() if row["ContactOwnerID"] == me.employee_id}
    rows(world, "contact")[mine.id]["ContactOwnerID"] = world.people[1].employee_id
    assert mine.id not in c4c.people.ids(scope)[0]


def test_who_is_no_employee_does_not_get_the_people_without_an_owner(c4c: C4C, tenant: Tenant, world: World) -> None:
    seed(world, "ContactCollection", LastName="Ownerless", StatusCode="2")
    nobody = Scope("contact", owner_id="")
    asked = [lambda: c4c.people.changed([(nobody, None)]), lambda: c4c.people.next(nobody, "|0|"), lambda: c4c.people.ids(nobody)]
    for ask in asked:
        with pytest.raises(InvalidInput):
            ask()
    assert tenant.calls() == []


def test_hidden_people_are_not_told(c4c: C4C, world: World) -> None:
    hidden = {id for id in rows(world, "contact") if id in world.crm.visible_to}
    assert hidden
    assert not hidden & set(ids(list(all_pages(c4c, Scope("contact")))))
    assert c4c.people.read([("contact", id) for id in hidden]) == {}


def test_an_obsolete_record_is_told_as_such(c4c: C4C, world: World, me: Colleague) -> None:
    for type in PERSON_TYPES:
        person = made(c4c, me, WHOLE[type], type)
        c4c.people.set_obsolete(person)
        assert reread(c4c, person).is_obsolete
        (page,) = c4c.people.changed([(Scope(type), person.changed_at)])
        assert [one.is_obsolete for one in page.people if one.id == person.id] == [True]
        with pytest.raises(Conflict):
            c4c.people.set_obsolete(person)


def test_a_cursor_that_is_not_ours_is_refused(c4c: C4C, tenant: Tenant) -> None:
    for cursor in ("", "x", "x|1|A", "|", "2026-11-22T00:00:00Z|-1|A"):
        with pytest.raises(InvalidInput):
            c4c.people.next(Scope("contact"), cursor)
    assert tenant.calls() == []


def test_the_error_of_one_list_is_the_error_of_all(c4c: C4C, world: World) -> None:
    world.faults.append(Fault("c4c", "part_status", "IndividualCustomerCollection", status=503))
    with pytest.raises(Transient):
        c4c.people.changed([(Scope(type), world.now()) for type in PERSON_TYPES])


# -- ids


def swept(c4c: C4C, scope: Scope) -> set[str]:
    found, after = c4c.people.ids(scope)
    swept = set(found)
    while after is not None:
        found, after = c4c.people.ids(scope, after)
        swept |= found
    return swept


def test_all_ids_are_a_request_for_each_thousand(c4c: C4C, tenant: Tenant, world: World) -> None:
    everybody = crowd(world, 2500)
    assert swept(c4c, Scope("contact")) == set(everybody)
    assert len(tenant.calls()) == 3


def test_an_id_that_stays_is_told_even_if_the_list_moves(c4c: C4C, world: World) -> None:
    everybody = crowd(world, 1500)
    found, after = c4c.people.ids(Scope("contact"))
    for id in (everybody[0], everybody[999]):
        del world.crm.rows("ContactCollection")[id]
    told = set(found)
    while after is not None:
        found, after = c4c.people.ids(Scope("contact"), after)
        told |= found
    assert told >= set(everybody) - {everybody[0], everybody[999]}


# -- one by one


def test_many_are_read_in_one_request_for_each_fifty(c4c: C4C, tenant: Tenant, world: World) -> None:
    refs = [(type, id) for type in PERSON_TYPES for id in rows(world, type) if id not in world.crm.visible_to]
    found = c4c.people.read([*refs, *refs, ("contact", "0" * 32), ("account", refs[0][1])])
    assert set(found) == set(refs)
    assert len(tenant.calls()) == 1
    crowd(world, 60)
    assert len(c4c.people.read([("contact", id.lower()) for id in rows(world, "contact")])) == 60
    assert len(tenant.calls()) == 3
    assert c4c.people.read([]) == {}


@pytest.mark.parametrize("part", ["surname", "notes", "home_phone"])
def test_a_record_that_changed_meanwhile_is_not_overwritten(c4c: C4C, world: World, me: Colleague, part: str) -> None:
    person = made(c4c, me, ANN)
    c4c.people.change(person, replace(ANN, notes="Somebody else was here."))
    now = reread(c4c, person)
    for fax in (ANN.fax, ""):
        with pytest.raises(Conflict):
            c4c.people.change(person, replace(ANN, fax=fax, **{part: "Mine"}), home=True)
    assert reread(c4c, person) == now
    c4c.people.change(replace(person, etag=""), replace(ANN, **{part: "Mine"}), home=True)
    assert getattr(reread(c4c, person).contact, part) == "Mine"


@pytest.mark.parametrize("part", ["surname", "notes"])
def test_a_record_that_somebody_else_is_changing_is_a_conflict(c4c: C4C, world: World, me: Colleague, part: str) -> None:
    person = made(c4c, me, ANN)
    world.crm.record_locks[person.id] = "SOMEBODY"
    with pytest.raises(Conflict):
        c4c.people.change(person, replace(ANN, **{part: "Mine"}))
    world.crm.record_locks.clear()
    assert reread(c4c, person) == person


def test_header_and_children_change_together_or_not_at_all(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    world.faults.append(Fault("c4c", "part_status", "ContactTextCollectionCollection", status=400))
    with pytest.raises(Rejected):
        c4c.people.change(person, replace(ANN, surname="Half", notes="Half"))
    assert reread(c4c, person) == person


def test_a_record_that_is_gone_is_not_found(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    world.crm.visible_to[person.id] = frozenset()
    for changed in (replace(ANN, surname="x"), replace(ANN, notes="x")):
        with pytest.raises(NotFound):
            c4c.people.change(person, changed)


@pytest.mark.parametrize("more", [{}, {"surname": "Half"}])
def test_a_child_that_somebody_deletes_meanwhile_does_not_make_the_record_gone(
    c4c: C4C, world: World, me: Colleague, more: dict[str, str]
) -> None:
    person = made(c4c, me, ANN)
    world.faults.append(Fault("c4c", "part_status" if more else "status", "ContactTextCollectionCollection", status=404))
    with pytest.raises(Conflict):
        c4c.people.change(person, replace(ANN, notes="Mine", **more))
    assert reread(c4c, person) == person


def test_a_lost_answer_to_a_change_is_unknown_and_reading_tells(c4c: C4C, world: World, me: Colleague) -> None:
    person = made(c4c, me, ANN)
    world.faults.append(Fault("c4c", "acted_drop", "PATCH"))
    with pytest.raises(Unknown):
        c4c.people.change(person, replace(ANN, surname="Acted"))
    assert reread(c4c, person).contact.surname == "Acted"


@pytest.mark.parametrize("kind", ["html", "garbage"])
def test_a_page_of_somebody_else_does_not_confirm_a_change(c4c: C4C, world: World, me: Colleague, kind: str) -> None:
    """As a sign-in page of a proxy, or one that says that C4C is being maintained."""
    person = made(c4c, me, ANN)
    world.faults.append(Fault("c4c", kind, "PATCH"))
    with pytest.raises(Unknown):
        c4c.people.change(person, replace(ANN, surname="Changed"))
    assert reread(c4c, person) == person


def test_a_contacts_account_is_kept_changed_and_taken_away(c4c: C4C, world: World, me: Colleague) -> None:
    first, second = (made(c4c, me, Contact(company=f"Firm {n}"), "account") for n in range(2))
    person = made(c4c, me, ANN, account_id=first.human_id)
    assert (person.account_id, person.contact.company) == (first.human_id, "Firm 0")
    for account in (second, None):
        c4c.people.change(person, person.contact, account_id=account.human_id if account else "")
        person = reread(c4c, person)
        assert person.account_id == (account.human_id if account else "")
        assert person.contact.company == ("Firm 1" if account else "")


# -- creation whose answer is lost


@pytest.mark.parametrize("type", PERSON_TYPES)
@pytest.mark.parametrize(("kind", "exists"), [("acted_drop", True), ("drop", False), ("html", False), ("garbage", False)])
def test_what_a_lost_creation_made_is_found(
    c4c: C4C, world: World, me: Colleague, type: PersonType, kind: str, exists: bool
) -> None:
    before, key, since = set(rows(world, type)), uuid4().hex, world.now()
    world.faults.append(Fault("c4c", kind, f"POST /sap/c4c/odata/v1/c4codataapi/{SHAPES[type].entity_set}"))
    with pytest.raises(Unknown):
        made(c4c, me, WHOLE[type], type, key=key)
    found = c4c.people.created(type, WHOLE[type], key=key, since=since, owner_id=me.employee_id)
    assert (found is not None) == exists
    assert {found.id} if found else set() == set(rows(world, type)) - before


def test_only_an_equal_contact_of_the_same_owner_and_time_is_taken_for_the_one_created(
    c4c: C4C, world: World, me: Colleague
) -> None:
    def created(contact: Contact, **more: Any) -> str | None:
        found = c4c.people.created("contact", contact, **{"key": "0" * 32, "since": since, "owner_id": me.employee_id, **more})
        return found.id if found else None

    since = world.now()
    first, second = made(c4c, me, ANN), made(c4c, me, ANN)
    assert created(ANN) == first.id
    assert created(ANN, besides={first.id}) == second.id
    assert created(ANN, besides={first.id, second.id}) is None
    assert created(ANN, since=since + timedelta(minutes=10)) is None
    assert created(ANN, owner_id=world.people[1].employee_id) is None
    for part in fields(Contact):
        other = getattr(other_values(ANN), part.name)
        if part.name not in ("display_name", "company", "web_page"):
            assert created(replace(ANN, **{part.name: other})) is None, part.name


@pytest.mark.parametrize("type", ["account", "individual_customer"])
def test_creating_again_with_the_same_key_makes_nothing_new(c4c: C4C, world: World, me: Colleague, type: PersonType) -> None:
    first = made(c4c, me, WHOLE[type], type, key="ab" * 16)
    number = len(rows(world, type))
    assert made(c4c, me, WHOLE[type], type, key="ab" * 16).id == first.id
    assert len(rows(world, type)) == number
    world.faults.append(Fault("c4c", "status", f"POST /sap/c4c/odata/v1/c4codataapi/{SHAPES[type].entity_set}", status=409))
    assert made(c4c, me, WHOLE[type], type, key="ab" * 16).id == first.id


# -- accounts by name


def named(c4c: C4C, me: Colleague, *names: str) -> list[str]:
    return [made(c4c, me, Contact(company=name), "account").human_id for name in names]


@pytest.mark.parametrize(
    "name", ["A*B", "O'Hara's", "50% & Co <b>", "O'B*'C", "Ünï 漢字 👍", "A very long name that needs more than one of them"]
)
def test_an_account_is_found_by_exactly_its_name(c4c: C4C, me: Colleague, name: str) -> None:
    first, second, *_ = named(c4c, me, name, name, "AXB", "AB", name.upper() + "x", "x" + name, "O'BX'C")
    assert [(number, called) for number, called, _ in c4c.people.accounts_by_name(name)] == [(first, name), (second, name)]
    assert [number for number, *_ in c4c.people.accounts_by_name(f"  {name} ")] == [first, second]


@pytest.mark.parametrize("name", ["", " ", "*", "**", "* *", "No Such Firm", "\x7f", "x' or Name ne '"])
def test_no_account_is_found_by_a_name_that_none_has(c4c: C4C, name: str) -> None:
    assert (c4c.people.accounts_by_name(name), c4c.people.accounts_like(name)) == ([], [])


def test_an_account_is_found_by_a_part_of_its_name(c4c: C4C, me: Colleague) -> None:
    wanted, *_ = named(c4c, me, "North *Star* Ferries of Somewhere Quite Far Away Ltd", "North Star Trains", "Norths Star")
    for part in ("Star Ferries", "*Star*", "Far Away", "Ferries of Somewhere Quite Far"):
        expected = [wanted] if part != "Star Ferries" else []
        assert [number for number, *_ in c4c.people.accounts_like(part)] == expected
    assert len(c4c.people.accounts_like("North")) == 3
    assert c4c.people.accounts_like("north *star") == []


def test_one_of_too_many_is_never_taken_for_the_only_one(c4c: C4C, world: World) -> None:
    for number in range(1100):
        seed(world, "CorporateAccountCollection", Name=f"Twin {number}", LifeCycleStatusCode="4" if number else "2")
    assert c4c.people.accounts_like("Twin") == []


def test_obsolete_and_blocked_accounts_are_not_found(c4c: C4C, world: World, me: Colleague) -> None:
    named(c4c, me, "Gone Ltd")
    (row,) = (row for row in rows(world, "account").values() if row.get("Name") == "Gone Ltd")
    for status, found in (("2", 1), ("3", 0), ("4", 0), ("1", 1)):
        row["LifeCycleStatusCode"] = status
        assert len(c4c.people.accounts_by_name("Gone Ltd")) == len(c4c.people.accounts_like("Gone")) == found
