"""A worker of the service takes several messages at once: what becomes of the others if one goes wrong."""

import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from redis import Redis

from app_srvc.messages import store
from app_srvc.messages.pauses import PAUSED_KEY
from app_srvc.runtime import Runtime
from app_srvc.workers.keeper import Keeper, make_steps
from tests.support.messages import accept_note, read_message
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.waiting import wait_until
from tests.support.workers import (
    HARD_KINDS,
    QUEUE,
    Nursery,
    WorkerProcess,
    accept_order,
    runs_in,
    wait_for_state,
)
from tests.support.worlds import open_world

WARM_UP = 60
# However slow the machine is, it takes all that is there.
LARGE_BATCHES = {"app_srvc.workers.lease.runner:BATCH_S": 5}


@pytest.fixture
def world(valkey: ValkeyServer, postgres_ledger_url: str) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, postgres_ledger_url, kinds=HARD_KINDS)
    yield runtime
    runtime.close()


@pytest.fixture
def worker(nursery: Nursery, world: Runtime, tmp_path: Path) -> Iterator[WorkerProcess]:
    """It has learned that messages are short, and takes many at once."""
    with WorkerProcess(nursery, world, tmp_path / "worker.log", constants=LARGE_BATCHES) as process:
        for message in [accept_note(world) for _ in range(WARM_UP)]:
            wait_for_state(world, message.message_id, "done", 20)
        yield process


@contextmanager
def at_once(redis: Redis) -> Iterator[None]:
    """What is accepted inside appears in one moment."""
    redis.sadd(PAUSED_KEY, QUEUE)
    yield
    redis.srem(PAUSED_KEY, QUEUE)


def in_hand(redis: Redis) -> list[Any]:
    entries: Any = redis.zrange(f"rq:wip:{QUEUE}", 0, -1)
    return list(entries)


def test_one_that_kills_the_process_costs_the_others_nothing(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    keeper = Keeper(world.redis, make_steps(world))
    keeper.start()
    try:
        with at_once(valkey.client):
            before = [accept_note(world).message_id for _ in range(5)]
            killer = accept_order(world, "die_once", tmp_path / "runs").message_id
            behind = [accept_note(world).message_id for _ in range(5)]
        wait_until(lambda: runs_in(tmp_path / "runs"), what="it has begun", every_s=0.001)
        # Sooner than any lease ends.
        for id in (*before, *behind, killer):
            wait_for_state(world, id, "done", 7)
        wait_until(lambda: not in_hand(valkey.client), 7, what="nothing is in hand")
    finally:
        keeper.stop()
    assert {read_message(world, id).tries for id in (*before, *behind)} == {1}
    assert len(runs_in(tmp_path / "runs")) == 2
    with world.database.read() as session:
        assert [one.reason for one in store.list_tries(session, killer)] == ["killed"]


def test_once_the_ledger_is_away_the_rest_goes_back_as_it_was(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, postgres: PostgresServer
) -> None:
    with at_once(valkey.client):
        ids = [accept_note(world).message_id for _ in range(10)]
        postgres.stop()
    wait_until(lambda: worker.logs("worker_ledger_failed"), what="the worker waits")
    assert worker.log_text().count('"ledger_away"') == 1
    assert in_hand(valkey.client) == []
    assert valkey.client.llen(f"rq:queue:{QUEUE}") == 9
    postgres.start()
    keeper = Keeper(world.redis, make_steps(world))
    keeper.start()
    try:
        for id in ids:
            wait_for_state(world, id, "done", 15)
    finally:
        keeper.stop()
    assert {read_message(world, id).tries for id in ids} == {1}


def test_the_wait_for_redis_before_a_message_is_no_time_of_its_handler(
    nursery: Nursery, sqlite_ledger_url: str, tmp_path: Path
) -> None:
    """Redis dies between two messages of a batch, for longer than the second one may take."""
    runs, number = tmp_path / "runs", tmp_path / "number"
    options = {"appendonly": "yes", "appendfsync": "no"}
    with (
        ValkeyServer(tmp_path / "durable", options=options) as durable,
        closing(open_world(durable.url, sqlite_ledger_url, kinds=HARD_KINDS)) as world,
        WorkerProcess(nursery, world, tmp_path / "worker.log", constants=LARGE_BATCHES) as worker,
    ):
        number.write_text(str(durable.pid))
        for message in [accept_note(world) for _ in range(WARM_UP)]:
            wait_for_state(world, message.message_id, "done", 20)
        with at_once(durable.client):
            killer = accept_note(world, str(number), kind="kill_redis").message_id
            slow = accept_order(world, "work_within_the_limit", runs).message_id
        wait_for_state(world, killer, "done")
        # The limit of 3 s, and 5 s in which a child may obey it.
        threading.Event().wait(9)
        durable.start()
        # The name of the queue, and both.
        wait_until(lambda: _claims(durable.client) == [3], what="they are of one batch")
        wait_for_state(world, slow, "done", 20)
        assert read_message(world, slow).tries == 1
        assert len(runs_in(runs)) == 1
        assert not worker.logs("job_ignores_its_limit")


def _claims(redis: Redis) -> list[int]:
    return [redis.llen(key) for key in redis.scan_iter("app:claim:*")]
