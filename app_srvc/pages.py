"""Lists, a page at a time: `?limit=` and `?cursor=` in, items and the next cursor out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from flask import request

from app_srvc.errors import InvalidValueError

DEFAULT_LIMIT = 50
MAX_LIMIT = 200
MAX_CURSOR = 2**63 - 1

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Window:
    """Which part of a list is asked for: up to `limit` items before the one of number `before`."""

    limit: int
    before: int | None


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """A part of a list, and the cursor of the part that follows."""

    items: Sequence[T]
    next: str | None


def requested_window() -> Window:
    """What the present request asks for.

    Raises:
        InvalidValueError: `limit` or `cursor` is no number of that range.
    """
    limit = _number("limit", 1, MAX_LIMIT)
    return Window(DEFAULT_LIMIT if limit is None else limit, _number("cursor", 1, MAX_CURSOR))


def cut(rows: Sequence[T], window: Window, number_of: Any) -> Page[T]:
    """Make a page of rows that were asked for with one more than the limit.

    `number_of(row)` is what the list is ordered by.
    """
    items = rows[: window.limit]
    has_more = len(rows) > window.limit
    return Page(items, str(number_of(items[-1])) if has_more else None)


def _number(name: str, low: int, high: int) -> int | None:
    text = request.args.get(name)
    if text is None:
        return None
    if not text.isascii() or not text.isdecimal() or not low <= int(text[:20]) <= high:
        raise InvalidValueError(name, f"must be a whole number from {low} to {high}")
    return int(text)
