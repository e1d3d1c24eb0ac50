"""The tables of the ledger of messages."""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Index, Integer, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from app_srvc.database import Base

ACCEPTED: Final = "accepted"
DONE: Final = "done"
FAILED: Final = "failed"
CANCELLED: Final = "cancelled"
STATES: Final = (ACCEPTED, DONE, FAILED, CANCELLED)

# Which dedupe keys are callers' idempotency keys; the others are records that robots know.
CALLERS_KEYS: Final = "dedupe LIKE 'caller:%'"

# A column that counts up: 64 bits on PostgreSQL; SQLite counts up INTEGER primary keys only.
Sequence = BigInteger().with_variant(Integer, "sqlite")


class Message(Base):
    """One accepted piece of work.

    `seq` orders messages as they were put in the ledger and is what lists page by; `id` is what the
    world knows, and is the RQ job id. `tries` counts the tries that ended, and is what a finishing
    worker compares: who finds another number has lost its claim.

    `dispatched_epoch` is the number of the epoch of Redis in which the job was last seen, 0 for never;
    a lower number than today's means that nobody has seen it since Redis was last emptied.
    """

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("id", name="uq_messages_id"),
        Index(
            "ix_messages_waiting",
            "dispatched_epoch",
            "seq",
            sqlite_where=text("state = 'accepted'"),
            postgresql_where=text("state = 'accepted'"),
        ),
        Index("ix_messages_state_seq", "state", "seq"),
        Index("ix_messages_kind_key", "kind", "key"),
        Index("ix_messages_kind_seq", "kind", "seq"),
        Index(
            "ix_messages_cycle",
            "robot",
            "cycle",
            "state",
            sqlite_where=text("robot IS NOT NULL"),
            postgresql_where=text("robot IS NOT NULL"),
        ),
        Index(
            "ix_messages_ended",
            "ended_at",
            sqlite_where=text("state <> 'accepted'"),
            postgresql_where=text("state <> 'accepted'"),
        ),
        {"sqlite_autoincrement": True},
    )

    seq: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    id: Mapped[str] = mapped_column(String(36))
    kind: Mapped[str] = mapped_column(String(64))
    payload_version: Mapped[int]
    payload: Mapped[str] = mapped_column(Text)
    key: Mapped[str | None] = mapped_column(String(255))
    state: Mapped[str] = mapped_column(String(16))
    reason: Mapped[str | None] = mapped_column(String(64))
    queue: Mapped[str] = mapped_column(String(128))
    priority: Mapped[str] = mapped_column(String(16))
    tries: Mapped[int]
    max_tries: Mapped[int]
    accepted_at: Mapped[datetime]
    run_at: Mapped[datetime | None]
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime | None]
    error_type: Mapped[str | None] = mapped_column(String(255))
    error_message: Mapped[str | None] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    result: Mapped[str | None] = mapped_column(Text)
    robot: Mapped[str | None] = mapped_column(String(40))
    cycle: Mapped[int | None] = mapped_column(BigInteger)
    replay_of: Mapped[str | None] = mapped_column(String(36))
    correlation_id: Mapped[str | None] = mapped_column(String(255))
    dispatched_epoch: Mapped[int] = mapped_column(Integer, default=0)


class MessageTry(Base):
    """One try that failed: how, when and on which worker."""

    __tablename__ = "message_tries"

    message_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    number: Mapped[int] = mapped_column(primary_key=True)
    reason: Mapped[str] = mapped_column(String(64))
    error_type: Mapped[str] = mapped_column(String(255))
    error_message: Mapped[str] = mapped_column(Text)
    error_traceback: Mapped[str | None] = mapped_column(Text)
    worker: Mapped[str | None] = mapped_column(String(128))
    started_at: Mapped[datetime | None]
    ended_at: Mapped[datetime]


class DedupeKey(Base):
    """What makes a message one: a caller's idempotency key, or a record that a robot knows.

    `digest` is of what came with it: the caller's body, or the record's content. These rows outlive
    the messages they point to.
    """

    __tablename__ = "dedupe_keys"
    __table_args__ = (
        Index(
            "ix_dedupe_keys_of_callers",
            "created_at",
            sqlite_where=text(CALLERS_KEYS),
            postgresql_where=text(CALLERS_KEYS),
        ),
    )

    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    dedupe: Mapped[str] = mapped_column(String(320), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64))
    message_id: Mapped[str] = mapped_column(String(36))
    created_at: Mapped[datetime]


class Receipt(Base):
    """How many messages of a kind one transaction accepted: the books' other side.

    Rows are only ever added by accepting, so writers never wait for each other; the keeper adds old
    ones up in `BookTotal`.
    """

    __tablename__ = "receipts"
    __table_args__ = ({"sqlite_autoincrement": True},)

    id: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    kind: Mapped[str] = mapped_column(String(64))
    robot: Mapped[str] = mapped_column(String(40))
    cycle: Mapped[int] = mapped_column(BigInteger)
    accepted: Mapped[int]
    created_at: Mapped[datetime]


class BookTotal(Base):
    """What was accepted and what retention has purged, per kind and cycle, so that no count goes down.

    `robot` is empty and `cycle` 0 for what no robot fetched.
    """

    __tablename__ = "book_totals"

    kind: Mapped[str] = mapped_column(String(64), primary_key=True)
    robot: Mapped[str] = mapped_column(String(40), primary_key=True)
    cycle: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    accepted: Mapped[int] = mapped_column(BigInteger, default=0)
    purged_done: Mapped[int] = mapped_column(BigInteger, default=0)
    purged_failed: Mapped[int] = mapped_column(BigInteger, default=0)
    purged_cancelled: Mapped[int] = mapped_column(BigInteger, default=0)


class PausedQueue(Base):
    """A queue that nobody takes jobs from, by its name in Redis."""

    __tablename__ = "paused_queues"

    name: Mapped[str] = mapped_column(String(128), primary_key=True)
    paused_at: Mapped[datetime]


class LedgerFact(Base):
    """Single facts about the whole ledger, such as the epoch of the Redis in use."""

    __tablename__ = "ledger_facts"

    name: Mapped[str] = mapped_column(String(64), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))
