"""A horse: a process of its own for one job, as RQ calls it, for kinds that ask for it.

What the job leaks or breaks goes with the process. It reports by a pipe, keeps the job's time limit,
and dies with its parent: an orphan would go on with a job that has been given to somebody else.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Never, Self

from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from app_srvc.forking import end_with_parent
from app_srvc.workers.run import LOST, Report

MAX_REPORT_BYTES = 4096


class Horse:
    """One process. `wait` until it is over, then read `report`; what is left ends with the block."""

    def __init__(self, pid: int, report_fd: int, life_fd: int) -> None:
        self.pid = pid
        self.report: Report | None = None
        self._report_fd = report_fd
        self._life_fd = life_fd

    @classmethod
    def start(cls, run: Callable[[], Report], *, limit_s: float) -> Self:
        """Fork a process that calls `run` and reports what it returns."""
        report_read, report_write = os.pipe()
        life_read, life_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(report_read)
            os.close(life_write)
            _be_a_horse(run, limit_s, report_write, life_read)
        os.close(report_write)
        os.close(life_read)
        return cls(pid, report_read, life_write)

    def wait(self) -> None:
        """Until it has reported, or has died without."""
        heard = b""
        while piece := os.read(self._report_fd, MAX_REPORT_BYTES):
            heard += piece
            if heard.endswith(b"\n"):
                self.report = json.loads(heard)
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._report_fd)
        os.close(self._life_fd)


def _be_a_horse(run: Callable[[], Report], limit_s: float, report_fd: int, life_fd: int) -> Never:
    """The whole life of the process. It leaves by `os._exit`: what is to run at exit is its parent's."""
    code = 1
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, 0)
        end_with_parent(life_fd)
        random.seed()
        try:
            with UnixSignalDeathPenalty(int(limit_s), JobTimeoutException):
                report = run()
        except JobTimeoutException:
            report = {"action": LOST, "reason": "timeout"}
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(report_fd, json.dumps(report).encode() + b"\n")
        code = 0
    finally:
        os._exit(code)
