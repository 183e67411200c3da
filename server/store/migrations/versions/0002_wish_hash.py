"""A request remembers its last wish by a keyed hash."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("save_request", sa.Column("wish_hash", sa.LargeBinary(length=16), nullable=True))


def downgrade() -> None:
    op.drop_column("save_request", "wish_hash")
