"""How a loop behaves while something that it needs is away: it waits longer, and says so now and then."""

import time

from app_srvc.logs import get_logger

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
REMIND_AFTER_S = 30.0

log = get_logger(__name__)


class Outage:
    """Counts the failures of one loop. At most one line in half a minute, and one when it is over."""

    def __init__(self, what: str, **fields: str) -> None:
        self._what = what
        self._fields = fields
        self._failures = 0
        self._began = 0.0
        self._reminded = 0.0

    def failed(self, error: BaseException) -> float:
        """Count a failure, and return how many seconds to wait before the next try."""
        now = time.monotonic()
        if self._failures == 0:
            self._began = now
        if self._failures == 0 or now - self._reminded > REMIND_AFTER_S:
            self._reminded = now
            log.warning(
                f"{self._what}_failed",
                **self._fields,
                error_type=type(error).__name__,
                error=_first_line(error),
                since_s=round(now - self._began, 1),
            )
        self._failures += 1
        return min(LONGEST_WAIT_S, FIRST_WAIT_S * 2.0 ** (self._failures - 1))

    def over(self) -> None:
        """Say that it works again, if it did not."""
        if self._failures:
            log.info(
                f"{self._what}_recovered",
                **self._fields,
                after_s=round(time.monotonic() - self._began, 1),
            )
        self._failures = 0


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [""])[0][:200]
