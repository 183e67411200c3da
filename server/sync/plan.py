"""Decide what becomes of a contact and a record that are, or may be, the same person. Pure: no I/O, no clock, no database.

Input is what was seen of each side since its cursor and the link that pairs them; output is one Action. What is not seen of a
side (None) is unchanged there; GONE is no longer there, or no longer ours to mirror.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, Literal

from server.domain.people import PersonType
from server.domain.profile import Filter, Profile, Winner
from server.store import Link, Uploads
from server.sync.mapping import DOWN, Base, Side, Values, fields, read_base

Do = Literal[
    "nothing",
    "create_item",
    "create_record",
    "merge",
    "delete_item",
    "release_item",  # it stays with its owner, unlinked
    "unlink",
    "obsolete",
    "hold",
    "refuse",  # it may not go to C4C
    "forget",  # the link is about nothing any more
]


@dataclass(frozen=True, slots=True)
class Seen:
    """One side of a person as it is now."""

    values: Values
    now: Base
    changed_at: datetime | None = None
    is_asked_for: bool = False  # a contact that carries the share mark


class Gone:
    """What is no longer there."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "GONE"


GONE: Final = Gone()
View = Seen | Gone | None


@dataclass(frozen=True, slots=True)
class Policy:
    """The settings that decide, for one type."""

    type: PersonType
    filter: Filter = "mine"
    read_only: bool = False
    home: bool = False
    winner: Winner = "newest"
    deleting: Literal["unlink", "obsolete"] = "unlink"
    uploads: Uploads = "yes"  # of contacts that were in our folders before we were

    @property
    def is_on(self) -> bool:
        return self.filter != "none"

    @property
    def fields(self) -> tuple[str, ...]:
        return fields(self.type, home=self.home)

    @classmethod
    def of(cls, profile: Profile, type: PersonType, *, uploads: Uploads) -> Policy:
        """Return the policy of a profile; `uploads` is "yes" once the first session is over."""
        direction = profile.direction(type)
        home = profile.contacts_home and type == "contact"
        return cls(type, direction.filter, direction.read_only, home, profile.conflict_winner, profile.deleting, uploads)


@dataclass(frozen=True, slots=True)
class Lost:
    """A change that the other side's newer one replaced."""

    field: str
    side: Side  # whose it was
    value: str


@dataclass(frozen=True, slots=True)
class Merge:
    """What each side is to be given so that both agree."""

    to_item: Values = field(default_factory=dict)
    to_record: Values = field(default_factory=dict)
    lost: tuple[Lost, ...] = ()
    restored: tuple[str, ...] = ()  # fields of the contact that were changed where that is not allowed


@dataclass(frozen=True, slots=True)
class Action:
    do: Do
    merge: Merge = Merge()
    code: str = ""  # why, as a link keeps it


NOTHING: Final = Action("nothing")
ASKED_AGAIN: Final = frozenset({"record_gone", "may_not_upload", "not_wanted", "refused", "double"})
"""Codes of ignored contacts that the share mark, set anew, gives another try."""


def plan(link: Link | None, item: View, record: View, policy: Policy) -> Action:
    """Return what is to be done about a link, or about something new of which exactly one side was seen.

    A link that waits for an answer (`creating_...`) is settled before it comes here.
    """
    if link is None:
        return _new(item, record, policy)
    if not policy.is_on:
        return NOTHING if link.state in ("ignored", "held") else Action("unlink", code="filtered")
    if link.state in ("ignored", "held"):
        return _dormant(link, item, record, policy)
    if isinstance(record, Gone):
        return _record_gone(link, item)
    if isinstance(item, Gone):
        return _item_gone(policy)
    merged = merge(link, item, record, policy)
    return Action("merge", merged) if item is not None or record is not None else NOTHING


def _new(item: View, record: View, policy: Policy) -> Action:
    if isinstance(record, Seen):
        return Action("create_item") if policy.is_on else NOTHING
    if not isinstance(item, Seen):
        return NOTHING
    if policy.read_only or not policy.is_on:
        return Action("refuse", code="may_not_upload")
    if policy.uploads == "yes" or item.is_asked_for:
        return Action("create_record")
    return Action("hold", code="first_upload") if policy.uploads == "ask" else Action("refuse", code="not_wanted")


def _dormant(link: Link, item: View, record: View, policy: Policy) -> Action:
    """Decide about a link that is not mirrored: does somebody ask for it again?"""
    if isinstance(item, Gone) and isinstance(record, Gone):
        return Action("forget")
    if isinstance(item, Gone):
        return Action("unlink", code="deleted") if link.record_id else Action("forget")
    if link.code == "filtered" and link.item_ref and link.record_id:
        if isinstance(record, Gone):
            return _record_gone(link, item)
        return Action("merge", merge(link, item, record, policy)) if isinstance(record, Seen) else NOTHING
    if link.code == "refused" and link.item_ref is None and isinstance(record, Seen):
        return Action("create_item") if record.now.text != link.record_base else NOTHING
    if isinstance(item, Seen) and link.record_id is None:
        changed = item.now.text != link.item_base
        if link.state == "held":
            return _new(item, None, policy) if policy.uploads != "ask" or item.is_asked_for else NOTHING
        if link.code == "may_not_upload" and not policy.read_only:
            return _new(item, None, policy)
        if link.code in ASKED_AGAIN and (item.is_asked_for or (changed and link.code == "refused")):
            return _new(item, None, policy)
    return NOTHING


def _record_gone(link: Link, item: View) -> Action:
    if isinstance(item, Gone):
        return Action("forget")
    return Action("delete_item") if link.origin == "c4c" else Action("release_item", code="record_gone")


def _item_gone(policy: Policy) -> Action:
    if policy.read_only:
        return Action("create_item")
    return Action("obsolete") if policy.deleting == "obsolete" else Action("unlink", code="deleted")


# --- merging --------------------------------------------------------------------------------------------------------------


def merge(link: Link | None, item: View, record: View, policy: Policy) -> Merge:
    """Return what each side is to be given, field by field: what only one side changed goes to the other.

    Without a link, or of a field that was not mirrored before, nobody knows who changed: an empty value is filled, and of two
    different ones the winner stays.
    """
    bases = (read_base(link.item_base), read_base(link.record_base)) if link else (read_base(""), read_base(""))
    to_item, to_record = dict[str, str](), dict[str, str]()
    lost, restored = list[Lost](), list[str]()
    for name in policy.fields:
        here, there = _Field.seen(item, bases[0], name), _Field.seen(record, bases[1], name)
        if here.now is None or there.now is None or here.now == there.now:
            continue
        to = _direction(name, here, there, policy, _newer(item, record))
        if to == "item" and there.value is not None:
            to_item[name] = there.value
            if policy.read_only and here.is_known and here.is_changed:
                restored.append(name)
            elif here.is_changed and here.value and name not in DOWN:
                lost.append(Lost(name, "mailbox", here.value))
        elif to == "record" and here.value is not None:
            to_record[name] = here.value
            if there.is_changed and there.value:
                lost.append(Lost(name, "c4c", there.value))
    return Merge(to_item, to_record, tuple(lost), tuple(restored))


@dataclass(frozen=True, slots=True)
class _Field:
    value: str | None  # None: that side was not read
    now: str | None
    base: str | None

    @classmethod
    def seen(cls, view: View, base: Base, name: str) -> _Field:
        if isinstance(view, Seen):
            return cls(view.values[name], view.now.get(name), base.get(name))
        return cls(None, base.get(name), base.get(name))

    @property
    def is_known(self) -> bool:
        return self.base is not None

    @property
    def is_changed(self) -> bool:
        return self.now != self.base


def _direction(name: str, here: _Field, there: _Field, policy: Policy, newer: Side) -> Literal["item", "record", "none"]:
    if name in DOWN:
        return "item" if there.is_changed and there.value else "none"
    if not (here.is_known and there.is_known):
        if here.value == "" or policy.read_only:
            return "item" if there.value else "none"
        if there.value == "":
            return "record"
    elif policy.read_only:
        return "item" if here.is_changed or there.is_changed else "none"
    elif not (here.is_changed and there.is_changed):
        return "record" if here.is_changed else "item" if there.is_changed else "none"
    winner = newer if policy.winner == "newest" else policy.winner
    return "record" if winner == "mailbox" else "item"


def _newer(item: View, record: View) -> Side:
    """Return whose change is the newer one; the mailbox wins ties, and what is not known."""
    at = [view.changed_at if isinstance(view, Seen) else None for view in (item, record)]
    return "c4c" if at[0] is not None and at[1] is not None and at[1] > at[0] else "mailbox"


# --- guard ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Guard:
    """How many contacts, or records, of those that are linked a session may overwrite or delete unasked."""

    items: int
    share: int  # percent
    linked: int

    @property
    def limit(self) -> int:
        return max(self.items, self.linked * self.share // 100)

    def holds(self, number: int) -> bool:
        return number > self.limit
