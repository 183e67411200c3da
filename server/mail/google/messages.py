"""A message of the Gmail API in our terms. Pure.

All that can change of a message in Gmail is its labels; the etag is their digest.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypedDict

from server.domain.mime import decode_words
from server.errors import InvalidInput, NotFound, Transient
from server.mail import IdForm, MessageHead, Place
from server.mail.google.calls import PEERS
from server.mail.google.labels import names_of

PEER = PEERS["gmail"]

_ID = re.compile(r"[0-9a-f]{1,16}\Z")
_DECIMAL_ID = re.compile(r"msg-f:([0-9]{1,20})\Z")  # how the add-on may name a message (gmail.md 1.2, not confirmed)
_PART = "filename,mimeType,headers"
HEAD_FIELDS = f"id,threadId,labelIds,internalDate,sizeEstimate,payload({_PART},parts({_PART},parts({_PART},parts({_PART}))))"
_LINE_END = re.compile(r"[\r\n]+")
_ELSEWHERE = frozenset({"TRASH", "SPAM", "DRAFT"})


class _Header(TypedDict):
    name: str
    value: str


class Part(TypedDict, total=False):
    filename: str
    mimeType: str
    headers: list[_Header]
    parts: list[Part]


class Message(TypedDict, total=False):
    id: str
    threadId: str
    labelIds: list[str]  # absent when there are none
    internalDate: str  # milliseconds since the epoch
    sizeEstimate: int  # bytes
    payload: Part
    raw: str


def api_id(item_id: str, id_form: IdForm = "gmail") -> str:
    """Return the id as the API takes it; "rest" is the API's own, as "gmail" is.

    Raises: NotFound for what cannot be an id, so that it never becomes another path; InvalidInput for an EWS id.
    """
    if id_form == "ews":
        raise InvalidInput("id_form", "This mailbox is at Google.")
    decimal = _DECIMAL_ID.match(item_id)
    identifier = f"{int(decimal[1]):x}" if decimal else item_id
    if not _ID.match(identifier):
        raise NotFound("The mailbox holds no such message.")
    return identifier


def decoded(raw: object) -> bytes:
    """Decode base64url, padded or not. Raises: Transient for anything else."""
    try:
        text = str(raw).rstrip("=") if isinstance(raw, str) and raw else "?"
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise Transient(f"{PEER} did not answer in its own language.") from error


def head_of(message: Message, labels: Mapping[str, str]) -> MessageHead:
    """`labels` are the owner's, id -> name."""
    payload = message.get("payload", {})
    return MessageHead(
        ref=message["id"],
        etag=etag_of(message),
        message_id=_header(payload, "message-id") or None,
        subject=decode_words(_header(payload, "subject")),
        item_class="",
        size_bytes=message.get("sizeEstimate"),
        received_at=received_at(message),
        categories=names_of(message, labels),
        has_attachments=_holds_file(payload),
        conversation=message.get("threadId", ""),
        header=_header_text(payload),
    )


def received_at(message: Mapping[str, Any]) -> datetime | None:
    sent = message.get("internalDate")
    return datetime.fromtimestamp(int(sent) // 1000, UTC) if sent else None


def etag_of(message: Mapping[str, Any]) -> str:
    return hashlib.sha256(" ".join(sorted(map(str, message.get("labelIds", [])))).encode()).hexdigest()[:16]


def place_of(message: Mapping[str, Any], emails: str | None) -> Place | None:
    """Return where a message lies; in several places, in *SAP E-Mails*, the label `emails`, before Inbox before Sent."""
    labels = set(message.get("labelIds", []))
    if labels & _ELSEWHERE:
        return None
    places: tuple[tuple[str | None, Place], ...] = ((emails, "emails"), ("INBOX", "inbox"), ("SENT", "sent"))
    return next((place for label, place in places if label in labels), None)


def _header(part: Part, name: str) -> str:
    return next((h["value"].strip() for h in part.get("headers", []) if h["name"].lower() == name), "")


def _header_text(part: Part) -> str:
    return "".join(f"{h['name']}: {_LINE_END.sub(' ', h['value'])}\r\n" for h in part.get("headers", []))


def _holds_file(part: Part) -> bool:
    """Say whether there is a part with a name, or a message, that is not shown within the text."""
    is_inline = _header(part, "content-disposition").lower().startswith("inline") and bool(_header(part, "content-id"))
    is_file = bool(part.get("filename")) or part.get("mimeType") == "message/rfc822"
    return (is_file and not is_inline) or any(map(_holds_file, part.get("parts", [])))
