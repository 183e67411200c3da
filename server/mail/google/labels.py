"""The labels of a mailbox at Gmail: ours are created, coloured, renamed back and put on messages.

A label is known by its id; names are the owner's to change. A "/" in a name makes the tree that Gmail shows, so parents come
first. Colours are of Gmail's palette.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, cast

from server.domain.marks import FOLDERS, MARKS, MarkId, is_reason_category, mark_of
from server.errors import AlreadyExists, NotFound, Transient, Unknown
from server.mail import Category, Folder
from server.mail.google.calls import Call, Calls, unconfirmed

TRIES = 3  # of read and write, when the labels change under us
PEER = "Gmail"

COLORS: Mapping[str, tuple[str, str]] = {
    "preset0": ("#cc3a21", "#ffffff"),
    "preset3": ("#fad165", "#594c05"),
    "preset4": ("#16a766", "#ffffff"),
    "preset5": ("#98d7e4", "#0d3b44"),
    "preset7": ("#285bac", "#ffffff"),
    "preset8": ("#653e9b", "#ffffff"),
    "preset19": ("#0b804b", "#ffffff"),
}
"""Outlook's preset -> background and text of Gmail's palette, which is named in the discovery document (LabelColor)."""


class Labels:
    """The list of labels. Remembers which ids ours have, as far as `ensure_marks` and `ensure_folder` have seen them.

    `emails` is that of the label which stands for *SAP E-Mails*.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._api = calls.service.users().labels()
        self._of_marks: dict[MarkId, str] = {}
        self.emails = ""

    def listing(self) -> Call:
        return cast(Call, self._api.list(userId="me"))

    def names(self) -> dict[str, str]:
        return user_labels(*self._calls.asked(self.listing()))

    def renamed_back(self, labels: dict[str, str], names: Mapping[MarkId, str]) -> dict[str, str]:
        """Give labels of ours that the owner renamed the names that they shall have."""
        taken = {name.casefold() for name in labels.values()}
        ours = {self._of_marks[mark]: name for mark, name in names.items() if mark in self._of_marks}
        return {i: ours[i] if i in ours and ours[i].casefold() not in taken else name for i, name in labels.items()}

    def ensure_marks(self, names: Mapping[MarkId, str], known: Mapping[MarkId, str]) -> Mapping[MarkId, Category]:
        """Raises: what `Mailbox.ensure_marks` does."""
        self._of_marks |= known
        last: Exception | None = None
        for _ in range(TRIES):
            labels = self.names()
            spelled: dict[MarkId, Category] = {}
            try:
                found = self._found(names, labels)
            except NotFound as error:  # deleted since it was listed
                last = error
                continue
            for mark in sorted(names, key=lambda mark: names[mark].count("/")):  # parents first
                try:
                    spelled[mark] = self._ensure_mark(mark, names[mark], found.get(mark), labels)
                except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                    last = error
            if len(spelled) == len(names):
                return spelled
        raise Transient(f"The labels could not be created in {PEER}.") from last

    def _found(self, names: Mapping[MarkId, str], labels: Mapping[str, str]) -> dict[MarkId, dict[str, Any]]:
        """Return the labels that are ours already, with their colours, which the list of labels does not tell.

        Raises: NotFound when one of them was deleted just now.
        """
        by_name = {name.casefold(): ref for ref, name in labels.items()}
        refs: dict[MarkId, str] = {}
        for mark, name in names.items():
            same = next((by_name[n] for n in _known_names(mark, name) if n in by_name), None)
            renamed = self._of_marks.get(mark, "")
            if same or renamed in labels:
                refs[mark] = same or renamed
        if not refs:
            return {}
        details = self._calls.asked(*(self._api.get(userId="me", id=ref) for ref in refs.values()))
        return dict(zip(refs, details, strict=True))

    def _ensure_mark(self, mark: MarkId, name: str, found: dict[str, Any] | None, labels: dict[str, str]) -> Category:
        """Create the label of a mark, or restore its name and colour."""
        color = _color(mark)
        if found is None:
            made = self._of_marks[mark] = self.create(name, labels, color=color)
            return Category(made, name)
        self._of_marks[mark] = str(found["id"])
        is_renamed = str(found["name"]).casefold() not in _known_names(mark, name)
        changed = ({"name": name} if is_renamed else {}) | ({} if found.get("color") == color else {"color": color})
        if is_renamed:
            self._create_parents(name, labels)
        if changed:
            self._calls.written(self._api.patch(userId="me", id=found["id"], body=changed))
        return Category(str(found["id"]), name if is_renamed else str(found["name"]))

    def ensure_folder(self, name: str, known: str | None) -> Folder:
        """Return the label that stands for *SAP E-Mails*, made or renamed if need be. Raises: as `Mailbox.ensure_folders`."""
        last: Exception | None = None
        for _ in range(TRIES):
            labels = self.names()
            wanted = (name.casefold(), FOLDERS["emails"].casefold())
            same = next((ref for n in wanted for ref, label in labels.items() if label.casefold() == n), None)
            try:
                if same is None and known is not None and known in labels:
                    self._create_parents(name, labels)
                    self._calls.written(self._api.patch(userId="me", id=known, body={"name": name}))
                    same, labels[known] = known, name
                self.emails = same or self.create(name, labels)
                return Folder(self.emails, labels[self.emails])
            except (AlreadyExists, NotFound, Unknown) as error:  # another client was faster, or the answer was lost
                last = error
        raise Transient(f"The labels could not be created in {PEER}.") from last

    def emails_in(self, labels: Mapping[str, str]) -> str:
        """Return the label that stands for *SAP E-Mails*: the one seen, else the one of the English name; "" for none."""
        named = (ref for ref, name in labels.items() if name.casefold() == FOLDERS["emails"].casefold())
        return self.emails if self.emails in labels else next(named, "")

    def create(self, name: str, labels: dict[str, str], *, color: dict[str, str] | None = None, is_listed: bool = True) -> str:
        """Create a label, and before it the parents that a mark's name has; returns its id, which `labels` then holds.

        Raises: AlreadyExists, Unknown, Rejected.
        """
        if is_listed:
            self._create_parents(name, labels)
        shown = {"labelListVisibility": "labelShow" if is_listed else "labelHide", "messageListVisibility": "show"}
        body: dict[str, Any] = {"name": name, **shown} | ({"color": color} if color else {})
        made = str(self._calls.written(self._api.create(userId="me", body=body)).get("id", ""))
        if not made:
            raise unconfirmed(PEER)
        labels[made] = name
        return made

    def create_for(self, mark: MarkId, name: str, labels: dict[str, str]) -> str:
        """Create the label of a mark. Raises: AlreadyExists, Unknown, Rejected."""
        made = self._of_marks[mark] = self.create(name, labels, color=_color(mark))
        return made

    def _create_parents(self, name: str, labels: dict[str, str]) -> None:
        parent = name.rpartition("/")[0]
        if parent and parent.casefold() not in {known.casefold() for known in labels.values()}:
            self.create(parent, labels)


def user_labels(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return id -> name of the labels that are not the system's."""
    return {str(label["id"]): str(label["name"]) for label in answer.get("labels", []) if label.get("type") != "system"}


def user_label_ids(message: Mapping[str, Any]) -> list[str]:
    """The user's labels on a message; ids of the system's are words in capitals."""
    return [str(ref) for ref in message.get("labelIds", []) if not re.fullmatch(r"[A-Z_]+", str(ref))]


def names_of(message: Mapping[str, Any], labels: Mapping[str, str]) -> tuple[str, ...]:
    return tuple(labels[ref] for ref in user_label_ids(message) if ref in labels)


def ours(labels: Mapping[str, str], names: Mapping[MarkId, str]) -> list[str]:
    """Return the ids of all labels that say something of a save: the state marks by any name, and reasons."""
    return [ref for ref, name in labels.items() if mark_of(name, names) is not None or is_reason_category(name)]


def same_names(a: Sequence[str], b: Sequence[str]) -> bool:
    return {name.casefold() for name in a} == {name.casefold() for name in b}


def _known_names(mark: MarkId, name: str) -> tuple[str, ...]:
    """Return, casefolded, what the label of a mark may be called: as asked, else by an English name or an alias."""
    known = (name, MARKS[mark].label, MARKS[mark].name, *MARKS[mark].aliases)
    return tuple(dict.fromkeys(n.casefold() for n in known if n))


def _color(mark: MarkId) -> dict[str, str]:
    background, text = COLORS[MARKS[mark].color]
    return {"backgroundColor": background, "textColor": text}
