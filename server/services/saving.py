"""Save: a message becomes exactly one e-mail activity in C4C.

    accept   read the message, check the wish, commit Save and SaveRequest       (nothing is promised before this)
    perform  read message -> find activity by key -> create what is missing -> set the mark -> finish

`perform` is written as steps that can each be repeated, and is run by whoever holds the Save's lease: the request that
accepted it, or the worker. Killed anywhere, the next run converges, because every step first looks at what is there. A
write whose answer was lost leaves `create_sent_at`: until C4C had time to show what it did, the outcome is `unknown` and
nothing is written again. A holder that was taken for dead and wakes up is refused by its fence, and takes back what it
created meanwhile. A wish that changes while an older one is worked on is taken up before the lease is given back.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, TimeoutError as FutureTimeout
from contextlib import ExitStack, closing
from contextvars import copy_context
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

from server import logs
from server.c4c import C4C, ActivityDraft
from server.domain import message as mail
from server.domain.marks import MarkId, SaveState, mark_for, marks_of, names_for
from server.domain.records import Activity, Record, RecordRef
from server.domain.sentences import FIRST, Cause, Reader, because, cause_of, in_short, rejected, told
from server.errors import Conflict, Forbidden, InvalidInput, NeedsReauth, NotFound, Rejected, SsiError, Transient, Unknown
from server.mail import IdForm, Mailbox, MessageHead
from server.services import Caller, Deps, Principal, threads
from server.services.choosing import PickedBy, wish_by_rule, wish_for_marked
from server.services.connections import (
    asking_c4c,
    asking_mailbox,
    mailbox_connection,
    not_connected,
    opens_by_sign_in,
    way_out,
)
from server.services.context import Item, is_linked, look_up
from server.services.issues import DISMISS, Finding, key_of, sealed
from server.services.wishes import (
    Material,
    Offered,
    Picked,
    Wish,
    check,
    draft_of,
    eml_refusal,
    offered,
    picked,
    reason_of,
    sealed_reason,
    split,
)
from server.store import CHANGE, Connection, DatabaseAway, LeaseLost, Save, SaveRequest, Transaction

T = TypeVar("T")
Also = Callable[[Transaction], None]
"""What is done in the transaction that promises a save."""

log = logs.get(__name__)

UNKNOWN_LOOK_S = (4.0, 15.0)  # how often an unknown outcome is looked up, at first and at the longest
MAX_REASON = 400  # characters
MAX_RUNS = 3  # how many newer wishes are taken up under one lease
CHANGE_REFUSED = "change_refused"  # code of a saved request that could not be changed as its user wished
HIDDEN = "hidden"  # code of a saved request whose activity C4C does not show to its user
_POLL_S = 0.1
OPEN: frozenset[SaveState] = frozenset({"pending", "unknown"})


@dataclass(frozen=True, slots=True)
class Preview:
    subject: str
    links: tuple[Record, ...]
    attachments: tuple[Offered, ...]
    eml_refusal: str | None  # why the message itself cannot go along as a file
    can_follow: bool  # further messages of its thread can be saved by themselves


@dataclass(frozen=True, slots=True)
class ActivityLink:
    id: str  # ObjectID
    url: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """A request as its user may see it."""

    request: SaveRequest
    activity: ActivityLink | None
    marks: tuple[MarkId, ...]
    was_saved_before: bool = False


@dataclass(frozen=True, slots=True)
class Unattended:
    """What became of a message that was saved with nobody present."""

    request: SaveRequest  # its `item_ref` may name another copy of the message
    is_outgoing: bool
    was_saved_before: bool


# Use cases


def preview(deps: Deps, caller: Caller, item: Item) -> Preview:
    """Return what a save of this message would hold.

    Raises: NotFound if the mailbox does not hold it; Rejected if it is too large; Transient; NeedsReauth.
    """
    _, material = _open(deps, caller, item)
    with closing(material):
        offers = tuple(offered(caller.principal, a) for a in material.parsed.message.attachments)
        subject, eml = material.parsed.message.subject, eml_refusal(caller.principal, material)
    try:
        cards = look_up(deps, caller.principal, item, anyway=True).cards
    except Transient as error:  # what C4C has is shown beside the message already; the files are what is asked for here
        log.info("a preview without records", reason=type(error).__name__)
        cards = ()
    can_follow = threads.can_follow(caller.principal, material.head.conversation)
    return Preview(subject, tuple(card.record for card in cards), offers, eml, can_follow)


def accept(deps: Deps, caller: Caller, item: Item, wish: Wish, *, follow_thread: bool = False) -> Outcome:
    """Save the message: promise it durably, then do it, in this call if it is quick.

    With `follow_thread` the further messages of its thread are saved, too, by the sync engine.

    Raises: InvalidInput, NotFound or Rejected when the wish is refused before anything was written; Transient and
    NeedsReauth when it could not be accepted. After that nothing is raised: the Outcome says how far it came.
    """
    connection, material = _open(deps, caller, item)
    with closing(material):
        check(caller.principal, wish, material)
        also = _following(deps, caller.principal, connection, material, wish) if follow_thread else None
        save = _put_save(deps, connection, material)
        wish_hash = _hash(deps, connection, wish)
        with deps.store.transaction(reading=True) as tx:
            before = tx.request_on(save.id, connection.user_id)
        was_saved = before is not None and before.state == "saved" and not _is_gone(deps, caller.principal, save)
        if before is not None and was_saved and before.wish_hash == wish_hash and before.code != CHANGE_REFUSED:
            request, fence = _renew_mark(deps, before, connection, material.head, also), None
        else:
            request, fence = _promise(deps, connection, item.id, save, wish, material, also=also)
        if request.next_due_at is not None:
            _within_deadline(deps, request, fence, material)
    return replace(status(deps, caller.principal, request.id), was_saved_before=was_saved)


def accept_unattended(
    deps: Deps,
    principal: Principal,
    connection: Connection,
    mailbox: Mailbox,
    ref: str,
    *,
    by: PickedBy = "mark",
    links: Sequence[RecordRef] = (),
) -> Unattended | None:
    """Save a message that was marked, or that a rule picks, with nobody present: promise it as `accept` does, then do it here.

    What it is linked to is found by the addresses in its header; `links` are taken in a thread where that finds nobody. What a
    person wished of this message stands: nothing is added to it. None says that the rule does not want the message: one that a
    program sent, or that is between colleagues alone.

    Raises: NotFound; Rejected when only a person can go on; Transient, Forbidden and NeedsReauth when nothing was
    promised yet. What is promised is carried out, here or later.
    """
    material = _read(deps, mailbox, ref, "rest")
    with closing(material):
        wish = None if by == "mark" else wish_by_rule(deps, principal, connection, material, by, links)
        if wish is None and by != "mark":
            return None
        save = _put_save(deps, connection, material)
        with deps.store.transaction(reading=True) as tx:
            request = tx.request_on(save.id, connection.user_id)
        was_saved, fence = request is not None and request.state == "saved", None
        if request is None or (by == "mark" and _begins_anew(deps, principal, save, request)):
            wish = wish or wish_for_marked(deps, principal, connection, material)
            request, fence = _promise(deps, connection, ref, save, wish, material, yields=True)
            was_saved = False
        elif request.state == "failed" and by == "mark":
            fence = _taken_up(deps, request)
        if fence is not None:  # else it is done, or somebody else does it
            copy_context().run(perform, deps, request.id, fence, material.handed_over())
        with deps.store.transaction(reading=True) as tx:
            request = tx.due_request(request.id)
    request = replace(request, reason=reason_of(deps, request))
    return Unattended(request, _is_outgoing(principal, connection, material), was_saved)


def sent_by_owner(deps: Deps, principal: Principal, connection: Connection, mailbox: Mailbox, ref: str) -> bool:
    """Say whether the owner of the mailbox sent a message, by its header. Raises: NotFound, Rejected; Transient, NeedsReauth."""
    material = _read(deps, mailbox, ref, "rest")
    with closing(material):
        return _is_outgoing(principal, connection, material)


def status(deps: Deps, principal: Principal, request_id: str) -> Outcome:
    """Raises: NotFound for an id that is not the caller's own."""
    with deps.store.transaction(reading=True) as tx:
        request = tx.request(principal, request_id)
        save = tx.save(request.save_id)
    activity_id = save.activity_id if request.state == "saved" and request.code != HIDDEN else None
    mark = mark_for(request.state)
    return Outcome(
        replace(request, reason=reason_of(deps, request)),
        ActivityLink(activity_id, deps.links(principal.tenant)("email", save.activity_human_id or "")) if activity_id else None,
        (mark,) if mark and not request.mark else (),
    )


def retry(deps: Deps, caller: Caller, request_id: str) -> Outcome:
    """Try a failed or waiting save again, now; the caller's sign-in is taken where the last try lacked one.

    Raises: NotFound; InvalidInput if nothing is left to try; NeedsReauth, Transient.
    """
    with deps.store.transaction(reading=True) as tx:
        request = tx.request(caller.principal, request_id)
    if request.payload is None and (request.state != "saved" or request.code == CHANGE_REFUSED):
        raise InvalidInput("id", "This save was given up. Save the message again.")
    if request.state == "saved" and not request.mark:
        return status(deps, caller.principal, request_id)
    mailbox_connection(deps, caller, anew=request.code == "needs_sign_in")
    with deps.store.transaction() as tx:
        tx.wake_request(request.id, deps.now())
    _within_deadline(deps, request, None, None)
    return status(deps, caller.principal, request_id)


@dataclass(frozen=True, slots=True)
class Due:
    """A request that waits for work, and the fence of its Save, which is held."""

    id: str
    save_id: str
    fence: int


def take_due(deps: Deps, limit: int) -> list[Due]:
    """Take requests that wait, the longest waiting first; called by the worker, which then performs each."""
    with deps.store.transaction(reading=True) as tx:
        due = tx.due_requests(deps.now(), limit)
    taken = []
    for request in due:
        with deps.store.transaction() as tx:
            fence = tx.lease_save(request.save_id, deps.now(), deps.limits.lease_s)
        if fence is not None:
            taken.append(Due(request.id, request.save_id, fence))
    return taken


def broke(deps: Deps, due: Due, reason: str) -> None:
    """A fault of ours ended a request's run: try again later, and fail it after so many times. Raises: LeaseLost."""
    with deps.store.transaction(reading=True) as tx:
        request = tx.due_request(due.id)
    now, attempts = deps.now(), request.attempts + 1
    values: dict[str, Any] = {"attempts": attempts, "next_due_at": now + timedelta(seconds=_backoff_s(attempts))}
    if attempts >= deps.limits.max_attempts:
        values |= {"next_due_at": None} | ({} if request.state == "saved" else {"state": "failed", "code": "fault"})
    with deps.store.transaction() as tx:
        tx.change_request(request, due.fence, now, reason=reason, **values)
        tx.release_save(due.save_id, due.fence)


# Accepting


def _open(deps: Deps, caller: Caller, item: Item) -> tuple[Connection, Material]:
    """Read the message for the caller, whose own sign-in replaces the stored one if that is no longer good."""
    connection, patience_s = mailbox_connection(deps, caller), deps.limits.context_deadline_s
    try:
        with asking_mailbox(deps, connection, caller) as mailbox:
            return connection, _read(deps, mailbox, item.id, item.id_form, patience_s)
    except NeedsReauth as error:
        if not opens_by_sign_in(caller, connection):
            raise not_connected(caller.principal, str(error)) from error
        connection = mailbox_connection(deps, caller, anew=True)
        with asking_mailbox(deps, connection) as mailbox:
            return connection, _read(deps, mailbox, item.id, item.id_form, patience_s)


def _read(deps: Deps, mailbox: Mailbox, item_id: str, id_form: IdForm, patience_s: float = 0.0) -> Material:
    """Read a message; a large one when there is a place for it, for which we wait so long at most."""
    head = mailbox.head(item_id, id_form)
    size = head.size_bytes if head.size_bytes is not None else deps.limits.max_message_bytes
    with ExitStack() as held:
        if size > deps.limits.large_message_bytes:
            if not deps.large.acquire(timeout=patience_s):
                raise Transient("Other large messages are being saved right now. Try again in a moment.", retry_after_s=10.0)
            held.callback(deps.large.release)
        mime = mailbox.mime(head.ref, max_bytes=deps.limits.max_message_bytes)
        return Material(head, mime, mail.parse(mime, item_class=head.item_class), held.pop_all())


def _put_save(deps: Deps, connection: Connection, material: Material) -> Save:
    """Return the tenant's Save of this message; the same Message-ID on another message is another message."""
    head, message = material.head, material.parsed.message
    key = mail.message_key(head.message_id or message.message_id, mailbox=connection.mailbox, immutable_id=head.ref)
    fingerprint = mail.fingerprint(message)
    with deps.store.transaction() as tx:
        save = tx.put_save(connection.tenant_id, key, fingerprint, deps.now())
        if save.fingerprint != fingerprint:
            save = tx.put_save(connection.tenant_id, mail.key_beside(key, fingerprint), fingerprint, deps.now())
    return save


def _is_gone(deps: Deps, principal: Principal, save: Save) -> bool:
    """Say whether the activity was deleted in C4C; while C4C does not answer, it is taken to be there."""
    if save.activity_id is None:
        return True
    try:
        future = deps.background.submit(principal.tenant.id, _has_activity, deps, principal, save, save.activity_id)
        return not future.result(timeout=deps.limits.context_deadline_s)
    except (SsiError, FutureTimeout, CancelledError) as error:
        log.info("not checked whether the activity is still there", reason=type(error).__name__)
    return False


def _has_activity(deps: Deps, principal: Principal, save: Save, activity_id: str) -> bool:
    try:
        deps.c4c(principal).activity(activity_id)
    except NotFound:
        return _is_hidden(deps, principal, save, activity_id)
    return True


def _is_hidden(deps: Deps, principal: Principal, save: Save, activity_id: str) -> bool:
    """Say whether C4C has a colleague's activity and only does not show it to this user, for whom it looks as if deleted.

    Whoever saved it is asked, as themselves and for nothing but its being there; if they cannot be, it is taken to be there.
    """
    if save.saved_by in (None, principal.user.id):
        return False
    with deps.store.transaction(reading=True) as tx:
        colleague = tx.principal_of(save.saved_by)
    if colleague is None:
        return True
    try:
        deps.c4c(colleague).activity(activity_id)
    except NotFound:
        return False
    except (NeedsReauth, Forbidden):
        return True
    return True


def _renew_mark(deps: Deps, request: SaveRequest, connection: Connection, head: MessageHead, also: Also | None) -> SaveRequest:
    """Have the mark set again if the message lost it; nothing else is to be done for a wish that was fulfilled."""
    names = _known_names(deps, connection) or names_for(deps.capabilities(connection.provider))
    with deps.store.transaction() as tx:
        if also is not None:
            also(tx)
        if not request.mark and "saved" in marks_of(head.categories, names):
            return replace(request, next_due_at=None)
        tx.wake_request(request.id, deps.now(), mark="saved")
        return tx.due_request(request.id)


def _is_outgoing(principal: Principal, connection: Connection, material: Material) -> bool:
    return mail.is_outgoing(material.parsed.message, principal.user.mailboxes | {connection.mailbox})


def _begins_anew(deps: Deps, principal: Principal, save: Save, request: SaveRequest) -> bool:
    """Say whether a message that is marked needs a wish of ours: it was given up, or its activity was deleted in C4C since."""
    if request.state == "saved":
        return _is_gone(deps, principal, save)
    return request.state == "failed" and request.payload is None


def _taken_up(deps: Deps, request: SaveRequest) -> int | None:
    """Try what a person wished again; return the lease, None if somebody does it already."""
    now = deps.now()
    with deps.store.transaction() as tx:
        tx.wake_request(request.id, now)
        return tx.lease_save(request.save_id, now, deps.limits.lease_s)


def _promise(
    deps: Deps,
    connection: Connection,
    item_id: str,
    save: Save,
    wish: Wish,
    material: Material,
    *,
    yields: bool = False,
    also: Also | None = None,
) -> tuple[SaveRequest, int | None]:
    """Commit the request, its Save leased already where that is free, so that no worker starts it a second time.

    One that `yields` leaves a wish alone that waits or is worked on.
    """
    now = deps.now()
    payload = deps.vault.seal(save.tenant_id, f"{connection.user_id}/{save.message_key}", "payload", wish.to_json())
    wish_hash = _hash(deps, connection, wish)
    with deps.store.transaction() as tx:
        fence = tx.lease_save(save.id, now, deps.limits.lease_s)
        request = tx.put_request(
            save,
            connection,
            item_ref=material.head.ref,
            item_id=item_id,
            payload=payload,
            wish_hash=wish_hash,
            now=now,
            yields=yields,
        )
        if also is not None:
            also(tx)
        tx.record("save", now, tenant_id=save.tenant_id, user_id=connection.user_id, request=request.id)
    return request, fence


def _hash(deps: Deps, connection: Connection, wish: Wish) -> bytes:
    return deps.vault.keyed_hash(connection.tenant_id, wish.to_json().decode())


def _following(deps: Deps, principal: Principal, connection: Connection, material: Material, wish: Wish) -> Also:
    """Raises: InvalidInput."""
    head, subject = material.head, material.parsed.message.subject
    return threads.following(deps, principal, connection, head.conversation, subject, wish.links)


def _within_deadline(deps: Deps, request: SaveRequest, fence: int | None, material: Material | None) -> None:
    """Do the work as soon as nobody else works on the message, and wait for it as long as a person would."""
    waited = 0.0
    while fence is None:
        with deps.store.transaction() as tx:
            fence = tx.lease_save(request.save_id, deps.now(), deps.limits.lease_s)
        if fence is None:
            if waited >= deps.limits.save_deadline_s:
                return
            deps.sleep(_POLL_S)
            waited += _POLL_S
    material = material.handed_over() if material else None
    future = None
    try:
        future = deps.background.submit(request.tenant_id, perform, deps, request.id, fence, material)
        future.result(timeout=max(0.0, deps.limits.save_deadline_s - waited))
    except (FutureTimeout, Transient):  # `perform` raises none
        log.info("save goes on in the background", request=request.id)
        if future is None or future.cancel():  # it had not begun; whoever is free may
            if material:
                material.close()
            with deps.store.transaction() as tx:
                tx.release_save(request.save_id, fence)
                tx.after_commit(deps.wake)


# Performing


class _NewerWish(Exception):
    """The user wished something else meanwhile."""


class _MessageGone(Rejected):
    """The message left the mailbox before C4C had it."""


def perform(deps: Deps, request_id: str, fence: int, material: Material | None = None) -> None:
    """Carry a request as far as it goes now and record how far that was. The caller holds the Save's lease (`fence`).

    Raises nothing that the product expects; a fault of ours propagates, and the lease then runs out, which spaces the tries.
    """
    logs.clear()
    logs.bind(request=request_id)
    try:
        with ExitStack() as held:
            if material is not None:
                held.callback(material.close)
            save_id = _perform(deps, request_id, fence, material, held)
        with deps.store.transaction() as tx:
            tx.release_save(save_id, fence)
    except LeaseLost:
        log.info("another worker goes on with the save")
    except DatabaseAway:  # what we believe of the row may be wrong: whoever takes the lease next reads it anew
        log.warning("the database went away during a save")


def _perform(deps: Deps, request_id: str, fence: int, material: Material | None, held: ExitStack) -> str:
    """Work on a request and on what its user wished meanwhile; return the id of its Save. Raises: LeaseLost, DatabaseAway."""
    for _ in range(MAX_RUNS):
        with deps.store.transaction(reading=True) as tx:
            request = tx.due_request(request_id)
            save = tx.save(request.save_id)
            connection = tx.connection(request.connection_id)
            principal = tx.principal_of(request.user_id)
        run = _Run(deps, request, save, connection, fence, held, material)
        try:
            _attempt(run, principal)
            break
        except _NewerWish:
            log.info("a newer wish is taken up")
            material = run.material
    return save.id


def _attempt(run: _Run, principal: Principal | None) -> None:
    """Raises: LeaseLost, DatabaseAway, _NewerWish."""
    try:
        if run.request.payload is None or run.request.state == "failed":
            run.settle_mark()
        elif principal is None:
            run.fail("user_disabled", "Your access was switched off. Ask your administrator.")
        else:
            run.carry_out(principal)
    except (LeaseLost, DatabaseAway):
        raise
    except Unknown as error:
        run.wait("unknown", str(error))
    except Transient as error:
        run.wait("pending", str(error), at_least_s=error.retry_after_s or 0.0)
    except (NotFound, Conflict) as error:  # something changed under our hands: look again, but not for ever
        if run.request.attempts + 1 >= run.deps.limits.max_attempts:
            run.fail("rejected", str(error), cause_of(error))
        else:
            run.wait("pending", str(error))
    except NeedsReauth as error:
        code, reason = way_out(run.connection, error)
        run.fail(code, reason, because(code, said=error))
    except Forbidden as error:
        run.fail(error.code, str(error), cause_of(error))
    except _MessageGone as error:
        run.fail("message_gone", str(error))
    except (Rejected, InvalidInput) as error:
        run.fail("rejected", str(error), cause_of(error))


@dataclass(slots=True)
class _Run:
    """One attempt at one request, under the lease `fence`. Each method is one step and commits what it learned."""

    deps: Deps
    request: SaveRequest
    save: Save
    connection: Connection
    fence: int
    held: ExitStack  # closed when the work is over
    material: Material | None = field(repr=False)
    is_hidden: bool = False  # C4C does not show the colleague's activity to this user
    cause: Cause | None = None  # of a failure in this run

    def carry_out(self, principal: Principal) -> None:
        """Make C4C and the mailbox as the wish says. Raises: the error tree; whatever was done stays done."""
        wish = self._wish()
        material = self._message()
        self._renew()
        with asking_c4c(principal):
            note = self._carry_into_c4c(principal, wish, material)
        self._finish(wish, note)
        self.settle_mark()

    def _carry_into_c4c(self, principal: Principal, wish: Wish, material: Material | None) -> str:
        """Return what the user must know of it, "" if all went well."""
        c4c = self.deps.c4c(principal)
        found = c4c.before_save(self.save.message_key, wish.links, principal.user.c4c_user_id)
        self._renew()
        activity = self._existing(principal, c4c, found.activities)
        if len(found.records) < len(set(wish.links)):
            raise rejected("record_gone")
        if material is None:
            if activity is None:
                raise _MessageGone("The message is no longer in the mailbox.")
            note = "The message left the mailbox before all of its files were saved for certain."
            return self._link(principal, c4c, activity, found.records) or note
        files = [] if self.is_hidden else picked(principal, wish, material)
        if activity is None:
            inline, files = split(files)
            draft = draft_of(self.deps, principal, wish, material, found, self.save.message_key, inline)
            activity = self._create(principal, c4c, draft)
        elif files:
            present = c4c.attachment_names(activity.id)
            files = [f for f in files if f.name not in present]
        self._attach(c4c, activity, material, files)
        return self._link(principal, c4c, activity, found.records)

    def settle_mark(self) -> None:
        """Set the mark that the message lacks; if the mailbox cannot be reached, try again later.

        Whoever slept for so long that another took over may have put an old mark over the new one: it is set again then.
        """
        try:
            self._set_mark()
        except LeaseLost:
            with self.deps.store.transaction() as tx:
                tx.mark_again(self.request.id, self.deps.now())
            raise

    def _set_mark(self) -> None:
        mark = mark_for(self.request.state) if self.request.mark else None
        if mark is not None:
            reason = self._why() if mark == "error" else None
            try:
                with asking_mailbox(self.deps, self.connection) as mailbox:
                    mailbox.set_mark(self.request.item_ref, mark, reason=reason, names=self._names(mailbox))
            except NotFound:
                log.info("the message to mark is gone")
            except (Transient, Unknown, Conflict, NeedsReauth) as error:
                self._mark_later(error)
                return
            except (Rejected, Forbidden, InvalidInput) as error:
                log.warning("the mark is refused", reason=str(error))
                if self.request.state not in OPEN:
                    self._change(next_due_at=None)
                return
        self._change(mark="", **({} if self.request.state in OPEN else {"next_due_at": None, "attempts": 0}))

    def wait(self, state: SaveState, reason: str, *, at_least_s: float = 0.0) -> None:
        """Come back later; after a day give up."""
        now, attempts = self.deps.now(), self.request.attempts + 1
        if now - self.request.wished_at > timedelta(seconds=self.deps.limits.give_up_after_s):
            self.fail("gave_up", f"Given up after a day. {reason}", because("gave_up", said=reason))
            return
        pause = _backoff_s(attempts)
        if self.save.create_sent_at is not None or state == "unknown":
            state, pause = "unknown", min(max(pause, UNKNOWN_LOOK_S[0]), UNKNOWN_LOOK_S[1])
        due = now + timedelta(seconds=max(at_least_s, pause))
        code = CHANGE if self.request.code == CHANGE else "waiting"
        self._change(state=state, reason=reason[:MAX_REASON], code=code, attempts=attempts, next_due_at=due)
        if self.request.mark:
            self.settle_mark()

    def fail(self, code: str, reason: str, cause: Cause | None = None) -> None:
        """Give up until the person does something, for a cause that the code says if there is no other.

        The wish is kept for Retry.
        What C4C had before stays saved: then only the change is refused, and given up.
        """
        self.cause = cause or because(code)
        why: dict[str, Any] = {"reason": reason[:MAX_REASON]}
        if self.cause.facts:  # which may be content
            own = told(Cause(self.cause.code), replace(self._reader(), language=FIRST))
            why = {"reason": own, "said": sealed_reason(self.deps, self.request, reason[:MAX_REASON])}
        if self.request.code == CHANGE and self.save.activity_id is not None:
            due = self.deps.now() + timedelta(seconds=_backoff_s(1))
            kept = {"state": "saved", "code": CHANGE_REFUSED, "mark": "saved", "next_due_at": due, "payload": None}
            self._change(**why, **kept)
            log.info("change of a save refused", code=code)
            self.settle_mark()
            return
        self._change(state="failed", code=code[:40], **why, next_due_at=None, mark="error")
        self._tell(code, self.cause)
        log.info("save failed", code=code)
        self.settle_mark()

    # Steps

    def _message(self) -> Material | None:
        """Return the message, None if it is gone from the mailbox."""
        if self.material is None:
            try:
                with asking_mailbox(self.deps, self.connection) as mailbox:
                    self.material = _read(self.deps, mailbox, self.request.item_ref, "rest")
            except NotFound:
                return None
            self.held.callback(self.material.close)
        return self.material

    def _existing(self, principal: Principal, c4c: C4C, seen: Sequence[Activity]) -> Activity | None:
        """Return the activity C4C has for this message, None if it may be created now.

        Raises: Unknown while an earlier create may still turn up.
        """
        known_id = self.save.activity_id
        activity = next((a for a in seen if a.id == known_id), None)
        if activity is None and known_id is not None:
            activity = self._by_id(principal, c4c, known_id)
        if activity is None and seen:
            activity = seen[0]
        if activity is None:
            self._raise_if_unsettled()
        elif activity.id != known_id:
            self._known(principal, activity)
        return activity

    def _by_id(self, principal: Principal, c4c: C4C, activity_id: str) -> Activity | None:
        try:
            return c4c.activity(activity_id)
        except NotFound:
            if _is_hidden(self.deps, principal, self.save, activity_id):
                self.is_hidden = True
                return Activity(activity_id, self.save.activity_human_id or "", self.save.message_key, "")
        with self.deps.store.transaction() as tx:  # somebody deleted it in C4C; saving again makes it anew
            tx.activity_gone(self.save.id, self.fence)
        self.save = replace(self.save, activity_id=None, saved_by=None)
        return None

    def _create(self, principal: Principal, c4c: C4C, draft: ActivityDraft) -> Activity:
        had_rivals = self.request.attempts > 0 or self.save.create_sent_at is not None
        activity = self._sent(lambda: c4c.create_activity(draft))
        try:
            if had_rivals:  # a holder that was taken for dead may have woken up and created it too
                first = c4c.activities(self.save.message_key)[0:1]
                if first and first[0].id != activity.id:
                    self._remove_double(c4c, activity.id)
                    activity = first[0]
            self._known(principal, activity)
        except LeaseLost:  # it was us who were taken for dead
            with self.deps.store.transaction(reading=True) as tx:
                kept = tx.save(self.save.id).activity_id
            if kept not in (None, activity.id):
                self._remove_double(c4c, activity.id)
            raise
        return activity

    def _remove_double(self, c4c: C4C, activity_id: str) -> None:
        log.warning("removing a double of our own", activity=activity_id)
        c4c.delete_activity(activity_id)

    def _attach(self, c4c: C4C, activity: Activity, material: Material, files: Sequence[Picked]) -> None:
        if files:
            self._raise_if_unsettled()
        for file in files:
            self._sent(partial(c4c.attach, activity.id, file.file(material)))
            self._settled()

    def _link(self, principal: Principal, c4c: C4C, activity: Activity, records: Sequence[Record]) -> str:
        """Link what is not linked yet; return what the user must know: on a colleague's activity it may be refused."""
        missing = [record for record in records if not is_linked(activity, record)]
        if not missing:
            return ""
        self._raise_if_unsettled()
        try:
            self._sent(lambda: c4c.add_links(activity, missing))
        except (Rejected, NotFound) as error:
            if self.save.saved_by in (None, principal.user.id):
                raise
            log.info("links to a colleague's activity are refused", reason=type(error).__name__)
            return "Saved by a colleague. SAP Cloud for Customer does not let you add your links."
        self._settled()
        return ""

    def _sent(self, act: Callable[[], T]) -> T:
        """Send a write so that, whenever we die, the next run knows that one may be under way."""
        now = self.deps.now()
        with self.deps.store.transaction() as tx:
            tx.renew_save(self.save.id, self.fence, now, self.deps.limits.lease_s)
            tx.create_sent(self.save.id, self.fence, now)
        self.save = replace(self.save, create_sent_at=now)
        try:
            return act()
        except Unknown:
            raise
        except SsiError:
            self._settled()
            raise

    def _settled(self) -> None:
        """Record that no write is under way."""
        with self.deps.store.transaction() as tx:
            tx.create_sent(self.save.id, self.fence, None)
        self.save = replace(self.save, create_sent_at=None)

    def _raise_if_unsettled(self) -> None:
        sent = self.save.create_sent_at
        if sent is not None and self.deps.now() - sent < timedelta(seconds=self.deps.limits.unknown_settle_s):
            raise Unknown("SAP Cloud for Customer did not confirm. We look whether it has the message before trying again.")

    def _known(self, principal: Principal, activity: Activity) -> None:
        now, user_id = self.deps.now(), principal.user.id
        with self.deps.store.transaction() as tx:
            tx.activity_known(self.save.id, self.fence, activity.id, activity.human_id, user_id, now)
        saved_by = self.save.saved_by or user_id
        self.save = replace(self.save, activity_id=activity.id, saved_by=saved_by, create_sent_at=None)

    def _finish(self, wish: Wish, note: str) -> None:
        """Record that C4C has all of it, and erase the wish."""
        now = self.deps.now()
        with self.deps.store.transaction() as tx:
            is_newest = tx.change_request(
                self.request,
                self.fence,
                now,
                state="saved",
                code=HIDDEN if self.is_hidden else "",
                reason=note,
                links=tuple(sorted(set(self.request.links) | set(wish.links))),
                mark="saved",
                attempts=0,
                next_due_at=now + timedelta(seconds=_backoff_s(1)),
                payload=None,
            )
            tx.bump_generation(self.request.user_id)
            tx.end_issues(self.request.connection_id, [key_of("email", self.request.item_ref)])
            tx.wake_session(self.request.connection_id, now, by_notice=True)  # it may have to be moved back, or have followers
        if not is_newest:
            raise _NewerWish
        self.request = replace(self.request, state="saved", reason=note, mark="saved", attempts=0)

    # Internals

    def _tell(self, code: str, cause: Cause) -> None:
        """Put it on the person's list of issues."""
        finding = Finding(
            kind="email",
            key=key_of("email", self.request.item_ref),
            code=code,
            cause=cause,
            name=self.material.parsed.message.subject if self.material else "",
            item_ref=self.request.item_ref,
            choices=(DISMISS,) if code == "message_gone" else (),
        )
        row = sealed(self.deps, self.connection, finding)
        with self.deps.store.transaction() as tx:
            tx.put_issue(row, self.deps.now())

    def _why(self) -> str:
        """Return why the save failed, for the message: in its user's language if it did in this run."""
        return in_short(self.cause, self._reader()) if self.cause else reason_of(self.deps, self.request)

    def _reader(self) -> Reader:
        with self.deps.store.transaction(reading=True) as tx:
            principal, contact = tx.principal_of(self.request.user_id), tx.organization_of(self.request.user_id).admin_contact
        return Reader(principal.user.language if principal else "", contact)

    def _wish(self) -> Wish:
        row = f"{self.request.user_id}/{self.save.message_key}"
        return Wish.from_json(self.deps.vault.open(self.request.tenant_id, row, "payload", self.request.payload or b""))

    def _names(self, mailbox: Mailbox) -> Mapping[MarkId, str]:
        """Return what the marks are called in this mailbox, having seen to it that they are there if no session has yet."""
        known = _known_names(self.deps, self.connection)
        if known is not None:
            return known
        with self.deps.store.transaction(reading=True) as tx:
            principal = tx.principal_of(self.connection.user_id)
        language = principal.user.language if principal else ""
        ensured = mailbox.ensure_marks(names_for(mailbox.capabilities, language))
        names = {mark: category.name for mark, category in ensured.items()}
        self.deps.cache.put(_names_key(self.connection), names)
        return names

    def _change(self, **values: Any) -> None:
        with self.deps.store.transaction() as tx:
            is_newest = tx.change_request(self.request, self.fence, self.deps.now(), **values)
        if not is_newest:
            raise _NewerWish
        self.request = replace(self.request, **values)

    def _renew(self) -> None:
        with self.deps.store.transaction() as tx:
            tx.renew_save(self.save.id, self.fence, self.deps.now(), self.deps.limits.lease_s)

    def _mark_later(self, error: SsiError) -> None:
        if self.request.state in OPEN:
            return  # it is due anyway
        now, attempts = self.deps.now(), self.request.attempts + 1
        gives_up = now - self.request.wished_at > timedelta(seconds=self.deps.limits.give_up_after_s)
        log.info("mark not set yet", reason=type(error).__name__, gives_up=gives_up)
        asked = (error.retry_after_s if isinstance(error, Transient) else None) or 0.0
        due = None if gives_up else now + timedelta(seconds=max(asked, _backoff_s(attempts)))
        self._change(attempts=attempts, next_due_at=due)


def _known_names(deps: Deps, connection: Connection) -> Mapping[MarkId, str] | None:
    """Return what the marks are called in a mailbox: as its last session found them, else as we did; None if nobody looked."""
    with deps.store.transaction(reading=True) as tx:
        sync = tx.session_of(connection.id)
    if sync is not None and sync.marks:
        return {mark: name for mark, (_, name) in sync.marks.items()}
    kept = deps.cache.get(_names_key(connection))
    known: Mapping[MarkId, str] | None = kept.value if kept else None
    return known


def _names_key(connection: Connection) -> tuple[str, str]:
    return "marks", connection.id


def _backoff_s(attempts: int) -> float:
    return float(min(600, 2**attempts)) * (0.75 + random.random() / 2)  # noqa: S311 - spreads retries, guards nothing
