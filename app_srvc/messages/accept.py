"""Accept: what a caller hands over becomes a committed row before the caller is told so.

`draft` validates; `insert_drafts` writes in the transaction of its caller; `accept` does both sides:
one short transaction, then dispatch. Requests that arrive together share a commit through
`messages.group_commit`.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pydantic import BaseModel, ValidationError
from sqlalchemy import select, tuple_
from sqlalchemy.orm import Session

from app_srvc.database import Database
from app_srvc.errors import AppError, IdempotencyConflictError, InvalidValueError
from app_srvc.kinds import Kind, load
from app_srvc.messages.dispatch import PROCESS_TASK, JobSpec
from app_srvc.messages.ids import new_message_id
from app_srvc.messages.model import ACCEPTED, DONE, DedupeKey, Message, Receipt

DEFAULT_PRIORITY = "default"
MAX_IDEMPOTENCY_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Draft:
    """A message that has been checked and is not in the ledger yet. `payload` is JSON text."""

    kind: Kind
    queue: str
    payload: str
    key: str | None = None
    dedupe: str | None = None
    digest: str = ""
    run_at: datetime | None = None
    correlation_id: str | None = None
    replay_of: str | None = None
    robot: str | None = None
    cycle: int | None = None


@dataclass(frozen=True, slots=True)
class Accepted:
    """The ledger's answer. `is_duplicate` says that the same message had been accepted before."""

    message_id: str
    kind: Kind
    queue: str
    run_at: datetime | None
    is_duplicate: bool


def draft(
    kind: Kind,
    queue: str,
    fields: Mapping[str, Any],
    *,
    names: Mapping[str, str] | None = None,
    idempotency_key: str | None = None,
    correlation_id: str | None = None,
) -> Draft:
    """Check a payload against its kind and make a draft of it.

    `names` gives, for our field names, those that the caller used, so that an error speaks the
    caller's language.

    Raises:
        InvalidValueError: A field is missing or wrong; the first that was found is named.
    """
    payload = validate_payload(kind, fields, names=names)
    text = payload.model_dump_json()
    key = getattr(payload, kind.key_field) if kind.key_field else None
    return Draft(
        kind=kind,
        queue=queue,
        payload=text,
        key=None if key is None else str(key),
        dedupe=caller_dedupe(idempotency_key),
        digest="" if idempotency_key is None else content_digest(text),
        correlation_id=correlation_id,
    )


def validate_payload(
    kind: Kind, fields: Mapping[str, Any], *, names: Mapping[str, str] | None = None
) -> BaseModel:
    """The payload as its kind's schema reads it; `InvalidValueError` names the first field that is wrong."""
    schema: type[BaseModel] = load(kind.schema)
    try:
        return schema.model_validate(fields)
    except ValidationError as error:
        raise _first_problem(error, names or {}) from None


def check_idempotency_key(value: str | None) -> str | None:
    """A caller's `Idempotency-Key`: 1 to 255 printable ASCII characters, or None if there is none."""
    if value is None:
        return None
    if (
        not 0 < len(value) <= MAX_IDEMPOTENCY_KEY_CHARS
        or not value.isascii()
        or not value.isprintable()
    ):
        raise InvalidValueError("Idempotency-Key", "must be 1 to 255 printable ASCII characters")
    return value


def caller_dedupe(idempotency_key: str | None) -> str | None:
    """What makes a message with a caller's key one; a record that a robot knows has another form."""
    return None if idempotency_key is None else f"caller:{idempotency_key}"


def content_digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def insert_drafts(
    database: Database,
    session: Session,
    drafts: Sequence[Draft],
    *,
    now: datetime,
    are_done: bool = False,
) -> list[Accepted | AppError]:
    """Write drafts in the transaction of the caller, and answer for each, in order.

    A draft whose dedupe key is known with the same digest is answered with the message of that
    key; with another digest the answer is `IdempotencyConflictError`. Nothing else can fail for one
    draft alone.

    With `are_done` the messages that are new are done at once: the caller writes their effects in the
    same transaction, so there is nothing to dispatch.
    """
    ids = [new_message_id() for _ in drafts]
    known = _claim_dedupe_keys(database, session, drafts, ids, now=now)
    answers: list[Accepted | AppError] = []
    rows: list[dict[str, Any]] = []
    for item, message_id in zip(drafts, ids, strict=True):
        owner_id, digest = known.get((item.kind.name, item.dedupe or ""), (message_id, item.digest))
        if digest != item.digest:
            answers.append(IdempotencyConflictError())
            continue
        answers.append(
            Accepted(owner_id, item.kind, item.queue, item.run_at, owner_id != message_id)
        )
        if owner_id == message_id:
            end = _done(now) if are_done else {}
            rows.append(_row(item, message_id, now) | end)
    _insert_rows(database, session, rows, now)
    return answers


def insert_new(
    database: Database, session: Session, drafts: Sequence[Draft], *, now: datetime
) -> list[Accepted]:
    """Write drafts that the caller knows to be new (a robot's records), and answer for each, in order."""
    ids = [new_message_id() for _ in drafts]
    rows = [_row(item, message_id, now) for item, message_id in zip(drafts, ids, strict=True)]
    _insert_rows(database, session, rows, now)
    return [
        Accepted(message_id, item.kind, item.queue, item.run_at, is_duplicate=False)
        for item, message_id in zip(drafts, ids, strict=True)
    ]


def _insert_rows(
    database: Database, session: Session, rows: Sequence[dict[str, Any]], now: datetime
) -> None:
    database.insert_rows(session, Message, rows)
    database.insert_rows(session, Receipt, _receipts(rows, now))


def job_spec(accepted: Accepted, *, attempt: int = 0, delay_s: float | None = None) -> JobSpec:
    return JobSpec(
        id=accepted.message_id,
        queue=accepted.queue,
        task=PROCESS_TASK,
        args=(accepted.message_id,),
        attempt=attempt,
        timeout_s=accepted.kind.timeout_s,
        delay_s=delay_s,
    )


def job_specs(answers: Iterable[Accepted | AppError], now: datetime) -> list[JobSpec]:
    """The jobs to dispatch after the commit: one for each message that is new."""
    return [
        job_spec(answer, delay_s=seconds_until(answer.run_at, now))
        for answer in answers
        if isinstance(answer, Accepted) and not answer.is_duplicate
    ]


def seconds_until(moment: datetime | None, now: datetime) -> float | None:
    """Seconds from `now` to a moment to come; None if there is none, or it has passed."""
    if moment is None or moment <= now:
        return None
    return (moment - now).total_seconds()


def _claim_dedupe_keys(
    database: Database,
    session: Session,
    drafts: Sequence[Draft],
    ids: Sequence[str],
    *,
    now: datetime,
) -> dict[tuple[str, str], tuple[str, str]]:
    """(message id, digest) of each dedupe key among the drafts, after ours were tried.

    On PostgreSQL the insert waits for another transaction that inserts the same key, and then finds
    it; the order by key keeps two of them from waiting for each other.
    """
    claims: dict[tuple[str, str], dict[str, Any]] = {}
    for item, message_id in zip(drafts, ids, strict=True):
        if item.dedupe is not None:
            claims.setdefault(
                (item.kind.name, item.dedupe),
                {
                    "kind": item.kind.name,
                    "dedupe": item.dedupe,
                    "digest": item.digest,
                    "message_id": message_id,
                    "created_at": now,
                },
            )
    if not claims:
        return {}
    session.execute(database.insert_ignore(DedupeKey), [claims[key] for key in sorted(claims)])
    owners = session.execute(
        select(DedupeKey.kind, DedupeKey.dedupe, DedupeKey.message_id, DedupeKey.digest).where(
            tuple_(DedupeKey.kind, DedupeKey.dedupe).in_(list(claims))
        )
    )
    return {(row.kind, row.dedupe): (row.message_id, row.digest) for row in owners}


def _row(item: Draft, message_id: str, now: datetime) -> dict[str, Any]:
    return {
        "id": message_id,
        "kind": item.kind.name,
        "payload_version": item.kind.version,
        "payload": item.payload,
        "key": item.key,
        "state": ACCEPTED,
        "queue": item.queue,
        "priority": DEFAULT_PRIORITY,
        "tries": 0,
        "max_tries": item.kind.retry.max_tries,
        "accepted_at": now,
        "run_at": item.run_at,
        "robot": item.robot,
        "cycle": item.cycle,
        "replay_of": item.replay_of,
        "correlation_id": item.correlation_id,
        "dispatched_epoch": 0,
    }


def _done(now: datetime) -> dict[str, Any]:
    return {"state": DONE, "tries": 1, "started_at": now, "ended_at": now}


def _receipts(rows: Sequence[Mapping[str, Any]], now: datetime) -> list[dict[str, Any]]:
    counts = Counter((row["kind"], row["robot"] or "", row["cycle"] or 0) for row in rows)
    return [
        {"kind": kind, "robot": robot, "cycle": cycle, "accepted": count, "created_at": now}
        for (kind, robot, cycle), count in counts.items()
    ]


def _first_problem(error: ValidationError, names: Mapping[str, str]) -> InvalidValueError:
    details = error.errors(include_url=False, include_input=False, include_context=False)
    missing = [detail for detail in details if detail["type"] == "missing"]
    detail = (missing or details)[0]
    field = ".".join(str(part) for part in detail["loc"]) or "body"
    code = "NoKey" if detail["type"] == "missing" else "OutOfRangeValue"
    problem = "is required" if code == "NoKey" else detail["msg"].removeprefix("Value error, ")
    return InvalidValueError(names.get(field, field), problem, code)
