"""Following what changes: SyncFolderItems with its sync states, and pull subscriptions with their events and watermarks.

Both tell from the mailbox's history, whose positions are the World's change numbers. What is new since a position and what only
changed is known from sightings: each of these requests notes first what lies in the mailbox. A sync state is the folder and the
position up to which its owner knows; one of another folder, or from before the server forgot, is refused.
"""

from __future__ import annotations

import base64
import binascii
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from simulator.ews.desk import Desk, Sighting, Subscription, each, message
from simulator.ews.folders import ROOT, folders
from simulator.ews.items import EwsError, Shape, Stored, stamp
from simulator.ews.soap import NAMESPACES, Element, m, t
from simulator.world import StoredMessage, Tombstone

EVENTS_AT_ONCE = 50  # how many GetEvents tells before it says that there are more


def _look_around(desk: Desk) -> None:
    """Note what lies where; what was changed since the last look is told apart by what it looks like."""
    seen = desk.memory.seen
    for item in desk.items:
        known = seen.get(item.ews_id)
        if known is None or known.folder != item.folder:
            seen[item.ews_id] = Sighting(item.folder, item.change, item.change, looks=_looks(item))
        elif item.change > max(known.changed, known.read):
            looks = _looks(item)
            if known.looks[0] != looks[0] and known.looks[1] == looks[1]:
                known.read = item.change
            else:
                known.changed = item.change
            known.looks = looks


def _looks(item: Stored) -> tuple[bool, tuple[str, ...]]:
    return item.is_read if isinstance(item, StoredMessage) else True, tuple(item.categories)


# SyncFolderItems


def sync_folder_items(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(target: Element) -> Element:
        shape = Shape.of(operation[0], in_list=True)
        try:
            folder = desk.folder(target)
        except EwsError as error:
            code = {"ErrorFolderNotFound": "ErrorSyncFolderNotFound"}.get(error.code, error.code)
            raise EwsError(code, "The folder to synchronize could not be found.") from error
        state = operation.findtext("m:SyncState", namespaces=NAMESPACES)
        since = _read_state(desk, state, folder.id) if state else -1
        size = int(operation.findtext("m:MaxChangesReturned", namespaces=NAMESPACES) or 0)
        _look_around(desk)
        waiting = sorted(_changes(desk, folder.id, since), key=lambda change: change.position)
        is_last = len(waiting) <= size
        position = desk.mailbox.change if is_last else waiting[size - 1].position
        return message(
            "SyncFolderItems",
            m("SyncState", text=_state(desk, folder.id, position)),
            m("IncludesLastItemInRange", text="true" if is_last else "false"),
            m("Changes", *(change.element(desk, shape) for change in waiting[:size])),
        )

    return each("SyncFolderItems", operation.iterfind("m:SyncFolderId/*", NAMESPACES), one)


def _state(desk: Desk, folder: str, position: int) -> str:
    return base64.b64encode(json.dumps([desk.memory.era, folder, position]).encode()).decode()


def _read_state(desk: Desk, state: str, folder: str) -> int:
    """Return the position of a sync state. Raises: EwsError."""
    try:
        era, whose, position = json.loads(base64.b64decode(state, validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise _bad_state() from error
    if (era, whose) != (desk.memory.era, folder):
        raise _bad_state()
    return int(position)


def _bad_state() -> EwsError:
    return EwsError("ErrorInvalidSyncStateData", "Synchronization state data is corrupt or otherwise invalid.")


@dataclass(frozen=True, slots=True)
class _Change:
    kind: str
    position: int
    ews_id: str

    def element(self, desk: Desk, shape: Shape) -> Element:
        if self.kind == "Delete":
            return t("Delete", t("ItemId", Id=self.ews_id, ChangeKey="AQAAAA=="))
        view = desk.view(self.ews_id)
        if self.kind == "ReadFlagChange":
            plain = Shape("IdOnly", frozenset(), (), in_list=True).element(view)
            return t("ReadFlagChange", plain[0], t("IsRead", text="true" if _looks(view.stored)[0] else "false"))
        return t(self.kind, shape.element(view))


def _changes(desk: Desk, folder: str, since: int) -> Iterator[_Change]:
    for item in desk.items:
        if item.folder != folder or item.change <= since:
            continue
        seen = desk.memory.seen[item.ews_id]
        kind = "Create" if seen.first > since else "Update" if seen.changed > since else "ReadFlagChange"
        yield _Change(kind, item.change, item.ews_id)
    for gone in _left(desk, folder, since):
        if desk.memory.seen[gone.ews_id].first <= since:
            yield _Change("Delete", gone.change, gone.ews_id)


def _left(desk: Desk, folder: str, since: int) -> Iterator[Tombstone]:
    """What has left a folder since a position, of what was ever seen there."""
    for gone in desk.mailbox.tombstones:
        if gone.folder == folder and gone.change > since and gone.ews_id in desk.memory.seen:
            yield gone


# Pull subscriptions


def subscribe(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(asked: Element) -> Element:
        named = [desk.folder(element).id for element in asked.iterfind("t:FolderIds/*", NAMESPACES)]
        if not named and asked.get("SubscribeToAllFolders") != "true":
            raise EwsError("ErrorInvalidSubscriptionRequest", "A subscription needs folders.")
        _look_around(desk)
        subscription = Subscription(
            folders=frozenset(named),
            events=frozenset(event.text or "" for event in asked.iterfind("t:EventTypes/t:EventType", NAMESPACES)),
            timeout_min=int(asked.findtext("t:Timeout", namespaces=NAMESPACES) or 0),
            account=desk.account,
            asked_at=desk.world.now().timestamp(),
        )
        identifier = base64.b64encode(f"ex01.example/{uuid.uuid4()}".encode()).decode()
        desk.memory.subscriptions[identifier] = subscription
        return message(
            "Subscribe",
            m("SubscriptionId", text=identifier),
            m("Watermark", text=_watermark(identifier, desk.mailbox.change)),
        )

    return each("Subscribe", operation.iterfind("m:PullSubscriptionRequest", NAMESPACES), one)


def get_events(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(asked: Element) -> Element:
        identifier = asked.text or ""
        subscription = _subscription(desk, identifier)
        watermark = operation.findtext("m:Watermark", namespaces=NAMESPACES) or ""
        since = _read_watermark(watermark, identifier)
        subscription.asked_at = desk.world.now().timestamp()
        _look_around(desk)
        waiting = sorted(_events(desk, subscription, since), key=lambda event: event[0])
        end = EVENTS_AT_ONCE
        while end < len(waiting) and waiting[end][0] == waiting[end - 1][0]:
            end += 1  # events of one change share their watermark, so they come together
        shown = [_with_watermark(event, _watermark(identifier, position)) for position, event in waiting[:end]]
        if not shown:
            shown = [t("StatusEvent", t("Watermark", text=_watermark(identifier, desk.mailbox.change)))]
        return message(
            "GetEvents",
            m(
                "Notification",
                t("SubscriptionId", text=identifier),
                t("PreviousWatermark", text=watermark),
                t("MoreEvents", text="true" if len(waiting) > end else "false"),
                *shown,
            ),
        )

    return each("GetEvents", operation.iterfind("m:SubscriptionId", NAMESPACES), one)


def unsubscribe(desk: Desk, operation: Element) -> Iterator[Element]:
    def one(asked: Element) -> Element:
        _subscription(desk, asked.text or "")
        del desk.memory.subscriptions[asked.text or ""]
        return message("Unsubscribe")

    return each("Unsubscribe", operation.iterfind("m:SubscriptionId", NAMESPACES), one)


def _subscription(desk: Desk, identifier: str) -> Subscription:
    """Raises: EwsError, also when it was not asked about for longer than its timeout."""
    found = desk.memory.subscriptions.get(identifier)
    if found is None:
        raise EwsError("ErrorSubscriptionNotFound", "The specified subscription was not found.")
    if found.account != desk.account:
        raise EwsError("ErrorSubscriptionAccessDenied", "The subscription was made by another account.")
    if desk.world.now().timestamp() > found.asked_at + found.timeout_min * 60:
        del desk.memory.subscriptions[identifier]
        raise EwsError("ErrorExpiredSubscription", "The specified subscription has expired.")
    return found


def _watermark(subscription: str, position: int) -> str:
    return base64.b64encode(json.dumps([subscription, position]).encode()).decode()


def _read_watermark(watermark: str, subscription: str) -> int:
    """Raises: EwsError."""
    try:
        whose, position = json.loads(base64.b64decode(watermark, validate=True))
    except (binascii.Error, ValueError, TypeError) as error:
        raise EwsError("ErrorInvalidWatermark", "The watermark used for creating this subscription was not found.") from error
    if whose != subscription:
        raise EwsError("ErrorInvalidWatermark", "The watermark used for creating this subscription was not found.")
    return int(position)


def _with_watermark(event: Element, watermark: str) -> Element:
    event.insert(0, t("Watermark", text=watermark))
    return event


def _events(desk: Desk, subscription: Subscription, since: int) -> Iterator[tuple[int, Element]]:
    """What happened in the subscription's folders since a position, and to those folders themselves."""
    for folder in subscription.folders - {view.id for view in folders(desk.mailbox)}:
        if "DeletedEvent" in subscription.events:
            named = t("FolderId", Id=folder, ChangeKey="AQAAAA==")
            yield desk.mailbox.change, _event("DeletedEvent", desk.world.now(), named, ROOT)
    went = {gone.immutable_id for gone in desk.mailbox.tombstones if gone.change > since}
    for item in desk.items:
        if item.change <= since or (subscription.folders and item.folder not in subscription.folders):
            continue
        is_new = desk.memory.seen[item.ews_id].first > since
        kinds = ["ModifiedEvent"]
        if is_new:  # what moved is told by a MovedEvent
            kinds = [] if item.immutable_id in went else ["CreatedEvent"] + ["NewMailEvent"] * isinstance(item, StoredMessage)
        for kind in kinds:
            if kind in subscription.events:
                yield item.change, _event(kind, item.changed_at, t("ItemId", Id=item.ews_id, ChangeKey="CQAAAA=="), item.folder)
    yield from _departures(desk, subscription, since)


def _departures(desk: Desk, subscription: Subscription, since: int) -> Iterator[tuple[int, Element]]:
    here = {item.immutable_id: item for item in desk.items}
    for gone in desk.mailbox.tombstones:
        item = here.get(gone.immutable_id)
        places = {gone.folder, item.folder} if item is not None else {gone.folder}
        if gone.change <= since or (subscription.folders and not places & subscription.folders):
            continue
        kind = "DeletedEvent" if item is None else "MovedEvent"
        if kind not in subscription.events:
            continue
        if item is None:
            yield gone.change, _event(kind, desk.world.now(), t("ItemId", Id=gone.ews_id, ChangeKey="CQAAAA=="), gone.folder)
            continue
        event = _event(kind, item.changed_at, t("ItemId", Id=item.ews_id, ChangeKey="CQAAAA=="), item.folder)
        event.append(t("OldItemId", Id=gone.ews_id, ChangeKey="CQAAAA=="))
        event.append(t("OldParentFolderId", Id=gone.folder, ChangeKey="AQAAAA=="))
        yield gone.change, event


def _event(kind: str, at: datetime, subject: Element, parent: str) -> Element:
    return t(kind, t("TimeStamp", text=stamp(at)), subject, t("ParentFolderId", Id=parent, ChangeKey="AQAAAA=="))
