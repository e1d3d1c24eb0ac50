"""Times as they cross borders."""

from datetime import UTC, datetime


def rfc3339(moment: datetime | None) -> str | None:
    """A time in UTC, to the microsecond: `2026-11-21T08:30:00.000000Z`; None for none."""
    if moment is None:
        return None
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
