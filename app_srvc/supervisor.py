"""Child processes: started in order, watched, started again when they die, stopped in order.

One thread does all of it, in `turn`. Each child gets one end of a socket pair as its standard input:
through it the child says that it is alive (`ParentLink.beat`), and learns that its parent is not.
"""

import os
import selectors
import signal
import socket
import stat
import subprocess
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import IO

from app_srvc.forking import ForkedProcess, can_fork, fork
from app_srvc.logs import get_logger

FIRST_RESTART_S = 0.2
LONGEST_RESTART_S = 5.0
SETTLED_AFTER_S = 10.0
MAX_LINE_BYTES = 64 * 1024
LOOK_EVERY_S = 0.05

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class ChildSpec:
    """A program to keep running. `ready` says, when asked, whether it is ready for its work.

    `run` does the same as the program, in this interpreter: where it can, the supervisor forks a child
    that calls it, which starts at once and shares memory.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready: Callable[[], bool] | None = None
    stop_grace_s: float = 10.0
    run: Callable[[], int] | None = None


@dataclass
class Child:
    """What is known about one child."""

    spec: ChildSpec
    process: subprocess.Popen[bytes] | ForkedProcess | None = None
    link: socket.socket | None = None
    started_at: float = 0.0
    beaten_at: float | None = None
    start_again_at: float | None = None
    quick_deaths: int = 0
    restarts: int = 0
    unfinished_line: bytes = field(default=b"", repr=False)

    @property
    def is_alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def is_due(self) -> bool:
        return self.start_again_at is not None and time.monotonic() >= self.start_again_at


class Supervisor:
    """Keeps the children of one process running. Not for use by several threads, but for `children`.

    With `write_line`, what the children print is read and handed on as (name, line); without it, they
    print where this process does. With `own_groups` each child leads a process group of its own, which
    is killed as a whole at its end, so that nothing of it stays.
    """

    def __init__(
        self,
        specs: Sequence[ChildSpec],
        *,
        write_line: Callable[[str, str], None] | None = None,
        own_groups: bool = True,
    ) -> None:
        self.children = [Child(spec) for spec in specs]
        self._write_line = write_line
        self._own_groups = own_groups
        self._selector = selectors.DefaultSelector()

    def start(self) -> None:
        """Start every child, in order."""
        for child in self.children:
            self._launch(child)

    def are_ready(self) -> bool:
        """Whether every child lives and says that it is ready."""
        return all(
            child.is_alive and (child.spec.ready is None or child.spec.ready())
            for child in self.children
        )

    def turn(self, timeout_s: float) -> None:
        """Look after the children once: hear them, start again who died. Waits for news that long."""
        self._hear(timeout_s)
        for child in self.children:
            if child.process is not None and not child.is_alive:
                self._plan_restart(child)
            elif child.is_due:
                child.restarts += 1
                self._launch(child)

    def stop(
        self, names: Collection[str] | None = None, *, at_once: Callable[[], bool] | None = None
    ) -> None:
        """Ask the named children, or all, to end; kill those that have not within their grace.

        `at_once` is asked in between; when it says so, nobody is waited for any longer.
        """
        leaving = [child for child in self.children if names is None or child.spec.name in names]
        for child in leaving:
            child.start_again_at = None
            if child.process is not None and child.is_alive:
                child.process.terminate()
        begun = time.monotonic()
        while any(child.is_alive for child in leaving):
            self._hear(LOOK_EVERY_S)
            waited_s = time.monotonic() - begun
            for child in leaving:
                if waited_s > child.spec.stop_grace_s or (at_once is not None and at_once()):
                    self._kill(child)
        for child in leaving:
            self._clear_away(child)

    def _launch(self, child: Child) -> None:
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        try:
            child.process = self._start_process(child.spec, theirs.fileno(), ours.fileno())
        except OSError:
            ours.close()
            raise
        finally:
            theirs.close()
        child.link, child.started_at, child.beaten_at = ours, time.monotonic(), None
        child.start_again_at = None
        self._selector.register(ours, selectors.EVENT_READ, (child, self._hear_beats))
        if child.process.stdout is not None:
            os.set_blocking(child.process.stdout.fileno(), False)
            self._selector.register(
                child.process.stdout, selectors.EVENT_READ, (child, self._hear_output)
            )
        log.debug("child_started", child=child.spec.name, pid=child.process.pid)

    def _start_process(
        self, spec: ChildSpec, stdin: int, link: int
    ) -> subprocess.Popen[bytes] | ForkedProcess:
        can_be_forked = self._write_line is None and not self._own_groups and can_fork()
        if spec.run is not None and can_be_forked:
            links = [child.link.fileno() for child in self.children if child.link is not None]
            return fork(spec.run, stdin=stdin, close=[link, *links])
        output = None if self._write_line is None else subprocess.PIPE
        return subprocess.Popen(
            list(spec.argv),
            env=dict(spec.env),
            stdin=stdin,
            stdout=output,
            stderr=None if output is None else subprocess.STDOUT,
            start_new_session=self._own_groups,
        )

    def _plan_restart(self, child: Child) -> None:
        if child.process is None:
            return
        code = child.process.returncode
        lived_s = time.monotonic() - child.started_at
        child.quick_deaths = 0 if lived_s > SETTLED_AFTER_S else child.quick_deaths + 1
        wait_s = min(LONGEST_RESTART_S, FIRST_RESTART_S * 2.0 ** max(0, child.quick_deaths - 1))
        log.warning(
            "child_ended",
            child=child.spec.name,
            pid=child.process.pid,
            cause=_cause(code or 0),
            restart_in_s=wait_s,
        )
        self._clear_away(child)
        child.start_again_at = time.monotonic() + wait_s

    def _kill(self, child: Child) -> None:
        if child.process is None or not child.is_alive:
            return
        log.warning("child_killed", child=child.spec.name, pid=child.process.pid)
        child.process.kill()
        child.process.wait()

    def _clear_away(self, child: Child) -> None:
        """Read its last words, end what is left of its group, and forget it."""
        if child.process is None:
            return
        if self._own_groups:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(child.process.pid, signal.SIGKILL)
        if child.process.stdout is not None:
            self._hear_output(child)
            if child.unfinished_line:
                self._say(child, child.unfinished_line)
                child.unfinished_line = b""
            self._drop(child.process.stdout)
        if child.link is not None:
            self._drop(child.link)
        child.process, child.link = None, None

    def _hear(self, timeout_s: float) -> None:
        for key, _ in self._selector.select(timeout_s):
            child, hear = key.data
            hear(child)

    def _hear_beats(self, child: Child) -> None:
        if child.link is None:
            return
        try:
            beats = child.link.recv(4096)
        except BlockingIOError:
            return
        except OSError:
            beats = b""
        if beats:
            child.beaten_at = time.monotonic()
        else:
            # It closed its standard input, as many programs do that were not written for this.
            self._selector.unregister(child.link)
            child.link.close()
            child.link = None

    def _hear_output(self, child: Child) -> None:
        if child.process is None or child.process.stdout is None:
            return
        while True:
            try:
                piece = os.read(child.process.stdout.fileno(), MAX_LINE_BYTES)
            except (BlockingIOError, ValueError):
                return
            if not piece:
                with suppress(KeyError, ValueError):
                    self._selector.unregister(child.process.stdout)
                return
            *lines, rest = (child.unfinished_line + piece).split(b"\n")
            if len(rest) > MAX_LINE_BYTES:
                lines, rest = [*lines, rest], b""
            child.unfinished_line = rest
            for line in lines:
                self._say(child, line)

    def _say(self, child: Child, line: bytes) -> None:
        if self._write_line is not None:
            self._write_line(child.spec.name, line.decode("utf-8", "replace"))

    def _drop(self, channel: socket.socket | IO[bytes]) -> None:
        with suppress(KeyError, ValueError):
            self._selector.unregister(channel)
        channel.close()


class ParentLink:
    """A supervised child's end of the link to its parent: its standard input, if that is a socket."""

    def __init__(self, fd: int = 0) -> None:
        is_socket = stat.S_ISSOCK(os.fstat(fd).st_mode)
        self._socket = socket.socket(fileno=os.dup(fd)) if is_socket else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def beat(self) -> None:
        """Say that this process is alive. A parent that is gone or slow to listen is not waited for."""
        if self._socket is not None:
            with suppress(OSError):
                self._socket.send(b".")

    def is_broken(self) -> bool:
        """Whether the parent is gone."""
        if self._socket is None:
            return False
        try:
            return self._socket.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def _cause(code: int) -> str:
    if code >= 0:
        return f"exit {code}"
    try:
        return signal.Signals(-code).name
    except ValueError:
        return f"signal {-code}"
