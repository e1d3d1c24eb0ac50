"""The ledger of a run: when each job was sent and begun, and in which process.

It is a file that all processes map into their memory, so that a job notes itself with two stores, about
0.2 µs, in the same way in every system: no Redis command, no lock, no waiting. The place of a job in it
is its number. The clock is CLOCK_MONOTONIC, which all processes share.
"""

from mmap import mmap
from pathlib import Path
from typing import Self

COLUMNS, BYTES = 3, 8


class Ledger:
    """`sent` and `begun` are seconds, 0.0 if it has not been; `process` is a process id."""

    def __init__(self, path: Path) -> None:
        with path.open("r+b") as file:
            memory = memoryview(mmap(file.fileno(), 0))
        self.path = path
        self.size = len(memory) // (COLUMNS * BYTES)
        column = self.size * BYTES
        self.sent = memory[:column].cast("d")
        self.begun = memory[column : 2 * column].cast("d")
        self.process = memory[2 * column :].cast("q")
        self._reached = 0

    @classmethod
    def create(cls, path: Path, size: int) -> Self:
        path.write_bytes(bytes(size * COLUMNS * BYTES))
        return cls(path)

    def count(self) -> int:
        """How many jobs have begun."""
        return self.size - self.begun.tolist().count(0.0)

    def is_full(self) -> bool:
        """Whether all have begun. Cheap, however often it is asked: it goes on where it stopped."""
        while self._reached < self.size and self.begun[self._reached]:
            self._reached += 1
        return self._reached == self.size

    def rate(self, processes: int) -> float:
        """Jobs in a second, from the moment at which every process has begun its first job.

        Before, some were still starting. It ends with the begin of the last job, so it holds as many
        claims as reports of ends.
        """
        first: dict[int, float] = {}
        for at, process in zip(self.begun, self.process, strict=True):
            first[process] = min(at, first.get(process, at))
        if len(first) < processes:
            raise RuntimeError(
                f"Only {len(first)} of {processes} processes had a job: too few jobs"
            )
        start = max(first.values())
        return sum(at > start for at in self.begun) / (max(self.begun) - start)
