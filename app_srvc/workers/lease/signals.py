"""Signals, as a parent that waits in `select` needs them, and as what a job forks has them."""

import os
import signal
import threading
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Self


class StopSignals:
    """SIGINT and SIGTERM, handled while a worker works; each also ends a `select` on `wake`."""

    def __init__(self, handle: Callable[[int, FrameType | None], None]) -> None:
        self._handle = handle

    def __enter__(self) -> Self:
        self.wake, self._write = os.pipe()
        for end in self.descriptors:
            os.set_blocking(end, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        self._before = {
            number: signal.signal(number, self._handle)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        for end in self.descriptors:
            os.close(end)

    @property
    def descriptors(self) -> tuple[int, int]:
        return self.wake, self._write

    def heard(self) -> None:
        with suppress(BlockingIOError):
            os.read(self.wake, 4096)


def leave_to_no_child(*numbers: signal.Signals) -> None:
    """Whatever this process forks begins without its handlers: they speak for this process only.

    A job that ends a process of its own with SIGTERM would otherwise wear out its worker.
    """

    masks = threading.local()

    def hold() -> None:
        # One that comes before the new process has forgotten the handler would be lost on it.
        masks.before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def let_go() -> None:
        signal.pthread_sigmask(signal.SIG_SETMASK, masks.before)

    def forget() -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
        let_go()

    os.register_at_fork(before=hold, after_in_parent=let_go, after_in_child=forget)
