"""A connection to Redis that is cut before, or after, any of a lease worker's requests: nobody notices.

What every worker sends for every job. What RQ's own code sends is in `test_cuts_of_rq_path.py`.
"""

import time

import pytest
from redis import Redis
from rq import Queue

from tests.faults_of_workers.conftest import StartWorker
from tests.support.cutting_proxy import AFTER, BEFORE, CuttingProxy
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
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

GOES_ON_S = 5.0
OFTEN = {
    "app_srvc.workers.lease.housekeeping:BEAT_EVERY_S": 0.1,
    "app_srvc.workers.lease.housekeeping:RENEW_EVERY_S": 0.1,
    "app_srvc.workers.lease.housekeeping:RESCUE_EVERY_S": 0.1,
}
POINTS = {
    "claim": (1, 2, 3, 4),
    "finish": (1, 2, 3, 4),
    "hand_back": (1,),
    "renew": (1, 2),
    "rescue": (1, 2),
    "promote": (1, 2, 3),
    "BLMOVE": (1, 2),
    "HEXISTS": (1, 2),
}
# The parent's link, the child's, and that of its thread for slow jobs load six scripts each.
START_POINTS = {
    "EXISTS": (1,),
    "EXEC": (1,),
    "SUBSCRIBE": (1,),
    "SCRIPT LOAD": (1, 2, 6, 7, 8, 12, 13, 14, 18),
    "HELLO": (1, 2, 3, 4, 5, 6),
}


def every(points: dict[str, tuple[int, ...]]) -> list[tuple[str, int, str]]:
    return [
        (kind, number, when)
        for kind, numbers in points.items()
        for number in numbers
        for when in (BEFORE, AFTER)
    ]


class Mixture:
    """Jobs of which a worker needs every request: a slow one with others behind it, scheduled ones,
    and one that a dead worker had in hand."""

    def __init__(self, redis: Redis, diary: Diary) -> None:
        self._redis = redis
        queue = Queue("q", connection=redis)
        before = enqueue_work(redis, diary, 20, tag="before")
        slow = enqueue_work(redis, diary, 1, seconds=0.3, tag="slow")
        behind = enqueue_work(redis, diary, 20, tag="behind")
        (left,) = enqueue_work(redis, diary, 1, tag="left")
        redis.lrem("rq:queue:q", 1, left)
        redis.hset(f"rq:job:{left}", "status", "started")
        redis.zadd("rq:wip:q", {f"{left}:{'0' * 32}": time.time() - 1})
        later = []
        for number in range(5):
            job = queue.create_job(
                f"{JOBS}.work", args=(str(diary.path), f"later{number}"), job_id=f"later{number}"
            )
            job.save()
            redis.zadd("rq:scheduled:q", {job.id: time.time() + 0.1 * number + 0.05})
            later.append(job.id)
        self.ids = [*before, *slow, *behind, left, *later]
        self.not_begun = [*before, *slow, *behind, *later]

    def are_done(self) -> bool:
        return are_finished(self._redis, self.ids)


@pytest.mark.parametrize(("kind", "number", "when"), every(POINTS))
def test_a_connection_is_cut_at_a_request(
    kind: str,
    number: int,
    when: str,
    valkey: ValkeyServer,
    proxy: CuttingProxy,
    start_worker: StartWorker,
    diary: Diary,
) -> None:
    worker = start_worker(url=proxy.url, constants=OFTEN)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    family = worker.family()
    point = proxy.cut(kind, number, when)
    load = Mixture(valkey.client, diary)
    wait_until(point.is_reached.is_set, 10, what="the cut")
    wait_until(load.are_done, GOES_ON_S, what="the jobs are done")
    _check(valkey.client, load, diary)
    assert worker.family() == family


@pytest.mark.parametrize(("kind", "number", "when"), every(START_POINTS))
def test_a_connection_is_cut_while_a_worker_starts(
    kind: str,
    number: int,
    when: str,
    valkey: ValkeyServer,
    proxy: CuttingProxy,
    start_worker: StartWorker,
    diary: Diary,
) -> None:
    load = Mixture(valkey.client, diary)
    point = proxy.cut(kind, number, when)
    worker = start_worker(url=proxy.url, constants=OFTEN)
    wait_until(point.is_reached.is_set, 10, what="the cut")
    wait_until(load.are_done, GOES_ON_S, what="the jobs are done")
    _check(valkey.client, load, diary)
    assert worker.is_alive()


def _check(redis: Redis, load: Mixture, diary: Diary) -> None:
    assert_finished_once(redis, load.ids)
    wait_until(lambda: redis.zcard("rq:wip:q") == 0, what="nothing is in hand")
    assert_nothing_stranded(redis)
    # A cut kills nobody, so nothing has to run twice either.
    assert diary.counts("begun") == dict.fromkeys(load.ids, 1)
    assert set(fields(redis, load.not_begun, "rescues").values()) == {""}


def test_a_worker_that_was_cut_off_until_its_claim_was_given_away_goes_on(
    valkey: ValkeyServer, proxy: CuttingProxy, start_worker: StartWorker, diary: Diary
) -> None:
    """It never heard what it had claimed; by the time it can ask again, others have done it."""
    worker = start_worker(url=proxy.url, constants=SHORT_LEASE)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    point = proxy.halt("claim", 1, AFTER)
    ids = enqueue_work(valkey.client, diary, 50)
    wait_until(point.is_reached.is_set, 10, what="the claim")
    proxy.shut(True)
    other = start_worker("other", constants=SHORT_LEASE)
    wait_until(lambda: are_finished(valkey.client, ids), 10, what="the other one does them")
    other.terminate()
    other.wait_for_exit()
    proxy.shut(False)
    more = enqueue_work(valkey.client, diary, 50, tag="more")
    wait_until(lambda: are_finished(valkey.client, more), GOES_ON_S, what="it goes on")
    assert_finished_once(valkey.client, [*ids, *more])
    assert_nothing_stranded(valkey.client)
    assert diary.counts("begun") == dict.fromkeys([*ids, *more], 1)
    assert worker.is_alive()


def test_sigterm_while_the_end_of_a_job_is_on_its_way_strands_nothing(
    valkey: ValkeyServer, proxy: CuttingProxy, start_worker: StartWorker, diary: Diary
) -> None:
    """The link on which ends are sent behind a slow job hangs, and then the worker is to stop."""
    worker = start_worker(url=proxy.url)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    fast = enqueue_work(valkey.client, diary, 20)
    slow = enqueue_work(valkey.client, diary, 1, seconds=1.0, tag="slow")
    wait_until(lambda: diary.names("begun")[-1:] == slow, 10, what="the slow job has begun")
    point = proxy.halt("finish", 1, BEFORE)
    wait_until(point.is_reached.is_set, 10, what="the ends behind the slow job are sent")
    worker.terminate()
    assert worker.wait_for_exit() == 0
    assert_finished_once(valkey.client, [*fast, *slow])
    assert_nothing_stranded(valkey.client)


def test_sigterm_while_the_answer_to_a_claim_is_lost_strands_nothing(
    valkey: ValkeyServer, proxy: CuttingProxy, start_worker: StartWorker, diary: Diary
) -> None:
    worker = start_worker(url=proxy.url)
    wait_until(lambda: proxy.seen["BLMOVE"] >= 1, 10, what="the worker waits for jobs")
    point = proxy.halt("claim", 1, AFTER)
    ids = enqueue_work(valkey.client, diary, 50)
    wait_until(point.is_reached.is_set, 10, what="the claim")
    worker.terminate()
    proxy.shut(True)
    proxy.shut(False)
    assert worker.wait_for_exit() == 0
    assert_nothing_stranded(valkey.client)
    assert set(fields(valkey.client, ids, "status").values()) == {"queued"}
    assert valkey.client.llen("rq:queue:q") == len(ids)
    assert diary.names("begun") == []
