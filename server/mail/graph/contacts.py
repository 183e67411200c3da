"""A contact as Microsoft Graph writes it, and as we do. Pure.

Graph's `contact` has no business fax and no place for our link: both are extended properties (MS-OXPROPS:
PidTagBusinessFaxNumber; resource page extended-properties-overview). Of phone numbers Graph keeps lists; the first is ours,
the others are left alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from server.domain.contact import LINK_PROPERTY, Contact, PostalAddress
from server.mail import ContactItem
from server.mail.graph.calls import moment

LINK = f"String {{{LINK_PROPERTY[0]}}} Name {LINK_PROPERTY[1]}"
_FAX = "String 0x3A24"  # PidTagBusinessFaxNumber
_ITEM_CLASS = "String 0x001A"  # PidTagMessageClass, which every item has

_TEXTS = {
    "display_name": "displayName",
    "given_name": "givenName",
    "surname": "surname",
    "company": "companyName",
    "department": "department",
    "job_title": "jobTitle",
    "mobile_phone": "mobilePhone",
    "web_page": "businessHomePage",
    "notes": "personalNotes",
}
_LISTS = {"business_phone": "businessPhones", "home_phone": "homePhones"}
_ADDRESSES = {"business_address": "businessAddress", "home_address": "homeAddress"}
_ADDRESS_PARTS = {
    "street": "street",
    "city": "city",
    "region": "state",
    "postal_code": "postalCode",
    "country": "countryOrRegion",
}
_COPIED = (
    *("assistantName", "birthday", "businessAddress", "businessHomePage", "businessPhones", "categories", "children"),
    *("companyName", "department", "displayName", "emailAddresses", "fileAs", "generation", "givenName", "homeAddress"),
    *("homePhones", "imAddresses", "initials", "jobTitle", "manager", "middleName", "mobilePhone", "nickName"),
    *("officeLocation", "otherAddress", "personalNotes", "profession", "spouseName", "surname", "title", "yomiCompanyName"),
    *("yomiGivenName", "yomiSurname"),
)  # all that can be written but the folder (page contact-update)

FIELDS = ",".join(
    (
        *("id", "parentFolderId", "categories", "lastModifiedDateTime", "emailAddresses"),
        *(*_TEXTS.values(), *_LISTS.values(), *_ADDRESSES.values()),
    )
)
EXPAND = "singleValueExtendedProperties($filter={})".format(" or ".join(f"id eq '{i}'" for i in (LINK, _FAX, _ITEM_CLASS)))
"""What has to be expanded; the item class is there to show whether the service did it, see `is_expanded`."""


def has_link(link: str) -> str:
    """Return the condition for $filter that contacts with this link fulfil. (Case does not count; the caller compares.)"""
    value = link.replace("'", "''")
    return f"singleValueExtendedProperties/Any(ep: ep/id eq '{LINK}' and ep/value eq '{value}')"


def is_expanded(found: Mapping[str, Any]) -> bool:
    return _key(_ITEM_CLASS) in _extended(found)


def item_of(found: Mapping[str, Any], *, folder: str = "", more: Mapping[str, Any] | None = None) -> ContactItem:
    """Read a contact as Graph tells it; `more` holds the extended properties if they were told, or written, apart."""
    extended = _extended(found) | _extended(more or {})
    return ContactItem(
        ref=str(found["id"]),
        etag=str(found.get("@odata.etag", "")),
        folder=folder or str(found.get("parentFolderId") or ""),
        contact=_contact(found, extended),
        categories=tuple(found.get("categories") or ()),
        link=extended.get(_key(LINK), ""),
        changed_at=moment(found.get("lastModifiedDateTime")),
    )


def created(contact: Contact, link: str) -> dict[str, Any]:
    """Return the body that creates a contact.

    One without a name of its own is filed under what else it has, since Outlook's lists show and sort by fileAs.
    """
    body = changed({}, contact, link)
    if not (contact.given_name or contact.surname):
        shown = (contact.display_name, contact.company, *contact.emails, contact.business_phone, contact.mobile_phone)
        body["fileAs"] = next(filter(None, shown), None)
    return body


def changed(found: Mapping[str, Any], contact: Contact, link: str | None) -> dict[str, Any]:
    """Return the body that changes what Graph has into what we want, {} if it is so already.

    The display name is always among what is written: the service may make up a new one when other properties change and it is not
    there (page contact-update). An address is written whole, which is right whether the service replaces it or merges.
    """
    extended = _extended(found)
    current = _contact(found, extended)
    body: dict[str, Any] = {}
    for ours, theirs in _TEXTS.items():
        if getattr(contact, ours) != getattr(current, ours):
            body[theirs] = getattr(contact, ours) or None
    for ours, theirs in _LISTS.items():
        if getattr(contact, ours) != getattr(current, ours):
            body[theirs] = [*filter(None, [getattr(contact, ours)]), *(found.get(theirs) or [])[1:]]
    for ours, theirs in _ADDRESSES.items():
        if getattr(contact, ours) != getattr(current, ours):
            parts = asdict(getattr(contact, ours))
            body[theirs] = {name: parts[part] or None for part, name in _ADDRESS_PARTS.items()}
    if contact.emails != current.emails:
        body["emailAddresses"] = _emails(found, contact)
    wanted = {LINK: extended.get(_key(LINK), "") if link is None else link, _FAX: contact.fax}
    written = [{"id": i, "value": value} for i, value in wanted.items() if value != extended.get(_key(i), "")]
    if written:
        body["singleValueExtendedProperties"] = written
    return {"displayName": contact.display_name or None} | body if body else {}


def copied(found: Mapping[str, Any], link: str) -> dict[str, Any]:
    """Return the body that creates the same contact once more, with this link."""
    body = {name: found[name] for name in _COPIED if found.get(name)}
    kept = {LINK: link, _FAX: _extended(found).get(_key(_FAX), "")}
    return body | {"singleValueExtendedProperties": [{"id": i, "value": value} for i, value in kept.items() if value]}


def _contact(found: Mapping[str, Any], extended: Mapping[str, str]) -> Contact:
    values: dict[str, Any] = {ours: _lines(found.get(theirs)) for ours, theirs in _TEXTS.items()}
    values |= {ours: next(iter(found.get(theirs) or ()), "") for ours, theirs in _LISTS.items()}
    for ours, theirs in _ADDRESSES.items():
        place = found.get(theirs) or {}
        values[ours] = PostalAddress(**{part: _lines(place.get(name)) for part, name in _ADDRESS_PARTS.items()})
    emails = tuple(email["address"] for email in found.get("emailAddresses") or () if email.get("address"))
    return Contact(**values, emails=emails, fax=extended.get(_key(_FAX), ""))


def _emails(found: Mapping[str, Any], contact: Contact) -> list[dict[str, str]]:
    """Return the addresses, each under the name that the owner gave it."""
    known = {(e.get("address") or "").casefold(): e.get("name") for e in found.get("emailAddresses") or ()}
    return [{"name": known.get(e.casefold()) or contact.display_name or e, "address": e} for e in contact.emails]


def _lines(text: str | None) -> str:
    """Return a text with "\\n" between its lines; Outlook writes "\\r\\n"."""
    return (text or "").replace("\r\n", "\n")


def _extended(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the extended properties by `_key`: ids come back in another spelling than the one we asked by."""
    return {_key(one["id"]): one.get("value") or "" for one in found.get("singleValueExtendedProperties") or ()}


def _key(identifier: str) -> str:
    kind, _, name = identifier.lower().partition(" ")
    return f"{kind} {int(name, 16):#x}" if name.startswith("0x") else f"{kind} {name}"
