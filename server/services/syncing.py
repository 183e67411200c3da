"""The sync engine as the person whose mailbox it is sees and steers it: how far it is, Force Sync, suspending, own settings.

Nothing here waits for the engine: what is wanted is written to its row, and a worker finds it there. Times are UTC.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from concurrent.futures import CancelledError, TimeoutError as FutureTimeout
from contextvars import copy_context
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal, NamedTuple, get_args

from server.domain.marks import Language
from server.domain.profile import BLOCKLISTS, UNLOCKED, Profile, blocklisted
from server.domain.sentences import Cause, Reader, because, cause_of, told
from server.errors import Conflict, Forbidden, InvalidInput, SsiError, Transient
from server.services import Deps, Principal, connecting
from server.services.connections import IMPERSONATION, asking_c4c, own_connection
from server.store import Connection, MailboxSync

LANGUAGES: tuple[str, ...] = get_args(Language)
"""What names in the mailbox and e-mails may be written in."""

EngineState = Literal["off", "suspended", "queued", "running", "done", "failed"]
"""off: no mailbox is connected, so nothing runs. queued: a session begins as soon as a worker is free."""

_EARLY_S = 5.0  # before that, nothing can be said about how long it takes
_ENGINES = frozenset({*UNLOCKED, "conflict_winner", "deleting"} - {*BLOCKLISTS, "card_fields", "leads_enabled"})
"""Settings that a session goes by."""


class CannotSync(Conflict):
    """No session can be had now: `code` says why, for the front ends."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


@dataclass(frozen=True, slots=True)
class Engine:
    """The sessions of one mailbox."""

    state: EngineState = "off"
    is_first: bool = False  # not everything was brought down yet
    phase: str = ""
    done: int = 0  # of the phase's `total`, which may be 0
    total: int = 0
    left_s: float | None = None  # None: cannot be told
    last_at: datetime | None = None  # end of the last session that ended well
    counts: Mapping[str, int] | None = None  # what that one did, by name
    next_at: datetime | None = None
    failures: int = 0  # sessions in a row
    reason: str = field(default="", repr=False)  # why the last one failed, or is put off: a sentence
    is_suspended: bool = False  # by its owner


class C4CState(NamedTuple):
    state: Literal["active", "refused", "away"]
    reason: str


@dataclass(frozen=True, slots=True)
class Dashboard:
    mailbox: connecting.Overview
    c4c: C4CState
    engine: Engine
    issues: int
    threads: int  # conversations whose further messages are saved


class Setting(NamedTuple):
    value: Any
    is_locked: bool  # by the organization


# Looking


def overview(deps: Deps, principal: Principal, *, language: str = "") -> Dashboard:
    """Return what the dashboard shows; why a session failed in this language, or the person's.

    Asks C4C, within the time that a person waits, whether it takes the person.
    """
    connection = own_connection(deps, principal)
    threads = 0
    if connection is not None:
        with deps.store.transaction(reading=True) as tx:
            threads = len(tx.followed(connection.id))
    return Dashboard(
        mailbox=connecting.overview(deps, principal),
        c4c=_c4c(deps, principal),
        engine=engine(deps, principal, language=language),
        issues=count_issues(deps, principal),
        threads=threads,
    )


def count_issues(deps: Deps, principal: Principal) -> int:
    with deps.store.transaction(reading=True) as tx:
        return tx.count_issues(principal.user.id)


def engine(deps: Deps, principal: Principal, *, language: str = "") -> Engine:
    """Return how the sessions of the person's mailbox go; why one failed in this language, or the person's."""
    connection = own_connection(deps, principal)
    if connection is None:
        return Engine()
    with deps.store.transaction(reading=True) as tx:
        sync = tx.session_of(connection.id)
    if sync is None:
        return Engine("queued" if connection.state == "active" else "off", is_first=True)
    now, state = deps.now(), _state(connection, sync, deps.now())
    is_waiting = state in ("done", "failed", "queued")
    is_told = state == "running" and sync.phase != "messages"  # before which the session was busy with the people
    return Engine(
        state=state,
        is_first=sync.first_done_at is None,
        phase=sync.phase,
        done=sync.done,
        total=sync.total,
        left_s=time_left(sync.began_at, now, sync.done, sync.total) if is_told else None,
        last_at=sync.finished_at,
        counts=sync.counts if sync.finished_at else None,
        next_at=sync.next_due_at if is_waiting else None,
        failures=sync.failures,
        reason=why(deps, principal, sync, language=language),
        is_suspended=sync.suspended_at is not None,
    )


def _state(connection: Connection, sync: MailboxSync, now: datetime) -> EngineState:
    if connection.state != "active":
        return "off"
    if sync.suspended_at is not None:
        return "suspended"
    if sync.lease_until is not None and sync.lease_until >= now:
        return "running"
    if sync.state == "running" or (sync.next_due_at is not None and sync.next_due_at <= now):
        return "queued"
    return sync.state


def time_left(began_at: datetime | None, now: datetime, done: int, total: int) -> float | None:
    """Return in how many seconds a phase is done if the rest goes as fast; None as long as nobody can tell."""
    took_s = (now - began_at).total_seconds() if began_at else 0.0
    if took_s < _EARLY_S or not 0 < done < total:
        return None
    return took_s / done * (total - done)


def _c4c(deps: Deps, principal: Principal) -> C4CState:
    def ask() -> None:
        with asking_c4c(principal):
            deps.c4c(principal).who_am_i()

    try:
        future = deps.background.submit(principal.tenant.id, copy_context().run, ask)
        try:
            future.result(timeout=deps.limits.context_deadline_s)
        except (FutureTimeout, CancelledError):
            future.cancel()
            return C4CState("away", "SAP Cloud for Customer is slow right now.")
    except Transient as error:
        return C4CState("away", str(error))
    except SsiError as error:
        return C4CState("refused", str(error))
    return C4CState("active", "")


# Why a session failed


def reason_kept(deps: Deps, sync: MailboxSync, error: SsiError | None) -> dict[str, Any]:
    """Return what is kept in the session's row of why it failed; None: a fault of ours. Call it outside of a transaction."""
    cause = cause_of(error) if error is not None else because("fault")
    try:
        facts = deps.vault.seal(sync.tenant_id, sync.id, "facts", json.dumps(dict(cause.facts)).encode())
    except Transient:  # the vault may be what failed: then the code has to do
        facts = None
    return {"reason": cause.code, "facts": facts if cause.facts else None}


def why(deps: Deps, principal: Principal, sync: MailboxSync, *, language: str = "") -> str:
    """Return why a mailbox's last session failed, or is put off, as a sentence in this language, or the person's; "" if not."""
    if not sync.reason:
        return ""
    facts: dict[str, str] = {}
    if sync.facts is not None:
        facts = json.loads(deps.vault.open(sync.tenant_id, sync.id, "facts", sync.facts))
    reader = Reader(language or principal.user.language, principal.organization.admin_contact)
    return told(Cause(sync.reason, facts), reader)


# Steering


def force(deps: Deps, principal: Principal) -> None:
    """Have a session begin now, or right after the one that is under way. Raises: CannotSync."""
    connection, now = _usable(deps, principal), deps.now()
    with deps.store.transaction() as tx:
        if tx.session_of(connection.id) is None:
            tx.queue_session(connection, now)
        if not tx.wake_session(connection.id, now, forced=True):
            raise CannotSync("sync_suspended", "Synchronization is suspended. Resume it in User Settings.")
        tx.record("sync.force", now, tenant_id=principal.tenant.id, user_id=principal.user.id, connection=connection.id)
        tx.after_commit(deps.wake)


def suspend(deps: Deps, principal: Principal) -> None:
    """Let no session begin until `resume`; one that is under way ends. Raises: CannotSync where there is nothing to suspend."""
    connection, now = _usable(deps, principal), deps.now()
    with deps.store.transaction() as tx:
        if tx.session_of(connection.id) is None:
            tx.queue_session(connection, now)
        tx.suspend_session(connection.id, now)
        tx.record("sync.suspend", now, tenant_id=principal.tenant.id, user_id=principal.user.id, connection=connection.id)


def resume(deps: Deps, principal: Principal) -> None:
    """Let sessions begin again, the first one now. Raises: CannotSync."""
    connection, now = _usable(deps, principal), deps.now()
    with deps.store.transaction() as tx:
        tx.resume_session(connection.id, now)
        tx.record("sync.resume", now, tenant_id=principal.tenant.id, user_id=principal.user.id, connection=connection.id)
        tx.after_commit(deps.wake)


def _usable(deps: Deps, principal: Principal) -> Connection:
    """Return the connection of the mailbox if a session could open it. Raises: CannotSync."""
    connection, contact = own_connection(deps, principal), principal.organization.admin_contact
    if connection is not None and connection.state == "active":
        return connection
    if connection is not None and connection.state == "suspended":
        raise CannotSync("mailbox_suspended", f"Your mailbox connection is suspended. Ask your administrator, {contact}.")
    if principal.organization.access_type == IMPERSONATION:
        raise CannotSync("mailbox_not_connected", f"Your mailbox is not connected. Ask your administrator, {contact}.")
    raise CannotSync("mailbox_not_connected", "Your mailbox is not connected. Connect it in User Settings.")


# Settings


def own_settings(principal: Principal) -> dict[str, Setting]:
    """Return every setting as it is for the person, by name; of a blocklist only what is the person's own."""
    profile, standard = principal.profile, principal.organization.profile
    own = standard.possible(principal.user.settings)
    settings = {f.name: Setting(getattr(profile, f.name), f.name not in standard.unlocked) for f in fields(Profile)}
    return settings | {name: settings[name]._replace(value=tuple(own.get(name, ()))) for name in BLOCKLISTS}


def change_settings(deps: Deps, principal: Principal, values: Mapping[str, Any]) -> None:
    """Let these settings be the person's own, at once; one that is as in the profile follows the profile from now on.

    Raises: Forbidden with code `setting_locked`; InvalidInput, naming the setting, for a value that it cannot have.
    """
    standard, contact = principal.organization.profile, principal.organization.admin_contact
    if not set(values) <= set(standard.unlocked):
        raise Forbidden(f"Only your administrator may change this. Ask {contact}.", code="setting_locked")
    own = {**standard.possible(principal.user.settings), **values}
    own |= {name: blocklisted(name, own[name]) for name in BLOCKLISTS if name in values}
    changed = standard.with_own(own)
    own = {name: value for name, value in own.items() if getattr(changed, name, None) != getattr(standard, name, None)}
    before = principal.profile
    is_for_engine = any(getattr(changed, name) != getattr(before, name) for name in values if name in _ENGINES)
    connection = own_connection(deps, principal)
    with deps.store.transaction() as tx:
        tx.set_own_settings(principal.user.id, own)
        if is_for_engine and connection is not None and tx.wake_session(connection.id, deps.now()):
            tx.after_commit(deps.wake)


def learn_language(deps: Deps, principal: Principal, language: str) -> None:
    """Keep the language of somebody's browser until they choose one."""
    if not principal.user.language and language in LANGUAGES:
        with deps.store.transaction() as tx:
            tx.set_language(principal.user.id, language)


def choose_language(deps: Deps, principal: Principal, language: str) -> None:
    """Write e-mails to the person, and names of what is made anew in the mailbox, in this language from now on.

    Raises: InvalidInput.
    """
    if language not in LANGUAGES:
        raise InvalidInput("language", f"must be one of {', '.join(LANGUAGES)}")
    if language == principal.user.language:
        return
    connection = own_connection(deps, principal)
    with deps.store.transaction() as tx:
        tx.set_language(principal.user.id, language)
        if connection is not None:
            tx.answer_session(connection.id, checked_at=None)  # names are compared when that is due
            if tx.wake_session(connection.id, deps.now()):
                tx.after_commit(deps.wake)
