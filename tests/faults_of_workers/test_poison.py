"""One thing that is wrong, among 500 jobs that are not: they all finish, and it ends as it should."""

import time

import pytest
from redis import Redis
from rq import Queue
from rq.registry import FailedJobRegistry
from rq.results import Result

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
)
from tests.support.poisons import POISONS, TOKEN, Ground
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

DONE_S = 20.0


@pytest.mark.parametrize("poison", POISONS)
def test_one_thing_is_wrong(
    poison: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    good = enqueue_work(redis, diary, 250)
    end = POISONS[poison](Ground(redis, Queue("q", connection=redis), diary, valkey.url))
    good += enqueue_work(redis, diary, 250, tag="more")
    worker = start_worker()
    wait_until(lambda: are_finished(redis, good), DONE_S, what="the good jobs are finished")
    if end.id:
        wait_until(
            lambda: _status(redis, end.id) == end.status, DONE_S, what="and the bad one ends"
        )
    wait_until(lambda: redis.zcard("rq:wip:q") == 0, what="nothing is in hand")
    assert_finished_once(redis, good, others_failed=True)
    _check_failed(redis, [end.id] if end.status == "failed" and end.id else [], end.error)
    assert worker.is_alive()
    wait_until(lambda: end.log in worker.log_text(), what="the log says so")
    # Whatever it was, the worker is as good as before.
    later = enqueue_work(redis, diary, 5, tag="later")
    wait_until(lambda: are_finished(redis, later), 5, what="later jobs are finished")
    wait_until(lambda: redis.type("rq:worker:w") == b"hash", what="the worker is known")
    assert redis.hget("rq:worker:w", "birth")
    if _status(redis, end.id) not in ("strange",):
        assert_nothing_stranded(redis)


@pytest.mark.parametrize("kind", ["queue", "wip", "scheduled", "finished", "failed"])
def test_a_queue_of_which_a_key_has_a_wrong_type_harms_no_other(
    kind: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """The other one's jobs are run, promoted and rescued, and their leases renewed."""
    redis = valkey.client
    bad = [] if kind == "queue" else enqueue_work(redis, diary, 10, queue="bad", tag="bad")
    redis.set(f"rq:{kind}:bad", "text")
    good = enqueue_work(redis, diary, 20)
    scheduled, lost = enqueue_work(redis, diary, 2, tag="other")
    redis.delete("rq:queue:q")
    redis.rpush("rq:queue:q", *good)
    redis.zadd("rq:scheduled:q", {scheduled: time.time() + 0.3})
    redis.hset(f"rq:job:{lost}", "status", "started")
    redis.zadd("rq:wip:q", {f"{lost}:{TOKEN}": time.time() + 0.3})
    slow = enqueue_work(redis, diary, 1, seconds=2.5, tag="slow")
    worker = start_worker(queues=["bad", "q"], constants=SHORT_LEASE)
    start_worker("other", queues=["q", "bad"], constants=SHORT_LEASE)
    ids = [*good, scheduled, lost, *slow]
    wait_until(lambda: are_finished(redis, ids), DONE_S, what="the good queue is done")
    assert_finished_once(redis, ids)
    assert diary.counts("begun")[slow[0]] == 1
    redis.delete(f"rq:{kind}:bad")
    wait_until(
        lambda: set(fields(redis, bad, "status").values()) <= {"finished"},
        5,
        what="the other one goes on when that is put right",
    )
    wait_until(lambda: redis.zcard("rq:wip:bad") == 0)
    assert worker.is_alive()


def test_an_unclaimable_queue_is_not_asked_for_without_a_rest(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    enqueue_work(redis, diary, 10)
    redis.set("rq:wip:q", "text")
    start_worker()
    before: int = redis.info("stats")["total_commands_processed"]
    time.sleep(1)
    asked = redis.info("stats")["total_commands_processed"] - before
    # Its parent asks some 30 times in a second for what is scheduled, and the child four times for jobs.
    assert asked < 1000, f"{asked} commands in a second"


def test_a_job_that_kills_its_worker_each_time_is_found_out(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """The parent dies too, so it is known from the leases only who is to blame."""
    redis = valkey.client
    good = enqueue_work(redis, diary, 100)
    Queue("q", connection=redis).enqueue(f"{JOBS}.kill_own_worker", job_id="poison")
    good += enqueue_work(redis, diary, 100, tag="more")
    workers = []
    for number in range(10):
        worker = start_worker(f"w{number}", constants=SHORT_LEASE)
        workers.append(worker)
        wait_until(
            lambda w=worker: not w.is_alive() or _status(redis, "poison") == "failed",
            10,
            what="the worker dies, or has found out why others did",
        )
        if worker.is_alive():
            break
    wait_until(lambda: are_finished(redis, good), DONE_S, what="the good jobs are finished")
    _check_failed(redis, ["poison"], "poison")
    assert {id for each in workers for id in each.counted_deaths()} == {"poison"}


def test_a_result_that_redis_would_refuse_is_a_failure(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """A server that is sent so much cuts the connection, however often it is sent."""
    redis, largest = valkey.client, 1024 * 1024
    redis.config_set("proto-max-bulk-len", largest)
    try:
        good = enqueue_work(redis, diary, 20)
        queue = Queue("q", connection=redis)
        for id, size in {"large": largest // 2, "larger": largest}.items():
            queue.enqueue(f"{JOBS}.give_bytes", size, job_id=id)
        good += enqueue_work(redis, diary, 20, tag="more")
        start_worker(constants={"app_srvc.workers.lease.rq_runner:LARGEST_PAYLOAD": largest})
        wait_until(lambda: are_finished(redis, good), DONE_S, what="the others are finished")
        assert_finished_once(redis, ["large"], others_failed=True)
        _check_failed(redis, ["larger"], "which Redis refuses")
        assert_nothing_stranded(redis)
    finally:
        redis.config_set("proto-max-bulk-len", 512 * 1024 * 1024)


def _status(redis: Redis, id: str) -> str:
    return fields(redis, [id], "status")[id] if id else ""


def _check_failed(redis: Redis, ids: list[str], error: str) -> None:
    """These failed, as RQ's tools see it, and no others did."""
    registry = FailedJobRegistry("q", connection=redis)
    assert registry.get_job_ids(cleanup=False) == ids
    for id in ids:
        (entry,) = redis.xrange(f"rq:results:{id}")
        # As `Job.latest_result` reads it; that would read all of the job, which may be what is wrong.
        result = Result.restore(id, entry[0].decode(), entry[1], connection=redis)
        assert result.type == Result.Type.FAILED
        assert error in (result.exc_string or "")
