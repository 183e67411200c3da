"""The kinds of work: how rows of each are taken, taken up by another process, performed, and what becomes of one that breaks.

A row of work that fails for a reason of its own is put off by its use case. What is left for here is the fault that nobody
expected: the row waits longer each time, and after MAX_TRIES it is dead: it has a reason, is never due again by itself, and is
shown and driven on by `ssi jobs`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Generic, Protocol, TypeVar

from server import sync
from server.services import Deps, notices, saving, subscriptions
from server.services.context import scan_addresses
from server.store import AddressScan, HookSubscription, MailboxSync, Notice, Transaction

MAX_TRIES = 8
FIRST_PAUSE_S = 300.0
LONGEST_PAUSE_S = 3600.0
TRIES_WHILE_AWAY = 24  # about a day, if it is only that somebody does not answer
SESSION_TRIES = 20
OUR_FAULT = "We made a mistake with it. The log says more."


class Held(Protocol):
    """A row that this process holds."""

    @property
    def id(self) -> str: ...
    @property
    def fence(self) -> int: ...


R = TypeVar("R", bound=Held)


@dataclass(frozen=True, slots=True)
class Kind(Generic[R]):
    """One kind of work."""

    name: str  # as `ssi jobs` and messages between processes call it: never change one
    take: Callable[[Deps, int], Sequence[R]]  # at most so many, those that are due the longest
    perform: Callable[[Deps, R], None]
    broke: Callable[[Deps, R, str, bool], None]
    """What to do with a row that could not be performed: the reason, and whether it is only that somebody does not answer."""
    table: str = ""  # whose leases are kept alive while we work; "": the work does that itself
    take_up: Callable[[Transaction, str, int, datetime, float], R | None] | None = None
    """Hold a row that another process took, by its id and fence, and make the fence a new one; None if it is not to be had.
    Without this, rows are performed where they were taken."""


def _take_saves(deps: Deps, limit: int) -> Sequence[saving.Due]:
    return saving.take_due(deps, limit)


def _perform_save(deps: Deps, due: saving.Due) -> None:
    saving.perform(deps, due.id, due.fence)


def _save_broke(deps: Deps, due: saving.Due, reason: str, is_away: bool) -> None:
    saving.broke(deps, due, reason)


def _take_scans(deps: Deps, limit: int) -> Sequence[AddressScan]:
    with deps.store.transaction() as tx:
        return tx.take_scans(deps.now(), deps.limits.lease_s, limit)


def _scan_broke(deps: Deps, scan: AddressScan, reason: str, is_away: bool) -> None:
    with deps.store.transaction() as tx:
        tries = TRIES_WHILE_AWAY if is_away else MAX_TRIES
        tx.scan_failed(scan, _again(deps.now(), scan.attempts, tries=tries), reason)


def _take_sessions(deps: Deps, limit: int) -> Sequence[MailboxSync]:
    with deps.store.transaction() as tx:
        return tx.take_sessions(deps.now(), deps.limits.lease_s, limit)


def _session_broke(deps: Deps, session: MailboxSync, reason: str, is_away: bool) -> None:
    attempts, failures, now = session.attempts + 1, session.failures + 1, deps.now()
    due = _again(now, session.attempts, first_s=30.0, longest_s=1800.0, tries=SESSION_TRIES)
    values: dict[str, Any] = {"state": "failed" if due is None else "queued", "attempts": attempts, "failures": failures}
    code = "away" if is_away else "fault"
    with deps.store.transaction() as tx:
        tx.end_session(session, next_due_at=due, now=now, **values, reason=code, facts=None)
        notices.session_failed(tx, session, failures, code, now)


def _perform_session(deps: Deps, session: MailboxSync) -> None:
    sync.run_session(deps, session)
    if session.finished_at is None:  # the mailbox's first: what happens there is worth knowing at once from now on
        with deps.store.transaction(reading=True) as tx:
            connection = tx.connection(session.connection_id)
        subscriptions.arrange(deps, connection)


def _take_notices(deps: Deps, limit: int) -> Sequence[Notice]:
    return notices.take_due(deps, limit)


def _notice_broke(deps: Deps, notice: Notice, reason: str, is_away: bool) -> None:
    with deps.store.transaction() as tx:
        tx.notice_failed(notice, _again(deps.now(), notice.attempts), reason)


def _again(
    now: datetime,
    attempts: int,
    *,
    first_s: float = FIRST_PAUSE_S,
    longest_s: float = LONGEST_PAUSE_S,
    tries: int = MAX_TRIES,
) -> datetime | None:
    """Return when to try again after so many failures before this one; None: never."""
    if attempts + 1 >= tries:
        return None
    pause = min(longest_s, first_s * 2 ** min(attempts, 20))
    return now + timedelta(seconds=pause * random.uniform(0.8, 1.0))  # noqa: S311 - spreads tries


def _take_subscriptions(deps: Deps, limit: int) -> Sequence[HookSubscription]:
    with deps.store.transaction() as tx:
        return tx.take_subscriptions(deps.now(), deps.limits.lease_s, limit)


def _subscription_broke(deps: Deps, held: HookSubscription, reason: str, is_away: bool) -> None:
    subscriptions.failed(deps, held, reason, is_away=is_away)


SAVE: Kind[saving.Due] = Kind("save", _take_saves, _perform_save, _save_broke)
NOTICE: Kind[Notice] = Kind("notice", _take_notices, notices.send, _notice_broke)
SCAN: Kind[AddressScan] = Kind("scan", _take_scans, scan_addresses, _scan_broke, "address_scan", Transaction.take_up_scan)
SESSION: Kind[MailboxSync] = Kind(
    "session", _take_sessions, _perform_session, _session_broke, "mailbox_sync", Transaction.hold_session
)

SUBSCRIPTION: Kind[HookSubscription] = Kind(
    "subscription",
    _take_subscriptions,
    subscriptions.perform,
    _subscription_broke,
    "subscription",
    Transaction.hold_subscription,
)

SHORT: tuple[Kind[Any], ...] = (SAVE, NOTICE)
"""What somebody waits for, and what takes no longer than a few calls: it never waits behind the others."""
LONG: tuple[Kind[Any], ...] = (SESSION, SUBSCRIPTION, SCAN)
BY_NAME = {kind.name: kind for kind in (*SHORT, *LONG)}
