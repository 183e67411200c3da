"""The messages of a mailbox at Exchange: found by refs that survive a move, read, marked and moved.

The ref of a message is its search key (PidTagSearchKey, MS-OXCPRPT 2.2.1.9). Item ids, which change when a message moves, are
remembered beside it, and looked up in all folders when they no longer hold. A copy that a user makes of a message has the same
search key: of several, the one whose item id was seen last is meant, else the newest.

MIME comes in base64 within XML: the limit stops the transfer, but a message of n bytes needs up to three times n of memory
while it is read, since exchangelib parses an answer as a whole.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TypeVar

from lxml import etree

from server.domain.sentences import rejected
from server.errors import Conflict, InvalidInput, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail import IdForm, Marked, MessageChange, MessageHead, Place
from server.mail.exchange.ews import WRITTEN_AT_ONCE, Client, M, Raw, T, is_equal, moment, search_key_path, shape, xml
from server.mail.exchange.failures import PEER
from server.mail.hosts import TooLarge

TRIES = 3  # of read, merge and write, when others change the same thing
FOLDERS_AT_ONCE = 100  # in which one request searches
LOOKED_UP_AT_ONCE = 50  # items in one search; its restriction can be too long (ErrorRestrictionTooLong), no page says when
KEPT_IDS = 2000  # item ids that are remembered by ref

_MESSAGES = frozenset(
    {"Message", "MeetingMessage", "MeetingRequest", "MeetingResponse", "MeetingCancellation", "PostItem", "Item"}
)
_HEAD = (
    *("message:InternetMessageId", "item:Subject", "item:ItemClass", "item:DateTimeReceived", "item:Categories"),
    *("item:HasAttachments", "item:ConversationId", "item:Size", "item:ParentFolderId"),
)
LISTED = ("item:Categories", "item:DateTimeReceived", "item:ConversationId")
"""What `Messages.listed` reads of an item, beside its search key."""
_ITEM_ID = re.compile(r"[A-Za-z0-9+/=]{1,1024}\Z")
_REF = re.compile(r"[A-Za-z0-9_-]{1,1024}\Z")
_MAIL_FOLDERS = ("IPF.Note", "IPF.Imap")  # classes of folders that hold messages; some clients set none

Result = TypeVar("Result")
Wanted = Callable[[Iterable[str]], list[str]]


class Messages:
    """Reads and writes messages by `client`."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._item_ids: dict[str, str] = {}  # by ref, as last seen

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        if id_form == "gmail":
            raise InvalidInput("id_form", "This mailbox is not at Google.")
        if item_id in self._item_ids:  # a ref of ours
            return self._head(self._item(item_id))
        # Office.js's convertToRestId writes "-" for "/" and "_" for "+"; an EWS id has neither.
        ews_id = item_id.replace("-", "/").replace("_", "+")
        if not _ITEM_ID.match(ews_id):
            raise NotFound("The mailbox holds no such message.")
        try:
            return self._head(self._by_id(ews_id, *_HEAD, search_key_path()))
        except NotFound:
            return self._head(self._item(item_id))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        too_large = rejected("message_too_large", limit=max_bytes // (1024 * 1024))

        def read(ews_id: str) -> bytes:
            with self._client.reading(max_bytes * 4 // 3 + 64 * 1024):
                return base64.b64decode(self._by_id(ews_id, "item:MimeContent").findtext(f"{T}MimeContent") or "")

        try:
            content = self._at(ref, read)
        except Rejected as error:
            if isinstance(error.__cause__, TooLarge):
                raise too_large from error
            raise
        except binascii.Error as error:
            raise Transient(f"{PEER} did not answer in its own language.") from error
        if len(content) > max_bytes:
            raise too_large
        return content

    def find(self, message_id: str) -> list[MessageHead]:
        bracketed = "<" + message_id.strip().strip("<>") + ">"
        if not bracketed.isprintable():
            return []
        found = self._search(is_equal(xml("t:FieldURI", FieldURI="message:InternetMessageId"), bracketed))
        heads = [self._head(item) for item in found]
        return [head for head in heads if head.message_id == bracketed][::-1]  # Exchange may not mind upper and lower case

    def mark(self, refs: Iterable[str], wanted: Wanted) -> dict[str, Marked | SsiError]:
        """Give messages the categories that are wanted instead of those they have; those that clash are read again."""
        every, outcome = list(dict.fromkeys(refs)), dict[str, Marked | SsiError]()
        for start in range(0, len(every), WRITTEN_AT_ONCE):
            waiting = every[start : start + WRITTEN_AT_ONCE]
            for _ in range(TRIES):
                outcome |= self._marked(waiting, wanted)
                waiting = [ref for ref in waiting if isinstance(outcome[ref], Conflict | Unknown)]
                if not waiting:
                    break
        return {ref: final(one) if isinstance(one, SsiError) else one for ref, one in outcome.items()}

    def _marked(self, refs: list[str], wanted: Wanted) -> dict[str, Marked | SsiError]:
        """Read and write once. What moved in between is a Conflict: by now it has another item id."""
        outcome: dict[str, Marked | SsiError] = {}
        writes: dict[str, tuple[Raw, list[str]]] = {}
        for ref, item in self._items(refs).items():
            if isinstance(item, SsiError):
                outcome[ref] = item
                continue
            current = categories(item)
            if same_names(current, wanted(current)):
                outcome[ref] = Marked(item.find(f"{T}ItemId").get("ChangeKey", ""), tuple(current))
            else:
                writes[ref] = item.find(f"{T}ItemId"), wanted(current)
        answers = self._client.update([(i, [categories_update("t:Message", names)]) for i, names in writes.values()])
        for (ref, (_, names)), answer in zip(writes.items(), answers, strict=True):
            if isinstance(answer, NotFound):
                self._item_ids.pop(ref, None)
                outcome[ref] = Conflict("The message was moved while its category was set.")
            else:
                outcome[ref] = answer if isinstance(answer, SsiError) else Marked(answer, tuple(names))
        return outcome

    def move(self, ref: str, folder: str) -> None:
        """Raises: NotFound for the message or the folder."""
        failure: SsiError = NotFound("The mailbox holds no such folder.")
        for _ in range(TRIES):
            item = self._item(ref)
            if item.find(f"{T}ParentFolderId").get("Id") == folder:
                return
            try:
                self._remember(ref, self._client.move(item.find(f"{T}ItemId"), folder).get("Id"))
                return
            except (NotFound, Unknown) as error:  # NotFound: no such folder, or somebody else moved the message
                self._item_ids.pop(ref, None)
                failure = error
        raise final(failure)

    def listed(self, item: Raw, place: Place) -> MessageChange | None:
        """Read an item in a list of `LISTED`; None if it is no message."""
        ref = _ref(item)
        if etree.QName(item).localname not in _MESSAGES or not ref:
            return None
        self._remember(ref, item.find(f"{T}ItemId").get("Id"))
        return MessageChange(ref, place, tuple(categories(item)), _received(item), _conversation(item))

    def _item(self, ref: str) -> Raw:
        return given(self._items([ref])[ref])

    def _items(self, refs: list[str]) -> dict[str, Raw | SsiError]:
        """Read messages; those whose item id no longer holds are looked up."""
        known = {ref: ews_id for ref in refs if (ews_id := self._item_ids.get(ref)) is not None}
        found: dict[str, Raw | SsiError] = {}
        if known:
            ids = xml("m:ItemIds", *(xml("t:ItemId", Id=ews_id) for ews_id in known.values()))
            answers = self._client.ask_each(xml("m:GetItem", shape(*_HEAD, search_key_path()), ids))
            for ref, answer in zip(known, answers, strict=False):
                if not isinstance(answer, NotFound):
                    found[ref] = answer if isinstance(answer, SsiError) else answer.find(f"{M}Items")[0]
        if missing := [ref for ref in refs if ref not in found]:
            found |= self._located(missing)
        return {ref: found.get(ref, NotFound("The mailbox holds no such message.")) for ref in refs}

    def _by_id(self, ews_id: str, *paths: Raw | str) -> Raw:
        """Read one message. Raises: NotFound, also for an item that is no message."""
        (found,) = self._client.ask(xml("m:GetItem", shape(*paths), xml("m:ItemIds", xml("t:ItemId", Id=ews_id))))
        items = found.find(f"{M}Items")
        if len(items) != 1 or etree.QName(items[0]).localname not in _MESSAGES:
            raise NotFound("The mailbox holds no such message.")
        return items[0]

    def _at(self, ref: str, read: Callable[[str], Result]) -> Result:
        """Read by the item id that the ref has now. Raises: NotFound."""
        known = self._item_ids.get(ref)
        if known is not None:
            try:
                return read(known)
            except NotFound:
                self._item_ids.pop(ref, None)  # it was moved, or is gone
        found = self._located([ref])
        if ref not in found:
            raise NotFound("The mailbox holds no such message.")
        return read(found[ref].find(f"{T}ItemId").get("Id"))

    def _located(self, refs: list[str]) -> dict[str, Raw]:
        """Look messages up in all folders."""
        for ref in refs:
            self._item_ids.pop(ref, None)
        conditions = [is_equal(search_key_path(), key) for ref in refs if (key := _search_key(ref))]
        groups = [conditions[n : n + LOOKED_UP_AT_ONCE] for n in range(0, len(conditions), LOOKED_UP_AT_ONCE)]
        found = self._search(*(group[0] if len(group) == 1 else xml("t:Or", *group) for group in groups))
        return {ref: item for item in found if (ref := self._head(item).ref) in refs}

    def _search(self, *restrictions: Raw) -> list[Raw]:
        """Return the messages of all mail folders that fit one of the restrictions, the oldest first."""
        folders = [xml("t:FolderId", Id=folder) for folder in self._mail_folders()] if restrictions else []
        asked = shape(*_HEAD, search_key_path())
        found: list[Raw] = []
        for restriction in restrictions:
            for start in range(0, len(folders), FOLDERS_AT_ONCE):
                some = folders[start : start + FOLDERS_AT_ONCE]
                found += self._client.search("FindItem", asked, folders=some, restriction=restriction)
        items = [item for item in found if etree.QName(item).localname in _MESSAGES]
        return sorted(items, key=lambda item: _received(item) or datetime.min.replace(tzinfo=UTC))

    def _mail_folders(self) -> list[str]:
        top, asked = self._client.folder("msgfolderroot"), shape("folder:FolderClass", of="m:FolderShape")
        found = self._client.search("FindFolder", asked, folders=[top], traversal="Deep")
        classes = {f.find(f"{T}FolderId").get("Id"): f.findtext(f"{T}FolderClass") or "" for f in found}
        return [folder for folder, kind in classes.items() if kind == "" or kind.startswith(_MAIL_FOLDERS)]

    def _remember(self, ref: str, ews_id: str) -> None:
        if len(self._item_ids) >= KEPT_IDS:
            self._item_ids.clear()
        self._item_ids[ref] = ews_id

    def _head(self, item: Raw) -> MessageHead:
        """Read what every request for a message asks for, and remember its item id."""
        ref, identifier = _ref(item), item.find(f"{T}ItemId")
        if not ref:
            raise Rejected("The message has nothing by which it could be found again.")
        self._remember(ref, identifier.get("Id"))
        size = item.findtext(f"{T}Size") or ""
        return MessageHead(
            ref=ref,
            etag=identifier.get("ChangeKey", ""),
            message_id=item.findtext(f"{T}InternetMessageId"),
            subject=item.findtext(f"{T}Subject") or "",
            item_class=item.findtext(f"{T}ItemClass") or "",
            size_bytes=int(size) if size.isdecimal() else None,
            received_at=_received(item),
            categories=tuple(categories(item)),
            has_attachments=item.findtext(f"{T}HasAttachments") == "true",
            conversation=_conversation(item),
        )


def _ref(item: Raw) -> str:
    key = item.findtext(f"{T}ExtendedProperty/{T}Value") or ""
    return base64.urlsafe_b64encode(base64.b64decode(key)).decode().rstrip("=")


def _search_key(ref: str) -> str:
    """Return the search key of a ref in base64, "" if it can be none."""
    if not _REF.match(ref):
        return ""
    try:
        return base64.b64encode(base64.urlsafe_b64decode(ref + "=" * (-len(ref) % 4))).decode()
    except binascii.Error:
        return ""


def _received(item: Raw) -> datetime | None:
    return moment(item, "DateTimeReceived")


def _conversation(item: Raw) -> str:
    found = item.find(f"{T}ConversationId")
    return found.get("Id", "") if found is not None else ""


def categories(item: Raw) -> list[str]:
    """Return the names of an item's categories."""
    return [name.text or "" for name in item.iterfind(f"{T}Categories/{T}String")]


def same_names(a: Iterable[str], b: Iterable[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}


def categories_update(item: str, names: list[str]) -> Raw:
    """Return the update that gives an item, "t:Message" or "t:Contact", just these categories."""
    path = xml("t:FieldURI", FieldURI="item:Categories")
    if not names:
        return xml("t:DeleteItemField", path)
    return xml("t:SetItemField", path, xml(item, xml("t:Categories", *(xml("t:String", name) for name in names))))


def given(outcome: Result | SsiError) -> Result:
    """Return what was given, or raise it if it is an error."""
    if isinstance(outcome, SsiError):
        raise outcome
    return outcome


def final(error: SsiError) -> SsiError:
    """Return what an error means after the last try: what is still not confirmed is read anew by whoever tries again."""
    if isinstance(error, Unknown):
        return not_confirmed()
    if isinstance(error, Conflict):
        return Conflict("Others kept changing the item while it was written.")
    return error


def not_confirmed() -> Transient:
    return Transient(f"{PEER} did not confirm what was written.")
