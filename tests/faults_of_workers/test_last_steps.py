"""The end of a job when something comes in between: a stop, an outage, garbage, a tool that looks."""

import os
import signal
import threading
import time

import pytest
from redis import Redis
from rq import Callback, Queue, Retry
from rq.command import send_stop_job_command
from rq.job import Dependency, Job
from rq.registry import StartedJobRegistry

from tests.faults_of_workers.conftest import StartWorker
from tests.support.cutting_proxy import BEFORE, RQ, CuttingProxy
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
from tests.support.waiting import holds_for, wait_until

CLASSES = "tests.samples.lease_worker_classes"


@pytest.fixture
def queue(valkey: ValkeyServer) -> Queue:
    return Queue("q", connection=valkey.client)


def enqueue(queue: Queue, diary: Diary, name: str, *more: object, **options: object) -> Job:
    function = options.pop("function", "work")
    job: Job = queue.enqueue(
        f"{JOBS}.{function}", args=(str(diary.path), name, *more), job_id=name, **options
    )
    return job


def enqueue_after(queue: Queue, diary: Diary, first: Job, **how: bool) -> None:
    """`first`, which is not enqueued yet, and `then`, which depends on it."""
    first.save()
    depends_on = Dependency([first], **how)
    enqueue(queue, diary, "then", depends_on=depends_on)
    queue.enqueue_job(first)


def status(redis: Redis, name: str) -> str:
    return fields(redis, [name], "status")[name]


def wait_for_status(redis: Redis, name: str, wanted: str, timeout_s: float = 8.0) -> None:
    wait_until(lambda: status(redis, name) == wanted, timeout_s, what=f"{name} is {wanted}")


def wait_until_begun(diary: Diary, name: str) -> None:
    wait_until(lambda: name in diary.names("begun"), 8, what=f"{name} runs")


# --- dependents -----------------------------------------------------------------------------------


def test_what_depends_on_a_job_does_not_wait_for_the_next_one_of_its_worker(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    start_worker(children=2)
    enqueue(queue, diary, "other", 1.0)
    wait_until_begun(diary, "other")
    first = queue.create_job(f"{JOBS}.work", args=(str(diary.path), "first", 0.3), job_id="first")
    enqueue_after(queue, diary, first)
    enqueue(queue, diary, "long", 6.0)
    wait_for_status(valkey.client, "then", "finished", 5)
    assert "long" not in diary.names("ended")


def test_a_dependent_that_comes_while_its_job_runs_does_not_wait_either(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    start_worker(children=2)
    first = enqueue(queue, diary, "first", 0.5)
    wait_until_begun(diary, "first")
    enqueue(queue, diary, "other", 0.8)
    wait_until_begun(diary, "other")
    enqueue(queue, diary, "then", depends_on=first)
    enqueue(queue, diary, "long", 6.0)
    wait_for_status(valkey.client, "then", "finished", 5)
    assert "long" not in diary.names("ended")


def test_dependents_of_a_failure_are_enqueued_though_redis_refused_at_first(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    start_worker(worker_class=f"{CLASSES}.ReadOnlyWorker")
    first = queue.create_job(f"{JOBS}.fail", args=(str(diary.path), "first"), job_id="first")
    enqueue_after(queue, diary, first, allow_failure=True)
    wait_for_status(valkey.client, "then", "finished")
    assert status(valkey.client, "first") == "failed"
    assert valkey.client.xlen("rq:results:first") == 1


@pytest.mark.parametrize("spoilt", ["hash", "dependents"])
def test_a_job_whose_end_rq_can_not_write_fails_once(
    spoilt: str, valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    first = queue.create_job(f"{JOBS}.work", args=(str(diary.path), "first"), job_id="first")
    enqueue_after(queue, diary, first)
    if spoilt == "hash":
        redis.hset("rq:job:first", "created_at", "garbage")
    else:
        redis.set("rq:job:first:dependents", "text")
    good = enqueue_work(redis, diary, 50)
    worker = start_worker(constants=SHORT_LEASE)
    wait_for_status(redis, "first", "failed")
    wait_until(lambda: are_finished(redis, good), what="the others are finished")
    assert redis.zscore("rq:failed:q", "first") is not None
    wait_until(lambda: redis.zcard("rq:wip:q") == 0, what="nothing is in hand")
    assert "job_rescued" not in worker.log_text()
    assert diary.counts("begun")["first"] <= 1


# --- stops ----------------------------------------------------------------------------------------


def test_a_stop_during_a_shutdown_is_carried_out(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    worker = start_worker()
    enqueue(queue, diary, "job", 20.0)
    wait_until_begun(diary, "job")
    worker.terminate()
    wait_until(lambda: valkey.client.hget("rq:worker:w", "shutdown_requested_date") or True)
    send_stop_job_command(valkey.client, "job")
    assert worker.wait_for_exit() == 0
    assert status(valkey.client, "job") == "stopped"
    assert_nothing_stranded(valkey.client)


def test_a_killed_child_s_job_goes_back_though_its_worker_is_to_stop(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    worker = start_worker()
    enqueue(queue, diary, "job", 20.0)
    wait_until_begun(diary, "job")
    worker.terminate()
    os.kill(worker.children()[0], signal.SIGKILL)
    assert worker.wait_for_exit() == 0
    assert status(valkey.client, "job") == "queued"
    assert fields(valkey.client, ["job"], "rescues") == {"job": "1"}
    assert_nothing_stranded(valkey.client)


def test_a_slow_callback_of_a_stopped_job_is_not_taken_for_a_dead_worker(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    worker = start_worker(constants=SHORT_LEASE)
    slow = Callback(f"{JOBS}.stop_slowly", timeout=30)
    enqueue(queue, diary, "job", 20.0, on_stopped=slow)
    wait_until_begun(diary, "job")
    send_stop_job_command(valkey.client, "job")
    wait_for_status(valkey.client, "job", "stopped", 15)
    assert diary.counts("stopped") == {"job": 1}
    assert "job_rescued" not in worker.log_text()
    assert diary.counts("begun") == {"job": 1}


@pytest.mark.parametrize("retry", [None, Retry(max=1)], ids=["", "retry"])
def test_a_stop_while_redis_is_read_only_is_no_failure(
    retry: Retry | None,
    valkey: ValkeyServer,
    queue: Queue,
    start_worker: StartWorker,
    diary: Diary,
) -> None:
    worker = start_worker()
    enqueue(queue, diary, "job", 20.0, retry=retry)
    wait_until_begun(diary, "job")
    valkey.client.replicaof("127.0.0.1", "1")
    try:
        send_stop_job_command(valkey.client, "job")
        wait_until(lambda: "ReadOnlyError" in worker.log_text(), 8, what="it is refused")
    finally:
        valkey.client.replicaof("NO", "ONE")
    wait_for_status(valkey.client, "job", "stopped")
    assert diary.counts("begun") == {"job": 1}
    assert_nothing_stranded(valkey.client)


def test_a_job_that_ends_long_after_the_request_to_stop_is_reported(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    """The child is idle for as long as that takes, which is no reason to kill it."""
    worker = start_worker(children=4, constants={"app_srvc.workers.lease.lane:STUCK_AFTER_S": 0.3})
    names = [f"job{number}" for number in range(4)]
    # Results that take some time to report.
    give = {"function": "work_and_give_bytes"}
    for number, name in enumerate(names):
        enqueue(queue, diary, name, 1.0 + 0.03 * number, 8_000_000, **give)
    wait_until(lambda: len(diary.names("begun")) == 4, 8, what="all run")
    worker.terminate()
    assert worker.wait_for_exit() == 0
    assert set(fields(valkey.client, names, "status").values()) == {"finished"}


def test_a_request_to_stop_while_a_child_is_started_is_heard(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    worker = start_worker(worker_class=f"{CLASSES}.StoppedWhileItStarts")
    enqueue_work(valkey.client, diary, 300, seconds=0.1)
    wait_until(lambda: diary.size() > 0, what="jobs run")
    os.kill(worker.children()[0], signal.SIGKILL)
    assert worker.wait_for_exit() == 0
    assert_nothing_stranded(valkey.client)


# --- outages, strangers ---------------------------------------------------------------------------


def test_an_outage_before_a_job_begins_does_not_count_as_its_time(
    valkey: ValkeyServer,
    proxy: CuttingProxy,
    queue: Queue,
    start_worker: StartWorker,
    diary: Diary,
) -> None:
    worker = start_worker(url=proxy.url)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    point = proxy.halt(RQ, 1, BEFORE)
    noting = Callback(f"{JOBS}.note_success")
    enqueue(queue, diary, "job", job_timeout=1, on_success=noting)
    assert point.is_reached.wait(10)
    proxy.shut(True)
    threading.Event().wait(7)
    proxy.shut(False)
    wait_for_status(valkey.client, "job", "finished", 15)
    assert diary.counts("begun") == {"job": 1}
    assert "job_ignores_its_limit" not in worker.log_text()


def test_a_tool_that_looks_at_a_dead_worker_s_jobs_does_not_fail_them(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    """RQ's own registry fails whatever seems to be abandoned when it is counted."""
    redis = valkey.client
    worker = start_worker("first", constants=SHORT_LEASE)
    enqueue(queue, diary, "job", 3.0)
    wait_until_begun(diary, "job")
    worker.signal_all(signal.SIGKILL)
    worker.wait_for_exit()
    time.sleep(2.5)  # its lease is over
    assert StartedJobRegistry("q", connection=redis).count == 1
    assert StartedJobRegistry("q", connection=redis).get_job_ids() == ["job"]
    assert status(redis, "job") == "started"
    start_worker("second", constants=SHORT_LEASE)
    wait_for_status(redis, "job", "finished", 15)
    assert_nothing_stranded(redis)


def test_a_worker_that_was_cut_off_does_not_write_into_a_job_of_another_one(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    cut_off = start_worker("one", constants=SHORT_LEASE)
    enqueue(queue, diary, "job", 1.0, function="change_itself")
    wait_until_begun(diary, "job")
    cut_off.signal_all(signal.SIGSTOP)
    start_worker("two", constants=SHORT_LEASE)
    wait_for_status(redis, "job", "finished", 15)
    before = redis.hgetall("rq:job:job")
    assert before[b"result_ttl"] == b"1000"
    cut_off.signal_all(signal.SIGCONT)
    wait_until(lambda: "job_lease_lost" in cut_off.log_text(), 8, what="it notices")
    assert redis.hgetall("rq:job:job") == before


def test_a_job_that_closes_the_output_does_not_bring_its_worker_down(
    valkey: ValkeyServer, queue: Queue, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    worker = start_worker(children=2, worker_class=f"{CLASSES}.RecyclingWorker")
    enqueue(queue, diary, "long", 2.0)
    wait_until_begun(diary, "long")
    enqueue(queue, diary, "closes", function="close_output")
    wait_for_status(redis, "closes", "finished")
    wait_until(lambda: len(worker.children()) == 2, what="there is a child in its place")
    assert holds_for(lambda: len(redis.smembers("rq:workers")) == 2, 0.5)
    wait_for_status(redis, "long", "finished")
    assert diary.counts("begun") == {"long": 1, "closes": 1}
