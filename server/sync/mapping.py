"""Which values of a person are mirrored, and how a change of one is told from another spelling of it. Pure.

A FIELD is one value of a `domain.contact.Contact` as a line of text; postal addresses count by their parts, and `email` is the
main address: C4C has no other (c4c-odata.md section 2), so further ones of a contact stay where they are. VALUES are the texts of
a type's fields.

A BASE is what a link keeps instead of values: a short keyed hash for each field, when the two sides last agreed. Each side has
its own, because a provider and C4C may spell a value otherwise than it was sent, for good; what counts is that it changed there.
Before hashing, what only differs in spacing, in the case of an address or a country, or in how a street's lines are separated is
made equal. As text, a base is a version, the hash of what a person is recognised by (`likeness`), and 8 characters for each of
`SLOTS`: `_EMPTY` for no value, `_UNKNOWN` for a field that was not mirrored then.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

from server.domain.contact import Contact, PostalAddress
from server.domain.people import PersonType

Hasher = Callable[[str], bytes]
Values = Mapping[str, str]
Side = Literal["mailbox", "c4c"]

_PARTS = ("street", "city", "region", "postal_code", "country")
_BUSINESS = tuple(f"business_address.{part}" for part in _PARTS)
HOME = ("home_phone", *(f"home_address.{part}" for part in _PARTS))
"""Fields of a contact that are mirrored where the profile says so."""
SLOTS = (
    *("display_name", "given_name", "surname", "company", "department", "job_title", "email"),
    *("business_phone", "mobile_phone", "fax", "web_page", "notes", *_BUSINESS, *HOME),
)
DOWN = frozenset({"display_name"})
"""Fields that only come from C4C, which makes them of others."""

_PERSON = ("display_name", "given_name", "surname", "email", "business_phone", "mobile_phone", "fax", "notes", *_BUSINESS)
_FIELDS: Mapping[PersonType, tuple[str, ...]] = {
    "contact": (*_PERSON, "company", "department", "job_title"),
    "account": ("display_name", "company", "email", "business_phone", "mobile_phone", "fax", "web_page", "notes", *_BUSINESS),
    "individual_customer": (*_PERSON, "web_page"),
}
_VERSION = "1"
_LENGTH = 8  # characters, 48 bits: enough to see a change by
_EMPTY = "-" * _LENGTH
_UNKNOWN = "." * _LENGTH


def fields(type: PersonType, *, home: bool = False) -> tuple[str, ...]:
    """Return the fields of a type that are mirrored; `home`: also those of a contact's private life."""
    return _FIELDS[type] + (HOME if home and type == "contact" else ())


def values(contact: Contact, names: Iterable[str]) -> dict[str, str]:
    """Return the values of these fields."""
    return {name: _value(contact, name) for name in names}


def _value(contact: Contact, name: str) -> str:
    whole, _, part = name.partition(".")
    if part:
        return str(getattr(getattr(contact, whole), part)).strip()
    if name == "email":
        return contact.emails[0].strip() if contact.emails else ""
    return str(getattr(contact, name)).strip()


def with_values(contact: Contact, given: Values) -> Contact:
    """Return the contact with these values, and all else as it was."""
    plain: dict[str, str] = {}
    addresses: dict[str, PostalAddress] = {}
    for name, value in given.items():
        whole, _, part = name.partition(".")
        if part:
            addresses[whole] = replace(addresses.get(whole) or getattr(contact, whole), **{part: value})
        elif name != "email":
            plain[name] = value
    emails = _emails(contact.emails, given["email"]) if "email" in given else contact.emails
    return replace(contact, **plain, **addresses, emails=emails)  # type: ignore[arg-type]  # by name, each of its own type


def _emails(present: tuple[str, ...], main: str) -> tuple[str, ...]:
    """Return the addresses with another main one; further ones stay."""
    others = [one for one in present[1:] if one.casefold() != main.casefold()]
    return tuple(filter(None, (main, *others)))


# --- bases ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Base:
    """The hashes of one side's fields at one time; a field that is not among them is unknown."""

    likeness: str
    hashes: Mapping[str, str]

    @property
    def text(self) -> str:
        return _VERSION + self.likeness + "".join(self.hashes.get(name, _UNKNOWN) for name in SLOTS)

    @property
    def is_like_somebody(self) -> bool:
        return self.likeness != _EMPTY

    def get(self, name: str) -> str | None:
        return self.hashes.get(name)

    def has(self, name: str) -> bool:
        """Say whether the field had a value."""
        return self.hashes.get(name, _EMPTY) != _EMPTY

    def fits(self, other: Base) -> bool:
        """Say whether no field has one value here and another there."""
        known = [(mine, other.hashes.get(name, _EMPTY)) for name, mine in self.hashes.items()]
        return all(mine == theirs or _EMPTY in (mine, theirs) for mine, theirs in known)


NOTHING = Base(_EMPTY, {})


def base(type: PersonType, values: Values, hasher: Hasher) -> Base:
    """Return the hashes of these values."""
    return Base(_hash(hasher, "like", likeness(type, values)), {name: _hash(hasher, name, text) for name, text in values.items()})


def read_base(text: str) -> Base:
    """Return the base of a text; one of another version, or none, knows nothing."""
    if len(text) != len(_VERSION) + _LENGTH * (1 + len(SLOTS)) or not text.startswith(_VERSION):
        return NOTHING
    parts = [text[at : at + _LENGTH] for at in range(len(_VERSION), len(text), _LENGTH)]
    known = {name: part for name, part in zip(SLOTS, parts[1:], strict=True) if part != _UNKNOWN}
    return Base(parts[0], known)


def as_made(type: PersonType, sent: Base, present: Base) -> Base:
    """Return the base of a record that was made of a contact as `sent`, of which only the `present` one is known.

    All that differs was changed since, but a contact's company: the record has none if there is no such account.
    """
    kept = ("company",) if type == "contact" else ()
    return Base(sent.likeness, {**sent.hashes, **{name: text for name in kept if (text := present.get(name)) is not None}})


def is_akin(sent: Base, present: Base) -> bool:
    """Say whether a record may be what was made of a contact as `sent`, though somebody changed it since: the surname or the
    address is the same, and something else, too, if more was sent.
    """
    filled = {name for name, text in sent.hashes.items() if text != _EMPTY and name not in DOWN}
    same = {name for name in filled if present.get(name) == sent.get(name)}
    return bool(same & {"surname", "email"}) and len(same) >= min(2, len(filled))


def as_written(sent: Base, present: Base) -> Base:
    """Return the base of a contact that was created as `sent`, of which only the `present` one is known.

    All that differs was changed since, but for what it lacks: not every mailbox takes every field.
    """
    kept = {name: text for name, text in present.hashes.items() if text == _EMPTY or name in DOWN}
    return Base(present.likeness, {**present.hashes, **sent.hashes, **kept})


def _hash(hasher: Hasher, name: str, value: str) -> str:
    spelled = _spelled(name, value)
    if not spelled:
        return _EMPTY
    return base64.urlsafe_b64encode(hasher(f"{name}\0{spelled}")[: _LENGTH * 3 // 4]).decode()


def _spelled(name: str, value: str) -> str:
    """Return a value so that two spellings of the same are equal."""
    lines = [" ".join(line.split()) for line in value.splitlines()]
    if name.endswith(".street"):
        return ", ".join(filter(None, lines))
    text = "\n".join(lines).strip() if name == "notes" else " ".join(filter(None, lines))
    return text.casefold() if name == "email" or name.endswith((".country", ".region")) else text


def likeness(type: PersonType, values: Values) -> str:
    """Return by what two are taken for the same: name and main address, or name and company where they have no address.

    "" for one without a name, which is taken for nobody else.
    """
    company = values.get("company", "")
    shown = company or values.get("display_name", "")
    person = " ".join(filter(None, (values.get("given_name", ""), values.get("surname", "")))) or values.get("display_name", "")
    name = " ".join((shown if type == "account" else person).split()).casefold()
    email = values.get("email", "").strip().casefold()
    if not name:
        return ""
    return f"{email}\0{name}" if email else f"\0{name}\0{' '.join(company.split()).casefold()}"
