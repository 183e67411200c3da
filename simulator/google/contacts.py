"""What Google's People API v1 answers about one person's contacts and groups, which `google.book` keeps.

`Request.answer()` takes one request, already checked against Google's description, upon one address book with the World's lock
held, and gives a JSON object or raises `GoogleError`. Source: the methods' own descriptions in the discovery document; where
they are silent the comment says so.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from simulator.google.book import MY_CONTACTS, SYSTEM_GROUPS, AddressBook, Item, groups_of, memberships
from simulator.google.discovery import GoogleError, Json
from simulator.google.identity import subject
from simulator.world import Person, World

SYNC_LIFE = timedelta(days=7)
MOST_MEMBERS = 1000  # added and removed by one call
MOST_CONTACTS = 200  # read, created or updated by one call
MOST_BYTES = 128 * 1024  # of a contact; a long note was seen refused (obsidian-contact-sync-plugin #17), how long is a guess
SINGLETONS = ("biographies", "birthdays", "genders", "names")

_ORDERS = ("LAST_MODIFIED_ASCENDING", "LAST_MODIFIED_DESCENDING")
_NAME_PARTS = ("honorificPrefix", "givenName", "middleName", "familyName", "honorificSuffix")
_TOLD_BY_GOOGLE = ("displayName", "displayNameLastFirst", "metadata")
_CODES = {"INVALID_ARGUMENT": 3, "NOT_FOUND": 5, "FAILED_PRECONDITION": 9, "INTERNAL": 13}  # google.rpc.Code

T = TypeVar("T")


class PeopleError(GoogleError):
    """An error in the newer shape: no list of errors, but details. `contacts` says why each of many was refused."""

    def __init__(self, status: int, word: str, message: str, *, detail: str = "", contacts: Json | None = None) -> None:
        super().__init__(status, detail, message, word=word)
        self.contacts = contacts

    def body(self) -> Json:
        return plain(self)


def plain(error: GoogleError) -> Json:
    """Return the error as the People API tells it."""
    body: Json = {"code": error.status, "message": str(error), "status": error.word}
    if error.reason.isupper():
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        body["details"] = [{"@type": kind, "reason": error.reason, "domain": "googleapis.com"}]
    if isinstance(error, PeopleError) and error.contacts:
        body["details"] = [error.contacts]
    return {"error": body}


def _bad(message: str) -> PeopleError:
    return PeopleError(400, "INVALID_ARGUMENT", message)


@dataclass(frozen=True, slots=True)
class Request:
    """One call upon one address book, with the World's lock held. `updatable` are the fields of a Person that can be written."""

    world: World
    person: Person
    book: AddressBook
    updatable: frozenset[str]
    path: dict[str, str]
    query: dict[str, Any]
    body: Json
    line: str  # "GET /v1/contactGroups", as faults match it

    def answer(self, method: str) -> Json:
        """Raises: GoogleError."""
        if self.person.access_type != "google":
            # A guess, in the manner of Gmail's answer: no page says what an account without contacts is told.
            raise PeopleError(400, "FAILED_PRECONDITION", "Contacts service not enabled")
        match method:
            case "people.connections.list":
                return self._connections()
            case "people.get" if self.path["peopleId"] == "me":
                return self._me(self._fields())
            case "people.get":
                return self._shown(self._contact(), self._fields())
            case "people.getBatchGet":
                return self._several()
            case "people.createContact":
                return self._shown(self._create(self._to_create(self.body)), self._fields(self._all_fields))
            case "people.batchCreateContacts":
                return self._create_several()
            case "people.batchUpdateContacts":
                return self._update_several()
            case "people.updateContact":
                return self._update(self._contact())
            case "people.deleteContact":
                return self._delete(self._contact())
            case "contactGroups.list":
                return self._groups()
            case "contactGroups.get":
                return self._group_json(self._group(), self._mask, most=self.query.get("maxMembers", 0))
            case "contactGroups.create":
                return self._create_group()
            case "contactGroups.update":
                return self._update_group(self._group())
            case "contactGroups.delete":
                return self._delete_group(self._group())
            case "contactGroups.members.modify":
                return self._members(self._group())
        raise PeopleError(501, "UNIMPLEMENTED", f"The simulator has no people.{method}.")

    # Contacts

    def _contact(self, name: str = "") -> Item:
        found = self.book.contacts.get(name or f"people/{self.path['peopleId']}")
        if found is None or found.is_deleted:
            raise PeopleError(404, "NOT_FOUND", "Requested entity was not found.")
        return found

    @property
    def _all_fields(self) -> str:
        return "metadata," + ",".join(self.updatable)

    def _fields(self, default: str = "") -> set[str]:
        fields = self._read_mask("personFields", self.query.get("personFields", default))
        if not fields:
            raise _bad("personFields mask is required. Please specify one or more valid paths.")
        return fields

    def _read_mask(self, name: str, mask: str) -> set[str]:
        fields = {path.partition(".")[0] for path in mask.split(",") if path}
        if unknown := fields - self.updatable - {"metadata", "photos", "coverPhotos", "ageRanges", "skills"}:
            raise _bad(f'Invalid {name} mask path: "{min(unknown)}".')
        return fields

    def _update_mask(self, name: str, mask: str) -> set[str]:
        fields = {path for path in mask.split(",") if path}
        if not fields:
            raise _bad(f"{name} mask is required. Please specify one or more valid paths.")
        if unknown := fields - self.updatable:
            raise _bad(f'Invalid {name} mask path: "{min(unknown)}".')
        return fields

    def _shown(self, item: Item, fields: set[str]) -> Json:
        stamp = item.changed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        source = {"type": "CONTACT", "id": item.name.removeprefix("people/c"), "etag": item.etag, "updateTime": stamp}
        metadata: Json = {"sources": [source], "objectType": "PERSON"}
        if item.former and self.query.get("syncToken"):
            metadata["previousResourceNames"] = list(item.former)
        if item.is_deleted:
            return {"resourceName": item.name, "etag": item.etag, "metadata": metadata | {"deleted": True}}
        content = {name: _told(name, value, source) for name, value in item.content.items() if name in fields}
        return {"resourceName": item.name, "etag": item.etag, **content} | (
            {"metadata": metadata} if "metadata" in fields else {}
        )

    def _me(self, fields: set[str]) -> Json:
        identifier = subject(self.person)
        source = {"type": "PROFILE", "id": identifier, "etag": "#" + identifier}
        given, _, family = self.person.name.rpartition(" ")
        name = {"givenName": given, "familyName": family} if given else {"givenName": family}
        shown = {"names": _told("names", [name], source), "metadata": {"sources": [source], "objectType": "PERSON"}}
        present = {field: value for field, value in shown.items() if field in fields}
        return {"resourceName": f"people/{identifier}", "etag": "%EgM" + identifier, **present}

    def _checked(self, content: Json) -> Json:
        """Refuse what a contact cannot hold. Raises: PeopleError."""
        for name in SINGLETONS:
            if len(content.get(name) or []) > 1:
                raise _bad(f"Cannot have more than one person.{name} per source.")
        for group in groups_of(content):
            known = self.book.groups.get(group)
            if known is None or known.is_deleted:
                raise PeopleError(404, "NOT_FOUND", f"Contact group {group} was not found.")
        return content

    def _fitting(self, content: Json) -> Json:
        """Raises: PeopleError."""
        if len(json.dumps(content)) > MOST_BYTES:
            raise _bad("The contact is too large.")
        return content

    def _to_create(self, person: Json) -> Json:
        content = self._checked({name: value for name, value in person.items() if name in self.updatable and value})
        return self._fitting(content | {"memberships": memberships([*groups_of(content), MY_CONTACTS])})

    def _create(self, content: Json) -> Item:
        made = self.book.put(self.book.contacts, content, self.world.now())
        self._log("contact_create", id=made.name)
        return made

    def _update(self, item: Item) -> Json:
        fields = self._update_mask("updatePersonFields", self.query.get("updatePersonFields", ""))
        item = self._raced(item)
        item = self._write(item, self._to_write(item, self.body, fields), fields)
        return self._shown(item, self._fields(self._all_fields))

    def _to_write(self, item: Item, person: Json, fields: set[str]) -> Json:
        """Return what a contact will hold. Raises: PeopleError."""
        self._check_etag(item, person)
        changed = self._checked({name: person.get(name) for name in fields})
        if "memberships" in fields and not groups_of(changed):
            raise _bad("At least one contact group membership must be specified.")
        if "memberships" in fields:
            changed["memberships"] = memberships(groups_of(changed))
        return self._fitting({name: value for name, value in (item.content | changed).items() if value})

    def _write(self, item: Item, content: Json, fields: set[str]) -> Item:
        item = self.book.put(self.book.contacts, content, self.world.now(), item.name)
        self._log("contact_update", id=item.name, fields=sorted(fields))
        return item

    def _raced(self, item: Item) -> Item:
        """Let another client change the contact first, if a fault asks for it."""
        if self._has_fault("etag_race"):
            content = item.content | {"nicknames": [{"value": "Changed by another client"}]}
            item = self.book.put(self.book.contacts, content, self.world.now(), item.name)
            self.world.happened("google", "contact_update", "second writer", id=item.name, fields=["nicknames"])
        return item

    def _check_etag(self, item: Item, person: Json) -> None:
        sources = (person.get("metadata") or {}).get("sources") or []
        given = [source.get("etag") for source in sources if source.get("type") == "CONTACT"]
        given += [person["etag"]] if person.get("etag") else []
        if not any(given):
            raise _bad("Request must set person.etag or person.metadata.sources.etag for the source that is being updated.")
        if item.etag not in given:
            text = "Request person.etag is different than the current person.etag. Clear local cache and get the latest person."
            raise PeopleError(400, "FAILED_PRECONDITION", text)

    # Many contacts at once

    def _several(self) -> Json:
        names, fields = self.query.get("resourceNames") or [], self._fields()
        self._check_number("resource names", len(names))
        if any(not re.fullmatch("people/[^/]+", name) for name in names):
            raise _bad("Resource name must be in the form of people/{person_id}.")
        return {"responses": [self._response(name, fields) for name in names]}

    def _response(self, name: str, fields: set[str]) -> Json:
        """Return a PersonResponse. That one that is not there has no person is a guess; its status is what Status says."""
        if self._has_fault("unshown"):
            status = {"code": _CODES["INTERNAL"], "message": "Internal error encountered."}
            return {"requestedResourceName": name, "httpStatusCode": 500, "status": status}
        try:
            person = self._shown(self._contact(name), fields)
        except PeopleError as error:
            status = {"code": _CODES[error.word], "message": str(error)}
            return {"requestedResourceName": name, "httpStatusCode": error.status, "status": status}
        return {"requestedResourceName": name, "httpStatusCode": 200, "person": person}

    def _create_several(self) -> Json:
        """In the answer the last comes first, for no order is promised."""
        people = {str(number): one.get("contactPerson") or {} for number, one in enumerate(self.body.get("contacts") or [])}
        self._check_number("contacts", len(people))
        fields = self._read_mask("readMask", self.body.get("readMask") or "")
        contents = self._all_of("BatchCreateContactsErrorDetails", people, lambda _, person: self._to_create(person))
        made = [self._create(content).name for content in contents.values()]
        return {"createdPeople": [self._response(name, fields) for name in reversed(made)]} if fields else {}

    def _update_several(self) -> Json:
        people: dict[str, Json] = self.body.get("contacts") or {}
        self._check_number("contacts", len(people))
        fields = self._read_mask("readMask", self.body.get("readMask") or "")
        mask = self._update_mask("updateMask", self.body.get("updateMask") or "")

        def checked(name: str, person: Json) -> tuple[Item, Json]:
            item = self._raced(self._contact(name))
            return item, self._to_write(item, person, mask)

        for item, content in self._all_of("BatchUpdateContactsErrorDetails", people, checked).values():
            self._write(item, content, mask)
        return {"updateResult": {name: self._response(name, fields) for name in people}} if fields else {}

    def _check_number(self, what: str, count: int) -> None:
        if not 1 <= count <= MOST_CONTACTS:
            raise _bad(f"Between 1 and {MOST_CONTACTS} {what} must be specified.")

    def _all_of(self, details: str, people: Mapping[str, Json], check: Callable[[str, Json], T]) -> dict[str, T]:
        """Check each; if one is refused none is written, and the error names all that are.

        The status of the whole is a guess: that of the first. Raises: PeopleError.
        """
        checked: dict[str, T] = {}
        refused: dict[str, PeopleError] = {}
        for name, person in people.items():
            try:
                checked[name] = check(name, person)
            except PeopleError as error:
                refused[name] = error
        if refused:
            first = next(iter(refused.values()))
            errors = {name: {"code": _CODES[error.word], "message": str(error)} for name, error in refused.items()}
            named = {"@type": f"type.googleapis.com/google.people.v1.{details}", "contactErrors": errors}
            raise PeopleError(first.status, first.word, str(first), contacts=None if self._has_fault("unnamed") else named)
        return checked

    def _delete(self, item: Item) -> Json:
        self.book.remove(item, self.world.now())
        self._log("contact_delete", id=item.name)
        return {}

    def _connections(self) -> Json:
        if self.path["peopleId"] != "me":
            raise _bad("Must be a request for the authenticated user's contacts.")
        if self.query.get("sortOrder", _ORDERS[0]) not in _ORDERS:
            raise PeopleError(501, "UNIMPLEMENTED", "The simulator does not sort by name.")
        fields = self._fields()
        page, following = self._changed(self.book.contacts, 100)
        shown = [self._shown(item, fields) for item in page]
        present = sum(not item.is_deleted for item in self.book.contacts.values())
        return ({"connections": shown} if shown else {}) | following | {"totalItems": present, "totalPeople": present}

    def _changed(self, shelf: dict[str, Item], default: int, *, is_synced: bool = False) -> tuple[list[Item], Json]:
        """Return a page of what is there, or of what changed since a sync token, and the tokens that belong to it.

        Raises: PeopleError.
        """
        size = self.query.get("pageSize") or default
        if not 1 <= size <= 1000:
            raise _bad("Page size must be between 1 and 1000.")
        own = {name: value for name, value in self.query.items() if name not in ("pageToken", "syncToken", "requestSyncToken")}
        place = self._place(shelf, own)
        is_latest_first = self.query.get("sortOrder") == "LAST_MODIFIED_DESCENDING"
        told = sorted((item for item in shelf.values() if _is_told(item, place)), key=_order, reverse=is_latest_first)
        # What is shown is not numbered: that no page loses a contact when others change meanwhile is a guess.
        behind = tuple(place["behind"])
        waiting = [item for item in told if not behind or (_order(item) < behind if is_latest_first else _order(item) > behind)]
        if size < len(waiting):
            return waiting[:size], {"nextPageToken": _token(place | {"behind": _order(waiting[size - 1])})}
        wants = is_synced or self.query.get("requestSyncToken") or self.query.get("syncToken")
        synced = _token({"since": place["until"], "made": self.world.now().timestamp(), "query": own})
        return waiting, {"nextSyncToken": synced} if wants else {}

    def _place(self, shelf: dict[str, Item], own: Json) -> Json:
        """Return where the client is: in the changes of (since, until], `behind` the last that was told. Raises: PeopleError."""
        until = {"until": self.book.shown(shelf, self.world.now()), "behind": (), "query": own}
        token = self.query.get("pageToken") or self.query.get("syncToken")
        if not token:
            return {"since": -1, **until}
        place = _read(token)
        if place.get("query") != own:
            raise _bad("Sync token or page token was made by a call with other parameters.")
        if "behind" in place:
            return place
        if self._has_fault("sync_token_expired") or self.world.now().timestamp() - place["made"] > SYNC_LIFE.total_seconds():
            text = "Sync token is expired. Clear local cache and retry call without the sync token."
            raise PeopleError(400, "FAILED_PRECONDITION", text, detail="EXPIRED_SYNC_TOKEN")
        return {"since": place["since"], **until}

    # Groups

    def _group(self) -> Item:
        found = self.book.groups.get(f"contactGroups/{self.path['contactGroupsId']}")
        if found is None or found.is_deleted:
            raise PeopleError(404, "NOT_FOUND", "Requested entity was not found.")
        return found

    def _group_json(self, group: Item, mask: str, *, most: int = 0) -> Json:
        fields = set((mask or "metadata,groupType,memberCount,name").split(","))
        if unknown := fields - {"clientData", "groupType", "memberCount", "metadata", "name"}:
            raise _bad(f'Invalid groupFields mask path: "{min(unknown)}".')
        names = [member.name for member in self.book.members(group.name)] if most or "memberCount" in fields else []
        metadata: Json = {"updateTime": group.changed_at.strftime("%Y-%m-%dT%H:%M:%SZ")}
        told = {
            "name": group.content["name"],
            "groupType": "SYSTEM_CONTACT_GROUP" if group.name in SYSTEM_GROUPS else "USER_CONTACT_GROUP",
            "memberCount": len(names),
            "metadata": metadata | ({"deleted": True} if group.is_deleted else {}),
            "clientData": group.content.get("clientData"),
        }
        shown = {name: value for name, value in told.items() if name in fields and value}
        shown |= {"formattedName": group.content["name"]} if "name" in fields else {}
        shown |= {"memberResourceNames": names[:most]} if most and names else {}
        return {"resourceName": group.name, "etag": group.etag, **shown}

    @property
    def _mask(self) -> str:
        """Which fields of a group are asked for; a write says so in its body."""
        return str(self.query.get("groupFields") or self.body.get("readGroupFields") or "")

    def _groups(self) -> Json:
        page, following = self._changed(self.book.groups, 30, is_synced=True)
        present = sum(not group.is_deleted for group in self.book.groups.values())
        return {"contactGroups": [self._group_json(group, self._mask) for group in page], **following, "totalItems": present}

    def _checked_name(self, name: str | None, own: Item | None) -> str:
        if not name or not name.strip():
            raise _bad("Contact group name must be set.")
        groups = (group for group in self.book.groups.values() if group is not own and not group.is_deleted)
        if any(group.content["name"].casefold() == name.casefold() for group in groups):  # that case does not count is a guess
            raise PeopleError(409, "ALREADY_EXISTS", "Contact group name already exists.")
        return name

    def _create_group(self) -> Json:
        body = self.body.get("contactGroup") or {}
        content = {"name": self._checked_name(body.get("name"), None)}
        content |= {"clientData": body["clientData"]} if body.get("clientData") else {}
        group = self.book.put(self.book.groups, content, self.world.now())
        self._log("group_create", id=group.name, name=content["name"])
        return self._group_json(group, self._mask)

    def _update_group(self, group: Item) -> Json:
        if group.name in SYSTEM_GROUPS:
            raise _bad("System contact groups cannot be updated.")
        fields = set((self.body.get("updateGroupFields") or "name").split(","))
        if unknown := fields - {"name", "clientData"}:
            raise _bad(f'Invalid updateGroupFields mask path: "{min(unknown)}".')
        body = self.body.get("contactGroup") or {}
        changed = {name: body.get(name) for name in fields}
        if "name" in fields:
            changed["name"] = self._checked_name(body.get("name"), group)
        content = {name: value for name, value in (group.content | changed).items() if value}
        group = self.book.put(self.book.groups, content, self.world.now(), group.name)
        self._log("group_update", id=group.name, name=content["name"])
        return self._group_json(group, self._mask)

    def _delete_group(self, group: Item) -> Json:
        if group.name in SYSTEM_GROUPS:
            raise _bad("System contact groups cannot be deleted.")
        for member in self.book.members(group.name):
            if self.query.get("deleteContacts"):
                self._delete(member)
            else:
                self._move(member, [other for other in groups_of(member.content) if other != group.name])
        self.book.remove(group, self.world.now())
        self._log("group_delete", id=group.name)
        return {}

    def _members(self, group: Item) -> Json:
        added, removed = (self.body.get(name) or [] for name in ("resourceNamesToAdd", "resourceNamesToRemove"))
        if len(added) + len(removed) > MOST_MEMBERS:
            raise _bad(f"At most {MOST_MEMBERS} resource names may be added and removed.")
        contacts = {name: item for name, item in self.book.contacts.items() if not item.is_deleted}
        unknown = [name for name in (*added, *removed) if name not in contacts]
        stuck = [n for n in removed if n in contacts and set(groups_of(contacts[n].content)) == {group.name}]
        for name in (name for name in (*added, *removed) if name in contacts and name not in stuck):
            own = groups_of(contacts[name].content)
            rest = [other for other in own if other != group.name]
            self._move(contacts[name], [*own, group.name] if name in added else rest)
        answer = {"notFoundResourceNames": unknown, "canNotRemoveLastContactGroupResourceNames": stuck}
        return {name: value for name, value in answer.items() if value}

    def _move(self, item: Item, groups: list[str]) -> None:
        before, after = groups_of(item.content), list(dict.fromkeys(groups))
        if after != before:
            content = item.content | {"memberships": memberships(after)}
            self.book.put(self.book.contacts, content, self.world.now(), item.name)
            self._log("contact_members", id=item.name, before=before, after=after)

    def _has_fault(self, kind: str) -> bool:
        method, _, path = self.line.partition(" ")
        return self.world.take_fault("google", method, path, frozenset({kind})) is not None

    def _log(self, kind: str, **detail: Any) -> None:
        self.world.happened("google", kind, self.person.email, **detail)


def _order(item: Item) -> tuple[int, str]:
    return item.tick, item.name


def _is_told(item: Item, place: Json) -> bool:
    """Say whether a list tells of an item: in full all that is there, else what changed."""
    if place["since"] < 0:
        return item.made <= place["until"] and not item.is_deleted
    return bool(place["since"] < item.tick <= place["until"])


def _named(name: Json) -> Json:
    """Return a name with what follows from it.

    Of a free form alone Google guesses the parts, of parts alone it makes the free form, and it keeps both if it gets both (the
    same Name in the description of Google's Content Warehouse API). The guess here is the plainest: the last word is the family.
    """
    name = {part: text for part, text in name.items() if part not in ("displayName", "displayNameLastFirst", "metadata") and text}
    parts = [
        name[part] for part in ("honorificPrefix", "givenName", "middleName", "familyName", "honorificSuffix") if part in name
    ]
    free = name.get("unstructuredName", "")
    if free and not parts:
        given, _, family = free.rpartition(" ")
        name |= {"givenName": given, "familyName": family} if given else {"givenName": family}
    return name | {"unstructuredName": free or " ".join(parts)}


def _told(field: str, entries: list[Json], source: Json) -> list[Json]:
    """Return a field's entries with what Google adds when it shows them."""
    origin = {"type": source["type"], "id": source["id"]}
    main = next((n for n, entry in enumerate(entries) if entry.get("metadata", {}).get("sourcePrimary")), 0)
    shown = []
    for number, entry in enumerate(entries):
        added: Json = {"metadata": {"primary": True, "source": origin} if number == main else {"source": origin}}
        if field == "names":
            entry = _named(entry)
            added |= {"displayName": entry["unstructuredName"], "displayNameLastFirst": entry["unstructuredName"]}
        if entry.get("type"):
            added["formattedType"] = entry["type"].capitalize()
        shown.append(entry | added)
    return shown


def _token(place: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, sort_keys=True).encode()).decode()


def _read(token: str) -> Json:
    """Raises: PeopleError when it is no token of ours."""
    try:
        place = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise _bad("Request contains an invalid page or sync token.") from None
    if not isinstance(place, dict) or not ({"since", "until", "behind"} <= place.keys() or {"since", "made"} <= place.keys()):
        raise _bad("Request contains an invalid page or sync token.")
    return place
