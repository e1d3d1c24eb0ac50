"""A deadline as requests and jobs have it: it breaks off whatever runs, wherever that is."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class TooLateError(BaseException):
    """What a deadline raises: no driver may take it for an error of its own."""


@contextmanager
def deadline(seconds: float) -> Iterator[None]:
    def end(_number: int, _frame: FrameType | None) -> None:
        raise TooLateError

    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
