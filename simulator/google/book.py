"""The contacts and groups of each World's people at Google: state only, as Google's Person and ContactGroup.

`AddressBook` is the back door of `google.people`. What was deleted stays, marked so, for those who ask for changes.
"""

from __future__ import annotations

import base64
import hashlib
import weakref
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from simulator.world import Person, World

Json = dict[str, Any]

MY_CONTACTS = "contactGroups/myContacts"
SYSTEM_GROUPS = (MY_CONTACTS, "contactGroups/starred")


@dataclass(slots=True)
class Item:
    """A contact or a group; `content` is what its owner wrote."""

    name: str  # resource name
    content: Json
    made: int  # tick of its book when it was made
    tick: int  # and at its last change
    changed_at: datetime
    is_deleted: bool = False
    former: tuple[str, ...] = ()  # what it was called before Google linked it with a profile

    @property
    def etag(self) -> str:
        return "%EgU" + base64.b64encode(f"{self.name}:{self.tick}".encode()).decode()


@dataclass(slots=True)
class AddressBook:
    """One person's contacts and groups, by resource name. Hold the World's lock.

    `delay` is how long lists of contacts do not show what was written; with a sync token that may take Google minutes
    (description of people.connections.list).
    """

    contacts: dict[str, Item] = field(default_factory=dict)
    groups: dict[str, Item] = field(default_factory=dict)
    tick: int = 0
    delay: timedelta = timedelta()

    def put(self, shelf: dict[str, Item], content: Json, now: datetime, name: str = "") -> Item:
        """Make an item, or replace its content."""
        self.tick += 1
        if not name:
            digest = hashlib.sha1(f"{id(shelf)}{self.tick}".encode(), usedforsecurity=False).hexdigest()
            name = f"people/c{int(digest[:15], 16)}" if shelf is self.contacts else f"contactGroups/{digest[:14]}"
        made = shelf[name].made if name in shelf else self.tick
        shelf[name] = Item(name, content, made, self.tick, now)
        return shelf[name]

    def remove(self, item: Item, now: datetime) -> None:
        self.tick += 1
        item.tick, item.changed_at, item.is_deleted = self.tick, now, True

    def rename(self, item: Item, now: datetime) -> Item:
        """Let Google give a contact another resource name, as it does when it links it with a profile."""
        del self.contacts[item.name]
        renamed = self.put(self.contacts, item.content, now)
        renamed.former = (*item.former, item.name)
        return renamed

    def members(self, group: str) -> list[Item]:
        return [c for c in self.contacts.values() if not c.is_deleted and group in groups_of(c.content)]

    def shown(self, shelf: dict[str, Item], now: datetime) -> int:
        """Return the last tick of which lists tell by now."""
        if not self.delay or shelf is not self.contacts:
            return self.tick
        late = [item.tick for item in shelf.values() if item.changed_at > now - self.delay]
        return min(late) - 1 if late else self.tick


def groups_of(content: Json) -> list[str]:
    """Resource names of the groups that a contact is in."""
    memberships = (membership.get("contactGroupMembership", {}) for membership in content.get("memberships", []))
    return [m.get("contactGroupResourceName") or f"contactGroups/{m.get('contactGroupId')}" for m in memberships]


def memberships(groups: Iterable[str]) -> list[Json]:
    return [
        {"contactGroupMembership": {"contactGroupId": name.partition("/")[2], "contactGroupResourceName": name}}
        for name in dict.fromkeys(groups)
    ]


class Books:
    """The address books of each World."""

    def __init__(self) -> None:
        self._books: weakref.WeakKeyDictionary[World, dict[str, AddressBook]] = weakref.WeakKeyDictionary()

    def of(self, world: World, person: Person) -> AddressBook:
        books = self._books.setdefault(world, {})
        book = books.get(person.email.lower())
        if book is None:
            book = books[person.email.lower()] = AddressBook()
            for name in SYSTEM_GROUPS:
                book.put(book.groups, {"name": name.partition("/")[2]}, world.now(), name)
        return book
