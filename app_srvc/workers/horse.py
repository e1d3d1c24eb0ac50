"""A horse: the child process in which one job runs, as RQ calls it.

It is forked for the job and ends with it, so what a job leaks or breaks goes with it. It reports by a
pipe, and dies with its parent: an orphan would go on with a job that has been given to somebody else.
"""

import json
import os
import random
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, Never

Report = Mapping[str, Any]
MAX_REPORT_BYTES = 4096


class Horse:
    """One child, from its start to its end. `wait` until it is over, then read `report`."""

    def __init__(self, pid: int, report_fd: int, life_fd: int) -> None:
        self.pid = pid
        self._report_fd = report_fd
        self._life_fd = life_fd
        self._heard = b""
        self._is_deaf = False
        self.is_over = False

    @classmethod
    def start(cls, run: Callable[[], Report]) -> "Horse":
        """Fork a child that calls `run` and reports what it returns."""
        report_read, report_write = os.pipe()
        life_read, life_write = os.pipe()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            os.close(report_read)
            os.close(life_write)
            _be_a_horse(run, report_write, life_read)
        # Both sides do it, so that the group is there whoever is first.
        with suppress(OSError):
            os.setpgid(pid, pid)
        os.close(report_write)
        os.close(life_read)
        return cls(pid, report_read, life_write)

    @property
    def report(self) -> Report | None:
        """What the child said at its end; None if it died before."""
        if not self._heard.endswith(b"\n"):
            return None
        report: Report = json.loads(self._heard)
        return report

    def wait(self, timeout_s: float) -> bool:
        """Wait for the end of the child, for so long at most; True when it is over."""
        if not self._is_deaf:
            self._listen(timeout_s)
        elif not self._has_ended():
            # It closed the pipe and lives on: it is ending, or a job closed what was not its own.
            time.sleep(min(timeout_s, 0.01))
        return self._has_ended()

    def kill(self) -> None:
        """End the child and whatever it started, at once."""
        if self.is_over:
            return
        for kill in (os.killpg, os.kill):
            with suppress(ProcessLookupError, PermissionError):
                kill(self.pid, signal.SIGKILL)

    def _listen(self, timeout_s: float) -> None:
        readable, _, _ = select.select([self._report_fd], [], [], timeout_s)
        if not readable:
            return
        piece = os.read(self._report_fd, MAX_REPORT_BYTES)
        self._heard += piece
        self._is_deaf = not piece or self._heard.endswith(b"\n")

    def _has_ended(self) -> bool:
        if self.is_over:
            return True
        # Its report is the last thing that a child does, so waiting for its end then takes no time.
        options = 0 if self._heard.endswith(b"\n") else os.WNOHANG
        try:
            pid, _ = os.waitpid(self.pid, options)
        except ChildProcessError:
            pid = self.pid
        if pid == 0:
            return False
        if not self._is_deaf:
            self._listen(0)
        self.is_over = True
        os.close(self._report_fd)
        os.close(self._life_fd)
        return True


def _be_a_horse(run: Callable[[], Report], report_fd: int, life_fd: int) -> Never:
    """The child's whole life. It leaves by `os._exit`: what is to run at exit is its parent's."""
    code = 1
    try:
        with suppress(OSError):
            os.setpgid(0, 0)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _let_go_of_standard_input()
        threading.Thread(target=_die_with_parent, args=(life_fd,), daemon=True).start()
        random.seed()
        report = json.dumps(run()).encode() + b"\n"
        sys.stdout.flush()
        sys.stderr.flush()
        os.write(report_fd, report)
        code = 0
    finally:
        os._exit(code)


def _let_go_of_standard_input() -> None:
    """The parent's is its link to its own parent, who would not notice its death while a horse holds it."""
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)


def _die_with_parent(life_fd: int) -> None:
    os.read(life_fd, 1)
    os.killpg(0, signal.SIGKILL)
