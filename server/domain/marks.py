"""Marks: what a category (Outlook, Exchange) or label (Gmail) of ours says about an item. Folders: where our items lie.

A message carries at most one mark at a time, and beside an error a colourless category with the short reason. Code knows
marks by id; their names are data, kept per mailbox, so that they can be localized. Pure rules; `server.mail` applies them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

MarkId = Literal["share", "pending", "saved", "error", "account", "individual_customer", "visit"]
FolderId = Literal["emails", "contacts", "accounts", "individual_customers"]
SaveState = Literal["none", "pending", "unknown", "saved", "failed"]
Language = Literal["en", "de"]


@dataclass(frozen=True, slots=True)
class Mark:
    """One of our categories: its canonical English name, names that mean the same, and its Outlook preset colour."""

    id: MarkId
    name: str
    color: str  # "preset0".."preset24"
    aliases: tuple[str, ...] = ()
    label: str = ""  # its name where marks are labels, a "/" making a tree; "": there it is none


MARKS: Mapping[MarkId, Mark] = {
    mark.id: mark
    for mark in (
        Mark("share", "SAP Cloud for Customer SSI", "preset4", ("SAP Cloud for Customer",), "SAP E-Mails"),
        Mark("pending", "Pending in SAP Cloud for Customer SSI", "preset3", label="SAP E-Mails/Pending"),
        Mark("saved", "Saved in SAP Cloud for Customer SSI", "preset19", label="SAP E-Mails/Saved"),
        Mark("error", "Error in SAP Cloud for Customer SSI", "preset0", label="SAP E-Mails/Sync Error"),
        Mark("account", "Account", "preset5"),
        Mark("individual_customer", "Individual Customer", "preset7"),
        Mark("visit", "Visit", "preset8"),
    )
}

_IN_GERMAN: Mapping[MarkId, tuple[str, str]] = {
    "share": ("SAP Cloud for Customer SSI", "SAP-E-Mails"),
    "pending": ("Ausstehend in SAP Cloud for Customer SSI", "SAP-E-Mails/Ausstehend"),
    "saved": ("Gespeichert in SAP Cloud for Customer SSI", "SAP-E-Mails/Gespeichert"),
    "error": ("Fehler in SAP Cloud for Customer SSI", "SAP-E-Mails/Fehler"),
    "account": ("Kunde", ""),
    "individual_customer": ("Privatkunde", ""),
    "visit": ("Besuch", ""),
}
_MARKS_IN: Mapping[Language, Mapping[MarkId, tuple[str, str]]] = {
    "en": {mark.id: (mark.name, mark.label) for mark in MARKS.values()},
    "de": _IN_GERMAN,
}
"""Name as a category, and as a label."""

FOLDERS: Mapping[FolderId, str] = {
    "emails": "SAP E-Mails",
    "contacts": "SAP Contacts",
    "accounts": "SAP Accounts",
    "individual_customers": "SAP Individual Customers",
}
"""Our folders and their English names; all but the first hold contacts. At Google, the first is a label, the others groups."""

_FOLDERS_IN: Mapping[Language, Mapping[FolderId, str]] = {
    "en": FOLDERS,
    "de": {
        "emails": "SAP-E-Mails",
        "contacts": "SAP-Kontakte",
        "accounts": "SAP-Kunden",
        "individual_customers": "SAP-Privatkunden",
    },
}

STATE_MARKS: tuple[MarkId, ...] = ("share", "pending", "saved", "error")
"""Marks that tell the state of a save: setting one removes the others."""

REASON_PREFIX = "SSI: "
REASON_LENGTH = 60  # characters; a category is read in a list, beside others


def names_for(capabilities: Collection[str], language: str = "en") -> Mapping[MarkId, str]:
    """Return what the marks are called in a mailbox that can do this, see `server.mail.Capability`, in a language.

    A language that we do not speak is English.
    """
    names, as_label = _MARKS_IN[_spoken(language)], "labels" in capabilities
    return {mark: label if as_label else name for mark, (name, label) in names.items() if label or not as_label}


def folder_names(language: str = "en") -> Mapping[FolderId, str]:
    """Return what our folders are called in a language, English for one that we do not speak."""
    return _FOLDERS_IN[_spoken(language)]


def _spoken(language: str) -> Language:
    return "de" if language == "de" else "en"


def mark_for(state: SaveState) -> MarkId | None:
    """Return the mark that a message in this state carries; an unknown outcome is shown as pending."""
    marks: dict[SaveState, MarkId | None] = {
        "none": None,
        "pending": "pending",
        "unknown": "pending",
        "saved": "saved",
        "failed": "error",
    }
    return marks[state]


_NOT_IN_NAMES = re.compile(r"[,;\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def reason_category(reason: str) -> str:
    """Return the name of the colourless category that carries the short reason of an error.

    Outlook separates category names by comma in some clients, so commas and semicolons become spaces, as do control
    characters and those that would turn the direction of the text around the name.
    """
    text = " ".join(_NOT_IN_NAMES.sub(" ", reason).split())
    return REASON_PREFIX + (text if len(text) <= REASON_LENGTH else text[: REASON_LENGTH - 1].rstrip() + "…")


def is_reason_category(name: str) -> bool:
    return name.startswith(REASON_PREFIX)


_KNOWN: Mapping[MarkId, frozenset[str]] = {
    mark: frozenset(name.casefold() for name in (*MARKS[mark].aliases, *(marks[mark][0] for marks in _MARKS_IN.values())))
    for mark in STATE_MARKS
}
"""What a state mark may be called in any mailbox: its owner may have had another language when the message got it."""


def mark_of(name: str, names: Mapping[MarkId, str]) -> MarkId | None:
    """Return which state mark this category is in a mailbox whose names are `names`, or by a name of ours in any language.

    Case does not count.
    """
    low = name.casefold()
    for mark in STATE_MARKS:
        if low == names.get(mark, MARKS[mark].name).casefold() or low in _KNOWN[mark]:
            return mark
    return None


def marks_of(categories: Iterable[str], names: Mapping[MarkId, str]) -> frozenset[MarkId]:
    """Return the state marks among these categories: a person may have put one beside another."""
    return frozenset(mark for mark in (mark_of(name, names) for name in categories) if mark is not None)


def merged(current: Iterable[str], mark: MarkId | None, reason: str | None, names: Mapping[MarkId, str]) -> list[str]:
    """Return the categories a message must have so that it carries just `mark` (and `reason` beside an error).

    Everything that is not ours stays as it is and in its order; only our own names are added or removed.
    """
    kept = [name for name in current if mark_of(name, names) is None and not is_reason_category(name)]
    if mark is not None:
        kept.append(names.get(mark, MARKS[mark].name))
    if mark == "error" and reason:
        kept.append(reason_category(reason))
    return kept
