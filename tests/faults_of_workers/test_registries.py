"""What piles up in Redis while no worker of RQ's own runs its maintenance: lease workers clean it."""

import time
from collections.abc import Mapping
from typing import Any

import pytest
from redis import Redis
from rq import Queue
from rq.executions import Execution
from rq.job import Job
from rq.registry import FailedJobRegistry, FinishedJobRegistry

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    JOBS,
    Diary,
    are_finished,
    assert_finished_once,
    assert_nothing_stranded,
    enqueue_work,
    fields,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import holds_for, wait_until

HERE = "app_srvc.workers.lease.registries"
OFTEN: Mapping[str, float] = {
    f"{HERE}:TRIM_EVERY_S": 0.2,
    f"{HERE}:UNSTICK_EVERY_S": 0.2,
    f"{HERE}:FORGET_EVERY_S": 0.2,
    f"{HERE}:STUCK_AFTER_S": 1,
}


def entries(redis: Redis, key: str) -> set[bytes]:
    found: Any = redis.zrange(key, 0, -1)
    return {*found}


def take_as_rq_does(redis: Redis, count: int, queue: str = "q") -> None:
    """What a worker of RQ does before it begins a job; this one does nothing after it."""
    for _ in range(count):
        assert Queue.dequeue_any([Queue(queue, connection=redis)], None, connection=redis)


# --- registries -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "registry"), [("finished", FinishedJobRegistry), ("failed", FailedJobRegistry)]
)
def test_a_registry_loses_what_rq_removes_from_it_and_nothing_else(
    kind: str, registry: Any, valkey: ValkeyServer, start_worker: StartWorker
) -> None:
    redis, now = valkey.client, time.time()
    scores: dict[Any, float] = {
        "old": now - 1, "very-old": 1, "young": now + 600, "for-ever": -1, "without-end": float("inf"),
        b"\xff\xfe": now - 5,
    }  # fmt: skip
    for queue in ("q", "as-rq-does"):
        redis.zadd(f"rq:{kind}:{queue}", scores)
    registry("as-rq-does", connection=redis).cleanup()
    kept = entries(redis, f"rq:{kind}:as-rq-does")
    assert kept == {b"young", b"for-ever", b"without-end"}
    start_worker(constants=OFTEN)
    wait_until(lambda: len(entries(redis, f"rq:{kind}:q")) == len(kept), what="the old ones go")
    assert entries(redis, f"rq:{kind}:q") == kept
    assert holds_for(lambda: entries(redis, f"rq:{kind}:q") == kept, 0.6)


def test_other_registries_are_left_alone(valkey: ValkeyServer, start_worker: StartWorker) -> None:
    redis, old = valkey.client, time.time() - 1000
    for kind in ("canceled", "deferred"):
        redis.zadd(f"rq:{kind}:q", {"old": old})
    redis.zadd("rq:finished:q", {"old": old})
    redis.zadd("rq:finished:somebody-elses", {"old": old})
    start_worker(constants=OFTEN)
    wait_until(lambda: not redis.exists("rq:finished:q"))
    for key in ("rq:canceled:q", "rq:deferred:q", "rq:finished:somebody-elses"):
        assert entries(redis, key) == {b"old"}


def test_a_job_leaves_the_registry_when_its_result_ends(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    Queue("q", connection=redis).enqueue(
        f"{JOBS}.work", args=(str(diary.path), "short"), job_id="short", result_ttl=1
    )
    start_worker(constants=OFTEN)
    wait_until(lambda: entries(redis, "rq:finished:q") == {b"short"}, what="it is finished")
    wait_until(lambda: not redis.exists("rq:finished:q"), what="nothing of it stays")
    assert not redis.exists("rq:job:short")


def test_a_registry_that_grew_for_months_is_trimmed_while_jobs_run(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """In many small calls, and without a rest between them."""
    redis, count = valkey.client, 50_000
    old = time.time() - 1000
    redis.zadd("rq:finished:q", {f"old{number}": old for number in range(count)})
    start_worker()
    ids = enqueue_work(redis, diary, 500)
    wait_until(lambda: are_finished(redis, ids), 10, what="jobs run meanwhile")
    wait_until(lambda: redis.zcard("rq:finished:q") == len(ids), 10, what="all old ones go")
    assert_finished_once(redis, ids)


def test_a_key_that_is_something_else_holds_up_no_other(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis, old = valkey.client, time.time() - 1
    for key in ("rq:finished:bad", "rq:queue:bad:intermediate"):
        redis.set(key, "text")
    redis.zadd("rq:failed:bad", {"old": old})
    redis.zadd("rq:finished:q", {"old": old})
    redis.sadd("rq:workers:q", "rq:worker:dead")
    ids = enqueue_work(redis, diary, 3)
    take_as_rq_does(redis, 3)
    worker = start_worker(queues=["bad", "q"], constants=OFTEN)
    wait_until(lambda: not redis.exists("rq:failed:bad", "rq:finished:q"), what="they are trimmed")
    wait_until(
        lambda: not redis.sismember("rq:workers:q", "rq:worker:dead"), what="it is forgotten"
    )
    wait_until(lambda: are_finished(redis, ids), 10, what="jobs are put back")
    refused = [line for line in worker.log_text().splitlines() if "worker_step_refused" in line]
    assert len(refused) == 2, "each reason is said once"
    assert redis.get("rq:finished:bad") == b"text"


# --- names of workers -----------------------------------------------------------------------------


def test_names_of_dead_workers_go_and_those_of_the_living_stay(
    valkey: ValkeyServer, start_worker: StartWorker
) -> None:
    redis = valkey.client
    dead = ["rq:worker:dead", b"rq:worker:\xff", ""]
    redis.hset("rq:worker:silent", "birth", "today")
    for key in ("rq:workers", "rq:workers:q"):
        redis.sadd(key, "rq:worker:silent", *dead)
    redis.sadd("rq:workers", "rq:worker:dead-of-another-queue")
    start_worker("w", children=2, constants=OFTEN)
    living = {b"rq:worker:silent", b"rq:worker:w", b"rq:worker:w-2"}
    for key in ("rq:workers", "rq:workers:q"):
        wait_until(lambda key=key: redis.smembers(key) == living, what=key)
    assert holds_for(lambda: redis.smembers("rq:workers") == living, 0.6)


# --- jobs between a queue and their start ------------------------------------------------------------


def test_jobs_that_a_dead_worker_of_rq_left_half_way_run_first_and_in_their_order(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    lost = enqueue_work(redis, diary, 3, tag="lost")
    take_as_rq_does(redis, 3)
    assert redis.llen("rq:queue:q:intermediate") == 3
    redis.sadd("app:queue:paused", "q")
    later = enqueue_work(redis, diary, 2, tag="later")
    worker = start_worker(constants=OFTEN)
    wait_until(lambda: redis.llen("rq:queue:q") == 5, what="they are in the queue again")
    redis.srem("app:queue:paused", "q")
    wait_until(lambda: are_finished(redis, [*lost, *later]), 10, what="all are done")
    assert diary.names("ended") == [*lost, *later]
    assert_finished_once(redis, [*lost, *later])
    assert_nothing_stranded(redis)
    assert not redis.exists("rq:queue:q:intermediate")
    assert "job_rescued job_id=lost0000" in worker.log_text()


def test_a_job_that_a_worker_of_rq_has_in_hand_is_not_put_back(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """It is in the list still, and in the registry already, until its process begins."""
    redis = valkey.client
    held, lost = enqueue_work(redis, diary, 2)
    take_as_rq_does(redis, 2)
    with redis.pipeline() as pipeline:
        execution = Execution.create(Job.fetch(held, redis), 600, pipeline, worker_name="of-rq")
        pipeline.execute()
    start_worker(constants=OFTEN)
    wait_until(lambda: are_finished(redis, [lost]), 10, what="the other one is done")
    assert holds_for(lambda: held not in diary.names("begun"), 1.5)
    assert redis.lrange("rq:queue:q:intermediate", 0, -1) == [held.encode()]
    redis.zadd("rq:wip:q", {execution.composite_key: time.time() - 1})
    wait_until(lambda: are_finished(redis, [held]), 10, what="its worker is dead: it is done too")
    assert diary.counts("ended") == {held: 1, lost: 1}


def test_what_has_ended_or_is_no_job_is_only_removed(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    ended, canceled, gone = enqueue_work(redis, diary, 3)
    take_as_rq_does(redis, 3)
    redis.hset(f"rq:job:{ended}", "status", "finished")
    redis.hset(f"rq:job:{canceled}", "status", "canceled")
    redis.delete(f"rq:job:{gone}")
    redis.set("rq:job:text", "text")
    redis.rpush("rq:queue:q:intermediate", "text", b"\xff\xfe")
    start_worker(constants=OFTEN)
    wait_until(lambda: not redis.exists("rq:queue:q:intermediate"), 10, what="they are removed")
    (probe,) = enqueue_work(redis, diary, 1, tag="probe")
    wait_until(lambda: are_finished(redis, [probe]))
    assert diary.names("begun") == [probe]
    assert fields(redis, [ended, canceled], "status") == {ended: "finished", canceled: "canceled"}


def test_a_job_that_is_half_way_for_a_moment_is_left_to_its_worker(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """The real time is a minute."""
    redis = valkey.client
    (job,) = enqueue_work(redis, diary, 1)
    take_as_rq_does(redis, 1)
    start_worker(constants={**OFTEN, f"{HERE}:STUCK_AFTER_S": 60})
    assert holds_for(lambda: redis.llen("rq:queue:q:intermediate") == 1, 2)
    assert job not in diary.names("begun")
