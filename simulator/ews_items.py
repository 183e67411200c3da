"""How messages, folders and attachments of the World look in Exchange Web Services, and which of them a restriction finds.

`PROPERTIES` lists what a message can tell, in the order of the schema, which is the order of every answer. Ids are those of a
mailbox on-premises: the item id changes when a message moves; what survives is the search key (MS-OXCPRPT 2.2.1.9), here made
of the World's immutable id.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from simulator.ews_soap import NAMESPACES, Element, local, t
from simulator.graph_resources import Library
from simulator.mime import Leaf, Mailto, Parsed
from simulator.world import Folder, MailboxState, StoredMessage, World


class EwsError(Exception):
    """One item or folder of a request is refused; the others are answered."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


def not_found() -> EwsError:
    return EwsError("ErrorItemNotFound", "The specified object was not found in the store.")


def malformed() -> EwsError:
    return EwsError("ErrorInvalidIdMalformed", "Id is malformed.")


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
    def change_key(self) -> str:
        mark = f"{self.stored.immutable_id[-16:]}{self.stored.change:08d}"
        return "CQAAABYA" + base64.b64encode(mark.encode()).decode()

    @property
    def search_key(self) -> bytes:
        """The bytes whose URL-safe base64 is the World's immutable id, as far as that is possible."""
        text = self.stored.immutable_id
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))

    @property
    def id(self) -> Element:
        return t("ItemId", Id=self.stored.ews_id, ChangeKey=self.change_key)

    @property
    def tag(self) -> str:
        return MEETING_TAGS.get(self.stored.item_class, "Message")


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


def _categories(view: ItemView) -> Element | None:
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


PROPERTIES: dict[str, Callable[[ItemView], Element | None]] = {
    "item:MimeContent": _mime,
    "item:ItemId": lambda v: v.id,
    "item:ParentFolderId": lambda v: t("ParentFolderId", Id=v.stored.folder, ChangeKey="AQAAAA=="),
    "item:ItemClass": _text("ItemClass", lambda v: v.stored.item_class),
    "item:Subject": _text("Subject", lambda v: v.parsed.text_of("Subject")),
    "item:Body": _body,
    "item:Attachments": _attachments,
    "item:DateTimeReceived": lambda v: t("DateTimeReceived", text=stamp(v.stored.received_at)),
    "item:Size": lambda v: t("Size", text=str(len(v.stored.mime) + 1024)),  # of the stored item, not of its MIME
    "item:Categories": _categories,
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
)
NOT_IN_LISTS = frozenset(
    {"item:MimeContent", "item:Body", "item:Attachments", "item:InternetMessageHeaders"}
    | {"message:ToRecipients", "message:CcRecipients"}
)
"""What FindItem cannot tell (page "FindItem operation": only GetItem gives those)."""


@dataclass(frozen=True, slots=True)
class Extended:
    """A MAPI property as ExtendedFieldURI names it; here only by its tag."""

    tag: int
    type: str

    @classmethod
    def of(cls, path: Element) -> Extended:
        """Raises: EwsError for a property that is not named by its tag, which is not simulated yet."""
        tag = path.get("PropertyTag")
        if tag is None:
            raise EwsError("ErrorInvalidPropertyRequest", "The simulator knows properties by their tag only.")
        return cls(int(tag, 16 if tag.lower().startswith("0x") else 10), path.get("PropertyType", ""))

    def value(self, view: ItemView) -> str | None:
        """The value as the wire shows it, None if the message has none."""
        match self.tag, self.type:
            case 0x300B, "Binary":
                return base64.b64encode(view.search_key).decode()
            case 0x1035, "String":
                return xml_text(view.parsed.text_of("Message-ID")) or None
            case 0x007D, "String":
                return xml_text(view.parsed.head)
        return None


@dataclass(frozen=True, slots=True)
class Shape:
    """Which properties a request wants of each message."""

    names: frozenset[str]
    extended: tuple[Element, ...]

    @classmethod
    def of(cls, element: Element, *, in_list: bool) -> Shape:
        """Raises: EwsError for a property that does not exist, or not in a list."""
        base = element.findtext("t:BaseShape", namespaces=NAMESPACES)
        names = {"IdOnly": frozenset({"item:ItemId"}), "Default": DEFAULT, "AllProperties": frozenset(PROPERTIES)}[base or ""]
        names = names - NOT_IN_LISTS if in_list else names - {"item:MimeContent"}
        asked = {str(e.get("FieldURI")) for e in element.iterfind("t:AdditionalProperties/t:FieldURI", NAMESPACES)}
        if element.findtext("t:IncludeMimeContent", namespaces=NAMESPACES) in ("true", "1"):
            asked.add("item:MimeContent")
        if unknown := asked - PROPERTIES.keys():
            raise EwsError("ErrorInvalidPropertyRequest", f"Property is not valid for this object type: {sorted(unknown)[0]}.")
        if in_list and asked & NOT_IN_LISTS:
            raise EwsError("ErrorInvalidPropertyRequest", "The property can only be asked for with GetItem.")
        return cls(names | asked, tuple(element.iterfind("t:AdditionalProperties/t:ExtendedFieldURI", NAMESPACES)))

    def element(self, view: ItemView) -> Element:
        children: list[Element] = []
        for name, make in PROPERTIES.items():
            if name == "ExtendedProperty":
                children += self._extended(view)
            elif name in self.names and (made := make(view)) is not None:
                children.append(made)
        return t(view.tag, *children)

    def _extended(self, view: ItemView) -> Iterator[Element]:
        for path in self.extended:
            value = Extended.of(path).value(view)
            if value is not None:
                copy = t("ExtendedFieldURI", **{str(k): str(v) for k, v in path.attrib.items()})
                yield t("ExtendedProperty", copy, t("Value", text=value))


def condition(restriction: Element | None) -> Callable[[ItemView], bool]:
    """Understand And, Or, Not, Exists and IsEqualTo. Raises: EwsError for anything else.

    Text is compared without regard to case: nothing says that Exchange does otherwise, so a client has to compare again.
    """
    if restriction is None:
        return lambda view: True
    return _condition(restriction[0])


def _condition(expression: Element) -> Callable[[ItemView], bool]:
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


def _reader(path: Element) -> Callable[[ItemView], str | None]:
    """Return how to read the property that a restriction names."""
    if local(path) == "ExtendedFieldURI":
        return Extended.of(path).value
    make = PROPERTIES.get(path.get("FieldURI", ""))
    if make is None or path.get("FieldURI") in NOT_IN_LISTS:
        raise EwsError("ErrorUnsupportedPathForQuery", "The property cannot be searched for.")

    def read(view: ItemView) -> str | None:
        made = make(view)
        return None if made is None else made.text

    return read


ROOT, CALENDAR, CONTACTS = "AQMkADroot=", "AQMkADcalendar=", "AQMkADcontacts="


@dataclass(frozen=True, slots=True)
class FolderView:
    """A folder on the wire; those of mail come from the World, the others only exist to be there."""

    id: str
    name: str
    folder_class: str
    distinguished: str | None
    count: int = 0
    children: int = 0

    def element(self) -> Element:
        kind = {"IPF.Appointment": "CalendarFolder", "IPF.Contact": "ContactsFolder"}.get(self.folder_class, "Folder")
        return t(
            kind,
            t("FolderId", Id=self.id, ChangeKey="AQAAAA=="),
            *(() if self.id == ROOT else (t("ParentFolderId", Id=ROOT, ChangeKey="AQAAAA=="),)),
            t("FolderClass", text=self.folder_class),
            t("DisplayName", text=xml_text(self.name)),
            t("TotalCount", text=str(self.count)),
            t("ChildFolderCount", text=str(self.children)),
        )


def folders(mailbox: MailboxState) -> list[FolderView]:
    """Every folder below the root of the mailbox's visible part."""

    def view(folder: Folder) -> FolderView:
        count = sum(1 for message in mailbox.messages.values() if message.folder == folder.id)
        return FolderView(folder.id, folder.name, "IPF.Note", folder.well_known, count)

    own = [view(folder) for folder in mailbox.folders.values()]
    calendar = FolderView(CALENDAR, "Calendar", "IPF.Appointment", "calendar")
    return [*own, calendar, FolderView(CONTACTS, "Contacts", "IPF.Contact", "contacts")]


def root(mailbox: MailboxState) -> FolderView:
    return FolderView(ROOT, "Top of Information Store", "IPF.Note", "msgfolderroot", 0, len(folders(mailbox)))
