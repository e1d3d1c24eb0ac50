"""SIGINT and SIGTERM, as a parent that waits in `select` needs them."""

import os
import signal
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
