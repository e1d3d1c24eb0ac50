"""Redis is away, hangs, is empty, refuses to write or forgets its scripts: lease workers live through it."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from redis import Redis
from rq import Callback, Queue, Retry, Worker
from rq.job import Job
from rq.suspension import resume, suspend

from tests.faults_of_workers.conftest import StartWorker
from tests.support.lease_workers import (
    JOBS,
    SHORT_LEASE,
    Diary,
    LeaseWorkerProcess,
    are_finished,
    assert_finished_once,
    assert_nothing_stranded,
    enqueue_work,
)
from tests.support.servers import ValkeyServer, free_port
from tests.support.waiting import wait_until

GOES_ON_S = 5.0
JOB_S = 0.001
LINE_BYTES = 36


@pytest.fixture
def durable(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Valkey that keeps what it has answered, through a kill -9."""
    options = {"appendonly": "yes", "appendfsync": "no"}
    with ValkeyServer(tmp_path / "durable", options=options) as server:
        yield server
        server.resume()


class Load:
    """Plain jobs, and among them some that RQ's own code has to end."""

    def __init__(self, server: ValkeyServer, diary: Diary, count: int = 1200) -> None:
        self._server, self._diary = server, diary
        redis = server.client
        suspend(redis)
        plain = enqueue_work(redis, diary, count, seconds=JOB_S)
        queue = Queue("q", connection=redis)
        queue.enqueue_many(
            [
                Queue.prepare_data(
                    f"{JOBS}.{function}",
                    args=(str(diary.path), name),
                    job_id=name,
                    timeout=60,
                    on_success=Callback(f"{JOBS}.note_success") if function == "work" else None,
                    retry=Retry(max=1) if function == "fail_once" else None,
                )
                for function in ("work", "fail_once", "ask_for_another_try")
                for name in (f"{function}{number}" for number in range(20))
            ]
        )
        rq = [f"work{n}" for n in range(20)] + [f"fail_once{n}" for n in range(20)]
        self.ids = [*plain, *rq, *(f"ask_for_another_try{n}" for n in range(20))]
        self.twice = {name for name in self.ids if name.startswith(("fail", "ask"))}
        self._one_result = [name for name in self.ids if not name.startswith("ask")]
        # So that they meet the outage, whenever it comes.
        ids = list(self.ids)
        Random(1).shuffle(ids)
        with redis.pipeline() as pipeline:
            pipeline.delete("rq:queue:q")
            pipeline.rpush("rq:queue:q", *ids)
            pipeline.execute()
        resume(redis)

    def wait_for_random_point(self, draw: Random) -> None:
        size = self._diary.size() + draw.randrange(1, len(self.ids) * LINE_BYTES)
        wait_until(lambda: self._diary.size() >= size, 30, what="jobs run", every_s=0.001)

    def wait_until_it_goes_on(self) -> None:
        size = self._diary.size()
        wait_until(lambda: self._diary.size() > size, GOES_ON_S, what="it goes on")

    def check(self, worker: LeaseWorkerProcess, family: list[int]) -> None:
        redis = self._server.client
        wait_until(lambda: are_finished(redis, self.ids), 30, what="all jobs are finished")
        assert_finished_once(redis, self._one_result)
        wait_until(lambda: redis.zcard("rq:wip:q") == 0, what="nothing is in hand")
        assert_nothing_stranded(redis)
        wanted = {name: 2 if name in self.twice else 1 for name in self.ids}
        assert self._diary.counts("begun") == wanted
        assert "job_rescued" not in worker.log_text()
        assert worker.family() == family


@pytest.mark.parametrize("down_s", [0.2, 1.0, 5.0])
def test_redis_is_killed_and_started_again(
    down_s: float, durable: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random
) -> None:
    worker = start_worker(url=durable.url)
    family = worker.family()
    load = Load(durable, diary)
    load.wait_for_random_point(draw)
    durable.kill()
    threading.Event().wait(down_s)
    durable.start()
    load.wait_until_it_goes_on()
    load.check(worker, family)


def test_redis_is_away_for_many_leases(
    durable: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """Whose jobs are in hand is known when it is back: none is rescued from a worker that lives."""
    redis = durable.client
    worker = start_worker(url=durable.url, constants=SHORT_LEASE)
    family = worker.family()
    warm = enqueue_work(redis, diary, 1500, tag="warm")
    wait_until(lambda: are_finished(redis, warm), 20, what="it takes many at once")
    slow = enqueue_work(redis, diary, 1, seconds=1, queue="aside", tag="slow")
    fast = enqueue_work(redis, diary, 50, queue="aside", tag="fast")
    rq = ["with-callback"]
    Queue("aside", connection=redis).enqueue(
        f"{JOBS}.work",
        args=(str(diary.path), *rq, 1.5),
        job_id=rq[0],
        on_success=Callback(f"{JOBS}.note_success"),
    )
    redis.rename("rq:queue:aside", "rq:queue:q")
    wait_until(lambda: slow[0] in diary.names("begun"), what="the slow one runs", every_s=0.001)
    durable.kill()
    threading.Event().wait(12)
    durable.start()
    ids = [*slow, *fast]
    wait_until(lambda: are_finished(redis, ids), 10, what="all jobs are finished")
    wait_until(lambda: rq[0] in diary.names("begun"), what="the last one runs")
    # And what is in hand is known for far longer than that.
    wait_until(lambda: redis.hget(_execution(redis, rq[0]), "begun"), what="its lease is renewed")
    token = _execution(redis, rq[0]).rpartition(":")[2]
    kept = (_execution(redis, rq[0]), f"rq:executions:{rq[0]}", f"app:claim:{token}")
    assert min(redis.ttl(key) for key in kept) > 80_000
    ids += rq
    wait_until(lambda: are_finished(redis, ids), 10, what="all jobs are finished")
    assert_finished_once(redis, ids)
    assert_nothing_stranded(redis)
    assert {name: diary.counts("begun")[name] for name in ids} == dict.fromkeys(ids, 1)
    assert "job_rescued" not in worker.log_text()
    assert worker.family() == family


def _execution(redis: Redis, id: str) -> str:
    """The key of the one execution that a job has."""
    [key] = redis.keys(f"rq:execution:{id}:*")
    return str(key.decode())


def test_redis_hangs_for_three_seconds(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random
) -> None:
    worker = start_worker()
    family = worker.family()
    load = Load(valkey, diary)
    load.wait_for_random_point(draw)
    valkey.pause()
    threading.Event().wait(3)
    valkey.resume()
    load.wait_until_it_goes_on()
    load.check(worker, family)


def test_redis_is_emptied(valkey: ValkeyServer, start_worker: StartWorker, diary: Diary) -> None:
    """Of course the jobs are gone; the worker is known again, and runs new ones."""
    worker = start_worker()
    family = worker.family()
    Load(valkey, diary)
    wait_until(lambda: diary.size() > 0, what="jobs run")
    valkey.client.flushall()
    later = enqueue_work(valkey.client, diary, 50, tag="later")
    wait_until(lambda: are_finished(valkey.client, later), GOES_ON_S, what="new jobs are done")
    assert_finished_once(valkey.client, later)
    wait_until(
        lambda: [each.name for each in Worker.all(connection=valkey.client)] == ["w"],
        GOES_ON_S,
        what="the worker is known again",
    )
    assert valkey.client.hget("rq:worker:w", "birth")
    assert_nothing_stranded(valkey.client)
    assert worker.family() == family


def _refuse_writes(redis: Redis) -> None:
    redis.replicaof("127.0.0.1", str(free_port()))


def _allow_writes(redis: Redis) -> None:
    redis.replicaof("NO", "ONE")


def _fill(redis: Redis) -> None:
    redis.config_set("maxmemory", "1")


def _empty(redis: Redis) -> None:
    redis.config_set("maxmemory", "0")


REFUSALS = {"read-only": (_refuse_writes, _allow_writes), "no-memory": (_fill, _empty)}


@pytest.mark.parametrize("refusal", REFUSALS)
def test_redis_refuses_to_write_for_a_while(
    refusal: str, valkey: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random
) -> None:
    begin, end = REFUSALS[refusal]
    worker = start_worker()
    family = worker.family()
    load = Load(valkey, diary)
    try:
        load.wait_for_random_point(draw)
        begin(valkey.client)
        threading.Event().wait(1.5)
    finally:
        end(valkey.client)
    load.wait_until_it_goes_on()
    load.check(worker, family)


def test_with_the_memory_full_for_longer_than_a_lease_nothing_runs_twice(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """The leases are renewed all the same; and no more is begun than can be ended."""
    worker = start_worker(constants=SHORT_LEASE)
    family = worker.family()
    start_worker("other", constants=SHORT_LEASE)
    load = Load(valkey, diary, 600)
    scheduled = Queue("q", connection=valkey.client).create_job(f"{JOBS}.note_nothing")
    scheduled.save()
    valkey.client.zadd("rq:scheduled:q", {scheduled.id: time.time() + 0.5})
    try:
        wait_until(lambda: diary.size() > 0, what="jobs run")
        _fill(valkey.client)
        threading.Event().wait(4)
        in_hand = valkey.client.zcard("rq:wip:q")
    finally:
        _empty(valkey.client)
    assert in_hand <= 2 * 2 * 250
    load.wait_until_it_goes_on()
    load.check(worker, family)
    wait_until(lambda: are_finished(valkey.client, [scheduled.id]), what="it was promoted")


def test_redis_forgets_its_scripts_again_and_again(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary, draw: Random
) -> None:
    worker = start_worker()
    family = worker.family()
    load = Load(valkey, diary)
    while not are_finished(valkey.client, load.ids):
        valkey.client.script_flush()
        threading.Event().wait(draw.uniform(0.0, 0.3))
    load.check(worker, family)


def test_a_worker_that_starts_without_redis_waits_for_it(
    durable: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    ids = enqueue_work(durable.client, diary, 20)
    durable.kill()
    worker = start_worker(url=durable.url)
    wait_until(
        lambda: "worker_redis_failed" in worker.log_text(), 10, what="the worker misses Redis"
    )
    durable.start()
    wait_until(lambda: are_finished(durable.client, ids), GOES_ON_S, what="the jobs are done")
    assert_finished_once(durable.client, ids)


@pytest.mark.parametrize("fault", ["hangs", "is-away"])
def test_sigterm_while_redis_is_no_use_ends_the_worker_nevertheless(
    fault: str, durable: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """What it had in hand is left to be rescued."""
    worker = start_worker(url=durable.url, constants=SHORT_LEASE)
    load = Load(durable, diary, 300)
    wait_until(lambda: diary.size() > 0, what="jobs run")
    durable.pause() if fault == "hangs" else durable.kill()
    worker.terminate()
    assert worker.wait_for_exit(60) == 0
    durable.restore()
    start_worker("next", url=durable.url, constants=SHORT_LEASE)
    wait_until(
        lambda: are_finished(durable.client, load.ids), 20, what="the next one does the rest"
    )
    assert_nothing_stranded(durable.client)


def test_a_job_that_ended_in_time_is_not_killed_because_redis_is_away(
    durable: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """Its end waits for Redis for longer than the job might take: that is no fault of the job."""
    names = ["callback", "slow-callback", "plain"]
    for name in names:
        callback = {
            "callback": Callback(f"{JOBS}.note_success"),
            "slow-callback": Callback(f"{JOBS}.take_long", timeout=20),
        }.get(name)
        Queue(name, connection=durable.client).enqueue(
            f"{JOBS}.work",
            args=(str(diary.path), name, 0.5),
            job_id=name,
            job_timeout=1,
            on_success=callback,
        )
    worker = start_worker(url=durable.url, queues=names, children=3)
    wait_until(lambda: set(diary.names("begun")) == set(names), what="the jobs run")
    durable.kill()
    wait_until(lambda: set(diary.names("ended")) == set(names), what="the jobs end")
    threading.Event().wait(7.5)
    durable.start()
    for name in names:
        wait_until(
            lambda n=name: are_finished(durable.client, [n], n), GOES_ON_S, what="it is finished"
        )
        assert_finished_once(durable.client, [name], name)
    assert "job_ignores_its_limit" not in worker.log_text()
    assert diary.counts("begun") == dict.fromkeys(names, 1)


def test_the_time_in_which_a_job_is_read_is_not_its_own(
    durable: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """A job that looks at itself while Redis is away has the rest of its time when it is back."""
    redis, names = durable.client, {"quick": 0.1, "slow": 20}
    for name, after_s in names.items():
        Queue(name, connection=redis).enqueue(
            f"{JOBS}.look_at_itself", str(diary.path), name, 1, after_s, job_id=name, job_timeout=3
        )
    worker = start_worker(url=durable.url, queues=names, children=2)
    wait_until(lambda: set(diary.names("begun")) == set(names), what="the jobs run")
    durable.kill()
    threading.Event().wait(9)
    durable.start()
    wait_until(lambda: are_finished(redis, ["quick"], "quick"), GOES_ON_S, what="it is finished")
    assert_finished_once(redis, ["quick"], "quick")
    wait_until(lambda: redis.zcard("rq:failed:slow") == 1, GOES_ON_S, what="the other is ended")
    assert "JobTimeoutException" in Job.fetch("slow", connection=redis).latest_result().exc_string
    assert "job_ignores_its_limit" not in worker.log_text()
    assert diary.counts("begun") == dict.fromkeys(names, 1)
