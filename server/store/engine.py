"""How the store reaches its database, and how long it waits for it: every wait has an end.

SQLite waits by itself, for another process's write only. PostgreSQL is a remote that may hang at any byte, so psycopg's own
waiting is bounded: a connection whose server stays silent too long is closed, which leaves the outcome of its transaction
open, and SQLAlchemy drops it from the pool. The server is told to give up a little earlier by itself, which costs no
connection, and to free what a vanished client holds.
"""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from typing import Any, TypeVar, cast

import psycopg
import sqlalchemy as sa
from psycopg.abc import PQGen
from psycopg.errors import _WaitTimeout
from psycopg.types.string import StrDumperUnknown
from sqlalchemy.pool import ConnectionPoolEntry

RV = TypeVar("RV")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long PostgreSQL may be silent, in seconds. Our statements take milliseconds and no transaction encloses a call."""

    connect_s: int = 2  # libpq allows no less
    ping_s: float = 1.0  # for a pooled connection to show that it is alive; a new one is made then, and both within a lookup
    read_s: float = 2.0  # a statement that a person waits for, who sees nothing meanwhile
    write_s: float = 5.0  # a statement that may wait for another transaction, and a commit: its end is worth waiting for
    idle_s: float = 15.0  # a transaction whose client says nothing for so long is rolled back by the server


PATIENCE = Patience()
SQLITE_WAIT_S = 15.0  # for other processes' writes, which queue up when many save at once
_LOOK_S = 0.1  # psycopg's own: how often a wait looks whether it was interrupted
_POOL: dict[str, Any] = {"pool_size": 20, "max_overflow": 20, "pool_timeout": 5.0, "hide_parameters": True}


class _Connection(psycopg.Connection[Any]):
    """A psycopg connection whose every wait ends after `patience_s`; None: never."""

    patience_s: float | None = None

    def wait(self, gen: PQGen[RV], interval: float = _LOOK_S, timeout: float | None = None) -> RV:
        """Raises: OperationalError once the server was silent too long; the connection is closed then."""
        try:
            return super().wait(gen, interval, self.patience_s if timeout is None else timeout)
        except _WaitTimeout as error:
            self.close()  # the answer may still come, and must not be taken for that to the next question
            raise psycopg.OperationalError("the server did not answer in time") from error


class _TextDumper(StrDumperUnknown):
    """Sends text to PostgreSQL, which has no NUL in it: so what somebody asks for by such a name is not there, as in SQLite."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd"))


def open_engine(url: str) -> sa.Engine:
    """Return an engine for a SQLAlchemy URL, which connects when it is used.

    Execution options: `ssi_reads` says that a transaction only reads, `ssi_waits` that it may take as long as it likes.
    """
    return _sqlite(url) if url.startswith("sqlite") else _postgresql(url, PATIENCE)


def _sqlite(url: str) -> sa.Engine:
    engine = sa.create_engine(url, connect_args={"timeout": SQLITE_WAIT_S, "isolation_level": None}, **_POOL)

    @sa.event.listens_for(engine, "connect")
    def _configure(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        # FULL: an acknowledged save survives a power cut, which WAL with NORMAL does not promise.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        # A deferred transaction that upgrades from reading to writing fails at once when another writes; waiting is better.
        connection.exec_driver_sql("BEGIN" if connection.get_execution_options().get("ssi_reads") else "BEGIN IMMEDIATE")

    return engine


def _postgresql(url: str, patience: Patience) -> sa.Engine:
    engine = sa.create_engine(url, pool_pre_ping=True, **_POOL)
    on_server = {
        "statement_timeout": patience.write_s * 0.8,
        "lock_timeout": patience.write_s * 0.8,
        "idle_in_transaction_session_timeout": patience.idle_s,
    }
    options = " ".join(f"-c {name}={round(seconds * 1000)}" for name, seconds in on_server.items())

    @sa.event.listens_for(engine, "do_connect")
    def _connect(_dialect: object, _record: object, args: list[Any], parameters: dict[str, Any]) -> _Connection:
        given = {"connect_timeout": patience.connect_s, **parameters}
        connection = _Connection.connect(*args, **{**given, "options": f"{options} {parameters.get('options', '')}"})
        connection.patience_s = patience.write_s
        connection.adapters.register_dumper(str, _TextDumper)
        return connection

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        chosen, raw = connection.get_execution_options(), _raw(connection)
        raw.patience_s = patience.read_s if chosen.get("ssi_reads") else patience.write_s
        if chosen.get("ssi_waits"):
            raw.patience_s = None
            connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
            connection.exec_driver_sql("SET LOCAL lock_timeout = 0")

    @sa.event.listens_for(engine, "handle_error", retval=True)
    def _name(context: sa.ExceptionContext) -> sa.exc.OperationalError | None:
        """Have all that means "not this connection, not now" look alike, whatever class psycopg gives it."""
        error = context.original_exception
        if isinstance(error, psycopg.errors.ReadOnlySqlTransaction):  # another server has become the primary
            context.is_disconnect = True
        if not context.is_disconnect or isinstance(context.sqlalchemy_exception, sa.exc.OperationalError):
            return None
        return sa.exc.OperationalError(context.statement, None, error, hide_parameters=True, connection_invalidated=True)

    @sa.event.listens_for(engine, "checkin")
    def _rest(raw: _Connection | None, _record: ConnectionPoolEntry) -> None:
        if raw is not None:
            raw.patience_s = patience.ping_s  # the next thing that is asked of it

    return engine


def _raw(connection: sa.Connection) -> _Connection:
    return cast(_Connection, connection.connection.dbapi_connection)  # `_connect` makes no other
