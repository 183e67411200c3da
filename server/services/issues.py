"""Issues: one row for each item that could not be synchronized, and for each question of the engine to the mailbox's owner.

A row says by a code what is wrong. All else that it tells is sealed, and goes when the row goes: what the item is called, values
of it, and what our sentences about it are filled in with, which may be words of C4C or a mail service. A row goes when the item
was mended, by whoever: its key says which item it is about.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from hashlib import sha256
from typing import Any

from server.domain.records import RecordRef
from server.domain.sentences import Cause, Reader, remedy, told as spoken
from server.errors import InvalidInput
from server.services import Deps, Principal
from server.store import Connection, Issue, IssueKind, Transaction, new_id

DISMISS = "dismiss"  # the answer to what only had to be told
FIRST_UPLOAD = ("upload", "keep")  # of contacts that were in our folders before us: take them to C4C, or leave them be
GUARD = ("apply", "not_now")  # of what the guard held back

_MAX_KEY = 400  # characters
_UPLOADS = {"upload": "yes", "keep": "no"}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is to be told of one item, to the mailbox's owner."""

    kind: IssueKind
    key: str  # see `key_of`
    code: str  # what it is: in the clear, never of content
    cause: Cause | None = None  # why; None: the code says it
    name: str = field(default="", repr=False)  # what its owner knows the item by
    values: Mapping[str, str] = field(default_factory=dict, repr=False)  # of the item, e.g. those that lost a conflict
    item_ref: str | None = None
    record: RecordRef | None = None
    number: str = ""  # by which people know the record
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Told:
    """An issue as its owner sees it, `cause` and `remedy` as sentences in their language."""

    id: str
    kind: IssueKind
    code: str
    name: str = field(repr=False)
    cause: str = field(repr=False)
    remedy: str = field(repr=False)
    values: Mapping[str, str] = field(repr=False)
    choices: tuple[str, ...]
    can_retry: bool
    is_waiting: bool  # for the session that tries it again, as was asked for
    since: datetime | None
    seen_at: datetime | None  # when it was last found to be so
    item_ref: str | None
    record: RecordRef | None
    url: str  # opens the record in C4C; "" if that is not known


# For those who find out


def key_of(kind: IssueKind, about: str) -> str:
    """Return the key of an issue about this item: a ref of the mailbox, the id of a link, or a word for a question."""
    key = f"{kind}:{about}"
    return key if len(key) <= _MAX_KEY else f"{kind}:{sha256(about.encode()).hexdigest()}"


def sealed(deps: Deps, connection: Connection, finding: Finding) -> Issue:
    """Return the row that keeps a finding, for `Transaction.put_issue`. Call it outside of one: the vault may be far."""
    cause = finding.cause or Cause(finding.code)
    content = {"name": finding.name, "number": finding.number, "values": dict(finding.values), "facts": dict(cause.facts)}
    content["cause"] = cause.code if cause.code != finding.code else ""
    row = _row(connection.id, finding.key)
    return Issue(
        id=new_id(),
        tenant_id=connection.tenant_id,
        user_id=connection.user_id,
        connection_id=connection.id,
        kind=finding.kind,
        key=finding.key,
        code=finding.code[:40],
        item_ref=finding.item_ref,
        record_type=finding.record.type if finding.record else None,
        record_id=finding.record.id if finding.record else None,
        sealed=deps.vault.seal(connection.tenant_id, row, "issue", json.dumps(content).encode())
        if any(content.values())
        else None,
        choices=finding.choices,
    )


def report(deps: Deps, connection: Connection, findings: Iterable[Finding], mended: Collection[str] = ()) -> None:
    """Keep what was found, and forget the issues with the keys `mended`, in one transaction."""
    rows = [sealed(deps, connection, finding) for finding in findings]
    if not rows and not mended:
        return
    with deps.store.transaction() as tx:
        now = deps.now()
        for row in rows:
            tx.put_issue(row, now)
        tx.end_issues(connection.id, mended)


def values_of(deps: Deps, issue: Issue) -> Mapping[str, str]:
    """Return the values that were kept with an issue."""
    values: Mapping[str, str] = _opened(deps, issue)["values"]
    return values


# For the mailbox's owner


def told(deps: Deps, principal: Principal, limit: int = 1000, *, language: str = "") -> list[Told]:
    """Return a person's issues, questions first, then the newest; in this language, or the person's."""
    reader = Reader(language or principal.user.language, principal.organization.admin_contact)
    with deps.store.transaction(reading=True) as tx:
        found = tx.issues_of(principal.user.id, limit)
    known = (_told(deps, principal, issue, reader) for issue in found)
    return sorted(known, key=lambda one: one.can_retry or one.choices == (DISMISS,))


def answer(deps: Deps, principal: Principal, issue_id: str, choice: str) -> None:
    """Give a person's answer to a question, which is gone then; what has to be done by it, the next session does, at once.

    Raises: NotFound for an issue that is not theirs; InvalidInput for an answer that it does not have.
    """
    now = deps.now()
    with deps.store.transaction() as tx:
        issue = tx.issue(principal.user.id, issue_id)
        if choice not in issue.choices:
            raise InvalidInput("choice", "This cannot be answered so." if issue.choices else "This is not a question.")
        if choice in FIRST_UPLOAD:
            tx.answer_session(issue.connection_id, uploads=_UPLOADS[choice])
        elif choice in GUARD:
            tx.answer_session(issue.connection_id, allowed_at=now if choice == "apply" else None)
        tx.end_issues(issue.connection_id, [issue.key])
        tx.record("issue.answer", now, tenant_id=issue.tenant_id, user_id=issue.user_id, code=issue.code, choice=choice)
        if choice not in (DISMISS, "not_now"):
            _wake(deps, tx, issue, now)


def retry(deps: Deps, principal: Principal, issue_id: str) -> None:
    """Have the item tried again now. Its issue stays until that went well.

    Raises: NotFound for an issue that is not theirs; InvalidInput for a question, which wants an answer.
    """
    now = deps.now()
    with deps.store.transaction() as tx:
        issue = tx.issue(principal.user.id, issue_id)
        if not _can_retry(issue):
            raise InvalidInput("id", "There is nothing to try again here.")
        tx.retry_issue(issue.id)
        tx.answer_session(issue.connection_id, forced_at=now)
        if issue.kind == "email" and issue.item_ref is not None:
            request = tx.requests_at(issue.user_id, [issue.item_ref]).get(issue.item_ref)
            if request is not None and request.state == "failed" and request.payload is not None:
                tx.wake_request(request.id, now)
        _wake(deps, tx, issue, now)


def dismiss(deps: Deps, principal: Principal, issue_id: str) -> None:
    """Forget an issue that only had to be told. Raises: NotFound; InvalidInput for another."""
    answer(deps, principal, issue_id, DISMISS)


# Internals


def _wake(deps: Deps, tx: Transaction, issue: Issue, now: datetime) -> None:
    tx.wake_session(issue.connection_id, now)
    tx.after_commit(deps.wake)


def _can_retry(issue: Issue) -> bool:
    return not issue.choices


def _told(deps: Deps, principal: Principal, issue: Issue, reader: Reader) -> Told:
    content = _opened(deps, issue)
    cause = Cause(content["cause"] or issue.code, content["facts"])
    record, url = None, ""
    if issue.record_type is not None and issue.record_id is not None:
        record = RecordRef(issue.record_type, issue.record_id)
        url = deps.links(principal.tenant)(issue.record_type, content["number"])
    return Told(
        id=issue.id,
        kind=issue.kind,
        code=issue.code,
        name=content["name"],
        cause=spoken(cause, reader),
        remedy=remedy(cause, reader, issue.kind),
        values=content["values"],
        choices=issue.choices,
        can_retry=_can_retry(issue),
        is_waiting=_can_retry(issue) and issue.tries == 0,
        since=issue.since,
        seen_at=issue.seen_at,
        item_ref=issue.item_ref,
        record=record,
        url=url,
    )


def _opened(deps: Deps, issue: Issue) -> dict[str, Any]:
    if issue.sealed is None:
        return {"name": "", "number": "", "values": {}, "facts": {}, "cause": ""}
    row = _row(issue.connection_id, issue.key)
    content: dict[str, Any] = json.loads(deps.vault.open(issue.tenant_id, row, "issue", issue.sealed))
    return content


def _row(connection_id: str, key: str) -> str:
    """Name the row for the vault by what stays when the issue is found again: its id is that of the first finding."""
    return f"{connection_id}/{key}"
