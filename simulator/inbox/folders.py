"""Outlook's way to show a mailbox, and Exchange's: each message lies in one folder, and categories are names on it.

The master list gives a name its colour; a message keeps a name that the list has lost. Everything here is done by the mailbox's
owner; hold the World's lock.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable
from typing import Any

from flask import abort

from simulator.world import Category, Folder, MailboxState, StoredMessage, World

Json = dict[str, Any]
ACTOR = "inbox"
_COLORS = frozenset({"none", *(f"preset{number}" for number in range(25))})


class Folders:
    """A mailbox at Microsoft 365 or on an Exchange server. A place is a folder, named by its id or its well-known name."""

    def __init__(self, world: World, box: MailboxState) -> None:
        self._world, self._box = world, box

    def places(self) -> list[Json]:
        return [
            counted([m for m in self._box.messages.values() if m.folder == folder.id])
            | {"id": folder.id, "name": folder.name, "well_known": folder.well_known}
            for folder in self._box.mail_folders
        ]

    def open(self, ref: str) -> tuple[str, list[StoredMessage]]:
        """Return the id of a place and what is in it."""
        folder = self._folder(ref)
        return folder.id, [m for m in self._box.messages.values() if m.folder == folder.id]

    def traits(self, message: StoredMessage) -> Json:
        """What the provider has of a message beside its content: the place from which it is opened, and its class."""
        return {"folder": message.folder, "item_class": message.item_class}

    def move(self, message: StoredMessage, ref: str) -> str:
        """Move a message; return the id of the place in which it then is."""
        target = self._folder(ref)
        self._box.left(message)
        source, message.folder = message.folder, target.id
        # The immutable id survives a move, the EWS and REST ids do not.
        message.ews_id = "AAMk/" + uuid.uuid4().hex + "+" + uuid.uuid4().hex[:12] + "="
        self._box.touch(message, self._world.now())
        self._log("move", id=message.immutable_id, before=source, after=target.id)
        return target.id

    def tag(self, message: StoredMessage, add: Iterable[str], remove: Iterable[str]) -> list[str]:
        """Add and remove categories by name, whose case does not count; return those that the message then carries."""
        return retag(self._world, self._box, message, add, remove)

    def categories(self) -> list[Json]:
        return [shown(category) for category in self._box.categories.values()]

    def create(self, name: str, color: str) -> Json:
        if any(category.name.casefold() == name.casefold() for category in self._box.categories.values()):
            abort(409, "There is a category of this name")
        category = Category(str(uuid.uuid4()), name, _checked(color))
        self._box.categories[category.id] = category
        self._log("master_create", id=category.id, name=name, color=category.color)
        return shown(category)

    def change(self, ref: str, name: str | None, color: str | None) -> Json:
        """Give a category another colour. The name was for its making only, as in Outlook."""
        if name is not None:
            abort(422, "A category keeps its name")
        category = self._box.categories.get(ref) or abort(404)
        category.color = _checked(color or "none")
        self._log("master_update", id=ref, name=category.name, color=category.color)
        return shown(category)

    def remove(self, ref: str) -> None:
        category = self._box.categories.pop(ref, None) or abort(404)
        self._log("master_delete", id=ref, name=category.name)

    def _folder(self, ref: str) -> Folder:
        found = next((f for f in self._box.mail_folders if ref in (f.id, f.well_known)), None)
        return found or abort(404, "There is no such folder")

    def _log(self, kind: str, **detail: Any) -> None:
        self._world.happened(ACTOR, kind, self._box.owner.email, **detail)


def counted(messages: list[StoredMessage]) -> Json:
    return {"total": len(messages), "unread": sum(not message.is_read for message in messages)}


def shown(category: Category) -> Json:
    return {"id": category.id, "name": category.name, "color": category.color, "is_listed": True}


def retag(world: World, box: MailboxState, message: StoredMessage, add: Iterable[str], remove: Iterable[str]) -> list[str]:
    removed = {name.casefold() for name in remove}
    names = [name for name in message.categories if name.casefold() not in removed]
    names += [name for name in add if name.casefold() not in {n.casefold() for n in names}]
    if names != message.categories:
        before, message.categories = message.categories, names
        box.touch(message, world.now())
        world.happened(ACTOR, "categories", box.owner.email, id=message.immutable_id, before=before, after=list(names))
    return names


def _checked(color: str) -> str:
    return color if color in _COLORS else abort(422, "A colour is none or preset0 to preset24")
