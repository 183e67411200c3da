"""The sync engine: one session after another for each connected mailbox.

A session makes sure that our folders and categories are there, by their refs where they were known, with their colours and
under their names. (People and messages are not mirrored yet.) Its row is the truth: what is done is kept after each step with a
lease and a fence, so that a session that was interrupted goes on where it stopped and none runs twice.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any

from server import logs
from server.domain.marks import FOLDERS, names_for
from server.errors import NeedsReauth, NotFound, Rejected, SsiError, Transient
from server.mail import Mailbox
from server.services import Deps
from server.services.connections import asking_mailbox
from server.store import MailboxSync

LEASE_S = 120.0  # longer than a step takes; who takes over a dead holder's session waits so long
RETRY_S = (30.0, 1800.0)  # at first and at the longest, when a mailbox does not answer
GIVE_UP = 20  # tries in a row

log = logs.get(__name__)


def _marks(mailbox: Mailbox, sync: MailboxSync) -> dict[str, Any]:
    names, known = names_for(mailbox.capabilities), {mark: ref for mark, (ref, _) in sync.marks.items()}
    ensured = mailbox.ensure_marks(names, known=known)
    return {"marks": {mark: [category.ref, category.name] for mark, category in ensured.items()}}


def _folders(mailbox: Mailbox, sync: MailboxSync) -> dict[str, Any]:
    ensured = mailbox.ensure_folders(FOLDERS, known={folder: ref for folder, (ref, _) in sync.folders.items()})
    return {"folders": {folder: [kept.ref, kept.name] for folder, kept in ensured.items()}}


PHASES: Mapping[str, Callable[[Mailbox, MailboxSync], dict[str, Any]]] = {"categories": _marks, "folders": _folders}
"""What a session does, one after the other -> what is then known."""


def run_due(deps: Deps) -> int:
    """Run the session that is due the longest; return how many that were."""
    with deps.store.transaction() as tx:
        sync = tx.take_session(deps.now(), LEASE_S)
    if sync is None:
        return 0
    run_session(deps, sync)
    return 1


def run_session(deps: Deps, sync: MailboxSync) -> None:
    """Do what a mailbox's session, which is held, has to do. Raises: LeaseLost; Transient if the database is away."""
    try:
        if sync.attempts >= GIVE_UP:
            raise Rejected(sync.reason or "The mailbox gave answers that we do not understand.")
        _keep(deps, sync, attempts=sync.attempts + 1)  # counted before, since what is odd enough may end this very run
        with deps.store.transaction(reading=True) as tx:
            connection = tx.connection(sync.connection_id)
        if connection.state != "active":
            raise NeedsReauth(connection.reason or "The mailbox is not connected.", connection=connection.id)
        with asking_mailbox(deps, connection) as mailbox:
            for number, (phase, step) in enumerate(PHASES.items()):
                _keep(deps, sync, state="running", phase=phase, done=number, total=len(PHASES), reason="")
                _keep(deps, sync, **step(mailbox, sync))
    except Transient as error:
        _put_off(deps, sync, error)
    except SsiError as error:
        _fail(deps, sync, error)
    else:
        _end(deps, sync, state="done", phase="", done=len(PHASES), total=len(PHASES), attempts=0, finished_at=deps.now())


def _keep(deps: Deps, sync: MailboxSync, **values: Any) -> None:
    with deps.store.transaction() as tx:
        tx.keep_session(sync, deps.now(), LEASE_S, **values)


def _end(deps: Deps, sync: MailboxSync, *, after_s: float | None = None, **values: Any) -> None:
    due = None if after_s is None else deps.now() + timedelta(seconds=after_s)
    with deps.store.transaction() as tx:
        tx.end_session(sync, next_due_at=due, **values)


def _put_off(deps: Deps, sync: MailboxSync, error: Transient) -> None:
    """The mailbox cannot answer now: try again later, unless that was tried often enough."""
    attempts = sync.attempts + 1
    first, longest = RETRY_S
    pause = min(longest, first * 2 ** min(attempts - 1, 10)) * random.uniform(0.8, 1.2)  # noqa: S311 - nobody gains by guessing it
    _end(deps, sync, after_s=max(pause, error.retry_after_s or 0.0), state="queued", attempts=attempts, reason=str(error)[:400])


def _fail(deps: Deps, sync: MailboxSync, error: SsiError) -> None:
    """A person is needed, or the mailbox refuses: connecting it again begins anew."""
    if isinstance(error, NotFound):
        log.warning("a session lost its mailbox", connection=sync.connection_id)
    _end(deps, sync, state="failed", reason=str(error)[:400])
