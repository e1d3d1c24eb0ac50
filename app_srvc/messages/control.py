"""What a person or a program may do to a message that was accepted: replay it, cancel it."""

from dataclasses import replace
from datetime import UTC, datetime

from sqlalchemy.orm import Session

from app_srvc.errors import IdempotencyConflictError, MessageStateError, UnknownMessageError
from app_srvc.kinds import Kind, find_kind
from app_srvc.messages import store
from app_srvc.messages.accept import (
    Accepted,
    Draft,
    caller_dedupe,
    content_digest,
    insert_drafts,
    job_specs,
)
from app_srvc.messages.ids import is_message_id
from app_srvc.messages.model import ACCEPTED, DONE, FAILED, DedupeKey, Message
from app_srvc.runtime import Runtime


def replay_message(
    runtime: Runtime, message_id: str, *, idempotency_key: str | None = None
) -> Accepted:
    """Have a message done again, and return it: the same one if it failed, a new one if it was done.

    A failed message keeps its tries and gets as many more as its kind allows. A message that was
    done stays as it is; the new one names it in `replay_of`. The same idempotency key again returns
    what the first call did, also when several come at once: each locks the message first.

    Raises:
        UnknownMessageError, UnknownKindError
        MessageStateError: It is to be done already, or was cancelled.
        IdempotencyConflictError: The key was used for something else.
    """
    with runtime.database.write() as session:
        row = _find_locked(session, message_id)
        if row is None:
            return _earlier_replay(runtime, session, message_id, idempotency_key)
        kind = find_kind(runtime.kinds, row.kind, row.payload_version)
        now = datetime.now(UTC)
        draft = _replay_draft(row, kind, idempotency_key)
        known = store.find_dedupe_key(session, kind.name, draft.dedupe)
        if known is not None:
            _check_same(known, draft)
            return Accepted(known.message_id, kind, row.queue, None, is_duplicate=True)
        if row.state == FAILED:
            if not store.reopen(session, row.id, more_tries=kind.retry.max_tries):
                raise MessageStateError("The message was replayed by somebody else just now.")
            _claim_key(runtime, session, draft, row.id, now)
            accepted = Accepted(row.id, kind, row.queue, None, is_duplicate=False)
            attempt = row.tries
        elif row.state == DONE:
            answer = insert_drafts(runtime.database, session, [draft], now=now)[0]
            if not isinstance(answer, Accepted):
                raise answer
            accepted, attempt = answer, 0
        else:
            raise MessageStateError(f"A message that is {row.state} cannot be replayed.")
    specs = [replace(spec, attempt=attempt) for spec in job_specs([accepted], now)]
    runtime.dispatcher.try_dispatch(specs)
    return accepted


def _claim_key(
    runtime: Runtime, session: Session, draft: Draft, message_id: str, now: datetime
) -> None:
    """Remember the caller's key, unless someone used it for another message a moment ago."""
    if draft.dedupe is None:
        return
    claim = {
        "kind": draft.kind.name,
        "dedupe": draft.dedupe,
        "digest": draft.digest,
        "message_id": message_id,
        "created_at": now,
    }
    insert_ignore = runtime.database.insert_ignore
    _check_same(store.claim_dedupe_key(session, claim, insert_ignore=insert_ignore), draft)


def _check_same(known: DedupeKey, draft: Draft) -> None:
    if known.digest != draft.digest:
        raise IdempotencyConflictError


def _replay_draft(row: Message, kind: Kind, idempotency_key: str | None) -> Draft:
    return Draft(
        kind=kind,
        queue=row.queue,
        payload=row.payload,
        key=row.key,
        correlation_id=row.correlation_id,
        replay_of=row.id,
        dedupe=caller_dedupe(idempotency_key),
        digest="" if idempotency_key is None else _replay_digest(row.id),
    )


def _replay_digest(message_id: str) -> str:
    return content_digest(f"replay {message_id}")


def _earlier_replay(
    runtime: Runtime, session: Session, message_id: str, idempotency_key: str | None
) -> Accepted:
    """What an earlier call with this key did, if retention has removed the message since."""
    dedupe = caller_dedupe(idempotency_key)
    for kind in runtime.kinds.values():
        known = store.find_dedupe_key(session, kind.name, dedupe)
        if known is not None and known.digest == _replay_digest(message_id):
            return Accepted(known.message_id, kind, runtime.queue_of(kind), None, is_duplicate=True)
    raise _unknown(message_id)


def cancel_message(
    runtime: Runtime, message_id: str, *, reason: str = "cancelled_by_caller"
) -> None:
    """Cancel a message that is to be done. If it runs right now, its writes are not applied.

    Raises:
        UnknownMessageError
        MessageStateError: It has ended already.
    """
    with runtime.database.write() as session:
        row = _find_locked(session, message_id)
        if row is None:
            raise _unknown(message_id)
        if row.state != ACCEPTED or not store.cancel(
            session, row.id, reason=reason, now=datetime.now(UTC)
        ):
            raise MessageStateError(f"A message that is {row.state} cannot be cancelled.")
    runtime.dispatcher.try_forget([(row.id, row.queue)])


def _find_locked(session: Session, message_id: str) -> Message | None:
    return store.lock_message(session, message_id) if is_message_id(message_id) else None


def _unknown(message_id: str) -> UnknownMessageError:
    return UnknownMessageError(f"There is no message {message_id}.")
