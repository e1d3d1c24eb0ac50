"""The ledger, users, todos, inbox and robots"""

from collections.abc import Sequence

import sqlalchemy as sa
from alembic import op

from app_srvc.database import UtcDateTime

revision: str = "0001"
down_revision: str | None = None
branch_labels: str | Sequence[str] | None = None
depends_on: str | Sequence[str] | None = None


def upgrade() -> None:
    op.create_table(
        "book_totals",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("robot", sa.String(length=40), nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.BigInteger(), nullable=False),
        sa.Column("purged_done", sa.BigInteger(), nullable=False),
        sa.Column("purged_failed", sa.BigInteger(), nullable=False),
        sa.Column("purged_cancelled", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "robot", "cycle"),
    )
    op.create_table(
        "cycles",
        sa.Column("robot", sa.String(length=40), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("number", sa.BigInteger(), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("owner", sa.String(length=64), nullable=False),
        sa.Column("lease_until", UtcDateTime(), nullable=False),
        sa.Column("cursor", sa.Text(), nullable=True),
        sa.Column("pages", sa.Integer(), nullable=False),
        sa.Column("fetched", sa.Integer(), nullable=False),
        sa.Column("new", sa.Integer(), nullable=False),
        sa.Column("duplicate", sa.Integer(), nullable=False),
        sa.Column("rejected", sa.Integer(), nullable=False),
        sa.Column("watermark_before", sa.Text(), nullable=True),
        sa.Column("watermark_after", sa.Text(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=False),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("robot", "generation", "number"),
    )
    op.create_index("ix_cycles_robot_number", "cycles", ["robot", "number"], unique=False)
    op.create_index("ix_cycles_state", "cycles", ["state"], unique=False)

    op.create_table(
        "dedupe_keys",
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("dedupe", sa.String(length=320), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "dedupe"),
    )
    op.create_index(
        "ix_dedupe_keys_of_callers",
        "dedupe_keys",
        ["created_at"],
        unique=False,
        sqlite_where=sa.text("dedupe LIKE 'caller:%'"),
        postgresql_where=sa.text("dedupe LIKE 'caller:%'"),
    )
    op.create_table(
        "inbox_items",
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("content_type", sa.String(length=64), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_table(
        "ledger_facts",
        sa.Column("name", sa.String(length=64), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "message_tries",
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=False),
        sa.Column("error_type", sa.String(length=255), nullable=False),
        sa.Column("error_message", sa.Text(), nullable=False),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("worker", sa.String(length=128), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("message_id", "number"),
    )
    op.create_table(
        "messages",
        sa.Column(
            "seq",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("payload_version", sa.Integer(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("key", sa.String(length=255), nullable=True),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("reason", sa.String(length=64), nullable=True),
        sa.Column("queue", sa.String(length=128), nullable=False),
        sa.Column("priority", sa.String(length=16), nullable=False),
        sa.Column("tries", sa.Integer(), nullable=False),
        sa.Column("max_tries", sa.Integer(), nullable=False),
        sa.Column("accepted_at", UtcDateTime(), nullable=False),
        sa.Column("run_at", UtcDateTime(), nullable=True),
        sa.Column("started_at", UtcDateTime(), nullable=True),
        sa.Column("ended_at", UtcDateTime(), nullable=True),
        sa.Column("error_type", sa.String(length=255), nullable=True),
        sa.Column("error_message", sa.Text(), nullable=True),
        sa.Column("error_traceback", sa.Text(), nullable=True),
        sa.Column("result", sa.Text(), nullable=True),
        sa.Column("robot", sa.String(length=40), nullable=True),
        sa.Column("cycle", sa.BigInteger(), nullable=True),
        sa.Column("replay_of", sa.String(length=36), nullable=True),
        sa.Column("correlation_id", sa.String(length=255), nullable=True),
        sa.Column("dispatched_epoch", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("seq"),
        sa.UniqueConstraint("id", name="uq_messages_id"),
        sqlite_autoincrement=True,
    )
    op.create_index(
        "ix_messages_cycle",
        "messages",
        ["robot", "cycle", "state"],
        unique=False,
        sqlite_where=sa.text("robot IS NOT NULL"),
        postgresql_where=sa.text("robot IS NOT NULL"),
    )
    op.create_index(
        "ix_messages_ended",
        "messages",
        ["ended_at"],
        unique=False,
        sqlite_where=sa.text("state <> 'accepted'"),
        postgresql_where=sa.text("state <> 'accepted'"),
    )
    op.create_index("ix_messages_kind_key", "messages", ["kind", "key"], unique=False)
    op.create_index("ix_messages_kind_seq", "messages", ["kind", "seq"], unique=False)
    op.create_index("ix_messages_state_seq", "messages", ["state", "seq"], unique=False)
    op.create_index(
        "ix_messages_waiting",
        "messages",
        ["dispatched_epoch", "seq"],
        unique=False,
        sqlite_where=sa.text("state = 'accepted'"),
        postgresql_where=sa.text("state = 'accepted'"),
    )

    op.create_table(
        "receipts",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("kind", sa.String(length=64), nullable=False),
        sa.Column("robot", sa.String(length=40), nullable=False),
        sa.Column("cycle", sa.BigInteger(), nullable=False),
        sa.Column("accepted", sa.Integer(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "rejected_records",
        sa.Column("robot", sa.String(length=40), nullable=False),
        sa.Column("digest", sa.String(length=64), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("raw", sa.Text(), nullable=False),
        sa.Column("first_cycle", sa.BigInteger(), nullable=False),
        sa.Column("last_cycle", sa.BigInteger(), nullable=False),
        sa.Column("first_seen_at", UtcDateTime(), nullable=False),
        sa.Column("last_seen_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("robot", "digest"),
    )
    op.create_table(
        "robots",
        sa.Column("name", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=16), nullable=False),
        sa.Column("generation", sa.BigInteger(), nullable=False),
        sa.Column("next_cycle", sa.BigInteger(), nullable=False),
        sa.Column("next_due_at", UtcDateTime(), nullable=True),
        sa.Column("watermark", sa.Text(), nullable=True),
        sa.Column("policy", sa.Text(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("name"),
    )
    op.create_table(
        "todo_changes",
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("todo_id", sa.BigInteger(), nullable=False),
        sa.Column("was_newest", sa.Boolean(), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("message_id"),
    )
    op.create_index("ix_todo_changes_todo_id", "todo_changes", ["todo_id"], unique=False)

    op.create_table(
        "todos",
        sa.Column("id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("user_id", sa.BigInteger(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("due_on", UtcDateTime(), nullable=True),
        sa.Column("status", sa.String(length=16), nullable=False),
        sa.Column("message_seq", sa.BigInteger(), nullable=False),
        sa.Column("updated_at", UtcDateTime(), nullable=False),
        sa.PrimaryKeyConstraint("id"),
    )
    op.create_index("ix_todos_user_id", "todos", ["user_id"], unique=False)

    op.create_table(
        "users",
        sa.Column(
            "id",
            sa.BigInteger().with_variant(sa.Integer(), "sqlite"),
            autoincrement=True,
            nullable=False,
        ),
        sa.Column("first_name", sa.String(length=35), nullable=False),
        sa.Column("last_name", sa.String(length=35), nullable=False),
        sa.Column("login", sa.String(length=35), nullable=False),
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("phone", sa.String(length=20), nullable=False),
        sa.Column("status", sa.String(length=1), nullable=False),
        sa.Column("created_at", UtcDateTime(), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.PrimaryKeyConstraint("id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_users_email", "users", ["email"], unique=False)
    op.create_index("ix_users_last_name", "users", ["last_name"], unique=False)
    op.create_index("uq_users_login", "users", ["login"], unique=True)
    op.create_index("uq_users_message_id", "users", ["message_id"], unique=True)


def downgrade() -> None:
    op.drop_table("users")
    op.drop_table("todos")
    op.drop_table("todo_changes")
    op.drop_table("robots")
    op.drop_table("rejected_records")
    op.drop_table("receipts")
    op.drop_table("messages")
    op.drop_table("message_tries")
    op.drop_table("ledger_facts")
    op.drop_table("inbox_items")
    op.drop_table("dedupe_keys")
    op.drop_table("cycles")
    op.drop_table("book_totals")
