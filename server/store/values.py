"""What the store hands out, plain and frozen, and how it is read from rows."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime
from typing import Any, Literal

import sqlalchemy as sa

from server.domain.marks import FolderId, MarkId, SaveState
from server.domain.people import PersonType
from server.domain.profile import Profile
from server.domain.records import RecordRef, RecordType
from server.errors import InvalidInput

Provider = Literal["graph", "exchange", "google", "c4c"]
AccessType = Literal["office365", "exchange_direct", "google", "exchange_impersonation", "user_choice"]
ConnectionState = Literal["active", "needs_reauth", "suspended", "disconnected"]
"""suspended: by an administrator. disconnected: by its owner, until they connect it again."""
SyncStatus = Literal["queued", "running", "done", "failed"]
Purpose = Literal["pages", "pane"]
Uploads = Literal["ask", "yes", "no"]
LinkState = Literal["creating_item", "creating_record", "linked", "held", "ignored"]
"""creating_...: that side is being made. held: the contact waits for a person's yes. ignored: not mirrored until told to."""
LinkOrigin = Literal["mailbox", "c4c"]
IssueKind = Literal["email", "contact", "account", "individual_customer", "mailbox"]

CHANGE = "change"
"""Code of a request whose message was saved before its present wish: whatever becomes of the wish, C4C has the message."""


@dataclass(frozen=True, slots=True)
class C4CSettings:
    """How one C4C tenant is reached. Secrets are apart, sealed. Codes are the tenant's own code-list values."""

    url: str  # OData service root, ends with /c4codataapi/
    token_url: str = ""  # OAuth token endpoint (SAML bearer)
    auth: Literal["saml", "basic"] = "saml"
    saml_issuer: str = ""
    saml_audience: str = ""  # the tenant's "Local Service Provider"
    oauth_client_id: str = ""
    saml_certificate: str = ""  # PEM, what the C4C administrator uploads
    links: Mapping[str, Any] = field(default_factory=dict)  # see server.c4c.DeepLinks
    codes: Mapping[str, Any] = field(default_factory=dict)  # see server.c4c.Codes
    parallel: bool = False  # parallel reads instead of one $batch, where a tenant is faster so
    oidc: Mapping[str, Any] = field(default_factory=dict)  # where people sign in; {}: at C4C itself


@dataclass(frozen=True, slots=True)
class Tenant:
    id: str
    name: str
    wrapped_key: bytes = field(repr=False)
    c4c: C4CSettings
    c4c_secrets: bytes | None = field(repr=False)


@dataclass(frozen=True, slots=True)
class Organization:
    id: str
    tenant_id: str
    name: str
    access_type: str
    admin_contact: str
    profile: Profile
    service_account: bytes | None = field(default=None, repr=False)  # sealed; only the TokenVault opens it
    ews_url: str = ""


@dataclass(frozen=True, slots=True)
class User:
    id: str
    tenant_id: str
    organization_id: str
    email: str
    name: str
    c4c_user_id: str
    enabled: bool
    generation: int
    other_mailbox: str = ""  # an address whose mailbox the person may connect beside that of `email`
    sidebar_seen_at: datetime | None = None  # the sidebar's first call since the mailbox was connected
    settings: Mapping[str, Any] = field(default_factory=dict)  # what the person chose instead of the profile's
    language: str = ""  # of what we write to them and of our names in their mailbox: "en", "de"; "" not known

    @property
    def mailboxes(self) -> frozenset[str]:
        """The addresses whose mailbox the person may connect, in lower case."""
        return frozenset({self.email.lower(), self.other_mailbox.lower()} - {""})


@dataclass(frozen=True, slots=True)
class Principal:
    """The verified caller, with what every use case needs of them. Every stored row is reached through one."""

    tenant: Tenant
    organization: Organization
    user: User

    @property
    def profile(self) -> Profile:
        """The settings that are in effect for this person; one that cannot be had any more shuts nobody out."""
        standard = self.organization.profile
        try:
            return standard.with_own(self.user.settings)
        except InvalidInput:
            return standard.with_own(standard.possible(self.user.settings))


@dataclass(frozen=True, slots=True)
class Connection:
    """A user's link to a mailbox. `credentials` is sealed; only the TokenVault opens it."""

    id: str
    tenant_id: str
    user_id: str
    provider: Provider
    mailbox: str
    issuer_tenant: str
    state: str
    reason: str
    since: datetime
    credentials: bytes | None = field(repr=False)
    account_key: str | None = None  # "<provider>:<the provider's id of the account>", once the mailbox was asked


@dataclass(frozen=True, slots=True)
class MailboxSync:
    """What the sync engine knows of one mailbox, and how far its session is."""

    id: str
    tenant_id: str
    user_id: str
    connection_id: str
    state: SyncStatus
    phase: str
    done: int
    total: int
    reason: str  # code of why the last session failed, see `server.domain.sentences`
    marks: Mapping[MarkId, tuple[str, str]]  # ref and name of our categories there
    folders: Mapping[FolderId, tuple[str, str]]
    attempts: int  # at this session, by whoever began it
    fence: int
    finished_at: datetime | None  # of the last session that ended well
    account: str = ""  # whose mailbox all of this is about: the connection's account, or its address
    cursor: str | None = None  # of `Mailbox.changes`
    crm_cursors: Mapping[str, datetime] = field(default_factory=dict)  # scope -> C4C's changes of it were read up to here
    employee_id: str = ""  # of the person, in C4C
    checked_at: datetime | None = None  # when the definitions of marks and folders were right
    swept_at: datetime | None = None  # when all linked records were last looked for in C4C
    first_done_at: datetime | None = None  # when everything had been brought down for the first time
    began_at: datetime | None = None  # the session that is under way, or the last one
    forced_at: datetime | None = None  # when somebody last asked for a session
    failures: int = 0  # sessions in a row that failed
    suspended_at: datetime | None = None  # by its owner
    allowed_at: datetime | None = None  # when a person last said yes to what the guard held back
    uploads: Uploads = "ask"  # contacts that were in our folders before we were
    counts: Mapping[str, int] = field(default_factory=dict)  # of the last session: what was done, by name
    next_due_at: datetime | None = None
    lease_until: datetime | None = None
    facts: bytes | None = field(default=None, repr=False)  # sealed, of the reason


@dataclass(frozen=True, slots=True)
class Link:
    """A contact in the mailbox and the record in C4C that are the same person.

    The bases are keyed hashes of the mirrored values when the two last agreed, each side's own, see `server.sync.mapping`.
    """

    id: str
    tenant_id: str
    user_id: str
    connection_id: str
    type: PersonType
    state: LinkState
    origin: LinkOrigin
    record_id: str | None = None
    item_ref: str | None = None
    item_name: str = ""  # what the mailbox keeps on a contact that we created: `id`, and which session made it
    folder: str = ""  # ref of the contact's folder
    item_etag: str = ""
    record_etag: str = ""
    item_base: str = ""
    record_base: str = ""
    sent_at: datetime | None = None  # when a create went out whose outcome is not known
    code: str = ""  # why it is ignored or held


@dataclass(frozen=True, slots=True)
class Issue:
    """One item that could not be synchronized, or a question. Nothing that it tells of the item is in the clear."""

    id: str
    tenant_id: str
    user_id: str
    connection_id: str
    kind: IssueKind
    key: str  # what it is about, once per connection
    code: str
    item_ref: str | None = None
    record_type: RecordType | None = None
    record_id: str | None = None
    sealed: bytes | None = field(default=None, repr=False)
    choices: tuple[str, ...] = ()  # answers that may be given
    since: datetime | None = None
    seen_at: datetime | None = None  # when it was last found to be so
    tries: int = 0


@dataclass(frozen=True, slots=True)
class FollowedThread:
    """A conversation whose further messages are saved."""

    id: str
    connection_id: str
    conversation: str
    since: datetime
    sealed: bytes | None = field(default=None, repr=False)  # what it is called


@dataclass(frozen=True, slots=True)
class HookSubscription:
    """An order for notifications of one mailbox. Its id is in the address that the provider calls."""

    id: str
    tenant_id: str
    user_id: str
    connection_id: str
    ref: str  # the provider's, opaque; "" while there is none
    secret: bytes | None = field(repr=False)  # sealed
    expires_at: datetime | None
    attempts: int
    fence: int
    reason: str = ""
    next_due_at: datetime | None = None  # when it is to be renewed, or tried again


@dataclass(frozen=True, slots=True)
class Notice:
    """An e-mail that we owe somebody."""

    id: str
    tenant_id: str
    user_id: str
    connection_id: str
    kind: str
    reason: str
    since: datetime
    attempts: int
    fence: int


@dataclass(frozen=True, slots=True)
class PageSession:
    """Somebody who is signed in to our pages, or a pane that got a token from them."""

    tenant_id: str
    user_id: str
    authenticated_at: datetime
    seen_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Flow:
    """A sign-in elsewhere that is under way: what was kept when its browser left."""

    state_hash: bytes
    browser_hash: bytes
    tenant_id: str
    user_id: str | None
    service: str
    kept: bytes = field(repr=False)  # sealed
    next_path: str
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Save:
    """ "This message is in C4C", one per tenant and message key."""

    id: str
    tenant_id: str
    message_key: str
    fingerprint: str
    activity_id: str | None
    activity_human_id: str | None
    saved_by: str | None
    saved_at: datetime | None
    create_sent_at: datetime | None


@dataclass(frozen=True, slots=True)
class SaveRequest:
    """One user's wish on a Save. Its id is what the API calls the save's id.

    `wish` counts the wishes; what is recorded about an older one is refused. `mark` is what the message must still get.
    """

    id: str
    tenant_id: str
    user_id: str
    save_id: str
    connection_id: str
    item_ref: str
    wish: int
    wish_hash: bytes | None
    state: SaveState
    code: str
    reason: str
    said: bytes | None = field(repr=False)  # sealed: the whole reason, where it quotes somebody
    payload: bytes | None = field(repr=False)
    links: tuple[RecordRef, ...]
    mark: str
    attempts: int
    next_due_at: datetime | None
    wished_at: datetime


@dataclass(frozen=True, slots=True)
class AddressScan:
    """One user's reading of one record type's addresses for the tenant's spelling index."""

    id: str
    tenant_id: str
    user_id: str
    type: RecordType
    changed_at: datetime | None
    fence: int
    attempts: int = 0  # in a row that failed


def account_key(provider: str, account: str) -> str:
    """Return by what a mailbox is known to be the same one; `account` is the provider's id of it."""
    return f"{provider}:{account}"[:400]


def new_id() -> str:
    return secrets.token_hex(16)


class Prefixed:
    """The columns of one table in a joined row."""

    def __init__(self, row: sa.Row[Any], table: str) -> None:
        self._row = row
        self._table = table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._row, f"{self._table}__{name}")


def tenant_in(row: Any) -> Tenant:
    return Tenant(row.id, row.name, row.wrapped_key, C4CSettings(**row.c4c), row.c4c_secrets)


def organization_in(row: Any) -> Organization:
    profile = Profile.from_json(row.profile)
    return Organization(
        row.id, row.tenant_id, row.name, row.access_type, row.admin_contact, profile, row.service_account, row.ews_url
    )


def user_in(row: Any) -> User:
    return User(
        row.id,
        row.tenant_id,
        row.organization_id,
        row.email,
        row.name,
        row.c4c_user_id,
        row.enabled,
        row.generation,
        row.other_mailbox,
        row.sidebar_seen_at,
        row.settings or {},
        row.language,
    )


def connection_in(row: Any) -> Connection:
    return Connection(
        row.id,
        row.tenant_id,
        row.user_id,
        row.provider,
        row.mailbox,
        row.issuer_tenant,
        row.state,
        row.reason,
        row.since,
        row.credentials,
        row.account_key,
    )


def mailbox_sync_in(row: Any) -> MailboxSync:
    values = {f.name: getattr(row, f.name) for f in fields(MailboxSync)}
    values["marks"] = {mark: tuple(kept) for mark, kept in row.marks.items()}
    values["folders"] = {folder: tuple(kept) for folder, kept in row.folders.items()}
    values["crm_cursors"] = {kind: datetime.fromisoformat(at) for kind, at in (row.crm_cursors or {}).items()}
    values["counts"] = row.counts or {}
    return MailboxSync(**values)


def link_in(row: Any) -> Link:
    return Link(**{f.name: getattr(row, f.name) for f in fields(Link)})


def issue_in(row: Any) -> Issue:
    return Issue(**{f.name: getattr(row, f.name) for f in fields(Issue)} | {"choices": tuple(row.choices)})


def thread_in(row: Any) -> FollowedThread:
    return FollowedThread(**{f.name: getattr(row, f.name) for f in fields(FollowedThread)})


def subscription_in(row: Any) -> HookSubscription:
    return HookSubscription(**{f.name: getattr(row, f.name) for f in fields(HookSubscription)})


def notice_in(row: Any) -> Notice:
    return Notice(row.id, row.tenant_id, row.user_id, row.connection_id, row.kind, row.reason, row.since, row.attempts, row.fence)


def scan_in(row: Any) -> AddressScan:
    return AddressScan(row.id, row.tenant_id, row.user_id, row.type, row.changed_at, row.fence, row.attempts)


def save_in(row: Any) -> Save:
    return Save(
        row.id,
        row.tenant_id,
        row.message_key,
        row.fingerprint,
        row.activity_id,
        row.activity_human_id,
        row.saved_by,
        row.saved_at,
        row.create_sent_at,
    )


def request_in(row: Any) -> SaveRequest:
    return SaveRequest(
        row.id,
        row.tenant_id,
        row.user_id,
        row.save_id,
        row.connection_id,
        row.item_ref,
        row.wish,
        row.wish_hash,
        row.state,
        row.code,
        row.reason,
        row.said,
        row.payload,
        tuple(RecordRef(kind, object_id) for kind, object_id in row.links),
        row.mark,
        row.attempts,
        row.next_due_at,
        row.created_at,
    )
