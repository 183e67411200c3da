"""The Mailbox contract: one user's mailbox, open for reading, marking, and mirroring contacts, whoever hosts it.

Each provider has a module of its own (`graph`, `exchange`, `google`) and passes the one contract suite,
`tests/mail/contract.py`: one test per sentence and per error named here. Adapters get callables for tokens and passwords and
know no settings, no database and no session.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from server.domain.contact import Contact
from server.domain.marks import FolderId, MarkId
from server.errors import SsiError

Capability = Literal["categories", "labels", "colors", "renames", "push"]
"""What a mailbox can do beyond the minimum.

categories, labels: what our marks are there. colors: marks have colours. renames: a mark that the owner renamed gets its name
back; elsewhere it is made anew, and the renamed one is the owner's own. push: `subscribe` works.
"""
IdForm = Literal["rest", "ews", "gmail"]
Place = Literal["inbox", "sent", "emails"]
Notice = Literal["changed", "missed", "ended", "reauthorize"]


@dataclass(frozen=True, slots=True)
class MessageHead:
    """What a mailbox tells of a message without its content."""

    ref: str  # the provider's immutable id: survives a move inside the mailbox
    etag: str  # changes whenever the message does
    message_id: str | None  # Message-ID header as the mailbox knows it, with angle brackets if it has them
    subject: str
    item_class: str  # MAPI message class, e.g. "IPM.Note"; "" where the provider has none
    size_bytes: int | None  # about as large is the message, its attachments included; None if the provider does not tell
    received_at: datetime | None  # aware UTC
    categories: tuple[str, ...]  # names of categories or labels, all of them, not only ours
    has_attachments: bool
    conversation: str  # provider's thread id, "" if unknown
    header: str = field(default="", repr=False)  # the message's header, a field a line; "" where the provider does not give it


@dataclass(frozen=True, slots=True)
class Marked:
    """The outcome of marking: what the item carries now."""

    etag: str
    categories: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Category:
    """A category or label that the mailbox knows. Keep `ref`: it tells which one it is after the owner renamed it."""

    ref: str
    name: str  # as the mailbox spells it


@dataclass(frozen=True, slots=True)
class Folder:
    """One of our folders, or what stands for it: a label or a contact group at Google. Its `ref` stays when it is renamed."""

    ref: str
    name: str


@dataclass(frozen=True, slots=True)
class ContactItem:
    """A contact in one of our folders."""

    ref: str  # holds while the contact stays in its folder
    etag: str  # changes whenever the contact does
    folder: str  # the folder's ref
    contact: Contact
    categories: tuple[str, ...]  # as a message's
    link: str  # what `create_contact` or `update_contact` was given to keep on the item; "" if nothing
    changed_at: datetime | None = field(default=None, compare=False)
    """Aware UTC, by the provider's clock: the last change of anything the item holds. None after a write whose answer does not
    tell it (Exchange); whoever reads the item is always told. The etag says whether two of them are the same."""


@dataclass(frozen=True, slots=True)
class NewContact:
    """A contact that is to be created, with its link."""

    contact: Contact
    link: str


@dataclass(frozen=True, slots=True)
class ContactEdit:
    """A contact that is to be changed, if it is still the one of `etag`."""

    ref: str
    etag: str
    edit: Callable[[Contact], Contact]  # pure; from what the mailbox has to what it shall have
    link: str | None = None  # as in `update_contact`


@dataclass(frozen=True, slots=True)
class MessageChange:
    """A message that is new in a place or has changed there, as it is now."""

    ref: str
    place: Place
    categories: tuple[str, ...]
    received_at: datetime | None  # aware UTC
    conversation: str = ""  # provider's thread id, "" if unknown


@dataclass(frozen=True, slots=True)
class Gone:
    """A contact that is no longer in the folder: deleted, or moved to another."""

    ref: str
    folder: str  # the folder's ref


@dataclass(frozen=True, slots=True)
class Changes:
    """A page of what happened in a mailbox. An item that changed twice may come twice, each time as it is by then."""

    messages: tuple[MessageChange, ...]
    contacts: tuple[ContactItem, ...]  # new or changed
    gone: tuple[Gone, ...]
    cursor: str  # opaque text, to be kept; what it stands for changed up to here
    is_complete: bool  # False: there is more, to be asked for at once with this cursor
    whole: frozenset[FolderId] = frozenset()
    """Folders of contacts that this round, up to the page that is complete, tells from the beginning, not since an earlier one:
    what the caller knows of them and was not told is gone."""
    unchanged: frozenset[str] = frozenset()  # refs of contacts that are told to be as the caller knows them


Known = Callable[[str, Collection[str]], Mapping[str, str]]
"""Returns, of a folder and refs of contacts in it, the etags that are known of some of them, by their refs."""


def nothing_known(folder: str, refs: Collection[str]) -> Mapping[str, str]:
    return {}


@dataclass(frozen=True, slots=True)
class Hook:
    """Where notifications are to go, and what proves that they come from the provider."""

    url: str  # https
    secret: str = field(repr=False)  # at most 128 characters


@dataclass(frozen=True, slots=True)
class Subscription:
    """An order for notifications. Renew it before half of its life is over."""

    ref: str  # opaque text, to be kept
    expires_at: datetime  # aware UTC, as the provider promised


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose mailbox it is, as the provider says."""

    address: str
    name: str
    account: str  # the provider's id of the account, which another one never has


class Mailbox(Protocol):
    """One user's mailbox, open for reading and writing. An instance may be used by several threads.

    Nouns: REF is the provider's own id; a message's survives a move. ETAG changes whenever the item does. LINK is an id of ours
    that is kept on a contact where its owner does not see it, at most 255 characters of printable ASCII. All times are aware UTC,
    sizes bytes. Any method may raise Transient (also RateLimited) when the provider cannot answer now, after the adapter's own
    short retries: a peer that is busy twice and then well is not noticed. Any method may raise NeedsReauth when the token or
    password is no longer accepted, Forbidden when the account may not do this in the mailbox, and Rejected when the mailbox is
    not at this provider; the rest is listed per method. What was not confirmed is read again; only `create_contact` may raise
    Unknown, and `create_contacts` return it. An item that carries difficult text (any Unicode, any length the provider allows) is
    read and written like any other.
    """

    capabilities: frozenset[Capability]

    def check(self) -> Owner:
        """Say whose mailbox this is, having tried each kind of access that the product needs.

        Raises: Forbidden, saying what may not be done; NeedsReauth; Rejected when what answers is no mailbox of this provider.
        """

    # Messages

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        """Return the message with this id, in any form the mail client gives it.

        Raises: NotFound if the mailbox holds no such message, also for what cannot be an id; InvalidInput for the id form of
        another provider.
        """

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        """Return the message as it travelled, RFC 5322 with all its parts: its attachments, too, are read from this.

        Raises: NotFound; Rejected if it is larger than `max_bytes` (what was read so far is dropped).
        """

    def find(self, message_id: str) -> list[MessageHead]:
        """Return every copy of the message with this Message-ID (angle brackets optional), the newest first; [] if none."""

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        """Make the message carry just `mark` of our state marks (None: none), beside an error also its reason.

        Other people's categories survive, also those that a second writer adds while we write: read, merge our own names
        only, write with the etag, and on a conflict read again. A message that already is so is not written at all; nor does
        case make a difference.

        Raises: NotFound; Conflict if others kept changing it through all our tries.
        """

    def set_marks(
        self, refs: Collection[str], mark: MarkId | None, *, names: Mapping[MarkId, str]
    ) -> Mapping[str, Marked | SsiError]:
        """Do as `set_mark` for many messages, in far fewer requests; return for each ref what it carries now, or its error.

        One message that fails keeps no other from being marked. Errors that concern the whole mailbox are raised.
        """

    def move(self, ref: str, to: str) -> None:
        """Move a message to "inbox", "sent" or a folder of `ensure_folders`; its ref stays. Where it is already, nothing happens.

        Where places are labels, the message leaves the others that are a `Place`; what was sent is in "sent" always.

        Raises: NotFound for the message or the folder.
        """

    # The product's categories and folders

    def categories(self) -> list[Category]:
        """Return all categories that the mailbox knows, the owner's too."""

    def ensure_marks(
        self, names: Mapping[MarkId, str], *, known: Mapping[MarkId, str] | None = None
    ) -> Mapping[MarkId, Category]:
        """Create the product's categories that are missing and restore the colour of recoloured ones; leave all others alone.

        `known` are the refs they had before: by them a renamed one is found and gets its name back, see `Capability`. The
        mailbox may hold ours in another case, or by an alias or the English name of the mark, and such a one is used as it is
        spelled. Doing it again changes nothing.
        """

    def ensure_folders(
        self, names: Mapping[FolderId, str], *, known: Mapping[FolderId, str] | None = None
    ) -> Mapping[FolderId, Folder]:
        """Create those of our folders that are missing, and give a renamed one of `known` its name back; leave others alone.

        A folder that has the name already, in any case, or the English one, is used as it is spelled. A folder that was deleted
        is made anew and is empty. Doing it again changes nothing.
        """

    # Changes

    def changes(
        self,
        cursor: str | None,
        *,
        folders: Mapping[FolderId, str],
        marks: Mapping[MarkId, str] | None = None,
        known: Known = nothing_known,
    ) -> Changes:
        """Return a page of what changed since `cursor` in Inbox, Sent and `folders` (of `ensure_folders`, by their refs).

        None begins: every contact in the folders is told, and every message that carries a category in one of the three places
        or lies in *SAP E-Mails*. After that a message is told when it comes to a place and when its categories change, by
        whoever; one that is deleted or goes to a place of no interest is not. A folder that is not among the cursor's begins,
        one that is no longer asked for is forgotten. A round that broke off goes on where it was, without loss. When nothing
        changed, that costs as few requests as the protocol has.

        Raises: CursorExpired when the provider no longer knows what the cursor stands for, or when it is none: begin again with
        None. NotFound if one of the folders is no longer there.

        `marks` are names of marks with which the owner may ask for contacts that lie in their own folder of contacts: those that
        carry one are told, with that folder's ref, from the beginning and whenever they change. Nothing else of that folder is
        told: no other contact, and of none that it is gone. Without folders for contacts, and by a provider whose contacts lie
        in no folder or that does not follow it, nothing is told of it at all.

        `known` is asked for the etags of contacts, by their refs, that the caller has seen and needs not be told of as long as
        they are the same: those are named in `unchanged`, where telling more would cost a request. So a round that tells of the
        caller's own writes costs hardly anything.
        """

    # Contacts

    def contact(self, ref: str) -> ContactItem:
        """Return a contact. Raises: NotFound."""

    def find_contact(self, folder: str, link: str) -> ContactItem | None:
        """Return the contact of the folder that keeps this link, None if there is none. Raises: NotFound for the folder."""

    def create_contact(self, folder: str, contact: Contact, *, link: str) -> ContactItem:
        """Create a contact in a folder, with its link. One without any name is created, too, and shows what else it has.

        Raises: NotFound for the folder; Rejected if the provider does not take a value; Unknown if the answer was lost and the
        contact is not to be seen (yet): look with `find_contact` before another try.
        """

    def create_contacts(self, folder: str, new: Sequence[NewContact]) -> list[ContactItem | SsiError]:
        """Do as `create_contact` for many, in far fewer requests; return for each, in their order, the contact or its error.

        One that fails keeps no other from being created; one that was not confirmed and is not to be seen (yet) is Unknown. Links
        are not empty and differ. Errors that concern the whole mailbox, or the folder, are raised; then some may have been
        created: look with `find_contact`.
        """

    def update_contacts(self, edits: Sequence[ContactEdit]) -> list[ContactItem | SsiError]:
        """Do as `update_contact` for many, in far fewer requests; return for each, in their order, the contact or its error.

        A contact is given what its `edit` makes of what it is now; the edit is asked once. Refs differ. Errors that concern the
        whole mailbox are raised; then some may have been changed.
        """

    def update_contact(self, ref: str, contact: Contact, *, etag: str, link: str | None = None) -> ContactItem:
        """Give a contact these values, and this link if it is not None ("": none). What else the item holds stays.

        A contact that is so already is not written.

        Raises: NotFound; Conflict, having written nothing, if it is no longer the one of `etag`; Rejected if the provider does
        not take a value.
        """

    def set_contact_mark(
        self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]
    ) -> Marked:
        """Do as `set_mark` for a contact."""

    def move_contact(self, ref: str, folder: str, *, etag: str) -> ContactItem:
        """Move a contact to another of our folders; return it as it is there, perhaps with another ref. It keeps all it holds.

        Raises: NotFound for the contact or the folder; Conflict, having moved nothing, if it is no longer the one of `etag`.
        """

    def delete_contact(self, ref: str, *, etag: str) -> None:
        """Delete a contact, to where its owner can get it back. One that is gone already is no error.

        Raises: Conflict, having deleted nothing, if it is no longer the one of `etag`.
        """

    # Notifications; with the capability "push"

    def subscribe(self, hook: Hook, *, folders: Mapping[FolderId, str]) -> Subscription:
        """Have the hook told whenever `changes` with these folders may have something. Without "push" raises Rejected.

        Raises: Rejected if the provider does not accept the hook.
        """

    def renew(self, subscription: Subscription) -> Subscription:
        """Let a subscription live longer; also what answers a notice "reauthorize". Raises: NotFound if the provider ended it."""

    def unsubscribe(self, subscription: Subscription) -> None:
        """End a subscription. One that has ended is no error."""

    def verify(self, subscription: Subscription, hook: Hook, body: bytes) -> frozenset[Notice]:
        """Say what a notification tells, asking nobody. "missed" and "ended" mean that changes may not have been told.

        Raises: Forbidden if it does not prove to come from the provider for this subscription.
        """
