"""The operations of Exchange Web Services that the product needs, upon one mailbox of the World.

`perform()` takes one request of the right shape and gives the response element; items are judged one by one, as Exchange does.
Who may call for which mailbox is `simulator.ews`'s. Faults of its own: "second_writer", another client that adds a category
just before an UpdateItem is applied. Categories' names and colours are the World's; what else a client wrote into the category
list (`CategoryList.xsd`, MS-OXOCFG 2.2.5.2.2) is kept here and given back as it was.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lxml import etree

from simulator.ews_items import (
    CALENDAR,
    EwsError,
    FolderView,
    ItemView,
    Shape,
    attachment,
    attachment_id,
    condition,
    folders,
    malformed,
    not_found,
    root,
)
from simulator.ews_soap import NAMESPACES, Element, local, m, t
from simulator.graph_resources import Library
from simulator.world import Category, MailboxState, World

SECOND_WRITERS_CATEGORY = "Team review"
CATEGORY_LIST = "CategoryList"
CATEGORY_NAMESPACE = "CategoryList.xsd"
ID_FORMATS = ("EwsLegacyId", "EwsId", "EntryId", "HexEntryId", "StoreId", "OwaId")
PAGE_LIMIT = 1000  # EWS throttling page: FindItem answers no more at once


@dataclass
class Leftovers:
    """What the World does not know of a mailbox's category list: the root's attributes, and each category's by id."""

    root: dict[str, str] = field(default_factory=lambda: {"default": "", "lastSavedSession": "1"})
    of: dict[str, dict[str, str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Desk:
    """One caller at one mailbox. Hold the World's lock while using it."""

    world: World
    mailbox: MailboxState
    library: Library
    leftovers: Leftovers
    actor: str

    def view(self, ews_id: str) -> ItemView:
        """Raises: EwsError."""
        for message in self.mailbox.messages.values():
            if message.ews_id == ews_id:
                return ItemView(message, self.mailbox, self.world, self.library)
        raise not_found() if ews_id.startswith("AAMk") and " " not in ews_id else malformed()

    def views(self, folder: str) -> Iterator[ItemView]:
        for message in self.mailbox.messages.values():
            if message.folder == folder:
                yield ItemView(message, self.mailbox, self.world, self.library)

    def folder(self, element: Element) -> FolderView:
        """Find the folder that a FolderId or DistinguishedFolderId names. Raises: EwsError."""
        wanted = element.get("Id", "")
        if local(element) == "FolderId":
            found = next((f for f in (root(self.mailbox), *folders(self.mailbox)) if f.id == wanted), None)
            if found is None:
                raise EwsError("ErrorFolderNotFound", "The specified folder could not be found in the store.")
            return found
        address = element.findtext("t:Mailbox/t:EmailAddress", namespaces=NAMESPACES)
        if address is not None and address.lower() != self.mailbox.owner.email.lower():
            raise EwsError("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
        if wanted in ("msgfolderroot", "root"):
            return root(self.mailbox)
        found = next((f for f in folders(self.mailbox) if f.distinguished == wanted), None)
        if found is None:
            raise EwsError("ErrorFolderNotFound", "The specified folder could not be found in the store.")
        return found

    def happened(self, kind: str, **detail: Any) -> None:
        self.world.happened("exchange", kind, self.actor, **detail)


def perform(desk: Desk, operation: Element) -> Element:
    """Answer an operation whose shape was checked."""
    name = local(operation)
    messages = m("ResponseMessages", *_OPERATIONS[name](desk, operation))
    if name == "ConvertId":
        return m("ConvertIdResponse", messages)
    return m(f"{name}Response", messages)


def _message(name: str, *content: Element) -> Element:
    return m(f"{name}ResponseMessage", m("ResponseCode", text="NoError"), *content, ResponseClass="Success")


def refusal(name: str, error: EwsError, *content: Element) -> Element:
    """The answer for one refused item. What follows the key is what the schema demands even then."""
    return m(
        f"{name}ResponseMessage",
        m("MessageText", text=str(error)),
        m("ResponseCode", text=error.code),
        m("DescriptiveLinkKey", text="0"),
        *content,
        ResponseClass="Error",
    )


def _each(
    name: str, elements: Iterator[Element], answer: Callable[[Element], Element], empty: Callable[[], tuple[Element, ...]]
) -> Iterator[Element]:
    for element in elements:
        try:
            yield answer(element)
        except EwsError as error:
            yield refusal(name, error, *empty())


def _get_item(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        shape = Shape.of(operation[0], in_list=False)
        return _message("GetItem", m("Items", shape.element(desk.view(element.get("Id", "")))))

    return _each("GetItem", operation.iterfind("m:ItemIds/t:ItemId", NAMESPACES), one, lambda: (m("Items"),))


def _find_item(desk: Desk, operation: Element) -> Iterator[Element]:
    page = operation.find("m:IndexedPageItemView", NAMESPACES)

    def one(element: Element) -> Element:
        shape, matches = Shape.of(operation[0], in_list=True), condition(operation.find("m:Restriction", NAMESPACES))
        folder = desk.folder(element)
        if operation.get("Traversal") != "Shallow":
            raise EwsError("ErrorInvalidOperation", "The simulator searches the visible items of a folder only.")
        found = sorted((v for v in desk.views(folder.id) if matches(v)), key=lambda v: v.stored.received_at, reverse=True)
        shown, paging = _cut(found, page)
        return _message("FindItem", m("RootFolder", t("Items", *map(shape.element, shown)), **paging))

    return _each("FindItem", operation.iterfind("m:ParentFolderIds/*", NAMESPACES), one, tuple)


def _find_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    page = operation.find("m:IndexedPageFolderView", NAMESPACES)

    def one(element: Element) -> Element:
        parent = desk.folder(element)
        inside = folders(desk.mailbox) if parent == root(desk.mailbox) else []
        shown, paging = _cut(inside, page)
        return _message("FindFolder", m("RootFolder", t("Folders", *(f.element() for f in shown)), **paging))

    return _each("FindFolder", operation.iterfind("m:ParentFolderIds/*", NAMESPACES), one, tuple)


def _cut(found: list[Any], page: Element | None) -> tuple[list[Any], dict[str, str]]:
    """Return the page and the attributes that say where it lies."""
    start = int(page.get("Offset", "0")) if page is not None else 0
    size = min(int(page.get("MaxEntriesReturned", str(PAGE_LIMIT))) if page is not None else PAGE_LIMIT, PAGE_LIMIT)
    end = min(start + size, len(found))
    last = "true" if end >= len(found) else "false"
    return found[start:end], {
        "IndexedPagingOffset": str(end),
        "TotalItemsInView": str(len(found)),
        "IncludesLastItemInRange": last,
    }


def _get_folder(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        return _message("GetFolder", m("Folders", desk.folder(element).element()))

    return _each("GetFolder", operation.iterfind("m:FolderIds/*", NAMESPACES), one, lambda: (m("Folders"),))


def _get_attachment(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(element: Element) -> Element:
        wanted = element.get("Id", "")
        for message in desk.mailbox.messages.values():
            if wanted.startswith(message.ews_id.rstrip("=")):
                view = desk.view(message.ews_id)
                for leaf in view.parsed.attachments:
                    if attachment_id(view, leaf) == wanted:
                        return _message("GetAttachment", m("Attachments", attachment(view, leaf, content=True)))
        raise EwsError("ErrorInvalidAttachmentId", "The specified attachment Id is invalid.")

    return _each(
        "GetAttachment", operation.iterfind("m:AttachmentIds/t:AttachmentId", NAMESPACES), one, lambda: (m("Attachments"),)
    )


def _update_item(desk: Desk, operation: Element) -> Iterator[Element]:
    resolution = operation.get("ConflictResolution", "")

    def one(change: Element) -> Element:
        asked = change[0]
        view = desk.view(asked.get("Id", ""))
        _let_second_writer_in(desk, view)
        key = asked.get("ChangeKey")
        if key is None and resolution != "AlwaysOverwrite":
            text = "A change key is required for the requested operation."
            raise EwsError("ErrorChangeKeyRequired", text)
        if key is not None and not key.startswith("CQAAAB"):
            raise EwsError("ErrorInvalidChangeKey", "The change key is invalid.")
        if resolution == "NeverOverwrite" and key != view.change_key:
            text = "The send or update operation could not be performed because the change key is out of date."
            raise EwsError("ErrorIrresolvableConflict", text)
        _apply(desk, view, change[1])
        count = m("ConflictResults", t("Count", text="0"))
        return _message("UpdateItem", m("Items", t(view.tag, view.id)), count)

    return _each("UpdateItem", operation.iterfind("m:ItemChanges/t:ItemChange", NAMESPACES), one, lambda: (m("Items"),))


def _apply(desk: Desk, view: ItemView, updates: Element) -> None:
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
    stored, before = view.stored, list(view.stored.categories)
    if categories is not None:
        stored.categories = categories
    if is_read is not None:
        stored.is_read = is_read
    desk.mailbox.touch(stored, desk.world.now())
    if categories is not None:
        desk.happened("categories", id=stored.immutable_id, before=before, after=list(categories))
    if is_read is not None:
        desk.happened("read", id=stored.immutable_id, is_read=is_read)


def _let_second_writer_in(desk: Desk, view: ItemView) -> None:
    if desk.world.take_fault("exchange", "POST", "/EWS/Exchange.asmx/UpdateItem", frozenset({"second_writer"})):
        stored, before = view.stored, list(view.stored.categories)
        stored.categories = [*before, SECOND_WRITERS_CATEGORY]
        desk.mailbox.touch(stored, desk.world.now())
        detail = {"id": stored.immutable_id, "before": before, "after": list(stored.categories)}
        desk.world.happened("exchange", "categories", "second writer", **detail)


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
        return _message("ConvertId", alternate)

    return _each("ConvertId", operation.iterfind("m:SourceIds/t:AlternateId", NAMESPACES), one, tuple)


def _get_user_configuration(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(name: Element) -> Element:
        _check_configuration(desk, name)
        if not desk.mailbox.categories:
            raise not_found()
        copy = t("UserConfigurationName", _copy(name[0]), Name=CATEGORY_LIST)
        identifier = t("ItemId", Id="AAMkcategorylist=", ChangeKey="CQAAABYAcl")
        parts = [copy]
        if operation[1].text in ("Id", "All"):
            parts.append(identifier)
        if operation[1].text in ("XmlData", "All"):
            parts.append(t("XmlData", text=base64.b64encode(category_list(desk)).decode()))
        return _message("GetUserConfiguration", m("UserConfiguration", *parts))

    return _each("GetUserConfiguration", iter([operation[0]]), one, tuple)


def _check_configuration(desk: Desk, name: Element) -> None:
    if name.get("Name") != CATEGORY_LIST or desk.folder(name[0]).id != CALENDAR:
        raise not_found()


def _copy(folder: Element) -> Element:
    made = t(local(folder), **{str(k): str(v) for k, v in folder.attrib.items()})
    address = folder.findtext("t:Mailbox/t:EmailAddress", namespaces=NAMESPACES)
    if address:
        made.append(t("Mailbox", t("EmailAddress", text=address)))
    return made


def category_list(desk: Desk) -> bytes:
    """Return the category list as the hidden message in the calendar holds it."""
    listing = etree.Element(f"{{{CATEGORY_NAMESPACE}}}categories", desk.leftovers.root, nsmap={None: CATEGORY_NAMESPACE})
    for category in desk.mailbox.categories.values():
        known = {"name": category.name, "color": _number(category.color)}
        known |= desk.leftovers.of.get(category.id) or _fresh(category.id)
        etree.SubElement(listing, f"{{{CATEGORY_NAMESPACE}}}category", known)
    return etree.tostring(listing, xml_declaration=True, encoding="utf-8")


def _fresh(identifier: str) -> dict[str, str]:
    guid = uuid.uuid5(uuid.NAMESPACE_OID, identifier)
    return {"keyboardShortcut": "0", "usageCount": "3", "lastTimeUsed": "1601-01-01T00:00:00.000", "guid": f"{{{guid}}}"}


def _number(color: str) -> str:
    return "-1" if color == "none" else color.removeprefix("preset")


def _color(number: int) -> str:
    return "none" if number < 0 else f"preset{number}"


def _update_user_configuration(desk: Desk, operation: Element) -> Iterator[Element]:
    name = local(operation)

    def one(configuration: Element) -> Element:
        _check_configuration(desk, configuration[0])
        if (name == "UpdateUserConfiguration") != bool(desk.mailbox.categories):
            raise not_found() if not desk.mailbox.categories else EwsError("ErrorItemSave", "It exists already.")
        data = configuration.findtext("t:XmlData", namespaces=NAMESPACES)
        if data is not None:
            _store_categories(desk, base64.b64decode(data))
        return _message(name)

    return _each(name, iter([operation[0]]), one, tuple)


def _store_categories(desk: Desk, document: bytes) -> None:
    """Take the whole list over, and log what really changed. Raises: EwsError when it is no category list."""
    try:
        listing = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
        rows = [{str(key): str(value) for key, value in row.attrib.items()} for row in listing]
        named = {row.pop("name"): (_color(int(row.pop("color"))), row) for row in rows}
    except (etree.XMLSyntaxError, KeyError, ValueError) as error:
        raise EwsError("ErrorInvalidRequest", "The XML data is no category list.") from error
    desk.leftovers.root = {str(key): str(value) for key, value in listing.attrib.items()}
    before = {category.name: category for category in desk.mailbox.categories.values()}
    for gone in before.keys() - named.keys():
        del desk.mailbox.categories[before[gone].id]
        desk.happened("master_delete", id=before[gone].id, name=gone)
    for label, (color, rest) in named.items():
        _store_category(desk, before.get(label), label, color, rest)


def _store_category(desk: Desk, known: Category | None, label: str, color: str, rest: dict[str, str]) -> None:
    if known is None:
        known = Category(rest.get("guid", "").strip("{}") or str(uuid.uuid4()), label, color)
        desk.mailbox.categories[known.id] = known
        desk.happened("master_create", id=known.id, name=label, color=color)
    elif known.color != color:
        before, known.color = known.color, color
        desk.happened("master_update", id=known.id, name=label, before=before, after=color)
    desk.leftovers.of[known.id] = rest


_OPERATIONS: dict[str, Callable[[Desk, Element], Iterator[Element]]] = {
    "GetFolder": _get_folder,
    "FindFolder": _find_folder,
    "FindItem": _find_item,
    "GetItem": _get_item,
    "UpdateItem": _update_item,
    "GetAttachment": _get_attachment,
    "ConvertId": _convert_id,
    "GetUserConfiguration": _get_user_configuration,
    "UpdateUserConfiguration": _update_user_configuration,
    "CreateUserConfiguration": _update_user_configuration,
}
