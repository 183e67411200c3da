"""Connecting a mailbox: page sessions, flows, first sessions, notices, and whose a mailbox is."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.store import schema

revision = "0002"
down_revision = "0001"


CLAIM = """
UPDATE connection SET mailbox_key = tenant_id || ':' || lower(mailbox)
WHERE NOT EXISTS (
    SELECT 1 FROM connection AS other
    WHERE other.id <> connection.id AND other.tenant_id = connection.tenant_id
        AND lower(other.mailbox) = lower(connection.mailbox)
)
"""
"""A mailbox that only one connection names belongs to that one; who shares one claims it when they connect it anew."""


def upgrade() -> None:
    op.create_table(
        "flow",
        sa.Column("state_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("browser_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=True),
        sa.Column("service", sa.String(length=20), nullable=False),
        sa.Column("kept", sa.LargeBinary(), nullable=False),
        sa.Column("next_path", sa.String(length=400), nullable=False),
        sa.Column("expires_at", schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_flow_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_flow_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("state_hash", name=op.f("pk_flow")),
    )
    op.create_index("ix_flow_expires_at", "flow", ["expires_at"], unique=False)
    op.create_table(
        "page_session",
        sa.Column("token_hash", sa.LargeBinary(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("purpose", sa.String(length=10), nullable=False),
        sa.Column("made_from", sa.LargeBinary(length=32), nullable=True),
        sa.Column("authenticated_at", schema.UtcDateTime(), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(), nullable=False),
        sa.Column("expires_at", schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_page_session_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_page_session_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("token_hash", name=op.f("pk_page_session")),
    )
    op.create_index("ix_page_session_expires_at", "page_session", ["expires_at"], unique=False)
    op.create_table(
        "mailbox_sync",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("phase", sa.String(length=20), nullable=False),
        sa.Column("done", sa.Integer(), nullable=False),
        sa.Column("total", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("marks", sa.JSON(), nullable=False),
        sa.Column("folders", sa.JSON(), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.Column("next_due_at", schema.UtcDateTime(), nullable=True),
        sa.Column("finished_at", schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connection.id"], name=op.f("fk_mailbox_sync_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_mailbox_sync_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_mailbox_sync_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_mailbox_sync")),
        sa.UniqueConstraint("connection_id", name=op.f("uq_mailbox_sync_connection_id")),
    )
    op.create_index("ix_mailbox_sync_next_due_at", "mailbox_sync", ["next_due_at"], unique=False)
    op.create_table(
        "notice",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("since", schema.UtcDateTime(), nullable=False),
        sa.Column("outcome", sa.String(length=400), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.Column("next_due_at", schema.UtcDateTime(), nullable=True),
        sa.Column("sent_at", schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], name=op.f("fk_notice_connection_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_notice_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_notice_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_notice")),
        sa.UniqueConstraint("connection_id", "since", name=op.f("uq_notice_connection_id_since")),
    )
    op.create_index("ix_notice_next_due_at", "notice", ["next_due_at"], unique=False)
    op.add_column("connection", sa.Column("account_key", sa.String(length=400), nullable=True))
    op.add_column("connection", sa.Column("mailbox_key", sa.String(length=400), nullable=True))
    op.execute(CLAIM)
    op.create_index("ix_connection_account_key", "connection", ["account_key"], unique=True)
    op.create_index("ix_connection_mailbox_key", "connection", ["mailbox_key"], unique=True)
    op.add_column("organization", sa.Column("ews_url", sa.String(length=400), server_default=sa.text("''"), nullable=False))
    op.add_column("user", sa.Column("other_mailbox", sa.String(length=320), server_default=sa.text("''"), nullable=False))
    op.add_column("user", sa.Column("sidebar_seen_at", schema.UtcDateTime(), nullable=True))


def downgrade() -> None:
    op.drop_column("user", "sidebar_seen_at")
    op.drop_column("user", "other_mailbox")
    op.drop_column("organization", "ews_url")
    op.drop_index("ix_connection_mailbox_key", table_name="connection")
    op.drop_index("ix_connection_account_key", table_name="connection")
    op.drop_column("connection", "mailbox_key")
    op.drop_column("connection", "account_key")
    op.drop_index("ix_notice_next_due_at", table_name="notice")
    op.drop_table("notice")
    op.drop_index("ix_mailbox_sync_next_due_at", table_name="mailbox_sync")
    op.drop_table("mailbox_sync")
    op.drop_index("ix_page_session_expires_at", table_name="page_session")
    op.drop_table("page_session")
    op.drop_index("ix_flow_expires_at", table_name="flow")
    op.drop_table("flow")
