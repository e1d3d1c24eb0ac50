"""Queries about messages. Each takes the session of its caller, who owns the transaction."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Table, bindparam, func, select, tuple_, update
from sqlalchemy.orm import Session, defer

from app_srvc.messages.model import (
    ACCEPTED,
    CANCELLED,
    DONE,
    FAILED,
    DedupeKey,
    LedgerFact,
    Message,
    MessageTry,
)

# Made once, and without the ORM's bookkeeping: every message passes here. The values to set are parameters.
_MESSAGES = cast(Table, Message.__table__)
_MOVE = update(_MESSAGES).where(
    _MESSAGES.c.id == bindparam("of_id"),
    _MESSAGES.c.state == ACCEPTED,
    _MESSAGES.c.tries == bindparam("of_tries"),
)


def lock_message(session: Session, message_id: str) -> Message | None:
    """A message that nobody else can lock or change until the transaction ends."""
    query = select(Message).where(Message.id == message_id).with_for_update()
    return session.execute(query).scalar_one_or_none()


def find_message(session: Session, message_id: str) -> Message | None:
    return session.execute(select(Message).where(Message.id == message_id)).scalar_one_or_none()


def find_messages(session: Session, ids: Sequence[str]) -> dict[str, Message]:
    """The messages of those ids that exist, by id."""
    rows = session.execute(select(Message).where(Message.id.in_(ids))).scalars()
    return {row.id: row for row in rows}


def list_messages(
    session: Session,
    *,
    before_seq: int | None = None,
    limit: int = 50,
    kind: str | None = None,
    state: str | None = None,
    queue: str | None = None,
    key: str | None = None,
) -> list[Message]:
    """Messages from the newest on, without their payloads. `key` is exact."""
    query = (
        select(Message)
        .options(defer(Message.payload, raiseload=True))
        .order_by(Message.seq.desc())
        .limit(limit)
    )
    if before_seq is not None:
        query = query.where(Message.seq < before_seq)
    for column, wanted in (
        (Message.kind, kind),
        (Message.state, state),
        (Message.queue, queue),
        (Message.key, key),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    return list(session.execute(query).scalars())


def list_tries(session: Session, message_id: str) -> list[MessageTry]:
    query = (
        select(MessageTry).where(MessageTry.message_id == message_id).order_by(MessageTry.number)
    )
    return list(session.execute(query).scalars())


def newest_seq(session: Session) -> int:
    """The place of the newest message; 0 if there is none."""
    return session.execute(select(func.max(Message.seq))).scalar_one() or 0


def list_unconfirmed(
    session: Session, *, epoch: int, after: tuple[int, int], up_to_seq: int, limit: int
) -> list[Message]:
    """Messages to be done that nobody has seen in this epoch of Redis, oldest confirmation first.

    `after` is (epoch, seq) of the last one of the page before.
    """
    query = (
        select(Message)
        .where(
            Message.state == ACCEPTED,
            Message.dispatched_epoch < epoch,
            tuple_(Message.dispatched_epoch, Message.seq) > after,
            Message.seq <= up_to_seq,
        )
        .order_by(Message.dispatched_epoch, Message.seq)
        .limit(limit)
    )
    return list(session.execute(query).scalars())


def list_confirmed(
    session: Session, *, epoch: int, after_seq: int, up_to_seq: int, limit: int
) -> list[tuple[int, str, str]]:
    """(seq, id, queue) of messages to be done that were seen in this epoch, in order."""
    query = (
        select(Message.seq, Message.id, Message.queue)
        .where(
            Message.state == ACCEPTED,
            Message.dispatched_epoch == epoch,
            Message.seq > after_seq,
            Message.seq <= up_to_seq,
        )
        .order_by(Message.seq)
        .limit(limit)
    )
    return [(row.seq, row.id, row.queue) for row in session.execute(query)]


def move_to_queue(session: Session, message_id: str, queue: str) -> None:
    session.execute(
        update(Message)
        .where(Message.id == message_id, Message.state == ACCEPTED)
        .values(queue=queue)
        .execution_options(synchronize_session=False)
    )


def confirm_dispatched(session: Session, ids: Sequence[str], *, epoch: int) -> None:
    session.execute(
        update(Message)
        .where(Message.id.in_(ids), Message.state == ACCEPTED)
        .values(dispatched_epoch=epoch)
        .execution_options(synchronize_session=False)
    )


def finish(
    session: Session,
    message_id: str,
    *,
    tries: int,
    result: str | None,
    started_at: datetime,
    now: datetime,
) -> bool:
    """Move a message to `done`, if it is still to be done and no other try has ended meanwhile."""
    return _move(
        session,
        message_id,
        tries,
        {
            "state": DONE,
            "reason": None,
            "tries": tries + 1,
            "result": result,
            "started_at": started_at,
            "ended_at": now,
            "run_at": None,
            "error_type": None,
            "error_message": None,
            "error_traceback": None,
        },
    )


def record_failed_try(session: Session, attempt: MessageTry, *, retry_at: datetime | None) -> bool:
    """Count a try that failed, if no other try has ended meanwhile.

    With `retry_at` the message is to be done again then; without it the message has failed.
    """
    values = {
        "tries": attempt.number,
        "started_at": attempt.started_at,
        "error_type": attempt.error_type,
        "error_message": attempt.error_message,
        "error_traceback": attempt.error_traceback,
    }
    if retry_at is None:
        values |= {
            "state": FAILED,
            "reason": attempt.reason,
            "ended_at": attempt.ended_at,
            "run_at": None,
        }
    else:
        values |= {"run_at": retry_at}
    if not _move(session, attempt.message_id, attempt.number - 1, values):
        return False
    session.add(attempt)
    return True


def reopen(session: Session, message_id: str, *, more_tries: int) -> bool:
    """Move a failed message back to `accepted`, with `more_tries` tries left."""
    changed = session.execute(
        update(Message)
        .where(Message.id == message_id, Message.state == FAILED)
        .values(
            state=ACCEPTED,
            reason=None,
            ended_at=None,
            run_at=None,
            dispatched_epoch=0,
            max_tries=Message.tries + more_tries,
        )
        .execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def cancel(session: Session, message_id: str, *, reason: str, now: datetime) -> bool:
    """Move a message that is to be done to `cancelled`. A run in progress then finds its claim lost."""
    changed = session.execute(
        update(Message)
        .where(Message.id == message_id, Message.state == ACCEPTED)
        .values(state=CANCELLED, reason=reason, ended_at=now, run_at=None)
        .execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def count_by_state(session: Session, kind: str | None = None) -> dict[str, int]:
    query = select(Message.state, func.count()).group_by(Message.state)
    if kind is not None:
        query = query.where(Message.kind == kind)
    counts: dict[str, int] = {}
    for state, count in session.execute(query):
        counts[state] = count
    return counts


def find_dedupe_key(session: Session, kind: str, dedupe: str | None) -> DedupeKey | None:
    return None if dedupe is None else session.get(DedupeKey, (kind, dedupe))


def claim_dedupe_key(session: Session, row: Mapping[str, Any], *, insert_ignore: Any) -> DedupeKey:
    """Put a dedupe key there unless it is, and return what is there then.

    On PostgreSQL this waits for another transaction that does the same.
    """
    session.execute(insert_ignore(DedupeKey), row)
    return session.get_one(DedupeKey, (row["kind"], row["dedupe"]))


def get_fact(session: Session, name: str) -> str | None:
    return session.execute(
        select(LedgerFact.value).where(LedgerFact.name == name)
    ).scalar_one_or_none()


def lock_fact(session: Session, name: str, *, insert_ignore: Any) -> str:
    """A fact's value, empty if it has none yet; nobody else can lock it until the transaction ends."""
    session.execute(insert_ignore(LedgerFact), {"name": name, "value": ""})
    return session.execute(
        select(LedgerFact.value).where(LedgerFact.name == name).with_for_update()
    ).scalar_one()


def put_fact(session: Session, name: str, value: str) -> None:
    session.execute(update(LedgerFact).where(LedgerFact.name == name).values(value=value))


def _move(session: Session, message_id: str, tries: int, values: Mapping[str, object]) -> bool:
    """Compare-and-set on (state, tries): whoever ran the message under an older count changes nothing."""
    which = {"of_id": message_id, "of_tries": tries}
    changed = session.connection().execute(_MOVE, {**values, **which})
    return bool(changed.rowcount)
