"""The Mailbox contract: one user's mailbox, open for reading and marking, whoever hosts it.

Each provider has a module of its own (`graph`, `exchange`, `google`) and passes the one contract suite,
`tests/mail/contract.py`: one test per sentence and per error named here. Adapters get a `get_token` callable and know no
settings, no database and no session.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, Protocol

from server.domain.marks import MarkId

Capability = Literal["categories", "labels", "colors", "delta"]
IdForm = Literal["rest", "ews", "gmail"]


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


@dataclass(frozen=True, slots=True)
class Marked:
    """The outcome of marking: what the message carries now."""

    etag: str
    categories: tuple[str, ...]


class Mailbox(Protocol):
    """One user's mailbox, open for reading and writing.

    Nouns: REF is the provider's own immutable id. ETAG changes whenever the item does. All times are aware UTC, sizes bytes.
    Any method may raise Transient (also RateLimited) when the provider cannot answer now, after the adapter's own short
    retries: a peer that is busy twice and then well is not noticed. Any method may raise NeedsReauth when the token is no
    longer accepted, Forbidden when the account may not do this in the mailbox, and Rejected when the mailbox is not at this
    provider; the rest is listed per method. None raises Unknown: what was not confirmed is read again. A message that carries
    difficult text (any Unicode, any length the provider allows) is read and marked like any other.
    """

    capabilities: frozenset[Capability]

    def head(self, item_id: str, id_form: IdForm = "rest") -> MessageHead:
        """Return the message with this id, in any form the mail client gives it.

        Raises: NotFound if the mailbox holds no such message, also for what cannot be an id; InvalidInput for the id form of
        another provider.
        """

    def mime(self, ref: str, *, max_bytes: int) -> bytes:
        """Return the message as it travelled, RFC 5322 with all its parts.

        Raises: NotFound; Rejected if it is larger than `max_bytes` (what was read so far is dropped).
        """

    def find(self, message_id: str) -> list[MessageHead]:
        """Return every copy of the message with this Message-ID (angle brackets optional), the newest first; [] if none."""

    def ensure_marks(self, names: Mapping[MarkId, str]) -> Mapping[MarkId, str]:
        """Create the product's categories that are missing and restore the colour of recoloured ones; leave all others alone.

        Returns the names as the mailbox spells them: it may hold ours in another case, or by an alias or the English name of
        the mark, and such a one is used. Doing it again changes nothing.
        """

    def set_mark(self, ref: str, mark: MarkId | None, *, reason: str | None = None, names: Mapping[MarkId, str]) -> Marked:
        """Make the message carry just `mark` of our state marks (None: none), beside an error also its reason.

        Other people's categories survive, also those that a second writer adds while we write: read, merge our own names
        only, write with the etag, and on a conflict read again. A message that already is so is not written at all; nor does
        case make a difference.

        Raises: NotFound; Conflict if others kept changing it through all our tries.
        """
