"""Allowance: for how long a child may live, by jobs, by time without work, and by size."""

import os
import time
from pathlib import Path

SIZE_LOOK_S = 2.0


class Allowance:
    """Limits of one child; None is no limit.

    `max_jobs` and `max_idle_s` end the work of the child, and so does a lack of jobs with `burst`;
    `recycle_jobs` and `recycle_mb` end the child only, and another takes its place.
    """

    def __init__(
        self,
        *,
        burst: bool,
        max_jobs: int | None,
        max_idle_s: float | None,
        recycle_jobs: int | None,
        recycle_mb: float | None,
    ) -> None:
        self._is_burst = burst
        self._max_jobs = max_jobs
        self._max_idle_s = max_idle_s
        self._recycle_jobs = recycle_jobs
        self._recycle_mb = recycle_mb
        self.jobs = 0
        self._idle_since = time.monotonic()
        self._next_size = 0.0

    def count(self, jobs: int) -> None:
        """So many jobs were run, just now."""
        self.jobs += jobs
        self._idle_since = time.monotonic()

    def left(self, most: int) -> int:
        """How many jobs may be claimed, of so many."""
        limits = (self._max_jobs, self._recycle_jobs or None)
        return min([most, *(each - self.jobs for each in limits if each is not None)])

    @property
    def is_used_up(self) -> bool:
        return self._max_jobs is not None and self.jobs >= self._max_jobs

    @property
    def is_worn_out(self) -> bool:
        """Whether another child is to take its place."""
        if self._recycle_jobs and self.jobs >= self._recycle_jobs:
            return True
        if not self._recycle_mb or time.monotonic() < self._next_size:
            return False
        self._next_size = time.monotonic() + SIZE_LOOK_S
        return resident_mb() > self._recycle_mb

    def rest_s(self, most_s: float) -> float | None:
        """For how long to wait for jobs, up to a time; None if there is nothing to wait for."""
        if self._is_burst:
            return None
        if self._max_idle_s is None:
            return most_s
        left_s = self._max_idle_s - (time.monotonic() - self._idle_since)
        return min(most_s, left_s) if left_s > 0 else None


def resident_mb() -> float:
    """The memory of this process that is not swapped out. Source: proc(5), `statm`."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
