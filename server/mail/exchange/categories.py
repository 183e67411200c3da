"""The category list of a mailbox at Exchange: XML in a hidden item of the Calendar folder (MS-OXOCFG 2.2.5.2.2). Pure."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping

from lxml import etree

from server.domain.marks import MARKS, MarkId
from server.errors import Rejected
from server.mail import Category

_LIST = "{CategoryList.xsd}"
_NEVER_USED = "1601-01-01T00:00:00.000"


def empty() -> etree._Element:
    return etree.Element(f"{_LIST}categories", {"default": "", "lastSavedSession": "0"}, nsmap={None: "CategoryList.xsd"})


def read(document: bytes) -> etree._Element:
    """Return the list's root. Raises: Rejected if it is none."""
    try:
        return etree.fromstring(document, etree.XMLParser(resolve_entities=False, no_network=True))
    except etree.XMLSyntaxError as error:
        raise Rejected("The list of categories in Exchange cannot be read.") from error


def rows(listing: etree._Element) -> list[etree._Element]:
    return list(listing.iterfind(f"{_LIST}category"))


def category(row: etree._Element) -> Category:
    return Category(row.get("guid") or "", row.get("name") or "")


def with_marks(
    listing: etree._Element, names: Mapping[MarkId, str], known: Mapping[MarkId, str]
) -> tuple[dict[MarkId, Category], bool]:
    """Add to the list what is missing, and give ours their colours and names back; all else in it stays as it is.

    Returns ours as the list has them, and whether nothing had to be changed.
    """
    by_name = {(row.get("name") or "").casefold(): row for row in rows(listing)}
    by_guid = {(row.get("guid") or "").casefold(): row for row in rows(listing)}
    spelled: dict[MarkId, Category] = {}
    is_complete = True
    for mark, name in names.items():
        color = MARKS[mark].color.removeprefix("preset")  # outlook.md section 4: the number of the preset, -1 for none
        row = _first(by_name, (name, MARKS[mark].name, *MARKS[mark].aliases))
        if row is None and (row := _first(by_guid, [ref for ref in (known.get(mark),) if ref])) is not None:
            row.set("name", name)
            is_complete = False
        if row is None:
            row = etree.SubElement(listing, f"{_LIST}category", _new_row(name, color))
            is_complete = False
        elif row.get("color") != color:
            row.set("color", color)
            is_complete = False
        by_name[name.casefold()] = row
        spelled[mark] = category(row)
    return spelled, is_complete


def _first(known: Mapping[str, etree._Element], keys: Iterable[str]) -> etree._Element | None:
    return next((known[key.casefold()] for key in keys if key.casefold() in known), None)


def _new_row(name: str, color: str) -> dict[str, str]:
    """The attributes of a category that nobody used yet."""
    row = {"name": name, "color": color, "keyboardShortcut": "0", "usageCount": "0"}
    row |= {"lastTimeUsed": _NEVER_USED, "lastSessionUsed": "0"}
    return row | {"guid": f"{{{str(uuid.uuid4()).upper()}}}", "renameOnFirstUse": "0"}
