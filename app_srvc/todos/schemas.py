"""What a todo must look like, whoever sends it."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
)

# The largest number that a BIGINT column holds.
MAX_ID = 2**63 - 1

_BEGINS_LIKE_A_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ]")


def _storable(text: str) -> str:
    """Refuse what a database refuses, so that it is a rejected record and not a failed page."""
    if "\0" in text:
        raise ValueError("must not contain a NUL character")
    try:
        text.encode()
    except UnicodeEncodeError:
        raise ValueError("must not contain half of a surrogate pair") from None
    return text


def _only_a_time(value: Any) -> Any:
    """Refuse numbers, and text that is one: pydantic would read them as seconds since 1970."""
    if isinstance(value, datetime):
        return value
    if isinstance(value, str) and _BEGINS_LIKE_A_TIME.match(value):
        return value
    raise ValueError("must be a time with its offset, such as 2026-05-01T09:30:00Z, or null")


def _in_utc(value: datetime) -> datetime:
    """The same moment in UTC: one moment written in two ways is one content.

    The first and the last year are refused, since in another time zone they leave the calendar.
    """
    if not 1 < value.year < 9999:
        raise ValueError("must be a time of the years 2 to 9998")
    return value.astimezone(UTC)


Id = Annotated[int, Field(strict=True, gt=0, le=MAX_ID)]
Title = Annotated[
    str,
    StringConstraints(strict=True, min_length=1, max_length=1000),
    AfterValidator(_storable),
]
DueOn = Annotated[AwareDatetime, BeforeValidator(_only_a_time), AfterValidator(_in_utc)]


class Todo(BaseModel):
    """A todo: whose, what, until when, and whether it is done.

    Fields that are not named here are ignored, so a source may add some. Every field named here
    must be there: a missing `due_on` would otherwise wipe a date that is known.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: Id
    user_id: Id
    title: Title
    due_on: DueOn | None
    status: Literal["pending", "completed"]
