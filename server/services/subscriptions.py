"""Notifications: orders at the mail services, their renewal, and what a notification leads to.

A notification only says that a mailbox is worth a look: it wakes the mailbox's session, whatever it says and however often it
comes. What is lost of them costs a wait until the ordinary session. An order is a row; its id is in the address that the service
calls, its secret is ours and sealed, and kept before the service learns it, since the service may call before it answers us.
"""

from __future__ import annotations

import base64
import binascii
import json
import random
import secrets
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from server import logs
from server.domain.marks import FolderId
from server.errors import Forbidden, NeedsReauth, NotFound, SsiError, Transient
from server.mail import Hook, Mailbox, Subscription
from server.services import Deps
from server.services.connections import asking_mailbox
from server.store import Connection, DatabaseAway, HookSubscription, LeaseLost, Transaction

RENEWED_AT = (0.35, 0.45)  # of the life that the service promised
NOT_READY_S = 30.0  # until a mailbox without folders is looked at again
PAUSE_S = (60.0, 3600.0)  # at first and at the longest, after an order failed
TRIES = 8
TRIES_WHILE_AWAY = 30  # a day of hours, if the service only does not answer

log = logs.get(__name__)


def arrange(deps: Deps, connection: Connection) -> None:
    """Have a mailbox's notifications ordered, where its service sends any and could reach us."""
    if deps.hooks_url and "push" in deps.capabilities(connection.provider):
        with deps.store.transaction() as tx:
            tx.want_subscription(connection, deps.now())


def perform(deps: Deps, held: HookSubscription) -> None:
    """Order notifications, or renew the order. The caller holds the row's lease.

    Raises: LeaseLost; the error tree if the service refuses or does not answer: the caller then calls `failed`.
    """
    with deps.store.transaction(reading=True) as tx:
        connection, session = tx.connection(held.connection_id), tx.session_of(held.connection_id)
    if connection.state != "active" or not deps.hooks_url:
        _forget(deps, held)
        return
    folders = {name: ref for name, (ref, _) in session.folders.items()} if session else {}
    if not folders:
        with deps.store.transaction() as tx:
            tx.end_renewal(held, next_due_at=deps.now() + timedelta(seconds=NOT_READY_S))
        return
    try:
        with asking_mailbox(deps, connection) as mailbox:
            if "push" not in mailbox.capabilities:
                _forget(deps, held)
                return
            _renew(deps, held, connection, mailbox, folders)
    except NeedsReauth:  # which is noted on the connection; once it is mended, the order is made anew
        _forget(deps, held)


def failed(deps: Deps, held: HookSubscription, reason: str, *, is_away: bool) -> None:
    """An order could not be made or renewed: try again later, but not for ever. Raises: LeaseLost."""
    attempts, (first, longest) = held.attempts + 1, PAUSE_S
    pause = min(longest, first * 2 ** min(held.attempts, 10)) * random.uniform(0.8, 1.0)  # noqa: S311 - spreads tries
    gives_up = attempts >= (TRIES_WHILE_AWAY if is_away else TRIES)
    due = None if gives_up else deps.now() + timedelta(seconds=pause)
    with deps.store.transaction() as tx:
        tx.end_renewal(held, next_due_at=due, attempts=attempts, reason=reason[:400])


def end(deps: Deps, connection: Connection) -> None:
    """End the orders of a mailbox that is about to be disconnected; one that cannot be ended now ends by itself in days."""
    with deps.store.transaction(reading=True) as tx:
        found = tx.subscription_of(connection.id)
    if found is None or not found.ref or connection.state != "active":
        return
    try:
        deps.mailbox(connection).unsubscribe(_order(found))
    except SsiError as error:
        log.info("a subscription was not ended", subscription=found.id, reason=type(error).__name__)


# What services tell


def is_known(deps: Deps, subscription_id: str) -> bool:
    """Say whether we await notifications at this address. Raises: Transient while the database is away."""
    try:
        with deps.store.transaction(reading=True) as tx:
            tx.subscription(subscription_id)
    except NotFound:
        return False
    return True


def told(deps: Deps, subscription_id: str, body: bytes) -> None:
    """Take a notification that came to a subscription's address; when this returns, what follows from it is committed.

    Raises: NotFound for an unknown subscription; Forbidden if the body does not prove to come from the service; Transient
    while the database is away, or the subscription is only being made: then the service has to send it again.
    """
    with deps.store.transaction(reading=True) as tx:
        found = tx.subscription(subscription_id)
        connection, is_awake = _mailbox_of(tx, found, deps.now())
    _take(deps, found, connection, body, is_awake=is_awake)


def pushed(deps: Deps, bearer: str, body: bytes) -> None:
    """Take a push of Google's Pub/Sub, which has one address for all mailboxes, as `told`.

    A push about a mailbox that is not connected is taken and changes nothing: sending it again would not help. The trouble of
    one tenant that has the mailbox keeps it from none of the others.

    Raises: Forbidden if the token is not the push account's, or the body no push; Transient.
    """
    if deps.push_verifier is None:
        raise NotFound("Notifications from Google are not set up.")
    try:
        deps.push_verifier.verify(bearer)
    except NeedsReauth as error:
        raise Forbidden("The notification does not prove to come from Google.") from error
    address = _address_in(body)
    with deps.store.transaction(reading=True) as tx:
        found = [(one, *_mailbox_of(tx, one, deps.now())) for one in tx.subscriptions_on("google", address)]
    trouble: SsiError | None = None
    for one, connection, is_awake in found:
        if connection.state != "active":
            continue
        try:
            _take(deps, one, connection, body, is_awake=is_awake)
        except SsiError as error:
            trouble = error
    if trouble is not None:
        raise trouble


def _mailbox_of(tx: Transaction, found: HookSubscription, now: datetime) -> tuple[Connection, bool]:
    """Return the mailbox, and whether its next session is about to begin anyway."""
    return tx.connection(found.connection_id), tx.is_session_due(found.connection_id, now)


def _take(deps: Deps, found: HookSubscription, connection: Connection, body: bytes, *, is_awake: bool) -> None:
    """Wake the mailbox; one that is awake costs no write, so that a burst of notifications costs one."""
    if found.secret is None or not found.ref:
        raise Transient("The subscription is being made.", retry_after_s=5.0)
    if connection.state != "active":
        raise NotFound("There is no such subscription.")
    notices = deps.mailbox(connection).verify(_order(found), _hook(deps, found), body)
    is_ending = bool(notices & {"ended", "reauthorize"})
    if is_awake and not is_ending:
        return
    now = deps.now()
    with deps.store.transaction() as tx:
        if is_ending:
            tx.renew_soon(found.id, now)
        tx.wake_session(connection.id, now, by_notice=True)
        tx.after_commit(deps.wake)


def _address_in(body: bytes) -> str:
    """Return which mailbox a push is about. Raises: Forbidden if it is none."""
    try:
        told: Mapping[str, Any] = json.loads(base64.urlsafe_b64decode(json.loads(body)["message"]["data"]))
        return str(told["emailAddress"]).encode().decode()  # half a character is in no address
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error) as error:
        raise Forbidden("This is no notification.") from error


# Ordering


def _renew(deps: Deps, held: HookSubscription, connection: Connection, mailbox: Mailbox, folders: Mapping[FolderId, str]) -> None:
    order = None
    if held.ref and held.secret is not None:
        try:
            order = mailbox.renew(_order(held))
        except NotFound:
            log.info("a subscription has ended", subscription=held.id)
    began_anew = order is None
    if order is None:
        held = _with_secret(deps, held)
        order = mailbox.subscribe(_hook(deps, held), folders=folders)
    now = deps.now()
    due = now + (order.expires_at - now) * random.uniform(*RENEWED_AT)  # noqa: S311 - spreads renewals
    try:
        with deps.store.transaction() as tx:
            tx.end_renewal(held, next_due_at=due, ref=order.ref, expires_at=order.expires_at, attempts=0, reason="")
            if began_anew and held.ref:
                tx.wake_session(connection.id, now, by_notice=True)  # nobody told of what happened meanwhile
                tx.after_commit(deps.wake)
    except (LeaseLost, DatabaseAway):  # it would call us for nothing
        mailbox.unsubscribe(order)
        raise


def _with_secret(deps: Deps, held: HookSubscription) -> HookSubscription:
    """Keep a new secret for an order that is about to be made, and forget the old order. Raises: LeaseLost."""
    sealed = deps.vault.seal(held.tenant_id, held.id, "secret", secrets.token_urlsafe(48).encode())
    with deps.store.transaction() as tx:
        return tx.begin_subscription(held, sealed)


def _forget(deps: Deps, held: HookSubscription) -> None:
    with deps.store.transaction() as tx:
        tx.end_renewal(held, next_due_at=None)
        tx.drop_subscription(held.connection_id)


def _hook(deps: Deps, found: HookSubscription) -> Hook:
    secret = deps.vault.open(found.tenant_id, found.id, "secret", found.secret or b"").decode()
    return Hook(f"{deps.hooks_url}/hooks/graph/{found.id}", secret)  # Google calls where its operator told it to


def _order(found: HookSubscription) -> Subscription:
    if found.expires_at is None:
        raise Transient("The subscription is being made.", retry_after_s=5.0)
    return Subscription(found.ref, found.expires_at)
