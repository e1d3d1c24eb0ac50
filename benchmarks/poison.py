"""Poison in a queue: how fast the good jobs of the queue are drained beside it.

The same jobs without any poison run before and after each case. A poison that keeps its process busy until
the hard kill (`ignoring…`) holds one of the two children for as long; the rows say so by themselves.
"""

import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rq import Queue

from tests.support.lease_workers import Diary, LeaseWorkerProcess, are_finished, enqueue_work
from tests.support.poisons import POISONS, Ground
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until
from tests.support.workers import Nursery

# Each sleeps, so that the time hangs on the worker and not on the machine.
JOBS, JOB_S, CHILDREN = 800, 0.005, 2


def run() -> Iterator[dict[str, Any]]:
    nursery = Nursery("tests.samples.lease_worker_nursery")
    try:
        with tempfile.TemporaryDirectory() as name, ValkeyServer(Path(name) / "valkey") as valkey:
            without = _drain(nursery, valkey, Path(name), None)
            for poison in POISONS:
                beside = _drain(nursery, valkey, Path(name), poison)
                again = _drain(nursery, valkey, Path(name), None)
                yield {
                    "benchmark": "poison",
                    "poison": poison,
                    "jobs_per_s": round(JOBS / beside),
                    "of_none": round((without + again) / 2 / beside, 2),
                }
                without = again
    finally:
        nursery.end()


def _drain(nursery: Nursery, valkey: ValkeyServer, folder: Path, poison: str | None) -> float:
    """Seconds from the first good job to the last one; the poison stands in their middle."""
    valkey.client.flushall()
    diary = Diary(folder / f"diary-{time.time_ns()}")
    ids = enqueue_work(valkey.client, diary, JOBS // 2, seconds=JOB_S)
    if poison is not None:
        POISONS[poison](
            Ground(valkey.client, Queue("q", connection=valkey.client), diary, valkey.url)
        )
    ids += enqueue_work(valkey.client, diary, JOBS // 2, seconds=JOB_S, tag="more")
    log = folder / "worker.log"
    with LeaseWorkerProcess(nursery, valkey.url, log, children=CHILDREN):
        wait_until(lambda: are_finished(valkey.client, ids), 60, what="the good jobs are finished")
    wanted = set(ids)
    begun = [at for name, _, at in diary.lines("begun") if name in wanted]
    ended = [at for name, _, at in diary.lines("ended") if name in wanted]
    return max(ended) - min(begun)
