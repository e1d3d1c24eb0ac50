"""The supervisor: with real child processes, each a line of Python."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import pytest

from app_srvc.supervisor import ChildSpec, Supervisor
from tests.support.waiting import wait_until
from tests.support.workers import process_exists

WAIT_FOR_EVER = "import signal; signal.pause()"
IGNORE_SIGTERM = (
    "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print('deaf', flush=True); [signal.pause() for _ in iter(int, 1)]"
)


def python(name: str, code: str, **more: object) -> ChildSpec:
    return ChildSpec(name, (sys.executable, "-S", "-c", code), dict(os.environ), **more)  # type: ignore[arg-type]


@contextmanager
def started(
    *specs: ChildSpec, lines: list[tuple[str, str]] | None = None, own_groups: bool = True
) -> Iterator[Supervisor]:
    """A supervisor whose children are ended when the test is."""
    write = None if lines is None else lambda name, line: lines.append((name, line))
    supervisor = Supervisor(specs, write_line=write, own_groups=own_groups)
    supervisor.start()
    try:
        yield supervisor
    finally:
        supervisor.stop(at_once=lambda: True)


def turn_until(supervisor: Supervisor, condition: object, timeout_s: float = 10) -> None:
    def turn() -> object:
        supervisor.turn(0.01)
        return condition()  # type: ignore[operator]

    wait_until(turn, timeout_s)


def test_what_children_print_is_handed_on_by_name_and_line() -> None:
    lines: list[tuple[str, str]] = []
    # The last has no end of line, so it is handed on when the child ends.
    code = "import sys; print('one', flush=True); sys.stderr.write('two\\nthree'); {}"
    with started(python("a", code.format(WAIT_FOR_EVER)), lines=lines) as supervisor:
        turn_until(supervisor, lambda: ("a", "two") in lines)
        supervisor.stop()
    assert lines == [("a", "one"), ("a", "two"), ("a", "three")]


def test_a_child_that_dies_is_started_again() -> None:
    with started(python("a", WAIT_FOR_EVER), python("b", WAIT_FOR_EVER)) as supervisor:
        first, other = supervisor.children
        before, bystander = first.process, other.process
        assert before is not None
        before.kill()
        turn_until(supervisor, lambda: first.restarts == 1 and first.is_alive)
        assert first.process is not None
        assert first.process.pid != before.pid
        assert other.process is bystander


def test_a_child_that_dies_at_once_is_started_again_ever_later() -> None:
    with started(python("a", "raise SystemExit(3)")) as supervisor:
        (child,) = supervisor.children
        started_at = []
        while child.restarts < 3:
            before = child.restarts
            turn_until(supervisor, lambda: child.restarts > before)  # noqa: B023
            started_at.append(child.started_at)
        first_wait, second_wait = (b - a for a, b in pairwise(started_at))
        assert second_wait > first_wait + 0.2


def test_children_are_ready_when_each_of_them_says_so(tmp_path: Path) -> None:
    sign = tmp_path / "ready"
    specs = python("a", WAIT_FOR_EVER), python("b", WAIT_FOR_EVER, ready=sign.exists)
    with started(*specs) as supervisor:
        assert not supervisor.are_ready()
        sign.touch()
        assert supervisor.are_ready()


def test_stopping_kills_a_child_that_does_not_end_within_its_grace() -> None:
    lines: list[tuple[str, str]] = []
    deaf = python("deaf", IGNORE_SIGTERM, stop_grace_s=0.3)
    with started(deaf, lines=lines) as supervisor:
        turn_until(supervisor, lambda: lines)
        process = supervisor.children[0].process
        assert process is not None
        supervisor.stop()
        assert process.returncode == -signal.SIGKILL


def test_stopping_some_leaves_the_others_running() -> None:
    with started(python("a", WAIT_FOR_EVER), python("b", WAIT_FOR_EVER)) as supervisor:
        supervisor.stop(["a"])
        supervisor.turn(0)
        first, other = supervisor.children
        assert not first.is_alive
        assert first.start_again_at is None
        assert other.is_alive


def test_nothing_that_a_child_started_stays_behind() -> None:
    lines: list[tuple[str, str]] = []
    code = (
        "import subprocess, sys, signal;"
        f"child = subprocess.Popen([sys.executable, '-S', '-c', {IGNORE_SIGTERM!r}], stdout=subprocess.PIPE);"
        "child.stdout.readline(); print(child.pid, flush=True); signal.pause()"
    )
    with started(python("a", code), lines=lines) as supervisor:
        turn_until(supervisor, lambda: lines)
        grandchild = int(lines[0][1])
        supervisor.stop()
        wait_until(lambda: not process_exists(grandchild), 5)


def test_a_child_tells_its_parent_that_it_is_alive() -> None:
    code = (
        "from app_srvc.supervisor import ParentLink; import signal;"
        "ParentLink().beat(); signal.pause()"
    )
    spec = ChildSpec("a", (sys.executable, "-c", code), dict(os.environ))
    with started(spec) as supervisor:
        (child,) = supervisor.children
        assert child.beaten_at is None
        turn_until(supervisor, lambda: child.beaten_at is not None)
        assert child.beaten_at is not None
        assert child.beaten_at > child.started_at


@pytest.mark.parametrize("how", ["fresh", "forked"])
def test_a_child_learns_that_its_parent_was_killed_though_its_sibling_lives_on(
    how: str, tmp_path: Path
) -> None:
    files = [tmp_path / f"pid.{name}" for name in ("first", "second")]
    parent = subprocess.Popen(
        [sys.executable, "-m", "tests.samples.supervised", how, str(tmp_path / "pid")],
        stdin=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: all(file.exists() and file.read_text() for file in files), 20)
    finally:
        parent.kill()
        parent.wait(10)
    first, second = (int(file.read_text()) for file in files)
    try:
        wait_until(lambda: not process_exists(first), 5)
        assert process_exists(second)
    finally:
        os.kill(second, signal.SIGKILL)


def run_with_fork(code: str) -> subprocess.CompletedProcess[str]:
    """Run code that forks in a process of its own, which has one thread, unlike that of the tests."""
    head = "import os, signal, time; from app_srvc.forking import fork;"
    head += "stdin = os.open(os.devnull, os.O_RDONLY);"
    command = [sys.executable, "-c", head + code]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)


def test_a_forked_child_ends_with_what_its_function_returns() -> None:
    done = run_with_fork(
        "child = fork(lambda: 7, stdin=stdin, close=[]); print(child.wait(5), child.poll())"
    )
    assert done.stdout == "7 7\n"


def test_a_forked_child_that_raises_has_failed() -> None:
    done = run_with_fork("print(fork(lambda: 1 / 0, stdin=stdin, close=[]).wait(5))")
    assert done.stdout == "1\n"
    assert "ZeroDivisionError" in done.stderr


def test_a_forked_child_can_be_ended() -> None:
    done = run_with_fork(
        "child = fork(lambda: time.sleep(60), stdin=stdin, close=[]);"
        "print(child.poll()); child.terminate(); print(child.wait(5))"
    )
    assert done.stdout == f"None\n{-signal.SIGTERM}\n"
