"""Jobs that wait: behind a slow one of their batch, or for their time."""

import os
import time
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.suspension import resume

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    JOBS,
    SHORT_LEASE,
    Diary,
    are_finished,
    assert_finished_once,
    assert_nothing_stranded,
    enqueue_work,
    fields,
    in_hand,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

SLOW_S = 2.5
SOON_S = 1.5


def enqueue_together(redis: Redis, diary: Diary, fast: int, slow_s: float = SLOW_S) -> list[str]:
    """A slow job and fast ones behind it appear in one moment; a worker takes them in one batch."""
    ids = enqueue_work(redis, diary, 1, seconds=slow_s, queue="aside", tag="slow")
    ids += enqueue_work(redis, diary, fast, queue="aside", tag="fast")
    redis.rename("rq:queue:aside", "rq:queue:q")
    return ids


def warm_up(redis: Redis, diary: Diary) -> None:
    """Workers learn that jobs are short, and take many at once."""
    ids = enqueue_work(redis, diary, 1500, tag="warm")
    wait_until(lambda: are_finished(redis, ids), 20, what="the workers are warm")


@pytest.mark.parametrize("sibling", ["child", "worker", "none"])
def test_jobs_behind_a_slow_one_are_run_by_whoever_is_idle(
    sibling: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    start_worker(children=2 if sibling == "child" else 1)
    if sibling == "worker":
        start_worker("other")
    warm_up(redis, diary)
    ids = enqueue_together(redis, diary, 50)
    slow, fast = ids[0], ids[1:]
    wait_until(lambda: slow in diary.names("begun"), what="the slow one runs", every_s=0.001)
    assert redis.zcard("rq:wip:q") > 1, "the fast ones were to be in hand with it"
    if sibling != "none":
        wait_until(lambda: are_finished(redis, fast), SOON_S, what="the others are done")
        assert slow not in diary.names("ended")
    else:
        wait_until(lambda: redis.llen("rq:queue:q") == len(fast), what="the others are put back")
        for mark in ("rescues", "suspect"):
            assert set(fields(redis, ids, mark).values()) == {""}
    wait_until(lambda: are_finished(redis, ids), 10, what="all are done")
    assert_finished_once(redis, ids)
    assert_nothing_stranded(redis)
    order = [name for name in diary.names("begun") if name in fast]
    if sibling == "none":
        assert order == fast
    else:
        # One that is idle at once takes what the slow one's batch left; those of it come later.
        assert any(_is_merged_from(order, fast[:taken], fast[taken:]) for taken in range(51))


def _is_merged_from(order: list[str], *parts: list[str]) -> bool:
    return all([name for name in order if name in part] == part for part in parts)


def test_jobs_with_much_data_are_claimed_a_few_at_a_time(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """Redis serves nobody else while it reads them; one that is larger is taken nevertheless."""
    redis = valkey.client
    constants = {**SHORT_LEASE, "app_srvc.workers.lease.runner:BATCH_S": 1}
    worker = start_worker(constants=constants)
    warm_up(redis, diary)
    aside = Queue("aside", connection=redis)
    killer = aside.enqueue(
        f"{JOBS}.die_while_suspended", valkey.url, "worker", str(diary.path), "killer"
    )
    sizes = {**dict.fromkeys((f"large{number}" for number in range(9)), 300_000), "huge": 3_000_000}
    for id, size in sizes.items():
        aside.enqueue(f"{JOBS}.measure", os.urandom(size), job_id=id)
    redis.rename("rq:queue:aside", "rq:queue:q")
    worker.wait_for_exit()
    assert in_hand(redis) == {killer.id, "large0", "large1", "large2", "large3"}
    killer.delete()
    resume(redis)
    start_worker("other", constants=constants)
    wait_until(lambda: are_finished(redis, sizes), 10, what="all are done")
    assert_finished_once(redis, sizes)


def test_scheduled_jobs_run_once_each_however_many_workers_promote_them(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """At fractions of a second; 1,000 within two seconds."""
    redis, count = valkey.client, 1000
    queue = Queue("q", connection=redis)
    ids = [f"j{number:04d}" for number in range(count)]
    begins = time.time() + 1
    scores: dict[Any, float] = {}
    with redis.pipeline() as pipeline:
        for number, id in enumerate(ids):
            job = queue.create_job(f"{JOBS}.work", args=(str(diary.path), id), job_id=id)
            job.save(pipeline=pipeline)
            scores[id] = begins + 2 * number / count
        pipeline.zadd("rq:scheduled:q", scores)
        pipeline.execute()
    for number in range(3):
        start_worker(f"w{number}")
    wait_until(lambda: are_finished(redis, ids), 15, what="all have run")
    assert_finished_once(redis, ids)
    assert_nothing_stranded(redis)
    assert diary.counts("begun") == dict.fromkeys(ids, 1)
    early = {name: at for name, _, at in diary.lines("begun") if at < scores[name]}
    assert not early
    assert redis.zcard("rq:scheduled:q") == 0


def test_a_paused_queue_with_jobs_does_not_hold_up_another_one(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """Jobs of the other one are heard of as they arrive: a look is far away."""
    redis = valkey.client
    redis.sadd("app:queue:paused", "q")
    wait = enqueue_work(redis, diary, 20)
    # The one that is not a list is not claimed from either.
    redis.set("rq:queue:strange", "text")
    look = {"app_srvc.workers.lease.runner:PAUSED_LOOK_S": 30}
    start_worker(queues=["q", "strange", "other"], constants=look)
    for number in range(3):
        ids = enqueue_work(redis, diary, 5, queue="other", tag=f"other{number}n")
        wait_until(lambda ids=ids: are_finished(redis, ids, "other"), SOON_S, what="they are done")
    asked: int = redis.info("commandstats")["cmdstat_blmove"]["calls"]
    time.sleep(1)
    assert redis.info("commandstats")["cmdstat_blmove"]["calls"] - asked < 20, "it polls"
    assert redis.llen("rq:queue:q") == len(wait)
    assert diary.counts("begun").keys().isdisjoint(wait)


def test_a_queue_goes_on_when_it_is_resumed(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    redis.sadd("app:queue:paused", "q")
    start_worker()
    ids = enqueue_work(redis, diary, 20)
    time.sleep(0.5)
    assert not diary.size()
    redis.srem("app:queue:paused", "q")
    wait_until(lambda: are_finished(redis, ids), SOON_S, what="they are done")
    assert_finished_once(redis, ids)
