"""What Microsoft Graph answers about one mailbox: messages, attachments, folders, the master list of categories, delta.

`answer()` takes one `Call` (a request, alone or as part of a batch) upon one World, whose lock the caller holds, and gives an
`Answer` or raises `GraphError`. Who may call, throttling and batches are `simulator.graph`'s.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any
from urllib.parse import unquote, urlencode

from simulator import graph_delta as delta
from simulator.graph_delta import Place
from simulator.graph_resources import (
    CATEGORY,
    COLORS,
    FOLDER,
    MESSAGE,
    ON_REQUEST,
    AttachmentView,
    GraphError,
    Json,
    Library,
    MessageView,
    Options,
    attachment_json,
    condition,
    message_json,
    not_found,
    ordered,
    shape,
)
from simulator.world import Category, Folder, MailboxState, Person, StoredMessage, World

PAGE = 10  # messages per page without $top or odata.maxpagesize
DELTA_LIFE = timedelta(days=7)  # the real life of a token depends on a cache's size
SECOND_WRITERS_CATEGORY = "Team review"


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


def answer(world: World, library: Library, call: Call) -> Answer:
    """Answer a call. Hold the World's lock. Raises: GraphError."""
    return _Request(world, library, call).answer()


class _Request:
    """One call upon one World, with its lock held."""

    def __init__(self, world: World, library: Library, call: Call) -> None:
        self._world = world
        self._library = library
        self._call = call
        self._immutable = (call.prefers("IdType") or "").lower() == "immutableid"
        self._text = call.prefers("outlook.body-content-type") == "text"
        self._options = Options.of(call.query)

    def answer(self) -> Answer:
        """Route by method and path. Raises: GraphError."""
        match (self._call.method, *self._own_path()):
            case ("GET",):
                return Answer(200, self._person())
            case ("GET", "messages"):
                return self._messages(list(self._mailbox.messages.values()))
            case (_, "messages", message, *rest):
                return self._message(self._find(message), rest)
            case ("GET", "mailFolders"):
                return self._folders()
            case ("GET", "mailFolders", folder):
                return Answer(200, self._folder_json(self._folder(folder)))
            case ("GET", "mailFolders", folder, "messages"):
                inside = self._folder(folder).id
                return self._messages([m for m in self._mailbox.messages.values() if m.folder == inside])
            case ("GET", "mailFolders", folder, "messages", "delta"):
                return self._delta(self._folder(folder))
            case (_, "mailFolders", folder, "messages", message, *rest):
                found = self._find(message)
                if found.folder != self._folder(folder).id:
                    raise not_found()
                return self._message(found, rest)
            case (_, "outlook", "masterCategories", *rest):
                return self._master_categories(rest)
        raise self._not_simulated()

    def _message(self, message: StoredMessage, rest: list[str]) -> Answer:
        match (self._call.method, *rest):
            case ("GET",):
                return Answer(200, message_json(self._view(message), self._options))
            case ("PATCH",):
                return self._patch(message)
            case ("GET", "$value"):
                return Answer(200, message.mime, "text/plain")
            case ("GET", "attachments"):
                views = [AttachmentView(self._view(message), leaf) for leaf in self._view(message).parsed.attachments]
                return Answer(200, {"value": [attachment_json(v, self._options.select) for v in views]})
            case ("GET", "attachments", identifier):
                return Answer(200, attachment_json(self._attachment(message, identifier), self._options.select))
            case ("GET", "attachments", identifier, "$value"):
                return Answer(200, self._attachment(message, identifier).leaf.content(), "application/octet-stream")
            case ("POST", "move"):
                return self._move(message)
        raise self._not_simulated()

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
        person = self._call.person
        mailbox = self._world.mailboxes.get(person.email.lower())
        if mailbox is None or person.access_type != "office365":
            text = "The mailbox is either inactive, soft-deleted, or is hosted on-premise."
            raise GraphError(404, "MailboxNotEnabledForRESTAPI", text)
        return mailbox

    def _view(self, message: StoredMessage) -> MessageView:
        return MessageView(message, self._mailbox, self._world, self._library, self._immutable, self._text)

    def _find(self, identifier: str) -> StoredMessage:
        found = self._mailbox.find(identifier)
        if found is None and not identifier.startswith("AA"):
            raise GraphError(400, "ErrorInvalidIdMalformed", "Id is malformed.")
        if found is None:
            raise not_found()
        return found

    def _folder(self, identifier: str) -> Folder:
        folders = self._mailbox.folders.values()
        found = next((f for f in folders if f.id == identifier or f.well_known == identifier.lower()), None)
        if found is None:
            raise not_found()
        return found

    def _person(self) -> Json:
        person = self._call.person
        whole = {
            "id": person.object_id,
            "displayName": person.name,
            "mail": person.email,
            "userPrincipalName": person.email,
            "preferredLanguage": person.language,
        }
        return {name: value for name, value in whole.items() if not self._options.select or name in (*self._options.select, "id")}

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
        return int(wanted) if wanted.isdigit() else 0

    def _messages(self, stored: list[StoredMessage]) -> Answer:
        matches = condition(self._options.filter)
        views = ordered([v for v in map(self._view, stored) if matches(v)], self._options)
        page, annotations = self._page(views, PAGE)
        return Answer(200, {**annotations, "value": [message_json(v, self._options) for v in page]})

    def _folders(self) -> Answer:
        page, annotations = self._page(list(self._mailbox.folders.values()), PAGE)
        return Answer(200, {**annotations, "value": [self._folder_json(folder) for folder in page]})

    def _folder_json(self, folder: Folder) -> Json:
        return shape((self._mailbox, folder), FOLDER, self._options.select, type_name="microsoft.graph.mailFolder")

    def _attachment(self, message: StoredMessage, identifier: str) -> AttachmentView:
        """Find an attachment by the id it has in either form."""
        forms = (self._view(message), replace(self._view(message), immutable_ids=not self._immutable))
        for leaf in forms[0].parsed.attachments:
            if identifier in [AttachmentView(form, leaf).id for form in forms]:
                return AttachmentView(forms[0], leaf)
        raise not_found()

    def _patch(self, message: StoredMessage) -> Answer:
        changes = self._call.json()
        _check_changes(changes)
        if "categories" in changes:
            self._let_second_writer_in(message)
        self._check_change_key(message, changes.get("changeKey"))
        before = list(message.categories)
        if "categories" in changes:
            message.categories = list(changes["categories"])
        if "isRead" in changes:
            message.is_read = changes["isRead"]
        self._mailbox.touch(message, self._world.now())
        if "categories" in changes:
            self._log("categories", id=message.immutable_id, before=before, after=list(message.categories))
        if "isRead" in changes:
            self._log("read", id=message.immutable_id, is_read=message.is_read)
        return Answer(200, message_json(self._view(message), self._options))

    def _check_change_key(self, message: StoredMessage, in_body: str | None) -> None:
        """Compare If-Match, and a changeKey in the body, with what the message has now."""
        wanted = self._call.headers.get("if-match", "").removeprefix("W/").strip('"')
        current = self._view(message).change_key
        if any(key not in (None, "", "*", current) for key in (wanted, in_body)):
            text = (
                "The send or update operation could not be performed because the change key passed in the request does not "
                "match the current change key for the item."
            )
            raise GraphError(412, "ErrorIrresolvableConflict", text)

    def _let_second_writer_in(self, message: StoredMessage) -> None:
        if self._world.take_fault("graph", "PATCH", f"/v1.0{self._call.path}", frozenset({"second_writer"})):
            before = list(message.categories)
            message.categories.append(SECOND_WRITERS_CATEGORY)
            self._mailbox.touch(message, self._world.now())
            after = list(message.categories)
            self._world.happened("graph", "categories", "second writer", id=message.immutable_id, before=before, after=after)

    def _move(self, message: StoredMessage) -> Answer:
        body = self._call.json()
        if set(body) != {"destinationId"} or not isinstance(body["destinationId"], str):
            raise GraphError(400, "ErrorInvalidRequest", "The parameter destinationId is required, and no other.")
        target = self._folder(body["destinationId"])
        source, mailbox = message.folder, self._mailbox
        mailbox.touch(message, self._world.now())
        mailbox.tombstones.append((mailbox.change, source, message.immutable_id))
        message.folder = target.id
        message.ews_id = f"{message.ews_id[:12]}{uuid.uuid4().hex}/{uuid.uuid4().hex[:12]}+AAA="
        self._log("move", id=message.immutable_id, before=source, after=target.id)
        return Answer(201, message_json(self._view(message), self._options))

    def _log(self, kind: str, **detail: Any) -> None:
        self._world.happened("graph", kind, self._mailbox.owner.email, **detail)

    def _master_categories(self, rest: list[str]) -> Answer:
        match (self._call.method, *rest):
            case ("GET",):
                page, annotations = self._page(list(self._mailbox.categories.values()))
                return Answer(200, {**annotations, "value": [self._category_json(c) for c in page]})
            case ("POST",):
                return self._create_category(self._call.json())
            case ("GET", identifier):
                return Answer(200, self._category_json(self._category(identifier)))
            case ("PATCH", identifier):
                return self._recolor(self._category(identifier), self._call.json())
            case ("DELETE", identifier):
                gone = self._category(identifier)
                del self._mailbox.categories[gone.id]
                self._log("master_delete", id=gone.id, name=gone.name)
                return Answer(204)
        raise self._not_simulated()

    def _category(self, identifier: str) -> Category:
        found = self._mailbox.categories.get(identifier)
        if found is None:
            raise not_found()
        return found

    def _category_json(self, category: Category) -> Json:
        return shape(category, CATEGORY, self._options.select, type_name="microsoft.graph.outlookCategory")

    def _create_category(self, body: Json) -> Answer:
        _refuse_unknown(body, {"displayName", "color"}, "microsoft.graph.outlookCategory")
        name, color = body.get("displayName"), body.get("color", "none")
        if not isinstance(name, str) or not name.strip():
            raise GraphError(400, "ErrorInvalidRequest", "displayName is required.")
        _check_color(color)
        if any(c.name.casefold() == name.casefold() for c in self._mailbox.categories.values()):
            # The documentation says only that names are unique; a client can rely on the status, not on this code.
            raise GraphError(409, "ErrorItemExists", "A category of this name exists.")
        category = Category(str(uuid.uuid4()), name, color)
        self._mailbox.categories[category.id] = category
        self._log("master_create", id=category.id, name=name, color=color)
        return Answer(201, self._category_json(category))

    def _recolor(self, category: Category, body: Json) -> Answer:
        """Only the colour can change (page outlookcategory-update)."""
        _refuse_unknown(body, {"color"}, "microsoft.graph.outlookCategory")
        _check_color(body.get("color"))
        before, category.color = category.color, body["color"]
        self._log("master_update", id=category.id, name=category.name, before=before, after=category.color)
        return Answer(200, self._category_json(category))

    def _delta(self, folder: Folder) -> Answer:
        """Answer one page of a round; later calls carry their place and the options of the first in the token."""
        place = self._place(folder)
        options = Options.of(place.options)
        matches = condition(options.filter)
        page, following = delta.page(
            self._mailbox, place, int(self._call.prefers("odata.maxpagesize") or PAGE), self._world.now()
        )
        value = [
            self._removed(c.identifier) if c.message is None else message_json(self._view(c.message), options)
            for c in page
            if c.message is None or matches(self._view(c.message))
        ]
        name, token = ("@odata.deltaLink", "$deltatoken") if following.is_finished else ("@odata.nextLink", "$skiptoken")
        link = f"{self._call.base}{self._call.path}?{urlencode({token: following.token()})}"
        return Answer(200, {name: link, "value": value})

    def _place(self, folder: Folder) -> Place:
        token = self._call.query.get("$deltatoken") or self._call.query.get("$skiptoken")
        if token is None:
            return Place.start(folder.id, self._call.query, self._mailbox, self._world.now())
        try:
            place = Place.read(token)
        except ValueError:
            raise GraphError(400, "BadRequest", "Badly formed token.") from None
        lost = self._world.take_fault("graph", "GET", f"/v1.0{self._call.path}", frozenset({"sync_state_lost"}))
        if lost or self._world.now() - place.made > DELTA_LIFE or place.until > self._mailbox.change:
            raise GraphError(410, "SyncStateNotFound", "The sync state generation is not found.")
        if place.folder != folder.id:
            raise GraphError(400, "BadRequest", "The token belongs to another folder.")
        return place.resumed(self._mailbox)

    def _removed(self, identifier: str) -> Json:
        """A message that left the folder. Without immutable ids one that moved is named by the id it has now."""
        moved = self._mailbox.find(identifier)
        known_as = identifier if self._immutable or moved is None else moved.rest_id
        return {"id": known_as, "@removed": {"reason": "deleted"}}


def _check_changes(changes: Json) -> None:
    """Refuse what cannot be changed on a message. Raises: GraphError."""
    names = {name for name in changes if "@odata." not in name}
    _refuse_unknown(dict.fromkeys(names), {*MESSAGE, *ON_REQUEST}, "microsoft.graph.message")
    if names & {"flag", "importance", "inferenceClassification"}:
        raise GraphError(501, "NotImplemented", "The simulator changes categories and isRead only.")
    if names - {"categories", "isRead", "changeKey"}:
        raise GraphError(400, "ErrorInvalidPropertySet", "Set action is invalid for property.")
    categories, is_read = changes.get("categories", []), changes.get("isRead", True)
    if not isinstance(categories, list) or not all(isinstance(name, str) and name for name in categories):
        raise GraphError(400, "RequestBodyRead", "categories must be a collection of strings.")
    if not isinstance(is_read, bool):
        raise GraphError(400, "RequestBodyRead", "isRead must be a Boolean.")


def _refuse_unknown(body: Json, known: set[str], type_name: str) -> None:
    for name in body:
        if name not in known:
            text = f"The property '{name}' does not exist on type '{type_name}' or cannot be changed."
            raise GraphError(400, "RequestBodyRead", text)


def _check_color(color: object) -> None:
    if color not in COLORS:
        raise GraphError(400, "RequestBodyRead", f"Requested value '{color}' was not found.")
