"""A worker is stopped (SIGSTOP) for longer than its lease, and then goes on: it ends nothing any more."""

import os
import signal
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from redis import Redis
from rq import Callback, Queue, Repeat, Retry

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    JOBS,
    SHORT_LEASE,
    Diary,
    are_finished,
    assert_nothing_stranded,
    enqueue_work,
    fields,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

JOB_S = 0.6
LATER_S = 600
NEW_WORKER_S = 15.0


def _plain(queue: Queue, diary: Diary, **more: Any) -> None:
    queue.enqueue(
        f"{JOBS}.work", args=(str(diary.path), queue.name, JOB_S), job_id=queue.name, **more
    )


def _failing(queue: Queue, diary: Diary, **more: Any) -> None:
    """Fails in the worker that is stopped, and only there."""
    queue.enqueue(
        f"{JOBS}.fail_in_first_process",
        args=(str(diary.path), queue.name, JOB_S),
        job_id=queue.name,
        **more,
    )


def _with_dependent(queue: Queue, diary: Diary) -> None:
    first = queue.create_job(
        f"{JOBS}.work", args=(str(diary.path), queue.name, JOB_S), job_id=queue.name
    )
    first.save()
    then = f"{queue.name}-then"
    queue.enqueue(f"{JOBS}.work", args=(str(diary.path), then), job_id=then, depends_on=first)
    queue.enqueue_job(first)


def _returned_retry(queue: Queue, diary: Diary, interval: int) -> None:
    queue.enqueue(
        f"{JOBS}.retry_in_first_process",
        args=(str(diary.path), queue.name, JOB_S, interval),
        job_id=queue.name,
    )


CASES: Mapping[str, Callable[[Queue, Diary], None]] = {
    "plain": _plain,
    "callback": lambda q, d: _plain(q, d, on_success=Callback(f"{JOBS}.note_success")),
    "repeat": lambda q, d: _plain(q, d, repeat=Repeat(times=1, interval=LATER_S)),
    "result-kept-for-no-time": lambda q, d: _plain(q, d, result_ttl=0),
    "dependent": _with_dependent,
    "failure": _failing,
    "failure-callback": lambda q, d: _failing(q, d, on_failure=Callback(f"{JOBS}.note_failure")),
    "retry": lambda q, d: _failing(q, d, retry=Retry(max=1)),
    "retry-later": lambda q, d: _failing(q, d, retry=Retry(max=1, interval=LATER_S)),
    "returned-retry": lambda q, d: _returned_retry(q, d, 0),
    "returned-retry-later": lambda q, d: _returned_retry(q, d, LATER_S),
}


@pytest.mark.parametrize("lease", ["real", "short"])
def test_what_was_taken_from_a_stopped_worker_is_ended_by_the_other_one_only(
    lease: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """Each job has a queue and a worker of its own, which are stopped; one other worker takes them all."""
    redis = valkey.client
    constants = {} if lease == "real" else SHORT_LEASE
    names = ["plain", "callback"] if lease == "real" else list(CASES)
    stopped = {name: start_worker(name, queues=[name], constants=constants) for name in names}
    families = [pid for worker in stopped.values() for pid in worker.family()]
    for name in names:
        CASES[name](Queue(name, connection=redis), diary)
    wait_until(lambda: set(diary.names("begun")) == set(names), 10, what="all have begun")
    for pid in families:
        os.kill(pid, signal.SIGSTOP)
    assert diary.names("ended") == [], "they were to be stopped before"
    start_worker("other", queues=names, constants=constants)
    wait_until(lambda: set(diary.names("ended")) >= set(names), NEW_WORKER_S, what="all are done")
    wait_until(
        lambda: not any(redis.zcard(f"rq:wip:{name}") for name in names), what="all are over"
    )
    wait_until(lambda: diary.counts("begun")["dependent-then"] == ("dependent" in names))
    wait_until(lambda: not redis.exists("rq:wip:dependent"), what="what depends on it is over")
    before = {name: _all_about(redis, name) for name in names}
    for pid in families:
        os.kill(pid, signal.SIGCONT)
    for name, worker in stopped.items():
        wait_until(
            lambda w=worker: "job_lease_lost" in w.log_text(), 10, what=f"{name}: the log says so"
        )
        more = enqueue_work(redis, diary, 5, queue=name, tag=f"more-{name}-")
        wait_until(lambda ids=more, n=name: are_finished(redis, ids, n), 5, what="they go on")
    after = {name: _all_about(redis, name) for name in names}
    assert after == before
    for name in names:
        assert diary.counts("ended")[name] == 2
        for entry in before[name]["results"]:
            assert entry[1][b"worker_name"] == b"other"
        assert len(before[name]["results"]) == (name != "result-kept-for-no-time")
        assert_nothing_stranded(redis, name)
        assert stopped[name].is_alive()


@pytest.mark.parametrize("who", ["parent", "both"])
def test_a_stopped_worker_does_not_begin_what_was_taken_from_it(
    who: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """It has jobs in hand, of which one runs. When it goes on, the others have run elsewhere."""
    redis = valkey.client
    worker = start_worker(constants=SHORT_LEASE)
    warm = enqueue_work(redis, diary, 500, tag="warm")
    wait_until(lambda: are_finished(redis, warm), 10)
    (first,) = enqueue_work(redis, diary, 1, seconds=0.08, tag="first", queue="elsewhere")
    behind = enqueue_work(redis, diary, 50, tag="behind", queue="elsewhere")
    redis.lmove("rq:queue:elsewhere", "rq:queue:unused", "LEFT", "RIGHT")
    redis.delete("rq:queue:unused")
    redis.lpush("rq:queue:elsewhere", first)
    redis.rename("rq:queue:elsewhere", "rq:queue:q")
    wait_until(lambda: first in diary.names("begun"), every_s=0.001, what="the first has begun")
    (child,) = worker.children()
    os.kill(child, signal.SIGSTOP)
    os.kill(worker.pid, signal.SIGSTOP)
    assert redis.zcard("rq:wip:q") == 51, "they were to be stopped before"
    other = start_worker("other", constants=SHORT_LEASE)
    wait_until(lambda: are_finished(redis, [first, *behind]), 10, what="the other one does them")
    other.terminate()
    other.wait_for_exit()
    if who == "both":
        os.kill(worker.pid, signal.SIGCONT)
    os.kill(child, signal.SIGCONT)
    wait_until(lambda: diary.counts("ended")[first] == 2, what="it goes on")
    later = enqueue_work(redis, diary, 5, tag="later")
    wait_until(lambda: are_finished(redis, later), 5, what="later jobs are finished")
    assert {name: n for name, n in diary.counts("begun").items() if n > 1} == {first: 2}
    assert_nothing_stranded(redis)


def _all_about(redis: Redis, name: str) -> dict[str, Any]:
    """What Redis knows of a job and its queue, but for times that change while nothing happens."""
    hash: Any = redis.hgetall(f"rq:job:{name}")
    registries = ("scheduled", "failed", "deferred", "canceled")
    return {
        "hash": hash,
        "results": redis.xrange(f"rq:results:{name}"),
        "queue": redis.lrange(f"rq:queue:{name}", 0, -1),
        "finished": redis.zscore(f"rq:finished:{name}", name),
        "then": fields(redis, [f"{name}-then"], "status"),
        **{kind: redis.zrange(f"rq:{kind}:{name}", 0, -1, withscores=True) for kind in registries},
    }
