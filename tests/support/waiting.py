"""The only thing in the tests that may sleep."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_until(
    condition: Callable[[], T], timeout_s: float = 5.0, *, what: str = "", every_s: float = 0.02
) -> T:
    """Return the first true value of the condition.

    Raises:
        AssertionError: The condition was not true within the time; the text says what was awaited
            and what it was at the end.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            awaited = what or getattr(condition, "__name__", "the condition")
            raise AssertionError(f"{awaited}: still {value!r} after {timeout_s:g} s")
        time.sleep(every_s)


def holds_for(condition: Callable[[], object], duration_s: float, *, every_s: float = 0.05) -> bool:
    """Whether the condition stays true for the whole time."""
    deadline = time.monotonic() + duration_s
    while time.monotonic() < deadline:
        if not condition():
            return False
        time.sleep(every_s)
    return True
