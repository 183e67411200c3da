"""What all queries share: inserting once, leasing rows of work, and refusing who lost them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any, Protocol

import sqlalchemy as sa

from server.errors import Conflict, NotFound
from server.store import queries


class LeaseLost(Conflict):
    """Another worker took the row over; what this one did must not be recorded."""


class Held(Protocol):
    """A row of work that was taken."""

    @property
    def id(self) -> str: ...
    @property
    def fence(self) -> int: ...


class Rows:
    """One database transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._db = connection
        self.hooks: list[Callable[[], None]] = []

    def after_commit(self, fn: Callable[[], None]) -> None:
        """Run `fn` once this transaction is durable; never if it rolls back."""
        self.hooks.append(fn)

    # Internals

    def _insert(self, table: sa.Table, **values: Any) -> None:
        try:
            with self._db.begin_nested():
                self._db.execute(table.insert().values(values))
        except sa.exc.IntegrityError as error:
            raise Conflict(f"This {table.name.replace('_', ' ')} exists already.") from error

    def _insert_missing(self, table: sa.Table, values: Mapping[str, Any], unique: Sequence[str]) -> None:
        self._db.execute(queries.inserting_missing(self._db.dialect.name, table, tuple(unique)), values)

    def _upsert(self, table: sa.Table, rows: Sequence[Mapping[str, Any]]) -> None:
        """Raises: Conflict if a row has the key of another one."""
        if not rows:
            return
        try:
            with self._db.begin_nested():
                self._db.execute(queries.upserting(self._db.dialect.name, table), rows)
        except sa.exc.IntegrityError as error:
            raise Conflict(f"There is another {table.name.replace('_', ' ')} of the same.") from error

    def _first(self, query: sa.Select[Any], **values: str | int) -> sa.Row[Any] | None:
        return self._db.execute(query, values).first()

    def _one(self, query: sa.Select[Any], missing: str, **values: str | int) -> sa.Row[Any]:
        row = self._first(query, **values)
        if row is None:
            raise NotFound(missing)
        return row

    def _lease(self, table: sa.Table, row_id: str, now: datetime, for_s: float) -> int | None:
        values = {"of_id": row_id, "now": now, "until": now + timedelta(seconds=for_s)}
        return self._db.execute(queries.leasing(table), values).scalar()

    def _take_some(self, table: sa.Table, now: datetime, for_s: float, limit: int) -> list[sa.Row[Any]]:
        """Lease up to so many rows of a table of work, those that are due the longest, in one statement; return them."""
        c = table.c
        due = (
            sa.select(c.id)
            .where(c.next_due_at <= now, sa.or_(c.lease_until.is_(None), c.lease_until < now))
            .order_by(c.next_due_at)
            .limit(limit)
            .with_for_update(skip_locked=True)
        )
        until = now + timedelta(seconds=for_s)
        taken = table.update().where(c.id.in_(due)).values(fence=c.fence + 1, lease_until=until)
        return list(self._db.execute(taken.returning(*c)))

    def _take_up(self, table: sa.Table, row_id: str, fence: int, now: datetime, for_s: float) -> sa.Row[Any] | None:
        """Hold a row that another process took with this fence, and return it with a new one.

        None if somebody has it by now, or if it was given back: of two who name the same fence, one gets the row.
        """
        c = table.c
        held = table.update().where(c.id == row_id, c.fence == fence, c.lease_until.is_not(None))
        values = {"lease_until": now + timedelta(seconds=for_s), "fence": c.fence + 1}
        return self._db.execute(held.values(values).returning(*c)).first()

    def _change_taken(self, table: sa.Table, held: Held, values: Mapping[str, Any]) -> None:
        where = sa.and_(table.c.id == held.id, table.c.fence == held.fence)
        if self._db.execute(table.update().where(where).values(dict(values))).rowcount != 1:
            raise LeaseLost("Another worker does this.")

    def _release(self, table: sa.Table, row_id: str, fence: int) -> None:
        self._db.execute(queries.releasing(table), {"of_id": row_id, "of_fence": fence})
