"""A mailbox at Google, over the Gmail API v1.

Marks are labels. A label is known by its id; names are the user's to change, so what a session knows of ids is handed in and
`label_ids` tells them afterwards: a label that was renamed gets its name back. Adding and removing labels needs no etag, and what
others add meanwhile is not touched, so a mark never meets a conflict, unless its label is deleted at that moment. All that can
change of a message in Gmail is its labels; the etag is their digest. An id "rest" is the API's own, as "gmail" is.

`google_calls` carries the calls, and keeps to the user's quota.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, TypedDict, cast

from server.domain.marks import MARKS, MarkId, merged
from server.domain.mime import decode_words
from server.errors import AlreadyExists, Conflict, InvalidInput, NotFound, Rejected, Transient, Unknown
from server.mail import Capability, IdForm, Marked, MessageHead
from server.mail.google_calls import PEER, Call, Calls, Refusal, object_of

TRIES = 3  # of read and write, when the labels change under us
MAX_PAGES = 20

LABELS: Mapping[MarkId, str] = {
    "share": "SAP E-Mails",
    "pending": "SAP E-Mails/Pending",
    "saved": "SAP E-Mails/Saved",
    "error": "SAP E-Mails/Sync Error",
}
"""The English names of the marks as labels, for `ensure_marks`: a "/" makes the tree that Gmail shows."""

COLORS: Mapping[str, tuple[str, str]] = {
    "preset0": ("#cc3a21", "#ffffff"),
    "preset3": ("#fad165", "#594c05"),
    "preset4": ("#16a766", "#ffffff"),
    "preset5": ("#98d7e4", "#0d3b44"),
    "preset7": ("#285bac", "#ffffff"),
    "preset8": ("#653e9b", "#ffffff"),
    "preset19": ("#0b804b", "#ffffff"),
}
"""Outlook's preset -> background and text of Gmail's palette, which is named in the discovery document (LabelColor)."""

_ID = re.compile(r"[0-9a-f]{1,16}\Z")
_DECIMAL_ID = re.compile(r"msg-f:([0-9]{1,20})\Z")  # how the add-on may name a message (gmail.md 1.2, not confirmed)
_PART = "filename,mimeType,headers"
_HEAD_FIELDS = f"id,threadId,labelIds,internalDate,sizeEstimate,payload({_PART},parts({_PART},parts({_PART},parts({_PART}))))"


class _Header(TypedDict):
    name: str
    value: str


class _Part(TypedDict, total=False):
    filename: str
    mimeType: str
    headers: list[_Header]
    parts: list[_Part]


class _Message(TypedDict, total=False):
    id: str
    threadId: str
    labelIds: list[str]  # absent when there are none
    internalDate: str  # milliseconds since the epoch
    sizeEstimate: int  # bytes
    payload: _Part
    raw: str


class GoogleMailbox:
    """Implements `server.mail.Mailbox`. `known_labels` are the ids that the marks' labels had at the last session."""

    capabilities: frozenset[Capability] = frozenset({"labels", "colors"})

    def __init__(self, calls: Calls, *, known_labels: Mapping[MarkId, str] | None = None) -> None:
        self._calls = calls
        self._messages = calls.service.users().messages()
        self._labels = calls.service.users().labels()
        self._known_labels = dict(known_labels or {})

    @property
    def label_ids(self) -> Mapping[MarkId, str]:
        """The ids of the marks' labels as far as `ensure_marks` has seen them; keep them for the next session."""
        return dict(self._known_labels)

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        labels, message = self._calls.asked(self._list_labels(), self._get(_api_id(item_id, id_form), "full", _HEAD_FIELDS))
        return _head(cast(_Message, message), _user_labels(labels))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        call = self._get(_api_id(ref, "gmail"), "raw", "raw")
        try:
            (answer,) = self._calls.asked(call, max_bytes=max_bytes * 4 // 3 + 4096)  # base64, and what JSON puts around it
        except Rejected as error:
            if isinstance(error.__cause__, Refusal):
                raise
            raise _too_large(max_bytes) from error
        mime = _decoded(answer.get("raw"))
        if len(mime) > max_bytes:
            raise _too_large(max_bytes)
        return mime

    def find(self, message_id: str) -> list[MessageHead]:
        bare = message_id.strip().strip("<>")
        if not bare or any(c.isspace() for c in bare):  # such an id ends at its first space for Gmail's search
            return []
        refs = self._search(f"rfc822msgid:<{bare}>")
        if not refs:
            return []
        calls = [self._list_labels(), *(self._get(ref, "full", _HEAD_FIELDS) for ref in refs)]
        listed, *replies = self._calls.exchange(calls)
        labels = _user_labels(object_of(listed, calls[0]))
        present = [reply for reply in replies if reply.status != 404]  # deleted since it was listed
        heads = [_head(cast(_Message, object_of(reply, calls[1])), labels) for reply in present]
        found = [head for head in heads if (head.message_id or "").strip("<>") == bare]
        return sorted(found, key=lambda head: head.received_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def ensure_marks(self, names: Mapping[MarkId, str]) -> Mapping[MarkId, str]:
        last: Exception | None = None
        for _ in range(TRIES):
            labels = self._label_names()
            spelled: dict[MarkId, str] = {}
            try:
                found = self._found(names, labels)
            except NotFound as error:  # deleted since it was listed
                last = error
                continue
            for mark in sorted(names, key=lambda mark: names[mark].count("/")):  # parents first
                try:
                    spelled[mark] = self._ensure_mark(mark, names[mark], found.get(mark), labels)
                except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                    last = error
            if len(spelled) == len(names):
                return spelled
        raise Transient(f"The labels could not be created in {PEER}.") from last

    def _found(self, names: Mapping[MarkId, str], labels: Mapping[str, str]) -> dict[MarkId, dict[str, Any]]:
        """Return the labels that are ours already, with their colours, which the list of labels does not tell.

        Raises: NotFound when one of them was deleted just now.
        """
        by_name = {name.casefold(): identifier for identifier, name in labels.items()}
        ids: dict[MarkId, str] = {}
        for mark, name in names.items():
            same = next((by_name[n] for n in _known_names(mark, name) if n in by_name), None)
            renamed = self._known_labels.get(mark, "")
            if same or renamed in labels:
                ids[mark] = same or renamed
        if not ids:
            return {}
        details = self._calls.asked(*(self._labels.get(userId="me", id=identifier) for identifier in ids.values()))
        return dict(zip(ids, details, strict=True))

    def _ensure_mark(self, mark: MarkId, name: str, found: dict[str, Any] | None, labels: dict[str, str]) -> str:
        """Create the label of a mark, or restore its name and colour; returns its name as the mailbox spells it."""
        color = _color(mark)
        if found is None:
            self._known_labels[mark] = self._create_label(name, labels, color=color)
            return name
        self._known_labels[mark] = str(found["id"])
        is_renamed = str(found["name"]).casefold() not in _known_names(mark, name)
        changed = ({"name": name} if is_renamed else {}) | ({} if found.get("color") == color else {"color": color})
        if is_renamed:
            self._create_parents(name, labels)
        if changed:
            self._calls.written(self._labels.patch(userId="me", id=found["id"], body=changed))
        return name if is_renamed else str(found["name"])

    def _create_label(
        self, name: str, labels: dict[str, str], *, color: dict[str, str] | None = None, is_listed: bool = True
    ) -> str:
        """Create a label, and before it the parents that a mark's name has; returns its id, which `labels` then holds.

        Raises: AlreadyExists, Unknown, Rejected.
        """
        if is_listed:
            self._create_parents(name, labels)
        shown = {"labelListVisibility": "labelShow" if is_listed else "labelHide", "messageListVisibility": "show"}
        body: dict[str, Any] = {"name": name, **shown} | ({"color": color} if color else {})
        made = self._calls.written(self._labels.create(userId="me", body=body))
        identifier = str(made.get("id", ""))
        if not identifier:
            raise Unknown(f"{PEER} did not confirm; whether it acted is not known yet.")
        labels[identifier] = name
        return identifier

    def _create_parents(self, name: str, labels: dict[str, str]) -> None:
        parent = name.rpartition("/")[0]
        if parent and parent.casefold() not in {known.casefold() for known in labels.values()}:
            self._create_label(parent, labels)

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        ref = _api_id(ref, "gmail")
        wish = None if mark is None else (mark, names.get(mark, MARKS[mark].name))
        error: Exception | None = None
        for _ in range(TRIES):
            listed, message = self._calls.asked(self._list_labels(), self._get(ref, "minimal", "labelIds"))
            labels = self._named(_user_labels(listed), names)
            current = _names_of(message, labels)
            wanted = merged(current, mark, reason, names)
            if _same_names(current, wanted):
                return Marked(_etag(message), current)
            try:
                written = self._calls.written(self._changed(ref, wish, current, wanted, labels))
            except (Conflict, Unknown) as caught:
                error = caught
                continue
            if not set(_user_label_ids(written)) <= labels.keys():  # somebody else's new label is on it, too
                labels = self._named(self._label_names(), names)
            carried = _names_of(written, labels)
            if _same_names(carried, merged(carried, mark, reason, names)):
                return Marked(_etag(written), carried)
        if isinstance(error, Unknown):
            raise Transient(f"{PEER} did not confirm the label.") from error
        raise Conflict("Others kept changing the message while its label was set.") from error

    def _changed(
        self, ref: str, mark: tuple[MarkId, str] | None, current: Sequence[str], wanted: Sequence[str], labels: dict[str, str]
    ) -> Call:
        """Describe the change from `current` to `wanted`, both names; what is missing among the labels is created.

        Raises: AlreadyExists, Unknown, Rejected.
        """
        by_name = {name.casefold(): identifier for identifier, name in labels.items()}
        before, after = {name.casefold() for name in current}, {name.casefold() for name in wanted}
        added = []
        for name in (name for name in wanted if name.casefold() not in before):
            identifier = by_name.get(name.casefold())
            if identifier is None and mark is not None and name == mark[1]:
                identifier = self._known_labels[mark[0]] = self._create_label(name, labels, color=_color(mark[0]))
            # The label of a reason is shown on its messages only: it would fill the list of labels.
            added.append(identifier or self._create_label(name, labels, is_listed=False))
        removed = [by_name[name.casefold()] for name in current if name.casefold() not in after]
        body = {"addLabelIds": added, "removeLabelIds": removed}
        return cast(Call, self._messages.modify(userId="me", id=ref, body=body))

    def _named(self, labels: dict[str, str], names: Mapping[MarkId, str]) -> dict[str, str]:
        """Give labels of ours that the user renamed the names that they shall have."""
        taken = {name.casefold() for name in labels.values()}
        ours = {self._known_labels[mark]: name for mark, name in names.items() if mark in self._known_labels}
        return {i: ours[i] if i in ours and ours[i].casefold() not in taken else name for i, name in labels.items()}

    def _list_labels(self) -> Call:
        return cast(Call, self._labels.list(userId="me"))

    def _label_names(self) -> dict[str, str]:
        return _user_labels(*self._calls.asked(self._list_labels()))

    def _get(self, ref: str, form: str, fields: str) -> Call:
        return cast(Call, self._messages.get(userId="me", id=ref, format=form, fields=fields))

    def _search(self, query: str) -> list[str]:
        """Return the ids of all messages that match, spam and trash included."""
        refs: list[str] = []
        options: dict[str, Any] = {"userId": "me", "q": query, "includeSpamTrash": True, "maxResults": 500}
        for _ in range(MAX_PAGES):
            (page,) = self._calls.asked(self._messages.list(**options))
            refs += [str(message["id"]) for message in page.get("messages", [])]
            if "nextPageToken" not in page:
                break
            options["pageToken"] = page["nextPageToken"]
        return refs


def _api_id(item_id: str, id_form: IdForm) -> str:
    """Return the id as the API takes it.

    Raises: NotFound for what cannot be an id, so that it never becomes another path; InvalidInput for an EWS id.
    """
    if id_form == "ews":
        raise InvalidInput("id_form", "This mailbox is at Google.")
    decimal = _DECIMAL_ID.match(item_id)
    identifier = f"{int(decimal[1]):x}" if decimal else item_id
    if not _ID.match(identifier):
        raise NotFound("The mailbox holds no such message.")
    return identifier


def _too_large(max_bytes: int) -> Rejected:
    return Rejected(f"The message is larger than {max_bytes // (1024 * 1024)} MB.")


def _decoded(raw: object) -> bytes:
    """Decode base64url, padded or not. Raises: Transient for anything else."""
    try:
        text = str(raw).rstrip("=") if isinstance(raw, str) and raw else "?"
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except binascii.Error as error:
        raise Transient(f"{PEER} did not answer in its own language.") from error


def _head(message: _Message, labels: Mapping[str, str]) -> MessageHead:
    payload = message.get("payload", {})
    sent = message.get("internalDate")
    return MessageHead(
        ref=message["id"],
        etag=_etag(message),
        message_id=_header(payload, "message-id") or None,
        subject=decode_words(_header(payload, "subject")),
        item_class="",
        size_bytes=message.get("sizeEstimate"),
        received_at=datetime.fromtimestamp(int(sent) // 1000, UTC) if sent else None,
        categories=_names_of(message, labels),
        has_attachments=_holds_file(payload),
        conversation=message.get("threadId", ""),
    )


def _header(part: _Part, name: str) -> str:
    return next((h["value"].strip() for h in part.get("headers", []) if h["name"].lower() == name), "")


def _holds_file(part: _Part) -> bool:
    """Say whether there is a part with a name, or a message, that is not shown within the text."""
    is_inline = _header(part, "content-disposition").lower().startswith("inline") and bool(_header(part, "content-id"))
    is_file = bool(part.get("filename")) or part.get("mimeType") == "message/rfc822"
    return (is_file and not is_inline) or any(map(_holds_file, part.get("parts", [])))


def _user_label_ids(message: Mapping[str, Any]) -> list[str]:
    """The user's labels on a message; ids of the system's are words in capitals."""
    return [str(identifier) for identifier in message.get("labelIds", []) if not re.fullmatch(r"[A-Z_]+", str(identifier))]


def _names_of(message: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels[identifier] for identifier in _user_label_ids(message) if identifier in labels)


def _etag(message: Mapping[str, Any]) -> str:
    return hashlib.sha256(" ".join(sorted(map(str, message.get("labelIds", [])))).encode()).hexdigest()[:16]


def _user_labels(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return id -> name of the labels that are not the system's."""
    return {str(label["id"]): str(label["name"]) for label in answer.get("labels", []) if label.get("type") != "system"}


def _known_names(mark: MarkId, name: str) -> tuple[str, ...]:
    """Return, casefolded, what the label of a mark may be called: as asked, else by an English name or an alias."""
    known = (name, LABELS.get(mark, ""), MARKS[mark].name, *MARKS[mark].aliases)
    return tuple(dict.fromkeys(n.casefold() for n in known if n))


def _color(mark: MarkId) -> dict[str, str]:
    background, text = COLORS[MARKS[mark].color]
    return {"backgroundColor": background, "textColor": text}


def _same_names(a: Sequence[str], b: Sequence[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}
