"""C4C records as the product sees them, and how they are shown on a card.

Pure values; `server.c4c` fills them from OData rows. A record's `id` is always C4C's ObjectID (32 hex digits); the number
people know it by is `human_id`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, get_args

RecordType = Literal[
    "contact",
    "individual_customer",
    "account",
    "lead",
    "opportunity",
    "ticket",
    "quote",
    "order",
    "appointment",
    "visit",
    "phone_call",
    "task",
]
RECORD_TYPES: tuple[RecordType, ...] = get_args(RecordType)
PARTY_TYPES: frozenset[RecordType] = frozenset({"contact", "individual_customer", "account"})
"""Types that join an activity as involved parties; all others join it as business document references."""

CARD_ORDER: tuple[RecordType, ...] = ("contact", "individual_customer", "lead", "account")
"""Order of the cards that belong to one address (ssi-product.md 2.3, proposed ruling)."""

CARD_FIELDS: Mapping[RecordType, tuple[str, ...]] = {
    "contact": ("account", "job_title", "phone", "mobile"),
    "individual_customer": ("phone", "mobile", "city", "owner"),
    "account": ("city", "phone", "role", "owner"),
    "lead": ("company", "status", "phone", "owner"),
    "opportunity": ("status", "account", "close_date", "owner"),
    "ticket": ("status", "account", "priority", "owner"),
    "quote": ("status", "account", "valid_to_date", "owner"),
    "order": ("status", "account", "date", "owner"),
    "appointment": ("start", "status", "account", "owner"),
    "visit": ("start", "status", "account", "owner"),
    "phone_call": ("start", "status", "account", "owner"),
    "task": ("due", "status", "priority", "owner"),
}
"""At most four field names per card (ssi-product.md 2.4); a field without a value is left out.

Values are texts as C4C has them, except `date` and `..._date` (a day, "2026-11-22") and `start` and `due` (an instant in UTC,
"2026-11-22T08:30:00Z"), which the front end puts into words.
"""


DETAIL_FIELDS: Mapping[RecordType, tuple[str, ...]] = {
    "contact": ("account", "job_title", "department", "email", "phone", "mobile", "fax", "address", "owner"),
    "individual_customer": ("email", "phone", "mobile", "fax", "web_page", "city", "address", "owner"),
    "account": ("role", "email", "phone", "fax", "web_page", "city", "address", "owner"),
    "lead": ("company", "account", "contact", "status", "email", "phone", "mobile", "owner"),
}
"""The field names of a look at one record, in order; of other types it shows what their cards do."""


@dataclass(frozen=True, slots=True, order=True)
class RecordRef:
    """Names one record. Also what a Save links to."""

    type: RecordType
    id: str  # ObjectID


@dataclass(frozen=True, slots=True)
class Record:
    """One C4C record with what cards need of it."""

    type: RecordType
    id: str  # ObjectID, 32 hex digits, upper case
    human_id: str  # ContactID, AccountID, ID, ...; without leading zeros
    title: str
    addresses: tuple[str, ...] = ()  # e-mail addresses as stored, any case
    values: Mapping[str, str] = field(default_factory=dict)  # field name -> text to show; empty ones absent
    accounts: tuple[Record, ...] = ()  # a contact's accounts, the main one first
    url: str = ""  # opens the record in C4C

    @property
    def ref(self) -> RecordRef:
        return RecordRef(self.type, self.id)


@dataclass(frozen=True, slots=True)
class Activity:
    """An e-mail activity in C4C, as far as the product looks at it."""

    id: str  # ObjectID
    human_id: str
    message_key: str  # GroupwareItemID
    url: str
    parties: frozenset[str] = frozenset()  # human ids of the involved parties
    references: frozenset[str] = frozenset()  # human ids of the business documents it refers to, whatever their type
    documents: frozenset[tuple[RecordType, str]] = frozenset()  # those of them whose type is known, with their human ids
    attachment_names: frozenset[str] = frozenset()
    created_at: str = ""  # orders doubles, the oldest first; a text made from C4C's numbering, never parsed
