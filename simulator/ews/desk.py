"""One caller at one mailbox of Exchange, with what the server remembers beside the World, and the frame of every answer."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from simulator.ews.contacts import ContactView
from simulator.ews.folders import FolderView, folders, root
from simulator.ews.items import EwsError, ItemView, Stored, malformed, not_found
from simulator.ews.soap import NAMESPACES, Element, local, m
from simulator.graph.resources import Library
from simulator.world import Folder, MailboxState, StoredContact, StoredMessage, World

PAGE_LIMIT = 1000  # EWS throttling page: FindItem answers no more at once
STOPPING = frozenset(
    {"ErrorAccessDenied", "ErrorAccountDisabled", "ErrorADUnavailable", "ErrorADOperation", "ErrorConnectionFailed"}
    | {"ErrorMailboxStoreUnavailable", "ErrorMailboxMoveInProgress", "ErrorPasswordChangeRequired", "ErrorPasswordExpired"}
    | {"ErrorQuotaExceeded", "ErrorInsufficientResources"}
)
"""What ends a request of many things where it stands (page "ResponseCode", ErrorBatchProcessingStopped)."""


@dataclass
class Sighting:
    """What the server has seen of an item under one item id, in positions of the mailbox's history."""

    folder: str
    first: int  # when it came to the folder
    changed: int  # the last change of more than the read flag
    read: int = 0  # the last change of the read flag alone
    looks: tuple[bool, tuple[str, ...]] = (True, ())  # the read flag, and the categories


@dataclass
class Subscription:
    folders: frozenset[str]  # empty: all
    events: frozenset[str]
    timeout_min: int
    account: str  # who signed in when it was made, and alone may ask
    asked_at: float  # by the World's clock, when the client was last heard of


@dataclass
class Memory:
    """What the World does not know of a mailbox: the category list's own attributes, and who follows its changes."""

    root: dict[str, str] = field(default_factory=lambda: {"default": "", "lastSavedSession": "1"})
    of: dict[str, dict[str, str]] = field(default_factory=dict)  # attributes of each category, by id
    era: str = field(default_factory=lambda: uuid.uuid4().hex)  # sync states of another one are no longer understood
    seen: dict[str, Sighting] = field(default_factory=dict)  # by item id
    subscriptions: dict[str, Subscription] = field(default_factory=dict)

    def forget(self) -> None:
        """Lose what clients follow, as when a mailbox is restored from a backup."""
        self.era = uuid.uuid4().hex
        self.seen.clear()
        self.subscriptions.clear()


@dataclass(frozen=True)
class Desk:
    """One request. Hold the World's lock while using it."""

    world: World
    mailbox: MailboxState
    library: Library
    memory: Memory
    actor: str
    account: str  # who signed in, which for a service account is not the actor

    @property
    def items(self) -> list[Stored]:
        return [*self.mailbox.messages.values(), *self.mailbox.contacts.values()]

    @cached_property
    def _by_id(self) -> dict[str, Stored]:
        return {item.ews_id: item for item in self.items}

    def view(self, ews_id: str) -> ItemView | ContactView:
        """Raises: EwsError."""
        item = self._by_id.get(ews_id)
        if item is not None and item.ews_id == ews_id and self._is_there(item):
            return self._view(item)
        raise not_found() if ews_id.startswith("AAMk") and " " not in ews_id else malformed()

    def _is_there(self, item: Stored) -> bool:
        return item.immutable_id in (self.mailbox.messages if isinstance(item, StoredMessage) else self.mailbox.contacts)

    def _view(self, item: Stored) -> ItemView | ContactView:
        if isinstance(item, StoredContact):
            return ContactView(item, self.mailbox)
        return ItemView(item, self.mailbox, self.world, self.library)

    def views(self, folder: str) -> Iterator[ItemView | ContactView]:
        for item in self.items:
            if item.folder == folder:
                yield self._view(item)

    def folder(self, element: Element) -> FolderView:
        """Find the folder that a FolderId or DistinguishedFolderId names. Raises: EwsError."""
        wanted = element.get("Id", "")
        every = (root(self.mailbox), *folders(self.mailbox))
        if local(element) == "FolderId":
            found = next((f for f in every if f.id == wanted), None)
            if found is None and (not wanted.startswith("AQMk") or " " in wanted):
                raise malformed()
        else:
            address = element.findtext("t:Mailbox/t:EmailAddress", namespaces=NAMESPACES)
            if address is not None and address.lower() != self.mailbox.owner.email.lower():
                raise EwsError("ErrorAccessDenied", "Access is denied. Check credentials and try again.")
            found = next((f for f in every if f.distinguished == ("msgfolderroot" if wanted == "root" else wanted)), None)
        if found is None:
            raise EwsError("ErrorFolderNotFound", "The specified folder could not be found in the store.")
        return found

    def stored_folder(self, element: Element) -> Folder:
        """Find a folder that can hold items of the World. Raises: EwsError."""
        found = self.mailbox.folders.get(self.folder(element).id)
        if found is None:
            raise EwsError("ErrorInvalidFolderTypeForOperation", "The simulator keeps no items there.")
        return found

    def happened(self, kind: str, **detail: Any) -> None:
        self.world.happened("exchange", kind, self.actor, **detail)


def message(name: str, *content: Element) -> Element:
    return m(f"{name}ResponseMessage", m("ResponseCode", text="NoError"), *content, ResponseClass="Success")


def refusal(name: str, error: EwsError, *content: Element, kind: str = "Error") -> Element:
    """The answer for one refused item. What follows the key is what the schema demands even then."""
    return m(
        f"{name}ResponseMessage",
        m("MessageText", text=str(error)),
        m("ResponseCode", text=error.code),
        m("DescriptiveLinkKey", text="0"),
        *content,
        ResponseClass=kind,
    )


def each(
    name: str,
    elements: Iterable[Element],
    answer: Callable[[Element], Element],
    empty: Callable[[], tuple[Element, ...]] = tuple,
) -> Iterator[Element]:
    """Answer for each thing that was asked for, in their order.

    One that is refused keeps no other from its answer, unless it is refused for a reason of `STOPPING`: then the rest is not
    even begun, and each gets a warning that says so.
    """
    is_stopped = False
    for element in elements:
        if is_stopped:
            stopped = EwsError("ErrorBatchProcessingStopped", "The processing of the batch was stopped.")
            yield refusal(name, stopped, *empty(), kind="Warning")
            continue
        try:
            yield answer(element)
        except EwsError as error:
            is_stopped = error.code in STOPPING
            yield refusal(name, error, *empty())


def cut(found: list[Any], page: Element | None) -> tuple[list[Any], dict[str, str]]:
    """Return the page and the attributes that say where it lies."""
    start = int(page.get("Offset", "0")) if page is not None else 0
    size = min(int(page.get("MaxEntriesReturned", str(PAGE_LIMIT))) if page is not None else PAGE_LIMIT, PAGE_LIMIT)
    end = min(start + size, len(found))
    last = "true" if end >= len(found) else "false"
    return found[start:end], {
        "IndexedPagingOffset": str(end),
        "TotalItemsInView": str(len(found)),
        "IncludesLastItemInRange": last,
    }
