"""What a robot asks of every source."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Page:
    """A part of what a source shows.

    `records` are as the source sent them and may hold anything; whoever takes them checks each. A
    number is an `int`, a `float`, or a `Decimal` where a float would lose digits; none is infinite
    or NaN. Text may hold NUL and halves of surrogate pairs. Nothing is nested deeper than 64.

    `next_cursor` is for the source that made it, and may be kept; None says that this was the last
    page.
    """

    records: list[Any]
    next_cursor: str | None


class Source(Protocol):
    """Something that shows records, page by page.

    A source cannot be asked for what is new: a walk begins at the first page. Walking while the
    source changes may show a record twice.
    """

    @property
    def name(self) -> str:
        """For logs and pages; never holds credentials."""
        ...

    def fetch_page(self, cursor: str | None, *, now: datetime) -> Page:
        """Return the page at the cursor; None is the first page.

        A cursor that this source did not make starts from the first page: to walk again is safe,
        to go on from a place that means nothing is not.

        Raises:
            SourceUnavailableError: The source cannot be reached or refuses to answer; ask later.
            SourcePageError: The source answered, and its page does not parse.
        """
        ...

    def close(self) -> None:
        """Let go of connections. Closing twice is no error."""
        ...
