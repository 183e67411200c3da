"""A request to Microsoft Graph about one mailbox, and what all such requests have in common.

`Request` knows whose mailbox is meant, cuts lists into pages, compares change keys, hands out the rounds of delta queries and
keeps folders; `graph.mail` and `graph.contacts` know the items.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import unquote, urlencode

from simulator.graph import delta
from simulator.graph.delta import Change, Item, Place
from simulator.graph.resources import GraphError, Json, Library, Options, change_key, not_found, rest_form
from simulator.world import Folder, MailboxState, Person, World

PAGE = 10  # items per page without $top or odata.maxpagesize
LARGEST_PAGE = 1000  # what $top allows; the documentation names no limit for odata.maxpagesize
DELTA_LIFE = timedelta(days=7)  # the real life of a token depends on a cache's size
SECOND_WRITERS_CATEGORY = "Team review"
NAME_LENGTH = 255  # of a folder


@dataclass(frozen=True, slots=True)
class Call:
    """One request, alone or as part of a batch. `segments` follow /v1.0, decoded; `path` is as it was sent."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]  # lower-case names
    body: bytes
    person: Person
    base: str  # URL up to /v1.0

    @property
    def segments(self) -> tuple[str, ...]:
        return tuple(unquote(s) for s in self.path.strip("/").split("/"))

    @property
    def collection(self) -> str:
        """What of a mailbox is meant: "messages", "contactFolders", ..."""
        behind = self.segments[1:] if self.segments[0] == "me" else self.segments[2:]
        return behind[0] if behind else ""

    def prefers(self, preference: str) -> str | None:
        """Return what a Prefer header says: `IdType`, `odata.maxpagesize`, `outlook.body-content-type`."""
        for part in self.headers.get("prefer", "").split(","):
            name, _, value = part.strip().partition("=")
            if name.lower() == preference.lower():
                return value.strip('"')
        return None

    def json(self) -> Json:
        """Raises: GraphError when the body is no JSON object."""
        if "application/json" not in self.headers.get("content-type", ""):
            raise GraphError(400, "BadRequest", "Write requests must contain the Content-Type header declaration.")
        try:
            value = json.loads(self.body)
        except ValueError:
            raise GraphError(400, "BadRequest", "Unable to read JSON request payload.") from None
        if not isinstance(value, dict):
            raise GraphError(400, "BadRequest", "Unable to read JSON request payload. It must be an object.")
        return value


@dataclass(frozen=True, slots=True)
class Answer:
    status: int
    body: Json | bytes | None = None
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)


class Request:
    """One call upon one World, whose lock is held."""

    def __init__(self, world: World, library: Library, call: Call) -> None:
        self._world = world
        self._library = library
        self._call = call
        self._immutable = (call.prefers("IdType") or "").lower() == "immutableid"
        self._options = Options.of(call.query)

    def _own_path(self) -> list[str]:
        """Return the path behind /me or /users/{me}; others' mailboxes need rights that nobody has here."""
        match self._call.segments:
            case ("me", *rest):
                return rest
            case ("users", user, *rest):
                if user.lower() in (self._call.person.email.lower(), self._call.person.object_id):
                    return rest
                raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        raise GraphError(400, "BadRequest", f"Resource not found for the segment '{self._call.segments[0]}'.")

    def _not_simulated(self) -> GraphError:
        return GraphError(501, "NotImplemented", f"The simulator has no {self._call.method} {self._call.path}.")

    @property
    def _mailbox(self) -> MailboxState:
        return mailbox_of(self._world, self._call.person)

    def _fault(self, kind: str) -> bool:
        """Say whether the service behaves in this way now."""
        method, path = self._call.method, f"/v1.0{self._call.path}"
        return self._world.take_fault("graph", method, path, frozenset({kind})) is not None

    def _log(self, kind: str, **detail: Any) -> None:
        self._world.happened("graph", kind, self._mailbox.owner.email, **detail)

    def _page(self, items: list[Any], default: int | None = None) -> tuple[list[Any], Json]:
        """Cut out the page asked for; returns it with the annotations that belong to it."""
        size = self._options.top or self._preferred_page() or default or len(items) or 1
        annotations: Json = {"@odata.count": len(items)} if self._options.count else {}
        end = self._options.skip + size
        if end < len(items):
            query = urlencode({**self._call.query, "$skip": str(end)})
            annotations["@odata.nextLink"] = f"{self._call.base}{self._call.path}?{query}"
        return items[self._options.skip : end], annotations

    def _preferred_page(self) -> int:
        """The page size of a Prefer header, 0 without one; a preference that makes no sense is no error."""
        wanted = self._call.prefers("odata.maxpagesize") or ""
        return min(int(wanted), LARGEST_PAGE) if wanted.isdigit() else 0

    def _check_change_key(self, item: Item, in_body: str | None) -> None:
        """Compare If-Match, and a changeKey in the body, with what the item has now.

        If-Match is not documented for messages. With the fault "if_match_ignored" the service does as if it did not know it.
        """
        if self._fault("if_match_ignored"):
            return
        wanted = self._call.headers.get("if-match", "").removeprefix("W/").strip('"')
        current = change_key(item)
        if any(key not in (None, "", "*", current) for key in (wanted, in_body)):
            text = (
                "The send or update operation could not be performed because the change key passed in the request does not "
                "match the current change key for the item."
            )
            raise GraphError(412, "ErrorIrresolvableConflict", text)

    def _let_second_writer_in(self, item: Item) -> None:
        if self._fault("second_writer"):
            before = list(item.categories)
            item.categories.append(SECOND_WRITERS_CATEGORY)
            self._mailbox.touch(item, self._world.now())
            after = list(item.categories)
            self._world.happened("graph", "categories", "second writer", id=item.immutable_id, before=before, after=after)

    # Delta

    def _round(self, folder: Folder, items: Iterable[Item], told: Callable[[Item, Options], Json | None]) -> Answer:
        """Answer one page of a round; later calls carry their place and the options of the first in the token.

        `told` gives what is told of an item, None for nothing. What changes while the pages are read belongs to the next round,
        or with the fault "round_joined" to the pages that are left; no documentation says which.
        """
        place = self._place(folder)
        if self._fault("round_joined"):
            place = replace(place, until=self._mailbox.change)
        options = Options.of(place.options)
        here = (item for item in items if item.folder == folder.id)
        page, following = delta.page(self._mailbox, here, place, self._preferred_page() or PAGE, self._world.now())
        value = [self._removed(change) if change.item is None else told(change.item, options) for change in page]
        name, token = ("@odata.deltaLink", "$deltatoken") if following.is_finished else ("@odata.nextLink", "$skiptoken")
        link = f"{self._call.base}{self._call.path}?{urlencode({token: following.token()})}"
        return Answer(200, {name: link, "value": [one for one in value if one is not None]})

    def _place(self, folder: Folder) -> Place:
        token = self._call.query.get("$deltatoken") or self._call.query.get("$skiptoken")
        if token is None:
            return Place.start(folder.id, self._call.query, self._mailbox, self._world.now())
        if len(self._call.query) > 1:  # the documentation: options belong to the first call; links are used as they are
            raise GraphError(400, "BadRequest", "Query options cannot be combined with a token.")
        try:
            place = Place.read(token)
        except ValueError:
            raise GraphError(400, "BadRequest", "Badly formed token.") from None
        if self._fault("sync_state_lost") or self._world.now() - place.made > DELTA_LIFE or place.until > self._mailbox.change:
            raise GraphError(410, "SyncStateNotFound", "The sync state generation is not found.")
        if place.folder != folder.id:
            raise GraphError(400, "BadRequest", "The token belongs to another folder.")
        return place.resumed(self._mailbox)

    def _removed(self, change: Change) -> Json:
        """An item that left the folder. Without immutable ids one that moved is named by the id it has now."""
        mailbox = self._mailbox
        moved = mailbox.messages.get(change.identifier) or mailbox.contacts.get(change.identifier)
        rest_id = rest_form(moved.ews_id) if moved else rest_form(change.ews_id)
        return {"id": change.identifier if self._immutable else rest_id, "@removed": {"reason": "deleted"}}

    # Folders

    def _make_folder(self, kind: Literal["mail", "contacts"]) -> Folder:
        """Make a folder of the name in the body. Raises: GraphError when there is one of that name, or the name is no name."""
        name = self._folder_name(kind)
        folder = Folder("AQMkAD" + uuid.uuid4().hex + uuid.uuid4().hex[:8] + "AAAA=", name, kind=kind)
        self._mailbox.folders[folder.id] = folder
        self._log("folder_create", id=folder.id, name=name, folder_kind=kind)
        return folder

    def _rename_folder(self, folder: Folder) -> None:
        name = self._folder_name(folder.kind, but=folder)
        if folder.well_known:
            raise GraphError(400, "ErrorInvalidRequest", "A distinguished folder cannot be renamed.")
        before, folder.name = folder.name, name
        self._log("folder_rename", id=folder.id, before=before, after=name)

    def _delete_folder(self, folder: Folder) -> Answer:
        """Delete a folder and what is in it. (The service keeps it below Deleted Items for a while; here it is gone at once.)"""
        if folder.well_known:
            raise GraphError(400, "ErrorDeleteDistinguishedFolder", "Distinguished folders cannot be deleted.")
        mailbox = self._mailbox
        items: list[Item] = [*mailbox.messages.values(), *mailbox.contacts.values()]
        for item in items:
            if item.folder == folder.id:
                mailbox.left(item)
                mailbox.messages.pop(item.immutable_id, None)
                mailbox.contacts.pop(item.immutable_id, None)
        del mailbox.folders[folder.id]
        self._log("folder_delete", id=folder.id, name=folder.name)
        return Answer(204)

    def _folder_name(self, kind: Literal["mail", "contacts"], *, but: Folder | None = None) -> str:
        body = self._call.json()
        refuse_unknown(body, {"displayName"}, f"microsoft.graph.{'mailFolder' if kind == 'mail' else 'contactFolder'}")
        name = body.get("displayName")
        if not isinstance(name, str) or not 0 < len(name.strip()) <= NAME_LENGTH:
            raise GraphError(400, "ErrorInvalidRequest", "displayName must be a text of 1 to 255 characters.")
        others = (f for f in self._mailbox.folders.values() if f.kind == kind and f is not but and not f.parent)
        if any(f.name.casefold() == name.casefold() for f in others):
            # Not documented. Public code reports both statuses, always with this code: a client has to read the code.
            status = 409 if kind == "mail" else 400
            raise GraphError(status, "ErrorFolderExists", "A folder with the specified name already exists.")
        return name


def mailbox_of(world: World, person: Person) -> MailboxState:
    """Raises: GraphError when the person has no mailbox here."""
    mailbox = world.mailboxes.get(person.email.lower())
    if mailbox is None or person.access_type != "office365":
        text = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
        raise GraphError(404, "MailboxNotEnabledForRESTAPI", text)
    return mailbox


def folder_of(mailbox: MailboxState, kind: Literal["mail", "contacts"], identifier: str) -> Folder:
    """Return the folder of this id or well-known name. Raises: GraphError."""
    folders = [folder for folder in mailbox.folders.values() if folder.kind == kind]
    found = next((f for f in folders if f.id == identifier or f.well_known == identifier.lower()), None)
    if found is None:
        raise not_found()
    return found


def refuse_unknown(body: Json, known: Iterable[str], type_name: str) -> None:
    for name in body:
        if name not in known:
            text = f"The property '{name}' does not exist on type '{type_name}' or cannot be changed."
            raise GraphError(400, "RequestBodyRead", text)
