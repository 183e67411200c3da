"""A mailbox at Google, over the Gmail API v1 and the People API v1.

Marks are labels (`google.labels`), and on contacts groups; *SAP E-Mails* is a label, too, the other folders are groups of
contacts (`google.people`). Adding and removing labels needs no etag, and what others add meanwhile is not touched, so the mark of
a message never meets a conflict, unless its label is deleted at that moment. Contacts have etags, and their conflicts.

Gmail pushes by way of a Pub/Sub topic that the operator has to set up, and only what concerns messages; contacts have to be asked
for. `google.calls` carries the calls, and keeps to the user's quota.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from server.domain.contact import Contact
from server.domain.marks import MARKS, FolderId, MarkId, merged
from server.domain.sentences import rejected
from server.errors import (
    AlreadyExists,
    Conflict,
    Forbidden,
    NeedsReauth,
    NotFound,
    RateLimited,
    Rejected,
    SsiError,
    Transient,
    Unknown,
)
from server.mail import (
    Capability,
    Category,
    Changes,
    ContactEdit,
    ContactItem,
    Folder,
    Hook,
    IdForm,
    Known,
    Marked,
    MessageHead,
    NewContact,
    Notice,
    Owner,
    Subscription,
    nothing_known,
)
from server.mail.google.calls import PEERS, Call, Calls, Refusal, object_of, tried
from server.mail.google.changes import Follower
from server.mail.google.labels import TRIES, Labels, names_of, ours, same_names, user_label_ids, user_labels
from server.mail.google.messages import HEAD_FIELDS, Message, api_id, decoded, etag_of, head_of
from server.mail.google.people import CONTACT_FOLDERS, AddressBook
from server.transport import Reply

PEER = PEERS["gmail"]
MAX_PAGES = 20
MODIFY_LABELS = 100  # as many may be taken off by one call
MAX_NOTICE = 1024 * 1024  # bytes of a push; Gmail says an address and a number
_PLACES = {"inbox": "INBOX", "sent": "SENT"}
_NO_MESSAGE = "0"


class GoogleMailbox:
    """Implements `server.mail.Mailbox`. Thread-safe.

    `mail` makes calls to Gmail, `contacts` to the People API. `topic` is the full name of the Pub/Sub topic to which Gmail is to
    publish ("projects/p/topics/t"), "" if the operator has none: then there is no push.
    """

    capabilities: frozenset[Capability] = frozenset({"labels", "colors", "renames"})

    def __init__(self, mail: Calls, contacts: Calls, *, topic: str = "") -> None:
        if topic:
            self.capabilities = self.capabilities | {"push"}
        self._calls = mail
        self._users = mail.service.users()
        self._messages = self._users.messages()
        self._labels = Labels(mail)
        self._book = AddressBook(contacts)
        self._follower = Follower(mail, self._labels, self._book)
        self._topic = topic

    def check(self) -> Owner:
        profile = cast(Call, self._users.getProfile(userId="me"))
        attempt = cast(Call, self._messages.modify(userId="me", id=_NO_MESSAGE, body={}))  # nothing, to no message
        known, refused = self._calls.exchange([profile, attempt])
        address = str(object_of(known, profile).get("emailAddress", ""))
        tried(refused, attempt)
        account, name = self._book.owner()
        return Owner(address, name, account)

    # Messages

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        labels, message = self._calls.asked(self._labels.listing(), self._get(api_id(item_id, id_form), "full", HEAD_FIELDS))
        return head_of(cast(Message, message), user_labels(labels))

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        call = self._get(api_id(ref), "raw", "raw")
        try:
            (answer,) = self._calls.asked(call, max_bytes=max_bytes * 4 // 3 + 4096)  # base64, and what JSON puts around it
        except Rejected as error:
            if isinstance(error.__cause__, Refusal):
                raise
            raise _too_large(max_bytes) from error
        mime = decoded(answer.get("raw"))
        if len(mime) > max_bytes:
            raise _too_large(max_bytes)
        return mime

    def find(self, message_id: str) -> list[MessageHead]:
        bare = message_id.strip().strip("<>")
        if not bare or any(c.isspace() for c in bare):  # such an id ends at its first space for Gmail's search
            return []
        refs = self._search(f"rfc822msgid:<{bare}>")
        if not refs:
            return []
        calls = [self._labels.listing(), *(self._get(ref, "full", HEAD_FIELDS) for ref in refs)]
        listed, *replies = self._calls.exchange(calls)
        labels = user_labels(object_of(listed, calls[0]))
        present = [reply for reply in replies if reply.status != 404]  # deleted since it was listed
        heads = [head_of(cast(Message, object_of(reply, calls[1])), labels) for reply in present]
        found = [head for head in heads if (head.message_id or "").strip("<>") == bare]
        return sorted(found, key=lambda head: head.received_at or datetime.min.replace(tzinfo=UTC), reverse=True)

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        ref = api_id(ref)
        wish = None if mark is None else (mark, names.get(mark, MARKS[mark].name))
        error: Exception | None = None
        for _ in range(TRIES):
            listed, message = self._calls.asked(self._labels.listing(), self._get(ref, "minimal", "labelIds"))
            labels = self._labels.renamed_back(user_labels(listed), names)
            current = names_of(message, labels)
            wanted = merged(current, mark, reason, names)
            if same_names(current, wanted):
                return Marked(etag_of(message), current)
            try:
                written = self._calls.written(self._changed(ref, wish, current, wanted, labels))
            except (Conflict, Unknown) as caught:
                error = caught
                continue
            if not set(user_label_ids(written)) <= labels.keys():  # somebody else's new label is on it, too
                labels = self._labels.renamed_back(self._labels.names(), names)
            carried = names_of(written, labels)
            if same_names(carried, merged(carried, mark, reason, names)):
                return Marked(etag_of(written), carried)
        if isinstance(error, Unknown):
            raise Transient(f"{PEER} did not confirm the label.") from error
        raise Conflict("Others kept changing the message while its label was set.") from error

    def _changed(
        self, ref: str, mark: tuple[MarkId, str] | None, current: Sequence[str], wanted: Sequence[str], labels: dict[str, str]
    ) -> Call:
        """Describe the change from `current` to `wanted`, both names; what is missing among the labels is created.

        Raises: AlreadyExists, Unknown, Rejected.
        """
        by_name = {name.casefold(): identifier for identifier, name in labels.items()}
        before, after = {name.casefold() for name in current}, {name.casefold() for name in wanted}
        added = []
        for name in (name for name in wanted if name.casefold() not in before):
            if mark is not None and name == mark[1]:
                added.append(self._label_of(mark[0], name, labels))
            else:  # the label of a reason is shown on its messages only: it would fill the list of labels
                added.append(by_name.get(name.casefold()) or self._labels.create(name, labels, is_listed=False))
        removed = [by_name[name.casefold()] for name in current if name.casefold() not in after]
        return self._modify(ref, added, removed)

    def set_marks(
        self, refs: Collection[str], mark: MarkId | None, *, names: Mapping[MarkId, str]
    ) -> Mapping[str, Marked | SsiError]:
        """Mark each by putting one label on and taking all others of ours off, whatever it carries: Gmail passes over what is so.

        A modify for each, in batches, costs a quarter of the units of reading it, and says of each what it carries then.
        """
        outcome: dict[str, Marked | SsiError] = {}
        waiting: dict[str, str] = {}
        for ref in refs:
            try:
                waiting[ref] = api_id(ref)
            except NotFound as error:
                outcome[ref] = error
        for _ in range(TRIES):
            if not waiting:
                break
            for ref, told in zip(waiting, self._marked(list(waiting.values()), mark, names), strict=True):
                outcome[ref] = told
            waiting = {ref: identifier for ref, identifier in waiting.items() if isinstance(outcome[ref], Transient | Conflict)}
        return outcome

    def _marked(self, refs: Sequence[str], mark: MarkId | None, names: Mapping[MarkId, str]) -> list[Marked | SsiError]:
        """Mark messages once; a Transient or Conflict is worth another try. Raises: what concerns the whole mailbox."""
        labels = self._labels.renamed_back(self._labels.names(), names)
        name = None if mark is None else names.get(mark, MARKS[mark].name)
        try:
            added = [] if mark is None or name is None else [self._label_of(mark, name, labels)]
            removed = [ref for ref in ours(labels, names) if ref not in added]
            if len(removed) > MODIFY_LABELS:  # the reasons of years: each message carries few of them
                return [self._marked_alone(ref, mark, names) for ref in refs]
            is_nothing = not added and not removed
            calls = [self._get(r, "minimal", "labelIds") if is_nothing else self._modify(r, added, removed) for r in refs]
            replies = self._calls.exchange(calls)
        except RateLimited:
            raise
        except (AlreadyExists, Transient, Unknown) as error:  # another client was faster, or the answer was lost
            return [_unconfirmed(error)] * len(refs)
        return [self._outcome(reply, call, labels) for reply, call in zip(replies, calls, strict=True)]

    def _outcome(self, reply: Reply, call: Call, labels: Mapping[str, str]) -> Marked | SsiError:
        """Raises: RateLimited, NeedsReauth and Forbidden, which concern the whole mailbox."""
        try:
            message = object_of(reply, call)
        except (NeedsReauth, Forbidden, RateLimited):
            raise
        except Unknown as error:
            return _unconfirmed(error)
        except SsiError as error:
            return error
        return Marked(etag_of(message), names_of(message, labels))

    def _marked_alone(self, ref: str, mark: MarkId | None, names: Mapping[MarkId, str]) -> Marked | SsiError:
        try:
            return self.set_mark(ref, mark, names=names)
        except (Conflict, NotFound) as error:
            return error

    def _label_of(self, mark: MarkId, name: str, labels: dict[str, str]) -> str:
        """Return the id of a mark's label, which is created if it is missing. Raises: AlreadyExists, Unknown, Rejected."""
        same = next((ref for ref, spelled in labels.items() if spelled.casefold() == name.casefold()), None)
        return same or self._labels.create_for(mark, name, labels)

    def move(self, ref: str, to: str) -> None:
        ref = api_id(ref)
        lost: Exception | None = None
        for _ in range(TRIES):
            listed, message = self._calls.asked(self._labels.listing(), self._get(ref, "minimal", "labelIds"))
            added, removed = self._moved(set(message.get("labelIds", [])), to, user_labels(listed))
            if not added and not removed:
                return
            try:
                self._calls.written(self._modify(ref, added, removed))
            except (Conflict, Unknown) as error:  # the label was deleted at this moment, or the answer was lost
                lost = error
                continue
            return
        raise Transient(f"{PEER} did not confirm that the message is moved.") from lost

    def _moved(self, carried: set[str], to: str, labels: Mapping[str, str]) -> tuple[list[str], list[str]]:
        """Return the labels to put on and to take off. Raises: NotFound for the folder; Rejected to make something sent."""
        if to == "sent" and "SENT" not in carried:
            raise Rejected(f"{PEER} keeps only what was sent among the sent mail.")
        if to not in _PLACES and to not in labels:
            raise NotFound("The mailbox holds no such folder.")
        target = _PLACES.get(to, to)
        others = ({self._labels.emails_in(labels)} if to in _PLACES else {"INBOX"}) | ({"INBOX"} if to == "sent" else set())
        return [target] if target not in carried else [], sorted(others & carried)

    def _get(self, ref: str, form: str, fields: str) -> Call:
        return cast(Call, self._messages.get(userId="me", id=ref, format=form, fields=fields))

    def _modify(self, ref: str, added: Sequence[str], removed: Sequence[str]) -> Call:
        body = {"addLabelIds": list(added), "removeLabelIds": list(removed)}
        return cast(Call, self._messages.modify(userId="me", id=ref, body=body))

    def _search(self, query: str) -> list[str]:
        """Return the ids of all messages that match, spam and trash included."""
        refs: list[str] = []
        options: dict[str, Any] = {"userId": "me", "q": query, "includeSpamTrash": True, "maxResults": 500}
        for _ in range(MAX_PAGES):
            (page,) = self._calls.asked(self._messages.list(**options))
            refs += [str(message["id"]) for message in page.get("messages", [])]
            if "nextPageToken" not in page:
                break
            options["pageToken"] = page["nextPageToken"]
        return refs

    # The product's categories and folders

    def categories(self) -> list[Category]:
        return [Category(ref, name) for ref, name in self._labels.names().items()]

    def ensure_marks(
        self, names: Mapping[MarkId, str], *, known: Mapping[MarkId, str] | None = None
    ) -> Mapping[MarkId, Category]:
        return self._labels.ensure_marks(names, known or {})

    def ensure_folders(
        self, names: Mapping[FolderId, str], *, known: Mapping[FolderId, str] | None = None
    ) -> Mapping[FolderId, Folder]:
        known = known or {}
        made: dict[FolderId, Folder] = {}
        if "emails" in names:
            made["emails"] = self._labels.ensure_folder(names["emails"], known.get("emails"))
        groups = {folder: names[folder] for folder in CONTACT_FOLDERS if folder in names}
        return made | (self._book.ensure_folders(groups, known) if groups else {})

    # Changes

    def changes(
        self,
        cursor: str | None,
        *,
        folders: Mapping[FolderId, str],
        marks: Mapping[MarkId, str] | None = None,
        known: Known = nothing_known,
    ) -> Changes:
        """Tell also of contacts that left no folder, see `AddressBook.page`.

        A message is told once, in *SAP E-Mails* if it is there and in Inbox. `marks` are of no use: a contact lies in no folder
        of its owner's, and the label that would ask for it is as easily that of a folder of ours. What is `known` is told, too:
        that costs nothing.
        """
        return self._follower.page(cursor, folders)

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        return self._book.contact(ref)

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        return self._book.find(folder, link)

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        return self._book.create(folder, contact, link)

    def create_contacts(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        return self._book.create_many(folder, new)

    def update_contacts(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        return self._book.update_many(edits)

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        return self._book.update(ref, contact, etag, link)

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        return self._book.set_mark(ref, mark, reason, names)

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        return self._book.move(ref, folder, etag)

    def delete_contact(self, ref: str, *, etag: str) -> None:
        self._book.delete(ref, etag)

    # Notifications

    def subscribe(self, hook: Hook, *, folders: Mapping[FolderId, str]) -> Subscription:
        """Order notifications about messages. Where Pub/Sub sends them, the hook, is part of the operator's set-up.

        Raises: Rejected without a topic, or if Gmail may not publish to it, which only the operator can mend.
        """
        if not self._topic:
            raise Rejected("Notifications from Gmail need a Pub/Sub topic, which this installation does not have.")
        (profile,) = self._calls.asked(self._users.getProfile(userId="me"))
        return self._watch(str(profile["emailAddress"]), ["INBOX", "SENT", *([folders["emails"]] if "emails" in folders else [])])

    def renew(self, subscription: Subscription) -> Subscription:
        """Watch again: Gmail has one watch per mailbox, so one that it ended begins anew."""
        order = _order(subscription)
        return self._watch(order["address"], order["labels"])

    def _watch(self, address: str, labels: list[str]) -> Subscription:
        body = {"topicName": self._topic, "labelIds": labels, "labelFilterBehavior": "include"}
        try:
            answer = self._calls.written(self._users.watch(userId="me", body=body))
        except Unknown as error:  # a watch that nobody knows of does no harm, and the next one replaces it
            raise _unconfirmed(error) from error
        except (Forbidden, NotFound) as error:
            text = "grant gmail-api-push@system.gserviceaccount.com the right to publish to the topic"
            raise Rejected(f"Gmail cannot publish notifications: the operator must {text}.") from error
        ref = json.dumps({"address": address, "labels": labels}, separators=(",", ":"))
        return Subscription(ref, datetime.fromtimestamp(int(answer["expiration"]) // 1000, UTC))

    def unsubscribe(self, subscription: Subscription) -> None:
        try:
            self._calls.written(self._users.stop(userId="me"))
        except Unknown as error:
            raise _unconfirmed(error) from error

    def verify(self, subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
        """Say whose mailbox a push of Pub/Sub is about. That it comes from Pub/Sub is proved by its token, not by its body."""
        if len(body) > MAX_NOTICE:
            raise Forbidden("This is too large for a notification from Gmail.")
        try:
            told = json.loads(base64.urlsafe_b64decode(json.loads(body)["message"]["data"]))
            address = str(told["emailAddress"])
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise Forbidden("This is no notification from Gmail.") from error
        if address.casefold() != _order(subscription)["address"].casefold():
            raise Forbidden("The notification is about another mailbox.")
        return frozenset({"changed"})


def _order(subscription: Subscription) -> dict[str, Any]:
    return dict(json.loads(subscription.ref))


def _too_large(max_bytes: int) -> Rejected:
    return rejected("message_too_large", limit=max_bytes // (1024 * 1024))


def _unconfirmed(error: SsiError) -> Transient:
    told = Transient(f"{PEER} did not confirm; it can be tried again.")
    told.__cause__ = error
    return told
