"""Queues that nobody takes jobs from"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app_srvc.database import UtcDateTime

revision: str = "0002"
down_revision: str | None = "0001"
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "paused_queues",
        sa.Column("name", sa.String(length=128), nullable=False),
        sa.Column("paused_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )


def downgrade() -> None:
    op.drop_table("paused_queues")
