"""The horizon: up to which place in the ledger messages are old enough to be looked after.

A young message is with the process that accepted it, which is about to dispatch it. Age is told by
when this process first saw that the ledger had grown so far, not by the clock of the host that
accepted: that one may be an hour ahead.
"""

import time
from collections import deque
from collections.abc import Callable


class Horizon:
    """Remembers how far the ledger had grown, and when that was seen."""

    def __init__(self, grace_s: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._grace_s = grace_s
        self._clock = clock
        self._sights: deque[tuple[float, int]] = deque()
        self._reached = 0

    def after_seeing(self, newest_seq: int) -> int:
        """Note the newest place, and return the newest that was seen a grace ago or earlier."""
        now = self._clock()
        self._sights.append((now, newest_seq))
        while self._sights and now - self._sights[0][0] >= self._grace_s:
            self._reached = self._sights.popleft()[1]
        return self._reached
