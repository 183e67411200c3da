"""What Microsoft Graph answers about contacts: they themselves, their folders, delta. `CONTACT` is how a contact looks.

Behaviours that no documentation settles are faults, so that a client is tried with both: "if_match_ignored"; "parent_ignored"
and "parent_refused" (the page contact-update lists parentFolderId among what can be changed, without saying that it moves the
contact); "expand_ignored" and "expand_refused" for a delta query (the page contact-delta names $select only, clients saw 500
for $expand).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from typing import Any

from simulator.graph.calls import PAGE, Answer, Request, folder_of, refuse_unknown
from simulator.graph.delta import Item
from simulator.graph.filters import Kind, condition, ordered
from simulator.graph.resources import GraphError, Json, Options, change_key, etag, expanded, not_found, rest_form, shape, stamp
from simulator.world import Folder, MailboxState, StoredContact

LARGEST_COLLECTION = 3  # e-mail addresses of a contact (contact resource type)
ITEM_CLASS = "IPM.Contact"


@dataclass(frozen=True, slots=True)
class ContactView:
    """A stored contact as one request sees it."""

    stored: StoredContact
    immutable_ids: bool

    @property
    def id(self) -> str:
        return self.stored.immutable_id if self.immutable_ids else rest_form(self.stored.ews_id)


TEXTS = (
    *("assistantName", "businessHomePage", "companyName", "department", "displayName", "fileAs", "generation", "givenName"),
    *("initials", "jobTitle", "manager", "middleName", "mobilePhone", "nickName", "officeLocation", "personalNotes"),
    *("profession", "spouseName", "surname", "title", "yomiCompanyName", "yomiGivenName", "yomiSurname"),
)
LISTS = ("businessPhones", "children", "homePhones", "imAddresses")
ADDRESSES = ("businessAddress", "homeAddress", "otherAddress")
ADDRESS_PARTS = frozenset({"city", "countryOrRegion", "postalCode", "state", "street"})
NAMES = frozenset({"givenName", "middleName", "surname"})


def _kept(name: str, empty: Callable[[], Any]) -> Callable[[ContactView], Any]:
    return lambda view: view.stored.properties.get(name) or empty()


def _none() -> None:
    return None


CONTACT: dict[str, Callable[[ContactView], Any]] = {
    "id": lambda v: v.id,
    "createdDateTime": lambda v: stamp(v.stored.changed_at),
    "lastModifiedDateTime": lambda v: stamp(v.stored.changed_at),
    "changeKey": lambda v: change_key(v.stored),
    "categories": lambda v: list(v.stored.categories),
    "parentFolderId": lambda v: v.stored.folder,
    "birthday": _kept("birthday", _none),
    "emailAddresses": _kept("emailAddresses", list),
    **{name: _kept(name, _none) for name in TEXTS},
    **{name: _kept(name, list) for name in LISTS},
    **{name: _kept(name, dict) for name in ADDRESSES},
}

CONTACT_FOLDER: dict[str, Callable[[tuple[MailboxState, Folder]], Any]] = {
    "id": lambda v: v[1].id,
    "displayName": lambda v: v[1].name,
    # What the owner makes is in the default folder (page user-post-contactfolders).
    "parentFolderId": lambda v: v[1].parent or ("AQMkADroot=" if v[1].well_known else v[0].folder("contacts").id),
}


def canonical(identifier: str) -> str:
    """Return the id of an extended property as the World keeps it. Raises: GraphError when it is none."""
    if tag := re.fullmatch(r"(?i)(string|integer) 0x([0-9a-f]{1,4})", identifier):
        return f"{tag[1].title()} 0x{int(tag[2], 16):04X}"
    if named := re.fullmatch(r"(?i)(string|integer) (\{[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\}) name (.+)", identifier):
        return f"{named[1].title()} {named[2].lower()} Name {named[3]}"
    raise GraphError(400, "ErrorInvalidArgument", f"The extended property id '{identifier}' is not valid.")


def extended(view: ContactView, identifier: str) -> tuple[str, str | None]:
    """Return the id in Graph's own spelling and the value, None if the contact has no such property."""
    known = canonical(identifier)
    kept = {"String 0x001A": ITEM_CLASS, **view.stored.extended}
    spelled = re.sub(r" 0x0*([0-9A-F]+)$", lambda tag: f" 0x{tag[1].lower()}", known)
    return spelled, kept.get(known)


CONTACTS = Kind("microsoft.graph.contact", CONTACT, extended)


def contact_json(view: ContactView, options: Options) -> Json:
    found = shape(view, CONTACT, options.select, type_name="microsoft.graph.contact")
    return {"@odata.etag": etag(view.stored), **found, **expanded(options.expand, partial(extended, view))}


class ContactRequest(Request):
    """A request about contacts and their folders."""

    def answer(self) -> Answer:
        """Route by method and path. Raises: GraphError."""
        match (self._call.method, *self._own_path()):
            case (_, "contacts", *rest):
                return self._contacts(self._mailbox.folder("contacts"), rest)
            case ("GET", "contactFolders"):
                own = [f for f in self._mailbox.folders.values() if f.kind == "contacts" and not f.well_known and not f.parent]
                page, annotations = self._page(own, PAGE)
                return Answer(200, {**annotations, "value": [self._folder_json(folder) for folder in page]})
            case ("POST", "contactFolders"):
                return Answer(201, self._folder_json(self._make_folder("contacts")))
            case ("GET", "contactFolders", folder):
                return Answer(200, self._folder_json(self._folder(folder)))
            case ("PATCH", "contactFolders", folder):
                self._rename_folder(self._folder(folder))
                return Answer(200, self._folder_json(self._folder(folder)))
            case ("DELETE", "contactFolders", folder):
                return self._delete_folder(self._folder(folder))
            case ("GET", "contactFolders", folder, "childFolders"):
                self._folder(folder)
                return Answer(200, {"value": []})  # folders of the World have no folders inside
            case (_, "contactFolders", folder, "contacts", *rest):
                return self._contacts(self._folder(folder), rest, only_there=True)
        raise self._not_simulated()

    def _contacts(self, folder: Folder, rest: list[str], *, only_there: bool = False) -> Answer:
        match (self._call.method, *rest):
            case ("GET",):
                return self._list(folder)
            case ("POST",):
                return self._create(folder)
            case ("GET", "delta"):
                return self._delta(folder)
            case (_, identifier):
                found = self._find(identifier)
                if only_there and found.folder != folder.id:
                    raise not_found()
                return self._contact(found)
        raise self._not_simulated()

    def _contact(self, contact: StoredContact) -> Answer:
        match self._call.method:
            case "GET":
                return Answer(200, contact_json(self._view(contact), self._options))
            case "PATCH":
                return self._patch(contact)
            case "DELETE":
                return self._delete(contact)
        raise self._not_simulated()

    def _view(self, contact: StoredContact) -> ContactView:
        return ContactView(contact, self._immutable)

    def _folder(self, identifier: str) -> Folder:
        return folder_of(self._mailbox, "contacts", identifier)

    def _folder_json(self, folder: Folder) -> Json:
        return shape((self._mailbox, folder), CONTACT_FOLDER, self._options.select, type_name="microsoft.graph.contactFolder")

    def _find(self, identifier: str) -> StoredContact:
        """Find a contact wherever it is: an immutable id holds in Deleted Items, too."""
        contacts = self._mailbox.contacts
        found = contacts.get(identifier) or next(
            (c for c in contacts.values() if identifier in (c.ews_id, rest_form(c.ews_id))), None
        )
        if found is None and not identifier.startswith("AA"):
            raise GraphError(400, "ErrorInvalidIdMalformed", "Id is malformed.")
        if found is None:
            raise not_found()
        return found

    def _list(self, folder: Folder) -> Answer:
        matches = condition(self._options.filter, CONTACTS)
        inside = [self._view(contact) for contact in self._mailbox.contacts.values() if contact.folder == folder.id]
        views = ordered([view for view in inside if matches(view)], self._options, CONTACTS)
        page, annotations = self._page(views, PAGE)
        return Answer(200, {**annotations, "value": [contact_json(view, self._options) for view in page]})

    def _delta(self, folder: Folder) -> Answer:
        for name in self._call.query:
            if name not in ("$select", "$expand", "$deltatoken", "$skiptoken"):
                raise GraphError(400, "BadRequest", f"The query parameter '{name}' is not supported in a delta query.")
        if "$expand" in self._call.query and self._fault("expand_refused"):
            raise GraphError(500, "InternalServerError", "Value cannot be null.\r\nParameter name: type")
        is_expanded = not self._fault("expand_ignored")

        def told(item: Item, options: Options) -> Json | None:
            assert isinstance(item, StoredContact)
            return contact_json(self._view(item), options if is_expanded else replace(options, expand=""))

        return self._round(folder, self._mailbox.contacts.values(), told)

    # Writing

    def _create(self, folder: Folder) -> Answer:
        body = self._call.json()
        values, more = _checked(body)
        if "parentFolderId" in body or "changeKey" in body:
            raise GraphError(400, "ErrorInvalidPropertySet", "Set action is invalid for property.")
        names = " ".join(filter(None, (values.get("givenName"), values.get("middleName"), values.get("surname"))))
        values = {"displayName": names or None, "fileAs": _filed(values)} | values
        contact = StoredContact(folder.id, values, more, list(body.get("categories", [])))
        self._mailbox.contacts[contact.immutable_id] = contact
        self._mailbox.touch(contact, self._world.now())
        self._log("contact_create", id=contact.immutable_id, folder=folder.id, names=sorted(body))
        return Answer(201, contact_json(self._view(contact), self._options))

    def _patch(self, contact: StoredContact) -> Answer:
        body = self._call.json()
        values, more = _checked(body)
        self._let_second_writer_in(contact)
        self._check_change_key(contact, body.get("changeKey"))
        if "parentFolderId" in body:
            self._move(contact, body["parentFolderId"])
        before = list(contact.categories)
        if NAMES & values.keys() and "displayName" not in values:
            # The page contact-update: displayName may be made anew when other properties change and it is not among them.
            kept = contact.properties | values
            values["displayName"] = " ".join(filter(None, (kept.get(name) for name in ("givenName", "middleName", "surname"))))
        contact.properties |= values
        contact.extended |= more
        contact.categories = list(body.get("categories", contact.categories))
        self._mailbox.touch(contact, self._world.now())
        if contact.categories != before:
            self._log("categories", id=contact.immutable_id, before=before, after=list(contact.categories))
        if values or more:
            self._log("contact_update", id=contact.immutable_id, names=sorted([*values, *more]))
        return Answer(200, contact_json(self._view(contact), self._options))

    def _move(self, contact: StoredContact, to: str) -> None:
        if self._fault("parent_refused"):
            raise GraphError(400, "ErrorInvalidPropertySet", "Set action is invalid for property.")
        target = self._folder(to)
        if self._fault("parent_ignored") or target.id == contact.folder:
            return
        self._leave(contact, target)
        self._log("contact_move", id=contact.immutable_id, after=target.id)

    def _delete(self, contact: StoredContact) -> Answer:
        """Move a contact to Deleted Items; what is deleted there is gone."""
        self._let_second_writer_in(contact)
        self._check_change_key(contact, None)
        trash = self._mailbox.folder("deleteditems")
        if contact.folder == trash.id:
            del self._mailbox.contacts[contact.immutable_id]
        else:
            self._leave(contact, trash)
            self._mailbox.touch(contact, self._world.now())
        self._log("contact_delete", id=contact.immutable_id)
        return Answer(204)

    def _leave(self, contact: StoredContact, target: Folder) -> None:
        self._mailbox.left(contact)
        contact.folder = target.id
        contact.ews_id = f"{contact.ews_id[:12]}{uuid.uuid4().hex}/{uuid.uuid4().hex[:12]}+AAA="


def _filed(values: Json) -> str | None:
    parts = [part for part in (values.get("surname"), values.get("givenName")) if part]
    return ", ".join(parts) or None


def _checked(body: Json) -> tuple[Json, dict[str, str]]:
    """Return the properties and the extended ones that a body sets. Raises: GraphError for what a contact does not have."""
    values = {name: value for name, value in body.items() if "@odata." not in name}
    extra = values.pop("singleValueExtendedProperties", [])
    refuse_unknown(values, CONTACT, "microsoft.graph.contact")
    if {"id", "createdDateTime", "lastModifiedDateTime"} & values.keys():
        raise GraphError(400, "ErrorInvalidPropertySet", "Set action is invalid for property.")
    for name, value in values.items():
        if not _FORMS.get(name, _is_text)(value):
            raise GraphError(400, "RequestBodyRead", f"Cannot convert the value of '{name}' to the expected type.")
    if len(values.get("emailAddresses", [])) > LARGEST_COLLECTION:
        raise GraphError(400, "ErrorInvalidRequest", "A contact has at most three e-mail addresses.")
    if not isinstance(extra, list) or not all(_is_property(one) for one in extra):
        raise GraphError(400, "RequestBodyRead", "singleValueExtendedProperties must be a collection of ids and values.")
    apart = {"categories", "parentFolderId", "changeKey"}
    kept = {name: value for name, value in values.items() if name not in apart}
    return kept, {canonical(one["id"]): one["value"] for one in extra}


def _is_text(value: object) -> bool:
    return value is None or isinstance(value, str)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(one, str) for one in value)


def _is_address(value: object) -> bool:
    return value is None or (
        isinstance(value, dict) and value.keys() <= ADDRESS_PARTS and all(_is_text(part) for part in value.values())
    )


def _is_emails(value: object) -> bool:
    return isinstance(value, list) and all(
        isinstance(one, dict) and one.keys() <= {"name", "address"} and all(_is_text(part) for part in one.values())
        for one in value
    )


def _is_moment(value: object) -> bool:
    if not isinstance(value, str):
        return value is None
    try:
        return datetime.fromisoformat(value) is not None
    except ValueError:
        return False


def _is_property(value: object) -> bool:
    return isinstance(value, dict) and value.keys() == {"id", "value"} and all(isinstance(part, str) for part in value.values())


_FORMS: dict[str, Callable[[object], bool]] = {
    **dict.fromkeys((*LISTS, "categories"), _is_texts),
    **dict.fromkeys(ADDRESSES, _is_address),
    "emailAddresses": _is_emails,
    "birthday": _is_moment,
}
