"""What the sync engine keeps: its sessions, links, issues, followed threads and subscriptions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from datetime import datetime, timedelta
from typing import Any

import sqlalchemy as sa

from server.domain.people import PersonType
from server.store import schema as t
from server.store.rows import Rows
from server.store.values import (
    Connection,
    FollowedThread,
    HookSubscription,
    Issue,
    IssueKind,
    Link,
    MailboxSync,
    Provider,
    connection_in,
    issue_in,
    link_in,
    mailbox_sync_in,
    new_id,
    subscription_in,
    thread_in,
)

_SOME = 500  # values in one condition


class SyncQueries(Rows):
    """Queries about the engine's rows, inside one transaction."""

    # Sessions

    def queue_session(self, connection: Connection, now: datetime) -> None:
        """Have the mailbox's next session begin at once; during one that is under way, another one after it."""
        values = {
            "id": new_id(),
            "tenant_id": connection.tenant_id,
            "user_id": connection.user_id,
            "connection_id": connection.id,
            "state": "queued",
            "phase": "",
            "done": 0,
            "total": 0,
            "reason": "",
            "marks": {},
            "folders": {},
            "attempts": 0,
            "fence": 0,
            "next_due_at": now,
        }
        self._insert_missing(t.mailbox_sync, values, ["connection_id"])
        again = {"state": "queued", "phase": "", "done": 0, "total": 0, "attempts": 0, "next_due_at": now}
        again |= {"reason": "", "facts": None}
        m = t.mailbox_sync.c
        free = sa.or_(m.lease_until.is_(None), m.lease_until < now)
        self._db.execute(t.mailbox_sync.update().where(m.connection_id == connection.id, free).values(again))
        self.wake_session(connection.id, now)

    def wake_session(self, connection_id: str, now: datetime, *, forced: bool = False, by_notice: bool = False) -> bool:
        """Have a mailbox's session begin now, or another one right after the one that is under way.

        Return whether there is one that may: not while its owner suspended it, or it is not connected. One that was `forced` by
        a person tries again whatever has an issue. One that waits because the last one failed is begun earlier for a person,
        but not `by_notice` of a mail service, which may have asked for rest.
        """
        m, c = t.mailbox_sync.c, t.connection.c
        usable = sa.select(c.id).where(c.id == connection_id, c.state == "active")
        values: dict[str, Any] = {"woken_at": now, "next_due_at": now}
        if forced:
            values |= {"forced_at": now, "failures": 0, "attempts": 0}
        where = sa.and_(m.connection_id.in_(usable), m.suspended_at.is_(None))
        if by_notice:
            where = sa.and_(where, m.failures == 0, m.state != "failed")
        is_woken = self._db.execute(t.mailbox_sync.update().where(where).values(values)).rowcount == 1
        if is_woken and forced:
            self._db.execute(t.issue.update().where(t.issue.c.connection_id == connection_id).values(tries=0))
        return is_woken

    def suspend_session(self, connection_id: str, now: datetime) -> None:
        """Let no session begin until it is resumed; one that is under way loses its lease."""
        m = t.mailbox_sync.c
        values = {"suspended_at": now, "next_due_at": None, "fence": m.fence + 1, "lease_until": None}
        self._db.execute(t.mailbox_sync.update().where(m.connection_id == connection_id, m.suspended_at.is_(None)).values(values))

    def resume_session(self, connection_id: str, now: datetime) -> None:
        m = t.mailbox_sync.c
        self._db.execute(t.mailbox_sync.update().where(m.connection_id == connection_id).values(suspended_at=None))
        self.wake_session(connection_id, now, forced=True)

    def session_of(self, connection_id: str) -> MailboxSync | None:
        row = self._first(sa.select(t.mailbox_sync).where(t.mailbox_sync.c.connection_id == connection_id))
        return None if row is None else mailbox_sync_in(row)

    def is_session_due(self, connection_id: str, now: datetime) -> bool:
        """Say whether a session of the mailbox is due that nobody has begun: it will see all that happened until now."""
        m = t.mailbox_sync.c
        free = sa.or_(m.lease_until.is_(None), m.lease_until < now)
        query = sa.select(m.id).where(m.connection_id == connection_id, m.next_due_at <= now, free)
        return self._first(query) is not None

    def take_sessions(self, now: datetime, for_s: float, limit: int) -> list[MailboxSync]:
        """Lease the sessions that are due the longest, at most so many."""
        return [mailbox_sync_in(row) for row in self._take_some(t.mailbox_sync, now, for_s, limit)]

    def hold_session(self, session_id: str, fence: int, now: datetime, for_s: float) -> MailboxSync | None:
        """Take up a session that another process took with this fence; it has a new one then. None if somebody has it by now."""
        row = self._take_up(t.mailbox_sync, session_id, fence, now, for_s)
        return None if row is None else mailbox_sync_in(row)

    def keep_session(self, sync: MailboxSync, now: datetime, for_s: float, **values: Any) -> None:
        """Keep how far the session came, and hold it longer. Raises: LeaseLost."""
        self._change_taken(t.mailbox_sync, sync, {**_stored(values), "lease_until": now + timedelta(seconds=for_s)})

    def end_session(
        self, sync: MailboxSync, *, next_due_at: datetime | None, now: datetime, not_before: datetime | None = None, **values: Any
    ) -> None:
        """Give the session back; who asked for one while it was under way gets it at once, or at `not_before`.

        Raises: LeaseLost.
        """
        m = t.mailbox_sync.c
        due: Any = next_due_at
        if sync.began_at is not None and next_due_at is not None:
            due = sa.case((m.woken_at > sync.began_at, not_before or now), else_=next_due_at)
        self._change_taken(t.mailbox_sync, sync, {**_stored(values), "next_due_at": due, "lease_until": None})

    def answer_session(self, connection_id: str, **values: Any) -> None:
        """Keep what a person wants of the next session: `allowed_at`, `uploads`, `forced_at`."""
        where = t.mailbox_sync.c.connection_id == connection_id
        self._db.execute(t.mailbox_sync.update().where(where).values(values))

    def forget_mailbox(self, sync: MailboxSync, account: str) -> None:
        """Begin anew with another mailbox: nothing that is known is about it. Raises: LeaseLost."""
        for table in (t.link, t.issue, t.followed_thread, t.subscription):
            self._db.execute(table.delete().where(table.c.connection_id == sync.connection_id))
        fresh: dict[str, Any] = {
            "account": account,
            "cursor": None,
            "crm_cursors": {},
            "marks": {},
            "folders": {},
            "uploads": "ask",
            "counts": {},
            **dict.fromkeys(("checked_at", "swept_at", "first_done_at", "finished_at", "allowed_at")),
        }
        self._change_taken(t.mailbox_sync, sync, fresh)

    def unscheduled(self, limit: int) -> list[Connection]:
        """Return connections in use that no session has been arranged for."""
        c = t.connection.c
        arranged = sa.exists().where(t.mailbox_sync.c.connection_id == c.id)
        opens = sa.or_(c.credentials.is_not(None), c.provider == "exchange")  # which a service account may open
        query = sa.select(t.connection).where(c.state == "active", opens, ~arranged, c.provider != "c4c").limit(limit)
        return [connection_in(row) for row in self._db.execute(query)]

    # Links

    def links(self, connection_id: str, person_type: PersonType | None = None) -> Iterator[Link]:
        """Yield a mailbox's links, of one type or all, in the order of their ids."""
        k = t.link.c
        query = sa.select(t.link).where(k.connection_id == connection_id).order_by(k.id)
        if person_type is not None:
            query = query.where(k.type == person_type)
        return (link_in(row) for row in self._db.execute(query))

    def links_in_state(self, connection_id: str, *states: str) -> list[Link]:
        k = t.link.c
        query = sa.select(t.link).where(k.connection_id == connection_id, k.state.in_(states)).order_by(k.id)
        return [link_in(row) for row in self._db.execute(query)]

    def links_with_code(self, connection_id: str, *codes: str) -> list[Link]:
        k = t.link.c
        query = sa.select(t.link).where(k.connection_id == connection_id, k.code.in_(codes)).order_by(k.id)
        return [link_in(row) for row in self._db.execute(query)]

    def links_by_item(self, connection_id: str, refs: Collection[str]) -> dict[str, Link]:
        """Return the links of these contacts, by their refs."""
        return {str(link.item_ref): link for link in self._links_where(connection_id, t.link.c.item_ref, refs)}

    def links_by_id(self, connection_id: str, ids: Collection[str]) -> dict[str, Link]:
        return {link.id: link for link in self._links_where(connection_id, t.link.c.id, ids)}

    def links_by_record(self, connection_id: str, person_type: PersonType, ids: Collection[str]) -> dict[str, Link]:
        """Return the links of these records of one type, by their ObjectIDs."""
        found = self._links_where(connection_id, t.link.c.record_id, ids)
        return {str(link.record_id): link for link in found if link.type == person_type}

    def _links_where(self, connection_id: str, column: sa.Column[Any], values: Collection[str]) -> Iterator[Link]:
        wanted = list(values)
        for start in range(0, len(wanted), _SOME):
            some = wanted[start : start + _SOME]
            query = sa.select(t.link).where(t.link.c.connection_id == connection_id, column.in_(some))
            yield from (link_in(row) for row in self._db.execute(query))

    def put_links(self, links: Iterable[Link]) -> None:
        """Keep these links as they are now, new ones too. Call it with `keep_session`, which refuses who lost the lease.

        Raises: Conflict if a contact or a record would have two.
        """
        rows = [asdict(link) for link in links]
        for start in range(0, len(rows), _SOME):
            self._upsert(t.link, rows[start : start + _SOME])

    def drop_links(self, connection_id: str, ids: Collection[str]) -> None:
        wanted = list(ids)
        for start in range(0, len(wanted), _SOME):
            where = sa.and_(t.link.c.connection_id == connection_id, t.link.c.id.in_(wanted[start : start + _SOME]))
            self._db.execute(t.link.delete().where(where))

    def count_links(self, connection_id: str) -> dict[tuple[PersonType, str], int]:
        """Return how many links a mailbox has, by type and state."""
        k = t.link.c
        query = sa.select(k.type, k.state, sa.func.count()).where(k.connection_id == connection_id).group_by(k.type, k.state)
        return {(row[0], row[1]): row[2] for row in self._db.execute(query)}

    # Issues

    def put_issue(self, issue: Issue, now: datetime) -> None:
        """Keep an issue; one with the same key stays that one, with what is known now."""
        values = {**asdict(issue), "choices": list(issue.choices), "since": now, "seen_at": now}
        self._insert_missing(t.issue, values, ["connection_id", "key"])
        i = t.issue.c
        kept = ("id", "tenant_id", "user_id", "connection_id", "key", "since", "tries")
        changed = {name: value for name, value in values.items() if name not in kept}
        where = sa.and_(i.connection_id == issue.connection_id, i.key == issue.key)
        self._db.execute(t.issue.update().where(where).values(**changed, tries=i.tries + 1))

    def end_issues(self, connection_id: str, keys: Collection[str]) -> None:
        """Forget issues that were mended or answered."""
        wanted = list(keys)
        for start in range(0, len(wanted), _SOME):
            where = sa.and_(t.issue.c.connection_id == connection_id, t.issue.c.key.in_(wanted[start : start + _SOME]))
            self._db.execute(t.issue.delete().where(where))

    def retry_issue(self, issue_id: str) -> None:
        """Note that somebody asked for another try: until then it counts none."""
        self._db.execute(t.issue.update().where(t.issue.c.id == issue_id).values(tries=0))

    def issues_of(self, user_id: str, limit: int = 1000) -> list[Issue]:
        """Return a person's issues: those of a mailbox as a whole, which hold its questions, then the newest."""
        i = t.issue.c
        query = sa.select(t.issue).where(i.user_id == user_id).order_by(i.kind != "mailbox", i.since.desc(), i.id).limit(limit)
        return [issue_in(row) for row in self._db.execute(query)]

    def issues_on(self, connection_id: str, keys: Collection[str] | None = None) -> dict[str, Issue]:
        """Return a mailbox's issues by key."""
        i = t.issue.c
        query = sa.select(t.issue).where(i.connection_id == connection_id)
        if keys is not None:
            query = query.where(i.key.in_(list(keys)))
        return {row.key: issue_in(row) for row in self._db.execute(query)}

    def issues_to_try(self, connection_id: str, kind: IssueKind, waiting: str) -> list[Issue]:
        """Return a mailbox's issues of one kind that somebody wants tried again, or whose code says that they wait for that."""
        i = t.issue.c
        wanted = sa.or_(i.tries == 0, i.code == waiting)
        query = sa.select(t.issue).where(i.connection_id == connection_id, i.kind == kind, wanted).order_by(i.since, i.id)
        return [issue_in(row) for row in self._db.execute(query)]

    def issue(self, user_id: str, issue_id: str) -> Issue:
        """Raises: NotFound for one that is not this person's."""
        i = t.issue.c
        return issue_in(self._one(sa.select(t.issue).where(i.id == issue_id, i.user_id == user_id), "There is no such issue."))

    def count_issues(self, user_id: str) -> int:
        return int(self._db.execute(sa.select(sa.func.count()).where(t.issue.c.user_id == user_id)).scalar_one())

    # Followed threads

    def follow(self, connection: Connection, conversation: str, sealed: bytes | None, now: datetime) -> None:
        """Save the conversation's further messages; once is enough."""
        values = {
            "id": new_id(),
            "tenant_id": connection.tenant_id,
            "user_id": connection.user_id,
            "connection_id": connection.id,
            "conversation": conversation,
            "since": now,
            "sealed": sealed,
        }
        self._insert_missing(t.followed_thread, values, ["connection_id", "conversation"])

    def unfollow(self, user_id: str, thread_id: str) -> None:
        f = t.followed_thread.c
        self._db.execute(t.followed_thread.delete().where(f.user_id == user_id, f.id == thread_id))

    def followed(self, connection_id: str) -> list[FollowedThread]:
        f = t.followed_thread.c
        query = sa.select(t.followed_thread).where(f.connection_id == connection_id).order_by(f.since.desc())
        return [thread_in(row) for row in self._db.execute(query)]

    # Subscriptions

    def want_subscription(self, connection: Connection, now: datetime) -> None:
        """Have the mailbox's notifications ordered, unless that is arranged already."""
        values = {
            "id": new_id(),
            "tenant_id": connection.tenant_id,
            "user_id": connection.user_id,
            "connection_id": connection.id,
            "ref": "",
            "reason": "",
            "attempts": 0,
            "fence": 0,
            "next_due_at": now,
        }
        self._insert_missing(t.subscription, values, ["connection_id"])

    def subscription(self, subscription_id: str) -> HookSubscription:
        """Raises: NotFound."""
        query = sa.select(t.subscription).where(t.subscription.c.id == subscription_id)
        return subscription_in(self._one(query, "There is no such subscription."))

    def subscription_of(self, connection_id: str) -> HookSubscription | None:
        row = self._first(sa.select(t.subscription).where(t.subscription.c.connection_id == connection_id))
        return None if row is None else subscription_in(row)

    def subscriptions_on(self, provider: Provider, address: str) -> list[HookSubscription]:
        """Return the subscriptions to the mailbox of this address, of whichever tenants."""
        c = t.connection.c
        keys = sa.select(t.tenant.c.id + ":" + sa.literal(address.lower()))
        mine = sa.select(c.id).where(c.mailbox_key.in_(keys), c.provider == provider)
        query = sa.select(t.subscription).where(t.subscription.c.connection_id.in_(mine))
        return [subscription_in(row) for row in self._db.execute(query)]

    def begin_subscription(self, held: HookSubscription, secret: bytes) -> HookSubscription:
        """Keep the secret of an order that is about to be made; there is none until `end_renewal`. Raises: LeaseLost."""
        self._change_taken(t.subscription, held, {"secret": secret, "ref": "", "expires_at": None})
        return replace(held, secret=secret)

    def take_subscriptions(self, now: datetime, for_s: float, limit: int) -> list[HookSubscription]:
        """Lease the subscriptions whose renewal is due the longest."""
        return [subscription_in(row) for row in self._take_some(t.subscription, now, for_s, limit)]

    def hold_subscription(self, subscription_id: str, fence: int, now: datetime, for_s: float) -> HookSubscription | None:
        """Do as `hold_session`."""
        row = self._take_up(t.subscription, subscription_id, fence, now, for_s)
        return None if row is None else subscription_in(row)

    def end_renewal(self, held: HookSubscription, *, next_due_at: datetime | None, **values: Any) -> None:
        """Keep what became of a renewal and give the subscription back. Raises: LeaseLost."""
        self._change_taken(t.subscription, held, {**values, "next_due_at": next_due_at, "lease_until": None})

    def renew_soon(self, subscription_id: str, now: datetime, **values: Any) -> None:
        """The provider ended a subscription, or asks for its renewal."""
        where = t.subscription.c.id == subscription_id
        self._db.execute(t.subscription.update().where(where).values(**values, next_due_at=now))

    def drop_subscription(self, connection_id: str) -> None:
        self._db.execute(t.subscription.delete().where(t.subscription.c.connection_id == connection_id))

    # Leases

    def renew_leases(self, table: str, held: Mapping[str, int], now: datetime, for_s: float) -> set[str]:
        """Hold rows of this table, by their ids and fences, for `for_s` from now on; return those that are still held."""
        rows, until = t.metadata.tables[table], now + timedelta(seconds=for_s)
        kept = set()
        for row_id, fence in held.items():
            mine = rows.update().where(rows.c.id == row_id, rows.c.fence == fence, rows.c.lease_until.is_not(None))
            if self._db.execute(mine.values(lease_until=until)).rowcount == 1:
                kept.add(row_id)
        return kept

    def give_back(self, table: str, row_id: str, fence: int) -> None:
        """Let others take a row at once that nothing was done with; nothing if the fence is stale."""
        self._release(t.metadata.tables[table], row_id, fence)


def _stored(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values as JSON columns take them."""
    stored = dict(values)
    if "crm_cursors" in stored:
        stored["crm_cursors"] = {kind: at.isoformat() for kind, at in stored["crm_cursors"].items()}
    return stored
