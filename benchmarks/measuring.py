"""What processes and a Redis have used so far; the difference of two looks is what a run has cost."""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Self

import psutil
from redis import Redis

from tests.support.servers import Server
from tests.support.service import Part

GONE = (psutil.NoSuchProcess, ProcessLookupError, FileNotFoundError, PermissionError)


@dataclass(frozen=True, slots=True)
class Usage:
    """Seconds of processor time, and what Redis counts.

    `redis_commands` holds those that scripts call; `redis_reads` is how often Redis read something from
    a client, which is the number of round trips. `machine_s` is what everybody has used together.
    """

    workers_s: float
    redis_s: float
    redis_commands: float
    redis_reads: float
    machine_s: float
    jobs: float

    def __sub__(self, before: Self) -> "Usage":
        return Usage(*(a - b for a, b in zip(astuple(self), astuple(before), strict=True)))


def usage(parts: Sequence[Part], client: Redis, jobs: int) -> Usage:
    """A look, when so many jobs have begun."""
    info = client.info("everything")
    commands = sum(values["calls"] for name, values in info.items() if name.startswith("cmdstat_"))
    return Usage(
        sum(map(cpu_s, family(parts))),
        info["used_cpu_sys"] + info["used_cpu_user"],
        commands,
        info["total_reads_processed"],
        _machine_s(),
        jobs,
    )


def family(parts: Iterable[Part | Server]) -> list[psutil.Process]:
    """The processes of some parts, with their children and theirs."""
    found = []
    for part in parts:
        with suppress(*GONE):
            parent = psutil.Process(part.pid)
            found += [parent, *parent.children(recursive=True)]
    return found


def pss_mb(parts: Iterable[Part]) -> float:
    """Memory of the processes; what several share is counted once."""
    total_kb = 0
    for process in family(parts):
        with suppress(*GONE):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            total_kb += next(
                int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:")
            )
    return total_kb / 1024


def empty(client: Redis) -> None:
    """Forget everything, and return when its memory is free: by default that comes about later."""
    client.execute_command("FLUSHALL", "SYNC")


def used_memory(client: Redis) -> int:
    value: int = client.info("memory")["used_memory"]
    return value


def cpu_s(process: psutil.Process) -> float:
    """Of the process and of those of its children that have ended."""
    with suppress(*GONE):
        times = process.cpu_times()
        return float(times.user + times.system + times.children_user + times.children_system)
    return 0.0


def _machine_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times[:8]) - times.idle - times.iowait)


@contextmanager
def machine_share() -> Iterator[Callable[[], float]]:
    """How many processors everybody on the machine kept busy in the block; ask after it."""
    began, before, result = time.monotonic(), _machine_s(), 0.0
    yield lambda: result
    result = (_machine_s() - before) / (time.monotonic() - began)


def own_cpu_s() -> float:
    """Of this process, which only looks on."""
    times = os.times()
    return times.user + times.system
