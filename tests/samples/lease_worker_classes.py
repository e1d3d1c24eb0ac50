"""Lease workers that are slow at a point where a busy machine may halt any of them."""

import time

from app_srvc.workers.lease.ends import Batch
from app_srvc.workers.lease.plain import ID, RawJob
from app_srvc.workers.lease.rq_runner import RqRunner
from app_srvc.workers.lease_worker import LeaseWorker

# Longer than a parent takes to see that jobs wait behind a slow one.
HALT_S = 0.3


class HaltingRunner(RqRunner):
    def run_job(self, place: int, raw: RawJob, batch: Batch) -> None:
        """Halts before the job after one that is named slow, when it was decided that it is to run."""
        if place == 1 and batch.jobs[0][ID].startswith(b"slow"):
            time.sleep(HALT_S)
        super().run_job(place, raw, batch)


class HaltingWorker(LeaseWorker):
    runner_class = HaltingRunner
