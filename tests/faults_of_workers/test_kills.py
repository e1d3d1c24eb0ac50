"""kill -9 of a lease worker's processes at random points, with 2,000 jobs: nothing is lost, ever."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest
from redis import Redis
from rq.suspension import resume, suspend

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    SHORT_LEASE,
    Diary,
    LeaseWorkerProcess,
    are_finished,
    assert_finished_once,
    assert_nothing_stranded,
    enqueue_work,
    fields,
    in_hand,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until
from tests.support.workers import process_exists

JOBS = 2000
LINE_BYTES = 36
AFTER_CHILD_S, AFTER_WORKER_S = 5.0, 15.0
# How many workers wait for the end of a dead one's leases at the same time.
AT_ONCE = 3


@dataclass
class Load:
    """2,000 jobs of one queue, and who does them."""

    redis: Redis
    queue: str
    diary: Diary
    ids: list[str]
    worker: LeaseWorkerProcess
    killed_at: float = 0.0
    cut: frozenset[str] = frozenset()

    def wait_for_random_point(self, draw: Random) -> None:
        size = self.diary.size() + draw.randrange(1, JOBS * 2 * LINE_BYTES * 8 // 10)
        wait_until(lambda: self.diary.size() >= size, 30, what="the jobs go on", every_s=0.0005)

    def note_kill(self) -> None:
        self.killed_at = time.time()
        self.cut = frozenset(in_hand(self.redis, self.queue))

    def recovery_s(self) -> float:
        """How long after the kill the last of the jobs that were in hand had run again."""
        again = [at for name, _, at in self.diary.lines("ended") if name in self.cut]
        return max([at - self.killed_at for at in again], default=0.0)

    def wait_and_check(self) -> None:
        wait_until(
            lambda: are_finished(self.redis, self.ids, self.queue),
            40,
            what=f"the jobs of {self.queue} are finished",
        )
        assert_finished_once(self.redis, self.ids, self.queue)
        assert set(self.ids) <= set(self.diary.names("ended"))

    def counted_deaths(self) -> dict[str, str]:
        """Once what was in hand has been put back, and before any of it runs again."""
        wait_until(lambda: not in_hand(self.redis, self.queue), what="nothing is in hand")
        counts = fields(self.redis, self.ids, "rescues")
        return {id: count for id, count in counts.items() if count}


@pytest.mark.timeout(900)
def test_a_killed_child_s_jobs_run_again_within_five_seconds(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random, kills: int
) -> None:
    worker = start_worker()
    recoveries = []
    for turn in range(kills):
        pause_s = draw.choice([0.0, 0.0005])
        ids = enqueue_work(valkey.client, diary, JOBS, seconds=pause_s, tag=f"t{turn}n")
        load = Load(valkey.client, "q", diary, ids, worker)
        load.wait_for_random_point(draw)
        (child,) = worker.children()
        suspend(valkey.client)
        os.kill(child, signal.SIGKILL)
        load.note_kill()
        counted = load.counted_deaths()
        resume(valkey.client)
        assert list(counted.values()) in ([], ["1"]), "the one that ran, and no other"
        assert counted.keys() <= load.cut
        load.wait_and_check()
        assert_nothing_stranded(valkey.client)
        assert worker.is_alive()
        recoveries.append(round(load.recovery_s(), 2))
    print(f"in-hand jobs had run again after {recoveries} s")
    assert max(recoveries) < AFTER_CHILD_S


@pytest.mark.timeout(1800)
def test_jobs_of_a_killed_parent_or_group_run_again_within_fifteen_seconds(
    valkey: ValkeyServer,
    start_worker: StartWorker,
    tmp_path: Path,
    draw: Random,
    kills: int,
) -> None:
    """Each worker has a queue of its own, so that the ends of their leases are waited for together."""
    recoveries = []
    for first in range(0, kills, AT_ONCE):
        loads = [
            _kill_under_load(victim, f"{victim}{n}", valkey.client, start_worker, tmp_path, draw)
            for n in range(first, min(kills, first + AT_ONCE))
            for victim in ("parent", "group")
        ]
        for load in loads:
            load.wait_and_check()
            assert len(load.worker.counted_deaths()) <= 1
            load.worker.end()
            recoveries.append(round(load.recovery_s(), 2))
        for load in loads:
            assert_nothing_stranded(valkey.client, load.queue)
    print(f"in-hand jobs had run again after {recoveries} s")
    assert max(recoveries) < AFTER_WORKER_S


@pytest.mark.timeout(600)
def test_no_death_is_counted_against_a_job_that_had_not_begun(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random, kills: int
) -> None:
    """However often its worker dies; jobs that were in hand at a death run one by one from then on."""
    ids = enqueue_work(valkey.client, diary, 400, seconds=0.0005)
    workers = []
    for turn in range(2 * kills):
        worker = start_worker(f"w{turn}", constants=SHORT_LEASE)
        workers.append(worker)
        size = diary.size() + draw.randrange(1, 40 * LINE_BYTES)
        wait_until(lambda size=size: diary.size() >= size, 10, every_s=0.0002)
        worker.signal_all(signal.SIGKILL)
        worker.wait_for_exit()
    last = start_worker("last", constants=SHORT_LEASE)
    Load(valkey.client, "q", diary, ids, last).wait_and_check()
    counted = [id for each in [*workers, last] for id in each.counted_deaths()]
    assert len(counted) <= len(workers), "each had one child, which ran one job at a time"
    assert_nothing_stranded(valkey.client)


def _kill_under_load(
    victim: str, queue: str, redis: Redis, start_worker: StartWorker, folder: Path, draw: Random
) -> Load:
    diary = Diary(folder / f"diary-{queue}")
    pause_s = draw.choice([0.0, 0.0005])
    ids = enqueue_work(redis, diary, JOBS, queue=queue, seconds=pause_s, tag=f"{queue}n")
    worker = start_worker(f"{queue}-first", queues=[queue])
    load = Load(redis, queue, diary, ids, worker)
    load.wait_for_random_point(draw)
    family = worker.family()
    if victim == "parent":
        os.kill(worker.pid, signal.SIGKILL)
    else:
        worker.signal_all(signal.SIGKILL)
    wait_until(lambda: not any(map(process_exists, family)), 5, what="no child outlives its parent")
    load.note_kill()
    load.worker = start_worker(f"{queue}-next", queues=[queue])
    return load
