"""One session under way: what all of its steps know, and its hold on its row.

Whatever a step found out is kept by `Run.keep`, in one transaction that also renews the hold: a session that lost its lease to
another worker ends there, having recorded nothing of what the other one does. And before each request that changes something,
`Run.hold` makes sure that the lease will last while the request is under way: who stood still for a while does not go on with
what another one has begun anew.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from server.c4c import People
from server.domain.marks import FolderId, MarkId
from server.domain.people import PersonType
from server.domain.profile import Profile
from server.domain.sentences import Cause, Reader, in_short
from server.mail import Mailbox
from server.services import Deps, Principal, issues
from server.store import Connection, Link, MailboxSync
from server.sync.mapping import Hasher

TOLD_EVERY_S = 2.0  # progress
TRUSTED = 4  # part of a lease: so long after it was renewed nobody is asked whether it is still ours
NAME_SEPARATOR = "-"
OVERLAP = timedelta(minutes=5)  # between C4C's clock, or the times of its rows, and ours (architecture section 7, Time)

FOLDER_OF: Mapping[PersonType, FolderId] = {
    "contact": "contacts",
    "account": "accounts",
    "individual_customer": "individual_customers",
}


@dataclass(slots=True)
class Run:
    """What the steps of one session share."""

    deps: Deps
    sync: MailboxSync  # as it was when the session began, with `began_at` of this one
    principal: Principal
    connection: Connection
    mailbox: Mailbox
    people: People
    names: Mapping[MarkId, str] = field(default_factory=dict)  # of our marks, as the mailbox spells them
    folders: Mapping[FolderId, str] = field(default_factory=dict)  # refs
    employee_id: str = ""  # of the person, in C4C
    counts: Counter[str] = field(default_factory=Counter)  # what was done, by name
    risked: Counter[str] = field(default_factory=Counter)  # what the guard let through unasked, by side
    held: Counter[str] = field(default_factory=Counter)  # what it holds back, by side
    profile: Profile = field(init=False)
    _hasher: Hasher | None = None
    _findings: list[issues.Finding] = field(default_factory=list)
    _mended: set[str] = field(default_factory=set)
    _told_at: float = field(default_factory=time.monotonic)
    _held_at: datetime | None = None  # when it was last seen that the lease is ours

    def __post_init__(self) -> None:
        self.profile = self.principal.profile

    @property
    def hasher(self) -> Hasher:
        """The tenant's keyed hash, whose key is opened when something has to be compared."""
        if self._hasher is None:
            self._hasher = self.deps.vault.hasher(self.principal.tenant.id)
        return self._hasher

    @property
    def is_first(self) -> bool:
        """Whether not everything has been brought down yet."""
        return self.sync.first_done_at is None

    @property
    def is_forced(self) -> bool:
        """Whether somebody asked for this session: then also what failed before is tried again."""
        forced, done = self.sync.forced_at, self.sync.finished_at
        return forced is not None and (done is None or forced > done)

    def new_link(self, type: PersonType, link_id: str, **values: Any) -> Link:
        sync = self.sync
        return Link(link_id, sync.tenant_id, sync.user_id, sync.connection_id, type, **values)

    def name_of(self, link: Link) -> str:
        """Return what the mailbox keeps on the contact that this session creates for a link.

        Of two with the same link but other names, none is a copy that their owner made of the other: both are ours, and one of
        them came from a session that was taken for dead.
        """
        return f"{link.id}{NAME_SEPARATOR}{self.sync.fence}"

    def say(self, cause: Cause) -> str:
        """Return a cause as the mailbox's owner reads it on an item."""
        return in_short(cause, Reader(self.principal.user.language, self.principal.organization.admin_contact))

    def tell(self, finding: issues.Finding) -> None:
        """Report an issue, with what is kept next."""
        self._findings.append(finding)
        self._mended.discard(finding.key)

    def mend(self, *keys: str) -> None:
        """End issues, with what is kept next."""
        self._mended.update(keys)

    def keep(self, links: Iterable[Link] = (), *, drop: Collection[str] = (), **values: Any) -> None:
        """Keep links, issues and how far the session came; hold it longer. Raises: LeaseLost, Transient."""
        rows = [issues.sealed(self.deps, self.connection, finding) for finding in self._findings]
        now = self.deps.now()
        with self.deps.store.transaction() as tx:
            tx.keep_session(self.sync, now, self.deps.limits.lease_s, **values)
            tx.drop_links(self.sync.connection_id, drop)
            tx.put_links(links)
            for row in rows:
                tx.put_issue(row, now)
            tx.end_issues(self.sync.connection_id, self._mended)
        self._held_at = now
        self._findings.clear()
        self._mended.clear()

    def hold(self) -> None:
        """Make sure, before something is changed out there, that the session is still ours. Raises: LeaseLost, Transient."""
        now, trusted = self.deps.now(), timedelta(seconds=self.deps.limits.lease_s / TRUSTED)
        if self._held_at is not None and timedelta() <= now - self._held_at <= trusted:
            return
        with self.deps.store.transaction() as tx:
            tx.keep_session(self.sync, now, self.deps.limits.lease_s)
        self._held_at = now

    @property
    def has_news(self) -> bool:
        return bool(self._findings or self._mended)

    def progress(self, phase: str, done: int = 0, total: int = 0) -> None:
        """Show how far the session is, now and then."""
        if time.monotonic() - self._told_at >= TOLD_EVERY_S:
            self._told_at = time.monotonic()
            self.keep(phase=phase, done=done, total=max(done, total))
