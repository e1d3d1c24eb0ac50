"""A small todo service of its own, which grows while you watch and needs no network."""

import re
from datetime import datetime, timedelta
from typing import Any, Final

from app_srvc.robots.sources.base import Page

FIRST_TODOS: Final = 20
NEW_TODO_EVERY: Final = timedelta(seconds=5)
COMPLETED_AFTER: Final = timedelta(seconds=60)
# Older todos are archived. Without an end, a walk through all pages would take longer every day.
SHOWN_TODOS: Final = 1_000

_ACTIONS = (
    "Review", "Sign", "Print", "Translate", "Correct", "Approve",
    "Archive", "Compare", "Send off", "Copy", "Register",
)  # fmt: skip
_THINGS = (
    "the delivery note for Monday",
    "the contract with the carrier",
    "the invoice from the print shop",
    "the minutes of the last meeting",
    "the price list for spring",
    "the holiday plan of the team",
    "the report on late orders",
    "the customs papers",
    "the order for new pallets",
    "the list of open complaints",
    "the travel claim from Lviv",
    "the rota for the warehouse",
)
_USERS = 7
_CURSOR = re.compile(r"demo:([0-9]{1,15})")


class DemoSource:
    """Twenty todos at the anchor, and one more every 5 s from then on.

    Each is completed 60 s after it appears, so updates are seen too. What is shown is a function of
    the anchor and of now alone: two processes that ask at the same moment see the same. The newest
    1,000 are shown, oldest first. Before the anchor it shows what it shows at the anchor.
    """

    name = "demo:"

    def __init__(self, anchor: datetime, page_size: int) -> None:
        self._anchor = anchor
        self._page_size = page_size

    def fetch_page(self, cursor: str | None, *, now: datetime) -> Page:
        """Return the page at the cursor; it costs the same however many todos there are."""
        newest = FIRST_TODOS + max(0, (now - self._anchor) // NEW_TODO_EVERY)
        first = max(_cursor_id(cursor), newest - SHOWN_TODOS + 1)
        after = min(first + self._page_size, newest + 1)
        records = [self._todo(number, now) for number in range(first, after)]
        return Page(records, f"demo:{after}" if after <= newest else None)

    def close(self) -> None:
        """There is nothing to close."""

    def _todo(self, number: int, now: datetime) -> dict[str, Any]:
        appeared_at = self._anchor + max(0, number - FIRST_TODOS) * NEW_TODO_EVERY
        due_on = appeared_at.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(
            days=1 + number * 5 % 14
        )
        is_completed = now - appeared_at >= COMPLETED_AFTER
        # The two lists have no common divisor, so every pair comes up before one comes again.
        action, thing = _ACTIONS[number % len(_ACTIONS)], _THINGS[number % len(_THINGS)]
        return {
            "id": number,
            "user_id": 1 + number * 3 % _USERS,
            "title": f"{action} {thing}",
            "due_on": due_on.isoformat(timespec="milliseconds"),
            "status": "completed" if is_completed else "pending",
        }


def _cursor_id(cursor: str | None) -> int:
    match = _CURSOR.fullmatch(cursor or "")
    return max(1, int(match[1])) if match else 1
