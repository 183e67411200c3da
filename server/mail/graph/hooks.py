"""Notifications from Microsoft Graph: what is ordered, and what a notification says.

Graph has a subscription for each folder; ours is all of them together, its ref the list of their ids. Notifications go to one
URL, those about the life of a subscription too; each carries the secret as clientState, which is all that proves where it
comes from.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from server.domain.marks import FolderId
from server.errors import Forbidden, NotFound, SsiError, Transient, Unknown
from server.mail import Hook, Notice, Subscription
from server.mail.graph.calls import PEER, Call, Calls, done, object_of, segment, write

LIFE = timedelta(minutes=4200)
"""What is asked for: a little less than the 4,230 minutes that the documentation allows for Outlook items (outlook.md 3)."""
MAX_BODY = 1024 * 1024  # bytes of a notification; one without the item's data has about 600 for each change
_LIFECYCLE: Mapping[str, Notice] = {
    "missed": "missed",
    "subscriptionRemoved": "ended",
    "reauthorizationRequired": "reauthorize",
}


def subscribe(calls: Calls, base: str, hook: Hook, folders: Mapping[FolderId, str], now: datetime) -> Subscription:
    """Do as `Mailbox.subscribe`: all orders in one $batch, and either all of them or none."""
    asked = _orders(base, hook, folders, now)
    granted: list[Mapping[str, Any]] = []
    refused: list[SsiError] = []
    for answer, call in zip(calls.exchange(asked), asked, strict=True):
        try:
            granted.append(object_of(answer, call))
        except SsiError as error:
            refused.append(error)
    if not refused:
        return _joined(granted)
    if granted:
        unsubscribe(calls, _joined(granted))
    if isinstance(refused[0], Unknown):  # what was made all the same proves nothing to anybody, and ends by itself
        raise Transient(f"{PEER} did not confirm the subscription.") from refused[0]
    raise refused[0]


def renew(calls: Calls, subscription: Subscription, now: datetime) -> Subscription:
    asked = [write("PATCH", path, _until(now)) for path in _paths(subscription)]
    try:
        answers = calls.exchange(asked)
        return _joined([object_of(answer, call) for answer, call in zip(answers, asked, strict=True)])
    except NotFound:  # the rest would be silent about a folder
        unsubscribe(calls, subscription)
        raise
    except Unknown as error:
        raise Transient(f"{PEER} did not confirm the renewal.") from error


def unsubscribe(calls: Calls, subscription: Subscription) -> None:
    asked = [write("DELETE", path) for path in _paths(subscription)]
    for answer, call in zip(calls.exchange(asked), asked, strict=True):
        try:
            done(answer, call)
        except NotFound:
            continue
        except Unknown as error:
            raise Transient(f"{PEER} did not confirm that the subscription is ended.") from error


def _orders(base: str, hook: Hook, folders: Mapping[FolderId, str], now: datetime) -> list[Call]:
    """Return the calls that subscribe to the places and folders."""
    mail = ["inbox", "sentitems", *(segment(ref) for name, ref in folders.items() if name == "emails")]
    resources = [f"{base}/mailFolders('{folder}')/messages" for folder in mail]
    resources += [f"{base}/contactFolders/{segment(ref)}/contacts" for name, ref in folders.items() if name != "emails"]
    common = {
        "changeType": "created,updated,deleted",
        "notificationUrl": hook.url,
        "lifecycleNotificationUrl": hook.url,
        "clientState": hook.secret,
        **_until(now),
    }
    return [write("POST", "/subscriptions", {"resource": resource.lstrip("/"), **common}) for resource in resources]


def _until(now: datetime) -> dict[str, str]:
    return {"expirationDateTime": (now + LIFE).strftime("%Y-%m-%dT%H:%M:%SZ")}


def _joined(granted: list[Mapping[str, Any]]) -> Subscription:
    """Join what the service granted; the first to run out counts."""
    ends = min(datetime.fromisoformat(str(one["expirationDateTime"])) for one in granted)
    return Subscription(ref=",".join(str(one["id"]) for one in granted), expires_at=ends)


def _paths(subscription: Subscription) -> list[str]:
    return [f"/subscriptions/{segment(ref)}" for ref in subscription.ref.split(",")]


def notices(subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
    """Do as `Mailbox.verify`. (An event that Graph learns one day is taken for "missed", after which everything is looked at.)"""
    entries = _entries(body)
    secrets = [str(entry.get("clientState") or "").encode("utf-8", "replace") for entry in entries]
    expected = hook.secret.encode()
    if not entries or not all(hmac.compare_digest(secret, expected) for secret in secrets):
        raise Forbidden("The notification does not carry the secret.")
    ours = [entry for entry in entries if entry.get("subscriptionId") in subscription.ref.split(",")]
    if not ours:
        raise Forbidden("The notification is about another subscription.")
    events = [entry.get("lifecycleEvent") for entry in ours]
    return frozenset("changed" if event is None else _LIFECYCLE.get(str(event), "missed") for event in events)


def _entries(body: bytes) -> list[dict[str, Any]]:
    """Return the notifications in a body; [] if it is none."""
    if len(body) > MAX_BODY:
        return []
    try:
        entries = json.loads(body)["value"]
    except (ValueError, TypeError, KeyError, RecursionError):  # the last: anybody can send a thousand brackets
        return []
    return entries if isinstance(entries, list) and all(isinstance(entry, dict) for entry in entries) else []
