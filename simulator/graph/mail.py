"""What Microsoft Graph answers about messages, their attachments and folders, the master list of categories, delta."""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import cast

from simulator.graph.calls import PAGE, Answer, Call, Request, folder_of, refuse_unknown
from simulator.graph.delta import Item
from simulator.graph.filters import condition, ordered
from simulator.graph.resources import (
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
    message_json,
    not_found,
    shape,
)
from simulator.world import Category, Folder, StoredMessage, World


class MailRequest(Request):
    """A request about messages, their folders and categories."""

    def __init__(self, world: World, library: Library, call: Call) -> None:
        super().__init__(world, library, call)
        self._text = call.prefers("outlook.body-content-type") == "text"

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
            case ("POST", "mailFolders"):
                return Answer(201, self._folder_json(self._make_folder("mail")))
            case (_, "mailFolders", folder):
                return self._one_folder(self._folder(folder))
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
        return folder_of(self._mailbox, "mail", identifier)

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

    def _messages(self, stored: list[StoredMessage]) -> Answer:
        matches = condition(self._options.filter)
        views = ordered([v for v in map(self._view, stored) if matches(v)], self._options)
        page, annotations = self._page(views, PAGE)
        return Answer(200, {**annotations, "value": [message_json(v, self._options) for v in page]})

    def _folders(self) -> Answer:
        page, annotations = self._page([f for f in self._mailbox.mail_folders if not f.parent], PAGE)
        return Answer(200, {**annotations, "value": [self._folder_json(folder) for folder in page]})

    def _one_folder(self, folder: Folder) -> Answer:
        match self._call.method:
            case "GET":
                return Answer(200, self._folder_json(folder))
            case "PATCH":
                self._rename_folder(folder)
                return Answer(200, self._folder_json(folder))
            case "DELETE":
                return self._delete_folder(folder)
        raise self._not_simulated()

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

    def _move(self, message: StoredMessage) -> Answer:
        body = self._call.json()
        if set(body) != {"destinationId"} or not isinstance(body["destinationId"], str):
            raise GraphError(400, "ErrorInvalidRequest", "The parameter destinationId is required, and no other.")
        target = self._folder(body["destinationId"])
        source, mailbox = message.folder, self._mailbox
        mailbox.left(message)
        mailbox.touch(message, self._world.now())
        message.folder = target.id
        message.ews_id = f"{message.ews_id[:12]}{uuid.uuid4().hex}/{uuid.uuid4().hex[:12]}+AAA="
        self._log("move", id=message.immutable_id, before=source, after=target.id)
        return Answer(201, message_json(self._view(message), self._options))

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
        refuse_unknown(body, {"displayName", "color"}, "microsoft.graph.outlookCategory")
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
        refuse_unknown(body, {"color"}, "microsoft.graph.outlookCategory")
        _check_color(body.get("color"))
        before, category.color = category.color, body["color"]
        self._log("master_update", id=category.id, name=category.name, before=before, after=category.color)
        return Answer(200, self._category_json(category))

    def _delta(self, folder: Folder) -> Answer:
        def told(item: Item, options: Options) -> Json | None:
            view = self._view(cast(StoredMessage, item))
            return message_json(view, options) if condition(options.filter)(view) else None

        return self._round(folder, self._mailbox.messages.values(), told)


def _check_changes(changes: Json) -> None:
    """Refuse what cannot be changed on a message. Raises: GraphError."""
    names = {name for name in changes if "@odata." not in name}
    refuse_unknown(dict.fromkeys(names), {*MESSAGE, *ON_REQUEST}, "microsoft.graph.message")
    if names & {"flag", "importance", "inferenceClassification"}:
        raise GraphError(501, "NotImplemented", "The simulator changes categories and isRead only.")
    if names - {"categories", "isRead", "changeKey"}:
        raise GraphError(400, "ErrorInvalidPropertySet", "Set action is invalid for property.")
    categories, is_read = changes.get("categories", []), changes.get("isRead", True)
    if not isinstance(categories, list) or not all(isinstance(name, str) and name for name in categories):
        raise GraphError(400, "RequestBodyRead", "categories must be a collection of strings.")
    if not isinstance(is_read, bool):
        raise GraphError(400, "RequestBodyRead", "isRead must be a Boolean.")


def _check_color(color: object) -> None:
    if color not in COLORS:
        raise GraphError(400, "RequestBodyRead", f"Requested value '{color}' was not found.")
