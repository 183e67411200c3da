"""A mailbox at Microsoft Exchange on-premises, over Exchange Web Services. Never one in Exchange Online, which is Graph's.

Signing in is either the owner's own user name and password (Direct Logon) or a service account's that impersonates the owner.
An EWS item id changes when the message moves. What stays is the search key (PidTagSearchKey, MS-OXCPRPT 2.2.1.9), so that is
the ref; item ids are remembered beside it, and looked up in all folders when they no longer hold. A copy that a user makes of
a message has the same search key: of several, the one whose item id was seen last is meant, else the newest.

Categories of a message are written with its change key and NeverOverwrite. The category list (a hidden item of the Calendar
folder, MS-OXOCFG 2.2.5.2.2) has no change key in its operations: it is read just before it is written and again after; what
another client adds to it within those few milliseconds can be lost. Throttling is waited out for a few seconds.

MIME comes in base64 within XML: the limit stops the transfer, but a message of n bytes needs up to three times n of memory
while it is read, since exchangelib parses an answer as a whole.
"""

from __future__ import annotations

import base64
import binascii
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

from exchangelib.items import ID_ONLY, NEVER_OVERWRITE, SAVE_ONLY, SEND_TO_NONE, Message
from exchangelib.properties import FolderId, ItemId, UserConfiguration, UserConfigurationName, UserConfigurationNameMNS
from exchangelib.services import CreateUserConfiguration, GetUserConfiguration, UpdateItem, UpdateUserConfiguration
from lxml import etree

from server.domain.hosts import is_exchange_online, server_url
from server.domain.marks import MARKS, MarkId, merged
from server.errors import Conflict, InvalidInput, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail import Capability, IdForm, Marked, MessageHead
from server.mail.ews import (
    FAILURES,
    PEER,
    EwsAccount,
    FindFolders,
    FindItems,
    GetItems,
    IsEqualTo,
    Login,
    Raw,
    field_paths,
    is_busy,
    translated,
    was_cut,
)
from server.mail.hosts import Guard, TooLarge

__all__ = ["ExchangeMailbox", "Login"]

ATTEMPTS = 4  # of one request while the server is busy
PATIENCE_S = 5.0  # how long one request waits in all because the server asked for a pause
TRIES = 3  # of read, merge and write, when others change the same thing
FOLDERS_AT_ONCE = 100  # in which one request searches
KEPT_IDS = 1000  # item ids that are remembered by ref

_T = "{http://schemas.microsoft.com/exchange/services/2006/types}"
_LIST = "{CategoryList.xsd}"
_MESSAGES = frozenset(
    {"Message", "MeetingMessage", "MeetingRequest", "MeetingResponse", "MeetingCancellation", "PostItem", "Item"}
)
_HEAD = ("message_id", "subject", "item_class", "datetime_received", "categories", "has_attachments", "conversation_id", "size")
_ITEM_ID = re.compile(r"[A-Za-z0-9+/=]{1,1024}\Z")
_REF = re.compile(r"[A-Za-z0-9_-]{1,1024}\Z")
_MAIL_FOLDERS = ("IPF.Note", "IPF.Imap")  # classes of folders that hold messages; some clients set none
_NEVER_USED = "1601-01-01T00:00:00.000"

Result = TypeVar("Result")


class ExchangeMailbox:
    """Implements `server.mail.Mailbox`. Thread-safe if `get_login` is.

    `url` is the address of EWS, "https://mail.example.com/EWS/Exchange.asmx"; `address` the owner's primary SMTP address.
    `get_login` is called for each new connection. With `impersonate` it is the service account's, and the request names the
    owner. `in_flight` is entered for each request.

    Raises: InvalidInput if `url` is no address of a server, or one of Exchange Online.
    """

    capabilities: frozenset[Capability] = frozenset({"categories", "colors"})

    def __init__(
        self,
        guard: Guard,
        *,
        url: str,
        address: str,
        get_login: Callable[[], Login],
        impersonate: bool = False,
        in_flight: AbstractContextManager[object] | None = None,
        deadline_s: float = 30.0,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        checked = server_url(url, "ews_url")
        if is_exchange_online(checked.hostname or ""):
            raise InvalidInput("ews_url", "This is Exchange Online, whose mailboxes are connected as Microsoft 365.")
        self._account = EwsAccount(
            address, url=checked.geturl(), guard=guard, get_login=get_login, impersonate=impersonate, deadline_s=deadline_s
        )
        self._in_flight = in_flight if in_flight is not None else nullcontext()
        self._sleep = sleep
        self._item_ids: dict[str, str] = {}  # by ref, as last seen
        self._listing = threading.Lock()  # two threads of ours must not race for the category list

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
            return self._head(self._by_id(ews_id, *_HEAD, search_key=True))
        except NotFound:
            return self._head(self._item(item_id))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        too_large = f"The message is larger than {max_bytes // (1024 * 1024)} MB."

        def read(ews_id: str) -> bytes:
            with self._account.protocol.reading(max_bytes * 4 // 3 + 64 * 1024):
                return base64.b64decode(self._by_id(ews_id, "mime_content").findtext(f"{_T}MimeContent") or "")

        try:
            content = self._at(ref, read)
        except Rejected as error:
            if isinstance(error.__cause__, TooLarge):
                raise Rejected(too_large) from error
            raise
        except binascii.Error as error:
            raise Transient(f"{PEER} did not answer in its own language.") from error
        if len(content) > max_bytes:
            raise Rejected(too_large)
        return content

    def find(self, message_id: str) -> list[MessageHead]:
        bracketed = "<" + message_id.strip().strip("<>") + ">"
        heads = self._search(IsEqualTo.message_id(bracketed))
        return [head for head in heads if head.message_id == bracketed]  # Exchange may not mind upper and lower case

    def ensure_marks(self, names: Mapping[MarkId, str]) -> Mapping[MarkId, str]:
        last: Exception | None = None
        with self._listing:
            for _ in range(TRIES):
                listing, is_there = self._category_list()
                spelled, is_complete = _with_marks(listing, names)
                if is_complete:
                    return spelled
                try:
                    self._write_category_list(listing, is_there=is_there)
                except (Unknown, NotFound, Conflict) as error:  # the answer was lost, or another client was faster
                    last = error
        raise Transient(f"The categories could not be created in {PEER}.") from last

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        failure: Exception | None = None
        for _ in range(TRIES):
            item = self._item(ref)
            identifier, current = item.find(f"{_T}ItemId"), _categories(item)
            wanted = merged(current, mark, reason, names)
            if _same_names(current, wanted):
                return Marked(identifier.get("ChangeKey", ""), tuple(current))
            try:
                change_key = self._write_categories(identifier.get("Id"), identifier.get("ChangeKey"), wanted)
            except NotFound as error:  # moved in between: its id is another one now
                self._item_ids.pop(ref, None)
                failure = error
            except (Conflict, Unknown) as error:
                failure = error
            else:
                return Marked(change_key, tuple(wanted))
        if isinstance(failure, Unknown):
            raise Transient(f"{PEER} did not confirm the category.") from failure
        raise Conflict("Others kept changing the message while its category was set.") from failure

    def _write_categories(self, ews_id: str, change_key: str, names: list[str]) -> str:
        """Return the new change key. Raises: Conflict if the one given is no longer the item's."""
        target = Message(id=ews_id, changekey=change_key, categories=names)

        def write() -> Iterable[Raw]:
            written: Iterable[Raw] = UpdateItem(account=self._account).call(
                items=[(target, ["categories"])],
                conflict_resolution=NEVER_OVERWRITE,
                message_disposition=SAVE_ONLY,
                send_meeting_invitations_or_cancellations=SEND_TO_NONE,
                suppress_read_receipts=True,
            )
            return written

        written = self._ask(write, changes=True)
        if len(written) != 1 or not written[0][1]:
            raise Unknown(f"{PEER} did not confirm; whether it acted is not known yet.")
        return str(written[0][1])

    def _item(self, ref: str) -> Raw:
        return self._at(ref, lambda ews_id: self._by_id(ews_id, *_HEAD, search_key=True))

    def _by_id(self, ews_id: str, *names: str, search_key: bool = False) -> Raw:
        """Read one message. Raises: NotFound, also for an item that is no message."""
        fields = field_paths(*names, search_key=search_key)
        service = GetItems(account=self._account)
        found = self._ask(lambda: service.call(items=[ItemId(id=ews_id)], additional_fields=fields, shape=ID_ONLY))
        if len(found) != 1 or etree.QName(found[0]).localname not in _MESSAGES:
            raise NotFound("The mailbox holds no such message.")
        return found[0]

    def _at(self, ref: str, read: Callable[[str], Result]) -> Result:
        """Read by the item id that the ref has now. Raises: NotFound."""
        known = self._item_ids.get(ref)
        if known is not None:
            try:
                return read(known)
            except NotFound:
                self._item_ids.pop(ref, None)  # it was moved, or is gone
        return read(self._locate(ref))

    def _locate(self, ref: str) -> str:
        """Look a message up in all folders. Raises: NotFound."""
        try:
            key = base64.urlsafe_b64decode(ref + "=" * (-len(ref) % 4)) if _REF.match(ref) else b""
        except binascii.Error:
            key = b""
        if not key or not self._search(IsEqualTo.search_key(base64.b64encode(key).decode())):
            raise NotFound("The mailbox holds no such message.")
        try:
            return self._item_ids[ref]
        except KeyError:
            raise NotFound("The mailbox holds no such message.") from None

    def _search(self, restriction: IsEqualTo) -> list[MessageHead]:
        """Return the messages of all mail folders that fit, the newest first; of copies the newest one's id is remembered."""
        folders = [FolderId(id=folder) for folder in self._mail_folders()]
        service = FindItems(account=self._account)
        fields = field_paths(*_HEAD, search_key=True)
        found: list[Raw] = []
        for start in range(0, len(folders), FOLDERS_AT_ONCE):
            some = folders[start : start + FOLDERS_AT_ONCE]
            found += self._ask(partial(service.where, restriction, folders=some, fields=fields), may_lack=True)
        items = [item for item in found if etree.QName(item).localname in _MESSAGES]
        items.sort(key=lambda item: _received(item) or datetime.min.replace(tzinfo=UTC))
        return [self._head(item) for item in items][::-1]

    def _mail_folders(self) -> list[str]:
        service, top = FindFolders(account=self._account), self._account.folder("msgfolderroot")
        found = self._ask(lambda: service.below(top))
        classes = {f.find(f"{_T}FolderId").get("Id"): f.findtext(f"{_T}FolderClass") or "" for f in found}
        return [folder for folder, kind in classes.items() if kind == "" or kind.startswith(_MAIL_FOLDERS)]

    def _head(self, item: Raw) -> MessageHead:
        """Read what every request for a message asks for, and remember its item id."""
        identifier, key = item.find(f"{_T}ItemId"), item.findtext(f"{_T}ExtendedProperty/{_T}Value") or ""
        if not key:
            raise Rejected("The message has nothing by which it could be found again.")
        ref = base64.urlsafe_b64encode(base64.b64decode(key)).decode().rstrip("=")
        if len(self._item_ids) >= KEPT_IDS:
            self._item_ids.clear()
        self._item_ids[ref] = identifier.get("Id")
        conversation, size = item.find(f"{_T}ConversationId"), item.findtext(f"{_T}Size") or ""
        return MessageHead(
            ref=ref,
            etag=identifier.get("ChangeKey", ""),
            message_id=item.findtext(f"{_T}InternetMessageId"),
            subject=item.findtext(f"{_T}Subject") or "",
            item_class=item.findtext(f"{_T}ItemClass") or "",
            size_bytes=int(size) if size.isdecimal() else None,
            received_at=_received(item),
            categories=tuple(_categories(item)),
            has_attachments=item.findtext(f"{_T}HasAttachments") == "true",
            conversation=conversation.get("Id", "") if conversation is not None else "",
        )

    def _category_list(self) -> tuple[etree._Element, bool]:
        """Return the root of the category list, and whether the mailbox has one already."""
        service, name = GetUserConfiguration(account=self._account), UserConfigurationNameMNS(**self._list_name)
        try:
            found = self._ask(lambda: service.call(user_configuration_name=name, properties="XmlData"))
        except NotFound:
            empty = {"default": "", "lastSavedSession": "0"}
            return etree.Element(f"{_LIST}categories", empty, nsmap={None: "CategoryList.xsd"}), False
        parser = etree.XMLParser(resolve_entities=False, no_network=True)
        try:
            return etree.fromstring(found[0].xml_data or b"", parser), True
        except etree.XMLSyntaxError as error:
            raise Rejected(f"The list of categories in {PEER} cannot be read.") from error

    def _write_category_list(self, listing: etree._Element, *, is_there: bool) -> None:
        service = (UpdateUserConfiguration if is_there else CreateUserConfiguration)(account=self._account)
        document = etree.tostring(listing, xml_declaration=True, encoding="utf-8")
        changed = UserConfiguration(user_configuration_name=UserConfigurationName(**self._list_name), xml_data=document)
        self._ask(lambda: service.call(user_configuration=changed), changes=True)

    @property
    def _list_name(self) -> dict[str, Raw]:
        return {"name": "CategoryList", "folder": self._account.folder("calendar")}

    def _ask(self, ask: Callable[[], Iterable[Raw]], *, changes: bool = False, may_lack: bool = False) -> list[Raw]:
        """Send a request, again while the server is busy for a short time or once if a read broke off; return what it gave.

        With `may_lack` the parts that are not there are left out. Raises: what `translated` makes of a failure.
        """
        waited, was_repeated = 0.0, False
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self._in_flight:
                    found = list(ask())
                _check_parts(found, may_lack)
                break
            except FAILURES as error:
                failure = translated(error, changes=changes)
                repeats = was_cut(error) and not changes and not was_repeated
                waits = is_busy(error, changes=changes)
            pause = 0.0 if repeats else _pause(failure, attempt)
            if not (repeats or waits) or attempt == ATTEMPTS or waited + pause > PATIENCE_S:
                raise failure
            if waits:
                self._sleep(pause)
                waited += pause
            was_repeated = was_repeated or repeats
        if self._account.is_online:
            raise Rejected("The mailbox is in Exchange Online and has to be connected as Microsoft 365.")
        return [part for part in found if not isinstance(part, Exception)]


def _pause(failure: SsiError, attempt: int) -> float:
    """Return for how many seconds to wait: as long as the server wishes, else longer with each attempt."""
    wished = failure.retry_after_s if isinstance(failure, Transient) else None
    return 0.25 * 2**attempt if wished is None else wished


def _check_parts(found: list[Raw], may_lack: bool) -> None:
    """exchangelib gives some errors back as parts of its answer. Raises: the first that counts."""
    for part in found:
        if isinstance(part, Exception) and not (may_lack and isinstance(translated(part, changes=False), NotFound)):
            raise part


def _received(item: Raw) -> datetime | None:
    text = item.findtext(f"{_T}DateTimeReceived")
    return datetime.fromisoformat(text).astimezone(UTC) if text else None


def _categories(item: Raw) -> list[str]:
    return [name.text or "" for name in item.iterfind(f"{_T}Categories/{_T}String")]


def _same_names(a: Iterable[str], b: Iterable[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}


def _with_marks(listing: etree._Element, names: Mapping[MarkId, str]) -> tuple[dict[MarkId, str], bool]:
    """Add to the list what is missing and restore our colours; all else in it stays as it is.

    Returns the names as the list spells them, and whether nothing had to be changed.
    """
    existing = {(row.get("name") or "").casefold(): row for row in listing.iterfind(f"{_LIST}category")}
    spelled: dict[MarkId, str] = {}
    is_complete = True
    for mark, name in names.items():
        known = (name, MARKS[mark].name, *MARKS[mark].aliases)
        row = next((existing[n.casefold()] for n in known if n.casefold() in existing), None)
        color = MARKS[mark].color.removeprefix("preset")  # outlook.md section 4: the number of the preset, -1 for none
        if row is None:
            row = etree.SubElement(listing, f"{_LIST}category", _new_row(name, color))
            existing[name.casefold()] = row
            is_complete = False
        elif row.get("color") != color:
            row.set("color", color)
            is_complete = False
        spelled[mark] = row.get("name") or ""
    return spelled, is_complete


def _new_row(name: str, color: str) -> dict[str, str]:
    """The attributes of a category that nobody used yet (MS-OXOCFG 2.2.5.2.2)."""
    row = {"name": name, "color": color, "keyboardShortcut": "0", "usageCount": "0"}
    row |= {"lastTimeUsed": _NEVER_USED, "lastSessionUsed": "0"}
    return row | {"guid": f"{{{str(uuid.uuid4()).upper()}}}", "renameOnFirstUse": "0"}
