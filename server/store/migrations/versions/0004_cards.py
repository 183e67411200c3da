"""Cards in Gmail: the buttons that work once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from server.store import schema

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    op.create_table(
        "used_action",
        sa.Column("nonce", sa.String(length=32), nullable=False),
        sa.Column("expires_at", schema.UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("nonce", name=op.f("pk_used_action")),
    )
    op.create_index("ix_used_action_expires_at", "used_action", ["expires_at"], unique=False)


def downgrade() -> None:
    op.drop_index("ix_used_action_expires_at", table_name="used_action")
    op.drop_table("used_action")
