"""What the Gmail API v1 answers about one mailbox: messages, labels, history.

`answer()` takes one `Call` (a request, alone or as part of a batch, already checked against Google's description) upon one World,
whose lock the caller holds, and gives a JSON object or raises `GoogleError`. Who may call, quota and batches are
`simulator.google`'s.

How a World's mailbox looks to Gmail: its categories are user labels, by id `Label_<n>`, with a colour "#background #text" of
Gmail's palette; Inbox, Sent Items, Drafts and Deleted Items are the labels INBOX, SENT, DRAFT and TRASH; other folders are none
(archived). Ids of messages and threads are hexadecimal; `adopt` gives a mailbox such ids. What is not simulated answers 501,
loudly. Sources: domain notes on Gmail, section 3; where they are silent the comment says so.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import weakref
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.errors import HeaderParseError
from email.header import decode_header, make_header
from email.message import Message
from functools import partial
from typing import Any

from simulator.google.discovery import GoogleError, Json, invalid, masked, not_found
from simulator.google.history import Glimpse, Journal
from simulator.google.push import Pushes
from simulator.google.search import matches
from simulator.graph.resources import Library
from simulator.world import Category, MailboxState, Person, StoredMessage, World

SECOND_WRITERS_LABEL = "Team review"
NAME_LENGTH = 225  # of a label; what the web client takes, the API's own limit is not written anywhere
MODIFY_LABELS = 100  # added, and as many removed, by one modify
BATCH_MODIFY_IDS = 1000

_CATEGORIES = ("PERSONAL", "SOCIAL", "PROMOTIONS", "UPDATES", "FORUMS")
SYSTEM = (
    *("INBOX", "SENT", "DRAFT", "TRASH", "SPAM", "UNREAD", "STARRED", "IMPORTANT", "CHAT"),
    *(f"CATEGORY_{name}" for name in _CATEGORIES),
)
_RESERVED = frozenset({*(name.casefold() for name in SYSTEM), "drafts", "chats", "all mail", "bin", "allmail", "scheduled"})
_FOLDER_LABELS = {"inbox": "INBOX", "sentitems": "SENT", "drafts": "DRAFT", "deleteditems": "TRASH"}
_HEX = re.compile(r"[0-9a-f]{1,16}")
_KINDS = {
    "messageAdded": "messagesAdded",
    "messageDeleted": "messagesDeleted",
    "labelAdded": "labelsAdded",
    "labelRemoved": "labelsRemoved",
}


def gmail_id(identifier: str) -> str:
    """Return the id that Gmail has for something of the World: its own if it is hexadecimal, else one that follows from it."""
    if _HEX.fullmatch(identifier):
        return identifier
    return "1" + hashlib.sha1(identifier.encode(), usedforsecurity=False).hexdigest()[:15]


def adopt(world: World, person: Person) -> None:
    """Let Google host a person's mailbox: ids of messages, threads and labels become Gmail's, colours are dropped."""
    mailbox = world.mailbox(person.email)
    person.access_type = "google"
    for message in list(mailbox.messages.values()):
        del mailbox.messages[message.immutable_id]
        before, message.immutable_id = message.immutable_id, gmail_id(message.immutable_id)
        message.ews_id = message.immutable_id
        message.conversation_id = gmail_id(message.conversation_id or before)
        mailbox.messages[message.immutable_id] = message
        for case, place in world.cases.items():
            if place == (person.email, before):
                world.cases[case] = (person.email, message.immutable_id)
    labels = list(mailbox.categories.values())
    mailbox.categories = {f"Label_{n}": Category(f"Label_{n}", c.name, "none") for n, c in enumerate(labels, start=1)}


@dataclass(frozen=True, slots=True)
class Call:
    """One request whose query and body fit the method."""

    method: str  # "gmail.users.messages.get"
    path: dict[str, str]
    query: dict[str, Any]
    body: Json
    line: str  # "GET /gmail/v1/users/me/labels", as faults match it
    person: Person


@dataclass(slots=True)
class _Keep:
    """What Gmail keeps of a mailbox that the World has no place for."""

    journal: Journal = field(default_factory=Journal)
    shown: dict[str, Json] = field(default_factory=dict)  # label id -> its two visibilities
    numbered: int = 0  # the last label's number: ids are never given again


class Gmail:
    """Gmail's own memory of each World, and the answers."""

    def __init__(self, palette: frozenset[str]) -> None:
        self.palette = palette
        self.library = Library()
        self._kept: weakref.WeakKeyDictionary[World, dict[str, _Keep]] = weakref.WeakKeyDictionary()
        self._pushes: weakref.WeakKeyDictionary[World, Pushes] = weakref.WeakKeyDictionary()

    def pushes(self, world: World) -> Pushes:
        return self._pushes.setdefault(world, Pushes())

    def answer(self, world: World, call: Call) -> Json | None:
        """Answer a call; None is an answer without a body. Hold the World's lock. Raises: GoogleError."""
        person = call.person
        if call.path.get("userId", "me").lower() not in ("me", person.email.lower()):
            raise GoogleError(403, "forbidden", f"Delegation denied for {person.email}")
        mailbox = world.mailboxes.get(person.email.lower())
        if mailbox is None or person.access_type != "google":
            raise GoogleError(400, "failedPrecondition", "Mail service not enabled", word="FAILED_PRECONDITION")
        kept = self._kept.setdefault(world, {}).setdefault(person.email.lower(), _Keep())
        request = _Request(self, world, mailbox, kept, call)
        kept.journal.look(mailbox, request.glimpse, world.now())
        try:
            answer = request.answer()
        finally:
            kept.journal.look(mailbox, request.glimpse, world.now())
        return None if answer is None else dict(masked(answer, call.query.get("fields", "")))


class _Request:
    """One call upon one mailbox, with the World's lock held."""

    def __init__(self, gmail: Gmail, world: World, mailbox: MailboxState, kept: _Keep, call: Call) -> None:
        self._world, self._mailbox, self._kept, self._call = world, mailbox, kept, call
        self._library, self._palette, self._pushes = gmail.library, gmail.palette, gmail.pushes(world)
        self._ids = {category.name: category.id for category in mailbox.categories.values()}

    def answer(self) -> Json | None:
        """Raises: GoogleError."""
        call = self._call
        match call.method.removeprefix("gmail.users."):
            case "getProfile":
                return self._profile()
            case "messages.list":
                return self._messages()
            case "messages.get":
                return self._message(self._find(call.path["id"]))
            case "messages.modify":
                return self._modify(self._find(call.path["id"]))
            case "messages.batchModify":
                self._batch_modify()
                return None
            case "labels.list":
                system = [{"id": name, "name": name, "type": "system"} for name in SYSTEM]
                return {"labels": system + [self._label_json(label) for label in self._mailbox.categories.values()]}
            case "labels.get":
                return self._label_details(call.path["id"])
            case "labels.create":
                return self._create_label()
            case "labels.patch" | "labels.update":
                return self._change_label(self._label(call.path["id"]), whole=call.method.endswith("update"))
            case "labels.delete":
                self._delete_label(self._label(call.path["id"]))
                return None
            case "history.list":
                return self._history()
            case "watch":
                return self._watch()
            case "stop":
                self._pushes.stop(self._mailbox.owner.email)
                return None
        raise GoogleError(501, "notImplemented", f"The simulator has no {call.method}.")

    # Messages

    def _labels_of(self, message: StoredMessage) -> tuple[str, ...]:
        """Ids of the message's labels, the system's first; a category that the mailbox does not list is no label."""
        folder = _FOLDER_LABELS.get(self._mailbox.folders[message.folder].well_known or "")
        system = [*([] if message.is_read else ["UNREAD"]), *([folder] if folder else [])]
        return (*system, *(self._ids[name] for name in message.categories if name in self._ids))

    def glimpse(self, message: StoredMessage) -> Glimpse:
        return Glimpse(gmail_id(message.immutable_id), gmail_id(message.conversation_id), self._labels_of(message))

    def _find(self, identifier: str) -> StoredMessage:
        if not _HEX.fullmatch(identifier):
            raise invalid("Invalid id value")
        found = self._mailbox.messages.get(identifier)
        if found is None:
            found = next((m for m in self._mailbox.messages.values() if gmail_id(m.immutable_id) == identifier), None)
        if found is None:
            raise not_found()
        return found

    def _profile(self) -> Json:
        messages = self._mailbox.messages.values()
        return {
            "emailAddress": self._mailbox.owner.email,
            "messagesTotal": len(messages),
            "threadsTotal": len({m.conversation_id for m in messages}),
            "historyId": str(self._mailbox.change),
        }

    def _message(self, message: StoredMessage) -> Json:
        form = self._call.query["format"]
        parsed = self._library.parsed(self._world, message)
        answer = self.glimpse(message).json | {
            "snippet": " ".join((parsed.body("text/plain") or "")[:200].split()),
            "sizeEstimate": len(message.mime),
            "historyId": str(message.change),
            "internalDate": f"{int(message.received_at.timestamp())}000",
        }
        if form == "raw":
            return answer | {"raw": base64.urlsafe_b64encode(message.mime).decode()}
        if form == "metadata":
            wanted = {name.lower() for name in self._call.query.get("metadataHeaders", [])}
            headers = [h for h in _headers(parsed.fields) if not wanted or h["name"].lower() in wanted]
            return answer | {"payload": {"mimeType": parsed.fields.get_content_type(), "headers": headers}}
        return answer | ({"payload": _part(message_from_bytes(message.mime), "")} if form == "full" else {})

    def _messages(self) -> Json:
        query = self._call.query
        found = [m for m in self._mailbox.messages.values() if self._is_listed(m, query)]
        found.sort(key=lambda m: m.received_at, reverse=True)
        page, following = _page(found, query, most=500)
        listed = [{"id": gmail_id(m.immutable_id), "threadId": gmail_id(m.conversation_id)} for m in page]
        return ({"messages": listed} if listed else {}) | following | {"resultSizeEstimate": len(found)}

    def _is_listed(self, message: StoredMessage, query: dict[str, Any]) -> bool:
        labels = self._labels_of(message)
        wanted = [self._known(label) for label in query.get("labelIds", [])]
        if not query["includeSpamTrash"] and {"SPAM", "TRASH"} & set(labels) - set(wanted):
            return False
        own = partial(self._library.parsed(self._world, message).text_of, "Message-ID")
        return set(wanted) <= set(labels) and matches(query.get("q", ""), labels, own)

    # Labels on messages

    def _known(self, label: str) -> str:
        if label not in SYSTEM and label not in self._mailbox.categories:
            raise invalid(f"Invalid label: {label}")
        return label

    def _wish(self) -> tuple[list[str], list[str]]:
        """Return the labels to add and to remove. Raises: GoogleError."""
        added, removed = ((self._call.body.get(name) or []) for name in ("addLabelIds", "removeLabelIds"))
        if not added and not removed:
            raise invalid("No label add or removes specified")
        if max(len(added), len(removed)) > MODIFY_LABELS:
            raise invalid(f"Too many labels, at most {MODIFY_LABELS}")
        for label in map(self._known, (*added, *removed)):
            if label in ("SENT", "DRAFT", "CHAT"):
                raise invalid(f"Invalid label: {label}")
            if label in SYSTEM and label not in ("UNREAD", "INBOX"):
                raise GoogleError(501, "notImplemented", f"The simulator does not add or remove {label}.")
        if set(added) & set(removed):
            raise invalid("Cannot both add and remove the same label")
        return added, removed

    def _modify(self, message: StoredMessage) -> Json:
        self._let_second_writer_in(message)
        added, removed = self._wish()
        self._apply(message, added, removed)
        return self.glimpse(message).json

    def _batch_modify(self) -> None:
        ids = self._call.body.get("ids") or []
        if not 1 <= len(ids) <= BATCH_MODIFY_IDS:
            raise invalid(f"The number of ids must be between 1 and {BATCH_MODIFY_IDS}")
        added, removed = self._wish()
        known = {gmail_id(m.immutable_id): m for m in self._mailbox.messages.values()}
        for identifier in ids:  # one that is not there is passed over: the method tells nothing per id
            if identifier in known:
                self._apply(known[identifier], added, removed)

    def _apply(self, message: StoredMessage, added: list[str], removed: list[str]) -> None:
        """Change the labels of a message; nothing happens when it already is so."""
        names = self._mailbox.categories
        before, was_read = list(message.categories), message.is_read
        if "INBOX" in added or "INBOX" in removed:
            self._archive(message, "INBOX" in removed)
        message.is_read = "UNREAD" not in added and (was_read or "UNREAD" in removed)
        gone = {names[label].name for label in removed if label in names}
        new = [names[label].name for label in added if label in names]
        message.categories = [name for name in before if name not in gone]
        message.categories += [name for name in new if name not in message.categories]
        if message.categories != before:
            self._log("categories", id=message.immutable_id, before=before, after=list(message.categories))
        if message.is_read != was_read:
            self._log("read", id=message.immutable_id, is_read=message.is_read)

    def _archive(self, message: StoredMessage, is_archived: bool) -> None:
        """Take a message out of the Inbox or put it there; the World keeps what is archived in a folder without a label."""
        folders = self._mailbox.folders
        if ("INBOX" in self._labels_of(message)) != is_archived:
            return
        if folders[message.folder].well_known in ("sentitems", "drafts"):
            raise GoogleError(501, "notImplemented", "The simulator does not put into the Inbox what was sent.")
        archive = next(f for f in self._mailbox.mail_folders if f.well_known is None)
        self._mailbox.left(message)
        message.folder = archive.id if is_archived else self._mailbox.folder("inbox").id
        self._log("move", id=message.immutable_id, to="archive" if is_archived else "inbox")

    def _let_second_writer_in(self, message: StoredMessage) -> None:
        if self._has_fault("second_writer"):
            before = list(message.categories)
            if SECOND_WRITERS_LABEL not in self._ids:
                self._ids[SECOND_WRITERS_LABEL] = self._new_label(SECOND_WRITERS_LABEL, "none").id
            message.categories.append(SECOND_WRITERS_LABEL)
            after = list(message.categories)
            self._world.happened("google", "categories", "second writer", id=message.immutable_id, before=before, after=after)

    # The list of labels

    def _label(self, identifier: str) -> Category:
        if identifier in SYSTEM:
            raise invalid("Invalid update to a system label")
        found = self._mailbox.categories.get(identifier)
        if found is None:
            raise not_found()
        return found

    def _label_json(self, label: Category) -> Json:
        """A label as the list shows it; colour and counts come with labels.get only (description of ListLabelsResponse)."""
        return {"id": label.id, "name": label.name, **self._kept.shown.get(label.id, {}), "type": "user"}

    def _label_details(self, identifier: str) -> Json:
        carrying = [m for m in self._mailbox.messages.values() if identifier in self._labels_of(m)]
        unread = [m for m in carrying if not m.is_read]
        counts = {
            "messagesTotal": len(carrying),
            "messagesUnread": len(unread),
            "threadsTotal": len({m.conversation_id for m in carrying}),
            "threadsUnread": len({m.conversation_id for m in unread}),
        }
        if identifier in SYSTEM:
            return {"id": identifier, "name": identifier, "type": "system"} | counts
        return self._label_with_color(self._label(identifier)) | counts

    def _label_with_color(self, label: Category) -> Json:
        background, _, text = label.color.partition(" ")
        color = {"color": {"textColor": text, "backgroundColor": background}} if text else {}
        return self._label_json(label) | color

    def _create_label(self) -> Json:
        body = self._call.body
        name = self._checked_name(body.get("name"), None)
        label = self._new_label(name, self._checked_color(body.get("color")) or "none")
        self._show(label, body)
        self._log("master_create", id=label.id, name=name, color=label.color)
        return self._label_with_color(label)

    def _new_label(self, name: str, color: str) -> Category:
        self._kept.numbered = self._last_number() + 1
        label = Category(f"Label_{self._kept.numbered}", name, color)
        self._mailbox.categories[label.id] = label
        return label

    def _last_number(self) -> int:
        numbers = [int(i.removeprefix("Label_")) for i in self._mailbox.categories if re.fullmatch(r"Label_[0-9]+", i)]
        return max([self._kept.numbered, *numbers])

    def _change_label(self, label: Category, *, whole: bool) -> Json:
        body, before = self._call.body, Category(label.id, label.name, label.color)
        if whole or body.get("name") is not None:
            label.name = self._checked_name(body.get("name"), label)
        if whole or body.get("color") is not None:
            label.color = self._checked_color(body.get("color")) or "none"
        self._show(label, body)
        if label.name != before.name:
            for message in self._mailbox.messages.values():
                message.categories = [label.name if name == before.name else name for name in message.categories]
        self._ids = {category.name: category.id for category in self._mailbox.categories.values()}
        if label != before:
            self._log("master_update", id=label.id, name=label.name, before=before.color, after=label.color, was=before.name)
        return self._label_with_color(label)

    def _delete_label(self, label: Category) -> None:
        self._kept.numbered = self._last_number()
        del self._mailbox.categories[label.id]
        self._kept.shown.pop(label.id, None)
        for message in self._mailbox.messages.values():
            message.categories = [name for name in message.categories if name != label.name]
        self._log("master_delete", id=label.id, name=label.name)

    def _checked_name(self, name: str | None, own: Category | None) -> str:
        if name is None or not name.strip():
            raise invalid("Label name is required" if name is None else "Invalid label name")
        if name.casefold() in _RESERVED or len(name) > NAME_LENGTH:
            raise invalid("Invalid label name")
        # That case does not count is how the web client behaves; the API's page says only "conflicts".
        if any(c.name.casefold() == name.casefold() for c in self._mailbox.categories.values() if c is not own):
            raise GoogleError(409, "aborted", "Label name exists or conflicts")
        return name

    def _checked_color(self, color: Json | None) -> str | None:
        """Return the colour as the World keeps it: "#background #text"."""
        if color is None:
            return None
        background, text = color.get("backgroundColor"), color.get("textColor")
        if not background or not text:
            raise invalid("Both backgroundColor and textColor are required to set the color of a label")
        for value in (background, text):
            if value not in self._palette:
                raise invalid(f"Label color {value} is not on the allowed color palette")
        return f"{background} {text}"

    def _show(self, label: Category, body: Json) -> None:
        shown = {name: body[name] for name in ("messageListVisibility", "labelListVisibility") if body.get(name)}
        self._kept.shown[label.id] = self._kept.shown.get(label.id, {}) | shown

    # History

    def _history(self) -> Json:
        query = self._call.query
        if "startHistoryId" not in query:
            raise invalid("Missing required startHistoryId", reason="required")
        if self._has_fault("history_expired"):
            raise not_found()
        records = self._kept.journal.since(int(query["startHistoryId"]), self._mailbox)
        if records is None:
            raise not_found()
        kinds = [_KINDS[name] for name in query.get("historyTypes", []) or _KINDS]
        label = query.get("labelId", "")
        concerned = [r for r in records if r.concerns(kinds, label)]  # type: ignore[arg-type]  # the enum was checked
        if "pageToken" not in query and self._has_fault("empty_page"):
            return {"nextPageToken": _page_token(0), "historyId": str(self._mailbox.change)}
        page, following = _page(concerned, query, most=500)
        found: Json = {"history": [record.json for record in page]} if page else {}
        return found | following | {"historyId": str(self._mailbox.change)}

    def _watch(self) -> Json:
        for label in self._call.body.get("labelIds") or []:
            self._known(label)
        until = self._pushes.watch(self._mailbox.owner.email, self._call.body, self._world.now())
        return {"historyId": str(self._mailbox.change), "expiration": str(int(until.timestamp() * 1000))}

    def _has_fault(self, kind: str) -> bool:
        method, _, path = self._call.line.partition(" ")
        return self._world.take_fault("google", method, path, frozenset({kind})) is not None

    def _log(self, kind: str, **detail: Any) -> None:
        self._world.happened("google", kind, self._mailbox.owner.email, **detail)


def _page(items: list[Any], query: dict[str, Any], *, most: int) -> tuple[list[Any], Json]:
    """Cut out the page asked for; returns it with the token of the next. A larger maxResults counts as the largest."""
    size, start = min(max(query["maxResults"], 1), most), 0
    if token := query.get("pageToken"):
        try:
            start = int(json.loads(base64.urlsafe_b64decode(token))["start"])
        except (ValueError, TypeError, KeyError):
            raise invalid("Invalid pageToken") from None
    end = start + size
    return items[start:end], {"nextPageToken": _page_token(end)} if end < len(items) else {}


def _page_token(start: int) -> str:
    return base64.urlsafe_b64encode(json.dumps({"start": start}).encode()).decode()


def _headers(fields: Message) -> Iterator[Json]:
    """Header fields on one line each and decoded, as Gmail shows them (seen in answers; no page of Google's says so)."""
    for name, value in fields.raw_items():
        text = str(value).encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        text = re.sub(r"\r?\n[ \t]+", " ", text)
        with suppress(HeaderParseError, LookupError, ValueError):
            text = str(make_header(decode_header(text))) if "=?" in text else text
        yield {"name": name, "value": text}


def _part(part: Message, number: str) -> Json:
    """A MIME part as format=full shows it; the content of an attachment has to be asked for by its id."""
    name = part.get_filename() or ""
    shown: Json = {"partId": number, "mimeType": part.get_content_type(), "filename": name, "headers": list(_headers(part))}
    if part.get_content_maintype() == "multipart":
        inner: Any = part.get_payload()
        children = inner if isinstance(inner, list) else []
        parts = [_part(child, f"{number}.{n}".lstrip(".")) for n, child in enumerate(children)]
        return shown | {"body": {"size": 0}, "parts": parts}
    raw: Any = part.get_payload()
    size = len(raw) if isinstance(raw, str) else 0
    if name or not isinstance(raw, str):
        handle = hashlib.sha1(f"{number}{name}{size}".encode(), usedforsecurity=False).hexdigest()
        return shown | {"body": {"attachmentId": "ANGjdJ" + handle, "size": size * 3 // 4}}
    content = part.get_payload(decode=True)
    data = content if isinstance(content, bytes) else b""
    return shown | {"body": {"size": len(data), "data": base64.urlsafe_b64encode(data).decode()}}
