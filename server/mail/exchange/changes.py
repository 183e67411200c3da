"""What changed in a mailbox at Exchange, round by round.

One pull subscription watches all folders; its id and watermark lie in the cursor, so that a look that finds nothing is a single
GetEvents. Events only tell where something happened: what, SyncFolderItems tells, from a sync state per folder that lies in the
cursor, too (its size does not grow with the folder). When the subscription is gone, as after a day without a look or when the
server was restarted, or has more to tell than is worth asking for, as after thousands of writes of our own, a new one is made
first and then every folder is read on, so that nothing falls between. The server that keeps it is found again by X-AnchorMailbox,
which exchangelib sends (X:how-to-maintain-affinity-between-group-of-subscriptions-and-mailbox-server.md).

SyncFolderItems gives at most 512 changes and no notes of a contact (pages "SyncFolderItems operation", "MaxChangesReturned"):
contacts are read by one GetItem for each page. Of the owner's own folder of contacts nothing but the categories is listed, and
only what carries a mark is read.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import get_args

from lxml import etree

from server.domain.marks import FOLDERS, FolderId
from server.errors import CursorExpired, NotFound, SsiError
from server.mail import Changes, ContactItem, Gone, Known, MessageChange, Place
from server.mail.exchange.contact_items import ContactItems
from server.mail.exchange.contacts import ref_of
from server.mail.exchange.ews import Client, M, Raw, T, search_key_path, shape, xml
from server.mail.exchange.messages import LISTED, Messages, categories

PAGE = 512  # changes at once, the most that Exchange gives
WATCHED_MIN = 1440  # for how long a subscription outlives a look, the most that Exchange allows
SKEW_S = 300.0  # by how much the server's clock may be behind ours
LOOKS = 4  # GetEvents in a row; reading every folder by a new subscription costs hardly more, and has an end
MANY = 200  # contacts of our own making, of which events have more to tell than is worth asking for

OWN = "own"  # the owner's folder of contacts, of which only those with a mark are told

_KEYS = frozenset({*get_args(Place), *get_args(FolderId), OWN})
_PLACES: Mapping[str, Place] = {place: place for place in get_args(Place)}
_EVENTS = ("CopiedEvent", "CreatedEvent", "DeletedEvent", "ModifiedEvent", "MovedEvent", "NewMailEvent")
_WELL_KNOWN: Mapping[str, str] = {"inbox": "inbox", "sent": "sentitems", OWN: "contacts"}


@dataclass(frozen=True, slots=True)
class Cursor:
    """Where a reader is. `folders` are ids of folders, `states` the sync states of those that were read at least in part."""

    subscription: str
    watermark: str
    folders: dict[str, str]
    states: dict[str, str]
    beginning: tuple[str, ...]  # folders whose first reading is not over
    waiting: tuple[str, ...]  # folders to be read, or read on, in this round
    whole: tuple[str, ...]  # folders of contacts that this round tells from the beginning
    begun_s: float  # when the first reading began, by the server's clock at the latest, in seconds since 1970

    @property
    def asked(self) -> dict[str, str]:
        """The folders that the caller named."""
        return {key: ref for key, ref in self.folders.items() if key not in _WELL_KNOWN}

    def text(self) -> str:
        return base64.urlsafe_b64encode(json.dumps({"ews": 1, **asdict(self)}).encode()).decode()

    @classmethod
    def of(cls, text: str) -> Cursor:
        """Raises: CursorExpired when this is no cursor of ours."""
        try:
            told = json.loads(base64.urlsafe_b64decode(text.encode()))
            if told.pop("ews") != 1:
                raise ValueError
            told |= {name: tuple(told[name]) for name in ("beginning", "waiting", "whole")}
            told["begun_s"] = float(told["begun_s"])
            cursor = cls(**told)
            if not {*cursor.states, *cursor.beginning, *cursor.waiting} <= cursor.folders.keys() <= _KEYS:
                raise ValueError
        except (binascii.Error, ValueError, KeyError, TypeError, AttributeError) as error:
            raise CursorExpired("This is no place from which changes could be told.") from error
        return cursor

    def advanced(self, key: str, state: str, *, is_last: bool) -> Cursor:
        """The cursor after a page of a folder."""
        done = (key,) if is_last else ()
        return replace(
            self,
            states={**self.states, key: state},
            beginning=tuple(k for k in self.beginning if k not in done),
            waiting=tuple(k for k in self.waiting if k not in done),
        )


class Rounds:
    """Reads changes by `client`, and what it finds there by `messages` and `contacts`."""

    def __init__(self, client: Client, messages: Messages, contacts: ContactItems, now: Callable[[], datetime]) -> None:
        self._client = client
        self._messages = messages
        self._contacts = contacts
        self._now = now
        self._passed = 0  # contacts of our own making when changes were asked for last

    def page(self, text: str | None, folders: Mapping[FolderId, str], marks: Collection[str], known: Known) -> Changes:
        """As `server.mail.Mailbox.changes`."""
        cursor, asked = None if text is None else Cursor.of(text), {str(key): ref for key, ref in folders.items()}
        with_own = bool(marks) and not asked.keys() <= _PLACES.keys()
        if (
            cursor is None
            or cursor.asked != asked
            or (OWN in cursor.folders) != with_own
            or (not cursor.waiting and self._contacts.created - self._passed > MANY)
        ):
            cursor = self._watched(cursor, asked, with_own)
        elif not cursor.waiting:
            cursor = self._looked(cursor)
        self._passed = self._contacts.created
        return self._read(cursor, {name.casefold() for name in marks}, known)

    def _watched(self, old: Cursor | None, folders: Mapping[str, str], with_own: bool, *, is_subscribed: bool = True) -> Cursor:
        """Begin a round that reads every folder, with a new subscription. Raises: NotFound."""
        if old is not None and is_subscribed:
            self._unsubscribe(old.subscription)
        found = self._folders(folders, with_own)
        states = {k: state for k, state in old.states.items() if old.folders[k] == found.get(k)} if old is not None else {}
        beginning = tuple(k for k in found if k not in states or (old is not None and k in old.beginning))
        begun = {k for k in beginning if k not in _PLACES}
        unfinished = {k for k in old.whole if old.waiting and k in states} if old is not None else set()
        begun_s = old.begun_s if old is not None and old.beginning else self._now().timestamp() - SKEW_S
        subscription, watermark = self._subscribe(list(found.values()))
        whole = tuple(sorted(begun | unfinished))
        return Cursor(subscription, watermark, found, states, beginning, tuple(found), whole, begun_s)

    def _folders(self, folders: Mapping[str, str], with_own: bool) -> dict[str, str]:
        """Return the ids of all folders of interest. Raises: NotFound if one is not there or was thrown away."""
        well_known = {key: name for key, name in _WELL_KNOWN.items() if key != OWN or with_own}
        named = [self._client.folder(name) for name in ("deleteditems", *well_known.values())]
        named += [xml("t:FolderId", Id=ref) for ref in folders.values()]
        asked = xml("m:GetFolder", shape("folder:ParentFolderId", of="m:FolderShape"), xml("m:FolderIds", *named))
        found = [message.find(f"{M}Folders")[0] for message in self._client.ask(asked)]
        ids = [element.find(f"{T}FolderId").get("Id") for element in found]
        for element in found[1 + len(well_known) :]:
            parent = element.find(f"{T}ParentFolderId")
            if parent is not None and parent.get("Id") == ids[0]:
                raise NotFound("A folder is no longer in the mailbox.")
        return dict(zip((*well_known, *folders), ids[1:], strict=True))

    def _subscribe(self, folders: list[str]) -> tuple[str, str]:
        wish = xml(
            "m:PullSubscriptionRequest",
            xml("t:FolderIds", *(xml("t:FolderId", Id=ref) for ref in folders)),
            xml("t:EventTypes", *(xml("t:EventType", kind) for kind in _EVENTS)),
            xml("t:Timeout", str(WATCHED_MIN)),
        )
        (made,) = self._client.ask(xml("m:Subscribe", wish))
        return made.findtext(f"{M}SubscriptionId"), made.findtext(f"{M}Watermark")

    def _unsubscribe(self, subscription: str) -> None:
        (ended,) = self._client.ask_each(xml("m:Unsubscribe", xml("m:SubscriptionId", subscription)))
        if isinstance(ended, SsiError) and not isinstance(ended, NotFound):
            raise ended

    def _looked(self, cursor: Cursor) -> Cursor:
        """Begin a round that reads the folders in which something happened. Raises: NotFound."""
        watermark, happened = cursor.watermark, set[str]()
        for _ in range(LOOKS):
            asked = xml("m:GetEvents", xml("m:SubscriptionId", cursor.subscription), xml("m:Watermark", watermark))
            (answer,) = self._client.ask_each(asked)
            if isinstance(answer, NotFound):
                return self._watched(cursor, cursor.asked, OWN in cursor.folders, is_subscribed=False)
            if isinstance(answer, SsiError):
                raise answer
            notification = answer.find(f"{M}Notification")
            for event in notification.iterchildren(*(T + kind for kind in (*_EVENTS, "StatusEvent"))):
                watermark = event.findtext(f"{T}Watermark") or watermark
                if etree.QName(event).localname != "StatusEvent":
                    happened |= self._where(event, cursor)
            if notification.findtext(f"{T}MoreEvents") != "true":
                waiting = tuple(key for key in cursor.folders if key in happened)
                return replace(cursor, watermark=watermark, waiting=waiting, whole=())
        return self._watched(cursor, cursor.asked, OWN in cursor.folders)

    def _where(self, event: Raw, cursor: Cursor) -> set[str]:
        """Return the folders that an event concerns; all if it names none of ours, though only those are watched.

        Raises: NotFound if it tells that one of ours is gone.
        """
        itself = event.find(f"{T}FolderId")
        is_going = etree.QName(event).localname in ("MovedEvent", "DeletedEvent")
        if is_going and itself is not None and itself.get("Id") in cursor.folders.values():
            self._folders(cursor.asked, OWN in cursor.folders)
        named = {element.get("Id") for tag in ("ParentFolderId", "OldParentFolderId") for element in event.iterfind(T + tag)}
        return {key for key, ref in cursor.folders.items() if ref in named} or set(cursor.folders)

    def _read(self, cursor: Cursor, marks: Collection[str], known: Known) -> Changes:
        """Read pages of the waiting folders until there are as many changes as one page can have; `marks` are case-folded."""
        messages: list[MessageChange] = []
        contacts: list[ContactItem] = []
        gone: list[Gone] = []
        unchanged = set[str]()  # refs
        count = 0
        while cursor.waiting and count < PAGE:
            key = cursor.waiting[0]
            page = self._sync(key, cursor)
            changes = list(page.find(f"{M}Changes"))
            count += len(changes)
            if key in _PLACES:
                messages += self._told(changes, _PLACES[key], cursor.begun_s if key in cursor.beginning else None)
            elif key == OWN:
                marked = [item for item in _present(changes) if _carries(categories(item), marks)]
                contacts += [contact for contact in self._read_contacts(marked) if _carries(contact.categories, marks)]
            else:
                present = _present(changes)
                same = _same(cursor.folders[key], present, known)
                unchanged |= same
                contacts += self._read_contacts([item for item in present if _identified(item)[0] not in same])
                gone += [Gone(ref_of(c[0].get("Id")), cursor.folders[key]) for c in changes if _kind(c) == "Delete"]
            is_last = page.findtext(f"{M}IncludesLastItemInRange") == "true"
            cursor = cursor.advanced(key, page.findtext(f"{M}SyncState"), is_last=is_last)
        return Changes(
            messages=tuple(messages),
            contacts=tuple(contacts),
            gone=tuple(gone),
            cursor=cursor.text(),
            is_complete=not cursor.waiting,
            whole=frozenset(key for key in FOLDERS if key in cursor.whole),
            unchanged=frozenset(unchanged),
        )

    def _sync(self, key: str, cursor: Cursor) -> Raw:
        asked = ("item:Categories",) if key == OWN else (*LISTED, search_key_path()) if key in _PLACES else ()
        operation = xml("m:SyncFolderItems", shape(*asked), xml("m:SyncFolderId", xml("t:FolderId", Id=cursor.folders[key])))
        if key in cursor.states:
            operation.append(xml("m:SyncState", cursor.states[key]))
        operation.append(xml("m:MaxChangesReturned", str(PAGE)))
        (page,) = self._client.ask(operation)
        return page

    def _told(self, changes: list[Raw], place: Place, begun_s: float | None) -> list[MessageChange]:
        """Tell of messages that came or changed; of what was there before the beginning, if it lies elsewhere, by its categories.

        `begun_s` is None after the first reading. What changes or comes during that is told like later.
        """
        told: list[MessageChange] = []
        for change in changes:
            kind = _kind(change)
            message = self._messages.listed(change[0], place) if kind in ("Create", "Update") else None
            if message is None:
                continue
            came = message.received_at
            was_there = begun_s is not None and (came is None or came.timestamp() < begun_s)
            is_listed = was_there and kind == "Create"
            if message.categories or place == "emails" or not is_listed:
                told.append(message)
        return told

    def _read_contacts(self, elements: list[Raw]) -> list[ContactItem]:
        ids = [e.find(f"{T}ItemId").get("Id") for e in elements if etree.QName(e).localname == "Contact"]
        contacts: list[ContactItem] = []
        for found in self._contacts.read(ids):
            if isinstance(found, NotFound):
                continue  # it went meanwhile; the next round tells so
            if isinstance(found, SsiError):
                raise found
            contacts.append(found.item)
        return contacts


def _present(changes: list[Raw]) -> list[Raw]:
    return [change[0] for change in changes if _kind(change) in ("Create", "Update")]


def _same(folder: str, elements: list[Raw], known: Known) -> set[str]:
    """Return the refs of the contacts that are as the caller knows them."""
    etags = dict(_identified(element) for element in elements)
    return {ref for ref, etag in known(folder, etags.keys()).items() if etag and etags[ref] == etag} if etags else set()


def _identified(element: Raw) -> tuple[str, str]:
    """Return the ref and the etag of an item."""
    identifier = element.find(f"{T}ItemId")
    return ref_of(identifier.get("Id")), identifier.get("ChangeKey", "")


def _carries(names: Collection[str], marks: Collection[str]) -> bool:
    return any(name.casefold() in marks for name in names)


def _kind(change: Raw) -> str:
    return etree.QName(change).localname
