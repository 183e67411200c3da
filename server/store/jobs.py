"""What waits, runs and is dead among all rows of work, for whoever runs the installation.

A row that was tried in vain for too long is DEAD: it is never due again by itself, and says why.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from server.store import schema as t
from server.store.rows import Rows
from server.store.values import Connection, connection_in

JobState = Literal["waiting", "running", "dead"]


@dataclass(frozen=True, slots=True)
class JobRow:
    """A row of work. A row that is due in the future and was not tried in vain is none: nothing waits for it."""

    kind: str  # as server.worker.kinds calls it
    id: str
    state: JobState
    tenant: str  # its name
    user: str  # e-mail address
    since: datetime | None  # when it became due, where it is known
    attempts: int  # in vain
    reason: str


@dataclass(frozen=True, slots=True)
class _Work:
    """Where the rows of one kind are, and which of them are dead."""

    kind: str
    table: sa.Table
    dead: sa.ColumnElement[bool]
    reason: sa.Column[Any]
    leased: sa.Table | None = None  # the table of the leases, by `save_id`, if it is another


_REQUEST, _SCAN, _SYNC = t.save_request.c, t.address_scan.c, t.mailbox_sync.c
_NOTICE, _HOOK = t.notice.c, t.subscription.c
_WORK = (
    _Work("save", t.save_request, _REQUEST.state == "failed", _REQUEST.reason, t.save),
    _Work("scan", t.address_scan, _SCAN.next_due_at.is_(None) & (_SCAN.reason != ""), _SCAN.reason),
    _Work("session", t.mailbox_sync, (_SYNC.state == "failed") & _SYNC.next_due_at.is_(None), _SYNC.reason),
    _Work(
        "notice",
        t.notice,
        _NOTICE.next_due_at.is_(None) & _NOTICE.sent_at.is_(None) & (_NOTICE.attempts > 0),
        _NOTICE.outcome,
    ),
    _Work("subscription", t.subscription, _HOOK.next_due_at.is_(None) & (_HOOK.reason != ""), _HOOK.reason),
)


class JobQueries(Rows):
    """Queries about all rows of work, of all tenants, inside one transaction."""

    def jobs(self, now: datetime, *, dead_only: bool = False, limit: int = 1000) -> list[JobRow]:
        """Return what is dead, runs, or waits, at most so many rows of each kind."""
        return [job for work in _WORK for job in self._jobs_of(work, now, dead_only, limit)]

    def _jobs_of(self, work: _Work, now: datetime, dead_only: bool, limit: int) -> Iterator[JobRow]:
        c, lease = work.table.c, (work.leased if work.leased is not None else work.table).c.lease_until
        running = sa.and_(lease > now, sa.not_(work.dead))
        if work.leased is not None:  # a Save has the requests of several people
            running = sa.and_(running, c.next_due_at <= now)
        waiting = sa.or_(c.next_due_at <= now, sa.and_(c.next_due_at.is_not(None), c.attempts > 0))
        wanted = work.dead if dead_only else sa.or_(work.dead, running, waiting)
        state = sa.case((work.dead, "dead"), (running, "running"), else_="waiting")
        query = (
            sa.select(c.id, state.label("state"), t.tenant.c.name, t.user.c.email, c.next_due_at, c.attempts, work.reason)
            .join(t.tenant, t.tenant.c.id == c.tenant_id)
            .join(t.user, t.user.c.id == c.user_id)
            .where(wanted)
            .order_by(state, c.next_due_at, c.id)
            .limit(limit)
        )
        if work.leased is not None:
            query = query.join(work.leased, work.leased.c.id == c.save_id)
        for row in self._db.execute(query):
            yield JobRow(work.kind, row[0], row[1], row[2], row[3], row[4], row[5], row[6])

    def retry_job(self, job_id: str, now: datetime) -> str | None:
        """Have a row that is dead, or waits, tried again now, with all its tries before it; return its kind, None if it is none.

        A session is only tried while its mailbox is connected and not suspended.
        """
        for work in _WORK:
            c = work.table.c
            if self._first(sa.select(c.id).where(c.id == job_id)) is None:
                continue
            values: dict[str, Any] = {"next_due_at": now, "attempts": 0}
            where = c.id == job_id
            if work.kind == "session":
                usable = sa.select(t.connection.c.id).where(t.connection.c.state == "active")
                where = sa.and_(where, c.suspended_at.is_(None), c.connection_id.in_(usable))
                values |= {"state": "queued", "failures": 0, "forced_at": now, "woken_at": now}
            if work.kind == "save":
                failed = c.state == "failed"
                where = sa.and_(where, sa.not_(failed) | c.payload.is_not(None))
                values |= {"state": sa.case((failed, "pending"), else_=c.state), "changed_at": now}
                values |= {
                    "mark": sa.case((failed, "pending"), else_=c.mark),
                    "created_at": sa.case((failed, now), else_=c.created_at),
                }
            if work.kind == "notice":
                where = sa.and_(where, c.sent_at.is_(None))
            done = self._db.execute(work.table.update().where(where).values(values)).rowcount == 1
            return work.kind if done else None
        return None

    def unsubscribed(self, providers: frozenset[str], limit: int) -> list[Connection]:
        """Return connections of these providers whose folders are known and whose notifications nobody arranged for."""
        c, m = t.connection.c, t.mailbox_sync.c
        arranged = sa.exists().where(t.subscription.c.connection_id == c.id)
        begun = sa.exists().where(m.connection_id == c.id, m.finished_at.is_not(None))
        query = sa.select(t.connection).where(c.state == "active", c.provider.in_(providers), begun, ~arranged).limit(limit)
        return [connection_in(row) for row in self._db.execute(query)]
