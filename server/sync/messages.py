"""Messages in a session: what its owner marked or laid into *SAP E-Mails*, and what their rules pick, is saved, once each.

A message tells by its marks how far it is, so that hardly anything is remembered beside it: the share mark, and lying in *SAP
E-Mails* without any mark of ours, ask for a save; one that is saved does not stay in that folder. Exactly-once is the business
of `server.services.saving`; whatever is done here can be done again. What waits for a person carries the error mark and has an
issue, and is not tried again before that person marks it anew or asks for it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import get_args

from server import logs
from server.domain.marks import MarkId, marks_of, names_for
from server.domain.sentences import Cause, Reader, because, cause_of, in_short
from server.errors import Conflict, InvalidInput, NotFound, RateLimited, Rejected, SsiError, Transient
from server.mail import Mailbox, MessageChange
from server.services import Deps, Principal, issues, saving, threads
from server.services.choosing import PickedBy
from server.services.connections import asking_c4c
from server.services.issues import DISMISS, Finding, key_of
from server.store import Connection, Issue, MailboxSync, SaveRequest

OVERLAP = timedelta(minutes=5)  # between providers' clocks and ours, and between a message's coming and its being told
PATIENCE = 3  # sessions in a row that may fail because of a message, and begin again soon, before they go on without it
WAITING = "waiting"  # code of an issue that each session tries again
SAVING_OFF = key_of("mailbox", "saving_off")

_PICKED_BY: Mapping[str, PickedBy] = {by: by for by in get_args(PickedBy)}

Progress = Callable[[int, int], None]
"""Told how many of how many messages are done."""

log = logs.get(__name__)


def handle(
    deps: Deps,
    principal: Principal,
    connection: Connection,
    mailbox: Mailbox,
    sync: MailboxSync,
    changes: Sequence[MessageChange],
    *,
    progress: Progress = lambda done, total: None,
) -> Mapping[str, int]:
    """Do what the messages that a session was told of ask for; return counts of what was done, by name.

    `changes` are those of all pages. The cursor behind them is to be kept only when this returned.

    Raises: Transient, having done what could be done, while it is worth telling the same again soon; Forbidden and NeedsReauth.
    """
    told = {change.ref: change for change in changes}  # what changed twice is as the later one says
    with deps.store.transaction(reading=True) as tx:
        again = tx.issues_to_try(connection.id, "email", WAITING)
        known = tx.issues_on(connection.id, [key_of("email", ref) for ref in told]) if told else {}
        requests = tx.requests_at(connection.user_id, list(told)) if told else {}
        followed = tx.followed(connection.id) if told or again else []
        saved = [request for request in requests.values() if request.state == "saved"]
        activities = {request.item_ref: tx.save(request.save_id).activity_id or "" for request in saved}
    if not told and not again:
        return {}
    names = {mark: name for mark, (_, name) in sync.marks.items()}
    names = names or dict(names_for(mailbox.capabilities, principal.user.language))
    work = _Work(deps, principal, connection, mailbox, sync, names, requests, activities)
    work.threads.update((one.conversation, threads.opened(deps, principal.tenant.id, one)) for one in followed)
    for change in told.values():
        work.sort(change, key_of("email", change.ref) in known)
    work.sort_again(again)
    work.save_all(progress)
    return work.settled()


@dataclass(frozen=True, slots=True)
class _Task:
    ref: str
    by: PickedBy
    is_in_emails: bool = False  # lies in *SAP E-Mails*
    conversation: str = ""  # of one that is picked by its thread


@dataclass(slots=True)
class _Work:
    """The messages of one session, first sorted, then saved, then settled."""

    deps: Deps
    principal: Principal
    connection: Connection
    mailbox: Mailbox
    sync: MailboxSync
    names: Mapping[MarkId, str]
    requests: Mapping[str, SaveRequest]  # by the message's ref
    activities: Mapping[str, str]  # of saved ones, by the message's ref
    threads: dict[str, threads.Thread] = field(default_factory=dict)  # followed ones, by conversation
    tasks: dict[str, _Task] = field(default_factory=dict)
    forbidden: list[str] = field(default_factory=list)  # marked, though saving marked messages is switched off
    to_mark: dict[str, bool] = field(default_factory=dict)  # saved before -> is in *SAP E-Mails*
    to_return: dict[str, bool | None] = field(default_factory=dict)  # saved -> was sent by the owner, None: not known
    findings: list[Finding] = field(default_factory=list)
    mended: set[str] = field(default_factory=set)  # keys of issues
    late: dict[str, Transient] = field(default_factory=dict)  # could not be done now -> why
    counts: dict[str, int] = field(default_factory=dict)

    # Sorting

    def sort(self, change: MessageChange, has_issue: bool) -> None:
        """Find out what a message asks for."""
        marks, is_in_emails = marks_of(change.categories, self.names), change.place == "emails"
        if "share" in marks or (is_in_emails and not marks):
            self._sort_marked(change, "share" in marks, is_in_emails)
        elif is_in_emails and "saved" in marks:
            self.to_return[change.ref] = None
        elif marks:
            return  # under way, done, or waiting for its owner
        elif has_issue:
            self.mended.add(key_of("email", change.ref))  # its owner took the error mark off
        elif change.ref not in self.requests and (task := self._by_rule(change)):
            self.tasks[change.ref] = task

    def sort_again(self, tried: Sequence[Issue]) -> None:
        """Take up what has an issue and is to be tried again."""
        for issue in tried:
            kept = issues.values_of(self.deps, issue)
            by = _PICKED_BY.get(kept.get("by", ""), "mark")
            task = _Task(issue.item_ref or "", by, kept.get("place") == "emails", kept.get("thread", ""))
            is_allowed = task.by != "mark" or self.principal.profile.save_marked
            if issue.item_ref and issue.item_ref not in self.to_mark and is_allowed:
                self.tasks.setdefault(issue.item_ref, task)

    def _sort_marked(self, change: MessageChange, has_mark: bool, is_in_emails: bool) -> None:
        if self.principal.profile.save_marked:
            self.mended.add(SAVING_OFF)
        else:
            self.forbidden += [change.ref] if has_mark else []
            self.findings += [] if any(one.key == SAVING_OFF for one in self.findings) else [self._saving_is_off()]
            return
        if change.ref in self.activities:
            self.to_mark[change.ref] = is_in_emails
        else:
            self.tasks[change.ref] = _Task(change.ref, "mark", is_in_emails)

    def _by_rule(self, change: MessageChange) -> _Task | None:
        """Return the task if a rule picks the message: it came since, and lies where its owner's mail comes and goes."""
        profile, at, thread = self.principal.profile, change.received_at, self.threads.get(change.conversation)
        if at is None or change.place == "emails":
            return None
        if profile.follow_threads and thread is not None and at >= thread.since - OVERLAP:
            return _Task(change.ref, "thread", conversation=change.conversation)
        began = self._new_since()
        return _Task(change.ref, "auto") if profile.auto_save and began is not None and at >= began else None

    def _new_since(self) -> datetime | None:
        """Return from when on mail is new: from the last session, but never from before the first one's end."""
        first, last = self.sync.first_done_at, self.sync.finished_at
        return None if first is None else max(first, (last or first) - OVERLAP)

    def _saving_is_off(self) -> Finding:
        is_theirs = "save_marked" in self.principal.profile.unlocked
        cause = because("saving_off" if is_theirs else "saving_locked")
        return Finding("mailbox", SAVING_OFF, "saving_off", cause, choices=(DISMISS,))

    # Saving

    def save_all(self, progress: Progress) -> None:
        """Save what is to be saved, each by itself."""
        self._sort_out_deleted()
        for number, task in enumerate(self.tasks.values()):
            progress(number, len(self.tasks))
            try:
                self._save(task)
            except RateLimited:
                raise
            except NotFound:  # it left the mailbox
                self.mended.add(key_of("email", task.ref))
            except Transient as error:
                self.late[task.ref] = error
            except (Rejected, InvalidInput) as error:
                self._refused(task.ref, error)
                if task.is_in_emails and self._is_labelled:
                    self.to_return[task.ref] = None

    def _sort_out_deleted(self) -> None:
        """What its owner marks although it was saved needs its mark only, unless its activity was deleted since."""
        ids = {self.activities[ref] for ref in self.to_mark if self.activities[ref]}
        with asking_c4c(self.principal):
            deleted = self.deps.c4c(self.principal).gone(ids) if ids else set()
        for ref in [ref for ref in self.to_mark if self.activities[ref] in deleted]:
            self.tasks[ref] = _Task(ref, "mark", self.to_mark.pop(ref))

    def _save(self, task: _Task) -> None:
        """Raises: as `saving.accept_unattended`."""
        deps, connection = self.deps, self.connection
        thread = self.threads.get(task.conversation)
        links = thread.links if thread else ()
        done = saving.accept_unattended(deps, self.principal, connection, self.mailbox, task.ref, by=task.by, links=links)
        if done is None:
            return
        request, is_other_copy = done.request, done.request.item_ref != task.ref
        if request.state == "saved":
            self._count("emails_saved", 0 if done.was_saved_before else 1)
            if done.was_saved_before or is_other_copy:
                self.to_mark[task.ref] = task.is_in_emails
            self.mended.add(key_of("email", task.ref))
        elif request.state == "failed":
            self._count("emails_failed")
            if is_other_copy:
                self._refused(task.ref, Rejected(request.reason))
        elif is_other_copy:  # nothing will come back to this one when the save is done
            self._put_aside(task, because("copy_waits"))
        else:
            self._count("emails_waiting")
        if task.is_in_emails and (request.state == "saved" or self._is_labelled):
            self.to_return[task.ref] = done.is_outgoing

    @property
    def _is_labelled(self) -> bool:
        """Where places are labels, any other mark takes a message out of *SAP E-Mails*, and it would be nowhere."""
        return "labels" in self.mailbox.capabilities

    def _refused(self, ref: str, error: Rejected | InvalidInput) -> None:
        """Tell on the message, and on the list of issues, why it waits for a person."""
        cause = cause_of(error)
        code = "save_failed" if cause.code == "rejected" else cause.code
        reader = Reader(self.principal.user.language, self.principal.organization.admin_contact)
        try:
            name = self.mailbox.head(ref).subject
            self.mailbox.set_mark(ref, "error", reason=in_short(cause, reader), names=self.names)
        except NotFound:
            return
        except (Conflict, Transient) as unmarked:
            self.late[ref] = _transient(unmarked)
            return
        self._count("emails_failed")
        self.findings.append(Finding("email", key_of("email", ref), code, cause, name=name, item_ref=ref))

    def _put_aside(self, task: _Task, why: Cause) -> None:
        """Leave it to the next session."""
        self._count("emails_waiting")
        kept = {"by": task.by, "thread": task.conversation, "place": "emails" if task.is_in_emails else ""}
        self.findings.append(Finding("email", key_of("email", task.ref), WAITING, why, values=kept, item_ref=task.ref))

    # Settling

    def settled(self) -> Mapping[str, int]:
        """Set the marks that are missing, clear *SAP E-Mails*, and tell what has to be told. Raises: Transient."""
        self._mark(list(self.to_mark), "saved")
        self._mark(self.forbidden, None)
        for ref in self.to_mark:
            if ref not in self.late:
                self.mended.add(key_of("email", ref))
                if self.to_mark[ref]:
                    self.to_return.setdefault(ref, None)
        for ref, is_outgoing in self.to_return.items():
            if ref not in self.late:
                self._return(ref, is_outgoing)
        for ref, error in self.late.items():
            is_in_emails = bool(self.to_mark.get(ref)) or ref in self.to_return
            self._put_aside(self.tasks.get(ref, _Task(ref, "mark", is_in_emails)), cause_of(error))
        told_again = {finding.key for finding in self.findings}
        issues.report(self.deps, self.connection, self.findings, self.mended - told_again)
        if self.late and self.sync.failures < PATIENCE:
            raise next(iter(self.late.values()))
        return self.counts

    def _mark(self, refs: Sequence[str], mark: MarkId | None) -> None:
        outcome = self.mailbox.set_marks(refs, mark, names=self.names) if refs else {}
        for ref, marked in outcome.items():
            if isinstance(marked, Conflict | Transient):
                self.late[ref] = _transient(marked)
            elif isinstance(marked, SsiError):
                log.info("a mark is not set", reason=type(marked).__name__)

    def _return(self, ref: str, is_outgoing: bool | None) -> None:
        """Put a message back to where it came from."""
        try:
            if is_outgoing is None:
                is_outgoing = saving.sent_by_owner(self.deps, self.principal, self.connection, self.mailbox, ref)
            self.mailbox.move(ref, "sent" if is_outgoing else "inbox")
        except NotFound:
            return
        except RateLimited:
            raise
        except Transient as error:
            self.late[ref] = error
        except (Rejected, InvalidInput) as error:
            log.warning("a saved message stays where it is", reason=type(error).__name__)
        else:
            self._count("emails_returned")

    def _count(self, name: str, number: int = 1) -> None:
        if number:
            self.counts[name] = self.counts.get(name, 0) + number


def _transient(error: Conflict | Transient) -> Transient:
    return error if isinstance(error, Transient) else Transient(str(error))
