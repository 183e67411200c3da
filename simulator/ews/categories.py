"""The category list of a mailbox: a hidden message in the calendar that holds XML (`CategoryList.xsd`, MS-OXOCFG 2.2.5.2.2).

Categories' names and colours are the World's; what else a client wrote into the list is kept by the server and given back as it
was. A category is known by its guid, so that it can be renamed.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Iterator

from lxml import etree

from simulator.ews.desk import Desk, each, message
from simulator.ews.folders import CALENDAR
from simulator.ews.items import EwsError, not_found
from simulator.ews.soap import NAMESPACES, Element, local, m, t
from simulator.world import Category

CATEGORY_LIST = "CategoryList"
CATEGORY_NAMESPACE = "CategoryList.xsd"


def get_user_configuration(desk: Desk, operation: Element) -> Iterator[Element]:
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
            parts.append(t("XmlData", text=base64.b64encode(_listed(desk)).decode()))
        return message("GetUserConfiguration", m("UserConfiguration", *parts))

    return each("GetUserConfiguration", [operation[0]], one)


def update_user_configuration(desk: Desk, operation: Element) -> Iterator[Element]:
    name = local(operation)

    def one(configuration: Element) -> Element:
        _check_configuration(desk, configuration[0])
        if (name == "UpdateUserConfiguration") != bool(desk.mailbox.categories):
            raise not_found() if not desk.mailbox.categories else EwsError("ErrorItemSave", "It exists already.")
        data = configuration.findtext("t:XmlData", namespaces=NAMESPACES)
        if data is not None:
            _store(desk, base64.b64decode(data))
        return message(name)

    return each(name, [operation[0]], one)


def _check_configuration(desk: Desk, name: Element) -> None:
    if name.get("Name") != CATEGORY_LIST or desk.folder(name[0]).id != CALENDAR:
        raise not_found()


def _copy(folder: Element) -> Element:
    made = t(local(folder), **{str(k): str(v) for k, v in folder.attrib.items()})
    address = folder.findtext("t:Mailbox/t:EmailAddress", namespaces=NAMESPACES)
    if address:
        made.append(t("Mailbox", t("EmailAddress", text=address)))
    return made


def _listed(desk: Desk) -> bytes:
    listing = etree.Element(f"{{{CATEGORY_NAMESPACE}}}categories", desk.memory.root, nsmap={None: CATEGORY_NAMESPACE})
    for category in desk.mailbox.categories.values():
        known = {"name": category.name, "color": _number(category.color)} | _rest(desk, category)
        etree.SubElement(listing, f"{{{CATEGORY_NAMESPACE}}}category", known)
    return etree.tostring(listing, xml_declaration=True, encoding="utf-8")


def _rest(desk: Desk, category: Category) -> dict[str, str]:
    """The attributes of a category that the World does not keep."""
    guid = uuid.uuid5(uuid.NAMESPACE_OID, category.id)
    fresh = {"keyboardShortcut": "0", "usageCount": "3", "lastTimeUsed": "1601-01-01T00:00:00.000", "guid": f"{{{guid}}}"}
    return desk.memory.of.get(category.id) or fresh


def _number(color: str) -> str:
    return "-1" if color == "none" else color.removeprefix("preset")


def _color(number: int) -> str:
    return "none" if number < 0 else f"preset{number}"


def _store(desk: Desk, document: bytes) -> None:
    """Take the whole list over, and log what really changed. Raises: EwsError when it is no category list."""
    try:
        listing = etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
        rows = [{str(key): str(value) for key, value in row.attrib.items()} for row in listing]
        told = [(row.pop("name"), _color(int(row.pop("color"))), row) for row in rows]
    except (etree.XMLSyntaxError, KeyError, ValueError) as error:
        raise EwsError("ErrorInvalidRequest", "The XML data is no category list.") from error
    desk.memory.root = {str(key): str(value) for key, value in listing.attrib.items()}
    by_guid = {_rest(desk, category).get("guid", "").lower(): category for category in desk.mailbox.categories.values()}
    by_name = {category.name: category for category in desk.mailbox.categories.values()}
    kept: dict[str, Category] = {}
    for name, color, rest in told:
        category = by_guid.get(rest.get("guid", "").lower()) or by_name.get(name)
        category = _changed(desk, category, name, color) if category else _made(desk, name, color, rest)
        desk.memory.of[category.id] = rest
        kept[category.id] = category
    for gone in desk.mailbox.categories.values():
        if gone.id not in kept:
            desk.happened("master_delete", id=gone.id, name=gone.name)
    desk.mailbox.categories.clear()
    desk.mailbox.categories.update(kept)


def _made(desk: Desk, name: str, color: str, rest: dict[str, str]) -> Category:
    made = Category(rest.get("guid", "").strip("{}") or str(uuid.uuid4()), name, color)
    desk.happened("master_create", id=made.id, name=name, color=color)
    return made


def _changed(desk: Desk, category: Category, name: str, color: str) -> Category:
    if (category.name, category.color) != (name, color):
        desk.happened("master_update", id=category.id, name=name, before=(category.name, category.color), after=(name, color))
        category.name, category.color = name, color
    return category
