"""Followed threads: conversations whose further messages are saved, because whoever saved one of them asked for that.

What a thread is called and what its first save was linked to are sealed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from server.domain.records import RecordRef
from server.errors import InvalidInput
from server.services import Deps, Principal
from server.store import Connection, FollowedThread, Transaction

MAX_CONVERSATION = 400  # characters of its id; a row holds no more, and half of one finds nothing


@dataclass(frozen=True, slots=True)
class Thread:
    id: str
    name: str = field(repr=False)  # subject of the message that was saved first
    since: datetime
    links: tuple[RecordRef, ...]  # of that save


def can_follow(principal: Principal, conversation: str) -> bool:
    return principal.profile.follow_threads and 0 < len(conversation) <= MAX_CONVERSATION


def following(
    deps: Deps, principal: Principal, connection: Connection, conversation: str, name: str, links: Sequence[RecordRef]
) -> Callable[[Transaction], None]:
    """Return what follows the thread, in the transaction that promises the save it was asked with.

    Raises: InvalidInput where threads are not followed, or the mailbox does not tell which one it is.
    """
    if not can_follow(principal, conversation):
        raise InvalidInput("follow_thread", "Further messages of this thread cannot be saved by themselves.")
    content = json.dumps({"name": name, "links": [[link.type, link.id] for link in links]}).encode()
    sealed = deps.vault.seal(connection.tenant_id, _row(connection.id, conversation), "thread", content)
    return lambda tx: tx.follow(connection, conversation, sealed, deps.now())


def opened(deps: Deps, tenant_id: str, kept: FollowedThread) -> Thread:
    if kept.sealed is None:
        return Thread(kept.id, "", kept.since, ())
    content = json.loads(deps.vault.open(tenant_id, _row(kept.connection_id, kept.conversation), "thread", kept.sealed))
    links = tuple(RecordRef(kind, object_id) for kind, object_id in content["links"])
    return Thread(kept.id, content["name"], kept.since, links)


def followed(deps: Deps, principal: Principal) -> list[Thread]:
    """Return the threads that a person follows, the latest first."""
    with deps.store.transaction(reading=True) as tx:
        kept = [thread for connection in tx.connections_of(principal.user.id) for thread in tx.followed(connection.id)]
    return [opened(deps, principal.tenant.id, one) for one in sorted(kept, key=lambda one: one.since, reverse=True)]


def end(deps: Deps, principal: Principal, thread_id: str) -> None:
    """Save no further messages of a thread; one that is not followed, or not theirs, is no error."""
    with deps.store.transaction() as tx:
        tx.unfollow(principal.user.id, thread_id)


def _row(connection_id: str, conversation: str) -> str:
    return f"{connection_id}/{conversation}"
