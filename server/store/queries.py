"""The statements that every lookup and every save runs, built once and filled by name.

SQLAlchemy takes fifteen times as long to build the statement behind a Principal (0.46 ms) as to run it (0.03 ms on SQLite), so
what a request needs is a constant here; what runs now and then is built where it is used. Each statement names the tenant, the
user or the random id that bounds it: none reads beyond what its caller may see.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from server.store import schema as t

JOINED = {"tenant": t.tenant, "organization": t.organization, "user": t.user}
"""Tables whose columns a Principal's row carries, each column named "<table>__<column>"."""


def _principal(where: sa.ColumnElement[bool]) -> sa.Select[Any]:
    columns = [column.label(f"{name}__{column.name}") for name, table in JOINED.items() for column in table.c]
    return (
        sa.select(*columns)
        .select_from(t.user)
        .join(t.organization, t.organization.c.id == t.user.c.organization_id)
        .join(t.tenant, t.tenant.c.id == t.user.c.tenant_id)
        .outerjoin(t.identity, t.identity.c.user_id == t.user.c.id)
        .where(where, t.user.c.enabled)
    )


def _bound(*columns: sa.Column[Any]) -> sa.ColumnElement[bool]:
    """Compare each column with a parameter of its own name, or of its table's where it is the id."""
    return sa.and_(*(c == sa.bindparam(f"{c.table.name}_id" if c.name == "id" else c.name, type_=c.type) for c in columns))


PRINCIPAL = _principal(_bound(t.identity.c.issuer_tenant, t.identity.c.subject))
PRINCIPAL_OF = _principal(_bound(t.user.c.id))
ORGANIZATION_OF = sa.select(t.organization).join(t.user).where(_bound(t.user.c.id))
WRAPPED_KEY = sa.select(t.tenant.c.wrapped_key).where(_bound(t.tenant.c.id))

CONNECTION = sa.select(t.connection).where(_bound(t.connection.c.id))
CONNECTIONS_OF = sa.select(t.connection).where(_bound(t.connection.c.user_id)).order_by(t.connection.c.provider)
REFUSED_IN_ORGANIZATION = (
    sa.select(t.connection.c.reason)
    .join(t.user, t.user.c.id == t.connection.c.user_id)
    .where(_bound(t.user.c.organization_id, t.connection.c.state), t.connection.c.provider == "exchange")
    .limit(1)
)
CONNECTION_OF = sa.select(t.connection).where(_bound(t.connection.c.user_id, t.connection.c.provider))

SAVE = sa.select(t.save).where(_bound(t.save.c.id))
SAVE_BY_KEY = sa.select(t.save).where(_bound(t.save.c.tenant_id, t.save.c.message_key))

REQUEST = sa.select(t.save_request).where(_bound(t.save_request.c.id))
REQUEST_OF = sa.select(t.save_request).where(_bound(t.save_request.c.id, t.save_request.c.user_id))
REQUEST_ON = sa.select(t.save_request).where(_bound(t.save_request.c.save_id, t.save_request.c.user_id))
REQUEST_FOR_ITEM = (
    sa.select(t.save_request)
    .where(_bound(t.save_request.c.user_id, t.save_request.c.item_id))
    .order_by(t.save_request.c.created_at.desc())
    .limit(1)
)

SPELLINGS = sa.select(t.spelling.c.type, t.spelling.c.object_id).where(
    _bound(t.spelling.c.tenant_id),
    t.spelling.c.address_hash.in_(sa.bindparam("hashes", type_=t.spelling.c.address_hash.type, expanding=True)),
)

LEASE = sa.select(t.save.c.lease_until).where(_bound(t.save.c.id, t.save.c.fence))

# Updates. Which columns they set is said when they run; what bounds them is named "of_<column>".


def _changing(table: sa.Table, *bounds: str) -> sa.Update:
    return table.update().where(*(table.c[name] == sa.bindparam(f"of_{name}", type_=table.c[name].type) for name in bounds))


FENCED = _changing(t.save, "id", "fence")
FIRST_SAVED = _changing(t.save, "id").where(t.save.c.saved_by.is_(None))
WISHED = _changing(t.save_request, "id", "wish")
BUMPED = _changing(t.user, "id").values(generation=t.user.c.generation + 1).returning(t.user.c.generation)


@cache
def leasing(table: sa.Table) -> sa.Update:
    """Take a row whose lease is over: parameters of_id, now, until."""
    now = sa.bindparam("now", type_=table.c.lease_until.type)
    free = sa.or_(table.c.lease_until.is_(None), table.c.lease_until < now)
    until = sa.bindparam("until", type_=table.c.lease_until.type)
    taken = _changing(table, "id").where(free).values(lease_until=until, fence=table.c.fence + 1)
    return taken.returning(table.c.fence)


@cache
def releasing(table: sa.Table) -> sa.Update:
    return _changing(table, "id", "fence").values(lease_until=None)


WISH = ("item_ref", "item_id", "payload", "wish_hash", "next_due_at", "created_at", "changed_at", "connection_id", "attempts",
        "mark", "state", "code", "reason", "said")  # fmt: skip
"""Columns that a newer wish sets."""


def _wishing_again() -> sa.Update:
    """Put a newer wish into a request; the same as one that waits or is worked on changes nothing but when it is due.

    Parameters are of_save_id, of_user_id and new_<column> for each of WISH.
    """
    c = t.save_request.c
    again: dict[str, Any] = {name: _new(c[name]) for name in WISH}
    again["wish"] = c.wish + 1
    again["code"] = sa.case((c.state == "saved", again["code"]), else_="")
    under_way = sa.and_(c.wish_hash == _new(c.wish_hash), c.state.in_(("pending", "unknown")))
    for name in ("state", "code", "reason", "said", "mark", "wish"):
        again[name] = sa.case((under_way, c[name]), else_=again[name])
    return _changing(t.save_request, "save_id", "user_id").values(again)


def _new(column: sa.Column[Any]) -> sa.BindParameter[Any]:
    return sa.bindparam(f"new_{column.name}", type_=column.type)


WISHED_AGAIN = _wishing_again()
WISHED_AFTER_ALL = WISHED_AGAIN.where(t.save_request.c.state.in_(("saved", "failed")))
"""The same for a wish that nobody waits for: one that waits or is worked on stands."""


@cache
def inserting_missing(dialect: str, table: sa.Table, unique: tuple[str, ...]) -> Any:
    """Insert a row unless there is one with the same values in `unique`; with none named, in any key."""
    insert: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    return insert.on_conflict_do_nothing(index_elements=unique or None)


def upserting(dialect: str, table: sa.Table) -> Any:
    """Insert rows, or give those with the same id these values."""
    insert: Any = sqlite.insert(table) if dialect == "sqlite" else postgresql.insert(table)
    return insert.on_conflict_do_update(
        index_elements=["id"], set_={c.name: insert.excluded[c.name] for c in table.c if c.name != "id"}
    )
