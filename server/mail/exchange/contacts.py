"""Contacts of Exchange in our terms and back: pure translation between `Contact` and the schema's Contact element.

An update names only what differs, entry by entry of the dictionaries of telephones and addresses, so that what we have no place
for stays. Outlook lists a contact by its FileAs, which Exchange does not fill in by itself: it is set where it is ours to set,
that is when the contact is made, and later as long as it says what we would have said.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from typing import Any

from server.domain.contact import LINK_PROPERTY, MAX_EMAILS, Contact, PostalAddress
from server.domain.sentences import rejected
from server.mail import ContactItem
from server.mail.exchange.ews import Raw, T, moment, search_key_path, shape, xml

_TEXTS = {  # ours -> the schema's, in its order
    "display_name": "DisplayName",
    "given_name": "GivenName",
    "company": "CompanyName",
    "web_page": "BusinessHomePage",
    "department": "Department",
    "job_title": "JobTitle",
    "surname": "Surname",
}
_AFTER_PHONES = ("web_page", "department", "job_title", "surname")
_PHONES = {"fax": "BusinessFax", "business_phone": "BusinessPhone", "home_phone": "HomePhone", "mobile_phone": "MobilePhone"}
_PLACES = {"home_address": "Home", "business_address": "Business"}
_PARTS = {"street": "Street", "city": "City", "region": "State", "country": "CountryOrRegion", "postal_code": "PostalCode"}
_EMAILS = tuple(f"EmailAddress{n}" for n in range(1, MAX_EMAILS + 1))


@dataclass(frozen=True, slots=True)
class Found:
    """A contact as it was read, with what only a writer needs."""

    item: ContactItem
    ews_id: str
    file_as: str
    search_key: str  # base64; stays when the contact moves
    email_keys: tuple[str, ...]  # under which keys its addresses lie


def link_path() -> Raw:
    """Name the property in which a link lies."""
    guid, name = LINK_PROPERTY
    return xml("t:ExtendedFieldURI", PropertySetId=guid, PropertyName=name, PropertyType="String")


def contact_shape() -> Raw:
    """Ask for all of a contact that we know."""
    names = [f"contacts:{name}" for name in ("FileAs", *_TEXTS.values())]
    dictionaries = [f"contacts:{name}" for name in ("EmailAddresses", "PhoneNumbers", "PhysicalAddresses")]
    of_items = ("item:Body", "item:Categories", "item:ParentFolderId", "item:LastModifiedTime")
    return shape(*of_items, *names, *dictionaries, search_key_path(), link_path(), text_body=True)


def ref_of(ews_id: str) -> str:
    """Return the ref of an item id, which can stand in a URL; Office.js writes ids so, too."""
    return ews_id.replace("/", "-").replace("+", "_")


def ews_id_of(ref: str) -> str:
    return ref.replace("-", "/").replace("_", "+")


def read(element: Raw) -> Found:
    """Read what `contact_shape` asked for."""
    extended = {
        (e[0].get("PropertyName") or "search key"): e.findtext(f"{T}Value") or ""
        for e in element.iterfind(f"{T}ExtendedProperty")
    }
    emails = {e.get("Key"): e.text or "" for e in element.iterfind(f"{T}EmailAddresses/{T}Entry")}
    email_keys = tuple(key for key in _EMAILS if emails.get(key))
    phones = {e.get("Key"): e.text or "" for e in element.iterfind(f"{T}PhoneNumbers/{T}Entry")}
    places = {e.get("Key"): _place(e) for e in element.iterfind(f"{T}PhysicalAddresses/{T}Entry")}
    values: dict[str, Any] = {ours: element.findtext(f"{T}{theirs}") or "" for ours, theirs in _TEXTS.items()}
    values |= {ours: phones.get(theirs, "") for ours, theirs in _PHONES.items()}
    values |= {ours: places.get(theirs, PostalAddress()) for ours, theirs in _PLACES.items()}
    values |= {"emails": tuple(emails[key] for key in email_keys), "notes": _lines(element.findtext(f"{T}Body"))}
    identifier, folder = element.find(f"{T}ItemId"), element.find(f"{T}ParentFolderId")
    return Found(
        item=ContactItem(
            ref=ref_of(identifier.get("Id")),
            etag=identifier.get("ChangeKey", ""),
            folder=folder.get("Id"),
            contact=Contact(**values),
            categories=tuple(name.text or "" for name in element.iterfind(f"{T}Categories/{T}String")),
            link=extended.get(LINK_PROPERTY[1], ""),
            changed_at=moment(element, "LastModifiedTime"),
        ),
        ews_id=identifier.get("Id"),
        file_as=element.findtext(f"{T}FileAs") or "",
        search_key=extended.get("search key", ""),
        email_keys=email_keys,
    )


def _place(entry: Raw) -> PostalAddress:
    return PostalAddress(**{ours: _lines(entry.findtext(f"{T}{theirs}")) for ours, theirs in _PARTS.items()})


def _lines(text: str | None) -> str:
    return (text or "").replace("\r\n", "\n")


def _windows(text: str) -> str:
    return _lines(text).replace("\n", "\r\n")


def shown_as(contact: Contact) -> str:
    """Return the name under which a contact is listed: what it has instead, if it has no name."""
    name = contact.display_name or " ".join(filter(None, (contact.given_name, contact.surname)))
    phones = (contact.business_phone, contact.mobile_phone, contact.home_phone)
    return next(filter(None, (name, contact.company, *contact.emails, *phones)), "")


def new_contact(contact: Contact, link: str) -> Raw:
    """Return the element that creates this contact. Raises: Rejected for values that Exchange does not take."""
    _check(contact)
    made = xml("t:Contact")
    if contact.notes:
        made.append(_body(contact.notes))
    if link:
        made.append(_link(link))
    if shown_as(contact):
        made.append(xml("t:FileAs", shown_as(contact)))
    first = [name for name in _TEXTS if name not in _AFTER_PHONES]
    made.extend(_text(name, contact) for name in first if getattr(contact, name))
    if contact.emails:
        made.append(xml("t:EmailAddresses", *map(_email, _EMAILS, contact.emails)))
    places = [_entry(key, getattr(contact, name)) for name, key in _PLACES.items() if getattr(contact, name) != PostalAddress()]
    if places:
        made.append(xml("t:PhysicalAddresses", *places))
    phones = [xml("t:Entry", getattr(contact, name), Key=key) for name, key in _PHONES.items() if getattr(contact, name)]
    if phones:
        made.append(xml("t:PhoneNumbers", *phones))
    made.extend(_text(name, contact) for name in _AFTER_PHONES if getattr(contact, name))
    return made


def updates(found: Found, contact: Contact, link: str | None) -> list[Raw]:
    """Return the elements of an UpdateItem that make `found` so; [] if it is. Raises: Rejected."""
    _check(contact)
    before = found.item.contact
    made = [change for field in fields(Contact) for change in _changes(field.name, before, contact, found.email_keys)]
    if link is not None and link != found.item.link:
        made.append(_set(link_path(), _link(link)) if link else xml("t:DeleteItemField", link_path()))
    if shown_as(before) != shown_as(contact) and found.file_as in ("", shown_as(before)):
        path = _field("contacts:FileAs")
        shown = shown_as(contact)
        made.append(_set(path, xml("t:FileAs", shown)) if shown else xml("t:DeleteItemField", path))
    return made


def _changes(name: str, before: Contact, contact: Contact, email_keys: tuple[str, ...]) -> Iterator[Raw]:
    """Yield what makes one field of a contact so."""
    old, new = getattr(before, name), getattr(contact, name)
    if old == new:
        return
    if name in _TEXTS:
        path = _field(f"contacts:{_TEXTS[name]}")
        yield _set(path, _text(name, contact)) if new else xml("t:DeleteItemField", path)
    elif name in _PHONES:
        path = _indexed("contacts:PhoneNumber", _PHONES[name])
        entry = xml("t:PhoneNumbers", xml("t:Entry", new, Key=_PHONES[name]))
        yield _set(path, entry) if new else xml("t:DeleteItemField", path)
    elif name in _PLACES:
        yield from _place_changes(_PLACES[name], old, new)
    elif name == "emails":
        for number, key in enumerate(_EMAILS):
            path = _indexed("contacts:EmailAddress", key)
            if number < len(new):
                yield _set(path, xml("t:EmailAddresses", _email(key, new[number])))
            elif key in email_keys:
                yield xml("t:DeleteItemField", path)
    else:
        yield _set(_field("item:Body"), _body(contact.notes))


def _place_changes(key: str, old: PostalAddress, new: PostalAddress) -> Iterator[Raw]:
    for ours, theirs in _PARTS.items():
        text = getattr(new, ours)
        if getattr(old, ours) == text:
            continue
        path = _indexed(f"contacts:PhysicalAddress:{theirs}", key)
        entry = xml("t:PhysicalAddresses", xml("t:Entry", xml(f"t:{theirs}", _windows(text)), Key=key))
        yield _set(path, entry) if text else xml("t:DeleteItemField", path)


def _check(contact: Contact) -> None:
    if len(contact.emails) > MAX_EMAILS:
        raise rejected("too_many_addresses", limit=MAX_EMAILS)


def _field(uri: str) -> Raw:
    return xml("t:FieldURI", FieldURI=uri)


def _indexed(uri: str, key: str) -> Raw:
    return xml("t:IndexedFieldURI", FieldURI=uri, FieldIndex=key)


def _set(path: Raw, value: Raw) -> Raw:
    return xml("t:SetItemField", path, xml("t:Contact", value))


def _text(name: str, contact: Contact) -> Raw:
    return xml(f"t:{_TEXTS[name]}", getattr(contact, name))


def _body(notes: str) -> Raw:
    return xml("t:Body", _windows(notes), BodyType="Text")


def _link(link: str) -> Raw:
    return xml("t:ExtendedProperty", link_path(), xml("t:Value", link))


def _email(key: str, address: str) -> Raw:
    return xml("t:Entry", address, Key=key)


def _entry(key: str, place: PostalAddress) -> Raw:
    parts = [xml(f"t:{theirs}", _windows(getattr(place, ours))) for ours, theirs in _PARTS.items() if getattr(place, ours)]
    return xml("t:Entry", *parts, Key=key)
