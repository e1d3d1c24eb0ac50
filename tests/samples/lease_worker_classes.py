"""Lease workers to which something happens at one point."""

import os
import signal
from collections.abc import Callable, Sequence
from typing import Any

from redis.exceptions import ReadOnlyError
from rq import Queue

from app_srvc.workers.lease.inheritance import Inheritance
from app_srvc.workers.lease.lane import Lane
from app_srvc.workers.lease_worker import LeaseWorker


class RecyclingWorker(LeaseWorker):
    """Each child runs one job."""

    child_max_jobs = 1


class ReadOnlyQueue(Queue):
    """The first time that dependents are to be enqueued, Redis refuses."""

    refusals = 1

    def enqueue_dependents(self, *arguments: Any, **named: Any) -> None:
        if ReadOnlyQueue.refusals:
            ReadOnlyQueue.refusals -= 1
            raise ReadOnlyError("READONLY You can't write against a read only replica.")
        super().enqueue_dependents(*arguments, **named)


class ReadOnlyWorker(LeaseWorker):
    queue_class = ReadOnlyQueue


class LaneThatIsStopped(Lane):
    """SIGTERM comes while its second child is about to be forked."""

    starts = 0

    def start(
        self, run: Callable[[Lane, int, Inheritance | None], int], close: Sequence[int]
    ) -> None:
        self.starts += 1
        if self.starts == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        super().start(run, close)


class StoppedWhileItStarts(LeaseWorker):
    def make_lane(self, name: str) -> Lane:
        return LaneThatIsStopped(name)
