"""Time limits inside a child: one timer, moved only when it has to be.

Most jobs end long before their limit, so the timer is set for the first limit and, when it rings too
early for the job that runs by then, set anew.
"""

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from rq.timeouts import JobTimeoutException

GRACE_S = 0.001


class TimeLimit:
    """Raises `JobTimeoutException` in the main thread when the job that runs has used its time."""

    def __init__(self) -> None:
        self._ends = 0.0
        self._limit_s = 0.0
        self._rings = float("inf")

    def install(self) -> None:
        """Take over SIGALRM: at the start, and after somebody else had it."""
        signal.signal(signal.SIGALRM, self._ring)
        self._rings = float("inf")

    def begin(self, now: float, limit_s: float) -> None:
        """A job starts at a monotonic second; 0 is no limit."""
        if limit_s <= 0:
            self._ends = 0.0
            return
        self._limit_s = limit_s
        self._ends = now + limit_s
        if self._ends < self._rings:
            self._set(self._ends, now)

    def end(self) -> None:
        self._ends = 0.0

    @contextmanager
    def halted(self) -> Iterator[None]:
        """What happens inside does not count as time of the job that runs."""
        began, ends = time.monotonic(), self._ends
        self._ends = 0.0
        try:
            yield
        finally:
            if ends:
                now = time.monotonic()
                self._ends = ends + now - began
                if self._ends < self._rings:
                    self._set(self._ends, now)

    def _set(self, rings: float, now: float) -> None:
        self._rings = rings
        signal.setitimer(signal.ITIMER_REAL, max(GRACE_S, rings - now))

    def _ring(self, signum: int, frame: FrameType | None) -> None:
        self._rings = float("inf")
        if not self._ends:
            return
        now = time.monotonic()
        if now < self._ends - GRACE_S:
            self._set(self._ends, now)
            return
        limit_s, self._ends = self._limit_s, 0.0
        raise JobTimeoutException(f"Task exceeded maximum timeout value ({limit_s:g} seconds)")
