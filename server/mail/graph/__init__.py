"""A mailbox at Microsoft 365 or Outlook.com, over Microsoft Graph v1.0.

Refs are Graph's immutable ids, which survive a move; those of contacts, too. Categories are merged (`graph.marks`), contacts
are written field by field (`graph.contacts`), so that only what differs can meet another writer, and with the etag. If-Match
on a contact is not documented; where the service should ignore it, what another writer does to the same field between our
reading and our writing, one round trip, is overwritten.

Contacts have no action to move them. By the documentation their parentFolderId can be changed (page contact-update), which
does not say that this moves them; where the service does not, the contact is created anew in the other folder and the old one
is deleted. Its photo, attachments, and what other programs keep in open extensions and extended properties do not come along
then; the old one, in Deleted Items, still has them.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypedDict, cast

from server.domain.contact import Contact
from server.domain.marks import FOLDERS, MARKS, FolderId, MarkId, merged
from server.errors import (
    AlreadyExists,
    Conflict,
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
    ContactItem,
    Folder,
    Hook,
    IdForm,
    Marked,
    MessageHead,
    Notice,
    Owner,
    Subscription,
)
from server.mail.graph import changes as rounds, hooks, marks as marking
from server.mail.graph.calls import PEER, Answer, Call, Calls, Elsewhere, done, get, object_of, segment, write
from server.mail.graph.contacts import EXPAND, FIELDS, changed, copied, created, has_link, item_of
from server.transport import Gateway

TRIES = 3  # of read, merge and write, when others change the same thing
SETTLING_S = (0.5, 2.0)  # pauses after which we look what a request did whose answer was lost
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
        self._base = base
        self._now = now
        self._trash = ""  # ref of Deleted Items, once it is known; it never changes

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
            raise Rejected(f"The message is larger than {max_bytes // (1024 * 1024)} MB.") from error
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

    def changes(self, cursor: str | None, *, folders: Mapping[FolderId, str]) -> Changes:
        return rounds.page(self._calls, self._base, cursor, folders, self._now())

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        return item_of(self._found(ref))

    def _found(self, ref: str, *also: Call, fields: str = FIELDS) -> dict[str, Any]:
        """Return what Graph has of a contact; what is `also` asked for has to be there, too.

        An immutable id finds a contact in Deleted Items as well, where it is not there any more for us.

        Raises: NotFound.
        """
        options = {"$expand": EXPAND} | ({"$select": fields} if fields else {})
        calls = [get(self._contact(ref), options), *also]
        if not self._trash:
            calls.append(get(self._base + "/mailFolders/deleteditems", {"$select": "id"}))
        found, *others = self._calls.asked(*calls)
        self._trash = self._trash or str(others[-1]["id"])
        if found.get("parentFolderId") == self._trash:
            raise NotFound("The contact was deleted.")
        return found

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        query = {"$filter": has_link(link), "$select": FIELDS, "$expand": EXPAND, "$top": LIST_PAGE}
        found = self._calls.listed(get(self._folder(folder) + "/contacts", query))
        items = [item_of(one, folder=folder) for one in found if one.get("parentFolderId") in (folder, None)]
        return next((item for item in items if item.link == link), None)

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        return self._create(folder, created(contact, link), link)

    def _create(self, folder: str, body: Mapping[str, Any], link: str) -> ContactItem:
        """Create a contact; when the answer is lost, its link says whether it is there.

        It is created again only if it is not to be seen for a while: a request that breaks off has acted by then, or never will.

        Raises: as `create_contact`.
        """
        call = write("POST", self._folder(folder) + "/contacts", body)
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                return item_of(self._calls.written(call), folder=folder, more=body)
            except Unknown as error:
                lost = error
            except SsiError as error:
                if lost is None:
                    raise
                raise lost from error  # this try did nothing, but an earlier one may have
            if not link:
                break
            there = self._settled(folder, link, lost)
            if there is not None:
                return there
        raise lost or Unknown(f"{PEER} did not confirm the contact.")

    def _settled(self, folder: str, link: str, lost: Unknown) -> ContactItem | None:
        """Look for a while whether the contact is there. Raises: `lost` where we cannot look: whether it is, is still open."""
        try:
            for pause in SETTLING_S:
                self._calls.pause(pause)
                there = self.find_contact(folder, link)
                if there is not None:
                    return there
        except SsiError as error:
            raise lost from error
        return None

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        lost: Unknown | None = None
        for _ in range(TRIES):
            found = self._found(ref)
            body = changed(found, contact, link)
            if not body and (lost or found.get("@odata.etag") == etag):
                return item_of(found)
            _check(found, etag)
            try:
                written = self._calls.written(write("PATCH", self._contact(ref), body, if_match=etag))
            except Unknown as error:
                lost = error
                continue
            if written.get("parentFolderId") == self._trash:
                raise NotFound("The contact was deleted.")
            return item_of(written, more=_extended_after(found, body))
        raise Transient(f"{PEER} did not confirm the contact.") from lost

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        def read() -> Mapping[str, Any]:
            return self._found(ref, fields="id,parentFolderId,categories")

        return marking.mark(self._calls, self._contact(ref), read, partial(_merged, mark, reason, names))

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        target = get(self._folder(folder), {"$select": "id"})
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                found = self._found(ref, target, fields="")
            except NotFound:
                copy = self.find_contact(folder, _moving(ref))
                if copy is None:
                    raise
                return self._unlinked(copy)  # an earlier try broke off behind the delete
            if found.get("parentFolderId") == folder and (lost or found.get("@odata.etag") == etag):
                return item_of(found)
            _check(found, etag)
            try:
                moved = self._calls.written(write("PATCH", self._contact(ref), {"parentFolderId": folder}, if_match=etag))
            except Unknown as error:
                lost = error
                continue
            except Rejected as error:
                if isinstance(error, Elsewhere):
                    raise
                return self._move_by_copy(found, folder)
            if moved.get("parentFolderId") == folder:
                return item_of(moved, more=found)
            return self._move_by_copy(moved | _extended_of(found), folder)
        raise Transient(f"{PEER} did not confirm the move.") from lost

    def _move_by_copy(self, found: Mapping[str, Any], folder: str) -> ContactItem:
        """Create the contact in the other folder and delete this one; a copy that an earlier try left there is taken."""
        original = item_of(found)
        link = original.link or _moving(original.ref)  # without any, the next try would copy once more
        copy = self.find_contact(folder, link)
        if copy is None:
            try:
                copy = self._create(folder, copied(found, link), link)
            except Unknown as error:  # the next try looks for it
                raise Transient(f"{PEER} did not confirm the move.") from error
        else:
            copy = self.update_contact(copy.ref, original.contact, etag=copy.etag)
        try:
            self.delete_contact(original.ref, etag=original.etag)
        except Conflict:  # it is not the one that was copied: both, or nothing moved
            self.delete_contact(copy.ref, etag=copy.etag)
            raise
        return copy if original.link else self._unlinked(copy)

    def _unlinked(self, copy: ContactItem) -> ContactItem:
        """Take the link from a copy that had it only while it was made."""
        for _ in range(TRIES):
            try:
                return self.update_contact(copy.ref, copy.contact, etag=copy.etag, link="")
            except Conflict as error:
                last = error
            copy = self.contact(copy.ref)
        raise Transient(f"{PEER} did not confirm the move.") from last

    def delete_contact(self, ref: str, *, etag: str) -> None:
        lost: Unknown | None = None
        for _ in range(TRIES):
            try:
                _check(self._found(ref, fields="id,parentFolderId"), etag)
                call = write("DELETE", self._contact(ref), if_match=etag)
                done(self._calls.exchange([call])[0], call)
            except Unknown as error:
                lost = error
            except NotFound:
                return
            else:
                return
        raise Transient(f"{PEER} did not confirm that the contact is deleted.") from lost

    def _contact(self, ref: str) -> str:
        return f"{self._base}/contacts/{segment(ref)}"

    def _folder(self, ref: str) -> str:
        return f"{self._base}/contactFolders/{segment(ref)}"

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


def _moving(ref: str) -> str:
    """Return the link of a copy that is made to move a contact without one."""
    return "move:" + hashlib.sha256(ref.encode()).hexdigest()[:32]


def _merged(mark: MarkId | None, reason: str | None, names: Mapping[MarkId, str], current: list[str]) -> list[str]:
    return merged(current, mark, reason, names)


def _check(found: Mapping[str, Any], etag: str) -> None:
    if found.get("@odata.etag") != etag:
        raise Conflict("The contact was changed by somebody else.")


def _extended_of(found: Mapping[str, Any]) -> dict[str, Any]:
    return {"singleValueExtendedProperties": found.get("singleValueExtendedProperties") or []}


def _extended_after(found: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the extended properties that a contact has after the body was written to it; the later one of two counts."""
    both = (*_extended_of(found)["singleValueExtendedProperties"], *_extended_of(body)["singleValueExtendedProperties"])
    return {"singleValueExtendedProperties": list(both)}


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
        received_at=rounds.moment(message.get("receivedDateTime")),
        categories=tuple(message.get("categories", [])),
        has_attachments=bool(message.get("hasAttachments")),
        conversation=message.get("conversationId") or "",
    )


def _as_category(item: Mapping[str, Any]) -> _Category:
    return {"id": str(item["id"]), "displayName": item.get("displayName") or "", "color": item.get("color") or "none"}
