"""A mailbox at Microsoft Exchange on-premises, over Exchange Web Services. Never one in Exchange Online, which is Graph's.

Signing in is either the owner's own user name and password (Direct Logon) or a service account's that impersonates the owner.
A message is known by what stays when it moves (`exchange.messages`). A contact is known by its item id, which does not: one that
moves is another contact in another folder.

Items are written with their change key and NeverOverwrite. MoveItem and DeleteItem do not look at the change key (their pages
name no way to have it compared), so it is compared just before. The category list has none in its operations: it is read just
before it is written and again after; what another client adds to it within those few milliseconds can be lost.
"""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from datetime import UTC, datetime

from lxml import etree

from server.domain.contact import Contact
from server.domain.hosts import is_exchange_online, server_url
from server.domain.marks import FolderId, MarkId, merged
from server.errors import AlreadyExists, Conflict, Forbidden, InvalidInput, NotFound, Rejected, SsiError, Transient, Unknown
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
from server.mail.exchange import categories as exchange_categories, folders as exchange_folders
from server.mail.exchange.changes import Rounds
from server.mail.exchange.contacts import Found, contact_shape, ews_id_of, link_path, new_contact, read, ref_of, updates
from server.mail.exchange.ews import Client, EwsAccount, Login, M, Raw, T, is_equal, search_key_path, shape, xml
from server.mail.exchange.failures import PEER, may_still_act
from server.mail.exchange.messages import TRIES, Messages, categories_update, final, given, not_confirmed, same_names
from server.mail.hosts import Guard

__all__ = ["ExchangeMailbox", "Login"]

SETTLING_S = 1.0  # after which a contact that was not seen at once is looked for again

_CONTACT_REF = re.compile(r"[A-Za-z0-9_=-]{1,1024}\Z")
_PLACES: Mapping[str, str] = {"inbox": "inbox", "sent": "sentitems"}
_NEEDED: Mapping[str, tuple[str, ...]] = {  # what the product does where, by the rights that GetFolder tells
    "msgfolderroot": ("Read", "CreateHierarchy"),
    "inbox": ("Read", "Modify"),
    "calendar": ("Read", "Modify"),  # where the category list lies
    "contacts": ("Read", "Modify", "CreateContents", "CreateHierarchy", "Delete"),
}


class ExchangeMailbox:
    """Implements `server.mail.Mailbox`. Thread-safe if `get_login` is.

    `url` is the address of EWS, "https://mail.example.com/EWS/Exchange.asmx"; `address` the owner's primary SMTP address.
    `get_login` is called for each new connection. With `impersonate` it is the service account's, and the request names the
    owner. `in_flight` is entered for each request.

    Raises: InvalidInput if `url` is no address of a server, or one of Exchange Online.
    """

    capabilities: frozenset[Capability] = frozenset({"categories", "colors", "renames"})

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
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        checked = server_url(url, "ews_url")
        if is_exchange_online(checked.hostname or ""):
            raise InvalidInput("ews_url", "This is Exchange Online, whose mailboxes are connected as Microsoft 365.")
        account = EwsAccount(
            address, url=checked.geturl(), guard=guard, get_login=get_login, impersonate=impersonate, deadline_s=deadline_s
        )
        self._client = Client(account, in_flight=in_flight if in_flight is not None else nullcontext(), sleep=sleep)
        self._messages = Messages(self._client)
        self._rounds = Rounds(self._client, self._messages.received, now)
        self._place_ids: dict[str, str] = {}
        self._listing = threading.Lock()  # two threads of ours must not race for the category list or the folders

    def check(self) -> Owner:
        asked = xml(
            "m:GetFolder",
            shape("folder:EffectiveRights", of="m:FolderShape"),
            xml("m:FolderIds", *map(self._client.folder, _NEEDED)),
        )
        answers = self._client.ask(asked)
        found = {name: answer.find(f"{M}Folders")[0] for name, answer in zip(_NEEDED, answers, strict=True)}
        for name, needed in _NEEDED.items():
            lacking = [right for right in needed if found[name].findtext(f"{T}EffectiveRights/{T}{right}") == "false"]
            if lacking:
                where = {"msgfolderroot": "mailbox", "calendar": "category list"}.get(name, name)
                text = f"{PEER} does not allow this account all it needs in the {where} (missing: {', '.join(lacking)})."
                raise Forbidden(text, code="mailbox_forbidden")
        address, name = self._resolved()
        return Owner(address, name, account=found["inbox"].find(f"{T}FolderId").get("Id"))  # an id of this Inbox alone

    def _resolved(self) -> tuple[str, str]:
        """Return the owner's primary address and name; who is hidden from address lists has no name here."""
        entry = xml("m:UnresolvedEntry", f"smtp:{self._client.address}")
        asked = xml("m:ResolveNames", entry, ReturnFullContactData="false", SearchScope="ActiveDirectory")
        try:
            (answer,) = self._client.ask(asked)
        except NotFound:
            return self._client.address, ""
        mailbox = answer.find(f"{M}ResolutionSet/{T}Resolution/{T}Mailbox")
        return mailbox.findtext(f"{T}EmailAddress") or self._client.address, mailbox.findtext(f"{T}Name") or ""

    # Messages

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        return self._messages.head(item_id, id_form)

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        return self._messages.mime(ref, max_bytes=max_bytes)

    def find(self, message_id: str) -> list[MessageHead]:
        return self._messages.find(message_id)

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        return given(self._messages.mark([ref], lambda current: merged(current, mark, reason, names))[ref])

    def set_marks(
        self, refs: Collection[str], mark: MarkId | None, *, names: Mapping[MarkId, str]
    ) -> Mapping[str, Marked | SsiError]:
        return self._messages.mark(refs, lambda current: merged(current, mark, None, names))

    def move(self, ref: str, to: str) -> None:
        self._messages.move(ref, self._place_id(to) if to in _PLACES else to)

    def _place_id(self, place: str) -> str:
        if place not in self._place_ids:
            named = xml("m:FolderIds", self._client.folder(_PLACES[place]))
            (found,) = self._client.ask(xml("m:GetFolder", shape(of="m:FolderShape"), named))
            self._place_ids[place] = found.find(f".//{T}FolderId").get("Id")
        return self._place_ids[place]

    # The product's categories and folders

    def categories(self) -> list[Category]:
        return [exchange_categories.category(row) for row in exchange_categories.rows(self._category_list()[0])]

    def ensure_marks(
        self, names: Mapping[MarkId, str], *, known: Mapping[MarkId, str] | None = None
    ) -> Mapping[MarkId, Category]:
        last: Exception | None = None
        with self._listing:
            for _ in range(TRIES):
                listing, is_there = self._category_list()
                spelled, is_complete = exchange_categories.with_marks(listing, names, known or {})
                if is_complete:
                    return spelled
                try:
                    self._write_category_list(listing, is_there=is_there)
                except (Unknown, NotFound, Conflict) as error:  # the answer was lost, or another client was faster
                    last = error
        raise Transient(f"The categories could not be created in {PEER}.") from last

    def _category_list(self) -> tuple[etree._Element, bool]:
        """Return the root of the category list, and whether the mailbox has one already."""
        name = xml("m:UserConfigurationName", self._client.folder("calendar"), Name="CategoryList")
        try:
            (found,) = self._client.ask(xml("m:GetUserConfiguration", name, xml("m:UserConfigurationProperties", "XmlData")))
        except NotFound:
            return exchange_categories.empty(), False
        return exchange_categories.read(base64.b64decode(found.findtext(f".//{T}XmlData") or "")), True

    def _write_category_list(self, listing: etree._Element, *, is_there: bool) -> None:
        name = xml("t:UserConfigurationName", self._client.folder("calendar"), Name="CategoryList")
        document = base64.b64encode(etree.tostring(listing, xml_declaration=True, encoding="utf-8")).decode()
        operation = "m:UpdateUserConfiguration" if is_there else "m:CreateUserConfiguration"
        self._client.ask(xml(operation, xml("m:UserConfiguration", name, xml("t:XmlData", document))), changes=True)

    def ensure_folders(
        self, names: Mapping[FolderId, str], *, known: Mapping[FolderId, str] | None = None
    ) -> Mapping[FolderId, Folder]:
        last: Exception | None = None
        with self._listing:
            for _ in range(TRIES):
                ours, renamed = exchange_folders.ours(self._folders(), names, known or {})
                missing = [folder for folder in names if folder not in ours]
                if not renamed and not missing:
                    return {folder: ours[folder] for folder in names}
                try:
                    self._rename({ours[folder].ref: names[folder] for folder in renamed})
                    self._create([folder for folder in missing if folder == "emails"], "msgfolderroot", names)
                    self._create([folder for folder in missing if folder != "emails"], "contacts", names)
                except (Unknown, NotFound, AlreadyExists) as error:  # the answer was lost, or another client was faster
                    last = error
        raise Transient(f"The folders could not be created in {PEER}.") from last

    def _folders(self) -> list[Raw]:
        """Return all folders of the mailbox but those that were thrown away."""
        asked = shape("folder:DisplayName", "folder:FolderClass", of="m:FolderShape")
        every, trashed = (
            self._client.search("FindFolder", asked, folders=[self._client.folder(name)], traversal="Deep")
            for name in ("msgfolderroot", "deleteditems")
        )
        gone = {folder.find(f"{T}FolderId").get("Id") for folder in trashed}
        return [folder for folder in every if folder.find(f"{T}FolderId").get("Id") not in gone]

    def _rename(self, names: Mapping[str, str]) -> None:
        changes = [exchange_folders.renaming(ref, name) for ref, name in names.items()]
        if changes:
            self._client.ask(xml("m:UpdateFolder", xml("m:FolderChanges", *changes)), changes=True)

    def _create(self, folders: list[FolderId], parent: str, names: Mapping[FolderId, str]) -> None:
        made = [exchange_folders.new_folder(folder, names[folder]) for folder in folders]
        if made:
            inside = xml("m:ParentFolderId", self._client.folder(parent))
            self._client.ask(xml("m:CreateFolder", inside, xml("m:Folders", *made)), changes=True)

    # Changes

    def changes(self, cursor: str | None, *, folders: Mapping[FolderId, str]) -> Changes:
        return self._rounds.page(cursor, folders)

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        return self._contact(ref).item

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        found = self._search(folder, link_path(), link)
        return next((contact.item for contact in found if contact.item.link == link), None)

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        lost: Unknown | None = None
        for _ in range(TRIES):
            place = xml("m:SavedItemFolderId", xml("t:FolderId", Id=folder))
            try:
                (made,) = self._client.ask(xml("m:CreateItem", place, xml("m:Items", new_contact(contact, link))), changes=True)
            except Unknown as error:
                lost = error
            except SsiError as error:
                if lost is None:
                    raise
                raise lost from error
            else:
                identifier = made.find(f".//{T}ItemId")
                return ContactItem(ref_of(identifier.get("Id")), identifier.get("ChangeKey", ""), folder, contact, (), link)
            there = self._created(folder, link, lost) if link else None
            if there is not None:
                return there
            if not link or may_still_act(lost):
                break
        raise lost or not_confirmed()

    def _created(self, folder: str, link: str, lost: Unknown) -> ContactItem | None:
        """Look for a contact whose creation was not confirmed, and once more after a pause. Raises: `lost` if that fails."""
        try:
            there = self.find_contact(folder, link)
            if there is None:
                self._client.pause(SETTLING_S)
                there = self.find_contact(folder, link)
        except SsiError as error:  # any other would say that nothing was created
            raise lost from error
        return there

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        was_lost = False
        for _ in range(TRIES):
            found = self._contact(ref)
            changes = updates(found, contact, link)
            if changes or not was_lost:  # else it was us who changed it
                _check_etag(found, etag)
            if not changes:
                return found.item
            (answer,) = self._client.update([(_identifier(found), changes)])
            if not isinstance(answer, Unknown):
                kept = found.item.link if link is None else link
                return replace(found.item, etag=given(answer), contact=contact, link=kept)
            was_lost = True
        raise not_confirmed()

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        failure: SsiError = not_confirmed()
        for _ in range(TRIES):
            found = self._contact(ref)
            wanted = merged(found.item.categories, mark, reason, names)
            if same_names(found.item.categories, wanted):
                return Marked(found.item.etag, found.item.categories)
            (answer,) = self._client.update([(_identifier(found), [categories_update("t:Contact", wanted)])])
            if not isinstance(answer, Conflict | Unknown):
                return Marked(given(answer), tuple(wanted))
            failure = answer
        raise final(failure)

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        search_key = ""
        for _ in range(TRIES):
            try:
                found = self._contact(ref)
            except NotFound:
                there = self._search(folder, search_key_path(), search_key) if search_key else []
                if not there:
                    raise
                return there[0].item  # our own move, whose answer was lost
            _check_etag(found, etag)
            if found.item.folder == folder:
                return found.item
            try:
                identifier = self._client.move(_identifier(found), folder)
            except Unknown:
                search_key = found.search_key
            else:
                new = {"ref": ref_of(identifier.get("Id")), "etag": identifier.get("ChangeKey", "")}
                return replace(found.item, **new, folder=folder)
        raise not_confirmed()

    def delete_contact(self, ref: str, *, etag: str) -> None:
        for _ in range(TRIES):
            try:
                found = self._contact(ref)
                _check_etag(found, etag)
                ids = xml("m:ItemIds", _identifier(found))
                self._client.ask(xml("m:DeleteItem", ids, DeleteType="MoveToDeletedItems"), changes=True)
                return
            except NotFound:
                return
            except Unknown:
                continue  # it is seen at the next try
        raise not_confirmed()

    def _contact(self, ref: str) -> Found:
        """Raises: NotFound."""
        if not _CONTACT_REF.match(ref):
            raise NotFound("The mailbox holds no such contact.")
        (found,) = self._contacts([ews_id_of(ref)])
        return given(found)

    def _contacts(self, ews_ids: list[str]) -> list[Found | SsiError]:
        """Read contacts; what is none is NotFound."""
        ids = xml("m:ItemIds", *(xml("t:ItemId", Id=ews_id) for ews_id in ews_ids))
        found: list[Found | SsiError] = []
        for answer in self._client.ask_each(xml("m:GetItem", contact_shape(), ids)):
            item = answer if isinstance(answer, SsiError) else answer.find(f"{M}Items")[0]
            is_contact = isinstance(item, SsiError) or etree.QName(item).localname == "Contact"
            found.append(item if isinstance(item, SsiError) else read(item) if is_contact else NotFound("It is no contact."))
        return found

    def _search(self, folder: str, path: Raw, value: str) -> list[Found]:
        """Return the contacts of a folder that have this value. Raises: NotFound for the folder."""
        place = xml("t:FolderId", Id=folder)
        listed = self._client.search("FindItem", shape(), folders=[place], restriction=is_equal(path, value))
        ids = [item.find(f"{T}ItemId").get("Id") for item in listed if etree.QName(item).localname == "Contact"]
        return [found for found in (self._contacts(ids) if ids else []) if not isinstance(found, SsiError)]

    # Notifications

    def subscribe(self, hook: Hook, *, folders: Mapping[FolderId, str]) -> Subscription:
        raise Rejected(f"{PEER} is asked for changes; it does not tell of them by itself.")

    def renew(self, subscription: Subscription) -> Subscription:
        raise NotFound("There is no such subscription.")

    def unsubscribe(self, subscription: Subscription) -> None:
        """Nothing was subscribed to."""

    def verify(self, subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
        raise Forbidden(f"{PEER} sends no notifications.")


def _identifier(found: Found) -> Raw:
    return xml("t:ItemId", Id=found.ews_id, ChangeKey=found.item.etag)


def _check_etag(found: Found, etag: str) -> None:
    if found.item.etag != etag:
        raise Conflict("The contact was changed by somebody else.")
