"""A child that is forked instead of started anew: it has its parent's imports, and starts at once."""

import ctypes
import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Never

PR_SET_PDEATHSIG = 1
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


def end_with_parent(life: int) -> None:
    """Have this process killed, and its group if it leads one, when its parent is gone.

    The parent holds the other end of the pipe `life`. The kernel is asked too, where it can be: a thread
    can't run while a job holds the interpreter. Source: prctl(2).
    """
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    threading.Thread(target=_wait_for_parents_end, args=(life,), daemon=True).start()


def _wait_for_parents_end(life: int) -> None:
    os.read(life, 1)
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)


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
        with suppress(Exception):
            traceback.print_exc()
    finally:
        try:
            for stream in (sys.stdout, sys.stderr):
                # `run` may have closed it, or nobody reads it any more.
                with suppress(Exception):
                    stream.flush()
        finally:
            # What the parent set up to run at its exit is not this child's to run.
            os._exit(code)
