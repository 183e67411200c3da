"""The store: every query of the product, behind a Store that hands out Transactions.

A Transaction is one database transaction: it commits when its `with` block ends well and rolls back when it raises. No
network call belongs inside one; what must follow a commit is registered by `tx.after_commit`. Methods return plain frozen
values, never rows. SQLite serves one machine, PostgreSQL many; both pass the same tests.

Leases: a row whose `lease_until` is past (or null) may be taken; taking it gives a FENCE, a number that grows with each
take. Every write of a lease holder names its fence, and a stale one raises LeaseLost, so that a holder that woke up late
cannot undo what its successor did.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from server.domain.profile import Profile
from server.domain.records import RecordType
from server.errors import AlreadyExists, Transient
from server.store import queries, schema as t
from server.store.engine import open_engine
from server.store.jobs import JobQueries, JobRow as JobRow
from server.store.rows import LeaseLost as LeaseLost
from server.store.syncing import SyncQueries
from server.store.values import (
    CHANGE as CHANGE,
    AccessType as AccessType,
    AddressScan as AddressScan,
    C4CSettings as C4CSettings,
    Connection as Connection,
    ConnectionState as ConnectionState,
    Flow as Flow,
    FollowedThread as FollowedThread,
    HookSubscription as HookSubscription,
    Issue as Issue,
    IssueKind as IssueKind,
    Link as Link,
    LinkOrigin as LinkOrigin,
    LinkState as LinkState,
    MailboxSync as MailboxSync,
    Notice as Notice,
    Organization as Organization,
    PageSession as PageSession,
    Prefixed,
    Principal as Principal,
    Provider as Provider,
    Purpose as Purpose,
    Save as Save,
    SaveRequest as SaveRequest,
    SyncStatus as SyncStatus,
    Tenant as Tenant,
    Uploads as Uploads,
    User as User,
    account_key as account_key,
    connection_in,
    new_id as new_id,
    notice_in,
    organization_in,
    request_in,
    save_in,
    scan_in,
    tenant_in,
    user_in,
)

_MIGRATION_LOCK = 7_341_902  # a number of our own among PostgreSQL's advisory locks
_SOME = 500  # values in one condition
_TAKEN_OVER = "Another worker goes on with this save."


class DatabaseAway(Transient):
    """The database did not answer. Whether a commit that was under way took effect is not known: the row tells."""


class Store:
    """Opens transactions on one database. Thread-safe; make one per process, after any fork."""

    def __init__(self, url: str) -> None:
        self._engine = open_engine(url)
        self._reading = self._engine.execution_options(ssi_reads=True)

    @contextmanager
    def transaction(self, *, reading: bool = False) -> Iterator[Transaction]:
        """One unit of work; `reading` says that it only reads, so that SQLite lets it run beside a writer.

        Raises: DatabaseAway if the database cannot be reached or is locked for too long.
        """
        try:
            with (self._reading if reading else self._engine).begin() as connection:
                tx = Transaction(connection)
                yield tx
        except (sa.exc.OperationalError, sa.exc.TimeoutError) as error:
            raise DatabaseAway("The database is not available right now.") from error
        for fn in tx.hooks:
            fn()

    def migrate(self) -> None:
        """Bring the schema up to date; safe to run again and by several processes."""
        from alembic import command
        from alembic.config import Config

        config = Config()
        config.set_main_option("script_location", str(Path(__file__).with_name("migrations")))
        with self._engine.execution_options(ssi_waits=True).begin() as connection:
            if connection.dialect.name == "postgresql":  # SQLite's transaction keeps others out by itself
                connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_MIGRATION_LOCK})")
            config.attributes["connection"] = connection
            command.upgrade(config, "head")

    def is_ready(self) -> bool:
        """Say whether the database answers and has the schema."""
        try:
            with self._reading.connect() as connection:
                return sa.inspect(connection).has_table(t.used_action.name)  # of the newest revision
        except (sa.exc.OperationalError, sa.exc.TimeoutError):
            return False

    def close(self) -> None:
        self._engine.dispose()


class Transaction(SyncQueries, JobQueries):
    """All queries, inside one database transaction."""

    # Tenants, organizations, users

    def add_tenant(self, name: str, wrapped_key: bytes, c4c: C4CSettings, identity_tenants: Iterable[str], now: datetime) -> str:
        """Raises: Conflict if the name or one of the identity tenants is taken."""
        tenant_id = new_id()
        self._insert(
            t.tenant, id=tenant_id, name=name, wrapped_key=wrapped_key, c4c=asdict(c4c), c4c_secrets=None, created_at=now
        )
        self.admit(tenant_id, identity_tenants)
        return tenant_id

    def admit(self, tenant_id: str, identity_tenants: Iterable[str]) -> None:
        """Let people of these identity tenants be people of the tenant. Raises: Conflict if one is admitted elsewhere."""
        for issuer_tenant in identity_tenants:
            if not self.admits(tenant_id, issuer_tenant):
                self._insert(t.identity_tenant, issuer_tenant=issuer_tenant, tenant_id=tenant_id)

    def set_c4c(self, tenant_id: str, c4c: C4CSettings, sealed_secrets: bytes | None) -> None:
        """Replace how the tenant is reached; None leaves the secrets as they are."""
        values: dict[str, Any] = {"c4c": asdict(c4c)}
        if sealed_secrets is not None:
            values["c4c_secrets"] = sealed_secrets
        self._db.execute(t.tenant.update().where(t.tenant.c.id == tenant_id).values(values))

    def tenants(self) -> list[Tenant]:
        return [tenant_in(row) for row in self._db.execute(sa.select(t.tenant).order_by(t.tenant.c.name))]

    def tenant(self, name_or_id: str) -> Tenant:
        """Raises: NotFound."""
        match = sa.or_(t.tenant.c.name == name_or_id, t.tenant.c.id == name_or_id)
        return tenant_in(self._one(sa.select(t.tenant).where(match), "There is no such tenant."))

    def wrapped_key(self, tenant_id: str) -> bytes:
        return bytes(self._one(queries.WRAPPED_KEY, "There is no such tenant.", tenant_id=tenant_id)[0])

    def wrapped_keys(self) -> dict[str, bytes]:
        """Return every tenant's wrapped key by the tenant's id."""
        return {row.id: bytes(row.wrapped_key) for row in self._db.execute(sa.select(t.tenant.c.id, t.tenant.c.wrapped_key))}

    def rewrap(self, tenant_id: str, old: bytes, new: bytes) -> bool:
        """Put the same data key, wrapped anew, in place of `old`; return whether `old` was still there."""
        where = sa.and_(t.tenant.c.id == tenant_id, t.tenant.c.wrapped_key == old)
        return self._db.execute(t.tenant.update().where(where).values(wrapped_key=new)).rowcount == 1

    def put_organization(
        self, tenant_id: str, name: str, access_type: str, admin_contact: str, profile: Profile, ews_url: str | None = None
    ) -> str:
        """Create the organization or change it, None leaving the URL as it is; return its id."""
        values = {"access_type": access_type, "admin_contact": admin_contact, "profile": profile.to_json()}
        values |= {} if ews_url is None else {"ews_url": ews_url}
        where = sa.and_(t.organization.c.tenant_id == tenant_id, t.organization.c.name == name)
        found = self._db.execute(sa.select(t.organization.c.id).where(where)).first()
        if found:
            self._db.execute(t.organization.update().where(where).values(values))
            return str(found[0])
        organization_id = new_id()
        self._insert(t.organization, id=organization_id, tenant_id=tenant_id, name=name, **values)
        return organization_id

    def put_service_account(self, organization_id: str, sealed: bytes, now: datetime) -> None:
        """Keep how Exchange is signed in to for the organization; its connections begin anew, where it is what opens them."""
        o, c = t.organization.c, t.connection.c
        self._db.execute(t.organization.update().where(o.id == organization_id).values(service_account=sealed))
        impersonating = sa.select(o.id).where(o.id == organization_id, o.access_type == "exchange_impersonation")
        own = sa.select(t.user.c.id).where(t.user.c.organization_id.in_(impersonating))
        opened = sa.and_(c.user_id.in_(own), c.provider == "exchange", c.state.not_in(("suspended", "disconnected")))
        self._db.execute(t.connection.update().where(opened).values(state="active", reason="", since=now))
        for row in self._db.execute(sa.select(t.connection).where(opened)).all():
            self.queue_session(connection_in(row), now)

    def refusal_of_service_account(self, organization_id: str) -> str | None:
        """Return why an organization's service account was refused since it was stored, None if it was not."""
        row = self._first(queries.REFUSED_IN_ORGANIZATION, organization_id=organization_id, state="needs_reauth")
        return None if row is None else str(row.reason)

    def organization_of(self, user_id: str) -> Organization:
        """Raises: NotFound."""
        return organization_in(self._one(queries.ORGANIZATION_OF, "There is no such user.", user_id=user_id))

    def organizations(self, tenant_id: str) -> list[Organization]:
        query = sa.select(t.organization).where(t.organization.c.tenant_id == tenant_id).order_by(t.organization.c.name)
        return [organization_in(row) for row in self._db.execute(query)]

    def admin_contact_for(self, issuer_tenant: str) -> str | None:
        """Return whom a person of this identity tenant should ask, or None if no C4C tenant admits it."""
        query = (
            sa.select(t.organization.c.admin_contact)
            .join(t.identity_tenant, t.identity_tenant.c.tenant_id == t.organization.c.tenant_id)
            .where(t.identity_tenant.c.issuer_tenant == issuer_tenant)
            .order_by(t.organization.c.name)
        )
        found = self._db.execute(query).first()
        return None if found is None else str(found[0])

    def add_user(self, tenant_id: str, organization_id: str, *, email: str, name: str, c4c_user_id: str, now: datetime) -> str:
        """Raises: Conflict if the tenant already has a user with this address or C4C UserID."""
        user_id = new_id()
        self._insert(
            t.user,
            id=user_id,
            tenant_id=tenant_id,
            organization_id=organization_id,
            email=email,
            email_key=email.lower(),
            name=name,
            c4c_user_id=c4c_user_id,
            enabled=True,
            generation=1,
            created_at=now,
        )
        return user_id

    def bind_identity(self, tenant_id: str, user_id: str, issuer_tenant: str, subject: str) -> None:
        """Raises: Conflict if the identity belongs to somebody already, NotFound if the tenant does not admit the issuer."""
        admitted = sa.select(t.identity_tenant.c.tenant_id).where(
            t.identity_tenant.c.issuer_tenant == issuer_tenant, t.identity_tenant.c.tenant_id == tenant_id
        )
        self._one(admitted, "The tenant does not admit this identity tenant.")
        self._insert(t.identity, issuer_tenant=issuer_tenant, subject=subject, tenant_id=tenant_id, user_id=user_id)

    def identity_owner(self, issuer_tenant: str, subject: str) -> str | None:
        """Return the id of the user whom an identity belongs to."""
        i = t.identity.c
        row = self._first(sa.select(i.user_id).where(i.issuer_tenant == issuer_tenant, i.subject == subject))
        return None if row is None else str(row.user_id)

    def admits(self, tenant_id: str, issuer_tenant: str) -> bool:
        """Say whether people of this identity tenant may be people of the C4C tenant."""
        i = t.identity_tenant.c
        return self._first(sa.select(i.tenant_id).where(i.tenant_id == tenant_id, i.issuer_tenant == issuer_tenant)) is not None

    def identity_tenants(self, tenant_id: str) -> list[str]:
        """Return the identity tenants whose people may be people of the C4C tenant."""
        i = t.identity_tenant.c
        return list(self._db.scalars(sa.select(i.issuer_tenant).where(i.tenant_id == tenant_id).order_by(i.issuer_tenant)))

    def unbound_users(self, issuer_tenant: str, address: str, *, access_type: AccessType | None = None) -> list[User]:
        """Return enabled users with this address, in organizations of this access type, without an identity of the issuer.

        Only users of C4C tenants that admit the identity tenant are looked at.
        """
        u, i = t.user.c, t.identity.c
        bound = sa.select(i.user_id).where(i.issuer_tenant == issuer_tenant)
        query = (
            sa.select(t.user)
            .join(t.organization, t.organization.c.id == u.organization_id)
            .join(t.identity_tenant, t.identity_tenant.c.tenant_id == u.tenant_id)
            .where(
                t.identity_tenant.c.issuer_tenant == issuer_tenant,
                sa.true() if access_type is None else t.organization.c.access_type == access_type,
                u.email_key == address.lower(),
                u.enabled,
                u.id.not_in(bound),
            )
        )
        return [user_in(row) for row in self._db.execute(query)]

    def user_by_c4c_id(self, tenant_id: str, c4c_user_id: str) -> User | None:
        u = t.user.c
        row = self._first(sa.select(t.user).where(u.tenant_id == tenant_id, u.c4c_user_id == c4c_user_id.upper()))
        return None if row is None else user_in(row)

    def user_by_email(self, tenant_id: str, email: str) -> User | None:
        row = self._first(sa.select(t.user).where(t.user.c.tenant_id == tenant_id, t.user.c.email_key == email.lower()))
        return None if row is None else user_in(row)

    def allow_mailbox(self, user_id: str, address: str) -> None:
        """Let a person connect the mailbox of this address beside their own; "" takes it back."""
        self._db.execute(t.user.update().where(t.user.c.id == user_id).values(other_mailbox=address))

    def sidebar_seen(self, user_id: str, at: datetime) -> None:
        """Remember the first call of the sidebar since the mailbox was connected."""
        where = sa.and_(t.user.c.id == user_id, t.user.c.sidebar_seen_at.is_(None))
        self._db.execute(t.user.update().where(where).values(sidebar_seen_at=at))

    def set_own_settings(self, user_id: str, settings: Mapping[str, Any]) -> None:
        """Replace what a person chose instead of the profile's settings."""
        self._db.execute(t.user.update().where(t.user.c.id == user_id).values(settings=dict(settings)))

    def set_language(self, user_id: str, language: str) -> None:
        self._db.execute(t.user.update().where(t.user.c.id == user_id).values(language=language))

    def unbind_identity(self, user_id: str, issuer_tenant: str, subject: str) -> None:
        """The identity no longer stands for this user."""
        i = t.identity.c
        theirs = sa.and_(i.user_id == user_id, i.issuer_tenant == issuer_tenant, i.subject == subject)
        self._db.execute(t.identity.delete().where(theirs))

    def is_somebody_elses(self, user: User, address: str) -> bool:
        """Say whether this is the own address of another user, of whichever tenant."""
        u = t.user.c
        return self._first(sa.select(u.id).where(u.email_key == address.lower(), u.id != user.id)) is not None

    def identities_of(self, user_id: str) -> list[tuple[str, str]]:
        """Return issuer's tenant and subject of each identity of a user."""
        i = t.identity.c
        query = sa.select(i.issuer_tenant, i.subject).where(i.user_id == user_id).order_by(i.issuer_tenant, i.subject)
        return [(row.issuer_tenant, row.subject) for row in self._db.execute(query)]

    def users_in(self, organization_id: str) -> list[User]:
        query = sa.select(t.user).where(t.user.c.organization_id == organization_id).order_by(t.user.c.email_key)
        return [user_in(row) for row in self._db.execute(query)]

    def users(self, tenant_id: str) -> list[User]:
        query = sa.select(t.user).where(t.user.c.tenant_id == tenant_id).order_by(t.user.c.email_key)
        return [user_in(row) for row in self._db.execute(query)]

    def remove_user(self, user_id: str) -> None:
        """Remove a person and everything that is theirs."""
        self._db.execute(t.user.delete().where(t.user.c.id == user_id))

    def set_user_enabled(self, user_id: str, enabled: bool) -> None:
        self._db.execute(t.user.update().where(t.user.c.id == user_id).values(enabled=enabled))

    def principal(self, issuer_tenant: str, subject: str) -> Principal | None:
        """Return the enabled user behind a verified identity; None if nobody, or nobody enabled, is bound to it."""
        return self._principal(queries.PRINCIPAL, issuer_tenant=issuer_tenant, subject=subject)

    def principal_of(self, user_id: str) -> Principal | None:
        """The same for work that goes on without the caller."""
        return self._principal(queries.PRINCIPAL_OF, user_id=user_id)

    def _principal(self, query: sa.Select[Any], **values: str) -> Principal | None:
        row = self._first(query, **values)
        if row is None:
            return None
        part = {name: Prefixed(row, name) for name in queries.JOINED}
        return Principal(tenant_in(part["tenant"]), organization_in(part["organization"]), user_in(part["user"]))

    def bump_generation(self, user_id: str) -> int:
        """Make every process forget what it cached for this user; return the new generation."""
        return int(self._db.execute(queries.BUMPED, {"of_id": user_id}).scalar_one())

    # Connections

    def put_connection(
        self,
        user: User,
        provider: Provider,
        mailbox: str,
        issuer_tenant: str,
        now: datetime,
        *,
        state: ConnectionState = "active",
    ) -> Connection:
        """Return the user's connection of this kind, made in this state if there is none yet."""
        values = {
            "id": new_id(),
            "tenant_id": user.tenant_id,
            "user_id": user.id,
            "provider": provider,
            "mailbox": mailbox,
            "issuer_tenant": issuer_tenant,
            "state": state,
            "reason": "",
            "since": now,
            "fence": 0,
        }
        self._insert_missing(t.connection, values, ["user_id", "provider"])
        row = self._one(queries.CONNECTION_OF, "The connection is gone.", user_id=user.id, provider=provider)
        return connection_in(row)

    def claim_mailbox(self, connection: Connection, mailbox: str, account: str | None) -> None:
        """Let a mailbox belong to this connection and no other. `account` is the provider's id of it, None while not known.

        Raises: AlreadyExists if it belongs to another one.
        """
        key = None if account is None else account_key(connection.provider, account)
        of_tenant = (
            f"{connection.tenant_id}:{mailbox.lower()}"  # who says that an address is theirs proves it by the account only
        )
        values = {"mailbox_key": of_tenant, "mailbox": mailbox, "account_key": key}
        try:
            with self._db.begin_nested():
                self._db.execute(t.connection.update().where(t.connection.c.id == connection.id).values(values))
        except sa.exc.IntegrityError as error:
            raise AlreadyExists("The mailbox is connected already, by somebody else.") from error

    def is_claimed(self, key: str) -> bool:
        """Say whether the mailbox of this account (`account_key`) belongs to a connection."""
        return self._first(sa.select(t.connection.c.id).where(t.connection.c.account_key == key)) is not None

    def renew_connection(self, connection_id: str, issuer_tenant: str, now: datetime) -> None:
        """A mailbox was connected (again): nothing stands against its use, unless an administrator suspended it."""
        c = t.connection.c
        values = {"state": "active", "reason": "", "since": now, "issuer_tenant": issuer_tenant}
        where = sa.and_(c.id == connection_id, c.state != "suspended")
        self._db.execute(t.connection.update().where(where).values(values))
        owner = sa.select(c.user_id).where(c.id == connection_id).scalar_subquery()
        self._db.execute(t.user.update().where(t.user.c.id == owner).values(sidebar_seen_at=None))
        self._drop_notices(connection_id)

    def disconnect(self, connection_id: str, reason: str, now: datetime) -> None:
        """Forget what opens a mailbox and whose it is; who holds its lease may write nothing more."""
        c = t.connection.c
        values = {
            "state": "disconnected",
            "reason": reason,
            "since": now,
            "credentials": None,
            "account_key": None,
            "mailbox_key": None,
            "fence": c.fence + 1,
            "lease_until": None,
        }
        self._db.execute(t.connection.update().where(c.id == connection_id).values(values))
        work = t.mailbox_sync.c
        stopped = {"next_due_at": None, "fence": work.fence + 1, "lease_until": None}
        self._db.execute(t.mailbox_sync.update().where(work.connection_id == connection_id).values(stopped))
        self.drop_subscription(connection_id)
        self._drop_notices(connection_id)

    def give_up(self, connection_id: str, fence: int, reason: str, now: datetime) -> None:
        """Note that a person is needed; nothing if the fence is stale. What worked until now is worth a mail to them."""
        c = t.connection.c
        held = sa.and_(c.id == connection_id, c.fence == fence)
        values = {"state": "needs_reauth", "reason": reason[:400], "since": now}
        if self._db.execute(t.connection.update().where(held, c.state == "active").values(values)).rowcount == 1:
            connection = self.connection(connection_id)
            if connection.credentials is not None or connection.provider == "exchange":  # it worked before
                self._owe(connection, "mailbox_broken", now)
        else:
            again = t.connection.update().where(held, c.state == "needs_reauth")
            self._db.execute(again.values(reason=reason[:400]))

    def connection(self, connection_id: str) -> Connection:
        """Raises: NotFound."""
        return connection_in(self._one(queries.CONNECTION, "There is no such connection.", connection_id=connection_id))

    def connection_of(self, user_id: str, provider: str) -> Connection | None:
        row = self._first(queries.CONNECTION_OF, user_id=user_id, provider=provider)
        return None if row is None else connection_in(row)

    def connections_of(self, user_id: str) -> list[Connection]:
        return [connection_in(row) for row in self._db.execute(queries.CONNECTIONS_OF, {"user_id": user_id})]

    def connections_in(self, organization_id: str) -> list[Connection]:
        """Return the connections of an organization's people."""
        people = sa.select(t.user.c.id).where(t.user.c.organization_id == organization_id)
        return [connection_in(row) for row in self._db.execute(sa.select(t.connection).where(t.connection.c.user_id.in_(people)))]

    def lease_connection(self, connection_id: str, now: datetime, for_s: float) -> int | None:
        """Return a fence, or None while another holds the connection."""
        return self._lease(t.connection, connection_id, now, for_s)

    def release_connection(self, connection_id: str, fence: int) -> None:
        self._release(t.connection, connection_id, fence)

    def save_credentials(
        self, connection_id: str, fence: int, sealed: bytes | None, now: datetime, *, reopens: bool = False
    ) -> bool:
        """Keep new credentials and end `needs_reauth`; False if the fence is stale. A suspended connection stays suspended.

        So is it for a connection that was disconnected, unless `reopens`.
        """
        c = t.connection.c
        waited = c.state == "needs_reauth"
        values = {
            "credentials": sealed,
            "state": sa.case((waited, "active"), else_=c.state),
            "reason": sa.case((waited, ""), else_=c.reason),
            "since": sa.case((waited, now), else_=c.since),
        }
        open_ones = sa.true() if reopens else c.state != "disconnected"
        update = t.connection.update().where(c.id == connection_id, c.fence == fence, open_ones).values(values)
        return self._db.execute(update).rowcount == 1

    def set_connection_state(self, connection_id: str, state: ConnectionState, reason: str, now: datetime) -> None:
        """Change the state; `since` keeps the time of the first report of the same state.

        What somebody suspended or disconnected is not taken for merely signed out.
        """
        where = sa.and_(t.connection.c.id == connection_id, t.connection.c.state != state)
        if state == "needs_reauth":
            where = sa.and_(where, t.connection.c.state.not_in(("suspended", "disconnected")))
        self._db.execute(t.connection.update().where(where).values(state=state, reason=reason[:400], since=now))

    # Mails that we owe

    def _owe(self, connection: Connection, kind: str, now: datetime) -> None:
        values = {
            "id": new_id(),
            "tenant_id": connection.tenant_id,
            "user_id": connection.user_id,
            "connection_id": connection.id,
            "kind": kind,
            "reason": connection.reason,
            "since": connection.since,
            "outcome": "",
            "attempts": 0,
            "fence": 0,
            "next_due_at": now,
        }
        self._insert_missing(t.notice, values, ["connection_id", "since"])

    def owe_notice(self, connection: Connection, kind: str, reason: str, now: datetime) -> None:
        """Have somebody told by e-mail, now, why a mailbox needs them."""
        self._owe(replace(connection, reason=reason[:400], since=now), kind, now)

    def _drop_notices(self, connection_id: str) -> None:
        n = t.notice.c
        self._db.execute(t.notice.delete().where(n.connection_id == connection_id, n.sent_at.is_(None)))

    def take_notices(self, now: datetime, for_s: float, limit: int) -> list[Notice]:
        """Lease the mails that are due the longest, at most so many."""
        return [notice_in(row) for row in self._take_some(t.notice, now, for_s, limit)]

    def notice_sent(self, notice: Notice, now: datetime) -> None:
        """Raises: LeaseLost."""
        self._change_taken(t.notice, notice, {"sent_at": now, "next_due_at": None, "lease_until": None, "outcome": ""})

    def notice_failed(self, notice: Notice, next_due_at: datetime | None, reason: str) -> None:
        """Try again at that time; None: never, for this reason. Raises: LeaseLost."""
        values = {"attempts": notice.attempts + 1, "next_due_at": next_due_at, "lease_until": None, "outcome": reason[:400]}
        self._change_taken(t.notice, notice, values)

    def notice_dropped(self, notice: Notice, reason: str) -> None:
        """Nobody needs the mail, for this reason. Raises: LeaseLost."""
        self._change_taken(t.notice, notice, {"attempts": 0, "next_due_at": None, "lease_until": None, "outcome": reason[:400]})

    def was_told(self, notice: Notice, organization_id: str, since: datetime) -> bool:
        """Say whether somebody of the organization was the cause of a mail with the same reason after that time."""
        n, u = t.notice.c, t.user.c
        query = (
            sa.select(n.id)
            .join(t.user, u.id == n.user_id)
            .where(u.organization_id == organization_id, n.reason == notice.reason, n.sent_at >= since, n.id != notice.id)
            .limit(1)
        )
        return self._first(query) is not None

    # People at our pages

    def add_page_session(
        self,
        token_hash: bytes,
        user: User,
        purpose: Purpose,
        now: datetime,
        *,
        authenticated_at: datetime,
        expires_at: datetime,
        made_from: bytes | None = None,
    ) -> None:
        """Keep a session; one that is `made_from` another ends with it when its person signs out."""
        self._insert(
            t.page_session,
            token_hash=token_hash,
            made_from=made_from,
            tenant_id=user.tenant_id,
            user_id=user.id,
            purpose=purpose,
            authenticated_at=authenticated_at,
            seen_at=now,
            expires_at=expires_at,
        )

    def page_session(self, token_hash: bytes, purpose: Purpose, now: datetime) -> PageSession | None:
        """Return the session if it has not expired."""
        p = t.page_session.c
        query = sa.select(t.page_session).where(p.token_hash == token_hash, p.purpose == purpose, p.expires_at > now)
        row = self._first(query)
        if row is None:
            return None
        return PageSession(row.tenant_id, row.user_id, row.authenticated_at, row.seen_at, row.expires_at)

    def see_page_session(self, token_hash: bytes, now: datetime) -> None:
        self._db.execute(t.page_session.update().where(t.page_session.c.token_hash == token_hash).values(seen_at=now))

    def end_page_session(self, token_hash: bytes) -> None:
        p = t.page_session.c
        self._db.execute(t.page_session.delete().where(sa.or_(p.token_hash == token_hash, p.made_from == token_hash)))

    def end_page_sessions(self, user_id: str) -> None:
        self._db.execute(t.page_session.delete().where(t.page_session.c.user_id == user_id))

    def add_flow(self, flow: Flow) -> None:
        self._insert(t.flow, **asdict(flow))

    def take_flow(self, state_hash: bytes, browser_hash: bytes, now: datetime) -> Flow | None:
        """Return what was kept for this state and browser, once: however many ask, one gets it."""
        f = t.flow.c
        taken = t.flow.delete().where(f.state_hash == state_hash, f.browser_hash == browser_hash).returning(*t.flow.c)
        row = self._db.execute(taken).first()
        return None if row is None or row.expires_at <= now else Flow(**row._mapping)

    def use_action(self, nonce: str, expires_at: datetime) -> bool:
        """Note that a button was pressed which works once; False if it was before: however many press it, one gets True."""
        new = queries.inserting_missing(self._db.dialect.name, t.used_action, ("nonce",)).returning(t.used_action.c.nonce)
        return self._db.execute(new, {"nonce": nonce, "expires_at": expires_at}).first() is not None

    def forget_expired(self, now: datetime) -> None:
        """Erase flows, page sessions and used buttons that are over."""
        self._db.execute(t.used_action.delete().where(t.used_action.c.expires_at <= now))
        self._db.execute(t.flow.delete().where(t.flow.c.expires_at <= now))
        self._db.execute(t.page_session.delete().where(t.page_session.c.expires_at <= now))

    # Saves

    def put_save(self, tenant_id: str, message_key: str, fingerprint: str, now: datetime) -> Save:
        """Return the tenant's Save of this message, made if there is none yet; two callers at once get the same one."""
        values = {
            "id": new_id(),
            "tenant_id": tenant_id,
            "message_key": message_key,
            "fingerprint": fingerprint,
            "fence": 0,
            "created_at": now,
        }
        self._insert_missing(t.save, values, ["tenant_id", "message_key"])
        return save_in(self._one(queries.SAVE_BY_KEY, "The save is gone.", tenant_id=tenant_id, message_key=message_key))

    def save_by_key(self, tenant_id: str, message_key: str) -> Save | None:
        row = self._first(queries.SAVE_BY_KEY, tenant_id=tenant_id, message_key=message_key)
        return None if row is None else save_in(row)

    def save(self, save_id: str) -> Save:
        """Raises: NotFound."""
        return save_in(self._one(queries.SAVE, "There is no such save.", save_id=save_id))

    def lease_save(self, save_id: str, now: datetime, for_s: float) -> int | None:
        """Return a fence, or None while another works on this Save."""
        return self._lease(t.save, save_id, now, for_s)

    def renew_save(self, save_id: str, fence: int, now: datetime, for_s: float) -> None:
        """Hold the Save for `for_s` from now on, or up to a tenth less; call it before each step. Raises: LeaseLost.

        A lease that was taken a moment ago is only looked at: each write waits for the disk.
        """
        held = self._first(queries.LEASE, save_id=save_id, fence=fence)
        if held is None:
            raise LeaseLost(_TAKEN_OVER)
        if held.lease_until is None or held.lease_until < now + timedelta(seconds=0.9 * for_s):
            self._fenced(save_id, fence, {"lease_until": now + timedelta(seconds=for_s)})

    def release_save(self, save_id: str, fence: int) -> None:
        self._release(t.save, save_id, fence)

    def create_sent(self, save_id: str, fence: int, at: datetime | None) -> None:
        """Remember that a create goes out (or, with None, that its outcome is known). Raises: LeaseLost."""
        self._fenced(save_id, fence, {"create_sent_at": at})

    def activity_known(self, save_id: str, fence: int, activity_id: str, human_id: str, user_id: str, now: datetime) -> None:
        """C4C has the activity. The first to know it stays who saved it. Raises: LeaseLost."""
        values = {"activity_id": activity_id, "activity_human_id": human_id, "create_sent_at": None}
        self._fenced(save_id, fence, values)
        self._db.execute(queries.FIRST_SAVED, {"of_id": save_id, "saved_by": user_id, "saved_at": now})

    def activity_gone(self, save_id: str, fence: int) -> None:
        """C4C no longer has it (somebody deleted it there). Raises: LeaseLost."""
        values = {"activity_id": None, "activity_human_id": None, "saved_by": None, "saved_at": None}
        self._fenced(save_id, fence, values)

    def put_request(
        self,
        save: Save,
        connection: Connection,
        *,
        item_ref: str,
        item_id: str,
        payload: bytes,
        wish_hash: bytes,
        now: datetime,
        yields: bool = False,
    ) -> SaveRequest:
        """Return the user's request on this Save: new, or the present one with the new wish and due at once.

        One that `yields` leaves a present one as it is that waits or is worked on.
        The same wish (`wish_hash`) as one that waits or is worked on stays that one. Take the Save's lease first, if at all.
        """
        values = {
            "id": new_id(),
            "tenant_id": save.tenant_id,
            "user_id": connection.user_id,
            "save_id": save.id,
            "connection_id": connection.id,
            "item_ref": item_ref,
            "item_id": item_id[:400],
            "wish": 0,
            "wish_hash": wish_hash,
            "state": "pending",
            "code": "",
            "reason": "",
            "said": None,
            "payload": payload,
            "links": [],
            "mark": "pending",
            "attempts": 0,
            "next_due_at": now,
            "created_at": now,
            "changed_at": now,
        }
        self._insert_missing(t.save_request, values, ["save_id", "user_id"])
        of = {"of_save_id": save.id, "of_user_id": connection.user_id}
        again = {**values, "code": CHANGE}
        anew = queries.WISHED_AFTER_ALL if yields else queries.WISHED_AGAIN
        self._db.execute(anew, of | {f"new_{name}": again[name] for name in queries.WISH})
        return request_in(self._one(queries.REQUEST_ON, "The save is gone.", save_id=save.id, user_id=connection.user_id))

    def request(self, principal: Principal, request_id: str) -> SaveRequest:
        """The one road from an id in a URL to a request: only the caller's own exist. Raises: NotFound."""
        values = {"save_request_id": request_id, "user_id": principal.user.id}
        return request_in(self._one(queries.REQUEST_OF, "There is no such save.", **values))

    def due_request(self, request_id: str) -> SaveRequest:
        """Return a request to the worker that holds its Save. Raises: NotFound."""
        return request_in(self._one(queries.REQUEST, "There is no such save.", save_request_id=request_id))

    def request_on(self, save_id: str, user_id: str) -> SaveRequest | None:
        row = self._first(queries.REQUEST_ON, save_id=save_id, user_id=user_id)
        return None if row is None else request_in(row)

    def request_for_item(self, user_id: str, item_id: str) -> SaveRequest | None:
        """Return the user's request for the message that the pane named so."""
        row = self._first(queries.REQUEST_FOR_ITEM, user_id=user_id, item_id=item_id[:400])
        return None if row is None else request_in(row)

    def requests_at(self, user_id: str, item_refs: Collection[str]) -> dict[str, SaveRequest]:
        """Return the user's requests for messages of their mailbox, by the provider's refs."""
        r, wanted = t.save_request.c, list(item_refs)
        found: dict[str, SaveRequest] = {}
        for start in range(0, len(wanted), _SOME):
            where = sa.and_(r.user_id == user_id, r.item_ref.in_(wanted[start : start + _SOME]))
            rows = self._db.execute(sa.select(t.save_request).where(where).order_by(r.created_at))
            found |= {row.item_ref: request_in(row) for row in rows}
        return found

    def due_requests(self, now: datetime, limit: int) -> list[SaveRequest]:
        """Return requests that wait for work and whose Save nobody holds, the longest waiting first."""
        query = (
            sa.select(t.save_request)
            .join(t.save, t.save.c.id == t.save_request.c.save_id)
            .where(t.save_request.c.next_due_at <= now, sa.or_(t.save.c.lease_until.is_(None), t.save.c.lease_until < now))
            .order_by(t.save_request.c.next_due_at)
            .limit(limit)
        )
        return [request_in(row) for row in self._db.execute(query)]

    def change_request(self, request: SaveRequest, fence: int, now: datetime, **values: Any) -> bool:
        """Record progress of a request under its Save's lease; False, and nothing recorded, if a newer wish came meanwhile.

        A new reason replaces what was `said`. Raises: LeaseLost.
        """
        self._fenced(request.save_id, fence, {"fence": fence})
        if "reason" in values:
            values.setdefault("said", None)
        if "links" in values:
            values["links"] = [[ref.type, ref.id] for ref in values["links"]]
        of = {"of_id": request.id, "of_wish": request.wish}
        return self._db.execute(queries.WISHED, {**of, "changed_at": now, **values}).rowcount == 1

    def wake_request(self, request_id: str, now: datetime, mark: str | None = None) -> None:
        """Make a request due at once, with fresh tries; one that failed becomes pending. `mark` is to be set (again)."""
        failed = t.save_request.c.state == "failed"
        values = {
            "next_due_at": now,
            "attempts": 0,
            "changed_at": now,
            "state": sa.case((failed, "pending"), else_=t.save_request.c.state),
            "mark": sa.case((failed, "pending"), else_=t.save_request.c.mark if mark is None else mark),
            "created_at": sa.case((failed, now), else_=t.save_request.c.created_at),
        }
        self._db.execute(t.save_request.update().where(t.save_request.c.id == request_id).values(values))

    def mark_again(self, request_id: str, now: datetime) -> None:
        """Have the mark that fits the request's state set once more, now."""
        r = t.save_request.c
        mark = sa.case((r.state == "saved", "saved"), (r.state == "failed", "error"), else_="pending")
        values = {"mark": mark, "next_due_at": now, "changed_at": now}
        self._db.execute(t.save_request.update().where(r.id == request_id).values(values))

    def forget_payloads(self, before: datetime, now: datetime) -> int:
        """Erase wishes from before that time; their requests fail with that reason. Returns how many."""
        where = sa.and_(t.save_request.c.payload.is_not(None), t.save_request.c.created_at < before)
        values = {
            "payload": None,
            "state": "failed",
            "code": "expired",
            "reason": "It could not be saved within 7 days. Save it again.",
            "said": None,
            "mark": "error",
            "changed_at": now,
            "next_due_at": now,
        }
        return self._db.execute(t.save_request.update().where(where).values(values)).rowcount

    # Spelling index

    def spellings(self, tenant_id: str, hashes: Sequence[bytes]) -> dict[RecordType, tuple[str, ...]]:
        """Return the ObjectIDs that are known for any of these address hashes, by record type."""
        found: dict[RecordType, set[str]] = {}
        for row in self._db.execute(queries.SPELLINGS, {"tenant_id": tenant_id, "hashes": hashes}):
            found.setdefault(row.type, set()).add(row.object_id)
        return {record_type: tuple(sorted(ids)) for record_type, ids in found.items()}

    def learn_spellings(self, tenant_id: str, entries: Iterable[tuple[bytes, RecordType, str]]) -> None:
        """Add to the index; what is known already is left alone."""
        rows = [
            {"tenant_id": tenant_id, "address_hash": hashed, "type": record_type, "object_id": object_id}
            for hashed, record_type, object_id in entries
        ]
        if rows:
            self._db.execute(queries.inserting_missing(self._db.dialect.name, t.spelling, ()), rows)

    def want_scans(self, user: User, types: Iterable[RecordType], now: datetime) -> None:
        """Have the user's visible addresses read into the index, unless that is arranged already."""
        for record_type in types:
            values = {
                "id": new_id(),
                "tenant_id": user.tenant_id,
                "user_id": user.id,
                "type": record_type,
                "fence": 0,
                "next_due_at": now,
            }
            self._insert_missing(t.address_scan, values, ["user_id", "type"])

    def take_scans(self, now: datetime, for_s: float, limit: int) -> list[AddressScan]:
        """Lease the scans that are due the longest, at most so many."""
        return [scan_in(row) for row in self._take_some(t.address_scan, now, for_s, limit)]

    def take_up_scan(self, scan_id: str, fence: int, now: datetime, for_s: float) -> AddressScan | None:
        """Do as `hold_session`."""
        row = self._take_up(t.address_scan, scan_id, fence, now, for_s)
        return None if row is None else scan_in(row)

    def keep_scan(self, scan: AddressScan, changed_at: datetime | None, now: datetime, for_s: float) -> None:
        """Keep how far the scan came, and hold it longer. Raises: LeaseLost."""
        self._change_taken(t.address_scan, scan, {"changed_at": changed_at, "lease_until": now + timedelta(seconds=for_s)})

    def finish_scan(self, scan: AddressScan, changed_at: datetime | None, next_due_at: datetime) -> None:
        """Keep the cursor and give the scan back. Raises: LeaseLost."""
        values = {"changed_at": changed_at, "next_due_at": next_due_at, "lease_until": None, "attempts": 0, "reason": ""}
        self._change_taken(t.address_scan, scan, values)

    def scan_failed(self, scan: AddressScan, next_due_at: datetime | None, reason: str) -> None:
        """Try again at that time; None: never, for this reason. Raises: LeaseLost."""
        values = {"attempts": scan.attempts + 1, "next_due_at": next_due_at, "lease_until": None, "reason": reason[:400]}
        self._change_taken(t.address_scan, scan, values)

    # Audit

    def record(self, action: str, now: datetime, *, tenant_id: str | None, user_id: str | None, **detail: str) -> None:
        """Append to the audit trail; `detail` holds ids, never content."""
        text = json.dumps(detail, sort_keys=True)
        self._insert(t.audit, at=now, tenant_id=tenant_id, user_id=user_id, action=action, detail=text)

    # Internals

    def _fenced(self, save_id: str, fence: int, values: Mapping[str, Any]) -> None:
        if self._db.execute(queries.FENCED, {"of_id": save_id, "of_fence": fence, **values}).rowcount != 1:
            raise LeaseLost(_TAKEN_OVER)
