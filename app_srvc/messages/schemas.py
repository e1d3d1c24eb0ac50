"""What the API says about a message, field by field."""

import json
from collections.abc import Mapping
from typing import Any

from app_srvc.messages.accept import DEFAULT_PRIORITY, Accepted
from app_srvc.messages.model import Message
from app_srvc.times import rfc3339


def message_fields(row: Message, position: int | None = None) -> dict[str, Any]:
    """A message as it is shown: everything but its payload.

    `position` is its place in the queue, 1 for the next one; it is looked up for a single message
    only, and is null in lists. `progress` is null until a kind reports some.
    """
    return {
        "id": row.id,
        "kind": row.kind,
        "key": row.key,
        "state": row.state,
        "reason": row.reason,
        "queue": row.queue,
        "priority": row.priority,
        "tries": row.tries,
        "max_tries": row.max_tries,
        "accepted_at": rfc3339(row.accepted_at),
        "run_at": rfc3339(row.run_at),
        "started_at": rfc3339(row.started_at),
        "ended_at": rfc3339(row.ended_at),
        "error": _error(row),
        "result": None if row.result is None else json.loads(row.result),
        "progress": None,
        "robot": row.robot,
        "cycle": row.cycle,
        "replay_of": row.replay_of,
        "correlation_id": row.correlation_id,
        "position": position,
    }


def known_fields(accepted: Accepted, state: str) -> dict[str, Any]:
    """The same fields without the message's row: what is not known is null.

    `state` is `purged` where retention has removed the message that an idempotency key stands for.
    """
    return message_fields(
        Message(
            id=accepted.message_id,
            kind=accepted.kind.name,
            queue=accepted.queue,
            priority=DEFAULT_PRIORITY,
            state=state,
        )
    )


def _error(row: Message) -> Mapping[str, Any] | None:
    if row.error_type is None:
        return None
    return {
        "type": row.error_type,
        "message": row.error_message,
        "traceback": row.error_traceback,
    }
