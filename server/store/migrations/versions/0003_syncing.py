"""The sync engine: links, issues, followed threads, subscriptions, and what a session has to remember."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.store import schema

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    op.create_table(
        "followed_thread",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("conversation", sa.String(length=400), nullable=False),
        sa.Column("since", schema.UtcDateTime(), nullable=False),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connection.id"], name=op.f("fk_followed_thread_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_followed_thread_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_followed_thread_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_followed_thread")),
        sa.UniqueConstraint("connection_id", "conversation", name=op.f("uq_followed_thread_connection_id_conversation")),
    )
    op.create_table(
        "issue",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("kind", sa.String(length=20), nullable=False),
        sa.Column("key", sa.String(length=400), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("item_ref", sa.String(length=400), nullable=True),
        sa.Column("record_type", sa.String(length=20), nullable=True),
        sa.Column("record_id", sa.String(length=32), nullable=True),
        sa.Column("sealed", sa.LargeBinary(), nullable=True),
        sa.Column("choices", sa.JSON(), nullable=False),
        sa.Column("since", schema.UtcDateTime(), nullable=False),
        sa.Column("seen_at", schema.UtcDateTime(), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], name=op.f("fk_issue_connection_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_issue_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_issue_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_issue")),
        sa.UniqueConstraint("connection_id", "key", name=op.f("uq_issue_connection_id_key")),
    )
    op.create_index("ix_issue_user_id", "issue", ["user_id"], unique=False)
    op.create_table(
        "link",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("origin", sa.String(length=10), nullable=False),
        sa.Column("record_id", sa.String(length=32), nullable=True),
        sa.Column("item_ref", sa.String(length=400), nullable=True),
        sa.Column("item_name", sa.String(length=60), nullable=False),
        sa.Column("folder", sa.String(length=400), nullable=False),
        sa.Column("item_etag", sa.String(length=200), nullable=False),
        sa.Column("record_etag", sa.String(length=200), nullable=False),
        sa.Column("item_base", sa.Text(), nullable=False),
        sa.Column("record_base", sa.Text(), nullable=False),
        sa.Column("sent_at", schema.UtcDateTime(), nullable=True),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.ForeignKeyConstraint(["connection_id"], ["connection.id"], name=op.f("fk_link_connection_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_link_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_link_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_link")),
        sa.UniqueConstraint("connection_id", "item_ref", name=op.f("uq_link_connection_id_item_ref")),
        sa.UniqueConstraint("connection_id", "type", "record_id", name=op.f("uq_link_connection_id_type_record_id")),
    )
    op.create_table(
        "subscription",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("ref", sa.Text(), nullable=False),
        sa.Column("secret", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", schema.UtcDateTime(), nullable=True),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.Column("next_due_at", schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connection.id"], name=op.f("fk_subscription_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_subscription_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_subscription_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscription")),
        sa.UniqueConstraint("connection_id", name=op.f("uq_subscription_connection_id")),
    )
    op.create_index("ix_subscription_next_due_at", "subscription", ["next_due_at"], unique=False)
    op.add_column("address_scan", sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("address_scan", sa.Column("reason", sa.String(length=400), server_default=sa.text("''"), nullable=False))
    op.add_column("mailbox_sync", sa.Column("account", sa.String(length=400), server_default=sa.text("''"), nullable=False))
    op.add_column("mailbox_sync", sa.Column("cursor", sa.Text(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("crm_cursors", sa.JSON(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("employee_id", sa.String(length=20), server_default=sa.text("''"), nullable=False))
    op.add_column("mailbox_sync", sa.Column("checked_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("swept_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("first_done_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("began_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("forced_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("woken_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("failures", sa.Integer(), server_default=sa.text("0"), nullable=False))
    op.add_column("mailbox_sync", sa.Column("suspended_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("allowed_at", schema.UtcDateTime(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("uploads", sa.String(length=5), server_default=sa.text("'ask'"), nullable=False))
    op.add_column("mailbox_sync", sa.Column("counts", sa.JSON(), nullable=True))
    op.add_column("mailbox_sync", sa.Column("facts", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE mailbox_sync SET reason = ''")  # sentences until now, codes from now on
    op.add_column("save_request", sa.Column("said", sa.LargeBinary(), nullable=True))
    op.execute("UPDATE save_request SET reason = 'It was refused.' WHERE code = 'rejected'")  # they may quote somebody
    op.add_column("user", sa.Column("settings", sa.JSON(), nullable=True))
    op.add_column("user", sa.Column("language", sa.String(length=10), server_default=sa.text("''"), nullable=False))


def downgrade() -> None:
    op.drop_column("user", "language")
    op.drop_column("user", "settings")
    op.drop_column("save_request", "said")
    op.drop_column("mailbox_sync", "facts")
    op.drop_column("mailbox_sync", "counts")
    op.drop_column("mailbox_sync", "uploads")
    op.drop_column("mailbox_sync", "allowed_at")
    op.drop_column("mailbox_sync", "suspended_at")
    op.drop_column("mailbox_sync", "failures")
    op.drop_column("mailbox_sync", "woken_at")
    op.drop_column("mailbox_sync", "forced_at")
    op.drop_column("mailbox_sync", "began_at")
    op.drop_column("mailbox_sync", "first_done_at")
    op.drop_column("mailbox_sync", "swept_at")
    op.drop_column("mailbox_sync", "checked_at")
    op.drop_column("mailbox_sync", "employee_id")
    op.drop_column("mailbox_sync", "crm_cursors")
    op.drop_column("mailbox_sync", "cursor")
    op.drop_column("mailbox_sync", "account")
    op.drop_column("address_scan", "reason")
    op.drop_column("address_scan", "attempts")
    op.drop_index("ix_subscription_next_due_at", table_name="subscription")
    op.drop_table("subscription")
    op.drop_table("link")
    op.drop_index("ix_issue_user_id", table_name="issue")
    op.drop_table("issue")
    op.drop_table("followed_thread")
