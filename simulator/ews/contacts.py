"""How contacts look in Exchange Web Services, and how they are written.

The World keeps a contact by Graph's names, since both vendors read the same store; here they become the elements of the schema
and back. The dictionaries (addresses, telephones) have keys where the World has lists: what is left when the first of two is
deleted moves up, which Exchange would not do. Line breaks are those of Windows on the wire.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from simulator.ews.items import SEARCH_KEY, EwsError, Table, categories, extended_key, item_id, search_key, stamp, xml_text
from simulator.ews.soap import NAMESPACES, Element, local, t
from simulator.world import MailboxState, StoredContact

FAX = "String 0x3A24"  # what Graph has no name for, see `StoredContact`

TEXTS = {  # element -> Graph's name
    "FileAs": "fileAs",
    "DisplayName": "displayName",
    "GivenName": "givenName",
    "Initials": "initials",
    "MiddleName": "middleName",
    "Nickname": "nickName",
    "CompanyName": "companyName",
    "AssistantName": "assistantName",
    "Birthday": "birthday",
    "BusinessHomePage": "businessHomePage",
    "Department": "department",
    "JobTitle": "jobTitle",
    "Manager": "manager",
    "OfficeLocation": "officeLocation",
    "Surname": "surname",
}
PHONES = {"BusinessPhone": ("businessPhones", 0), "BusinessPhone2": ("businessPhones", 1)} | {
    "HomePhone": ("homePhones", 0),
    "HomePhone2": ("homePhones", 1),
}
PLACES = {"Business": "businessAddress", "Home": "homeAddress", "Other": "otherAddress"}
PARTS = {"Street": "street", "City": "city", "State": "state", "CountryOrRegion": "countryOrRegion", "PostalCode": "postalCode"}
EMAILS = ("EmailAddress1", "EmailAddress2", "EmailAddress3")


@dataclass(frozen=True, slots=True)
class ContactView:
    """A stored contact as one request sees it."""

    stored: StoredContact
    mailbox: MailboxState

    @property
    def tag(self) -> str:
        return "Contact"

    @property
    def table(self) -> Table:
        return PROPERTIES

    def extended(self, key: str) -> str | None:
        return search_key(self.stored) if key == SEARCH_KEY else self.stored.extended.get(key) or None


def _wire(text: str) -> str:
    return xml_text(text.replace("\r\n", "\n").replace("\n", "\r\n"))


def _kept(element: Element) -> str:
    return (element.text or "").replace("\r\n", "\n")


def _text(tag: str) -> Callable[[ContactView], Element | None]:
    def element(view: ContactView) -> Element | None:
        value = view.stored.properties.get(TEXTS[tag])
        return t(tag, text=xml_text(value)) if value else None

    return element


def _notes(view: ContactView) -> Element:
    return t("Body", text=_wire(view.stored.properties.get("personalNotes") or ""), BodyType="Text")


def _emails(view: ContactView) -> Element | None:
    found = view.stored.properties.get("emailAddresses") or []
    entries = [
        t("Entry", text=xml_text(e["address"]), Key=key, Name=xml_text(e.get("name") or e["address"]), RoutingType="SMTP")
        for key, e in zip(EMAILS, found, strict=False)
    ]
    return t("EmailAddresses", *entries) if entries else None


def _places(view: ContactView) -> Element | None:
    entries = []
    for key, name in PLACES.items():
        place = view.stored.properties.get(name) or {}
        parts = [t(tag, text=_wire(place[part])) for tag, part in PARTS.items() if place.get(part)]
        if parts:
            entries.append(t("Entry", *parts, Key=key))
    return t("PhysicalAddresses", *entries) if entries else None


def _phones(view: ContactView) -> Element | None:
    properties = view.stored.properties
    values = {key: (properties.get(name) or [])[place : place + 1] for key, (name, place) in PHONES.items()}
    values |= {"MobilePhone": [properties.get("mobilePhone")], "BusinessFax": [view.stored.extended.get(FAX)]}
    entries = [t("Entry", text=xml_text(value[0]), Key=key) for key, value in values.items() if value and value[0]]
    return t("PhoneNumbers", *entries) if entries else None


def _chats(view: ContactView) -> Element | None:
    found = view.stored.properties.get("imAddresses") or []
    entries = [t("Entry", text=xml_text(text), Key=f"ImAddress{n}") for n, text in enumerate(found[:3], 1)]
    return t("ImAddresses", *entries) if entries else None


PROPERTIES: Table = {
    "item:ItemId": lambda v: item_id(v.stored),
    "item:ParentFolderId": lambda v: t("ParentFolderId", Id=v.stored.folder, ChangeKey="AQAAAA=="),
    "item:ItemClass": lambda v: t("ItemClass", text="IPM.Contact"),
    "item:Subject": lambda v: t("Subject", text=xml_text(v.stored.properties.get("displayName") or "")),
    "item:Body": _notes,
    "item:Categories": categories,
    "item:HasAttachments": lambda v: t("HasAttachments", text="false"),
    "ExtendedProperty": lambda v: None,  # holds the place of those that are asked for
    "item:LastModifiedTime": lambda v: t("LastModifiedTime", text=stamp(v.stored.changed_at)),
    **{f"contacts:{tag}": _text(tag) for tag in ("FileAs", "DisplayName", "GivenName", "Initials", "MiddleName", "Nickname")},
    "contacts:CompanyName": _text("CompanyName"),
    "contacts:EmailAddresses": _emails,
    "contacts:PhysicalAddresses": _places,
    "contacts:PhoneNumbers": _phones,
    **{f"contacts:{tag}": _text(tag) for tag in ("AssistantName", "Birthday", "BusinessHomePage", "Department")},
    "contacts:ImAddresses": _chats,
    **{f"contacts:{tag}": _text(tag) for tag in ("JobTitle", "Manager", "OfficeLocation", "Surname")},
}


class Draft:
    """A contact while a request writes to it; what was refused half-way is never kept."""

    def __init__(self, stored: StoredContact | None = None) -> None:
        self._properties: dict[str, Any] = deepcopy(stored.properties) if stored else {}
        self._extended = dict(stored.extended) if stored else {}
        self._categories = list(stored.categories) if stored else []

    def write(self, stored: StoredContact) -> None:
        for name in ("emailAddresses", "businessPhones", "homePhones"):
            self._properties[name] = [value for value in self._properties.get(name) or [] if value is not None]
        stored.properties, stored.extended, stored.categories = self._properties, self._extended, self._categories

    def update(self, update: Element) -> None:
        """Apply a SetItemField or DeleteItemField. Raises: EwsError."""
        path = update[0]
        if local(update) == "DeleteItemField":
            self._take(path)
            return
        if local(update) != "SetItemField" or len(update) != 2 or local(update[1]) != "Contact":
            raise EwsError("ErrorInvalidPropertySet", "The simulator cannot set this property.")
        if len(update[1]) != 1:
            text = "An object within a change description must contain one and only one property to modify."
            raise EwsError("ErrorIncorrectUpdatePropertyCount", text)
        if _path_of(update[1][0]) != _path(path):
            raise EwsError("ErrorUpdatePropertyMismatch", "The property to set is not the one that the path names.")
        self.put(update[1][0])

    def put(self, element: Element) -> None:
        """Set what an element of a Contact tells. Raises: EwsError."""
        match local(element):
            case "Body":
                self._properties["personalNotes"] = _kept(element)
            case "Categories":
                self._categories = [e.text or "" for e in element.iterfind("t:String", NAMESPACES)]
            case "ExtendedProperty":
                self._extended[extended_key(element[0])] = element.findtext("t:Value", namespaces=NAMESPACES) or ""
            case "EmailAddresses" | "PhoneNumbers" | "PhysicalAddresses" as dictionary:
                for entry in element:
                    self._put_entry(dictionary, entry.get("Key", ""), entry)
            case name if name in TEXTS:
                self._properties[TEXTS[name]] = element.text or ""
            case name:
                raise EwsError("ErrorInvalidPropertySet", f"The simulator cannot set {name}.")

    def _put_entry(self, dictionary: str, key: str, entry: Element) -> None:
        if dictionary == "EmailAddresses" and key in EMAILS:
            address = {"name": entry.get("Name") or entry.text or "", "address": entry.text or ""}
            self._place("emailAddresses", EMAILS.index(key), address)
        elif dictionary == "PhysicalAddresses" and key in PLACES:
            for part in entry:
                self._properties.setdefault(PLACES[key], {})[PARTS[local(part)]] = _kept(part)
        elif dictionary == "PhoneNumbers":
            self._phone(key, entry.text or "")
        else:
            raise EwsError("ErrorInvalidPropertySet", f"The simulator does not keep {key}.")

    def _phone(self, key: str, number: str | None) -> None:
        if key in PHONES:
            self._place(*PHONES[key], number)
        elif key == "MobilePhone":
            self._properties["mobilePhone"] = number or ""
        elif key == "BusinessFax":
            self._extended[FAX] = number or ""
        else:
            raise EwsError("ErrorInvalidPropertySet", f"The simulator does not keep {key}.")

    def _place(self, name: str, place: int, value: object) -> None:
        """Put a value at its place in one of the World's lists; None is taken away at the end of the request."""
        values = list(self._properties.get(name) or [])
        values += [None] * (place + 1 - len(values))
        values[place] = value
        self._properties[name] = values

    def _take(self, path: Element) -> None:
        """Raises: EwsError."""
        if local(path) == "ExtendedFieldURI":
            self._extended.pop(extended_key(path), None)
            return
        name, key = path.get("FieldURI", ""), path.get("FieldIndex", "")
        tag = name.partition(":")[2]
        if name == "item:Categories":
            self._categories = []
        elif name == "contacts:EmailAddress" and key in EMAILS:
            self._place("emailAddresses", EMAILS.index(key), None)
        elif name == "contacts:PhoneNumber":
            self._phone(key, None)
        elif name.startswith("contacts:PhysicalAddress:") and key in PLACES:
            (self._properties.get(PLACES[key]) or {}).pop(PARTS[name.rpartition(":")[2]], None)
        elif name.startswith("contacts:") and tag in TEXTS:
            self._properties[TEXTS[tag]] = ""
        else:
            raise EwsError("ErrorInvalidPropertyDelete", "The property cannot be deleted.")


_ONE_OF = {"EmailAddresses": "EmailAddress", "PhoneNumbers": "PhoneNumber"}


def _path(path: Element) -> tuple[str, str]:
    if local(path) == "ExtendedFieldURI":
        return "ExtendedProperty", extended_key(path)
    return path.get("FieldURI", ""), path.get("FieldIndex", "")


def _path_of(element: Element) -> tuple[str, str]:
    """Return the path that an UpdateItem must name to set this element."""
    match local(element):
        case "ExtendedProperty":
            return "ExtendedProperty", extended_key(element[0])
        case "Body" | "Categories" | "ItemClass" | "Subject" | "Sensitivity" | "Importance" as name:
            return f"item:{name}", ""
        case "EmailAddresses" | "PhoneNumbers" as dictionary if len(element) == 1:
            return f"contacts:{_ONE_OF[dictionary]}", element[0].get("Key", "")
        case "PhysicalAddresses" if len(element) == 1 and len(element[0]) == 1:
            return f"contacts:PhysicalAddress:{local(element[0][0])}", element[0].get("Key", "")
        case name:
            return f"contacts:{name}", ""
