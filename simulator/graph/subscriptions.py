"""Microsoft Graph's subscriptions to Outlook items: the orders, the validation of where notifications go, and their delivery.

`Subscriptions` is also the back door for tests: `deliver` sends what there is to tell, `lifecycle` an event, `end` ends orders as
the service does now and then. Sources: the pages subscription-post-subscriptions, change-notifications-delivery-webhooks,
change-notifications-lifecycle-events and outlook-change-notifications-overview.
"""

from __future__ import annotations

import json
import re
import secrets
import ssl
import threading
import uuid
import weakref
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

import httpx

from simulator.graph.calls import Answer, Call, folder_of, mailbox_of, refuse_unknown
from simulator.graph.delta import Item
from simulator.graph.resources import GraphError, Json, etag, rest_form
from simulator.world import Folder, GetWorld, MailboxState, Person, World

LONGEST_LIFE = timedelta(minutes=4230)  # of Outlook resources without their data (outlook-change-notifications-overview)
CLIENT_STATE_LENGTH = 128
VALIDATION_S = 10.0
PATIENCE = timedelta(hours=4)  # how long a notification that was not taken is sent again
CHANGES = frozenset({"created", "updated", "deleted"})
WRITABLE = frozenset(
    {"changeType", "clientState", "expirationDateTime", "lifecycleNotificationUrl", "notificationUrl", "resource"}
    | {"includeResourceData", "latestSupportedTlsVersion"}
)
_RESOURCE = re.compile(
    r"/?(?:me|users/(?P<user>[^/]+))/"
    r"(?P<kind>mailFolders|contactFolders)(?:\('(?P<quoted>[^']+)'\)|/(?P<plain>[^/]+))/(?P<items>messages|contacts)"
)

Lifecycle = Literal["missed", "subscriptionRemoved", "reauthorizationRequired"]
Post = Callable[[str, bytes], tuple[int, str, bytes]]
"""Sends a body (JSON, or nothing) to a URL; returns status, content type and body, status 0 when nobody answered."""


def post_by_http(url: str, body: bytes, *, verify: ssl.SSLContext | bool = True) -> tuple[int, str, bytes]:
    """Do as `Post`; `verify` says which certificates are trusted."""
    headers = {"Content-Type": "application/json" if body else "text/plain; charset=utf-8"}
    try:
        answer = httpx.post(url, content=body, headers=headers, timeout=VALIDATION_S, verify=verify, trust_env=False)
    except httpx.HTTPError:
        return 0, "", b""
    return answer.status_code, answer.headers.get("content-type", ""), answer.content


@dataclass(slots=True)
class Order:
    """A subscription as the service keeps it."""

    owner: Person
    resource: str
    folder: str
    change_types: frozenset[str]
    url: str
    lifecycle_url: str
    client_state: str | None
    expires_at: datetime
    immutable_ids: bool
    known: set[str]  # immutable ids of what is in the folder, as was told
    told: int  # the mailbox's change up to which it was told
    id: str = field(default_factory=lambda: str(uuid.uuid4()))


@dataclass(slots=True)
class _Post:
    """Notifications on their way."""

    url: str
    value: list[Json]
    since: datetime


@dataclass(slots=True)
class _Books:
    """What is ordered in one World, and what is to be sent."""

    orders: dict[str, Order] = field(default_factory=dict)
    waiting: list[_Post] = field(default_factory=list)


class Subscriptions:
    """All orders, World by World. Thread-safe; nothing is sent while a World is locked."""

    def __init__(self, post: Post = post_by_http) -> None:
        self._post = post
        self._books: weakref.WeakKeyDictionary[World, _Books] = weakref.WeakKeyDictionary()

    # What clients ask

    def answer(self, world: World, call: Call) -> Answer:
        """Answer a call to /subscriptions. Do not hold the World's lock. Raises: GraphError."""
        match (call.method, *call.segments[1:]):
            case ("POST",):
                return self._create(world, call)
            case ("GET",):
                with world.lock:
                    own = [order for order in self._alive(world).values() if order.owner is call.person]
                    return Answer(200, {"value": [_order_json(order, world) for order in own]})
            case (method, identifier, *rest):
                with world.lock:
                    return self._one(world, call, self._find(world, call.person, identifier), (method, *rest))
        raise GraphError(501, "NotImplemented", f"The simulator has no {call.method} {call.path}.")

    def _one(self, world: World, call: Call, order: Order, what: tuple[str, ...]) -> Answer:
        match what:
            case ("GET",):
                return Answer(200, _order_json(order, world))
            case ("PATCH",):
                body = call.json()
                refuse_unknown(body, {"expirationDateTime"}, "microsoft.graph.subscription")
                order.expires_at = _expiry(body, world)
                world.happened("graph", "subscription_renew", order.owner.email, id=order.id)
                return Answer(200, _order_json(order, world))
            case ("DELETE",):
                del self._alive(world)[order.id]
                world.happened("graph", "subscription_delete", order.owner.email, id=order.id)
                return Answer(204)
            case ("POST", "reauthorize"):
                return Answer(204)
        raise GraphError(501, "NotImplemented", f"The simulator has no {call.method} {call.path}.")

    def _find(self, world: World, person: Person, identifier: str) -> Order:
        order = self._alive(world).get(identifier)
        if order is None or order.owner is not person:
            raise GraphError(404, "ResourceNotFound", "The object was not found.")
        return order

    def _create(self, world: World, call: Call) -> Answer:
        body = call.json()
        with world.lock:
            order = _ordered(world, call, body)
        for url in filter(None, (order.url, order.lifecycle_url)):
            self._validate(url)
        with world.lock:
            self._alive(world)[order.id] = order
            world.happened("graph", "subscription_create", order.owner.email, id=order.id, resource=order.resource)
            return Answer(201, _order_json(order, world))

    def _validate(self, url: str) -> None:
        """Ask whether notifications are wanted there (change-notifications-delivery-webhooks, "notificationUrl validation")."""
        token = f"Validation: {secrets.token_urlsafe(24)} & more"  # has to be decoded, and to come back as plain text
        separator = "&" if "?" in url else "?"
        status, content_type, body = self._post(f"{url}{separator}validationToken={quote(token, safe='')}", b"")
        is_plain = content_type.partition(";")[0].strip().lower() == "text/plain"
        if status != 200 or not is_plain or body != token.encode():
            text = "Subscription validation request failed. Notification endpoint must respond with 200 OK to validation request."
            raise GraphError(400, "ValidationError", text)

    def _alive(self, world: World) -> dict[str, Order]:
        """Return the orders that have not run out. Hold the World's lock."""
        books = self._books.setdefault(world, _Books())
        for order in [order for order in books.orders.values() if order.expires_at <= world.now()]:
            del books.orders[order.id]
        return books.orders

    # The back door

    def orders(self, world: World) -> list[Order]:
        with world.lock:
            return list(self._alive(world).values())

    def deliver(self, world: World) -> int:
        """Send what there is to tell; return how many notifications were taken. What is not taken is sent again next time."""
        with world.lock:
            for order in self._alive(world).values():
                self._collect(world, order)
            books = self._books.setdefault(world, _Books())
            posts, books.waiting = books.waiting, []
        taken = 0
        for post in posts:
            status, _, _ = self._post(post.url, json.dumps({"value": post.value}).encode())
            if 200 <= status < 300:
                taken += len(post.value)
            elif world.now() - post.since < PATIENCE:
                with world.lock:
                    books.waiting.append(post)
        return taken

    def lifecycle(self, world: World, event: Lifecycle) -> int:
        """Tell of an event in the life of every order; return how many notifications were taken."""
        with world.lock:
            orders = self._alive(world)
            self._enqueue(
                world, [(o.lifecycle_url, _lifecycle_json(o, world, event)) for o in orders.values() if o.lifecycle_url]
            )
            if event == "subscriptionRemoved":
                orders.clear()
        return self.deliver(world)

    def _collect(self, world: World, order: Order) -> None:
        """Put what changed in the order's folder among what is to be sent; with the fault "missed" only that it was missed."""
        changes = _changes(world.mailbox(order.owner.email), order)
        told = [
            (order.url, _change_json(order, world, kind, identifier))
            for kind, identifier in changes
            if kind in order.change_types
        ]
        if told and order.lifecycle_url and world.take_fault("graph", "NOTIFY", order.resource, frozenset({"missed"})):
            told = [(order.lifecycle_url, _lifecycle_json(order, world, "missed"))]
        self._enqueue(world, told)

    def _enqueue(self, world: World, told: Iterable[tuple[str, Json]]) -> None:
        """Join notifications to the same place into one request, as the service may."""
        joined: defaultdict[str, list[Json]] = defaultdict(list)
        for url, notification in told:
            joined[url].append(notification)
        waiting = self._books.setdefault(world, _Books()).waiting
        waiting += [_Post(url, value, world.now()) for url, value in joined.items()]


class Courier:
    """Delivers notifications all the time, as a running service does; tests that want to say when call `deliver` instead."""

    def __init__(self, subscriptions: Subscriptions, get_world: GetWorld, *, every_s: float = 0.2) -> None:
        self._subscriptions, self._get_world, self._every_s = subscriptions, get_world, every_s
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Courier:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._thread.join(VALIDATION_S)

    def _run(self) -> None:
        while not self._ended.wait(self._every_s):
            self._subscriptions.deliver(self._get_world())


def _ordered(world: World, call: Call, body: Json) -> Order:
    """Read what is ordered. Raises: GraphError. (The codes of these errors are not documented, their statuses are.)"""
    refuse_unknown(body, WRITABLE, "microsoft.graph.subscription")
    for name in ("changeType", "notificationUrl", "resource", "expirationDateTime"):
        if not isinstance(body.get(name), str):
            raise GraphError(400, "InvalidRequest", f"{name} is required.")
    change_types = frozenset(part.strip() for part in body["changeType"].split(","))
    if not change_types <= CHANGES:
        raise GraphError(400, "InvalidRequest", "changeType must be created, updated or deleted.")
    lifecycle_url = body.get("lifecycleNotificationUrl") or ""
    for url in filter(None, (body["notificationUrl"], lifecycle_url)):
        if urlsplit(url).scheme != "https":
            raise GraphError(400, "InvalidRequest", "The URLs of notifications must be https.")
    if len(body.get("clientState") or "") > CLIENT_STATE_LENGTH:
        raise GraphError(400, "InvalidRequest", f"clientState must not be longer than {CLIENT_STATE_LENGTH} characters.")
    mailbox, folder = _ordered_folder(world, call.person, body["resource"])
    return Order(
        owner=call.person,
        resource=body["resource"],
        folder=folder.id,
        change_types=change_types,
        url=body["notificationUrl"],
        lifecycle_url=lifecycle_url,
        client_state=body.get("clientState"),
        expires_at=_expiry(body, world),
        immutable_ids=(call.prefers("IdType") or "").lower() == "immutableid",
        known={item.immutable_id for item in _inside(mailbox, folder.id)},
        told=mailbox.change,
    )


def _ordered_folder(world: World, person: Person, resource: str) -> tuple[MailboxState, Folder]:
    found = _RESOURCE.fullmatch(resource)
    if found is None or (found["kind"] == "mailFolders") != (found["items"] == "messages"):
        raise GraphError(400, "InvalidRequest", f"The simulator has no subscription to '{resource}'.")
    if found["user"] and unquote(found["user"]).lower() not in (person.email.lower(), person.object_id):
        raise GraphError(403, "ErrorAccessDenied", "Access is denied. Check credentials and try again.")
    mailbox = mailbox_of(world, person)
    kind: Literal["mail", "contacts"] = "mail" if found["kind"] == "mailFolders" else "contacts"
    return mailbox, folder_of(mailbox, kind, unquote(found["quoted"] or found["plain"]))


def _expiry(body: Json, world: World) -> datetime:
    try:
        until = datetime.fromisoformat(str(body.get("expirationDateTime")))
    except ValueError:
        raise GraphError(400, "InvalidRequest", "expirationDateTime is not a date and time.") from None
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    if not world.now() < until <= world.now() + LONGEST_LIFE:
        minutes = int(LONGEST_LIFE.total_seconds() // 60)
        raise GraphError(400, "ValidationError", f"Subscription expiration can only be {minutes} minutes in the future.")
    return until


def _inside(mailbox: MailboxState, folder: str) -> list[Item]:
    items: list[Item] = [*mailbox.messages.values(), *mailbox.contacts.values()]
    return [item for item in items if item.folder == folder]


def _changes(mailbox: MailboxState, order: Order) -> list[tuple[str, str]]:
    """Return what happened in the folder since it was told, as (changeType, immutable id), and take it as told."""
    if mailbox.change == order.told:
        return []
    here = _inside(mailbox, order.folder)
    changed = [item.immutable_id for item in here if item.change > order.told]
    gone = order.known - {item.immutable_id for item in here}
    found = [("updated" if identifier in order.known else "created", identifier) for identifier in changed]
    order.known, order.told = {item.immutable_id for item in here}, mailbox.change
    return found + [("deleted", identifier) for identifier in sorted(gone)]


def _order_json(order: Order, world: World) -> Json:
    return {
        "id": order.id,
        "resource": order.resource,
        "applicationId": world.client_id,
        "changeType": ",".join(sorted(order.change_types)),
        "clientState": order.client_state,
        "notificationUrl": order.url,
        "lifecycleNotificationUrl": order.lifecycle_url or None,
        "expirationDateTime": _stamp(order.expires_at),
        "creatorId": order.owner.object_id,
        "includeResourceData": None,
        "latestSupportedTlsVersion": "v1_2",
        "notificationQueryOptions": None,
        "notificationUrlAppId": None,
        "encryptionCertificate": None,
        "encryptionCertificateId": None,
    }


def _head(order: Order, world: World) -> Json:
    return {
        "subscriptionId": order.id,
        "subscriptionExpirationDateTime": _stamp(order.expires_at),
        "clientState": order.client_state,
        "tenantId": world.entra_tenant,
    }


def _change_json(order: Order, world: World, kind: str, identifier: str) -> Json:
    mailbox = world.mailbox(order.owner.email)
    is_mail = "messages" in order.resource
    item = mailbox.messages.get(identifier) or mailbox.contacts.get(identifier)
    known_as = identifier if order.immutable_ids or item is None else rest_form(item.ews_id)
    path = f"Users/{order.owner.object_id}/{'Messages' if is_mail else 'Contacts'}/{known_as}"
    data: Json = {"@odata.type": f"#Microsoft.Graph.{'Message' if is_mail else 'Contact'}", "@odata.id": path, "id": known_as}
    if item is not None:
        data["@odata.etag"] = etag(item)
    return {**_head(order, world), "changeType": kind, "resource": path, "resourceData": data}


def _lifecycle_json(order: Order, world: World, event: Lifecycle) -> Json:
    return {**_head(order, world), "lifecycleEvent": event}


def _stamp(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f") + "0Z"
