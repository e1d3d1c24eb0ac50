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
from app_srvc.messages.model import ACCEPTED, DONE, FAILED, Message
from app_srvc.runtime import Runtime


def replay_message(
    runtime: Runtime, message_id: str, *, idempotency_key: str | None = None
) -> Accepted:
    """Have a message done again, and return it: the same one if it failed, a new one if it was done.

    A failed message keeps its tries and gets as many more as its kind allows. A message that was
    done stays as it is; the new one names it in `replay_of`. The same idempotency key again returns
    what the first call did.

    Raises:
        UnknownMessageError, UnknownKindError
        MessageStateError: It is to be done already, or was cancelled.
        IdempotencyConflictError: The key was used for something else.
    """
    with runtime.database.write() as session:
        row = _find(session, message_id)
        kind = find_kind(runtime.kinds, row.kind, row.payload_version)
        now = datetime.now(UTC)
        draft = _replay_draft(row, kind, idempotency_key)
        known = store.find_dedupe_key(session, kind.name, draft.dedupe)
        if known is not None:
            if known.digest != draft.digest:
                raise IdempotencyConflictError
            return Accepted(known.message_id, kind, row.queue, None, is_duplicate=True)
        if row.state == FAILED:
            if not store.reopen(session, row.id, more_tries=kind.retry.max_tries):
                raise MessageStateError("The message was replayed by somebody else just now.")
            store.put_dedupe_key(session, kind.name, draft.dedupe, draft.digest, row.id, now=now)
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


def _replay_draft(row: Message, kind: Kind, idempotency_key: str | None) -> Draft:
    return Draft(
        kind=kind,
        queue=row.queue,
        payload=row.payload,
        key=row.key,
        correlation_id=row.correlation_id,
        replay_of=row.id,
        dedupe=caller_dedupe(idempotency_key),
        digest="" if idempotency_key is None else content_digest(f"replay {row.id}"),
    )


def cancel_message(
    runtime: Runtime, message_id: str, *, reason: str = "cancelled_by_caller"
) -> None:
    """Cancel a message that is to be done. If it runs right now, its writes are not applied.

    Raises:
        UnknownMessageError
        MessageStateError: It has ended already.
    """
    with runtime.database.write() as session:
        row = _find(session, message_id)
        if row.state != ACCEPTED or not store.cancel(
            session, row.id, reason=reason, now=datetime.now(UTC)
        ):
            raise MessageStateError(f"A message that is {row.state} cannot be cancelled.")
    runtime.dispatcher.try_forget([(row.id, row.queue)])


def _find(session: Session, message_id: str) -> Message:
    row = store.find_message(session, message_id)
    if row is None:
        raise UnknownMessageError(f"There is no message {message_id}.")
    return row
