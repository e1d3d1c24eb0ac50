"""Patience: how a child waits while Redis is away, and when it gives up."""

import select
import time
from collections.abc import Callable

from redis.exceptions import (
    NoScriptError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)
from redis.exceptions import TimeoutError as SilenceError

from app_srvc.workers.lease.link import ANSWER_TIMEOUT_S
from app_srvc.workers.lease.progress import Progress

Tell = Callable[..., None]

# What Redis says when it will do later what it refuses now.
PASSING = (
    "READONLY",
    "OOM",
    "MISCONF",
    "LOADING",
    "BUSY",
    "NOREPLICAS",
    "MASTERDOWN",
    "TRYAGAIN",
    "NOSCRIPT",
)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
# A child that is to stop does not insist longer on telling Redis how its last jobs went.
INSIST_WHEN_STOPPING_S = 3.0


def may_pass(error: BaseException) -> bool:
    """Whether the same request may succeed later; not, say, for a key that holds another type."""
    if isinstance(error, ReadOnlyError | OutOfMemoryError | NoScriptError):
        return True
    return not isinstance(error, ResponseError) or str(error).startswith(PASSING)


class Stopped(BaseException):
    """The child was told to stop while it insisted on something; what it had is left to be rescued."""


class Patience:
    """Waits for one child. `wake` can be read when the parent wants it to stop."""

    def __init__(self, progress: Progress, wake: int, tell: Tell) -> None:
        self._progress = progress
        self._wake = wake
        self._tell = tell
        self._stopping_since: float | None = None

    def pause(self, seconds: float) -> None:
        """Rest, but notice a request to stop.

        Raises:
            Stopped: It was to stop long ago.
        """
        if not self._progress.must_stop:
            select.select([self._wake], [], [], seconds)
            return
        now = time.monotonic()
        self._stopping_since = self._stopping_since or now
        if now - self._stopping_since > INSIST_WHEN_STOPPING_S:
            raise Stopped
        time.sleep(min(seconds, 2 * FIRST_PAUSE_S))

    def after(self, error: RedisError, pause_s: float) -> float:
        """Rest after a failure, longer than the last time; returns for how long."""
        if pause_s == 0.0:
            self._tell("warning", "worker_redis_failed", error_type=type(error).__name__)
        if isinstance(error, SilenceError) and self._progress.must_stop:
            # It was waited for already.
            self._stopping_since = self._stopping_since or time.monotonic() - ANSWER_TIMEOUT_S
        pause_s = min(LONGEST_PAUSE_S, max(FIRST_PAUSE_S, 2 * pause_s))
        self.pause(pause_s)
        return pause_s

    def insist(self, step: Callable[[], object]) -> None:
        """Take a step however long Redis is away."""
        pause_s = 0.0
        while True:
            try:
                step()
                return
            except RedisError as error:
                pause_s = self.after(error, pause_s)
