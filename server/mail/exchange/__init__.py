"""A mailbox at Microsoft Exchange on-premises, over Exchange Web Services. Never one in Exchange Online, which is Graph's.

Signing in is either the owner's own user name and password (Direct Logon) or a service account's that impersonates the owner.
A message is known by what stays when it moves (`exchange.messages`), a contact by its item id, which does not
(`exchange.contact_items`).

Items are written with their change key and NeverOverwrite. MoveItem and DeleteItem do not look at the change key (their pages
name no way to have it compared), so it is compared just before. The category list has none in its operations: it is read just
before it is written and again after; what another client adds to it within those few milliseconds can be lost.
"""

from __future__ import annotations

import base64
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
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
from server.mail.exchange import categories as exchange_categories, folders as exchange_folders
from server.mail.exchange.changes import Rounds
from server.mail.exchange.contact_items import ContactItems
from server.mail.exchange.ews import Client, EwsAccount, Login, M, Raw, T, shape, xml
from server.mail.exchange.failures import PEER
from server.mail.exchange.messages import TRIES, Messages, given
from server.mail.hosts import Guard

__all__ = ["ExchangeMailbox", "Login"]

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
        self._contacts = ContactItems(self._client)
        self._rounds = Rounds(self._client, self._messages, self._contacts, now)
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

    def changes(
        self,
        cursor: str | None,
        *,
        folders: Mapping[FolderId, str],
        marks: Mapping[MarkId, str] | None = None,
        known: Known = nothing_known,
    ) -> Changes:
        return self._rounds.page(cursor, folders, (marks or {}).values(), known)

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        return self._contacts.contact(ref)

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        return self._contacts.find(folder, link)

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        (made,) = self._contacts.create(folder, [NewContact(contact, link)])
        return given(made)

    def create_contacts(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        return self._contacts.create(folder, new)

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        (changed,) = self._contacts.update([ContactEdit(ref, etag, lambda _: contact, link)])
        return given(changed)

    def update_contacts(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        return self._contacts.update(edits)

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        return self._contacts.mark(ref, lambda current: merged(current, mark, reason, names))

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        return self._contacts.move(ref, folder, etag=etag)

    def delete_contact(self, ref: str, *, etag: str) -> None:
        self._contacts.delete(ref, etag=etag)

    # Notifications

    def subscribe(self, hook: Hook, *, folders: Mapping[FolderId, str]) -> Subscription:
        raise Rejected(f"{PEER} is asked for changes; it does not tell of them by itself.")

    def renew(self, subscription: Subscription) -> Subscription:
        raise NotFound("There is no such subscription.")

    def unsubscribe(self, subscription: Subscription) -> None:
        """Nothing was subscribed to."""

    def verify(self, subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
        raise Forbidden(f"{PEER} sends no notifications.")
