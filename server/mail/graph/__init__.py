"""A mailbox at Microsoft 365 or Outlook.com, over Microsoft Graph v1.0.

Refs are Graph's immutable ids, which survive a move; those of contacts, too. Categories are merged (`graph.marks`); contacts
have a module of their own (`graph.people`).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, cast

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, MARKS, FolderId, MarkId, merged
from server.domain.sentences import rejected
from server.errors import (
    AlreadyExists,
    Forbidden,
    InvalidInput,
    NotFound,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from server.mail import (
    Capability,
    Category,
    Changes,
    ContactEdit,
    ContactItem,
    Folder,
    Hook,
    IdForm,
    Known,
    Marked,
    MessageHead,
    NewContact,
    Notice,
    Owner,
    Subscription,
    nothing_known,
)
from server.mail.graph import changes as rounds, hooks, marks as marking
from server.mail.graph.calls import PEER, TRIES, Answer, Call, Calls, get, moment, object_of, segment, write
from server.mail.graph.people import AddressBook
from server.transport import Gateway

LIST_PAGE = "250"  # entries of a list that is read to its end

_ITEM_CLASS = "String 0x001A"  # PidTagMessageClass; Graph's message has no such property (outlook.md 1.6)
_SIZE = "Integer 0x0E08"  # PidTagMessageSize (MS-OXPROPS); Graph's message has no such property either
_HEAD_FIELDS = "id,internetMessageId,subject,receivedDateTime,categories,hasAttachments,conversationId"
_EXPAND_HEAD = f"singleValueExtendedProperties($filter=id eq '{_ITEM_CLASS}' or id eq '{_SIZE}')"
_MIME_TYPES = frozenset({"text/plain", "message/rfc822", "application/octet-stream"})
_FIELD = re.compile(rb"[A-Za-z][A-Za-z0-9._-]*[ \t]*:")  # what a message begins with
_NOBODY = "x"  # what is no id of anything
_MEANS = {
    "messages": "The permission Mail.ReadWrite is missing: messages cannot be read and marked.",
    "outlook/masterCategories": "The permission MailboxSettings.ReadWrite is missing: categories cannot be created.",
    "contacts": "The permission Contacts.ReadWrite is missing: contacts cannot be read and written.",
}
"""What may not be done where the probe of `check` is refused (permission tables of message-update, outlookcategory-update and
contact-update)."""


class _Property(TypedDict):
    id: str
    value: str


_Message = TypedDict(
    "_Message",
    {
        "@odata.etag": str,
        "id": str,
        "internetMessageId": str | None,
        "subject": str | None,
        "receivedDateTime": str | None,
        "categories": list[str],
        "hasAttachments": bool | None,
        "conversationId": str | None,
        "singleValueExtendedProperties": list[_Property],
    },
    total=False,
)


class _Category(TypedDict):
    id: str
    displayName: str
    color: str


class GraphMailbox:
    """Implements `server.mail.Mailbox`. Thread-safe if `get_token` is.

    `url` is Graph's address including the version; `base` the mailbox below it: "/me", or "/users/{id}" for one that the
    caller has delegated rights to. `in_flight` is entered for each request, e.g. a semaphore of 4 per mailbox.
    """

    capabilities: frozenset[Capability] = frozenset({"categories", "colors", "push"})

    def __init__(
        self,
        gateway: Gateway,
        *,
        url: str,
        get_token: Callable[[], str],
        now: Callable[[], datetime],
        base: str = "/me",
        in_flight: AbstractContextManager[object] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._calls = Calls(gateway, url=url, get_token=get_token, in_flight=in_flight, sleep=sleep)
        self._people = AddressBook(self._calls, base)
        self._base = base
        self._now = now

    def check(self) -> Owner:
        # A write to what is not there changes nothing, and is refused otherwise where the permission is missing.
        probes = {name: Call("PATCH", f"{self._base}/{name}/{_NOBODY}", {}) for name in _MEANS}
        reads = [
            get(self._base, {"$select": "id,displayName,mail,userPrincipalName"}),
            get(f"{self._base}/mailFolders/inbox", {"$select": "id"}),
        ]
        answers = self._calls.exchange([*reads, *probes.values()])
        person, _ = [object_of(answer, call) for answer, call in zip(answers[:2], reads, strict=True)]
        for (name, call), answer in zip(probes.items(), answers[2:], strict=True):
            if answer.status == 403:
                raise Forbidden(_MEANS[name], code="mailbox_forbidden")
            if answer.status != 400:
                _is_there(answer, call)
        address = person.get("mail") or person.get("userPrincipalName") or ""
        return Owner(str(address), str(person.get("displayName") or ""), str(person["id"]))

    # Messages

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        path = self._message(_rest_id(item_id, id_form))
        (found,) = self._calls.asked(get(path, {"$select": _HEAD_FIELDS, "$expand": _EXPAND_HEAD}))
        return _head(cast(_Message, found))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        call = get(self._message(ref) + "/$value")
        try:
            (answer,) = self._calls.exchange([call], max_bytes=max_bytes, may_be_packed=False)
        except Rejected as error:
            raise rejected("message_too_large", limit=max_bytes // (1024 * 1024)) from error
        if not answer.is_success:
            object_of(answer, call)
        media_type = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        # The service says text/plain (outlook.md section 3); a maintenance page or an error in JSON must not become a message.
        if media_type not in _MIME_TYPES or not _FIELD.match(answer.content):
            raise Transient(f"{PEER} did not answer in its own language.")
        return answer.content

    def find(self, message_id: str) -> list[MessageHead]:
        bracketed = "<" + message_id.strip().strip("<>") + ">"
        condition = "internetMessageId eq '{}'".format(bracketed.replace("'", "''"))
        query = {"$filter": condition, "$select": _HEAD_FIELDS, "$expand": _EXPAND_HEAD, "$top": "50"}
        heads = [_head(cast(_Message, item)) for item in self._calls.listed(get(self._base + "/messages", query))]
        return sorted(heads, key=lambda head: head.received_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        path = self._message(ref)
        read = get(path, {"$select": "id,categories"})
        return marking.mark(self._calls, path, lambda: self._calls.asked(read)[0], partial(_merged, mark, reason, names))

    def set_marks(
        self, refs: Collection[str], mark: MarkId | None, *, names: Mapping[MarkId, str]
    ) -> Mapping[str, Marked | SsiError]:
        return marking.mark_many(self._calls, self._base + "/messages", refs, partial(_merged, mark, None, names))

    def move(self, ref: str, to: str) -> None:
        path = self._message(ref)
        target = {"inbox": "inbox", "sent": "sentitems"}.get(to) or segment(to)
        for _ in range(TRIES):
            message, folder = self._calls.asked(
                get(path, {"$select": "id,parentFolderId"}), get(f"{self._base}/mailFolders/{target}", {"$select": "id"})
            )
            if message.get("parentFolderId") == folder["id"]:
                return
            try:
                self._calls.written(write("POST", path + "/move", {"destinationId": folder["id"]}))
            except Unknown as error:
                last = error
            else:
                return
        raise Transient(f"{PEER} did not confirm the move.") from last

    def _message(self, ref: str) -> str:
        return f"{self._base}/messages/{segment(ref)}"

    # The product's categories and folders

    def categories(self) -> list[Category]:
        found = self._calls.listed(get(self._base + "/outlook/masterCategories"))
        return [Category(category["id"], category["displayName"]) for category in map(_as_category, found)]

    def ensure_marks(
        self, names: Mapping[MarkId, str], *, known: Mapping[MarkId, str] | None = None
    ) -> Mapping[MarkId, Category]:
        for _ in range(TRIES):
            found = self._calls.listed(get(self._base + "/outlook/masterCategories"))
            existing = {category["displayName"].casefold(): category for category in map(_as_category, found)}
            spelled: dict[MarkId, Category] = {}
            for mark, name in names.items():
                try:
                    spelled[mark] = self._ensure_mark(mark, name, existing)
                except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                    last: Exception = error
            if len(spelled) == len(names):
                return spelled
        raise Transient(f"The categories could not be created in {PEER}.") from last

    def _ensure_mark(self, mark: MarkId, name: str, existing: Mapping[str, _Category]) -> Category:
        """Create or recolour one category."""
        known = (name, MARKS[mark].name, *MARKS[mark].aliases)
        found = next((existing[n.casefold()] for n in known if n.casefold() in existing), None)
        color = MARKS[mark].color
        path = f"{self._base}/outlook/masterCategories"
        if found is None:
            made = self._calls.written(write("POST", path, {"displayName": name, "color": color}))
            return Category(str(made.get("id", "")), name)
        if found["color"] != color:
            self._calls.written(write("PATCH", f"{path}/{segment(found['id'])}", {"color": color}))
        return Category(found["id"], found["displayName"])

    def ensure_folders(
        self, names: Mapping[FolderId, str], *, known: Mapping[FolderId, str] | None = None
    ) -> Mapping[FolderId, Folder]:
        for _ in range(TRIES):
            mail, contacts = self._folders()
            ours: dict[FolderId, Folder] = {}
            for identifier, name in names.items():
                there, path = (mail, "mailFolders") if identifier == "emails" else (contacts, "contactFolders")
                chosen = _chosen(there, (name, FOLDERS[identifier]), (known or {}).get(identifier, ""))
                try:
                    ours[identifier] = chosen if isinstance(chosen, Folder) else self._name_folder(path, name, chosen)
                except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                    last: Exception = error
            if len(ours) == len(names):
                return ours
        raise Transient(f"The folders could not be created in {PEER}.") from last

    def _folders(self) -> tuple[dict[str, str], dict[str, str]]:
        """Return the names of the folders of mail and of contacts that the mailbox has at the top, by their refs."""
        options = {"$select": "id,displayName", "$top": LIST_PAGE}
        pages = self._calls.asked(*(get(f"{self._base}/{kind}", options) for kind in ("mailFolders", "contactFolders")))
        mail, contacts = ({str(f["id"]): str(f["displayName"]) for f in self._calls.rest_of(page)} for page in pages)
        return mail, contacts

    def _name_folder(self, path: str, name: str, ref: str) -> Folder:
        """Give the folder this name, or create one if there is no ref. Raises: AlreadyExists, NotFound, Unknown."""
        method, path = ("PATCH", f"{self._base}/{path}/{segment(ref)}") if ref else ("POST", f"{self._base}/{path}")
        named = self._calls.written(write(method, path, {"displayName": name}))
        return Folder(str(named["id"]), str(named["displayName"]))

    # Changes

    def changes(
        self,
        cursor: str | None,
        *,
        folders: Mapping[FolderId, str],
        marks: Mapping[MarkId, str] | None = None,
        known: Known = nothing_known,
    ) -> Changes:
        return rounds.page(self._calls, self._base, cursor, folders, frozenset((marks or {}).values()), known, self._now())

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        return self._people.contact(ref)

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        return self._people.find(folder, link)

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        return self._people.create(folder, contact, link)

    def create_contacts(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        return self._people.create_many(folder, new)

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        return self._people.update(ref, contact, etag, link)

    def update_contacts(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        return self._people.update_many(edits)

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        return self._people.set_mark(ref, partial(_merged, mark, reason, names))

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        return self._people.move(ref, folder, etag)

    def delete_contact(self, ref: str, *, etag: str) -> None:
        self._people.delete(ref, etag)

    # Notifications

    def subscribe(self, hook: Hook, *, folders: Mapping[FolderId, str]) -> Subscription:
        return hooks.subscribe(self._calls, self._base, hook, folders, self._now())

    def renew(self, subscription: Subscription) -> Subscription:
        return hooks.renew(self._calls, subscription, self._now())

    def unsubscribe(self, subscription: Subscription) -> None:
        hooks.unsubscribe(self._calls, subscription)

    def verify(self, subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
        return hooks.notices(subscription, hook, body)


def _is_there(answer: Answer, call: Call) -> None:
    """Raises: what the answer says, unless it says that what was asked for is not there."""
    try:
        object_of(answer, call)
    except NotFound:
        return


def _chosen(existing: Mapping[str, str], names: tuple[str, str], known: str) -> Folder | str:
    """Return which folder is ours: one that has the name, the English one, or had it; else the ref of one to be renamed or ""."""
    low = [name.casefold() for name in names]
    by_name = {name.casefold(): ref for ref, name in reversed(list(existing.items()))}
    found = known if existing.get(known, "").casefold() in low else next((by_name[n] for n in low if n in by_name), "")
    if found:
        return Folder(found, existing[found])
    return known if known in existing else ""


def _merged(mark: MarkId | None, reason: str | None, names: Mapping[MarkId, str], current: list[str]) -> list[str]:
    return merged(current, mark, reason, names)


def _rest_id(item_id: str, id_form: IdForm) -> str:
    """Return the id as Graph takes it: an EWS id with "/" as "-" and "+" as "_", as Office.js's convertToRestId does."""
    if id_form == "gmail":
        raise InvalidInput("id_form", "This mailbox is not at Google.")
    return item_id.replace("/", "-").replace("+", "_") if id_form == "ews" else item_id


def _head(message: _Message) -> MessageHead:
    extended = {p["id"].split()[0].lower(): p["value"] for p in message.get("singleValueExtendedProperties") or []}
    size = extended.get("integer", "")
    return MessageHead(
        ref=message["id"],
        etag=message.get("@odata.etag", ""),
        message_id=message.get("internetMessageId"),
        subject=message.get("subject") or "",
        item_class=extended.get("string", ""),  # the ids come back in another spelling, but we asked for one of each type
        size_bytes=int(size) if size.isdecimal() else None,
        received_at=moment(message.get("receivedDateTime")),
        categories=tuple(message.get("categories", [])),
        has_attachments=bool(message.get("hasAttachments")),
        conversation=message.get("conversationId") or "",
    )


def _as_category(item: Mapping[str, Any]) -> _Category:
    return {"id": str(item["id"]), "displayName": item.get("displayName") or "", "color": item.get("color") or "none"}
