"""Process: the one job function behind every message.

A list of steps: load the row; skip what has ended; run the handler with no transaction open; then,
in one short transaction, apply its writes and end the message by compare-and-set on the number of
tries. Who loses the compare applies nothing, so a message that is delivered twice has one effect.
"""

import json
import traceback
from datetime import UTC, datetime, timedelta

from pydantic import BaseModel, ValidationError

from app_srvc.errors import FenceLostError, LedgerUnavailableError, PermanentError, UnknownKindError
from app_srvc.kinds import Kind, find_kind, load
from app_srvc.logs import get_logger
from app_srvc.messages import store
from app_srvc.messages.handling import (
    DONE,
    FAILED,
    HAND_BACK,
    RETRY,
    Effect,
    HandlerContext,
    Outcome,
)
from app_srvc.messages.model import ACCEPTED, Message, MessageTry
from app_srvc.runtime import Runtime

# How long a message of a kind that this worker does not know waits for a newer worker.
UNKNOWN_KIND_DELAY_S = 5.0

# A worker that died says nothing against the work: it should go on soon.
MAX_DELAY_AFTER_LOSS_S = 1.0

KILLED, LOST, TIMEOUT, POISON = "killed", "lost", "timeout", "poison"
# A message whose process died so often is to blame for it itself.
POISON_AFTER = 3
LOSSES = {
    KILLED: "The process that did the work was killed.",
    LOST: "The worker was lost in the middle of the work.",
    POISON: "The process that did the work died time and again.",
    TIMEOUT: "The work took too long and did not obey the time limit; its process was killed.",
}

MAX_ERROR_CHARS = 2_000
MAX_TRACEBACK_CHARS = 20_000

log = get_logger(__name__)


def process_message(
    runtime: Runtime,
    message_id: str,
    *,
    worker: str,
    timeout_errors: tuple[type[BaseException], ...] = (),
) -> Outcome:
    """Do the work of one message, and say what becomes of its job.

    Whatever the handler raises is counted as a failed try; `timeout_errors` are those by which the
    worker interrupts a handler that takes too long.

    Raises:
        LedgerUnavailableError: The ledger could not be read or written. No try was counted; the job
            is to be handed back.
    """
    started_at = datetime.now(UTC)
    row = _load(runtime, message_id)
    if row is None:
        log.warning("message_unknown", message_id=message_id)
        return Outcome(DONE, reason="unknown_message")
    if row.state != ACCEPTED:
        return Outcome(DONE, reason="ended_before", attempt=row.tries)
    try:
        kind = find_kind(runtime.kinds, row.kind, row.payload_version)
    except UnknownKindError:
        return _hand_back(runtime, row, started_at)
    try:
        effect = _run_handler(kind, row)
        _finish(runtime, row, effect, started_at)
    except LedgerUnavailableError:
        raise
    except FenceLostError:
        log.info("claim_lost", message_id=row.id, kind=row.kind, attempt=row.tries + 1)
        return Outcome(DONE, reason="claim_lost", attempt=row.tries)
    except BaseException as error:
        reason = TIMEOUT if isinstance(error, timeout_errors) else "error"
        return _record_failure(
            runtime, row, kind, error, reason, worker=worker, started_at=started_at
        )
    log.info("message_done", message_id=row.id, kind=row.kind, attempt=row.tries + 1)
    return Outcome(DONE, attempt=row.tries + 1)


def record_lost_try(
    runtime: Runtime, row: Message, *, reason: str, now: datetime, worker: str | None = None
) -> Outcome:
    """Count a try whose process did not live to count it itself (`killed`, `timeout`, `lost`).

    The third one that was killed or lost makes the message poison: it fails for good.
    """
    is_poison = reason in (KILLED, LOST) and _losses(runtime, row) + 1 >= POISON_AFTER
    reason = POISON if is_poison else reason
    attempt = MessageTry(
        message_id=row.id,
        number=row.tries + 1,
        reason=reason,
        error_type="WorkerLost",
        error_message=LOSSES.get(reason, reason),
        error_traceback=None,
        worker=worker,
        started_at=None,
        ended_at=now,
    )
    return _count_try(runtime, row, attempt, is_permanent=is_poison)


def _losses(runtime: Runtime, row: Message) -> int:
    """How often a message has lost its process, since it was accepted or replayed."""
    kind = runtime.kinds.get(row.kind)
    before = 0 if kind is None else row.max_tries - kind.retry.max_tries
    with runtime.database.read() as session:
        tries = store.list_tries(session, row.id)
    return sum(one.number > before and one.reason in (KILLED, LOST) for one in tries)


def _load(runtime: Runtime, message_id: str) -> Message | None:
    with runtime.database.read() as session:
        return store.find_message(session, message_id)


def _hand_back(runtime: Runtime, row: Message, now: datetime) -> Outcome:
    """A rolling update: a newer worker knows this kind. It is an alert only if it lasts."""
    age_s = (now - row.accepted_at).total_seconds()
    is_overdue = age_s > runtime.settings.unknown_kind_grace_s
    report = log.error if is_overdue else log.info
    report(
        "message_kind_unknown",
        message_id=row.id,
        kind=row.kind,
        payload_version=row.payload_version,
        age_s=round(age_s),
        alert=is_overdue,
    )
    return Outcome(HAND_BACK, UNKNOWN_KIND_DELAY_S, reason="unknown_kind", attempt=row.tries)


def _run_handler(kind: Kind, row: Message) -> Effect:
    try:
        schema: type[BaseModel] = load(kind.schema)
        payload = schema.model_validate_json(row.payload)
    except ValidationError as error:
        fields = ", ".join(
            ".".join(map(str, item["loc"])) for item in error.errors(include_input=False)
        )
        raise PermanentError(
            "invalid_payload", f"The payload does not fit its kind: {fields}."
        ) from None
    context = HandlerContext(
        message_id=row.id,
        seq=row.seq,
        attempt=row.tries + 1,
        key=row.key,
        correlation_id=row.correlation_id,
    )
    effect: Effect = load(kind.handler)(payload, context)
    return effect


def _finish(runtime: Runtime, row: Message, effect: Effect, started_at: datetime) -> None:
    result = None if effect.result is None else json.dumps(effect.result)
    with runtime.database.write() as session:
        now = datetime.now(UTC)
        if not store.finish(
            session, row.id, tries=row.tries, result=result, started_at=started_at, now=now
        ):
            raise FenceLostError
        if effect.apply is not None:
            effect.apply(session, now)


def _record_failure(
    runtime: Runtime,
    row: Message,
    kind: Kind,
    error: BaseException,
    reason: str,
    *,
    worker: str,
    started_at: datetime,
) -> Outcome:
    is_permanent = isinstance(error, PermanentError)
    attempt = MessageTry(
        message_id=row.id,
        number=row.tries + 1,
        reason="permanent" if is_permanent else reason,
        error_type=error.reason if isinstance(error, PermanentError) else type(error).__name__,
        error_message=_storable(str(error), MAX_ERROR_CHARS),
        error_traceback=None if is_permanent else _traceback(error),
        worker=worker,
        started_at=started_at,
        ended_at=datetime.now(UTC),
    )
    return _count_try(runtime, row, attempt, is_permanent=is_permanent)


def _count_try(
    runtime: Runtime, row: Message, attempt: MessageTry, *, is_permanent: bool
) -> Outcome:
    delay_s: float | None = None
    if not is_permanent and attempt.number < row.max_tries:
        kind = runtime.kinds.get(row.kind)
        delay_s = kind.retry.delay_s(attempt.number) if kind is not None else UNKNOWN_KIND_DELAY_S
        if attempt.reason in (KILLED, LOST):
            delay_s = min(delay_s, MAX_DELAY_AFTER_LOSS_S)
    retry_at = None if delay_s is None else attempt.ended_at + timedelta(seconds=delay_s)
    number, reason, error_type = attempt.number, attempt.reason, attempt.error_type
    with runtime.database.write() as session:
        is_ours = store.record_failed_try(session, attempt, retry_at=retry_at)
    if not is_ours:
        return Outcome(DONE, reason="claim_lost", attempt=row.tries)
    event = "message_failed" if delay_s is None else "message_retry_planned"
    # The error's text may hold personal data, so it stays in the ledger; the log has its type.
    log.warning(
        event,
        message_id=row.id,
        kind=row.kind,
        attempt=number,
        reason=reason,
        error_type=error_type,
        delay_s=None if delay_s is None else round(delay_s, 3),
    )
    return Outcome(FAILED if delay_s is None else RETRY, delay_s, reason=reason, attempt=number)


def _traceback(error: BaseException) -> str:
    text = "".join(traceback.format_exception(error, limit=-30))
    return _storable(text[-MAX_TRACEBACK_CHARS:], MAX_TRACEBACK_CHARS)


def _storable(text: str, limit: int) -> str:
    """PostgreSQL stores no NUL and no lone surrogate; an error's text may hold both."""
    return text.replace("\x00", "\\x00").encode("utf-8", "backslashreplace").decode()[:limit]
