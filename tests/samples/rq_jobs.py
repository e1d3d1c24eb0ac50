"""Plain RQ jobs, each named for what it does."""

import time
from pathlib import Path
from typing import Any

from tests.support.waiting import wait_until


def give(value: Any) -> Any:
    return value


def work_for(seconds: float) -> float:
    time.sleep(seconds)
    return seconds


def work_and_note(seconds: float, file: str) -> None:
    """Work for a time, and add a line to the file."""
    time.sleep(seconds)
    with Path(file).open("a") as notes:
        notes.write("done\n")


def fail(words: str) -> None:
    raise ValueError(words)


def fail_until(mended: str) -> str:
    """Fail as long as the file is not there."""
    if not Path(mended).exists():
        raise ValueError("not mended yet")
    return "mended"


def hold(gate: str) -> str:
    """Say that it runs, by a file beside the gate, and run until the gate is there."""
    Path(f"{gate}.running").touch()
    wait_until(Path(gate).exists, 60, every_s=0.005)
    return f"through {Path(gate).name}"
