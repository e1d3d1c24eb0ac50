"""What a handler is given and what it gives back."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session


@dataclass(frozen=True, slots=True)
class HandlerContext:
    """The message around a payload.

    `seq` grows with the order of acceptance: a handler that keeps the newest word on something
    compares it. `attempt` is 1 for the first try.
    """

    message_id: str
    seq: int
    attempt: int
    key: str | None
    correlation_id: str | None


@dataclass(frozen=True, slots=True)
class Effect:
    """The writes that a message makes, and the result to keep.

    `apply(session, now)` is called in the transaction that ends the message, so its writes are there
    once or not at all. It may raise `PermanentError`; it must not commit, and should be short.
    `result` is anything that JSON can say; it is shown to whoever may see the message.
    """

    apply: Callable[[Session, datetime], None] | None = None
    result: Any = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the worker does with the job, now that the ledger knows how the run went.

    `action`: `done`, `failed` (it ended for good), `retry` (again after `delay_s`; a try was
    counted) or `hand_back` (again after `delay_s`; no try was counted). `attempt` is the number of
    tries in the ledger now.
    """

    action: str
    delay_s: float | None = None
    reason: str | None = None
    attempt: int = 0


DONE = "done"
FAILED = "failed"
RETRY = "retry"
HAND_BACK = "hand_back"
