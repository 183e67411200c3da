"""The first schema: tenants, people, connections, saves, the spelling index, the audit trail."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.store import schema

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "audit",
        sa.Column("id", sa.Integer(), autoincrement=True, nullable=False),
        sa.Column("at", schema.UtcDateTime(), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=True),
        sa.Column("user_id", sa.String(length=32), nullable=True),
        sa.Column("action", sa.String(length=40), nullable=False),
        sa.Column("detail", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_audit")),
    )
    op.create_table(
        "tenant",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("wrapped_key", sa.LargeBinary(), nullable=False),
        sa.Column("c4c", sa.JSON(), nullable=False),
        sa.Column("c4c_secrets", sa.LargeBinary(), nullable=True),
        sa.Column("created_at", schema.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_tenant")),
        sa.UniqueConstraint("name", name=op.f("uq_tenant_name")),
    )
    op.create_table(
        "identity_tenant",
        sa.Column("issuer_tenant", sa.String(length=80), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_identity_tenant_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("issuer_tenant", name=op.f("pk_identity_tenant")),
    )
    op.create_table(
        "organization",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("name", sa.String(length=120), nullable=False),
        sa.Column("access_type", sa.String(length=40), nullable=False),
        sa.Column("admin_contact", sa.String(length=320), nullable=False),
        sa.Column("profile", sa.JSON(), nullable=False),
        sa.Column("service_account", sa.LargeBinary(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_organization_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_organization")),
        sa.UniqueConstraint("tenant_id", "name", name=op.f("uq_organization_tenant_id_name")),
    )
    op.create_table(
        "spelling",
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("address_hash", sa.LargeBinary(length=16), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("object_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_spelling_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("tenant_id", "address_hash", "type", "object_id", name=op.f("pk_spelling")),
    )
    op.create_table(
        "user",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("organization_id", sa.String(length=32), nullable=False),
        sa.Column("email", sa.String(length=320), nullable=False),
        sa.Column("email_key", sa.String(length=320), nullable=False),
        sa.Column("name", sa.String(length=255), nullable=False),
        sa.Column("c4c_user_id", sa.String(length=40), nullable=False),
        sa.Column("enabled", sa.Boolean(), nullable=False),
        sa.Column("generation", sa.Integer(), nullable=False),
        sa.Column("created_at", schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["organization_id"], ["organization.id"], name=op.f("fk_user_organization_id")),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_user_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_user")),
        sa.UniqueConstraint("tenant_id", "c4c_user_id", name=op.f("uq_user_tenant_id_c4c_user_id")),
        sa.UniqueConstraint("tenant_id", "email_key", name=op.f("uq_user_tenant_id_email_key")),
    )
    op.create_table(
        "address_scan",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("type", sa.String(length=20), nullable=False),
        sa.Column("changed_at", schema.UtcDateTime(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.Column("next_due_at", schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_address_scan_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_address_scan_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_address_scan")),
        sa.UniqueConstraint("user_id", "type", name=op.f("uq_address_scan_user_id_type")),
    )
    op.create_index("ix_address_scan_next_due_at", "address_scan", ["next_due_at"], unique=False)
    op.create_table(
        "connection",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("provider", sa.String(length=20), nullable=False),
        sa.Column("mailbox", sa.String(length=320), nullable=False),
        sa.Column("issuer_tenant", sa.String(length=80), nullable=False),
        sa.Column("state", sa.String(length=20), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("since", schema.UtcDateTime(), nullable=False),
        sa.Column("credentials", sa.LargeBinary(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_connection_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_connection_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_connection")),
        sa.UniqueConstraint("user_id", "provider", name=op.f("uq_connection_user_id_provider")),
    )
    op.create_table(
        "identity",
        sa.Column("issuer_tenant", sa.String(length=80), nullable=False),
        sa.Column("subject", sa.String(length=80), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_identity_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_identity_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("issuer_tenant", "subject", name=op.f("pk_identity")),
    )
    op.create_table(
        "save",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("message_key", sa.String(length=765), nullable=False),
        sa.Column("fingerprint", sa.String(length=64), nullable=False),
        sa.Column("activity_id", sa.String(length=32), nullable=True),
        sa.Column("activity_human_id", sa.String(length=40), nullable=True),
        sa.Column("saved_by", sa.String(length=32), nullable=True),
        sa.Column("saved_at", schema.UtcDateTime(), nullable=True),
        sa.Column("create_sent_at", schema.UtcDateTime(), nullable=True),
        sa.Column("fence", sa.Integer(), nullable=False),
        sa.Column("lease_until", schema.UtcDateTime(), nullable=True),
        sa.Column("created_at", schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(["saved_by"], ["user.id"], name=op.f("fk_save_saved_by"), ondelete="SET NULL"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_save_tenant_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_save")),
        sa.UniqueConstraint("tenant_id", "message_key", name=op.f("uq_save_tenant_id_message_key")),
    )
    op.create_table(
        "save_request",
        sa.Column("id", sa.String(length=32), nullable=False),
        sa.Column("tenant_id", sa.String(length=32), nullable=False),
        sa.Column("user_id", sa.String(length=32), nullable=False),
        sa.Column("save_id", sa.String(length=32), nullable=False),
        sa.Column("connection_id", sa.String(length=32), nullable=False),
        sa.Column("item_ref", sa.String(length=400), nullable=False),
        sa.Column("item_id", sa.String(length=400), nullable=False),
        sa.Column("wish", sa.Integer(), nullable=False),
        sa.Column("wish_hash", sa.LargeBinary(length=16), nullable=True),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("code", sa.String(length=40), nullable=False),
        sa.Column("reason", sa.String(length=400), nullable=False),
        sa.Column("payload", sa.LargeBinary(), nullable=True),
        sa.Column("links", sa.JSON(), nullable=False),
        sa.Column("mark", sa.String(length=20), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next_due_at", schema.UtcDateTime(), nullable=True),
        sa.Column("created_at", schema.UtcDateTime(), nullable=False),
        sa.Column("changed_at", schema.UtcDateTime(), nullable=False),
        sa.ForeignKeyConstraint(
            ["connection_id"], ["connection.id"], name=op.f("fk_save_request_connection_id"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["save_id"], ["save.id"], name=op.f("fk_save_request_save_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["tenant_id"], ["tenant.id"], name=op.f("fk_save_request_tenant_id"), ondelete="CASCADE"),
        sa.ForeignKeyConstraint(["user_id"], ["user.id"], name=op.f("fk_save_request_user_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_save_request")),
        sa.UniqueConstraint("save_id", "user_id", name=op.f("uq_save_request_save_id_user_id")),
    )
    op.create_index("ix_save_request_next_due_at", "save_request", ["next_due_at"], unique=False)
    op.create_index("ix_save_request_user_id_item_id", "save_request", ["user_id", "item_id"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_save_request_user_id_item_id", table_name="save_request")
    op.drop_index("ix_save_request_next_due_at", table_name="save_request")
    op.drop_table("save_request")
    op.drop_table("save")
    op.drop_table("identity")
    op.drop_table("connection")
    op.drop_index("ix_address_scan_next_due_at", table_name="address_scan")
    op.drop_table("address_scan")
    op.drop_table("user")
    op.drop_table("spelling")
    op.drop_table("organization")
    op.drop_table("identity_tenant")
    op.drop_table("tenant")
    op.drop_table("audit")
