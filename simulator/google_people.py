"""Google's People API v1 on the wire, as far as contacts and contact groups go.

As strict as the service where a client could go wrong: requests are those of the description that the installed client library
ships; an update names its fields and the etag it was made from (400 failedPrecondition when somebody was faster), a singleton
field has one value, a contact keeps one membership, names of groups are unique (409), members come by the thousand at most; a
sync token belongs to the parameters of its first call and ends after seven days. Contacts are kept here, as Google's Person,
since the World has none; `AddressBook` is the back door. Not simulated: profiles, other contacts, photos, search, batches.

Faults of its own: "etag_race" (another client changes the contact just before an update) and "sync_token_expired".
Source: the methods' own descriptions in the discovery document; where they are silent the comment says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import weakref
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, cast
from urllib.parse import parse_qs

from flask import Flask, Response, g, request

from simulator.google_discovery import Description, GoogleError, Json
from simulator.google_identity import Grant
from simulator.serving import watch
from simulator.world import GetWorld, Person, World

SYNC_LIFE = timedelta(days=7)
MOST_MEMBERS = 1000  # added and removed by one call
MY_CONTACTS = "contactGroups/myContacts"
SINGLETONS = ("biographies", "birthdays", "genders", "names")

VerifyToken = Callable[[str], Grant | None]


class PeopleError(GoogleError):
    """An error in the newer shape: no list of errors, but details."""

    def __init__(self, status: int, word: str, message: str, *, detail: str = "") -> None:
        super().__init__(status, detail, message, word=word)

    def body(self) -> Json:
        return _plain(self)


def _plain(error: GoogleError) -> Json:
    """Return the error as the People API tells it."""
    body: Json = {"code": error.status, "message": str(error), "status": error.word}
    if error.reason.isupper():
        kind = "type.googleapis.com/google.rpc.ErrorInfo"
        body["details"] = [{"@type": kind, "reason": error.reason, "domain": "people.googleapis.com"}]
    return {"error": body}


def _bad(message: str) -> PeopleError:
    return PeopleError(400, "INVALID_ARGUMENT", message)


@dataclass(slots=True)
class Item:
    """A contact or a group; `content` is what its owner wrote. One that was deleted stays, for those who ask for changes."""

    name: str  # resource name
    content: Json
    tick: int  # of its book at its last change
    changed_at: datetime
    is_deleted: bool = False

    @property
    def etag(self) -> str:
        return "%EgU" + base64.b64encode(f"{self.name}:{self.tick}".encode()).decode()


@dataclass(slots=True)
class AddressBook:
    """One person's contacts and groups, by resource name. Hold the World's lock."""

    contacts: dict[str, Item] = field(default_factory=dict)
    groups: dict[str, Item] = field(default_factory=dict)
    tick: int = 0

    def put(self, shelf: dict[str, Item], content: Json, now: datetime, name: str = "") -> Item:
        """Make an item, or replace its content."""
        self.tick += 1
        if not name:
            digest = hashlib.sha1(f"{id(shelf)}{self.tick}".encode(), usedforsecurity=False).hexdigest()
            name = f"people/c{int(digest[:15], 16)}" if shelf is self.contacts else f"contactGroups/{digest[:14]}"
        shelf[name] = Item(name, content, self.tick, now)
        return shelf[name]

    def remove(self, item: Item, now: datetime) -> None:
        self.tick += 1
        item.tick, item.changed_at, item.is_deleted = self.tick, now, True

    def members(self, group: str) -> list[Item]:
        return [c for c in self.contacts.values() if not c.is_deleted and group in groups_of(c.content)]


def groups_of(content: Json) -> list[str]:
    """Resource names of the groups that a contact is in."""
    memberships = (membership.get("contactGroupMembership", {}) for membership in content.get("memberships", []))
    return [m.get("contactGroupResourceName") or f"contactGroups/{m.get('contactGroupId')}" for m in memberships]


def memberships(groups: Iterable[str]) -> list[Json]:
    return [
        {"contactGroupMembership": {"contactGroupId": name.partition("/")[2], "contactGroupResourceName": name}}
        for name in dict.fromkeys(groups)
    ]


class Books:
    """The address books of each World."""

    def __init__(self) -> None:
        self._books: weakref.WeakKeyDictionary[World, dict[str, AddressBook]] = weakref.WeakKeyDictionary()

    def of(self, world: World, person: Person) -> AddressBook:
        books = self._books.setdefault(world, {})
        book = books.get(person.email.lower())
        if book is None:
            book = books[person.email.lower()] = AddressBook()
            for system in ("myContacts", "starred"):
                book.put(book.groups, {"name": system}, world.now(), f"contactGroups/{system}")
        return book


def books_of(app: Flask) -> Books:
    """The back door of an app that `create_app` made."""
    return cast(Books, app.extensions["google_people"])


def create_app(get_world: GetWorld, verify_token: VerifyToken) -> Flask:
    """Return the service as a WSGI application; `verify_token` tells what an access token opens, None if it is not good."""
    app = Flask("simulator.google_people")
    watch(app, "google_people", get_world)
    books = app.extensions["google_people"] = Books()
    description = Description("people.v1")
    update = description.method("PATCH", "/v1/people/c1:updateContact")[0].parameters["updatePersonFields"]["description"]
    updatable = frozenset(re.findall(r"\* (\w+)", update))

    @app.route("/v1/<path:path>", methods=["GET", "POST", "PUT", "PATCH", "DELETE"])
    def people(path: str) -> Response:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        grant = verify_token(token.strip()) if scheme.lower() == "bearer" else None
        if grant is None:
            raise PeopleError(401, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
        g.actor = grant.person.email
        method, given = description.method(request.method, request.path)
        if not method.scopes & grant.scopes:
            raise PeopleError(403, "PERMISSION_DENIED", "Request had insufficient authentication scopes.")
        query = description.checked_query(method, parse_qs(request.query_string.decode("latin-1"), keep_blank_values=True))
        body = description.checked_body(method, request.get_data(), request.content_type or "")
        world = get_world()
        with world.lock:
            asked = _Request(world, grant.person, books.of(world, grant.person), updatable, given, query, body)
            answer = asked.answer(method.id.removeprefix("people."))
        return Response(json.dumps(answer), content_type="application/json; charset=UTF-8")

    @app.errorhandler(GoogleError)
    def refused(error: GoogleError) -> Response:
        return Response(json.dumps(_plain(error)), error.status, content_type="application/json; charset=UTF-8")

    return app


class _Request:
    """One call upon one address book, with the World's lock held."""

    def __init__(
        self,
        world: World,
        person: Person,
        book: AddressBook,
        updatable: frozenset[str],
        path: dict[str, str],
        query: dict[str, Any],
        body: Json,
    ) -> None:
        self._world, self._person, self._book, self._updatable = world, person, book, updatable
        self._path, self._query, self._body = path, query, body

    def answer(self, method: str) -> Json:
        """Raises: GoogleError."""
        if self._person.access_type != "google":
            raise PeopleError(403, "PERMISSION_DENIED", "The account has no contacts at Google.")
        match method:
            case "people.connections.list":
                return self._connections()
            case "people.get":
                return self._shown(self._contact(), self._fields())
            case "people.createContact":
                return self._create()
            case "people.updateContact":
                return self._update(self._contact())
            case "people.deleteContact":
                return self._delete(self._contact())
            case "contactGroups.list":
                return self._groups()
            case "contactGroups.get":
                return self._group_json(self._group(), most=self._query.get("maxMembers", 0))
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

    def _contact(self) -> Item:
        found = self._book.contacts.get(f"people/{self._path['peopleId']}")
        if found is None or found.is_deleted:
            raise PeopleError(404, "NOT_FOUND", "Requested entity was not found.")
        return found

    def _fields(self, default: str = "") -> set[str]:
        fields = {name.partition(".")[0] for name in self._query.get("personFields", default).split(",") if name}
        if not fields:
            raise _bad("personFields mask is required. Please specify one or more valid paths.")
        if unknown := fields - self._updatable - {"metadata", "photos", "coverPhotos", "ageRanges", "skills"}:
            raise _bad(f'Invalid personFields mask path: "{min(unknown)}".')
        return fields

    def _shown(self, item: Item, fields: set[str]) -> Json:
        stamp = item.changed_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        source = {"type": "CONTACT", "id": item.name.removeprefix("people/c"), "etag": item.etag, "updateTime": stamp}
        metadata: Json = {"sources": [source], "objectType": "PERSON"}
        if item.is_deleted:
            return {"resourceName": item.name, "etag": item.etag, "metadata": metadata | {"deleted": True}}
        content = {name: value for name, value in item.content.items() if name in fields}
        return {"resourceName": item.name, "etag": item.etag, **content} | (
            {"metadata": metadata} if "metadata" in fields else {}
        )

    def _checked(self, content: Json) -> Json:
        """Refuse what a contact cannot hold. Raises: PeopleError."""
        for name in SINGLETONS:
            if len(content.get(name) or []) > 1:
                raise _bad(f"Multiple {name} for a contact source. Only one is allowed.")
        for group in groups_of(content):
            known = self._book.groups.get(group)
            if known is None or known.is_deleted:
                raise PeopleError(404, "NOT_FOUND", f"Contact group {group} was not found.")
        return content

    def _create(self) -> Json:
        content = self._checked({name: value for name, value in self._body.items() if name in self._updatable and value})
        content["memberships"] = memberships([*groups_of(content), MY_CONTACTS])
        made = self._book.put(self._book.contacts, content, self._world.now())
        self._log("create", id=made.name)
        return self._shown(made, self._fields("metadata," + ",".join(self._updatable)))

    def _update(self, item: Item) -> Json:
        fields = {name for name in self._query.get("updatePersonFields", "").split(",") if name}
        if not fields:
            raise _bad("updatePersonFields mask is required. Please specify one or more valid paths.")
        if unknown := fields - self._updatable:
            raise _bad(f'Invalid updatePersonFields mask path: "{min(unknown)}".')
        item = self._raced(item)
        self._check_etag(item)
        changed = self._checked({name: self._body.get(name) for name in fields})
        if "memberships" in fields and not groups_of(changed):
            raise _bad("At least one contact group membership must be specified.")
        if "memberships" in fields:
            changed["memberships"] = memberships(groups_of(changed))
        kept = {name: value for name, value in (item.content | changed).items() if value}
        item = self._book.put(self._book.contacts, kept, self._world.now(), item.name)
        self._log("update", id=item.name, fields=sorted(fields))
        return self._shown(item, self._fields("metadata," + ",".join(self._updatable)))

    def _raced(self, item: Item) -> Item:
        """Let another client change the contact first, if a fault asks for it."""
        if self._has_fault("etag_race"):
            content = item.content | {"nicknames": [{"value": "Changed by another client"}]}
            item = self._book.put(self._book.contacts, content, self._world.now(), item.name)
            self._world.happened("google_people", "update", "second writer", id=item.name, fields=["nicknames"])
        return item

    def _check_etag(self, item: Item) -> None:
        sources = (self._body.get("metadata") or {}).get("sources") or []
        given = [source.get("etag") for source in sources if source.get("type") == "CONTACT"]
        given += [self._body["etag"]] if self._body.get("etag") else []
        if not any(given):
            raise _bad("Request must set person.etag or person.metadata.sources.etag for the source that is being updated.")
        if item.etag not in given:
            text = "Request person.etag is different than the current person.etag. Clear local cache and get the latest person."
            raise PeopleError(400, "FAILED_PRECONDITION", text)

    def _delete(self, item: Item) -> Json:
        self._book.remove(item, self._world.now())
        self._log("delete", id=item.name)
        return {}

    def _connections(self) -> Json:
        if self._path["peopleId"] != "me":
            raise _bad("Must be a request for the authenticated user's contacts.")
        fields = self._fields()
        page, following = self._changed(self._book.contacts, 100)
        shown = [self._shown(item, fields) for item in page]
        present = sum(not item.is_deleted for item in self._book.contacts.values())
        return ({"connections": shown} if shown else {}) | following | {"totalItems": present, "totalPeople": present}

    def _changed(self, shelf: dict[str, Item], default: int, *, is_synced: bool = False) -> tuple[list[Item], Json]:
        """Return a page of what is there, or of what changed since a sync token, and the tokens that belong to it.

        Raises: PeopleError.
        """
        size = self._query.get("pageSize") or default
        if not 1 <= size <= 1000:
            raise _bad("Page size must be between 1 and 1000.")
        own = {name: value for name, value in self._query.items() if name not in ("pageToken", "syncToken", "requestSyncToken")}
        place = self._place(own)
        waiting = [
            item
            for item in sorted(shelf.values(), key=lambda item: (item.tick, item.name))
            if place["since"] < item.tick <= place["until"] and not (place["since"] < 0 and item.is_deleted)
        ]
        end = place["start"] + size
        if end < len(waiting):
            return waiting[place["start"] : end], {"nextPageToken": _token(place | {"start": end})}
        wants = is_synced or self._query.get("requestSyncToken") or self._query.get("syncToken")
        synced = _token({"since": place["until"], "made": self._world.now().timestamp(), "query": own})
        return waiting[place["start"] :], {"nextSyncToken": synced} if wants else {}

    def _place(self, own: Json) -> Json:
        """Return where the client is: pages of the changes in (since, until], from `start` on. Raises: PeopleError."""
        until = {"until": self._book.tick, "start": 0, "query": own}
        token = self._query.get("pageToken") or self._query.get("syncToken")
        if not token:
            return {"since": -1, **until}
        place = _read(token)
        if place.get("query") != own:
            raise _bad("Sync token or page token was made by a call with other parameters.")
        if "start" in place:
            return place
        if self._has_fault("sync_token_expired") or self._world.now().timestamp() - place["made"] > SYNC_LIFE.total_seconds():
            text = "Sync token is expired. Clear local cache and retry call without the sync token."
            raise PeopleError(400, "FAILED_PRECONDITION", text, detail="EXPIRED_SYNC_TOKEN")
        return {"since": place["since"], **until}

    # Groups

    def _group(self) -> Item:
        found = self._book.groups.get(f"contactGroups/{self._path['contactGroupsId']}")
        if found is None or found.is_deleted:
            raise PeopleError(404, "NOT_FOUND", "Requested entity was not found.")
        return found

    def _group_json(self, group: Item, *, most: int = 0) -> Json:
        is_system = group.name in (MY_CONTACTS, "contactGroups/starred")
        members = [member.name for member in self._book.members(group.name)]
        shown = {
            "resourceName": group.name,
            "etag": group.etag,
            "groupType": "SYSTEM_CONTACT_GROUP" if is_system else "USER_CONTACT_GROUP",
            "formattedName": group.content["name"],
            **group.content,
            "metadata": {"updateTime": group.changed_at.strftime("%Y-%m-%dT%H:%M:%SZ")},
        }
        if group.is_deleted:
            shown["metadata"]["deleted"] = True
        shown |= {"memberCount": len(members)} if members else {}
        return shown | ({"memberResourceNames": members[:most]} if most and members else {})

    def _groups(self) -> Json:
        page, following = self._changed(self._book.groups, 30, is_synced=True)
        present = sum(not group.is_deleted for group in self._book.groups.values())
        return {"contactGroups": [self._group_json(group) for group in page], **following, "totalItems": present}

    def _checked_name(self, name: str | None, own: Item | None) -> str:
        if not name or not name.strip():
            raise _bad("Contact group name must be set.")
        groups = (group for group in self._book.groups.values() if group is not own and not group.is_deleted)
        if any(group.content["name"].casefold() == name.casefold() for group in groups):  # that case does not count is a guess
            raise PeopleError(409, "ALREADY_EXISTS", "Contact group name already exists.")
        return name

    def _create_group(self) -> Json:
        body = self._body.get("contactGroup") or {}
        content = {"name": self._checked_name(body.get("name"), None)}
        content |= {"clientData": body["clientData"]} if body.get("clientData") else {}
        group = self._book.put(self._book.groups, content, self._world.now())
        self._log("group_create", id=group.name, name=content["name"])
        return self._group_json(group)

    def _update_group(self, group: Item) -> Json:
        if group.name in (MY_CONTACTS, "contactGroups/starred"):
            raise _bad("System contact groups cannot be updated.")
        fields = set((self._body.get("updateGroupFields") or "name").split(","))
        if unknown := fields - {"name", "clientData"}:
            raise _bad(f'Invalid updateGroupFields mask path: "{min(unknown)}".')
        body = self._body.get("contactGroup") or {}
        changed = {name: body.get(name) for name in fields}
        if "name" in fields:
            changed["name"] = self._checked_name(body.get("name"), group)
        content = {name: value for name, value in (group.content | changed).items() if value}
        group = self._book.put(self._book.groups, content, self._world.now(), group.name)
        self._log("group_update", id=group.name, name=content["name"])
        return self._group_json(group)

    def _delete_group(self, group: Item) -> Json:
        if group.name in (MY_CONTACTS, "contactGroups/starred"):
            raise _bad("System contact groups cannot be deleted.")
        for member in self._book.members(group.name):
            if self._query.get("deleteContacts"):
                self._delete(member)
            else:
                self._move(member, [other for other in groups_of(member.content) if other != group.name])
        self._book.remove(group, self._world.now())
        self._log("group_delete", id=group.name)
        return {}

    def _members(self, group: Item) -> Json:
        added, removed = (self._body.get(name) or [] for name in ("resourceNamesToAdd", "resourceNamesToRemove"))
        if len(added) + len(removed) > MOST_MEMBERS:
            raise _bad(f"At most {MOST_MEMBERS} resource names may be added and removed.")
        contacts = {name: item for name, item in self._book.contacts.items() if not item.is_deleted}
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
            self._book.put(self._book.contacts, content, self._world.now(), item.name)
            self._log("members", id=item.name, before=before, after=after)

    def _has_fault(self, kind: str) -> bool:
        return self._world.take_fault("google_people", request.method, request.path, frozenset({kind})) is not None

    def _log(self, kind: str, **detail: Any) -> None:
        self._world.happened("google_people", kind, self._person.email, **detail)


def _token(place: Json) -> str:
    return base64.urlsafe_b64encode(json.dumps(place, sort_keys=True).encode()).decode()


def _read(token: str) -> Json:
    """Raises: PeopleError when it is no token of ours."""
    try:
        place = json.loads(base64.urlsafe_b64decode(token))
    except ValueError:
        raise _bad("Request contains an invalid page or sync token.") from None
    if not isinstance(place, dict) or not ({"since", "until", "start"} <= place.keys() or {"since", "made"} <= place.keys()):
        raise _bad("Request contains an invalid page or sync token.")
    return place
