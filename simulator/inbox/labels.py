"""Gmail's way to show a mailbox: there are labels and nothing else, and a message is wherever it carries one.

The World gives each message a folder and names of categories. As `simulator.google.mail` has it, Inbox, Sent Items, Drafts and
Deleted Items are the labels INBOX, SENT, DRAFT and TRASH, another folder is none (archived), and the categories are the owner's
labels. What makes, changes or deletes a label is asked of that module, so that a name or a colour is refused here as it is by
the API. A thread is not folded into one row: Gmail can be set so ("Conversation view off"). Hold the World's lock.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from flask import abort

from simulator.google.discovery import GoogleError
from simulator.google.mail import Call, Gmail
from simulator.inbox.folders import ACTOR, Json, counted, retag, shown
from simulator.world import Folder, MailboxState, StoredMessage, World

ALL_MAIL = "ALL_MAIL"
"""A place that is no label: everything but the trash."""

_SYSTEM = {
    "inbox": ("INBOX", "Inbox"),
    "sentitems": ("SENT", "Sent"),
    "drafts": ("DRAFT", "Drafts"),
    "deleteditems": ("TRASH", "Trash"),
}
"""Well-known folder of the World -> id and name of its label."""

COLORS: tuple[tuple[str, str], ...] = (
    ("Gray", "#e7e7e7 #464646"),
    ("Pale blue", "#b6cff5 #0d3472"),
    ("Aqua", "#98d7e4 #0d3b44"),
    ("Lavender", "#e3d7ff #3d188e"),
    ("Pink", "#fbd3e0 #711a36"),
    ("Coral", "#f2b2a8 #8a1c0a"),
    ("Sand", "#ffc8af #7a2e0b"),
    ("Peach", "#ffdeb5 #7a4706"),
    ("Lemon", "#fbe983 #594c05"),
    ("Mint", "#b3efd3 #0b4f30"),
    ("Blue", "#285bac #ffffff"),
    ("Purple", "#653e9b #ffffff"),
    ("Wine", "#83334c #ffffff"),
    ("Red", "#cc3a21 #ffffff"),
    ("Green", "#0b804b #ffffff"),
    ("Dark gray", "#434343 #ffffff"),
)
"""What the client offers for a label: background and text, both of Gmail's palette (LabelColor in the discovery document)."""


class Labels:
    """A mailbox at Google. A place is a label, named by its id; "inbox" and its like work, too."""

    def __init__(self, world: World, box: MailboxState, gmail: Gmail) -> None:
        self._world, self._box, self._gmail = world, box, gmail

    def places(self) -> list[Json]:
        """The system's labels, all mail, and those of the owner's labels that are listed."""
        system = [(*_SYSTEM[known], known) for known in _SYSTEM]
        listed = [(label["id"], label["name"], None) for label in self.categories() if label["is_listed"]]
        return [
            counted(self._inside(identifier)) | {"id": identifier, "name": name, "well_known": known}
            for identifier, name, known in (*system, (ALL_MAIL, "All Mail", "archive"), *listed)
        ]

    def open(self, ref: str) -> tuple[str, list[StoredMessage]]:
        identifier = self._id(ref)
        return identifier, self._inside(identifier)

    def traits(self, message: StoredMessage) -> Json:
        """Gmail has no classes, and no names on a message but those of labels that there are."""
        names = {label.name for label in self._box.categories.values()}
        known = [name for name in message.categories if name in names]
        return {"folder": self._place(message), "item_class": "", "categories": known}

    def _place(self, message: StoredMessage) -> str:
        known = self._box.folders[message.folder].well_known
        return _SYSTEM[known][0] if known in _SYSTEM else ALL_MAIL

    def move(self, message: StoredMessage, ref: str) -> str:
        """Take a message from where it is, the inbox or the trash, to a label, to the inbox, to the trash, or to no place.

        What was sent, or is a draft, stays so; it can have a label or be thrown away.
        """
        target, source = self._id(ref), self._place(message)
        if target in self._box.categories:
            self.tag(message, [self._box.categories[target].name], [])
            target = ALL_MAIL
        if source in ("SENT", "DRAFT") and target != "TRASH":
            return source if target == ALL_MAIL else abort(409, "What was sent, or is a draft, is never in the inbox")
        if target in ("SENT", "DRAFT"):
            abort(409, "Only sending or writing puts a message there")
        if target != source:
            message.folder = self._folder(target).id
            self._box.touch(message, self._world.now())
            owner = self._box.owner.email
            self._world.happened(ACTOR, "move", owner, id=message.immutable_id, before=source, after=target)
        return target

    def tag(self, message: StoredMessage, add: Iterable[str], remove: Iterable[str]) -> list[str]:
        """Add and remove labels by name; only a label that there is can be added."""
        spelled = {label.name.casefold(): label.name for label in self._box.categories.values()}
        added = [spelled.get(name.casefold()) or abort(422, f"There is no label {name}") for name in add]
        return retag(self._world, self._box, message, added, remove)

    def categories(self) -> list[Json]:
        """The owner's labels. The list of labels hides some of them."""
        visibility = {label["id"]: label.get("labelListVisibility", "") for label in self._ask("list")["labels"]}
        labels = self._box.categories.values()
        return [shown(label) | {"is_listed": self._is_listed(label.id, visibility[label.id])} for label in labels]

    def _is_listed(self, identifier: str, visibility: str) -> bool:
        if visibility == "labelShowIfUnread":
            return bool(counted(self._inside(identifier))["unread"])
        return visibility != "labelHide"

    def create(self, name: str, color: str) -> Json:
        return self._shown(self._ask("create", name=name, **_color(color))["id"])

    def change(self, ref: str, name: str | None, color: str | None) -> Json:
        wish = {} if name is None else {"name": name}
        if color == "none":  # only a label that is written anew loses its colour
            label = self._box.categories.get(ref) or abort(404)
            self._ask("update", ref, **{"name": label.name} | wish)
        else:
            self._ask("patch", ref, **wish, **_color(color or ""))
        return self._shown(ref)

    def remove(self, ref: str) -> None:
        self._ask("delete", ref)

    def _shown(self, identifier: str) -> Json:
        return next(label for label in self.categories() if label["id"] == identifier)

    def _inside(self, identifier: str) -> list[StoredMessage]:
        """What is in a place. The trash is apart: a label does not show what was thrown away."""
        messages = self._box.messages.values()
        if identifier in self._box.categories:
            name = self._box.categories[identifier].name
            return [m for m in messages if name in m.categories and self._place(m) != "TRASH"]
        if identifier == ALL_MAIL:
            return [m for m in messages if self._place(m) != "TRASH"]
        return [m for m in messages if self._place(m) == identifier]

    def _id(self, ref: str) -> str:
        if ref in _SYSTEM:
            return _SYSTEM[ref][0]
        known = ref in (ALL_MAIL, *self._box.categories, *(identifier for identifier, _ in _SYSTEM.values()))
        return ref if known else abort(404, "There is no such label")

    def _folder(self, identifier: str) -> Folder:
        """The World's folder for a place; what is archived lies in one of no meaning, made when there is none."""
        known = next((known for known, (label, _) in _SYSTEM.items() if label == identifier), None)
        found = next((f for f in self._box.mail_folders if f.well_known == known), None)
        if found is None:
            found = self._box.folders[ALL_MAIL] = Folder(ALL_MAIL, "All Mail")
        return found

    def _ask(self, method: str, ref: str = "", **body: Any) -> Json:
        call = Call(f"gmail.users.labels.{method}", {"userId": "me", "id": ref}, {}, body, "", self._box.owner)
        try:
            return self._gmail.answer(self._world, call) or {}
        except GoogleError as error:
            abort(error.status, str(error))


def _color(color: str) -> Json:
    background, _, text = color.partition(" ")
    return {"color": {"backgroundColor": background, "textColor": text}} if text else {}
