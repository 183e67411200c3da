"""How messages look in Exchange Web Services, what a request may ask of any item, and which items a restriction finds.

`PROPERTIES` lists what a message can tell, in the order of the schema, which is the order of every answer; a contact's are in
`ews.contacts`. Ids are those of a mailbox on-premises: the item id changes when an item moves; what survives is the search key
(MS-OXCPRPT 2.2.1.9), here made of the World's immutable id.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Protocol

from simulator.ews.soap import NAMESPACES, Element, local, t
from simulator.graph.resources import Library
from simulator.mime import Leaf, Mailto, Parsed
from simulator.world import MailboxState, StoredContact, StoredMessage, World

Stored = StoredMessage | StoredContact
Table = Mapping[str, Callable[[Any], Element | None]]
"""What an item can tell, in the schema's order: property -> its element, None if the item has none."""

SEARCH_KEY = "Binary 0x300B"


class EwsError(Exception):
    """One item or folder of a request is refused; the others are answered."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def not_found() -> EwsError:
    return EwsError("ErrorItemNotFound", "The specified object was not found in the store.")


def malformed() -> EwsError:
    return EwsError("ErrorInvalidIdMalformed", "Id is malformed.")


class View(Protocol):
    """An item as one request sees it."""

    @property
    def stored(self) -> Stored: ...

    @property
    def tag(self) -> str:
        """Its element in the schema."""

    @property
    def table(self) -> Table: ...

    def extended(self, key: str) -> str | None:
        """The value of a property that the schema has no name for, by the World's id of it; None if the item has none."""


def change_key(stored: Stored) -> str:
    mark = f"{stored.immutable_id[-16:]}{stored.change:08d}"
    return "CQAAABYA" + base64.b64encode(mark.encode()).decode()


def search_key(stored: Stored) -> str:
    """The bytes whose URL-safe base64 is the World's immutable id, as far as that is possible; in base64."""
    text = stored.immutable_id
    return base64.b64encode(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))).decode()


def item_id(stored: Stored) -> Element:
    return t("ItemId", Id=stored.ews_id, ChangeKey=change_key(stored))


@dataclass(frozen=True, slots=True)
class ItemView:
    """A stored message as one request sees it."""

    stored: StoredMessage
    mailbox: MailboxState
    world: World
    library: Library

    @property
    def parsed(self) -> Parsed:
        return self.library.parsed(self.world, self.stored)

    @property
    def tag(self) -> str:
        return MEETING_TAGS.get(self.stored.item_class, "Message")

    @property
    def table(self) -> Table:
        return PROPERTIES

    def extended(self, key: str) -> str | None:
        match key:
            case "Binary 0x300B":
                return search_key(self.stored)
            case "String 0x1035":
                return xml_text(self.parsed.text_of("Message-ID")) or None
            case "String 0x007D":
                return xml_text(self.parsed.head)
        return None


MEETING_TAGS = {
    "IPM.Schedule.Meeting.Request": "MeetingRequest",
    "IPM.Schedule.Meeting.Canceled": "MeetingCancellation",
    "IPM.Schedule.Meeting.Resp.Pos": "MeetingResponse",
    "IPM.Schedule.Meeting.Resp.Tent": "MeetingResponse",
    "IPM.Schedule.Meeting.Resp.Neg": "MeetingResponse",
}


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def xml_text(text: str) -> str:
    """Leave out what XML 1.0 cannot hold."""
    return re.sub(r"[^\t\n\r\x20-\uD7FF\uE000-\uFFFD\U00010000-\U0010FFFF]", "", text)


def _flag(value: bool) -> str:
    return "true" if value else "false"


def _mime(view: ItemView) -> Element:
    return t("MimeContent", text=base64.b64encode(view.stored.mime).decode(), CharacterSet="UTF-8")


def _body(view: ItemView) -> Element:
    page = view.parsed.body("text/html")
    if page is not None:
        return t("Body", text=xml_text(page), BodyType="HTML")
    return t("Body", text=xml_text(view.parsed.body("text/plain") or ""), BodyType="Text")


def attachment(view: ItemView, leaf: Leaf, *, content: bool = False) -> Element:
    kind = "ItemAttachment" if leaf.content_type == "message/rfc822" else "FileAttachment"
    children = [
        t("AttachmentId", Id=attachment_id(view, leaf)),
        t("Name", text=xml_text(leaf.name or leaf.content_id or "ATT00001")),
        t("ContentType", text=leaf.content_type),
    ]
    if leaf.content_id:
        children.append(t("ContentId", text=xml_text(leaf.content_id)))
    children += [
        t("Size", text=str(leaf.size_bytes)),
        t("LastModifiedTime", text=stamp(view.stored.received_at)),
        t("IsInline", text=_flag(leaf.inline)),
    ]
    if content and kind == "FileAttachment":
        children.append(t("Content", text=base64.b64encode(leaf.content()).decode()))
    return t(kind, *children)


def attachment_id(view: ItemView, leaf: Leaf) -> str:
    return f"{view.stored.ews_id.rstrip('=')}BEgAQ{base64.b64encode((leaf.path or '0').encode()).decode()}"


def _attachments(view: ItemView) -> Element | None:
    leaves = view.parsed.attachments
    return t("Attachments", *(attachment(view, leaf) for leaf in leaves)) if leaves else None


def categories(view: View) -> Element | None:
    names = view.stored.categories
    return t("Categories", *(t("String", text=xml_text(name)) for name in names)) if names else None


def _headers(view: ItemView) -> Element | None:
    """The transport headers; what its owner sent has none, as it was never transported to this mailbox."""
    if view.mailbox.folders[view.stored.folder].well_known in ("sentitems", "drafts"):
        return None
    fields = [
        t("InternetMessageHeader", text=xml_text(re.sub(r"\r?\n\s*", " ", str(value))), HeaderName=name)
        for name, value in view.parsed.fields.raw_items()
    ]
    return t("InternetMessageHeaders", *fields) if fields else None


def _sent(view: ItemView) -> Element:
    date = view.parsed.text_of("Date")
    return t("DateTimeSent", text=stamp(parsedate_to_datetime(date) if date else view.stored.received_at))


def _person(pair: Mailto) -> Element:
    return t(
        "Mailbox", t("Name", text=xml_text(pair[0])), t("EmailAddress", text=xml_text(pair[1])), t("RoutingType", text="SMTP")
    )


def _people(name: str, field: str) -> Callable[[ItemView], Element | None]:
    def people(view: ItemView) -> Element | None:
        pairs = view.parsed.addresses(field)
        return t(name, *map(_person, pairs)) if pairs else None

    return people


def _from(view: ItemView) -> Element | None:
    pairs = view.parsed.addresses("From")
    return t("From", _person(pairs[0])) if pairs else None


def _text(name: str, value: Callable[[ItemView], str]) -> Callable[[ItemView], Element | None]:
    def element(view: ItemView) -> Element | None:
        text = value(view)
        return t(name, text=xml_text(text)) if text else None

    return element


PROPERTIES: Table = {
    "item:MimeContent": _mime,
    "item:ItemId": lambda v: item_id(v.stored),
    "item:ParentFolderId": lambda v: t("ParentFolderId", Id=v.stored.folder, ChangeKey="AQAAAA=="),
    "item:ItemClass": _text("ItemClass", lambda v: v.stored.item_class),
    "item:Subject": _text("Subject", lambda v: v.parsed.text_of("Subject")),
    "item:Body": _body,
    "item:Attachments": _attachments,
    "item:DateTimeReceived": lambda v: t("DateTimeReceived", text=stamp(v.stored.received_at)),
    "item:Size": lambda v: t("Size", text=str(len(v.stored.mime) + 1024)),  # of the stored item, not of its MIME
    "item:Categories": categories,
    "item:IsDraft": lambda v: t("IsDraft", text=_flag(v.stored.is_draft)),
    "item:InternetMessageHeaders": _headers,
    "item:DateTimeSent": _sent,
    "item:HasAttachments": lambda v: t("HasAttachments", text=_flag(any(not leaf.inline for leaf in v.parsed.attachments))),
    "ExtendedProperty": lambda v: None,  # holds the place of those that are asked for
    "item:LastModifiedTime": lambda v: t("LastModifiedTime", text=stamp(v.stored.changed_at)),
    "item:ConversationId": lambda v: t("ConversationId", Id=v.stored.conversation_id) if v.stored.conversation_id else None,
    "message:ToRecipients": _people("ToRecipients", "To"),
    "message:CcRecipients": _people("CcRecipients", "Cc"),
    "message:From": _from,
    "message:InternetMessageId": _text("InternetMessageId", lambda v: v.parsed.text_of("Message-ID")),
    "message:IsRead": lambda v: t("IsRead", text=_flag(v.stored.is_read)),
    "message:References": _text("References", lambda v: v.parsed.text_of("References")),
}

DEFAULT = frozenset(
    {"item:ItemId", "item:ItemClass", "item:Subject", "item:Attachments", "item:DateTimeReceived", "item:Size"}
    | {"item:HasAttachments", "message:From", "message:IsRead", "message:ToRecipients", "message:CcRecipients"}
    | {"item:Categories", "contacts:FileAs", "contacts:DisplayName", "contacts:CompanyName", "contacts:EmailAddresses"}
    | {"contacts:PhoneNumbers", "contacts:JobTitle"}
)
NOT_IN_LISTS = frozenset(
    {"item:MimeContent", "item:Body", "item:Attachments", "item:InternetMessageHeaders"}
    | {"message:ToRecipients", "message:CcRecipients"}
)
"""What FindItem and SyncFolderItems cannot tell (their pages: only GetItem gives those)."""


def extended_key(path: Element) -> str:
    """Return the World's id of the property that an ExtendedFieldURI names. Raises: EwsError."""
    kind, tag, guid = path.get("PropertyType", ""), path.get("PropertyTag"), path.get("PropertySetId")
    if tag is not None:
        return f"{kind} 0x{int(tag, 16 if tag.lower().startswith('0x') else 10):04X}"
    name, number = path.get("PropertyName"), path.get("PropertyId")
    if guid is None or (name is None) == (number is None):
        text = "An extended property is named by its tag, or by its set and either a name or an id."
        raise EwsError("ErrorInvalidExtendedProperty", text)
    return f"{kind} {{{guid.lower()}}} " + (f"Name {name}" if name is not None else f"Id 0x{int(number or 0):X}")


def _asked_too_much(name: str) -> EwsError:
    return EwsError("ErrorInvalidPropertyRequest", f"Property is not valid for this object type: {name}.")


@dataclass(frozen=True, slots=True)
class Shape:
    """Which properties a request wants of each item."""

    base: str
    asked: frozenset[str]
    extended: tuple[tuple[Element, str], ...]  # path and key
    in_list: bool

    @classmethod
    def of(cls, element: Element, *, in_list: bool) -> Shape:
        """Raises: EwsError for a property that a list does not tell."""
        asked = {str(e.get("FieldURI")) for e in element.iterfind("t:AdditionalProperties/t:FieldURI", NAMESPACES)}
        if element.findtext("t:IncludeMimeContent", namespaces=NAMESPACES) in ("true", "1"):
            asked.add("item:MimeContent")
        if in_list and asked & NOT_IN_LISTS:
            raise EwsError("ErrorInvalidPropertyRequest", "The property can only be asked for with GetItem.")
        paths = element.iterfind("t:AdditionalProperties/t:ExtendedFieldURI", NAMESPACES)
        base = element.findtext("t:BaseShape", namespaces=NAMESPACES) or ""
        return cls(base, frozenset(asked), tuple((path, extended_key(path)) for path in paths), in_list)

    def element(self, view: View) -> Element:
        """Raises: EwsError for a property that such an item does not have."""
        names = {"IdOnly": {"item:ItemId"}, "Default": DEFAULT, "AllProperties": view.table.keys()}[self.base]
        wanted = (names - NOT_IN_LISTS if self.in_list else names - {"item:MimeContent"}) | self.asked
        foreign = sorted(name for name in self.asked - view.table.keys() if not name.startswith("item:"))
        if foreign and not self.in_list:
            raise _asked_too_much(foreign[0])
        children: list[Element] = []
        for name, make in view.table.items():
            if name == "ExtendedProperty":
                children += self._extended(view)
            elif name in wanted and (made := make(view)) is not None:
                children.append(made)
        return t(view.tag, *children)

    def _extended(self, view: View) -> Iterator[Element]:
        for path, key in self.extended:
            value = view.extended(key)
            if value is not None:
                copy = t("ExtendedFieldURI", **{str(k): str(v) for k, v in path.attrib.items()})
                yield t("ExtendedProperty", copy, t("Value", text=xml_text(value)))


def condition(restriction: Element | None) -> Callable[[View], bool]:
    """Understand And, Or, Not, Exists and IsEqualTo. Raises: EwsError for anything else.

    Text is compared without regard to case: nothing says that Exchange does otherwise, so a client has to compare again.
    """
    if restriction is None:
        return lambda view: True
    return _condition(restriction[0])


def _condition(expression: Element) -> Callable[[View], bool]:
    match local(expression):
        case "And":
            parts = [_condition(part) for part in expression]
            return lambda view: all(part(view) for part in parts)
        case "Or":
            parts = [_condition(part) for part in expression]
            return lambda view: any(part(view) for part in parts)
        case "Not":
            inner = _condition(expression[0])
            return lambda view: not inner(view)
        case "Exists":
            read = _reader(expression[0])
            return lambda view: read(view) is not None
        case "IsEqualTo":
            read, constant = _reader(expression[0]), expression[1].find("t:Constant", NAMESPACES)
            wanted = "" if constant is None else constant.get("Value", "")
            return lambda view: (read(view) or "").casefold() == wanted.casefold()
    raise EwsError("ErrorUnsupportedPathForQuery", f"The simulator has no {local(expression)}.")


def _reader(path: Element) -> Callable[[View], str | None]:
    """Return how to read the property that a restriction names."""
    if local(path) == "ExtendedFieldURI":
        key = extended_key(path)
        return lambda view: view.extended(key)
    name = path.get("FieldURI", "")
    if local(path) != "FieldURI" or name in NOT_IN_LISTS:
        raise EwsError("ErrorUnsupportedPathForQuery", "The property cannot be searched for.")

    def read(view: View) -> str | None:
        make = view.table.get(name)
        made = None if make is None else make(view)
        return None if made is None else made.text or "".join(child.text or "" for child in made)

    return read
