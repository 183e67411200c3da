"""Tables. Constraints stand here and not only in code; the queries are in `server.store`.

Every row belongs to a tenant, and to a user where it is a person's. Ids are random 128-bit hex texts. Content of mails and
records is never stored but sealed: `save_request.payload`, erased at a final state, and what causes quote.
"""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time; SQLite keeps none of the zone, so it is put back on reading."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)

_ID = String(32)


def _tenant() -> Column[str]:
    return Column("tenant_id", _ID, ForeignKey("tenant.id", ondelete="CASCADE"), nullable=False)


def _user() -> Column[str]:
    return Column("user_id", _ID, ForeignKey("user.id", ondelete="CASCADE"), nullable=False)


tenant = Table(
    "tenant",
    metadata,
    Column("id", _ID, primary_key=True),
    Column("name", String(120), nullable=False, unique=True),
    Column("wrapped_key", LargeBinary, nullable=False),  # the tenant's data key, wrapped by the key-encryption key
    Column("c4c", JSON, nullable=False),  # server.store.C4CSettings without secrets
    Column("c4c_secrets", LargeBinary),  # sealed JSON: SAML signing key, OAuth client secret
    Column("created_at", UtcDateTime, nullable=False),
)

identity_tenant = Table(
    "identity_tenant",
    metadata,
    Column("issuer_tenant", String(80), primary_key=True),  # Entra tid, or domain at Google, that may sign in to this C4C tenant
    _tenant(),
)

organization = Table(
    "organization",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    Column("name", String(120), nullable=False),
    Column("access_type", String(40), nullable=False),
    Column("admin_contact", String(320), nullable=False),
    Column("profile", JSON, nullable=False),
    Column("service_account", LargeBinary),  # sealed: how Exchange's Impersonation signs in for its people
    Column("ews_url", String(400), nullable=False, server_default=text("''")),  # of Exchange; "": to be discovered
    UniqueConstraint("tenant_id", "name"),
)

user = Table(
    "user",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    Column("organization_id", _ID, ForeignKey("organization.id"), nullable=False),
    Column("email", String(320), nullable=False),
    Column("email_key", String(320), nullable=False),  # lower case, for uniqueness
    Column("name", String(255), nullable=False),
    Column("c4c_user_id", String(40), nullable=False),
    Column("enabled", Boolean, nullable=False),
    Column("generation", Integer, nullable=False),  # grows when this user's cached lookups are no longer true
    Column("created_at", UtcDateTime, nullable=False),
    Column("other_mailbox", String(320), nullable=False, server_default=text("''")),  # allowed beside `email`
    Column("sidebar_seen_at", UtcDateTime),  # the sidebar's first call since the mailbox was connected
    Column("settings", JSON),  # what the person chose instead of the profile's
    Column("language", String(10), nullable=False, server_default=text("''")),  # "": not known
    UniqueConstraint("tenant_id", "email_key"),
    UniqueConstraint("tenant_id", "c4c_user_id"),
)

identity = Table(
    "identity",
    metadata,
    Column("issuer_tenant", String(80), primary_key=True),
    Column("subject", String(80), primary_key=True),  # Entra oid or Google sub; one identity belongs to one user
    _tenant(),
    _user(),
)

connection = Table(
    "connection",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("provider", String(20), nullable=False),  # "graph", "exchange", "google"; later "c4c" for Basic credentials
    Column("mailbox", String(320), nullable=False),
    Column("issuer_tenant", String(80), nullable=False),
    Column("state", String(20), nullable=False),  # active, needs_reauth, suspended, disconnected
    Column("reason", String(400), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("credentials", LargeBinary),  # sealed refresh token, or address and password; see server.auth
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("account_key", String(400)),  # "<provider>:<account>": a mailbox has one connection; null while it is disconnected
    Column("mailbox_key", String(400)),  # "<tenant>:<address>", lower case: the same within a tenant
    UniqueConstraint("user_id", "provider"),
    Index("ix_connection_account_key", "account_key", unique=True),
    Index("ix_connection_mailbox_key", "mailbox_key", unique=True),
)

mailbox_sync = Table(
    "mailbox_sync",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("state", String(10), nullable=False),  # queued, running, done, failed
    Column("phase", String(20), nullable=False),  # what it is at: see server.sync
    Column("done", Integer, nullable=False),  # steps of the phases so far
    Column("total", Integer, nullable=False),
    Column("reason", String(400), nullable=False),  # code of why it failed, or is put off: server.domain.sentences
    Column("marks", JSON, nullable=False),  # mark id -> [ref, name] of our categories in this mailbox
    Column("folders", JSON, nullable=False),  # folder id -> [ref, name]
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),  # null: nothing to do
    Column("finished_at", UtcDateTime),  # of the last session that ended well
    Column("account", String(400), nullable=False, server_default=text("''")),  # whose mailbox all of this is about
    Column("cursor", Text),  # of the mailbox's changes
    Column("crm_cursors", JSON),  # person type -> ISO time up to which C4C was read
    Column("employee_id", String(20), nullable=False, server_default=text("''")),
    Column("checked_at", UtcDateTime),  # when the definitions of marks and folders were right
    Column("swept_at", UtcDateTime),  # when all linked records were last looked for
    Column("first_done_at", UtcDateTime),
    Column("began_at", UtcDateTime),
    Column("forced_at", UtcDateTime),
    Column("woken_at", UtcDateTime),  # when something last asked for a session, perhaps while one was under way
    Column("failures", Integer, nullable=False, server_default=text("0")),  # sessions in a row
    Column("suspended_at", UtcDateTime),
    Column("allowed_at", UtcDateTime),  # a person's yes to what the guard held back
    Column("uploads", String(5), nullable=False, server_default=text("'ask'")),  # ask, yes, no
    Column("counts", JSON),
    Column("facts", LargeBinary),  # sealed, of the reason
    Index("ix_mailbox_sync_next_due_at", "next_due_at"),
)

link = Table(
    "link",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False),
    Column("type", String(20), nullable=False),  # contact, account, individual_customer
    Column("state", String(20), nullable=False),  # server.store.LinkState
    Column("origin", String(10), nullable=False),  # who had it first: mailbox, c4c
    Column("record_id", String(32)),
    Column("item_ref", String(400)),
    Column("item_name", String(60), nullable=False),  # of a contact that we created, see server.store.Link
    Column("folder", String(400), nullable=False),
    Column("item_etag", String(200), nullable=False),
    Column("record_etag", String(200), nullable=False),
    Column("item_base", Text, nullable=False),  # keyed hashes of values, see server.sync.mapping
    Column("record_base", Text, nullable=False),
    Column("sent_at", UtcDateTime),  # a create went out and its outcome is not known
    Column("code", String(40), nullable=False),
    UniqueConstraint("connection_id", "type", "record_id"),
    UniqueConstraint("connection_id", "item_ref"),
)

issue = Table(
    "issue",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(20), nullable=False),  # server.store.IssueKind
    Column("key", String(400), nullable=False),
    Column("code", String(40), nullable=False),
    Column("item_ref", String(400)),
    Column("record_type", String(20)),
    Column("record_id", String(32)),
    Column("sealed", LargeBinary),  # the item's name, and values that lost a conflict
    Column("choices", JSON, nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("seen_at", UtcDateTime, nullable=False),
    Column("tries", Integer, nullable=False),
    UniqueConstraint("connection_id", "key"),
    Index("ix_issue_user_id", "user_id"),
)

followed_thread = Table(
    "followed_thread",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False),
    Column("conversation", String(400), nullable=False),
    Column("since", UtcDateTime, nullable=False),
    Column("sealed", LargeBinary),  # what it is called
    UniqueConstraint("connection_id", "conversation"),
)

subscription = Table(
    "subscription",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False, unique=True),
    Column("ref", Text, nullable=False),  # the provider's; "" while there is none
    Column("secret", LargeBinary),  # sealed
    Column("expires_at", UtcDateTime),
    Column("reason", String(400), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),
    Index("ix_subscription_next_due_at", "next_due_at"),
)

notice = Table(
    "notice",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False),
    Column("kind", String(20), nullable=False),  # mailbox_broken, sync_failing
    Column("reason", String(400), nullable=False),  # the cause, our own sentence
    Column("since", UtcDateTime, nullable=False),  # when it happened; of one connection and time there is one mail
    Column("outcome", String(400), nullable=False),  # why it was not sent; "" while it waits and when it was
    Column("attempts", Integer, nullable=False),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),
    Column("sent_at", UtcDateTime),
    UniqueConstraint("connection_id", "since"),
    Index("ix_notice_next_due_at", "next_due_at"),
)

page_session = Table(
    "page_session",
    metadata,
    Column("token_hash", LargeBinary(32), primary_key=True),  # SHA-256 of what the browser, or the pane, holds
    _tenant(),
    _user(),
    Column("purpose", String(10), nullable=False),  # pages, pane
    Column("made_from", LargeBinary(32)),  # hash of the page session that a pane's was made from
    Column("authenticated_at", UtcDateTime, nullable=False),  # when the person last proved who they are
    Column("seen_at", UtcDateTime, nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_page_session_expires_at", "expires_at"),
)

flow = Table(
    "flow",
    metadata,
    Column("state_hash", LargeBinary(32), primary_key=True),  # SHA-256 of the state that went to the provider
    Column("browser_hash", LargeBinary(32), nullable=False),  # SHA-256 of the secret of the browser that began it
    _tenant(),
    Column("user_id", _ID, ForeignKey("user.id", ondelete="CASCADE")),  # whose mailbox; null for signing in to the pages
    Column("service", String(20), nullable=False),
    Column("kept", LargeBinary, nullable=False),  # sealed: PKCE verifier, nonce
    Column("next_path", String(400), nullable=False),
    Column("expires_at", UtcDateTime, nullable=False),
    Index("ix_flow_expires_at", "expires_at"),
)

used_action = Table(
    "used_action",
    metadata,
    Column("nonce", String(32), primary_key=True),  # of a button on a card that writes, and was pressed
    Column("expires_at", UtcDateTime, nullable=False),  # then the button is refused by itself
    Index("ix_used_action_expires_at", "expires_at"),
)

save = Table(
    "save",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    Column("message_key", String(765), nullable=False),
    Column("fingerprint", String(64), nullable=False),
    Column("activity_id", String(32)),  # ObjectID, once it is known for certain
    Column("activity_human_id", String(40)),
    Column("saved_by", _ID, ForeignKey("user.id", ondelete="SET NULL")),
    Column("saved_at", UtcDateTime),
    Column("create_sent_at", UtcDateTime),  # set before a create goes out, cleared when its outcome is known
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    UniqueConstraint("tenant_id", "message_key"),
)

save_request = Table(
    "save_request",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("save_id", _ID, ForeignKey("save.id", ondelete="CASCADE"), nullable=False),
    Column("connection_id", _ID, ForeignKey("connection.id", ondelete="CASCADE"), nullable=False),
    Column("item_ref", String(400), nullable=False),  # the mailbox's immutable id
    Column("item_id", String(400), nullable=False),  # the id as the pane named it, to find a message without Message-ID
    Column("wish", Integer, nullable=False),  # grows with each new wish, so that none is taken for done with an older one
    Column("wish_hash", LargeBinary(16)),  # keyed hash of the wish, by which the same one is known again
    Column("state", String(10), nullable=False),  # pending, unknown, saved, failed
    Column("code", String(40), nullable=False),
    Column("reason", String(400), nullable=False),  # our own sentence, no content
    Column("said", LargeBinary),  # sealed: the whole reason, where it quotes somebody
    Column("payload", LargeBinary),  # sealed wish; erased at a final state
    Column("links", JSON, nullable=False),  # [[type, ObjectID], ...] that are in C4C by this request
    Column("mark", String(20), nullable=False),  # what the message must carry; "" when the mailbox has it
    Column("attempts", Integer, nullable=False),
    Column("next_due_at", UtcDateTime),  # null: nothing left to do
    Column("created_at", UtcDateTime, nullable=False),  # of the wish that stands
    Column("changed_at", UtcDateTime, nullable=False),
    UniqueConstraint("save_id", "user_id"),
    Index("ix_save_request_next_due_at", "next_due_at"),
    Index("ix_save_request_user_id_item_id", "user_id", "item_id"),
)

spelling = Table(
    "spelling",
    metadata,
    Column("tenant_id", _ID, ForeignKey("tenant.id", ondelete="CASCADE"), primary_key=True),
    Column("address_hash", LargeBinary(16), primary_key=True),  # keyed hash of the lower-cased address
    Column("type", String(20), primary_key=True),
    Column("object_id", String(32), primary_key=True),
)

address_scan = Table(
    "address_scan",
    metadata,
    Column("id", _ID, primary_key=True),
    _tenant(),
    _user(),
    Column("type", String(20), nullable=False),
    Column("changed_at", UtcDateTime),  # cursor: everything that changed before it was read
    Column("attempts", Integer, nullable=False, server_default=text("0")),
    Column("reason", String(400), nullable=False, server_default=text("''")),
    Column("fence", Integer, nullable=False),
    Column("lease_until", UtcDateTime),
    Column("next_due_at", UtcDateTime),
    UniqueConstraint("user_id", "type"),
    Index("ix_address_scan_next_due_at", "next_due_at"),
)

audit = Table(
    "audit",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=True),
    Column("at", UtcDateTime, nullable=False),
    Column("tenant_id", _ID),
    Column("user_id", _ID),
    Column("action", String(40), nullable=False),
    Column("detail", Text, nullable=False),  # ids only, never content
)
