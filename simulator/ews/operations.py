"""The operations of Exchange Web Services on folders and items, upon one mailbox of the World.

`perform()` takes one request of the right shape and gives the response element; what was asked for is judged one by one, as
Exchange does. Who may call for which mailbox is `simulator.ews`'s; the category list is in `ews.categories`, following changes in
`ews.sync`. Faults of its own: "second_writer", another client that adds a category just before an UpdateItem is applied,
"read_only", which grants the caller no more than to read, and "store_goes" and "quota", which refuse the second and all further
items of a CreateItem or UpdateItem.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime

from simulator.ews import categories as ews_categories, sync as ews_sync
from simulator.ews.contacts import ContactView, Draft
from simulator.ews.desk import Desk, cut, each, message
from simulator.ews.folders import FolderView, folders, root
from simulator.ews.items import (
    EwsError,
    ItemView,
    Shape,
    Stored,
    attachment,
    attachment_id,
    change_key,
    condition,
    item_id,
    xml_text,
)
from simulator.ews.soap import NAMESPACES, Element, local, m, t
from simulator.world import Folder, StoredContact, StoredMessage

SECOND_WRITERS_CATEGORY = "Team review"
HALF_WAY = {"store_goes": "ErrorMailboxStoreUnavailable", "quota": "ErrorQuotaExceeded"}
ID_FORMATS = ("EwsLegacyId", "EwsId", "EntryId", "HexEntryId", "StoreId", "OwaId")
NEW_ID = "AAMkAD{0}/{1}="


def perform(desk: Desk, operation: Element) -> Element:
    """Answer an operation whose shape was checked."""
    name = local(operation)
    messages = m("ResponseMessages", *_OPERATIONS[name](desk, operation))
    if name == "ConvertId":
        return m("ConvertIdResponse", messages)
    return m(f"{name}Response", messages)


# Folders


def _get_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    is_limited = desk.world.take_fault("exchange", "POST", "/EWS/Exchange.asmx/GetFolder", frozenset({"read_only"})) is not None

    def one(element: Element) -> Element:
        view = replace(desk.folder(element), is_read_only=is_limited)
        return message("GetFolder", m("Folders", view.element(operation[0])))

    return each("GetFolder", operation.iterfind("m:FolderIds/*", NAMESPACES), one, lambda: (m("Folders"),))


def _find_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    page = operation.find("m:IndexedPageFolderView", NAMESPACES)

    def one(element: Element) -> Element:
        parent = desk.folder(element)
        every = folders(desk.mailbox)
        inside = [view for view in every if view.parent == parent.id]
        if operation.get("Traversal") == "Deep":
            inside += [view for view in every if view.parent in {child.id for child in inside}]
        shown, paging = cut(inside, page)
        return message("FindFolder", m("RootFolder", t("Folders", *(f.element(operation[0]) for f in shown)), **paging))

    return each("FindFolder", operation.iterfind("m:ParentFolderIds/*", NAMESPACES), one)


def _create_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(asked: Element) -> Element:
        parent = desk.folder(operation[0][0])
        name = asked.findtext("t:DisplayName", namespaces=NAMESPACES) or ""
        folder_class = asked.findtext("t:FolderClass", namespaces=NAMESPACES) or ""
        is_for_contacts = local(asked) == "ContactsFolder" or folder_class.startswith("IPF.Contact")
        if not name:
            raise EwsError("ErrorFolderSavePropertyError", "A folder needs a name.")
        if parent.id != (desk.mailbox.folder("contacts").id if is_for_contacts else root(desk.mailbox).id):
            raise EwsError("ErrorInvalidOperation", "The simulator keeps such folders in one place only.")
        _check_name(desk, parent.id, name)
        made = Folder(f"AQMkAD{uuid.uuid4().hex}AAAA=", name, kind="contacts" if is_for_contacts else "mail")
        desk.mailbox.folders[made.id] = made
        desk.happened("folder_create", id=made.id, name=name)
        return message("CreateFolder", m("Folders", _folder(desk, made.id).element()))

    return each("CreateFolder", operation.iterfind("m:Folders/*", NAMESPACES), one, lambda: (m("Folders"),))


def _folder(desk: Desk, identifier: str) -> FolderView:
    return next(view for view in folders(desk.mailbox) if view.id == identifier)


def _check_name(desk: Desk, parent: str, name: str) -> None:
    if any(view.parent == parent and view.name.casefold() == name.casefold() for view in folders(desk.mailbox)):
        raise EwsError("ErrorFolderExists", "A folder with the specified name already exists.")


def _update_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(change: Element) -> Element:
        view, (update,) = desk.folder(change[0]), change[1]
        name = update[1].findtext("t:DisplayName", namespaces=NAMESPACES)
        if update[0].get("FieldURI") != "folder:DisplayName" or not name:
            raise EwsError("ErrorInvalidPropertySet", "The simulator can only rename a folder.")
        if view.distinguished:
            raise EwsError("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if view.name.casefold() != name.casefold():
            _check_name(desk, view.parent, name)
        desk.mailbox.folders[view.id].name = name
        desk.happened("folder_update", id=view.id, before=view.name, after=name)
        return message("UpdateFolder", m("Folders", view.element()))

    return each("UpdateFolder", operation.iterfind("m:FolderChanges/*", NAMESPACES), one, lambda: (m("Folders"),))


def _delete_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    """Delete folders and all in them. The World's Deleted Items have no folders, so they cannot be had back here."""

    def one(element: Element) -> Element:
        view = desk.folder(element)
        if view.distinguished:
            raise EwsError("ErrorDeleteDistinguishedFolder", "Distinguished folders cannot be deleted.")
        for inside in list(desk.views(view.id)):
            _remove(desk, inside.stored)
        del desk.mailbox.folders[view.id]
        desk.happened("folder_delete", id=view.id, name=view.name)
        return message("DeleteFolder")

    return each("DeleteFolder", operation.iterfind("m:FolderIds/*", NAMESPACES), one)


# Items


def _get_item(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        shape = Shape.of(operation[0], in_list=False)
        return message("GetItem", m("Items", shape.element(desk.view(element.get("Id", "")))))

    return each("GetItem", operation.iterfind("m:ItemIds/t:ItemId", NAMESPACES), one, lambda: (m("Items"),))


def _find_item(desk: Desk, operation: Element) -> Iterator[Element]:
    page = operation.find("m:IndexedPageItemView", NAMESPACES)

    def one(element: Element) -> Element:
        shape, matches = Shape.of(operation[0], in_list=True), condition(operation.find("m:Restriction", NAMESPACES))
        folder = desk.folder(element)
        if operation.get("Traversal") != "Shallow":
            raise EwsError("ErrorInvalidOperation", "The simulator searches the visible items of a folder only.")
        found = [view for view in desk.views(folder.id) if matches(view)]
        found.sort(key=lambda view: _came(view.stored), reverse=True)
        shown, paging = cut(found, page)
        return message("FindItem", m("RootFolder", t("Items", *map(shape.element, shown)), **paging))

    return each("FindItem", operation.iterfind("m:ParentFolderIds/*", NAMESPACES), one)


def _came(stored: Stored) -> datetime:
    return stored.received_at if isinstance(stored, StoredMessage) else stored.changed_at


def _get_attachment(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        wanted = element.get("Id", "")
        for stored in desk.mailbox.messages.values():
            if wanted.startswith(stored.ews_id.rstrip("=")):
                view = desk.view(stored.ews_id)
                assert isinstance(view, ItemView)
                for leaf in view.parsed.attachments:
                    if attachment_id(view, leaf) == wanted:
                        return message("GetAttachment", m("Attachments", attachment(view, leaf, content=True)))
        raise EwsError("ErrorInvalidAttachmentId", "The specified attachment Id is invalid.")

    asked = operation.iterfind("m:AttachmentIds/t:AttachmentId", NAMESPACES)
    return each("GetAttachment", asked, one, lambda: (m("Attachments"),))


def _create_item(desk: Desk, operation: Element) -> Iterator[Element]:
    target = operation.find("m:SavedItemFolderId/*", NAMESPACES)

    def one(asked: Element) -> Element:
        _stop_half_way(desk, operation, asked)
        folder = desk.mailbox.folder("contacts") if target is None else desk.stored_folder(target)
        if folder.kind != "contacts":
            raise EwsError("ErrorCannotCreateContactInNonContactFolder", "A contact can only be created in a contacts folder.")
        draft = Draft()
        for element in asked:
            draft.put(element)
        made = StoredContact(folder.id, {}, ews_id=_new_id())
        draft.write(made)
        desk.mailbox.contacts[made.immutable_id] = made
        desk.mailbox.touch(made, desk.world.now())
        desk.happened("contact_create", id=made.immutable_id, folder=folder.id)
        return message("CreateItem", m("Items", t("Contact", item_id(made))))

    return each("CreateItem", operation.iterfind("m:Items/*", NAMESPACES), one, lambda: (m("Items"),))


def _stop_half_way(desk: Desk, operation: Element, part: Element) -> None:
    """Raises: EwsError if a fault is to hit this part, which is not the first."""
    if part.getprevious() is None:
        return
    fault = desk.world.take_fault("exchange", "POST", f"/EWS/Exchange.asmx/{local(operation)}", frozenset(HALF_WAY))
    if fault is not None:
        raise EwsError(HALF_WAY[fault.kind], "The simulator was told to answer so.")


def _new_id() -> str:
    return NEW_ID.format(uuid.uuid4().hex, uuid.uuid4().hex[:12])


def _update_item(desk: Desk, operation: Element) -> Iterator[Element]:
    resolution = operation.get("ConflictResolution", "")

    def one(change: Element) -> Element:
        _stop_half_way(desk, operation, change)
        asked = change[0]
        view = desk.view(asked.get("Id", ""))
        _let_second_writer_in(desk, view.stored)
        key = asked.get("ChangeKey")
        if key is None and resolution != "AlwaysOverwrite":
            text = "A change key is required for the requested operation."
            raise EwsError("ErrorChangeKeyRequired", text)
        _check_key(key)
        if resolution == "NeverOverwrite" and key != change_key(view.stored):
            text = "The send or update operation could not be performed because the change key is out of date."
            raise EwsError("ErrorIrresolvableConflict", text)
        if isinstance(view, ContactView):
            _change_contact(desk, view.stored, change[1])
        else:
            _change_message(desk, view.stored, change[1])
        count = m("ConflictResults", t("Count", text="0"))
        return message("UpdateItem", m("Items", t(view.tag, item_id(view.stored))), count)

    return each("UpdateItem", operation.iterfind("m:ItemChanges/t:ItemChange", NAMESPACES), one, lambda: (m("Items"),))


def _check_key(key: str | None) -> None:
    if key is not None and not key.startswith("CQAAAB"):
        raise EwsError("ErrorInvalidChangeKey", "The change key is invalid.")


def _change_contact(desk: Desk, stored: StoredContact, updates: Element) -> None:
    """Raises: EwsError for what cannot be set, before anything was."""
    draft, before = Draft(stored), list(stored.categories)
    for update in updates:
        draft.update(update)
    draft.write(stored)
    desk.mailbox.touch(stored, desk.world.now())
    if stored.categories != before:
        desk.happened("categories", id=stored.immutable_id, before=before, after=list(stored.categories))
    if any(update[0].get("FieldURI") != "item:Categories" for update in updates):
        desk.happened("contact_update", id=stored.immutable_id)


def _change_message(desk: Desk, stored: StoredMessage, updates: Element) -> None:
    """Raises: EwsError for what cannot be set, before anything was."""
    categories: list[str] | None = None
    is_read: bool | None = None
    for update in updates:
        match local(update), update[0].get("FieldURI"):
            case "SetItemField", "item:Categories":
                categories = [e.text or "" for e in update[1].iterfind("t:Categories/t:String", NAMESPACES)]
            case "DeleteItemField", "item:Categories":
                categories = []
            case "SetItemField", "message:IsRead":
                is_read = update[1].findtext("t:IsRead", namespaces=NAMESPACES) in ("true", "1")
            case _:
                raise EwsError("ErrorInvalidPropertySet", "The simulator cannot set this property.")
    before = list(stored.categories)
    if categories is not None:
        stored.categories = categories
    if is_read is not None:
        stored.is_read = is_read
    desk.mailbox.touch(stored, desk.world.now())
    if categories is not None:
        desk.happened("categories", id=stored.immutable_id, before=before, after=list(categories))
    if is_read is not None:
        desk.happened("read", id=stored.immutable_id, is_read=is_read)


def _let_second_writer_in(desk: Desk, stored: Stored) -> None:
    if desk.world.take_fault("exchange", "POST", "/EWS/Exchange.asmx/UpdateItem", frozenset({"second_writer"})):
        before = list(stored.categories)
        stored.categories = [*before, SECOND_WRITERS_CATEGORY]
        desk.mailbox.touch(stored, desk.world.now())
        detail = {"id": stored.immutable_id, "before": before, "after": list(stored.categories)}
        desk.world.happened("exchange", "categories", "second writer", **detail)


def _move_item(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        try:
            target = desk.stored_folder(operation[0][0])
        except EwsError as error:
            code = {"ErrorFolderNotFound": "ErrorToFolderNotFound"}.get(error.code, error.code)
            raise EwsError(code, "The destination folder could not be found in the store.") from error
        view = desk.view(element.get("Id", ""))
        _check_key(element.get("ChangeKey"))
        _move(desk, view.stored, target)
        return message("MoveItem", m("Items", t(view.tag, item_id(view.stored))))

    return each("MoveItem", operation.iterfind("m:ItemIds/t:ItemId", NAMESPACES), one, lambda: (m("Items"),))


def _move(desk: Desk, stored: Stored, target: Folder) -> None:
    """Move an item; even within its folder it gets a new id, since EWS makes a new item and deletes the old one."""
    before = stored.folder
    desk.mailbox.left(stored)
    stored.folder, stored.ews_id = target.id, _new_id()
    desk.mailbox.touch(stored, desk.world.now())
    desk.happened("move", id=stored.immutable_id, before=before, after=target.id)


def _delete_item(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        view = desk.view(element.get("Id", ""))
        _check_key(element.get("ChangeKey"))
        if operation.get("DeleteType") == "MoveToDeletedItems":
            _move(desk, view.stored, desk.mailbox.folder("deleteditems"))
        else:
            _remove(desk, view.stored)
            desk.happened("delete", id=view.stored.immutable_id)
        return message("DeleteItem")

    return each("DeleteItem", operation.iterfind("m:ItemIds/t:ItemId", NAMESPACES), one)


def _remove(desk: Desk, stored: Stored) -> None:
    desk.mailbox.left(stored)
    if isinstance(stored, StoredMessage):
        del desk.mailbox.messages[stored.immutable_id]
    else:
        del desk.mailbox.contacts[stored.immutable_id]


# Ids and names


def _convert_id(desk: Desk, operation: Element) -> Iterator[Element]:
    """Only between the forms whose difference the World knows: an EWS id and itself, and the web client's."""
    wanted = operation.get("DestinationFormat", "")

    def one(element: Element) -> Element:
        source, given = element.get("Format", ""), element.get("Id", "")
        if source not in ID_FORMATS or wanted not in ID_FORMATS:
            raise EwsError("ErrorInvalidIdMalformed", "Id is malformed.")
        plain = given.replace("-", "/").replace("_", "+") if source == "OwaId" else given
        desk.view(plain)
        turned = plain.replace("/", "-").replace("+", "_") if wanted == "OwaId" else plain
        alternate = m("AlternateId", Format=wanted, Id=turned, Mailbox=element.get("Mailbox", ""))
        alternate.set("{http://www.w3.org/2001/XMLSchema-instance}type", "t:AlternateIdType")
        return message("ConvertId", alternate)

    return each("ConvertId", operation.iterfind("m:SourceIds/t:AlternateId", NAMESPACES), one)


def _resolve_names(desk: Desk, operation: Element) -> Iterator[Element]:
    """Only a person's whole address, or "smtp:" and it, which does not find by the beginning of a name."""

    def one(entry: Element) -> Element:
        wanted = (entry.text or "").lower().removeprefix("smtp:")
        found = [person for person in desk.world.people if person.email.lower() == wanted]
        if not found:
            raise EwsError("ErrorNameResolutionNoResults", "No results were found.")
        resolutions = [
            t(
                "Resolution",
                t(
                    "Mailbox",
                    t("Name", text=xml_text(person.name)),
                    t("EmailAddress", text=person.email),
                    t("RoutingType", text="SMTP"),
                    t("MailboxType", text="Mailbox"),
                ),
            )
            for person in found
        ]
        paging = {"TotalItemsInView": str(len(found)), "IncludesLastItemInRange": "true"}
        return message("ResolveNames", m("ResolutionSet", *resolutions, **paging))

    return each("ResolveNames", operation.iterfind("m:UnresolvedEntry", NAMESPACES), one)


_OPERATIONS: dict[str, Callable[[Desk, Element], Iterator[Element]]] = {
    "GetFolder": _get_folder,
    "FindFolder": _find_folder,
    "CreateFolder": _create_folder,
    "UpdateFolder": _update_folder,
    "DeleteFolder": _delete_folder,
    "FindItem": _find_item,
    "GetItem": _get_item,
    "CreateItem": _create_item,
    "UpdateItem": _update_item,
    "MoveItem": _move_item,
    "DeleteItem": _delete_item,
    "GetAttachment": _get_attachment,
    "ConvertId": _convert_id,
    "ResolveNames": _resolve_names,
    "GetUserConfiguration": ews_categories.get_user_configuration,
    "UpdateUserConfiguration": ews_categories.update_user_configuration,
    "CreateUserConfiguration": ews_categories.update_user_configuration,
    "SyncFolderItems": ews_sync.sync_folder_items,
    "Subscribe": ews_sync.subscribe,
    "GetEvents": ews_sync.get_events,
    "Unsubscribe": ews_sync.unsubscribe,
}
