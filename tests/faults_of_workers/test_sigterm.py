"""SIGTERM under load: the jobs in hand end, the others go back, and nothing runs twice."""

import signal
import subprocess
import sys
from pathlib import Path
from random import Random

import pytest
from redis import Redis
from rq import Worker

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    Diary,
    are_finished,
    assert_finished_once,
    assert_nothing_stranded,
    enqueue_work,
    fields,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

JOBS = 2000
LINE_BYTES = 36
COMMAND = (sys.executable, "-m", "rq.cli", "worker", "-w", "app_srvc.workers.LeaseWorker")


@pytest.mark.timeout(900)
@pytest.mark.parametrize("children", [1, 3])
def test_sigterm_under_load(
    children: int,
    valkey: ValkeyServer,
    start_worker: StartWorker,
    diary: Diary,
    draw: Random,
    kills: int,
) -> None:
    redis = valkey.client
    for turn in range(kills):
        worker = start_worker(f"w{turn}", children=children)
        ids = enqueue_work(redis, diary, JOBS, seconds=0.0005, tag=f"t{turn}n")
        size = diary.size() + draw.randrange(1, JOBS * 2 * LINE_BYTES * 7 // 10)
        wait_until(lambda size=size: diary.size() >= size, 30, every_s=0.0005)
        worker.terminate()
        assert worker.wait_for_exit() == 0
        _check_stopped(redis, diary, ids)
        next_one = start_worker(f"next{turn}")
        wait_until(lambda ids=ids: are_finished(redis, ids), 20, what="the next one does the rest")
        assert_finished_once(redis, ids)
        assert {name: n for name, n in diary.counts("begun").items() if n != 1} == {}
        next_one.terminate()
        assert next_one.wait_for_exit() == 0
    assert_nothing_stranded(redis)


def test_sigterm_of_rq_s_own_command(valkey: ValkeyServer, diary: Diary, tmp_path: Path) -> None:
    """As users start it: `rq worker -w app_srvc.workers.LeaseWorker`."""
    redis = valkey.client
    ids = enqueue_work(redis, diary, 300)
    ids += enqueue_work(redis, diary, 1, seconds=0.5, tag="slow")
    ids += enqueue_work(redis, diary, 1500, seconds=0.001, tag="more")
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen(
            [*COMMAND, "--url", valkey.url, "q"], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        wait_until(lambda: "slow0000" in diary.names("begun"), 30, what="the slow job has begun")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(15) == 0
    finally:
        worker.kill()
        worker.wait()
    _check_stopped(redis, diary, ids)
    assert diary.names("ended")[-1] == "slow0000"
    assert Worker.all(connection=redis) == []


def _check_stopped(redis: Redis, diary: Diary, ids: list[str]) -> None:
    """What has begun is finished, and the rest is in the queue as it was."""
    assert diary.counts("begun") == diary.counts("ended")
    assert_nothing_stranded(redis)
    begun = set(diary.names("begun"))
    done = [id for id in ids if id in begun]
    assert_finished_once(redis, done)
    rest = [id for id in ids if id not in begun]
    listed = [id.decode() for id in redis.lrange("rq:queue:q", 0, -1)]
    assert sorted(listed) == rest
    assert set(fields(redis, rest, "status").values()) <= {"queued"}
    assert set(fields(redis, ids, "rescues").values()) == {""}
