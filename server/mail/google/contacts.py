"""A Person of Google's People API in our terms, and back. Pure.

A field of a Person is a list, of which Google replaces the whole when it is written. So what is wanted is laid over what is
there: of each list only our own value changes, e.g. the first telephone at work; further ones, and what else an entry says, stay.

A name is kept twice: in parts, and as a free form, which is what is shown. Sent both, Google keeps both as they are; of a free
form alone it guesses the parts (the same Name in Google's Content Warehouse API says so; that of the People API is silent). A
company without a person's name gets none, since Google then shows the company and would else take it apart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from server.domain.contact import MAX_EMAILS, Contact, PostalAddress
from server.mail import ContactItem

Person = Mapping[str, Any]
Entry = dict[str, Any]

LINK_KEY = "ssi-link"  # in the contact's clientData, which its owner does not see
HIDDEN_KEY = "ssi-hidden-email"  # there, too, once for each address that a `Contact` had no place for when we wrote the others
MY_CONTACTS = "contactGroups/myContacts"
FIELDS = ("addresses", "biographies", "emailAddresses", "names", "organizations", "phoneNumbers", "urls")
"""The fields that hold what a `Contact` has."""

PERSON_FIELDS = ",".join(sorted((*FIELDS, "clientData", "memberships", "metadata")))
SOURCE = "READ_SOURCE_TYPE_CONTACT"  # not what a profile says of the person

_PHONES = {"business_phone": "work", "mobile_phone": "mobile", "home_phone": "home", "fax": "workFax"}
_PLACES = {"business_address": "work", "home_address": "home"}
_PARTS = {"street": "streetAddress", "city": "city", "region": "region", "postal_code": "postalCode", "country": "country"}
_JOB = {"company": "name", "department": "department", "job_title": "title"}
_READ_ONLY = frozenset({"canonicalForm", "displayNameLastFirst", "formattedType", "metadata"})


def contact_of(person: Person) -> Contact:
    """Return what Google knows of a person in our terms."""
    name, job, notes = (_first(person, field) for field in ("names", "organizations", "biographies"))
    values: dict[str, Any] = {ours: _typed(person, "phoneNumbers", kind).get("value", "") for ours, kind in _PHONES.items()}
    values |= {ours: job.get(theirs, "") for ours, theirs in _JOB.items()}
    for ours, kind in _PLACES.items():
        place = _typed(person, "addresses", kind)
        values[ours] = PostalAddress(**{part: place.get(theirs, "") for part, theirs in _PARTS.items()})
    return Contact(
        display_name=_free_form(name) or values["company"],
        given_name=name.get("givenName", ""),
        surname=name.get("familyName", ""),
        emails=tuple(email["value"] for email in _shown(person)),
        web_page=_typed(person, "urls", "work").get("value", ""),
        notes=notes.get("value", ""),
        **values,
    )


def changed_fields(person: Person, contact: Contact) -> dict[str, list[Entry]]:
    """Return the fields that must be written so that the person is as `contact`, each as a whole."""
    wanted = {
        "addresses": _addresses(person, contact),
        "biographies": _with_first(person, "biographies", {"value": contact.notes}),
        **_addressed(person, contact.emails),
        "names": [_named(person, contact)],
        "organizations": _with_first(person, "organizations", {theirs: getattr(contact, ours) for ours, theirs in _JOB.items()}),
        "phoneNumbers": _phones(person, contact),
        "urls": _with_typed(person, "urls", {"work": {"value": contact.web_page}}),
    }
    wanted = {field: [entry for entry in entries if _says_something(entry)] for field, entries in wanted.items()}
    return {field: entries for field, entries in wanted.items() if entries != _entries(person, field)}


def filled(person: Person, changed: Mapping[str, list[Entry]], fields: Iterable[str]) -> dict[str, list[Entry]]:
    """Return all of `fields` to be written, those that do not change as they are: Google clears one that is only named."""
    return {field: changed.get(field, _entries(person, field)) for field in fields}


def link_of(person: Person) -> str:
    return next((str(e.get("value", "")) for e in person.get("clientData", []) if e.get("key") == LINK_KEY), "")


def linked(person: Person, link: str) -> dict[str, list[Entry]]:
    """Return the field to write so that the person keeps this link ("": none); what other clients keep there stays."""
    others = [entry for entry in _entries(person, "clientData") if entry.get("key") != LINK_KEY]
    return {} if link_of(person) == link else {"clientData": others + ([{"key": LINK_KEY, "value": link}] if link else [])}


def groups_of(person: Person) -> list[str]:
    """Return the resource names of the groups that the person is in."""
    memberships = (membership.get("contactGroupMembership", {}) for membership in person.get("memberships", []))
    return [name for name in (m.get("contactGroupResourceName", "") for m in memberships) if name]


def in_groups(groups: Collection[str]) -> dict[str, list[Entry]]:
    """Return the field to write so that a person is in just these groups; without any, Google would refuse it."""
    names = dict.fromkeys(groups or [MY_CONTACTS])
    return {"memberships": [{"contactGroupMembership": {"contactGroupResourceName": name}} for name in names]}


def source_of(person: Person) -> Entry:
    """Return the source whose etag an update has to name: the contact's, not that of a profile it is linked with."""
    sources: list[Entry] = person.get("metadata", {}).get("sources", [])
    return next((source for source in sources if source.get("type") == "CONTACT"), {})


def etag_of(person: Person) -> str:
    return str(source_of(person).get("etag") or person.get("etag", ""))


def changed_at(person: Person) -> datetime | None:
    told = source_of(person).get("updateTime")  # RFC 3339
    return datetime.fromisoformat(told).astimezone(UTC) if told else None


def item_of(person: Person, *, folders: Sequence[str], groups: Mapping[str, str]) -> ContactItem:
    """Return a person as a contact in the first of `folders` that it is in; one in none of them is in "My contacts".

    `groups` are the owner's groups by resource name; those that are no folders of ours are the contact's categories.
    """
    own = groups_of(person)
    folder = next((name for name in folders if name in own), MY_CONTACTS)
    return ContactItem(
        ref=str(person["resourceName"]),
        etag=etag_of(person),
        folder=folder,
        contact=contact_of(person),
        categories=tuple(groups[name] for name in own if name in groups and name not in folders),
        link=link_of(person),
        changed_at=changed_at(person),
    )


# Reading


def _first(person: Person, field: str) -> Entry:
    return next(iter(person.get(field, [])), {})


def _typed(person: Person, field: str, kind: str) -> Entry:
    return next((entry for entry in person.get(field, []) if _kind(entry) == kind), {})


def _kind(entry: Entry) -> str:
    return str(entry.get("type", ""))


def _free_form(name: Entry) -> str:
    return str(name.get("unstructuredName") or name.get("displayName", ""))


def _emails(person: Person) -> list[Entry]:
    """Return the addresses, the main one first."""
    emails = [entry for entry in person.get("emailAddresses", []) if entry.get("value")]
    return sorted(emails, key=lambda entry: not _is_main(entry))


def _shown(person: Person) -> list[Entry]:
    """Return the addresses that a `Contact` shows: the first that were not behind them when we wrote."""
    hidden = {str(e.get("value", "")).casefold() for e in person.get("clientData", []) if e.get("key") == HIDDEN_KEY}
    return [entry for entry in _emails(person) if entry["value"].casefold() not in hidden][:MAX_EMAILS]


def _is_main(entry: Entry) -> bool:
    metadata = entry.get("metadata", {})
    return bool(metadata.get("sourcePrimary") or metadata.get("primary"))


# Writing


def _entries(person: Person, field: str) -> list[Entry]:
    """Return the entries of a field without what only Google can say."""
    told_by_google = _READ_ONLY | ({"displayName"} if field == "names" else set())  # an e-mail address has one of its owner's
    entries = person.get(field, [])
    bare = [{name: value for name, value in entry.items() if name not in told_by_google} for entry in entries]
    if field != "emailAddresses":
        return bare
    return [
        plain | ({"metadata": {"sourcePrimary": True}} if number and _is_main(entry) else {})  # it need not be the first
        for number, (plain, entry) in enumerate(zip(bare, entries, strict=True))
    ]


def _laid_over(entry: Entry, values: Mapping[str, str]) -> Entry:
    """Return an entry with these values; an empty one is taken away."""
    kept = {name: value for name, value in entry.items() if name not in values}
    return kept | {name: value for name, value in values.items() if value}


def _says_something(entry: Entry) -> bool:
    return bool(entry.keys() - {"type", "contentType", "current"})


def _with_first(person: Person, field: str, values: Mapping[str, str]) -> list[Entry]:
    """Return a field with these values in its first entry."""
    first, *others = _entries(person, field) or [{}]
    return [_laid_over(first, values), *others]


def _with_typed(person: Person, field: str, wanted: Mapping[str, Mapping[str, str]]) -> list[Entry]:
    """Return a field with the values that are wanted per type, each in the first entry of that type."""
    missing = dict(wanted)
    entries = []
    for entry in _entries(person, field):
        values = missing.pop(_kind(entry), None)
        entries.append(entry if values is None else _laid_over(entry, values))
    return entries + [_laid_over({"type": kind}, values) for kind, values in missing.items()]


def _phones(person: Person, contact: Contact) -> list[Entry]:
    return _with_typed(person, "phoneNumbers", {kind: {"value": getattr(contact, ours)} for ours, kind in _PHONES.items()})


def _addresses(person: Person, contact: Contact) -> list[Entry]:
    """Lay both addresses over; what Google made of an address that changes, its text and country code, is made anew."""
    before = contact_of(person)
    changing = {kind for ours, kind in _PLACES.items() if getattr(before, ours) != getattr(contact, ours)}
    wanted = {
        kind: {theirs: getattr(getattr(contact, ours), part) for part, theirs in _PARTS.items()}
        | ({"formattedValue": "", "countryCode": ""} if kind in changing else {})
        for ours, kind in _PLACES.items()
    }
    return _with_typed(person, "addresses", wanted)


def _addressed(person: Person, wanted: Sequence[str]) -> dict[str, list[Entry]]:
    """Return the addresses, those that are wanted first, and a note of those that stay behind because a `Contact` hides them.

    Without the note they would move up when fewer are wanted, and the next update would take them away.
    """
    present, shown = _emails(person), _shown(person)
    if tuple(entry["value"] for entry in shown) == tuple(wanted):
        return {field: _entries(person, field) for field in ("emailAddresses", "clientData")}
    plain = _entries({"emailAddresses": present}, "emailAddresses")  # the main one is the first of these, and will be
    by_value = {entry["value"].casefold(): entry for entry in reversed(plain)}
    first = [_laid_over(by_value.get(value.casefold(), {}), {"value": value}) for value in wanted]
    taken = {value.casefold() for value in (*wanted, *(entry["value"] for entry in shown))}
    hidden = [entry for entry in plain if entry["value"].casefold() not in taken]
    others = [entry for entry in _entries(person, "clientData") if entry.get("key") != HIDDEN_KEY]
    notes = [{"key": HIDDEN_KEY, "value": entry["value"]} for entry in hidden]
    return {"emailAddresses": first + hidden, "clientData": others + notes}


def _named(person: Person, contact: Contact) -> Entry:
    name, is_shown_as = next(iter(_entries(person, "names")), {}), _free_form(_first(person, "names"))
    parts = {"givenName": contact.given_name, "familyName": contact.surname}
    if contact.display_name == is_shown_as:  # without parts: those that Google made of it stay
        return _laid_over(name, parts if any(parts.values()) else {})
    free_form = contact.display_name
    if free_form == contact.company and not any(parts.values()):
        free_form = ""
    if not free_form and all(name.get(part, "") == value for part, value in parts.items()):
        return name
    return _laid_over(name, {"unstructuredName": free_form, **parts})
