"""Messages as the product sees them: addresses, attachments, text, who sent it (a person or a program), and its key.

`parse` reads a message as it travelled (`mime` does the syntax); `classify` also works from the header string alone that
Outlook hands to the pane. Everything is a pure value; nothing here knows a mailbox, C4C or the user's settings.

Whatever a message holds, nothing raises out of here but InvalidInput. Choices where mail itself leaves room:
- From with several addresses: the one that Sender names, else the first; From without an address: Sender.
- An attachment's `ref` is its MIME part path in IMAP numbering; what lies inside an attached message is part of that file.
- A calendar part is the machine's form of an invitation and no attachment, unless it has a file name. One that is attached
  is a file and makes no invitation of the message. An unnamed text part beside the chosen body (the HTML of an alternative)
  is no attachment either. Signatures, winmail.dat, S/MIME, machine-readable reports and attached messages are files.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

from server.domain.addresses import Address, addresses_of, normalised, same_address, spellings, without_plus_tag
from server.domain.mime import SHORTENED, Headers, HeaderSource, Part, clean, parameters, read_parts, text_of_html
from server.errors import InvalidInput

__all__ = [
    "Address",
    "Attachment",
    "Automatic",
    "AutomaticKind",
    "Message",
    "Parsed",
    "addresses_of",
    "classify",
    "fingerprint",
    "is_outgoing",
    "key_beside",
    "message_file_name",
    "message_key",
    "normalised",
    "parse",
    "safe_name",
    "same_address",
    "spellings",
    "text_for_activity",
    "unique_name",
    "without_plus_tag",
]

AutomaticKind = Literal["bounce", "receipt", "auto_reply", "bulk", "meeting"]

MAX_KEY_LENGTH = 765  # characters of C4C's GroupwareItemID
MAX_NAME_LENGTH = 200  # characters of a file name, extension included


@dataclass(frozen=True, slots=True)
class Attachment:
    """A file on a message; `Parsed.content` has what is in it."""

    ref: str  # MIME part path as "2" or "1.2", the same on every platform
    name: str  # decoded, never a path, unique within the message in any case
    size_bytes: int  # of the decoded content
    content_type: str  # lower case, without parameters
    inline: bool  # meant to be seen inside the text, e.g. a logo


@dataclass(frozen=True, slots=True)
class Automatic:
    """Why a message counts as sent by a program. `reason` is one sentence for the user."""

    kind: AutomaticKind
    reason: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it travelled."""

    message_id: str | None  # as written, the first that is not empty; two copies are the same message if `message_key` is equal
    subject: str = field(repr=False)
    sender: Address | None
    to: tuple[Address, ...]
    cc: tuple[Address, ...]
    bcc: tuple[Address, ...]  # only in the sender's own copy
    reply_to: tuple[Address, ...]
    date: datetime | None  # aware UTC; what the sender's clock said
    text: str = field(repr=False)  # text/plain, else the HTML stripped; LF lines
    attachments: tuple[Attachment, ...]
    automatic: Automatic | None
    references: tuple[str, ...]  # Message-IDs without brackets that this one follows, the one it answers last

    @property
    def participants(self) -> tuple[Address, ...]:
        """Sender and recipients in the order of the fields, nobody twice."""
        seen: dict[str, Address] = {}
        for person in (*((self.sender,) if self.sender else ()), *self.to, *self.cc, *self.bcc):
            seen.setdefault(normalised(person.address), person)
        return tuple(seen.values())


class Parsed:
    """A message and, on demand, what is in its attachments. Keeps the bytes it was read from."""

    __slots__ = ("_files", "message")

    def __init__(self, message: Message, files: dict[str, Part]) -> None:
        self.message = message
        self._files = files

    def content(self, ref: str) -> bytes:
        """Decode an attachment; an attached message gives its own bytes, fit for an .eml file. Not kept: ask once.

        Raises: InvalidInput if the message has no such attachment.
        """
        part = self._files.get(ref)
        if part is None:
            raise InvalidInput("ref", "The message has no such attachment.")
        return part.content()


def parse(mime: bytes, *, item_class: str = "") -> Parsed:
    """Read a message. `item_class` is its MAPI class where the mailbox tells one.

    Raises: InvalidInput if this cannot be read as a message at all.
    """
    root = read_parts(mime)
    headers = root.headers
    body = [root] if not root.parts and _is_readable(root) else _body_parts(root)
    files = list(_file_parts(root, {part.path for part in body}))
    message = Message(
        message_id=next((clean(value) for value in headers.all("Message-ID") if _bare_id(value)), None),
        subject=headers.text("Subject"),
        sender=_sender(headers),
        to=addresses_of(headers, "To"),
        cc=addresses_of(headers, "Cc"),
        bcc=addresses_of(headers, "Bcc"),
        reply_to=addresses_of(headers, "Reply-To"),
        date=_date(headers.get("Date")),
        text="\n\n".join(filter(None, (_text(part) for part in body))),
        attachments=_attachments(files),
        automatic=classify(headers, item_class, calendar_method=_calendar_method(root)),
        references=_references(headers),
    )
    return Parsed(message, {part.path: part for part, _ in files})


def _sender(headers: Headers) -> Address | None:
    authors = addresses_of(headers, "From")
    agent = next(iter(addresses_of(headers, "Sender")), None)
    if len(authors) > 1 and agent:
        return next((author for author in authors if same_address(author.address, agent.address)), authors[0])
    return authors[0] if authors else agent


def _date(value: str) -> datetime | None:
    try:
        date = parsedate_to_datetime(value[:200])
        return date.replace(tzinfo=UTC) if date.tzinfo is None else date.astimezone(UTC)
    except (ValueError, OverflowError, TypeError, IndexError):  # what it raises for text that is no date
        return None


def _references(headers: Headers) -> tuple[str, ...]:
    text = " ".join([*headers.all("References"), *headers.all("In-Reply-To")])
    found = ["".join(inner.split()) for inner in re.findall(r"<([^<>]+)>", text)]
    latest_last = dict.fromkeys(reversed([ref for ref in found if ref]))
    return tuple(reversed(latest_last))


# --- text and files


def _body_parts(part: Part) -> list[Part]:
    """Return the leaves that make up the text to read: plain text wherever a multipart/alternative offers it."""
    if not part.parts:
        return [part] if _is_readable(part) and not part.name else []
    kind = part.content_type
    if kind == "multipart/alternative":
        choices = [[leaf for leaf in _body_parts(child) if not leaf.is_blank] for child in part.parts]
        plain = (leaves for leaves in choices if any(leaf.content_type == "text/plain" for leaf in leaves))
        return next(plain, next((leaves for leaves in choices if leaves), []))
    if kind == "multipart/related":
        start = part.parameters.get("start", "").strip().strip("<>")
        root = next((child for child in part.parts if start and child.content_id == start), part.parts[0])
        return _body_parts(root)
    if kind in ("multipart/signed", "multipart/report"):
        return _body_parts(part.parts[0])
    if kind == "multipart/encrypted":
        return []
    return [leaf for child in part.parts for leaf in _body_parts(child)]


def _is_readable(part: Part) -> bool:
    return part.content_type.startswith("text/") and part.content_type != "text/calendar" and part.disposition != "attachment"


def _text(part: Part) -> str:
    text = part.text()
    return text_of_html(text) if part.content_type == "text/html" else text.strip("\n").rstrip()


def _file_parts(part: Part, body: Collection[str], related: bool = False) -> Iterator[tuple[Part, bool]]:
    """Yield the leaves that are files, each with whether it is meant to be seen inside the text."""
    if part.parts:
        for child in part.parts:
            yield from _file_parts(child, body, related or part.content_type == "multipart/related")
    elif part.path not in body and not (
        part.content_type.startswith("text/") and not part.name and part.disposition != "attachment"
    ):
        shown_by_text = related and part.content_id != ""
        is_image = part.content_type.startswith("image/")
        yield (
            part,
            (is_image and part.disposition == "inline") or (shown_by_text and (is_image or part.disposition != "attachment")),
        )


def _attachments(files: Iterable[tuple[Part, bool]]) -> tuple[Attachment, ...]:
    taken: dict[str, int] = {}
    found = []
    for number, (part, inline) in enumerate(files, start=1):
        name = unique_name(_file_name(part, number), taken)
        found.append(Attachment(part.path, name, part.size_bytes, part.content_type, inline))
    return tuple(found)


_EXTENSIONS = {
    # Our own table, since Python's depends on files of the machine it runs on.
    "application/json": "json",
    "application/msword": "doc",
    "application/ms-tnef": "dat",
    "application/octet-stream": "bin",
    "application/pdf": "pdf",
    "application/pgp-signature": "asc",
    "application/pkcs7-mime": "p7m",
    "application/pkcs7-signature": "p7s",
    "application/rtf": "rtf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.ms-outlook": "msg",
    "application/vnd.ms-powerpoint": "ppt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.openxmlformats-officedocument.presentationml.presentation": "pptx",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "application/x-pkcs7-mime": "p7m",
    "application/x-pkcs7-signature": "p7s",
    "application/xml": "xml",
    "application/zip": "zip",
    "image/bmp": "bmp",
    "image/gif": "gif",
    "image/jpeg": "jpg",
    "image/png": "png",
    "image/svg+xml": "svg",
    "image/tiff": "tif",
    "image/webp": "webp",
    "message/delivery-status": "txt",
    "message/disposition-notification": "txt",
    "message/feedback-report": "txt",
    "message/global": "eml",
    "message/global-delivery-status": "txt",
    "message/global-disposition-notification": "txt",
    "message/rfc822": "eml",
    "text/calendar": "ics",
    "text/csv": "csv",
    "text/html": "html",
    "text/plain": "txt",
    "text/vcard": "vcf",
    "text/x-vcard": "vcf",
    "text/xml": "xml",
}


def _file_name(part: Part, number: int) -> str:
    """Return a name for the `number`-th file: its own, of an attached message its subject, else "attachment-2.pdf"."""
    extension = _EXTENSIONS.get(part.content_type, "bin")
    name = safe_name(part.name)
    if part.content_type in ("message/rfc822", "message/global"):
        name = message_file_name(name or _subject_within(part), "")
    return _cut(name or f"attachment-{number}.{extension}", MAX_NAME_LENGTH)


def _subject_within(part: Part) -> str:
    if part.encoding not in ("", "7bit", "8bit", "binary"):
        return ""
    block = part.data[part.start : min(part.end, part.start + 65536)]
    return Headers(re.split(rb"\n\r?\n", block.lstrip(b"\r\n"), maxsplit=1)[0]).text("Subject")


_NOT_IN_NAME = re.compile("[\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def safe_name(name: str) -> str:
    """Strip directories, what cannot be stored, and marks that turn the direction of writing ("exe.pdf" shown for "fdp.exe").

    C4C keeps the result as it is, so that a file which is there already is known by its name. May leave nothing.
    """
    name = _NOT_IN_NAME.sub("", clean(unicodedata.normalize("NFC", name)))
    return clean(re.split(r"[/\\]", name)[-1]).rstrip(". ")


def message_file_name(title: str, default: str) -> str:
    """Return the .eml name of a message for its subject (or the file name it came with), `default` if that has no text."""
    name = safe_name(title.replace("/", "-").replace("\\", "-"))
    if not name or name.lower().endswith((".eml", ".msg")):
        return name or default
    return _cut(name, MAX_NAME_LENGTH - 4) + ".eml"


def _cut(name: str, length: int) -> str:
    if len(name) <= length:
        return name
    stem, dot, extension = name.rpartition(".")
    if not dot or len(extension) > 10:
        return name[:length].rstrip(". ")
    return f"{stem[: length - len(extension) - 1].rstrip('. ')}.{extension}"


def unique_name(name: str, taken: dict[str, int]) -> str:
    """Return `name`, or "name (2).ext" if it is taken in any case. `taken` counts how often a name was asked for."""
    stem, dot, extension = name.rpartition(".")
    candidate = name
    while candidate.casefold() in taken:
        taken[name.casefold()] += 1
        suffix = f" ({taken[name.casefold()]})"
        candidate = f"{stem.rstrip()}{suffix}.{extension}".strip() if dot else f"{name}{suffix}"
    taken[candidate.casefold()] = 1
    return candidate


def text_for_activity(message: Message, limit: int) -> str:
    """Return the text that C4C gets: whole, or cut between words to `limit` characters with a last line that says so."""
    if len(message.text) <= limit:
        return message.text
    room = max(0, limit - len(SHORTENED) - 1)
    kept = message.text[:room]
    at = max(kept.rfind("\n"), kept.rfind(" "))
    return (kept[:at] if at > room // 2 else kept).rstrip() + "\n" + SHORTENED


def is_outgoing(message: Message, own: Collection[str]) -> bool:
    """Tell whether the owner of these addresses sent it; a message to oneself is outgoing."""
    return message.sender is not None and normalised(message.sender.address) in {normalised(address) for address in own}


# --- sent by a program?

_DELIVERY_REPORT = Automatic("bounce", "This is a delivery report.")
_RECEIPT = Automatic("receipt", "This is a delivery or read receipt.")
_AUTO_REPLY = Automatic("auto_reply", "This is an automatic reply.")
_PROGRAM = Automatic("bulk", "This message was sent by a program.")
_LIST = Automatic("bulk", "This message was sent to a list of recipients.")

_LIST_FIELDS = ("List-Id", "List-Unsubscribe", "List-Post", "List-Help", "List-Subscribe", "List-Owner", "List-Archive")
_REPLY_FIELDS = ("X-Autoreply", "X-Autorespond", "X-Mail-Autoreply")  # what responders wrote before there was Auto-Submitted
_INVITATION = Automatic("meeting", "This is a meeting invitation.")
_CANCELLATION = Automatic("meeting", "This is the cancellation of a meeting.")
_MEETING_ANSWER = Automatic("meeting", "This is an answer to a meeting invitation.")
_MEETING = Automatic("meeting", "This is a message about a meeting.")

_CLASSES = (
    # MAPI classes by prefix, lower case, the most specific first (outlook.md 1.6; the rule templates from memory of MS-OXCMSG).
    ("ipm.schedule.meeting.request", _INVITATION),
    ("ipm.schedule.meeting.cancel", _CANCELLATION),
    ("ipm.schedule.meeting.resp", _MEETING_ANSWER),
    ("ipm.schedule.meeting.", _MEETING),
    ("ipm.note.rules.ooftemplate", _AUTO_REPLY),
    ("ipm.note.rules.replytemplate", _AUTO_REPLY),
    ("ipm.report.", _DELIVERY_REPORT),
)
_REPORT_CLASSES = {"ndr": _DELIVERY_REPORT, "dr": _RECEIPT, "ipnrn": _RECEIPT, "ipnnrn": _RECEIPT}
"""Last word of "REPORT.IPM.Note.NDR": not delivered, delivered, read, deleted unread."""

_REPORTS = {"": _DELIVERY_REPORT, "delivery-status": _DELIVERY_REPORT, "disposition-notification": _RECEIPT}
"""Type of a multipart/report (RFC 6522); the others are for programs."""

_CONTENT_CLASSES = {"dsn": _DELIVERY_REPORT, "mdn": _RECEIPT}

_METHODS = {"request": _INVITATION, "cancel": _CANCELLATION, "reply": _MEETING_ANSWER}
"""Method of a calendar part (RFC 5546)."""


def classify(
    headers: HeaderSource | Headers, item_class: str = "", *, sender: str = "", calendar_method: str = ""
) -> Automatic | None:
    """Tell whether a program sent the message, from its header fields and MAPI class; None if a person did or nothing is known.

    `headers` may be the raw string of Office.js, also empty, which happens in real Outlooks and proves nothing (outlook.md
    1.6). `sender` is the address the mail client shows, for the case that there is no From; `calendar_method` the method of
    a calendar part, where the body is known. A meeting answer is a person's act, but nothing to save unasked.
    """
    fields = headers if isinstance(headers, Headers) else Headers(headers)
    author = next((person.address for person in addresses_of(fields, "From", "Sender")), sender)
    return (
        _by_class(item_class.strip().lower())
        or _by_report(fields, author)
        or _by_calendar(fields, calendar_method)
        or _by_announcement(fields)
    )


def _by_class(item_class: str) -> Automatic | None:
    if item_class.startswith("report."):
        return _REPORT_CLASSES.get(item_class.rpartition(".")[2], _DELIVERY_REPORT)
    return next((automatic for prefix, automatic in _CLASSES if item_class.startswith(prefix)), None)


def _by_report(fields: Headers, author: str) -> Automatic | None:
    kind, values = parameters(fields.get("Content-Type"))
    if kind == "multipart/report":
        return _REPORTS.get(values.get("report-type", "").lower(), _PROGRAM)
    # Some hosts name their mailer without any address: "From: MAILER-DAEMON (Mail Delivery System)".
    local = author.rpartition("@")[0].lower() if author else _first_word(fields.get("From"))
    if local == "mailer-daemon" or (local == "postmaster" and _has_empty_return_path(fields)):
        return _DELIVERY_REPORT
    return _CONTENT_CLASSES.get(_content_class(fields))


def _first_word(value: str) -> str:
    found = re.search(r"[\w-]+", value)
    return found[0].lower() if found else ""


def _content_class(fields: Headers) -> str:
    """Return "dsn" of "Content-Class: urn:content-classes:dsn", by which Exchange says what it made of a message (MS-OXCMAIL)."""
    return fields.get("Content-Class").strip().lower().removeprefix("urn:content-classes:")


def _has_empty_return_path(fields: Headers) -> bool:
    return any(re.sub(r"\s", "", value) == "<>" for value in fields.all("Return-Path"))


def _by_calendar(fields: Headers, calendar_method: str) -> Automatic | None:
    kind, values = parameters(fields.get("Content-Type"))
    method = (values.get("method", "") if kind == "text/calendar" else "") or calendar_method
    if not method:
        return _MEETING if _content_class(fields) == "calendarmessage" else None
    return _METHODS.get(method.lower(), _MEETING)


def _by_announcement(fields: Headers) -> Automatic | None:
    """What a program says of itself. X-Auto-Response-Suppress asks others not to answer and proves nothing (outlook.md 1.6)."""
    submitted = _keyword(fields.get("Auto-Submitted"))
    precedence = _keyword(fields.get("Precedence"))
    if submitted == "auto-replied" or (submitted not in ("", "no") and "In-Reply-To" in fields):
        return _AUTO_REPLY
    if precedence == "auto_reply" or any(_keyword(fields.get(name)) not in ("", "no") for name in _REPLY_FIELDS):
        return _AUTO_REPLY
    if precedence in ("bulk", "list", "junk") or any(name in fields for name in _LIST_FIELDS):
        return _LIST
    if submitted not in ("", "no"):
        return _PROGRAM
    return _AUTO_REPLY if _has_empty_return_path(fields) else None


def _keyword(value: str) -> str:
    """Return the word of a field without comment and parameters (RFC 3834 section 5)."""
    return re.split(r"[;\s(]", value.strip(), maxsplit=1)[0].lower()


def _calendar_method(root: Part) -> str:
    calendars = (leaf for leaf in root.leaves() if leaf.content_type == "text/calendar" and leaf.disposition != "attachment")
    return next(filter(None, (leaf.parameters.get("method", "") for leaf in calendars)), "")


# --- identity


def message_key(message_id: str | None, *, mailbox: str, immutable_id: str) -> str:
    """Return what the message is known by in C4C (GroupwareItemID), the same in every mailbox that holds a copy.

    The Message-ID without brackets, comments and white space. Case stays: RFC 5322 3.6.4 gives the text no meaning, copies
    carry it unchanged, and C4C compares exactly. An id that is too long or not printable ASCII is hashed ("sha256-..."). Without
    one the key is "ssi-..." and holds for this mailbox only.
    """
    bare = _bare_id(message_id or "")
    if not bare:
        own = f"{normalised(mailbox)}\0{immutable_id}"
        return "ssi-" + hashlib.sha256(own.encode("utf-8", "surrogatepass")).hexdigest()
    length = len(bare) + 2 * sum(map(bare.count, "%*"))  # C4C's client percent-encodes these two
    if length > MAX_KEY_LENGTH or not re.fullmatch(r"[!-~]+", bare):
        return "sha256-" + hashlib.sha256(bare.encode("utf-8", "surrogatepass")).hexdigest()
    return bare


def key_beside(key: str, fingerprint: str) -> str:
    """Return the key of another message whose Message-ID, and so whose `message_key`, is taken already."""
    return "sha256-" + hashlib.sha256(f"{key}\0{fingerprint}".encode("utf-8", "surrogatepass")).hexdigest()


def _bare_id(message_id: str) -> str:
    bracketed = re.search(r"<([^<>]*)>", message_id)
    inner = bracketed[1] if bracketed and bracketed[1].strip() else re.sub(r"\([^()]*\)", "", message_id).strip("<> \t\r\n")
    return "".join(character for character in inner if character.isprintable() and not character.isspace())


def fingerprint(message: Message) -> str:
    """Return a hash of date, sender and text, to notice another message under the same Message-ID.

    White space does not count, since servers that keep messages in a form of their own write it anew.
    """
    parts = (
        message.date.isoformat() if message.date else "",
        normalised(message.sender.address) if message.sender else "",
        " ".join(message.text.split()),
    )
    return hashlib.sha256("\n".join(parts).encode("utf-8", "surrogatepass")).hexdigest()
