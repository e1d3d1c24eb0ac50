"""A child that is forked instead of started anew: it has its parent's imports, and starts at once."""

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from typing import Never

RESET_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD)


class ForkedProcess:
    """What a supervisor needs of a child process; the same names as in `subprocess.Popen`."""

    stdout = None

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """The exit status, or None while it lives."""
        return self._reap(os.WNOHANG)

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait for the end; without a time, however long it takes."""
        if timeout is None:
            return self._reap(0)
        until = time.monotonic() + timeout
        while self.poll() is None and time.monotonic() < until:
            time.sleep(0.01)
        return self.returncode

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        # Reaped first: a number of a process that has ended may be somebody else's by now.
        if self.poll() is None:
            os.kill(self.pid, number)

    def _reap(self, options: int) -> int | None:
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, options)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode


def can_fork() -> bool:
    """Whether this process has one thread: a lock that another one held would stay held in the child."""
    return threading.active_count() == 1


def fork(run: Callable[[], int], *, stdin: int, close: Iterable[int]) -> ForkedProcess:
    """Fork a child that calls `run` and exits with what it returns.

    It gets `stdin` as its standard input, and not the descriptors in `close`, which are its parent's.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        _be_a_child(run, stdin, close)
    return ForkedProcess(pid)


def _be_a_child(run: Callable[[], int], stdin: int, close: Iterable[int]) -> Never:
    code = 1
    try:
        for number in RESET_SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        os.dup2(stdin, 0)
        os.close(stdin)
        for descriptor in close:
            os.close(descriptor)
        random.seed()
        code = run()
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        # What the parent set up to run at its exit is not this child's to run.
        os._exit(code)
