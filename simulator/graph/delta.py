"""Delta queries over one folder of a mailbox: rounds, pages and the opaque tokens that remember a client's place.

A round covers the changes from the last round up to the moment it began, oldest first; what changes while its pages are read
belongs to the next one, so that nothing is skipped. The first round has no removals.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from simulator.world import MailboxState, StoredContact, StoredMessage

Item = StoredMessage | StoredContact


@dataclass(frozen=True, slots=True)
class Place:
    """Where a client is: in the round of changes in (since, until], behind `after`, the last change handed out."""

    folder: str
    since: int  # -1: the first round
    until: int
    after: tuple[int, str]  # change and immutable id
    options: dict[str, str]  # query options of the first call; they hold for all later ones
    made: datetime
    is_finished: bool = False  # the round is over; the next call begins another

    @classmethod
    def start(cls, folder: str, query: Mapping[str, str], mailbox: MailboxState, now: datetime) -> Place:
        return cls(folder, -1, mailbox.change, (-1, ""), dict(query), now)

    def resumed(self, mailbox: MailboxState) -> Place:
        """The place from which a call with this token goes on."""
        return replace(self, until=mailbox.change, is_finished=False) if self.is_finished else self

    def token(self) -> str:
        parts = [self.folder, self.since, self.until, *self.after, self.options, self.made.timestamp(), self.is_finished]
        return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode().rstrip("=")[::-1]

    @classmethod
    def read(cls, token: str) -> Place:
        """Raises: ValueError when it is no token of ours."""
        turned = token[::-1]
        parts = json.loads(base64.urlsafe_b64decode(turned + "=" * (-len(turned) % 4)))
        folder, since, until, change, identifier, options, made, finished = parts
        return cls(folder, since, until, (change, identifier), options, datetime.fromtimestamp(made, UTC), finished)


@dataclass(frozen=True, slots=True)
class Change:
    at: int
    identifier: str  # immutable id
    ews_id: str  # as the item is, or was, known in the folder
    item: Item | None  # None: it left the folder

    @property
    def position(self) -> tuple[int, str]:
        return self.at, self.identifier


def page(mailbox: MailboxState, here: Iterable[Item], place: Place, size: int, now: datetime) -> tuple[list[Change], Place]:
    """Return the next changes of the round and the place behind them; `here` are the items in the folder."""
    waiting = [change for change in _round(mailbox, here, place) if change.position > place.after]
    taken = waiting[:size]
    if len(waiting) > size:
        return taken, replace(place, after=taken[-1].position)
    return taken, replace(place, since=place.until, after=(-1, ""), made=now, is_finished=True)


def _round(mailbox: MailboxState, here: Iterable[Item], place: Place) -> list[Change]:
    by_id = {item.immutable_id: item for item in here}
    found = {
        identifier: Change(item.change, identifier, item.ews_id, item)
        for identifier, item in by_id.items()
        if place.since < item.change <= place.until
    }
    for at, folder, identifier, ews_id in mailbox.tombstones:
        if folder == place.folder and identifier not in by_id and 0 <= place.since < at <= place.until:
            found[identifier] = Change(at, identifier, ews_id, None)
    return sorted(found.values(), key=lambda change: change.position)
