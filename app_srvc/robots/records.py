"""From the raw records of a page to messages: what is new, what is known, what does not parse.

A record is known by its key and the digest of its content, kept in the ledger's dedupe keys. Known
and unchanged is a duplicate; changed is new again; known back to an older content is new as well.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, update
from sqlalchemy.orm import Session

from app_srvc.database import Database
from app_srvc.errors import InvalidValueError
from app_srvc.kinds import Kind
from app_srvc.messages.accept import Accepted, Draft, content_digest, insert_new, validate_payload
from app_srvc.messages.model import DedupeKey
from app_srvc.robots import store
from app_srvc.robots.model import RejectedRecord

MAX_RAW_CHARS = 64 * 1024
MAX_KEY_CHARS = 255


@dataclass(frozen=True, slots=True)
class Record:
    """A record that parses: its business key, its payload as JSON text, and the digest of that."""

    key: str
    payload: str
    digest: str


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that does not parse, why, and the raw record as JSON text, cut at 64 kB."""

    reason: str
    raw: str
    digest: str


@dataclass(slots=True)
class PageCount:
    """What came of a page.

    `is_full` says that the cycle may make no more messages, `is_cut` that the page ended early for it.
    """

    fetched: int = 0
    new: int = 0
    duplicate: int = 0
    rejected: int = 0
    last_key: str | None = None
    is_full: bool = False
    is_cut: bool = False


def parse_record(kind: Kind, raw: Any) -> Record | Rejected:
    """Check a raw record against the schema of the robot's kind."""
    try:
        if not isinstance(raw, Mapping):
            raise InvalidValueError("record", "must be an object")
        payload = validate_payload(kind, raw)
        key = str(getattr(payload, kind.key_field or ""))
        if len(key) > MAX_KEY_CHARS:
            raise InvalidValueError(
                kind.key_field or "key", f"must have at most {MAX_KEY_CHARS} characters"
            )
    except InvalidValueError as error:
        text = json.dumps(raw, ensure_ascii=True, default=str)
        return Rejected(str(error), text[:MAX_RAW_CHARS], content_digest(text))
    text = payload.model_dump_json()
    return Record(key, text, content_digest(text))


def take_page(
    database: Database,
    session: Session,
    records: Sequence[Record | Rejected],
    *,
    kind: Kind,
    queue: str,
    robot: str,
    cycle: int,
    limit: int,
    now: datetime,
) -> tuple[PageCount, list[Accepted]]:
    """Put the new records of a page into the ledger, in the transaction of the caller.

    At most `limit` messages are made. The record that would be one too many ends the page: it and
    what follows it are not counted, and are fetched again by a later cycle.
    """
    known = _known_digests(session, kind, robot, records)
    seen = dict(known)
    count = PageCount()
    new: list[Record] = []
    for record in records:
        if isinstance(record, Rejected):
            count.rejected += 1
            _keep_rejected(session, record, robot=robot, cycle=cycle, now=now)
        elif seen.get(record.key) == record.digest:
            count.duplicate += 1
        elif len(new) == limit:
            count.is_cut = True
            break
        else:
            seen[record.key] = record.digest
            new.append(record)
        count.fetched += 1
        if isinstance(record, Record):
            count.last_key = record.key
    count.new = len(new)
    count.is_full = len(new) == limit
    accepted = insert_new(
        database,
        session,
        [
            Draft(
                kind=kind,
                queue=queue,
                payload=record.payload,
                key=record.key,
                robot=robot,
                cycle=cycle,
            )
            for record in new
        ],
        now=now,
    )
    _remember(database, session, kind, robot, known, new, accepted, now)
    return count, accepted


def _known_digests(
    session: Session, kind: Kind, robot: str, records: Sequence[Record | Rejected]
) -> dict[str, str]:
    names = {
        _dedupe(robot, record.key): record.key for record in records if isinstance(record, Record)
    }
    rows = session.execute(
        select(DedupeKey.dedupe, DedupeKey.digest).where(
            DedupeKey.kind == kind.name, DedupeKey.dedupe.in_(list(names))
        )
    )
    return {names[row.dedupe]: row.digest for row in rows}


def _remember(
    database: Database,
    session: Session,
    kind: Kind,
    robot: str,
    known: Mapping[str, str],
    new: Sequence[Record],
    accepted: Sequence[Accepted],
    now: datetime,
) -> None:
    """Keep the newest digest of each key: insert the unknown, change the known."""
    latest = {
        record.key: {"digest": record.digest, "message_id": answer.message_id}
        for record, answer in zip(new, accepted, strict=True)
    }
    inserts = [
        {"kind": kind.name, "dedupe": _dedupe(robot, key), "created_at": now, **values}
        for key, values in latest.items()
        if key not in known
    ]
    updates = [
        {
            "b_dedupe": _dedupe(robot, key),
            "b_digest": values["digest"],
            "b_id": values["message_id"],
        }
        for key, values in latest.items()
        if key in known
    ]
    database.insert_rows(session, DedupeKey, inserts)
    if updates:
        table = DedupeKey.__table__
        session.connection().execute(
            update(DedupeKey)
            .where(table.c.kind == kind.name, table.c.dedupe == bindparam("b_dedupe"))
            .values(digest=bindparam("b_digest"), message_id=bindparam("b_id")),
            updates,
        )


def _keep_rejected(
    session: Session, record: Rejected, *, robot: str, cycle: int, now: datetime
) -> None:
    store.put_rejected(
        session,
        RejectedRecord(
            robot=robot,
            digest=record.digest,
            reason=record.reason,
            raw=record.raw,
            first_cycle=cycle,
            last_cycle=cycle,
            first_seen_at=now,
            last_seen_at=now,
        ),
    )


def _dedupe(robot: str, key: str) -> str:
    return f"robot:{robot}:{key}"
