"""Contacts, accounts and individual customers in C4C's rows and in ours: which property holds which field. Pure.

Property names, lengths and flags are those of the real $metadata (c4c-odata.md section 2, source S2). What C4C cannot hold is
refused with the name of our field, never cut. What both sides spell differently:

- A person needs a last name there; see `_names`. A company's name is up to four properties of 40 characters; see `split_name`.
- A street is "Street 12" with us, `Street` and `HouseNumber` there; see `split_street`.
- Countries and regions are texts with us, codes there, except the region of a contact, which takes a text.
- There is one e-mail address there: a contact's further ones are neither written nor read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from server.c4c.edm import Row, as_text, as_time, children, etag
from server.c4c.mapping import human_id, one_line, storable, units
from server.c4c.pages import object_id
from server.domain.contact import Contact, PostalAddress
from server.domain.people import Person, PersonType
from server.domain.sentences import rejected
from server.errors import InvalidInput

OBSOLETE = "4"
HOME = "ContactPersonalAddress"
"""A contact's list of private addresses."""

_GONE = ("3", OBSOLETE)  # blocked and obsolete; 2 is active [S4, S16]
_NAME_PARTS = ("Name", "AdditionalName", "AdditionalName2", "AdditionalName3")
_LENGTHS = {"Email": 255, "WebSite": 1280, "Street": 60, "HouseNumber": 10, "StreetPostalCode": 10}
_LENGTH = 40  # of every other text


@dataclass(frozen=True, slots=True)
class AddressShape:
    """How the properties of a postal address begin, and which take and show the region."""

    prefix: str = ""
    region: str = "StateCode"
    region_text: str = "StateCodeText"

    @property
    def select(self) -> tuple[str, ...]:
        names = ("HouseNumber", "Street", "City", "StreetPostalCode", "CountryCode", "CountryCodeText")
        return tuple(dict.fromkeys(self.prefix + name for name in (*names, self.region, self.region_text)))


@dataclass(frozen=True, slots=True)
class PersonShape:
    """How a type looks in OData."""

    entity_set: str
    human_id: str
    owner: str
    status: str
    texts: str  # the child list with notes; its set is called the same plus "Collection"
    plain: Mapping[str, str]  # our field -> property of the same meaning
    more: tuple[str, ...]  # further properties to read
    address: AddressShape = AddressShape()
    is_ours_to_number: bool = True  # whether a UUID can be given at creation

    @property
    def select(self) -> tuple[str, ...]:
        own = (self.human_id, self.owner, self.status, *self.plain.values(), *self.address.select, *self.more)
        return ("ObjectID", "EntityLastChangedOn", "CreationOn", *own)


_NAMES = {"given_name": "FirstName", "surname": "LastName"}
_REACHED = {"email": "Email", "business_phone": "Phone", "mobile_phone": "Mobile", "fax": "Fax"}
_HOME = AddressShape()
SHAPES: Mapping[PersonType, PersonShape] = {
    "contact": PersonShape(
        entity_set="ContactCollection",
        human_id="ContactID",
        owner="ContactOwnerID",
        status="StatusCode",
        texts="ContactTextCollection",
        plain={**_NAMES, **_REACHED, "department": "Department", "job_title": "JobTitle"},
        more=("Name", "AccountID", "AccountFormattedName"),
        address=AddressShape("BusinessAddress", "StateCodeTextUpdatable", "StateCodeTextUpdatable"),
        is_ours_to_number=False,
    ),
    "account": PersonShape(
        entity_set="CorporateAccountCollection",
        human_id="AccountID",
        owner="OwnerID",
        status="LifeCycleStatusCode",
        texts="CorporateAccountTextCollection",
        plain={**_REACHED, "web_page": "WebSite"},
        more=_NAME_PARTS,
    ),
    "individual_customer": PersonShape(
        entity_set="IndividualCustomerCollection",
        human_id="CustomerID",
        owner="OwnerID",
        status="LifeCycleStatusCode",
        texts="IndividualCustomerTextCollection",
        plain={**_NAMES, **_REACHED, "web_page": "WebSite"},
        more=("FormattedName",),
    ),
}
HOME_SELECT = tuple(f"{HOME}/{name}" for name in ("ObjectID", "MainPersonalAddress", "Phone", *_HOME.select))
TEXT_SELECT = ("ObjectID", "Text", "CreatedOn")


# --- from C4C -------------------------------------------------------------------------------------------------------------


def person(type: PersonType, row: Mapping[str, Any]) -> Person:
    """Return the person of a row that was selected as its shape says, with children as far as they were expanded."""
    shape = SHAPES[type]
    return Person(
        type=type,
        id=object_id(row),
        human_id=human_id(row.get(shape.human_id)),
        etag=etag(row) or "",
        changed_at=as_time(row.get("EntityLastChangedOn")),
        is_obsolete=is_gone(type, row),
        owner_id=as_text(row.get(shape.owner)),
        contact=_contact(type, row),
        account_id=human_id(row.get("AccountID")) if type == "contact" else "",
        created_at=as_time(row.get("CreationOn")),
    )


def _contact(type: PersonType, row: Mapping[str, Any]) -> Contact:
    shape = SHAPES[type]
    known = {name: as_text(row.get(prop)) for name, prop in shape.plain.items()}
    email = known.pop("email")
    if type == "account":
        known["company"] = known["display_name"] = account_name(row)
    else:
        shown = as_text(row.get("Name" if type == "contact" else "FormattedName"))
        known["display_name"] = shown or " ".join(filter(None, (known["given_name"], known["surname"])))
        known["company"] = as_text(row.get("AccountFormattedName"))
    home, note = home_row(row) or {}, note_row(type, row) or {}
    return Contact(
        **known,
        emails=(email,) if email else (),
        business_address=_address(shape.address, row),
        home_address=_address(_HOME, home),
        home_phone=as_text(home.get("Phone")),
        notes=_text(as_text(note.get("Text"))),
    )


def is_gone(type: PersonType, row: Mapping[str, Any]) -> bool:
    return as_text(row.get(SHAPES[type].status)) in _GONE


def account_name(row: Mapping[str, Any]) -> str:
    return " ".join(filter(None, (as_text(row.get(name)) for name in _NAME_PARTS)))


def _address(shape: AddressShape, row: Mapping[str, Any]) -> PostalAddress:
    def text(name: str) -> str:
        return as_text(row.get(shape.prefix + name))

    return PostalAddress(
        street=joined_street(text("Street"), text("HouseNumber")),
        city=text("City"),
        region=text(shape.region_text) or text(shape.region),
        postal_code=text("StreetPostalCode"),
        country=text("CountryCodeText") or text("CountryCode"),
    )


def note_row(type: PersonType, row: Mapping[str, Any]) -> Row | None:
    """Return the text that counts as the notes: the oldest, because a record may have several and nothing tells them apart."""
    texts = children(row, SHAPES[type].texts)
    return min(texts, key=lambda one: (str(as_time(one.get("CreatedOn")) or ""), object_id(one)), default=None)


def home_row(row: Mapping[str, Any]) -> Row | None:
    """Return the private address that counts: the main one, else the first by ObjectID."""
    return min(children(row, HOME), key=lambda one: (one.get("MainPersonalAddress") is not True, object_id(one)), default=None)


# --- countries and regions ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Places:
    """C4C's value lists of countries and of their regions, as far as they were read: code -> description."""

    countries: Mapping[str, str] = field(default_factory=dict)
    regions: Mapping[str, Mapping[str, str]] = field(default_factory=dict)  # country code -> its regions

    def codes(self, address: PostalAddress, where: str) -> tuple[str, str]:
        """Return the codes of an address's country and region, by their names or codes without case. Raises: Rejected."""
        country = self.country(address.country, where)
        if address.region and not country:
            raise rejected("region_without_country", field=f"{where}.region")
        return country, _code(self.regions.get(country, {}), address.region, f"{where}.region")

    def country(self, name: str, where: str) -> str:
        return _code(self.countries, name, f"{where}.country")


def _code(listed: Mapping[str, str], name: str, where: str) -> str:
    wanted = one_line(name).casefold()
    if not wanted:
        return ""
    for code, text in listed.items():
        if wanted in (text.casefold(), code.casefold()):
            return code
    raise rejected("unknown_value", field=where, value=one_line(name))


# --- to C4C ---------------------------------------------------------------------------------------------------------------


def header(type: PersonType, contact: Contact, places: Places, *, since: Contact | None = None) -> dict[str, str]:
    """Return the properties of the record itself; with `since` only those of the fields that differ from it.

    Raises: InvalidInput for a person or a company without any name; Rejected for what C4C does not take.
    """
    shape = SHAPES[type]
    fields = _fields(type, contact)
    if not any(fields["company" if type == "account" else "surname"].values()):
        raise InvalidInput("company" if type == "account" else "surname", "is needed, and no other name can stand in")
    before = None if since is None else (_fields(type, since), since.business_address)
    return _body(shape.address, fields, contact.business_address, "business_address", places, before)


def at_home(contact: Contact, places: Places, *, since: Contact | None = None) -> dict[str, str]:
    """Return the properties of a contact's private address likewise."""
    before = None if since is None else (_home_fields(since), since.home_address)
    return _body(_HOME, _home_fields(contact), contact.home_address, "home_address", places, before)


def notes(contact: Contact) -> str:
    """Return the notes as C4C gives them back."""
    return _text(contact.notes)


def same(properties: Mapping[str, str], row: Mapping[str, Any]) -> bool:
    """Say whether a row has all these properties, whatever their case."""
    return all(as_text(row.get(name)).casefold() == value.casefold() for name, value in properties.items())


def echoed(type: PersonType, row: Row, body: Mapping[str, Any], places: Places) -> Row:
    """Complete C4C's answer to a creation with what was sent: it has neither children nor the texts of codes [S1]."""
    shape = SHAPES[type]
    private = [_described(_HOME, one, places) for one in body.get(HOME, ())]
    return {**_described(shape.address, row, places), shape.texts: body.get(shape.texts, []), HOME: private}


def _described(shape: AddressShape, row: Row, places: Places) -> Row:
    country = as_text(row.get(shape.prefix + "CountryCode"))
    texts = {shape.prefix + "CountryCodeText": places.countries.get(country, "")}
    if shape.region == "StateCode":
        texts[shape.region_text] = places.regions.get(country, {}).get(as_text(row.get(shape.region)), "")
    return {**row, **texts}


_Fields = dict[str, dict[str, str]]
"""Our field -> the properties that hold it, which are written together or not at all."""


def _fields(type: PersonType, contact: Contact) -> _Fields:
    shape = SHAPES[type]
    first, last = _names(contact)
    values = {"given_name": first, "surname": last, "email": contact.emails[0] if contact.emails else ""}
    fields = {name: {prop: values.get(name, getattr(contact, name, ""))} for name, prop in shape.plain.items()}
    if type == "account":
        parts = split_name(one_line(contact.company) or one_line(contact.display_name))
        fields["company"] = dict(zip(_NAME_PARTS, parts, strict=True))
    return _lines(fields) | _address_fields(shape.address, contact.business_address, "business_address")


def _home_fields(contact: Contact) -> _Fields:
    phone = _lines({"home_phone": {"Phone": contact.home_phone}})
    return phone | _address_fields(_HOME, contact.home_address, "home_address")


def _address_fields(shape: AddressShape, address: PostalAddress, where: str) -> _Fields:
    """Return an address's fields without country and region, which are one question and need their codes."""
    street, number = split_street(address.street)
    return _lines(
        {
            f"{where}.street": {shape.prefix + "Street": street, shape.prefix + "HouseNumber": number},
            f"{where}.city": {shape.prefix + "City": address.city},
            f"{where}.postal_code": {shape.prefix + "StreetPostalCode": address.postal_code},
        }
    )


def _lines(fields: _Fields) -> _Fields:
    return {name: {prop: one_line(value) for prop, value in values.items()} for name, values in fields.items()}


def _body(
    shape: AddressShape,
    fields: _Fields,
    address: PostalAddress,
    where: str,
    places: Places,
    before: tuple[_Fields, PostalAddress] | None,
) -> dict[str, str]:
    body: dict[str, str] = {}
    for name, values in fields.items():
        if before is not None and before[0][name] == values:
            continue
        for prop, value in values.items():
            limit = _LENGTHS.get(prop.removeprefix("BusinessAddress"), _LENGTH)
            if units(value) > limit:
                raise rejected("too_long", field=name, limit=limit)
        body |= values
    if before is None or place(before[1]) != place(address):
        if shape.region == "StateCode":
            country, region = places.codes(address, where)
        else:
            country, region = places.country(address.country, where), one_line(address.region)
        body |= {shape.prefix + "CountryCode": country, shape.prefix + shape.region: region}
    return body


def place(address: PostalAddress) -> tuple[str, str]:
    """Return country and region so that two spellings of the same are equal."""
    return one_line(address.country).casefold(), one_line(address.region).casefold()


def _names(contact: Contact) -> tuple[str, str]:
    """Return first and last name. C4C needs a last name: the name that is shown stands in, else the first name or the company.

    A first name that is part of what stands in is not written twice.
    """
    first, last = one_line(contact.given_name), one_line(contact.surname)
    if last:
        return first, last
    last = one_line(contact.display_name) or first or one_line(contact.company)
    return ("" if f" {first} " in f" {last} " else first), last


def _text(value: str) -> str:
    return storable(value.replace("\r\n", "\n").replace("\r", "\n")).strip()


# --- spellings ------------------------------------------------------------------------------------------------------------

_NUMBERED = re.compile(r"(.*\S) (\d\S{0,9})")


def split_street(street: str) -> tuple[str, str]:
    """Return street and house number of "Street 12a"; without a number at its end, all is street. Lines are joined by ", ".

    `joined_street` undoes it: nothing of what stands on the line is lost.
    """
    line = ", ".join(filter(None, map(one_line, street.splitlines())))
    found = _NUMBERED.fullmatch(line)
    return (found[1], found[2]) if found else (line, "")


def joined_street(street: str, number: str) -> str:
    return f"{street} {number}".strip()


def split_name(name: str) -> tuple[str, str, str, str]:
    """Return a company's name in four parts that fit their properties, cut at spaces; the last holds what does not fit."""
    parts = [""] * len(_NAME_PARTS)
    at = 0
    for word in name.split():
        longer = f"{parts[at]} {word}".strip()
        if units(longer) > _LENGTH and parts[at] and at < len(parts) - 1:
            at, longer = at + 1, word
        parts[at] = longer
    return parts[0], parts[1], parts[2], parts[3]
