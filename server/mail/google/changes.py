"""What changed in an account at Google since a cursor: messages by Gmail's history, contacts by the People API's sync tokens.

A round goes through both at once, a page of each per call, until nothing is left of either. A cursor says where both are:

    {"v": 1, "folders": {"emails": "Label_7", "contacts": "contactGroups/12ab"}, "left": ["people"], "whole": true,
     "mail": {"since": "4711", "waiting": ["18c2f0a1b2c3d4e5"], "pages": [["marked", "<page token>"]], "more": true},
     "people": {"sync": "<sync token>", "page": "<page token>"}}

Mail begins with lists (`pages`) of what carries a label of the owner's in Inbox or Sent, and of what lies in *SAP E-Mails*, and
goes on with the history since the moment before; `page` is the token with which a page of history without records ended. Lists
and history name messages, which are `waiting` until they are read, for their time, thread and labels. That costs ten times as
much as a page of history (gmail.md 3.5), so a page tells `READS` at most.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from server.domain.marks import FolderId
from server.errors import CursorExpired, NotFound
from server.mail import Changes, MessageChange
from server.mail.google.calls import BATCH_CALLS, Call, Calls, object_of
from server.mail.google.labels import Labels, names_of, user_label_ids, user_labels
from server.mail.google.messages import place_of, received_at
from server.mail.google.people import CONTACT_FOLDERS, AddressBook, Page

READS = BATCH_CALLS - 1  # messages of a page: with the labels one batch, and a sixth of a minute's quota
LISTED = 500  # messages that are named at once, and records; the most there are on a page
WAITING = 1000  # at most, so that a cursor stays small: 20 kB; as many as one record can name (users.messages.batchModify)
_VERSION = 1
_TOLD = ("messageAdded", "labelAdded", "labelRemoved")
_MARKED = "has:userlabels {in:inbox in:sent}"  # Gmail's search operators; {a b} is a or b

_PLACING = frozenset({"INBOX", "SENT", "TRASH", "SPAM"})  # labels that say whether a message is in a place of interest

_Part = Literal["mail", "people"]
_List = Literal["marked", "emails"]


@dataclass(slots=True)
class Position:
    """A cursor, read."""

    folders: dict[FolderId, str] = field(default_factory=dict)
    left: set[_Part] = field(default_factory=set)  # of the round
    mail: dict[str, Any] | None = None  # None: from the beginning
    people: dict[str, str] = field(default_factory=dict)  # {}: from the beginning
    is_whole: bool = False  # this round tells contacts from the beginning

    @classmethod
    def read(cls, cursor: str | None) -> Position:
        """Raises: CursorExpired when it is none of ours."""
        if cursor is None:
            return cls()
        try:
            told = json.loads(base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True))
            if told["v"] != _VERSION:
                raise CursorExpired("The cursor is of another version.")
            return cls(dict(told["folders"]), set(told["left"]), told["mail"], dict(told["people"]), bool(told["whole"]))
        except (ValueError, KeyError, TypeError) as error:
            raise CursorExpired("This is no cursor.") from error

    def written(self) -> str:
        told = {"folders": self.folders, "left": sorted(self.left), "mail": self.mail, "people": self.people}
        text = json.dumps({"v": _VERSION, "whole": self.is_whole, **told}, separators=(",", ":"))
        return base64.urlsafe_b64encode(text.encode()).decode()

    def turn_to(self, folders: Mapping[FolderId, str]) -> None:
        """Begin a round if none is under way. Folders that are new begin, those that are no longer asked for are forgotten."""
        has_contacts = bool(folders.keys() & set(CONTACT_FOLDERS))
        if not self.left:
            self.left, self.is_whole = {"mail", "people"}, False
        new = {folder for folder, ref in folders.items() if self.folders.get(folder) != ref}
        if self.mail is not None and self.folders.get("emails") != folders.get("emails"):
            pages = [page for page in self.mail.get("pages", []) if page[0] != "emails"]
            self.mail["pages"] = [*pages, *([["emails", None]] if "emails" in new else [])]
            self.left.add("mail")
        if new & set(CONTACT_FOLDERS) or not has_contacts:
            self.people = {}
            self.left = self.left | {"people"} if has_contacts else self.left - {"people"}
        self.is_whole = has_contacts and (self.is_whole or not self.people)
        self.folders = dict(folders)


class Follower:
    """Reads pages of changes. Thread-safe as `Calls` is."""

    def __init__(self, mail: Calls, labels: Labels, book: AddressBook) -> None:
        self._mail = mail
        self._users = mail.service.users()
        self._labels = labels
        self._book = book

    def page(self, cursor: str | None, folders: Mapping[FolderId, str]) -> Changes:
        """Raises: what `Mailbox.changes` does."""
        position = Position.read(cursor)
        position.turn_to(folders)
        self._labels.emails = folders.get("emails") or self._labels.emails
        messages: list[MessageChange] = []
        contacts = Page((), (), position.people, True)
        if "mail" in position.left:
            messages = self._messages(position)
        if "people" in position.left:
            contacts = self._book.page(position.people, {f: ref for f, ref in folders.items() if f in CONTACT_FOLDERS})
            position.people = contacts.place
            position.left -= {"people"} if contacts.is_last else set()
        whole = frozenset(CONTACT_FOLDERS) & folders.keys() if position.is_whole else frozenset()
        is_complete = not position.left
        return Changes(tuple(messages), contacts.contacts, contacts.gone, position.written(), is_complete, frozenset(whole))

    def _messages(self, position: Position) -> list[MessageChange]:
        """Tell a page of messages, and move the position on."""
        emails = position.folders.get("emails")
        mail = position.mail if position.mail is not None else self._beginning(emails)
        labels: dict[str, str] | None = None
        if not mail.get("waiting"):
            labels = self._listed(mail, emails) if mail.get("pages") else self._recorded(mail, emails)
        waiting: list[str] = mail["waiting"]
        told = self._read(waiting[:READS], labels, emails)
        mail["waiting"] = waiting[READS:]
        position.mail = {name: value for name, value in mail.items() if value}
        position.left -= set() if position.mail.keys() & {"waiting", "pages", "more"} else {"mail"}
        return told

    def _beginning(self, emails: str | None) -> dict[str, Any]:
        """Say what has to be listed, and since when the history tells the rest; a batch keeps no order, so this goes alone."""
        (profile,) = self._mail.asked(self._users.getProfile(userId="me"))
        return {"since": str(profile["historyId"]), "pages": [["marked", None], *([["emails", None]] if emails else [])]}

    def _listed(self, mail: dict[str, Any], emails: str | None) -> dict[str, str]:
        """Let the messages on the next page of each list wait; return the labels."""
        lists = [self._list(name, token, emails, LISTED // len(mail["pages"])) for name, token in mail["pages"]]
        labels, answers = self._with_labels(emails, lists)
        mail["waiting"] = list(dict.fromkeys(str(one["id"]) for answer in answers for one in answer.get("messages", [])))
        tokens = ((name, answer.get("nextPageToken")) for (name, _), answer in zip(mail["pages"], answers, strict=True))
        mail["pages"] = [[name, token] for name, token in tokens if token]
        return labels

    def _list(self, name: _List, token: str | None, emails: str | None, most: int) -> Call:
        options: dict[str, Any] = {"userId": "me", "maxResults": most, "fields": "messages/id,nextPageToken"}
        options |= {"q": _MARKED} if name == "marked" else {"labelIds": [emails]}
        return cast(Call, self._users.messages().list(**options, **({"pageToken": token} if token else {})))

    def _recorded(self, mail: dict[str, Any], emails: str | None) -> dict[str, str]:
        """Let the messages of the next records wait; return the labels."""
        options = {"userId": "me", "startHistoryId": mail["since"], "maxResults": LISTED, "historyTypes": list(_TOLD)}
        options |= {"pageToken": mail["page"]} if mail.get("page") else {}
        labels, (answer,) = self._with_labels(emails, [cast(Call, self._users.history().list(**options))])
        records = answer.get("history", [])
        refs, count = concerned(records)
        mail["waiting"] = refs
        mail["more"] = count < len(records) or "nextPageToken" in answer
        # Gmail may end a page before it found a record: only its token leads on then, for `historyId` is beyond what follows.
        mail["page"] = None if records else answer.get("nextPageToken")
        if count or not mail["more"]:
            mail["since"] = str(records[count - 1]["id"] if mail["more"] else answer["historyId"])
        return labels

    def _with_labels(self, emails: str | None, calls: Sequence[Call]) -> tuple[dict[str, str], list[dict[str, Any]]]:
        """Make calls that read, and in the same request list the labels. Raises: NotFound if *SAP E-Mails* is gone."""
        asked = [self._labels.listing(), *calls]
        replies = self._mail.exchange(asked)
        # The labels first, for a list by a label that is gone is refused, too.
        labels = _checked(user_labels(object_of(replies[0], asked[0])), emails)
        return labels, [object_of(reply, call) for reply, call in zip(replies[1:], calls, strict=True)]

    def _read(self, refs: Sequence[str], labels: Mapping[str, str] | None, emails: str | None) -> list[MessageChange]:
        """Return those messages that are in a place of interest, as they are now; one that was deleted since is left out."""
        api, fields = self._users.messages(), "id,threadId,labelIds,internalDate"
        listing = [self._labels.listing()] if labels is None else []
        calls = [*listing, *(cast(Call, api.get(userId="me", id=ref, format="minimal", fields=fields)) for ref in refs)]
        replies = self._mail.exchange(calls)
        answers = [object_of(reply, call) for reply, call in zip(replies, calls, strict=True) if reply.status != 404]
        labels = labels if labels is not None else _checked(user_labels(answers.pop(0)), emails)
        places = ((message, place_of(message, emails)) for message in answers)
        return [
            MessageChange(
                ref=str(message["id"]),
                place=place,
                categories=names_of(message, labels),
                received_at=received_at(message),
                conversation=str(message.get("threadId", "")),
            )
            for message, place in places
            if place is not None
        ]


def _checked(labels: dict[str, str], emails: str | None) -> dict[str, str]:
    """Raises: NotFound if *SAP E-Mails* is gone."""
    if emails is not None and emails not in labels:
        raise NotFound("The label of the folder is no longer there.")
    return labels


def concerned(records: Sequence[Mapping[str, Any]]) -> tuple[list[str], int]:
    """Return the messages that records name and that may be told, and of how many records these are.

    They are those that came, and those whose place or owner's labels changed.
    """
    found: dict[str, None] = {}
    for number, record in enumerate(records):
        named = dict.fromkeys(
            str(change["message"]["id"])
            for kind in ("messagesAdded", "labelsAdded", "labelsRemoved")
            for change in record.get(kind, [])
            if "labelIds" not in change or _PLACING & set(change["labelIds"]) or user_label_ids(change)
        )
        if number and len(found) + len(named) > WAITING:
            return list(found), number
        found |= named
    return list(found), len(records)
