"""How a mailbox looks in Microsoft Graph: messages, attachments, folders, categories, and the query options upon them.

`shape()` turns one item into JSON by a table of properties, taking only what `$select` asks for; `Options` reads and checks the
query options. What real Graph would refuse raises `GraphError`. Names are those of the v1.0 metadata.
"""

from __future__ import annotations

import base64
import html
import re
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from functools import partial
from typing import Any

from simulator import mime
from simulator.mime import Leaf, Mailto, Parsed
from simulator.world import Category, Folder, MailboxState, StoredContact, StoredMessage, World

Json = dict[str, Any]


class GraphError(Exception):
    """An error answer; `code` is Graph's word for it."""

    def __init__(self, status: int, code: str, message: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.headers = dict(headers or {})


def not_found() -> GraphError:
    return GraphError(404, "ErrorItemNotFound", "The specified object was not found in the store.")


class Library:
    """Parses each message once per World; a message is parsed again when its bytes were replaced."""

    def __init__(self) -> None:
        self._read: weakref.WeakKeyDictionary[World, dict[str, tuple[bytes, Parsed]]] = weakref.WeakKeyDictionary()

    def parsed(self, world: World, message: StoredMessage) -> Parsed:
        shelf = self._read.setdefault(world, {})
        known = shelf.get(message.immutable_id)
        if known is None or known[0] is not message.mime:
            known = shelf[message.immutable_id] = (message.mime, mime.read(message.mime))
        return known[1]


@dataclass(frozen=True, slots=True)
class MessageView:
    """A stored message as one request sees it: `immutable_ids` and `text_bodies` are what its Prefer headers ask for."""

    stored: StoredMessage
    mailbox: MailboxState
    world: World
    library: Library
    immutable_ids: bool = False
    text_bodies: bool = False

    @property
    def parsed(self) -> Parsed:
        return self.library.parsed(self.world, self.stored)

    @property
    def id(self) -> str:
        return self.stored.immutable_id if self.immutable_ids else self.stored.rest_id

    @property
    def is_own(self) -> bool:
        return self.mailbox.folders[self.stored.folder].well_known in ("sentitems", "drafts")


def change_key(item: StoredMessage | StoredContact) -> str:
    mark = f"{item.immutable_id[-16:]}{item.change:012d}"
    return "CQAAABYAAAC" + base64.urlsafe_b64encode(mark.encode()).decode().rstrip("=")


def etag(item: StoredMessage | StoredContact) -> str:
    return f'W/"{change_key(item)}"'


def rest_form(ews_id: str) -> str:
    """The id as Graph gives it without immutable ids: `/` -> `-` and `+` -> `_`."""
    return ews_id.replace("/", "-").replace("+", "_")


def stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _recipients(pairs: list[Mailto]) -> list[Json]:
    return [{"emailAddress": {"name": name, "address": address}} for name, address in pairs]


def _from(view: MessageView) -> Json | None:
    return next(iter(_recipients(view.parsed.addresses("From"))), None)


def _sent(view: MessageView) -> str:
    date = view.parsed.text_of("Date")
    return stamp(parsedate_to_datetime(date)) if date else stamp(view.stored.received_at)


def _text(view: MessageView) -> str:
    parsed = view.parsed
    plain = parsed.body("text/plain")
    if plain is None:
        plain = html.unescape(re.sub(r"<[^>]*>", " ", parsed.body("text/html") or ""))
    return plain


def _body(view: MessageView) -> Json:
    """HTML unless the request prefers text: Outlook turns a plain message into a page of its own."""
    if view.text_bodies:
        return {"contentType": "text", "content": _text(view)}
    page = view.parsed.body("text/html")
    if page is None:
        lines = html.escape(_text(view)).replace("\n", "<br>\n")
        page = f'<html><body><div class="PlainText">{lines}</div></body></html>'
    return {"contentType": "html", "content": page}


def _headers(view: MessageView) -> list[Json]:
    """Header fields as they were sent, encoded words and all, on one line each (no source says that Graph decodes them)."""
    return [{"name": name, "value": re.sub(r"\r?\n\s*", " ", str(value))} for name, value in view.parsed.fields.raw_items()]


MESSAGE: dict[str, Callable[[MessageView], Any]] = {
    "id": lambda v: v.id,
    "createdDateTime": lambda v: stamp(v.stored.received_at),
    "lastModifiedDateTime": lambda v: stamp(v.stored.changed_at),
    "changeKey": lambda v: change_key(v.stored),
    "categories": lambda v: list(v.stored.categories),
    "receivedDateTime": lambda v: stamp(v.stored.received_at),
    "sentDateTime": _sent,
    "hasAttachments": lambda v: any(not leaf.inline for leaf in v.parsed.attachments),
    "internetMessageId": lambda v: v.parsed.text_of("Message-ID") or None,
    "subject": lambda v: v.parsed.text_of("Subject"),
    "bodyPreview": lambda v: " ".join(_text(v).split())[:255],
    "importance": lambda v: "normal",
    "parentFolderId": lambda v: v.stored.folder,
    "conversationId": lambda v: v.stored.conversation_id,
    "conversationIndex": lambda v: base64.b64encode(v.stored.conversation_id.encode()[:22]).decode(),
    "isDeliveryReceiptRequested": lambda v: False,
    "isReadReceiptRequested": lambda v: False,
    "isRead": lambda v: v.stored.is_read,
    "isDraft": lambda v: v.stored.is_draft,
    "webLink": lambda v: f"https://outlook.office365.com/owa/?ItemID={v.stored.rest_id}&exvsurl=1&viewmodel=ReadMessageItem",
    "inferenceClassification": lambda v: "focused",
    "body": _body,
    "sender": _from,
    "from": _from,
    "toRecipients": lambda v: _recipients(v.parsed.addresses("To")),
    "ccRecipients": lambda v: _recipients(v.parsed.addresses("Cc")),
    "bccRecipients": lambda v: _recipients(v.parsed.addresses("Bcc")),
    "replyTo": lambda v: _recipients(v.parsed.addresses("Reply-To")),
    "flag": lambda v: {"flagStatus": "notFlagged"},
}
"""What a message answers without $select."""

ON_REQUEST: dict[str, Callable[[MessageView], Any]] = {"internetMessageHeaders": _headers, "uniqueBody": _body}
"""Properties that only $select brings (page user-list-messages; message-get)."""

MEETING_KIND = "microsoft.graph.eventMessage/meetingMessageType"
"""How $select names the property of the derived type."""

MEETING_TYPES = {
    "IPM.Schedule.Meeting.Request": ("eventMessageRequest", "meetingRequest"),
    "IPM.Schedule.Meeting.Canceled": ("eventMessage", "meetingCancelled"),
    "IPM.Schedule.Meeting.Resp.Pos": ("eventMessageResponse", "meetingAccepted"),
    "IPM.Schedule.Meeting.Resp.Tent": ("eventMessageResponse", "meetingTenativelyAccepted"),
    "IPM.Schedule.Meeting.Resp.Neg": ("eventMessageResponse", "meetingDeclined"),
}
"""Item class -> derived type and meetingMessageType (Microsoft's spelling of "tentatively")."""

EXTENDED: dict[str, Callable[[MessageView], str]] = {
    "string 0x1a": lambda v: v.stored.item_class,
    "string 0x7d": lambda v: v.parsed.head,
    "string 0x1035": lambda v: v.parsed.text_of("Message-ID"),
    "integer 0xe08": lambda v: str(len(v.stored.mime)),
}
"""MAPI properties by normalised id: message class, transport headers, Internet message id, size."""


@dataclass(frozen=True, slots=True)
class AttachmentView:
    message: MessageView
    leaf: Leaf

    @property
    def id(self) -> str:
        return self.message.id + "BEgAQ" + base64.urlsafe_b64encode((self.leaf.path or "0").encode()).decode().rstrip("=")


ATTACHMENT: dict[str, Callable[[AttachmentView], Any]] = {
    "id": lambda v: v.id,
    "lastModifiedDateTime": lambda v: stamp(v.message.stored.received_at),
    "name": lambda v: v.leaf.name or v.leaf.content_id or "ATT00001",
    "contentType": lambda v: v.leaf.content_type,
    "size": lambda v: v.leaf.size_bytes,
    "isInline": lambda v: v.leaf.inline,
    "contentId": lambda v: v.leaf.content_id,
    "contentLocation": lambda v: None,
    "contentBytes": lambda v: base64.b64encode(v.leaf.content()).decode(),
}

FOLDER: dict[str, Callable[[tuple[MailboxState, Folder]], Any]] = {
    "id": lambda v: v[1].id,
    "displayName": lambda v: v[1].name,
    "parentFolderId": lambda v: v[1].parent or "AQMkADroot=",
    "childFolderCount": lambda v: 0,
    "unreadItemCount": lambda v: sum(1 for m in v[0].messages.values() if m.folder == v[1].id and not m.is_read),
    "totalItemCount": lambda v: sum(1 for m in v[0].messages.values() if m.folder == v[1].id),
    "isHidden": lambda v: False,
}

CATEGORY: dict[str, Callable[[Category], Any]] = {
    "id": lambda c: c.id,
    "displayName": lambda c: c.name,
    "color": lambda c: c.color,
}

COLORS = frozenset({"none", *(f"preset{n}" for n in range(25))})


@dataclass(frozen=True, slots=True)
class Options:
    """The query options of one request, checked for form."""

    select: tuple[str, ...]
    expand: str
    filter: str
    orderby: str
    top: int | None
    skip: int
    count: bool

    @classmethod
    def of(cls, query: Mapping[str, str]) -> Options:
        """Raises: GraphError for an unknown option or a value of the wrong form."""
        known = {"$select", "$expand", "$filter", "$orderby", "$top", "$skip", "$count", "$deltatoken", "$skiptoken"}
        for name in query:
            if name.startswith("$") and name not in known:
                raise GraphError(400, "BadRequest", f"The query parameter '{name}' is not supported.")
        return cls(
            select=tuple(filter(None, query.get("$select", "").split(","))),
            expand=query.get("$expand", ""),
            filter=query.get("$filter", ""),
            orderby=query.get("$orderby", ""),
            top=_number(query, "$top", 1, 1000),
            skip=_number(query, "$skip", 0, 10**6) or 0,
            count=query.get("$count") == "true",
        )


def _number(query: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    if name not in query:
        return None
    if not query[name].isdigit() or not low <= int(query[name]) <= high:
        raise GraphError(400, "ErrorInvalidUrlQuery", f"The value of {name} must be between {low} and {high}.")
    return int(query[name])


def shape(item: Any, properties: Mapping[str, Callable[[Any], Any]], select: tuple[str, ...], *, type_name: str) -> Json:
    """Return the selected properties, or all; the id is always there.

    Raises: GraphError when $select names what the type does not have.
    """
    for name in select:
        if name not in properties and name != "*":
            text = f"Parsing OData Select and Expand failed: Could not find a property named '{name}' on type '{type_name}'."
            raise GraphError(400, "RequestBroker--ParseUri", text)
    wanted = properties if not select or "*" in select else dict.fromkeys(("id", *select))
    return {name: properties[name](item) for name in wanted}


def message_json(view: MessageView, options: Options) -> Json:
    plain = tuple(name for name in options.select if name != MEETING_KIND)
    found = shape(view, {**MESSAGE, **ON_REQUEST}, plain or tuple(MESSAGE), type_name="microsoft.graph.message")
    if view.is_own:
        found.pop("internetMessageHeaders", None)  # absent on what the user sent (office-js-docs-pr issue 5057)
    derived, kind = MEETING_TYPES.get(view.stored.item_class, ("", ""))
    head: Json = {"@odata.etag": etag(view.stored)}
    if derived:
        head["@odata.type"] = f"#microsoft.graph.{derived}"
        if not options.select or MEETING_KIND in options.select:
            found["meetingMessageType"] = kind
    return {**head, **found, **_expanded(view, options.expand)}


def _expanded(view: MessageView, expand: str) -> Json:
    if expand == "attachments":
        return {"attachments": [attachment_json(AttachmentView(view, leaf), ()) for leaf in view.parsed.attachments]}
    return expanded(expand, partial(extended, view))


def expanded(expand: str, read: Callable[[str], tuple[str, str | None]]) -> Json:
    """Return the extended properties that $expand names; `read` gives the id as Graph spells it and the value, None if absent."""
    if not expand:
        return {}
    wanted = re.fullmatch(r"singleValueExtendedProperties\(\$filter=(.+)\)", expand)
    if not wanted:
        raise GraphError(400, "RequestBroker--ParseUri", f"Parsing OData Select and Expand failed: '{expand}'.")
    found = []
    for clause in re.split(r"\s+or\s+", wanted[1]):
        named = re.fullmatch(r"\s*id eq '([^']+)'\s*", clause)
        if named is None:
            raise GraphError(400, "BadRequest", "Invalid filter clause in $expand.")
        found.append(read(named[1]))
    values = [{"id": identifier, "value": value} for identifier, value in found if value is not None]
    return {"singleValueExtendedProperties": values} if values else {}


def extended(view: MessageView, identifier: str) -> tuple[str, str | None]:
    """Return the id in Graph's own spelling ("String 0x001A" comes back as "String 0x1a") and the value, None if absent."""
    form = re.fullmatch(r"(?i)(string|integer) 0x0*([0-9a-f]+)", identifier)
    if form is None:
        return identifier, None
    reader = EXTENDED.get(f"{form[1].lower()} 0x{form[2].lower()}")
    return f"{form[1].title()} 0x{form[2].lower()}", (reader(view) or None) if reader else None


def attachment_json(view: AttachmentView, select: tuple[str, ...]) -> Json:
    kind = "itemAttachment" if view.leaf.content_type == "message/rfc822" else "fileAttachment"
    properties = {
        k: v for k, v in ATTACHMENT.items() if kind == "fileAttachment" or not k.startswith("content") or k == "contentType"
    }
    found = shape(view, properties, select, type_name=f"microsoft.graph.{kind}")
    return {"@odata.type": f"#microsoft.graph.{kind}", "@odata.mediaContentType": view.leaf.content_type, **found}
