"""The state that all simulated vendors share.

A World holds people, one C4C tenant's records and everybody's mailboxes; the vendor modules (`c4c`, `graph`, `identity`, ...)
only translate their wire protocol to and from it. It also keeps what tests need to know for certain: `log`, the append-only
list of what really happened (a record created, a category changed), and `access`, every request that reached a vendor.
Faults and latency are World state too, so that a developer or a test can make any vendor slow or sick.

Everything is guarded by `lock` (re-entrant); vendors hold it while they read or change state, never while they sleep.
"""

from __future__ import annotations

import itertools
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Literal, NamedTuple

AccessType = Literal["office365", "exchange_direct", "google", "exchange_impersonation"]
CONSUMERS = "9188040d-6c67-4c5b-b112-36a304b66dad"
"""Microsoft's tenant of personal accounts, the same everywhere (access-tokens page)."""
Row = dict[str, Any]
"""A C4C record: EDM property name -> str, bool, int, Decimal, bytes or aware datetime. Navigations are not stored."""


@dataclass(slots=True)
class Person:
    """An employee of the demo company: a C4C business user with a mailbox, or (not `provisioned`) only a colleague.

    A newcomer (not `connected`) has been set up, but the product knows neither their identity nor what opens their mailbox.
    """

    name: str
    email: str
    object_id: str  # Entra `oid`, lower-case GUID
    user_id: str  # C4C UserID, upper case
    employee_id: str  # C4C EmployeeID
    password: str  # C4C password, for Basic
    access_type: AccessType = "office365"
    provisioned: bool = True
    language: str = "en"
    connected: bool = True
    tenant: str = ""  # Entra tenant of the account if it is not the company's, e.g. CONSUMERS


@dataclass(frozen=True, slots=True)
class Event:
    """Something that really happened to the World's state."""

    seq: int
    at: datetime
    vendor: str
    kind: str  # e.g. "create", "update", "delete", "categories", "move", "token"
    actor: str  # C4C UserID or mailbox address
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Access:
    """One request as it reached a vendor's port."""

    seq: int
    at: datetime
    vendor: str
    method: str
    path: str
    query: str
    status: int
    duration_ms: float
    actor: str
    parts: tuple[str, ...] = ()  # for $batch: "GET ContactCollection", ... in order
    request_bytes: int = 0


@dataclass(frozen=True, slots=True)
class CaughtMail:
    """An e-mail that the operator's mail server took."""

    seq: int
    at: datetime
    sender: str  # of the envelope, as are the recipients
    recipients: tuple[str, ...]
    headers: dict[str, str]  # by lower-case name, decoded; the strict server takes none of ours twice
    text: str
    mime: bytes = field(repr=False)


@dataclass(slots=True)
class Latency:
    """How long a vendor takes: `base_ms` per request plus `per_part_ms` for each part of a batch."""

    base_ms: float = 0.0
    per_part_ms: float = 0.0


@dataclass(slots=True)
class Fault:
    """Make matching requests fail.

    `kind`: "status" (answer `status` with `retry_after_s`, not acting), "hang" (sleep `seconds`, then act),
    "drop" (close the connection before acting), "acted_drop" (act, then close the connection without an answer),
    "html" (200 with an HTML page), "garbage" (200 with broken JSON), or a vendor's own word, e.g. C4C's "silent_empty".
    `match` is a substring of "METHOD path"; `times` counts down, None means until removed. `says` is the sentence in C4C's answer
    to "part_status".
    """

    vendor: str
    kind: str
    match: str = ""
    status: int = 503
    retry_after_s: int | None = None
    seconds: float = 0.0
    times: int | None = 1
    says: str = ""
    id: str = field(default_factory=lambda: uuid.uuid4().hex[:8])


class Gate:
    """Stops the `number`-th request that reaches any vendor, before it acts or, with `acted`, after it acted.

    A test waits until the request stands there (`reached`), does its worst to whoever sent it, and opens the gate: the request
    goes on, or, with `lost`, its connection is closed as if it had never arrived or its answer never came back.
    """

    def __init__(self, number: int = 1, *, acted: bool = False, match: str = "") -> None:
        self.reached = threading.Event()
        self._number = number
        self._acted = acted
        self._match = match  # a substring of "vendor METHOD path"
        self._passed = itertools.count(1)
        self._opened = threading.Event()
        self._lost = False

    def open(self, *, lost: bool = False) -> None:
        self._lost = lost
        self._opened.set()

    def counts(self, line: str, *, acted: bool) -> bool:
        """Say whether this is the request to stop, counting it if it is one that matches."""
        return acted == self._acted and self._match in line and next(self._passed) == self._number

    def stand(self, timeout_s: float) -> bool:
        """Hold the request; return whether it goes on."""
        self.reached.set()
        return self._opened.wait(timeout_s) and not self._lost


@dataclass(slots=True)
class Category:
    """An entry of a mailbox's master list."""

    id: str
    name: str
    color: str  # "none" or "preset0".."preset24"


@dataclass(slots=True)
class StoredMessage:
    """A message in a mailbox, whatever the vendor. `mime` is the truth about content; the rest is the mailbox's own."""

    mime: bytes
    folder: str  # id of a Folder
    received_at: datetime
    item_class: str = "IPM.Note"
    categories: list[str] = field(default_factory=list)  # display names, in the order they were set
    is_read: bool = True
    is_draft: bool = False
    conversation_id: str = ""
    immutable_id: str = field(default_factory=lambda: "AAkALg" + uuid.uuid4().hex + uuid.uuid4().hex[:10])
    ews_id: str = field(default_factory=lambda: "AAMk/" + uuid.uuid4().hex + "+" + uuid.uuid4().hex[:12] + "=")
    change: int = 1  # grows with each change; the changeKey and etag derive from it
    changed_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    @property
    def rest_id(self) -> str:
        """The id as `convertToRestId` gives it: EWS id with `/` -> `-` and `+` -> `_`. Changes when the message moves."""
        return self.ews_id.replace("/", "-").replace("+", "_")


@dataclass(slots=True)
class StoredContact:
    """A contact in a mailbox at Microsoft. (Google's are kept by `google.book`, as Google's Person.)

    `properties` are those of Graph's contact, by Graph's names; what Exchange Web Services tell is translated from them, since
    both read the same store. `extended` are the other properties by their ids as Graph writes them, GUIDs in lower case: "String
    {guid} Name x", and "String 0x3A24" for the business fax, which Graph's contact has no name for.
    """

    folder: str  # id of a Folder
    properties: dict[str, Any]
    extended: dict[str, str] = field(default_factory=dict)
    categories: list[str] = field(default_factory=list)  # display names, in the order they were set
    immutable_id: str = field(default_factory=lambda: "AAkALgC" + uuid.uuid4().hex + uuid.uuid4().hex[:9])
    ews_id: str = field(default_factory=lambda: "AAMkC/" + uuid.uuid4().hex + "+" + uuid.uuid4().hex[:11] + "=")
    change: int = 1  # grows with each change; the changeKey and etag derive from it
    changed_at: datetime = field(default_factory=lambda: datetime.now(UTC))


@dataclass(slots=True)
class Folder:
    id: str
    name: str
    well_known: str | None = None  # "inbox", "sentitems", "drafts", "deleteditems", "contacts"
    kind: Literal["mail", "contacts"] = "mail"
    parent: str = ""  # id of the folder that it is in; "" at the top


class Tombstone(NamedTuple):
    """Remembers that an item left a folder: it was deleted, or moved to another."""

    change: int  # the mailbox's, at that moment
    folder: str
    immutable_id: str
    ews_id: str  # as it was in that folder


@dataclass(slots=True)
class MailboxState:
    """One person's mailbox. `tombstones` remember, for delta queries, what left a folder."""

    owner: Person
    folders: dict[str, Folder] = field(default_factory=dict)
    messages: dict[str, StoredMessage] = field(default_factory=dict)  # by immutable id
    categories: dict[str, Category] = field(default_factory=dict)  # by id
    contacts: dict[str, StoredContact] = field(default_factory=dict)  # by immutable id
    tombstones: list[Tombstone] = field(default_factory=list)
    change: int = 1

    def folder(self, well_known: str) -> Folder:
        return next(f for f in self.folders.values() if f.well_known == well_known)

    @property
    def mail_folders(self) -> list[Folder]:
        return [folder for folder in self.folders.values() if folder.kind == "mail"]

    def find(self, any_id: str) -> StoredMessage | None:
        """Return the message with this immutable, REST or EWS id."""
        found = self.messages.get(any_id)
        if found is None:
            found = next((m for m in self.messages.values() if any_id in (m.rest_id, m.ews_id)), None)
        return found

    def find_contact(self, any_id: str) -> StoredContact | None:
        """Return the contact with this immutable or EWS id."""
        found = self.contacts.get(any_id)
        return found or next((c for c in self.contacts.values() if c.ews_id == any_id), None)

    def touch(self, item: StoredMessage | StoredContact, now: datetime) -> None:
        """Record that the item changed: a new etag, and a new position for delta queries."""
        self.change += 1
        item.change = self.change
        item.changed_at = now

    def left(self, item: StoredMessage | StoredContact) -> None:
        """Record that the item leaves the folder it is in. Call it before the item gets another folder or another EWS id."""
        self.change += 1
        self.tombstones.append(Tombstone(self.change, item.folder, item.immutable_id, item.ews_id))


class Crm:
    """One C4C tenant's records: entity set -> ObjectID -> row. Knows nothing of OData; `simulator.c4c` enforces the rules.

    Rows of child sets carry ParentObjectID. `visible_to` limits a header record to some UserIDs (absent: everybody sees it).
    """

    def __init__(self) -> None:
        self.sets: dict[str, dict[str, Row]] = {}
        self.visible_to: dict[str, frozenset[str]] = {}  # ObjectID of a header record -> UserIDs
        self.record_locks: dict[str, str] = {}  # ObjectID -> UserID that holds the record right now
        self.unindexed: dict[str, datetime] = {}  # ObjectID -> when lists begin to show the record
        self.staffed: set[str] = set()  # EmployeeIDs whose person has rows in the employee sets
        self._ids = itertools.count(1)
        self._numbers: dict[str, int] = {}
        self._reads = itertools.count(1)

    def rows(self, entity_set: str) -> dict[str, Row]:
        return self.sets.setdefault(entity_set, {})

    def children(self, entity_set: str, parent: str) -> list[Row]:
        return [row for row in self.rows(entity_set).values() if row.get("ParentObjectID") == parent]

    def new_object_id(self) -> str:
        """32 upper-case hex digits, as C4C's ObjectID: unique and, per World, in a repeatable order."""
        return f"00163E{next(self._ids):026X}"

    def new_number(self, entity_set: str, prop: str, above: int) -> str:
        """The next human ID of a set: one more than the largest there is (or `above`), and never the same again."""
        last = self._numbers.get(entity_set)
        if last is None:
            used = (str(row.get(prop, "")) for row in self.rows(entity_set).values())
            last = max((int(number) for number in used if number.isdecimal()), default=above)
        self._numbers[entity_set] = last + 1
        return str(last + 1)

    def new_salt(self) -> int:
        """A number for each read of a list, by which rows that were not asked to be in order are shuffled."""
        return next(self._reads)


@dataclass(slots=True)
class C4CTenant:
    """What a tenant's administrator has set up for sign-in, and the sign-ins that are alive."""

    saml_issuer: str = "https://ssi.example.com/saml"  # the identity provider registered in C4C
    saml_certificate_pem: str = field(default="", repr=False)  # empty: no assertion is trusted
    audience: str = "HTTPS://my000001-sso.crm.example.com"  # "Local Service Provider"
    oauth_client_id: str = "_SSI_CLIENT"
    oauth_client_secret: str = field(default="simulated-oauth-secret", repr=False)
    token_lifetime_s: int = 3600
    locked_users: set[str] = field(default_factory=set)  # UserIDs
    locked_passwords: set[str] = field(default_factory=set)  # UserIDs that no password opens; single sign-on still does
    initial_passwords: set[str] = field(default_factory=set)  # UserIDs who must change theirs in C4C's own pages first
    tokens: dict[str, tuple[str, datetime]] = field(default_factory=dict, repr=False)  # -> (UserID, until)
    used_assertions: dict[str, datetime] = field(default_factory=dict, repr=False)  # ID -> until when it is remembered


class World:
    """Everything behind the vendors' ports. Make one with `simulator.demo.build()` or, for tests, `simulator.demo.small()`."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.people: list[Person] = []
        self.entra_tenant = "3f2c9a1e-6a57-4b1c-9a51-0d6f8f3f7a10"
        self.client_id = "7c1d2f60-9f2a-4c55-8a8e-2b9a6c4d1e01"
        self.client_secret = "simulated-client-secret"
        self.crm = Crm()
        self.c4c = C4CTenant()
        self.mailboxes: dict[str, MailboxState] = {}  # by lower-cased address
        self.cases: dict[str, tuple[str, str]] = {}  # case name -> (mailbox address, immutable id); see simulator.demo
        self.log: list[Event] = []
        self.access: list[Access] = []
        self.mails: list[CaughtMail] = []
        self.faults: list[Fault] = []
        self.gate: Gate | None = None
        self.latency: dict[str, Latency] = {}
        self.clock_skew = timedelta()
        self._seq = itertools.count(1)

    def now(self) -> datetime:
        """The vendors' clock, aware UTC; tests move it by `clock_skew`."""
        return datetime.now(UTC) + self.clock_skew

    def person(self, key: str) -> Person | None:
        """Find a person by address (any case), UserID, oid or EmployeeID."""
        low = key.lower()
        return next(
            (p for p in self.people if low in (p.email.lower(), p.user_id.lower(), p.object_id, p.employee_id.lower())), None
        )

    def tenant_of(self, person: Person) -> str:
        """Return the Entra tenant in which the person's account is."""
        return person.tenant or self.entra_tenant

    def happened(self, vendor: str, kind: str, actor: str, **detail: Any) -> Event:
        """Append to the log of what really happened. Call it where state changes, holding the lock."""
        with self.lock:
            event = Event(next(self._seq), self.now(), vendor, kind, actor, detail)
            self.log.append(event)
            return event

    def events(self, vendor: str | None = None, kind: str | None = None) -> list[Event]:
        with self.lock:
            return [e for e in self.log if vendor in (None, e.vendor) and kind in (None, e.kind)]

    def requests(self, vendor: str | None = None) -> list[Access]:
        with self.lock:
            return [a for a in self.access if vendor in (None, a.vendor)]

    def caught(self, **values: Any) -> None:
        with self.lock:
            self.mails.append(CaughtMail(seq=next(self._seq), at=self.now(), **values))

    def accessed(self, **values: Any) -> None:
        with self.lock:
            self.access.append(Access(seq=next(self._seq), at=self.now(), **values))

    def take_fault(self, vendor: str, method: str, path: str, kinds: frozenset[str] | None = None) -> Fault | None:
        """Return the first fault that matches and count it down; None when the request may go on unharmed."""
        line = f"{method} {path}"
        with self.lock:
            for fault in self.faults:
                if fault.vendor == vendor and fault.match in line and (kinds is None or fault.kind in kinds):
                    if fault.times is not None:
                        fault.times -= 1
                        if fault.times <= 0:
                            self.faults.remove(fault)
                    return fault
        return None

    def sleep_as(self, vendor: str, parts: int = 1, *, spent_s: float = 0.0) -> None:
        """Take as long as the vendor would, of which `spent_s` has passed already. Never call it with the lock held."""
        latency = self.latency.get(vendor)
        if latency is not None:
            time.sleep(max(0.0, (latency.base_ms + latency.per_part_ms * parts) / 1000 - spent_s))

    def mailbox(self, address: str) -> MailboxState:
        return self.mailboxes[address.lower()]

    def saved_activities(self, groupware_item_id: str | None = None) -> Iterator[Row]:
        """The e-mail activities in C4C, all or those of one message key: what a checker counts."""
        with self.lock:
            rows = list(self.crm.rows("EMailCollection").values())
        return (r for r in rows if groupware_item_id in (None, r.get("GroupwareItemID")))


GetWorld = Callable[[], World]
"""Vendors take this instead of a World, so that a test can give each test case a fresh one behind the same ports."""
