"""The sync engine: one session after another for each connected mailbox.

A session sees to our folders and categories, mirrors people both ways, and saves the messages that are marked. Its row is the
truth: what is done is kept after each step with a lease and a fence, and the cursors last, in one transaction with its end. So a
session that was interrupted goes on where it stopped, none runs twice at a time, and one that finds nothing to do costs one
request to each side (to Google, which is two services, two), and two transactions beside the claim and the look at the mailbox's
token.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import Any

from server import logs
from server.domain.marks import FolderId, MarkId, folder_names, names_for
from server.domain.people import PersonType
from server.domain.sentences import rejected
from server.errors import Forbidden, NeedsReauth, NotFound, RateLimited, Rejected, SsiError, Transient
from server.mail import Mailbox, MessageChange
from server.services import Deps, Principal, issues, notices, syncing
from server.services.connections import C4C_USER, asking_c4c, asking_mailbox, own_connection
from server.store import Connection, LeaseLost, MailboxSync
from server.sync import messages
from server.sync.people import Mirror
from server.sync.run import FOLDER_OF, Run
from server.transport import asking_first

CHECK_EVERY = timedelta(hours=24)  # definitions of marks, and folders
RETRY_S = 30.0  # after the first failure; twice as long after each further one, up to the interval
GIVE_UP = 20  # sessions in a row that ended without a word: whoever ran them died
SOON_S = 5.0

log = logs.get(__name__)


def run_session(deps: Deps, sync: MailboxSync) -> None:
    """Do what a mailbox's session, which is held, has to do. Raises: LeaseLost; Transient if the database is away."""
    begun = None
    try:
        begun, principal, connection = _begin(deps, sync)
        with asking_mailbox(deps, connection) as mailbox:
            run = _entered(deps, begun, principal, connection, mailbox)
            with asking_first(run.hold):
                _open(run)
                mirror, changes = _read_mailbox(run)
                changes += _mirror_people(run, mirror)
            _save_messages(run, changes)
            _end(run, mirror)
    except LeaseLost:
        _look_again(deps, sync)
        raise
    except SsiError as error:
        _fail(deps, begun or sync, error)


# --- the steps, in their order --------------------------------------------------------------------------------------------


def _begin(deps: Deps, sync: MailboxSync) -> tuple[MailboxSync, Principal, Connection]:
    """Note that the session is under way; counted before, since what is odd enough may end this very process."""
    now = deps.now()
    begun: dict[str, Any] = {"state": "running", "began_at": now, "phase": "", "done": 0, "total": 0, "reason": "", "facts": None}
    with deps.store.transaction() as tx:
        tx.keep_session(sync, now, deps.limits.lease_s, **begun, attempts=sync.attempts + 1)
        connection, principal = tx.connection(sync.connection_id), tx.principal_of(sync.user_id)
        account = connection.account_key or connection.mailbox
        if sync.account and sync.account not in (account, connection.mailbox):
            tx.forget_mailbox(sync, account)
            fresh = tx.session_of(sync.connection_id)
            sync = fresh if fresh is not None else sync
        elif sync.account != account:  # not kept yet, or not known by more than its address until now
            tx.keep_session(sync, now, deps.limits.lease_s, account=account)
    if sync.attempts >= GIVE_UP:
        raise rejected("not_understood")
    if principal is None:
        raise rejected("not_set_up")
    if connection.state != "active":
        raise NeedsReauth(connection.reason or "The mailbox is not connected.", connection=connection.id)
    return replace(sync, began_at=now), principal, connection


def _entered(deps: Deps, sync: MailboxSync, principal: Principal, connection: Connection, mailbox: Mailbox) -> Run:
    """Return the session with all that its steps share."""
    return Run(
        deps=deps,
        sync=sync,
        principal=principal,
        connection=connection,
        mailbox=mailbox,
        people=deps.c4c(principal).people,
        names={mark: name for mark, (_, name) in sync.marks.items()},
        folders={folder: ref for folder, (ref, _) in sync.folders.items()},
        employee_id=sync.employee_id,
    )


def _open(run: Run) -> None:
    """Find out who the person is, and have our marks and folders there."""
    deps = run.deps
    if not run.employee_id:
        with asking_c4c(run.principal):
            me = deps.c4c(run.principal).who_am_i()
        run.employee_id = me.employee_id or me.business_partner_id
        _tell_employee(run)
    checked = run.sync.checked_at
    if checked is None or run.is_forced or deps.now() - checked >= CHECK_EVERY:
        _define(run)


def _tell_employee(run: Run) -> None:
    """Keep who the person is in C4C. Whom C4C knows as no employee owns nothing there, and is told so; their messages go on."""
    key = issues.key_of("mailbox", "no_employee")
    if run.employee_id:
        run.mend(key)
        run.keep(employee_id=run.employee_id)
        return
    run.tell(issues.Finding("mailbox", key, "no_employee", choices=(issues.DISMISS,)))


def _define(run: Run) -> None:
    """Have our marks and folders there, as they are meant to be."""
    run.keep(phase="categories")
    known_marks: Mapping[MarkId, str] = {mark: ref for mark, (ref, _) in run.sync.marks.items()}
    marks = run.mailbox.ensure_marks(names_for(run.mailbox.capabilities, run.principal.user.language), known=known_marks)
    run.names = {mark: category.name for mark, category in marks.items()}
    run.keep(phase="folders", marks={mark: [category.ref, category.name] for mark, category in marks.items()})
    before = dict(run.folders)
    folders = run.mailbox.ensure_folders(folder_names(run.principal.user.language), known=before)
    run.folders = {folder: one.ref for folder, one in folders.items()}
    _refill(run, before)
    values = {folder: [one.ref, one.name] for folder, one in folders.items()}
    run.keep(phase="", folders=values, checked_at=run.deps.now(), crm_cursors=run.sync.crm_cursors)


def _refill(run: Run, before: Mapping[FolderId, str]) -> None:
    """A folder that was deleted is made anew: what was in it is brought down again, as nobody meant to delete people."""
    anew: list[PersonType] = [type for type, name in FOLDER_OF.items() if name in before and run.folders[name] != before[name]]
    for type in anew:
        with run.deps.store.transaction(reading=True) as tx:
            links = [link for link in tx.links(run.connection.id, type) if link.folder == before[FOLDER_OF[type]]]
        to_fill = [link for link in links if link.record_id and link.state in ("linked", "creating_item")]
        lost = [link.id for link in links if not link.record_id]
        run.sync = replace(
            run.sync, crm_cursors={k: at for k, at in run.sync.crm_cursors.items() if not k.startswith(f"{type}/")}
        )
        cleared: dict[str, Any] = {"item_ref": None, "item_etag": "", "item_base": "", "sent_at": None, "code": ""}
        run.keep(
            [replace(link, state="creating_item", **cleared) for link in to_fill], drop=lost, crm_cursors=run.sync.crm_cursors
        )
        log.info("a folder is filled again", connection=run.connection.id, folder=FOLDER_OF[type], people=len(to_fill))


def _read_mailbox(run: Run) -> tuple[Mirror, list[MessageChange]]:
    """Read the mailbox's changes; should one of our folders be gone, make it anew first."""
    mirror = Mirror(run)
    try:
        return mirror, mirror.items.pull()
    except NotFound:
        _define(run)
        mirror = Mirror(run)
        return mirror, mirror.items.pull()


def _mirror_people(run: Run, mirror: Mirror) -> list[MessageChange]:
    """Bring both sides to agree; return the messages that came meanwhile."""
    mirror.stop_mirroring()
    mirror.settle()
    mirror.release_held()
    mirror.pull_records()
    mirror.sweep()
    mirror.finish_items()
    mirror.apply()
    later = mirror.catch_up()
    if run.is_first:
        mirror.ask_about_uploads()
    return later


def _save_messages(run: Run, changes: list[MessageChange]) -> None:
    """Save what is marked or picked by a rule, if there may be anything."""
    sync = run.sync
    if changes or run.is_forced or sync.state != "done" or sync.counts.get("emails_waiting"):
        known = replace(sync, marks={mark: ("", name) for mark, name in run.names.items()})
        progress = partial(run.progress, "messages")
        run.counts.update(
            messages.handle(run.deps, run.principal, run.connection, run.mailbox, known, changes, progress=progress)
        )


def _end(run: Run, mirror: Mirror) -> None:
    """Keep the cursors, now that all that they stand for is done, and say when the next session is due."""
    if run.has_news:
        run.keep()
    deps, sync, now = run.deps, run.sync, run.deps.now()
    if not run.is_first and sync.uploads == "ask" and sync.counts.get("held"):
        run.counts["held"] = sync.counts["held"]  # until their owner answers
    waiting, unsettled = mirror.writer.waiting, mirror.writer.unsettled
    counts = {**{name: number for name, number in run.counts.items() if number}, "waiting": waiting + unsettled}
    is_soon = unsettled and not sync.counts.get("waiting")  # what waited before is no matter of moments
    values: dict[str, Any] = {"cursor": mirror.items.cursor, "crm_cursors": mirror.cursors.records, "counts": counts}
    if mirror.cursors.swept_at is not None:
        values["swept_at"] = mirror.cursors.swept_at
    if sync.allowed_at is not None:
        values["allowed_at"] = None
    if run.is_first:
        values["first_done_at"] = now
    pause = deps.limits.unknown_settle_s + SOON_S if is_soon else _interval_s(run.principal)
    values |= {"state": "done", "phase": "", "done": mirror.writer.done, "total": mirror.writer.done}
    values |= {"finished_at": now, "attempts": 0, "failures": 0, "reason": ""}
    with deps.store.transaction() as tx:
        tx.end_session(sync, next_due_at=now + timedelta(seconds=pause), now=now, **values)


# --- what went wrong ------------------------------------------------------------------------------------------------------


def _fail(deps: Deps, sync: MailboxSync, error: SsiError) -> None:
    """Say why the session failed, and when the next one tries: not before a person acts where only that can help."""
    now, failures = deps.now(), sync.failures + 1
    is_shut_out = isinstance(error, Forbidden) and error.code == C4C_USER
    if is_shut_out:
        failures = max(failures, notices.FAILING)  # told at once: there will be no further one to count
    with deps.store.transaction(reading=True) as tx:
        principal = tx.principal_of(sync.user_id)
    interval = _interval_s(principal) if principal is not None else RETRY_S
    state, due, rested_at = "failed", None, now
    if isinstance(error, Transient):
        longer = RETRY_S * 2 ** min(failures - 1, 10) * random.uniform(0.8, 1.2)  # noqa: S311 - nobody gains by guessing it
        pause = min(interval, longer)
        rested_at = now + timedelta(seconds=error.retry_after_s or 0.0)
        begins = rested_at if isinstance(error, RateLimited) else now  # its owner's clicks come first when the rest is over
        state, due = "queued", max(begins + timedelta(seconds=pause), rested_at)
    elif not isinstance(error, NeedsReauth) and not is_shut_out and principal is not None and sync.attempts < GIVE_UP:
        due = now + timedelta(seconds=interval)
    values = syncing.reason_kept(deps, sync, error) | ({"checked_at": None} if isinstance(error, NotFound | Forbidden) else {})
    log.info("a session failed", connection=sync.connection_id, reason=type(error).__name__, failures=failures)
    with deps.store.transaction() as tx:
        tx.end_session(
            sync,
            next_due_at=due,
            now=now,
            not_before=rested_at,
            state=state,
            attempts=0,
            failures=failures,
            **values,
        )
        notices.session_failed(tx, sync, failures, values["reason"], now)


def _look_again(deps: Deps, sync: MailboxSync) -> None:
    """Have a session begin soon: what this one had under way when it was taken for dead may be there twice now."""
    with deps.store.transaction() as tx:
        tx.wake_session(sync.connection_id, deps.now())


def _interval_s(principal: Principal) -> float:
    minutes = principal.profile.interval_min
    return minutes * 60.0 * random.uniform(0.9, 1.1)  # noqa: S311 - nobody gains by guessing it


def begin_now(deps: Deps, principal: Principal, *, forced: bool = False) -> None:
    """Have the session of a person's mailbox begin now; `forced`: with what failed before. Raises: Rejected if none may."""
    connection = own_connection(deps, principal)
    with deps.store.transaction() as tx:
        if connection is None or not tx.wake_session(connection.id, deps.now(), forced=forced):
            raise Rejected("No session may begin: the mailbox is not connected, or its sessions are suspended.")
        tx.after_commit(deps.wake)


# --- without doing it -----------------------------------------------------------------------------------------------------


def plan_only(deps: Deps, principal: Principal) -> list[tuple[str, PersonType, str]]:
    """Return what the next session would do for people: what, with which type, with whom. Nothing is changed anywhere.

    Raises: Rejected if no mailbox is connected, or its first session has not begun; as the two sides.
    """
    connection = own_connection(deps, principal)
    with deps.store.transaction(reading=True) as tx:
        sync = tx.session_of(connection.id) if connection is not None else None
    if connection is None or sync is None or not sync.folders:
        raise Rejected("There is no mailbox with folders of ours yet: the first session makes them.")
    with asking_mailbox(deps, connection) as mailbox:
        run = _entered(deps, replace(sync, began_at=deps.now()), principal, connection, mailbox)
        mirror = Mirror(run, dry=True)
        mirror.items.pull()
        mirror.pull_records()
        mirror.finish_items()
        mirror.apply()
    return mirror.planned
