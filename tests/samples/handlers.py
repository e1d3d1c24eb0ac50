"""Sample handlers, each named for what it does. Their effects are rows of the inbox."""

import sys
import time
from datetime import datetime

from pydantic import BaseModel
from sqlalchemy.orm import Session

from app_srvc.errors import PermanentError
from app_srvc.inbox.model import InboxItem
from app_srvc.inbox.store import count_effects as count_notes
from app_srvc.messages.handling import Effect, HandlerContext

__all__ = ["count_notes"]


class Note(BaseModel):
    text: str
    seconds: float = 0.0


def keep_note(note: Note, context: HandlerContext) -> Effect:
    time.sleep(note.seconds)

    def write(session: Session, now: datetime) -> None:
        session.add(
            InboxItem(
                message_id=context.message_id,
                content_type="text/plain",
                body=note.text,
                created_at=now,
            )
        )

    return Effect(write, result={"length": len(note.text)})


def fail_always(note: Note, context: HandlerContext) -> Effect:
    raise ValueError(f"{note.text} will not do, try {context.attempt}")


def fail_for_good(note: Note, context: HandlerContext) -> Effect:
    raise PermanentError("not_wanted", f"{note.text} is not wanted here.")


def exit_the_process(note: Note, context: HandlerContext) -> Effect:
    sys.exit(3)


def sleep_long(note: Note, context: HandlerContext) -> Effect:
    time.sleep(note.seconds)
    return Effect(result="slept")
