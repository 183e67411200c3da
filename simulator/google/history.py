"""What Gmail remembers of a mailbox's changes: the records of history.list, their ids and how long they are kept.

The World does not say who changed which label, so a Journal looks at the mailbox whenever Gmail answers about it and writes down
what is different since it last looked: messages that came or went, labels that were added or removed. The mailbox's `change` is
its historyId. Records are kept for a week; a client that missed one gets 404 (Gmail's guide to synchronising).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from simulator.world import MailboxState, StoredMessage

Json = dict[str, Any]
Kind = Literal["messagesAdded", "messagesDeleted", "labelsAdded", "labelsRemoved"]
LIFE = timedelta(days=7)  # "typically at least a week", sometimes hours


@dataclass(frozen=True, slots=True)
class Glimpse:
    """A message as the journal last saw it."""

    id: str
    thread: str
    labels: tuple[str, ...]

    @property
    def json(self) -> Json:
        return {"id": self.id, "threadId": self.thread} | ({"labelIds": list(self.labels)} if self.labels else {})


@dataclass(frozen=True, slots=True)
class Record:
    id: int
    at: datetime
    kind: Kind
    message: Glimpse
    labels: tuple[str, ...] = ()  # that were added or removed

    @property
    def json(self) -> Json:
        change: Json = {"message": self.message.json} | ({"labelIds": list(self.labels)} if self.labels else {})
        bare = {"id": self.message.id, "threadId": self.message.thread}
        return {"id": str(self.id), "messages": [bare], self.kind: [change]}

    def concerns(self, kinds: Iterable[Kind], label: str) -> bool:
        return self.kind in kinds and (not label or label in self.message.labels or label in self.labels)


class Journal:
    """The history of one mailbox. Hold the World's lock."""

    def __init__(self) -> None:
        self._seen: dict[str, Glimpse] | None = None
        self._records: list[Record] = []
        self._lost = 0  # id of the last record that is no longer kept

    def look(self, mailbox: MailboxState, glimpse: Callable[[StoredMessage], Glimpse], now: datetime) -> None:
        """Write down what changed since the last look; the first look only remembers what is there."""
        present = {message.immutable_id: glimpse(message) for message in mailbox.messages.values()}
        if self._seen is not None:
            for identifier, seen in present.items():
                self._compare(mailbox, mailbox.messages[identifier], self._seen.get(identifier), seen, now)
            for identifier in self._seen.keys() - present.keys():
                self._note(mailbox, "messagesDeleted", self._seen[identifier], (), now)
        self._seen = present
        self._forget(now)

    def since(self, start: int, mailbox: MailboxState) -> list[Record] | None:
        """Return the records after `start`, oldest first; None when some are no longer kept, or `start` was never given out."""
        if start < self._lost or start > mailbox.change:
            return None
        return [record for record in self._records if record.id > start]

    def _compare(
        self, mailbox: MailboxState, message: StoredMessage, before: Glimpse | None, after: Glimpse, now: datetime
    ) -> None:
        if before == after:
            return
        if before is None:
            self._note(mailbox, "messagesAdded", after, (), now)
        else:
            added = tuple(label for label in after.labels if label not in before.labels)
            removed = tuple(label for label in before.labels if label not in after.labels)
            if added:
                self._note(mailbox, "labelsAdded", after, added, now)
            if removed:
                self._note(mailbox, "labelsRemoved", after, removed, now)
        message.change, message.changed_at = mailbox.change, now

    def _note(self, mailbox: MailboxState, kind: Kind, message: Glimpse, labels: tuple[str, ...], now: datetime) -> None:
        mailbox.change += 1
        self._records.append(Record(mailbox.change, now, kind, message, labels))

    def _forget(self, now: datetime) -> None:
        old = [record for record in self._records if now - record.at > LIFE]
        if old:
            self._lost = old[-1].id
            self._records = self._records[len(old) :]
