"""Which jobs a death is counted against, and what life a job has that was in hand and is not any more.

RQ is suspended at the death, so that what was in hand is seen as it was put back.
"""

from collections.abc import Mapping
from typing import Any

from redis import Redis
from rq import Queue
from rq.suspension import resume

from tests.faults_of_workers.conftest import StartWorker
from tests.faults_of_workers.test_waiting_jobs import warm_up
from tests.support.lease_workers import (
    JOBS,
    SHORT_LEASE,
    Diary,
    enqueue_work,
    fields,
    in_hand,
)
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until

BEFORE, AFTER = 5, 20
# Many jobs are claimed at once, even if the ones before were slow.
TOGETHER: Mapping[str, float] = {**SHORT_LEASE, "app_srvc.workers.lease.runner:BATCH_S": 1}
# The parent looks at its children once, before they run anything.
UNSEEN: Mapping[str, float] = {
    **TOGETHER,
    "app_srvc.workers.lease.housekeeping:RENEW_EVERY_S": 1000,
}
TTL_S = 1000


def enqueue_with_killer(
    valkey: ValkeyServer, diary: Diary, victim: str, seconds: float
) -> list[str]:
    """One job that ends its process or its worker, in a batch with others. Returns all ids, in order."""
    redis = valkey.client
    before = enqueue_work(redis, diary, BEFORE, queue="aside", tag="before")
    Queue("aside", connection=redis).enqueue(
        f"{JOBS}.die_while_suspended",
        args=(valkey.url, victim, str(diary.path), "killer", seconds),
        job_id="killer",
    )
    after = enqueue_work(redis, diary, AFTER, queue="aside", tag="after")
    for id in after:
        redis.hset(f"rq:job:{id}", "ttl", TTL_S)
        redis.expire(f"rq:job:{id}", TTL_S)
    redis.rename("rq:queue:aside", "rq:queue:q")
    return [*before, "killer", *after]


def wait_until_put_back(redis: Redis, ids: list[str]) -> None:
    def waiting() -> list[str]:
        entries: Any = redis.lrange("rq:queue:q", 0, -1)
        return [entry.decode() for entry in entries]

    wait_until(lambda: sorted(waiting()) == sorted(ids), what="all are in the queue again")


def counted(redis: Redis, ids: list[str]) -> dict[str, str]:
    """Against which jobs deaths are counted, and how many."""
    return {id: count for id, count in fields(redis, ids, "rescues").items() if count}


def suspects(redis: Redis, ids: list[str]) -> list[str]:
    return [id for id, mark in fields(redis, ids, "suspect").items() if mark]


def lives(redis: Redis, ids: list[str]) -> set[int]:
    return {redis.ttl(f"rq:job:{id}") for id in ids if id.startswith("after")}  # type: ignore[misc]


def test_the_death_of_a_child_is_counted_against_the_job_that_ran(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    start_worker(constants=TOGETHER)
    warm_up(redis, diary)
    ids = enqueue_with_killer(valkey, diary, "process", 0.0)
    wait_until(lambda: "killer" in diary.names("begun"), what="it has run")
    wait_until_put_back(redis, ids)
    assert counted(redis, ids) == {"killer": "1"}
    assert suspects(redis, ids) == ["killer"]
    assert all(0 < life_s <= TTL_S for life_s in lives(redis, ids))
    resume(redis)
    wait_until(lambda: diary.counts("begun")["killer"] == 2, what="it has run again")
    wait_until_put_back(redis, ["killer", *ids[BEFORE + 1 :]])
    assert counted(redis, ids) == {"killer": "2"}


def test_the_death_of_a_worker_is_counted_against_nobody_if_it_is_not_known_who_ran(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    """All of them run alone from then on, so that the next time it is known."""
    redis = valkey.client
    start_worker("first", constants=UNSEEN)
    warm_up(redis, diary)
    ids = enqueue_with_killer(valkey, diary, "worker", 0.0)
    wait_until(lambda: "killer" in diary.names("begun"), what="it has run")
    second = start_worker("second", constants=UNSEEN)
    wait_until_put_back(redis, ids)
    assert counted(redis, ids) == {}
    assert suspects(redis, ids) == ids
    assert all(0 < life_s <= TTL_S for life_s in lives(redis, ids))
    resume(redis)
    wait_until(lambda: diary.counts("begun")["killer"] == 2, what="it has run again")
    second.wait_for_exit()
    third = start_worker("third", constants=UNSEEN)
    # It was the last one: jobs that are rescued together go by their names.
    wait_until_put_back(redis, ["killer"])
    assert counted(redis, ids) == {"killer": "1"}
    assert third.counted_deaths() == ["killer"]


def test_the_death_of_a_worker_is_counted_against_the_job_that_it_saw_run(
    valkey: ValkeyServer, start_worker: StartWorker, diary: Diary
) -> None:
    redis = valkey.client
    start_worker("first", constants=TOGETHER)
    warm_up(redis, diary)
    enqueue_with_killer(valkey, diary, "worker", 1.0)
    wait_until(lambda: "killer" in diary.names("begun"), what="it runs")
    # Those behind it are taken back, and those before it have ended meanwhile.
    wait_until(lambda: in_hand(redis) == {"killer"}, what="it is in hand alone")
    second = start_worker("second", constants=TOGETHER)
    wait_until(lambda: not in_hand(redis), what="it is rescued")
    assert second.counted_deaths() == ["killer"]
    assert fields(redis, ["killer"], "rescues") == {"killer": "1"}
