"""How far a registration is, in words for the person who waits for it. Says nothing personal."""

from dataclasses import dataclass
from datetime import datetime

from app_srvc.messages.model import ACCEPTED, DONE, FAILED, Message

# The reason of a failure whose message was written for people.
PERMANENT = "permanent"


@dataclass(frozen=True, slots=True)
class Progress:
    """State and place of one registration. `place` is 1 for the next one, None if nobody knows."""

    message_id: str
    queue: str
    state: str
    reason: str | None
    accepted_at: datetime
    ended_at: datetime | None
    retry_at: datetime | None
    tries: int
    place: int | None

    @property
    def has_ended(self) -> bool:
        return self.state != ACCEPTED

    @property
    def is_done(self) -> bool:
        return self.state == DONE


def progress_of(row: Message, place: int | None) -> Progress:
    return Progress(
        message_id=row.id,
        queue=row.queue,
        state=row.state,
        reason=_reason(row),
        accepted_at=row.accepted_at,
        ended_at=row.ended_at,
        retry_at=row.run_at if row.state == ACCEPTED else None,
        tries=row.tries,
        place=place,
    )


def just_accepted(message_id: str, queue: str, accepted_at: datetime) -> Progress:
    """The progress of a message of which nothing is known but that it was accepted."""
    return Progress(message_id, queue, ACCEPTED, None, accepted_at, None, None, 0, None)


def _reason(row: Message) -> str | None:
    """Why it failed, if that is meant for people; else a word that the operators know."""
    if row.state == FAILED and row.reason == PERMANENT:
        return row.error_message
    return row.reason
