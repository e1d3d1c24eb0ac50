"""How a robot runs: the delay between cycles, the most records that one cycle makes, and a note."""

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from app_srvc.errors import InvalidValueError
from app_srvc.settings import Settings

MAX_MSG_CHARS = 500


@dataclass(frozen=True, slots=True)
class Policy:
    """`timedelta_s` is the delay from the end of a cycle to the next; `records` the most new messages."""

    timedelta_s: int
    records: int
    msg: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def check_policy(fields: Mapping[str, Any], settings: Settings) -> Policy:
    """The policy that a caller asked for with the original's words `timedelta`, `records` and `msg`.

    Raises:
        InvalidValueError: One is missing, no whole number, or out of the range of the settings.
    """
    timedelta_s = _whole_number(
        fields, "timedelta", settings.robot_min_timedelta_s, settings.robot_max_timedelta_s
    )
    records = _whole_number(
        fields, "records", settings.robot_min_records, settings.robot_max_records
    )
    return Policy(timedelta_s, records, _message(fields))


def _whole_number(fields: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = _present(fields, name)
    expected = f"must be a whole number from {low} to {high}"
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise InvalidValueError(name, expected)
    if isinstance(value, float) and (not math.isfinite(value) or value != int(value)):
        raise InvalidValueError(name, expected)
    if not low <= value <= high:
        raise InvalidValueError(name, expected)
    return int(value)


def _message(fields: Mapping[str, Any]) -> str:
    value = _present(fields, "msg")
    if not isinstance(value, str) or not 0 < len(value) <= MAX_MSG_CHARS:
        raise InvalidValueError("msg", f"must be a text of 1 to {MAX_MSG_CHARS} characters")
    if "\x00" in value or any(0xD800 <= ord(character) <= 0xDFFF for character in value):
        raise InvalidValueError("msg", "must not contain NUL characters or lone surrogates")
    return value


def _present(fields: Mapping[str, Any], name: str) -> Any:
    if name not in fields:
        raise InvalidValueError(name, "is required", code="NoKey")
    return fields[name]
