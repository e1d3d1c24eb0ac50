"""From the bytes of a page to its records, with no surprise left in them."""

import json
from decimal import Decimal, InvalidOperation
from typing import Any, NoReturn

# Deeper than any record of a service, and far from where Python's own recursion ends.
MAX_DEPTH = 64


class NotAPageError(ValueError):
    """The bytes are not a page; the text says why, in words that follow "the page"."""


def parse_records(body: bytes) -> list[Any]:
    """Return the list that the bytes hold as JSON. Numbers keep every digit.

    Raises:
        NotAPageError: It is not JSON (NaN and Infinity are not), not a list, or nested too deep.
    """
    try:
        records = json.loads(body, parse_float=_exact_number, parse_constant=_refuse_constant)
    except NotAPageError:
        raise
    except RecursionError:
        raise NotAPageError("is nested too deep") from None
    except (ValueError, InvalidOperation) as error:
        # UnicodeDecodeError's text shows bytes of the body; its class is enough.
        detail = str(error) if isinstance(error, json.JSONDecodeError) else type(error).__name__
        raise NotAPageError(f"is not JSON, or breaks off ({detail})") from None
    if not isinstance(records, list):
        raise NotAPageError(f"is not a list of records but of type {type(records).__name__}")
    _check_depth(records)
    return records


def _exact_number(text: str) -> float | Decimal:
    """A float where it says the same as the text; else a Decimal, since 1e999 is not infinity."""
    exact = Decimal(text)
    number = float(text)
    return number if Decimal(repr(number)) == exact else exact


def _refuse_constant(name: str) -> NoReturn:
    raise NotAPageError(f"is not JSON, since it holds {name}")


def _check_depth(records: list[Any]) -> None:
    """Walk level by level, not by recursion: that is what this protects the callers from."""
    level: list[Any] = [records]
    for _ in range(MAX_DEPTH):
        level = [
            child
            for parent in level
            for child in (parent.values() if isinstance(parent, dict) else parent)
            if isinstance(child, dict | list)
        ]
        if not level:
            return
    raise NotAPageError(f"is nested deeper than {MAX_DEPTH}")
