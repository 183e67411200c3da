"""The mail client's contacts: what a person sees and does there, so that one can watch what is mirrored and edit it.

A few fields of each contact are shown; whatever else a contact has stays as it is. At Microsoft a contact lies in one folder and
carries names of categories; at Google there are groups alone: a group is both, and a contact can be in several.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Collection, Iterator
from typing import Any, Protocol

from flask import Blueprint, Response, abort, jsonify, request

from simulator.google.book import MY_CONTACTS, SYSTEM_GROUPS, AddressBook, Item, groups_of, memberships
from simulator.inbox.folders import ACTOR, Json
from simulator.world import Folder, GetWorld, MailboxState, Person, StoredContact, World

FIELDS = ("given_name", "surname", "company", "job_title", "email", "business_phone", "mobile_phone", "notes")

_TEXTS = {  # field -> Graph's name
    "given_name": "givenName",
    "surname": "surname",
    "company": "companyName",
    "job_title": "jobTitle",
    "mobile_phone": "mobilePhone",
    "notes": "personalNotes",
}
_NAMES = frozenset({"given_name", "surname"})
_ENTRIES = {  # field -> where it is in Google's Person, and the type of the entry
    "given_name": ("names", "givenName", ""),
    "surname": ("names", "familyName", ""),
    "company": ("organizations", "name", ""),
    "job_title": ("organizations", "title", ""),
    "email": ("emailAddresses", "value", ""),
    "business_phone": ("phoneNumbers", "value", "work"),
    "mobile_phone": ("phoneNumbers", "value", "mobile"),
    "notes": ("biographies", "value", ""),
}


class Cards(Protocol):
    """One person's contacts. A place is a folder or a group. Hold the World's lock."""

    def places(self) -> list[Json]: ...
    def inside(self, place: str) -> Iterator[Json]: ...
    def create(self, place: str, values: dict[str, str]) -> str: ...
    def change(self, ref: str, values: dict[str, str], tags: Collection[str] | None, place: str | None) -> None: ...
    def remove(self, ref: str) -> None: ...


class OutlookCards:
    """Contacts at Microsoft 365 or on an Exchange server."""

    def __init__(self, world: World, box: MailboxState) -> None:
        self._world, self._box = world, box

    def places(self) -> list[Json]:
        folders = [folder for folder in self._box.folders.values() if folder.kind == "contacts"]
        return [{"id": folder.id, "name": folder.name} for folder in folders]

    def inside(self, place: str) -> Iterator[Json]:
        for contact in self._box.contacts.values():
            if contact.folder == place:
                texts = {field: contact.properties.get(name) or "" for field, name in _TEXTS.items()}
                emails = [email["address"] for email in contact.properties.get("emailAddresses") or []]
                phones = contact.properties.get("businessPhones") or []
                lists = {"email": next(iter(emails), ""), "business_phone": next(iter(phones), "")}
                yield _shown(contact.immutable_id, place, contact.categories, texts | lists)

    def create(self, place: str, values: dict[str, str]) -> str:
        contact = StoredContact(self._folder(place).id, {})
        self._box.contacts[contact.immutable_id] = contact
        self._write(contact, values)
        self._done(contact, "contact_create")
        return contact.immutable_id

    def change(self, ref: str, values: dict[str, str], tags: Collection[str] | None, place: str | None) -> None:
        contact = self._find(ref)
        self._write(contact, values)
        if tags is not None:
            contact.categories = list(dict.fromkeys(tags))
        if place not in (None, contact.folder):
            self._leave(contact, self._folder(str(place)))
        self._done(contact, "contact_update")

    def remove(self, ref: str) -> None:
        """Move a contact to Deleted Items, as the client does."""
        contact = self._find(ref)
        self._leave(contact, self._box.folder("deleteditems"))
        self._done(contact, "contact_delete")

    def _write(self, contact: StoredContact, values: dict[str, str]) -> None:
        kept = contact.properties
        kept |= {_TEXTS[field]: value or None for field, value in values.items() if field in _TEXTS}
        if _NAMES & values.keys():
            kept["displayName"] = " ".join(filter(None, (kept.get("givenName"), kept.get("surname")))) or kept.get("companyName")
        if "email" in values:
            first = [{"name": values["email"], "address": values["email"]}] if values["email"] else []
            kept["emailAddresses"] = first + (kept.get("emailAddresses") or [])[1:]
        if "business_phone" in values:
            first_phone = [values["business_phone"]] if values["business_phone"] else []
            kept["businessPhones"] = first_phone + (kept.get("businessPhones") or [])[1:]

    def _leave(self, contact: StoredContact, target: Folder) -> None:
        self._box.left(contact)
        contact.folder = target.id
        contact.ews_id = f"AAMkC/{uuid.uuid4().hex}+{uuid.uuid4().hex[:11]}="  # as with a message, a move changes it

    def _done(self, contact: StoredContact, kind: str) -> None:
        self._box.touch(contact, self._world.now())
        self._world.happened(ACTOR, kind, self._box.owner.email, id=contact.immutable_id, folder=contact.folder)

    def _find(self, ref: str) -> StoredContact:
        return self._box.contacts.get(ref) or abort(404, "There is no such contact")

    def _folder(self, place: str) -> Folder:
        found = self._box.folders.get(place)
        return found if found and found.kind == "contacts" else abort(404, "There is no such folder")


class GoogleCards:
    """Contacts at Google."""

    def __init__(self, world: World, owner: Person, book: AddressBook) -> None:
        self._world, self._owner, self._book = world, owner, book

    def places(self) -> list[Json]:
        own = {item.name: item.content["name"] for item in self._book.groups.values() if not item.is_deleted}
        return [{"id": name, "name": "Contacts" if name == MY_CONTACTS else label} for name, label in own.items()]

    def inside(self, place: str) -> Iterator[Json]:
        names = {item.name: item.content["name"] for item in self._book.groups.values() if item.name not in SYSTEM_GROUPS}
        for item in self._book.members(place):
            values = {field: str(self._entry(item.content, field).get(part, "")) for field, (_, part, _) in _ENTRIES.items()}
            yield _shown(item.name, place, [names[group] for group in groups_of(item.content) if group in names], values)

    def create(self, place: str, values: dict[str, str]) -> str:
        content = {"memberships": memberships([MY_CONTACTS, place])}
        return self._put(self._with(content, values), "contact_create").name

    def change(self, ref: str, values: dict[str, str], tags: Collection[str] | None, place: str | None) -> None:
        item = self._find(ref)
        content = self._with(item.content, values)
        if tags is not None:
            named = [g.name for g in self._book.groups.values() if g.content["name"] in tags and not g.is_deleted]
            kept = [name for name in groups_of(item.content) if name in SYSTEM_GROUPS]
            content["memberships"] = memberships([*kept, *named] or [MY_CONTACTS])
        self._put(content, "contact_update", item.name)

    def remove(self, ref: str) -> None:
        self._book.remove(self._find(ref), self._world.now())
        self._world.happened(ACTOR, "contact_delete", self._owner.email, id=ref)

    def _put(self, content: Json, kind: str, name: str = "") -> Item:
        item = self._book.put(self._book.contacts, content, self._world.now(), name)
        self._world.happened(ACTOR, kind, self._owner.email, id=item.name)
        return item

    def _entry(self, content: Json, field: str) -> Json:
        place, _, kind = _ENTRIES[field]
        entries: list[Json] = content.get(place) or []
        return next((entry for entry in entries if entry.get("type", "") == kind or not kind), {})

    def _with(self, content: Json, values: dict[str, str]) -> Json:
        """Return a contact with some of its entries written anew; entries that then have no value are left out."""
        changed = dict(content)
        for field, value in values.items():
            place, part, kind = _ENTRIES[field]
            old = self._entry(changed, field)
            rest = [entry for entry in changed.get(place) or [] if entry is not old]
            # The free form of a name follows from its parts when it is not there (`simulator.google.contacts`).
            entry = {name: text for name, text in old.items() if name != "unstructuredName"} | {part: value}
            entry |= {"type": kind} if kind else {}
            has_value = any(text for name, text in entry.items() if name not in ("type", "metadata"))
            changed[place] = ([entry] if has_value else []) + rest
        return {place: entries for place, entries in changed.items() if entries}

    def _find(self, ref: str) -> Item:
        found = self._book.contacts.get(ref)
        return found if found and not found.is_deleted else abort(404, "There is no such contact")


def _shown(ref: str, place: str, tags: list[str], values: dict[str, str]) -> Json:
    return {"id": ref, "place": place, "categories": list(tags), **values}


def blueprint(get_world: GetWorld, book_of: Callable[[Person], AddressBook] | None) -> Blueprint:
    """Return the routes for contacts; who is at Google has some only with `book_of`."""
    api = Blueprint("contacts", __name__, url_prefix="/api/mailboxes/<address>/contacts")

    def cards(address: str) -> Cards:
        world = get_world()
        box = world.mailboxes.get(address.lower()) or abort(404, "There is no such mailbox")
        if box.owner.access_type != "google":
            return OutlookCards(world, box)
        return GoogleCards(world, box.owner, book_of(box.owner) if book_of else abort(404, "There are no contacts here"))

    @api.get("")
    def view(address: str) -> Response:
        """Answer with the places, and the contacts of `place`, or of the first."""
        with get_world().lock:
            shelf = cards(address)
            places = shelf.places()
            place = request.args.get("place") or places[0]["id"]
            found = sorted(shelf.inside(place), key=lambda card: (card["surname"] or card["company"], card["given_name"]))
        return jsonify(places=places, place=place, contacts=found)

    @api.post("")
    def create(address: str) -> tuple[Response, int]:
        sent = request.get_json()
        with get_world().lock:
            return jsonify(id=cards(address).create(str(sent["place"]), _values(sent))), 201

    @api.patch("/<path:ref>")
    def change(address: str, ref: str) -> tuple[str, int]:
        sent = request.get_json()
        with get_world().lock:
            cards(address).change(ref, _values(sent), sent.get("categories"), sent.get("place"))
        return "", 204

    @api.delete("/<path:ref>")
    def remove(address: str, ref: str) -> tuple[str, int]:
        with get_world().lock:
            cards(address).remove(ref)
        return "", 204

    return api


def _values(sent: dict[str, Any]) -> dict[str, str]:
    return {field: str(sent[field]).strip() for field in FIELDS if field in sent}
