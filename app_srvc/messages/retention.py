"""Retention: messages that ended long ago are purged, and stay in the books as totals."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, text, tuple_, update
from sqlalchemy.orm import Session

from app_srvc.logs import get_logger
from app_srvc.messages.model import (
    ACCEPTED,
    CALLERS_KEYS,
    CANCELLED,
    DONE,
    FAILED,
    BookTotal,
    DedupeKey,
    Message,
    MessageTry,
    Receipt,
)
from app_srvc.runtime import Runtime

BATCH = 500
RECEIPT_AGE = timedelta(hours=1)

log = get_logger(__name__)

BookKey = tuple[str, str, int]


def purge_ended(runtime: Runtime, now: datetime) -> int:
    """Purge a batch of messages that ended more than `retention_days` ago; return how many.

    Their effects stay: they belong to the services. Their dedupe keys stay, so a repeated request or
    record is still known.
    """
    before = now - timedelta(days=runtime.settings.retention_days)
    with runtime.database.write() as session:
        rows = list(
            session.execute(
                select(Message.id, Message.kind, Message.robot, Message.cycle, Message.state)
                .where(Message.state != ACCEPTED, Message.ended_at < before)
                .order_by(Message.ended_at)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            )
        )
        counts = Counter(((row.kind, row.robot or "", row.cycle or 0), row.state) for row in rows)
        ids = [row.id for row in rows]
        if ids:
            session.execute(delete(MessageTry).where(MessageTry.message_id.in_(ids)))
            session.execute(delete(Message).where(Message.id.in_(ids)))
        columns = {DONE: "purged_done", FAILED: "purged_failed", CANCELLED: "purged_cancelled"}
        for (key, state), count in sorted(counts.items()):
            _add_to_total(session, runtime.database.insert_ignore, key, columns[state], count)
    if ids:
        log.info("messages_purged", count=len(ids))
    return len(ids)


def add_up_receipts(runtime: Runtime, now: datetime) -> int:
    """Add a batch of old receipts to the totals, so that they stay few; return how many were added."""
    with runtime.database.write() as session:
        rows = list(
            session.execute(
                select(Receipt)
                .where(Receipt.created_at < now - RECEIPT_AGE)
                .order_by(Receipt.id)
                .limit(BATCH)
                .with_for_update(skip_locked=True)
            ).scalars()
        )
        for key, count in sorted(_sums(rows).items()):
            _add_to_total(session, runtime.database.insert_ignore, key, "accepted", count)
        if rows:
            session.execute(delete(Receipt).where(Receipt.id.in_([row.id for row in rows])))
    return len(rows)


def purge_idempotency_keys(runtime: Runtime, now: datetime) -> int:
    """Forget a batch of callers' idempotency keys that are three times as old as the retention.

    Robots' records are known for ever.
    """
    before = now - 3 * timedelta(days=runtime.settings.retention_days)
    old = (
        select(DedupeKey.kind, DedupeKey.dedupe)
        .where(text(CALLERS_KEYS), DedupeKey.created_at < before)
        .order_by(DedupeKey.created_at)
        .limit(BATCH)
    )
    with runtime.database.read() as session:
        keys = [(row.kind, row.dedupe) for row in session.execute(old)]
    if keys:
        with runtime.database.write() as session:
            session.execute(
                delete(DedupeKey).where(tuple_(DedupeKey.kind, DedupeKey.dedupe).in_(keys))
            )
    return len(keys)


def _sums(rows: Iterable[Receipt]) -> dict[BookKey, int]:
    sums: dict[BookKey, int] = {}
    for row in rows:
        key = (row.kind, row.robot, row.cycle)
        sums[key] = sums.get(key, 0) + row.accepted
    return sums


def _add_to_total(
    session: Session, insert_ignore: Any, key: BookKey, column: str, count: int
) -> None:
    kind, robot, cycle = key
    zeros = {"accepted": 0, "purged_done": 0, "purged_failed": 0, "purged_cancelled": 0}
    session.execute(
        insert_ignore(BookTotal), {"kind": kind, "robot": robot, "cycle": cycle, **zeros}
    )
    table = BookTotal.__table__
    session.execute(
        update(BookTotal)
        .where(BookTotal.kind == kind, BookTotal.robot == robot, BookTotal.cycle == cycle)
        .values({column: table.c[column] + count})
        .execution_options(synchronize_session=False)
    )
