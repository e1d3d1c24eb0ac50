"""The keeper's steps: promotion, rescue, trimming, and the keeper that runs them."""

import json
import os
import signal
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.retry import Retry

from app_srvc.errors import LedgerUnavailableError
from app_srvc.messages.dispatch import CYCLE_TASK, PROCESS_TASK, JobSpec
from app_srvc.messages.ids import new_message_id
from app_srvc.messages.relay import Relay
from app_srvc.runtime import Runtime, open_redis
from app_srvc.workers.keeper import Keeper, Step, make_steps
from app_srvc.workers.lease.housekeeping import LATE_AFTER_S, STEADY_S
from app_srvc.workers.leases import Leases
from app_srvc.workers.promoter import JOBS_PER_CALL, Promoter
from app_srvc.workers.rescue import Rescue
from app_srvc.workers.trim import Trimmer
from tests.support.leases import WORKER, claim_one, expire, renew
from tests.support.messages import accept_note, read_message
from tests.support.servers import ValkeyServer
from tests.support.waiting import holds_for, wait_until
from tests.support.workers import HARD_KINDS, Nursery, WorkerProcess, accept_order, runs_in
from tests.support.worlds import open_world

QUEUE = "QUE_TASKS"
LEASE_OF_3_S: Mapping[str, float] = {
    "app_srvc.workers.lease.runner:LEASE_S": 3,
    "app_srvc.workers.lease.housekeeping:LEASE_S": 3,
    "app_srvc.workers.lease.housekeeping:RENEW_EVERY_S": 1,
}


def job(delay_s: float | None, id: str | None = None) -> JobSpec:
    id = id or new_message_id()
    return JobSpec(id, QUEUE, PROCESS_TASK, (id,), 0, 30, delay_s)


def listed(redis: Redis) -> list[bytes]:
    ids: Any = redis.lrange(f"rq:queue:{QUEUE}", 0, -1)
    return list(ids)


def status_of(redis: Redis, id: str) -> bytes | None:
    status: Any = redis.hget(f"rq:job:{id}", "status")
    return status  # type: ignore[no-any-return]


@pytest.fixture
def quick_world(valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[Runtime]:
    """A world for what does not depend on the kind of database."""
    runtime = open_world(valkey.url, sqlite_ledger_url)
    yield runtime
    runtime.close()


# --- promotion ----------------------------------------------------------------------------------


def test_due_jobs_are_promoted_in_the_order_in_which_they_are_due(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    later, soon, now = job(60), job(-1), job(-2)
    quick_world.dispatcher.dispatch([later, soon, now])
    promoter = Promoter(valkey.client, [QUEUE])
    assert promoter.promote() == 2
    assert listed(valkey.client) == [now.id.encode(), soon.id.encode()]
    assert [status_of(valkey.client, one.id) for one in (now, later)] == [b"queued", b"scheduled"]
    assert valkey.client.zrange(f"rq:scheduled:{QUEUE}", 0, -1) == [later.id.encode()]
    assert promoter.promote() == 0


def test_a_fraction_of_a_second_counts(quick_world: Runtime, valkey: ValkeyServer) -> None:
    quick_world.dispatcher.dispatch([job(0.4)])
    begun = time.monotonic()
    promoter = Promoter(valkey.client, [QUEUE])
    assert promoter.promote() == 0
    wait_until(promoter.promote, 2, every_s=0.01)
    assert 0.3 < time.monotonic() - begun < 0.9


def test_more_jobs_than_one_call_takes_are_promoted(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    count = 2 * JOBS_PER_CALL + 7
    quick_world.dispatcher.dispatch([job(-1) for _ in range(count)])
    assert Promoter(valkey.client, [QUEUE]).promote() == count
    assert len(set(listed(valkey.client))) == count


def test_promoters_at_once_promote_each_job_once(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    count = 3_000
    quick_world.dispatcher.dispatch([job(-1) for _ in range(count)])
    totals: list[int] = []
    threads = [
        threading.Thread(target=lambda: totals.append(Promoter(valkey.client, [QUEUE]).promote()))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(totals) == count
    assert len(listed(valkey.client)) == len(set(listed(valkey.client))) == count


def test_an_id_without_a_job_is_dropped_from_the_schedule(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    redis, good = valkey.client, job(-1)
    quick_world.dispatcher.dispatch([good])
    redis.set("rq:job:a-string", "not a hash")
    for garbage in ("missing", "a-string", b"\xff\xfe"):
        redis.zadd(f"rq:scheduled:{QUEUE}", {garbage: 1})
    assert Promoter(redis, [QUEUE]).promote() == 1
    assert listed(redis) == [good.id.encode()]
    assert redis.zcard(f"rq:scheduled:{QUEUE}") == 0


# --- rescue -------------------------------------------------------------------------------------


def rescue_of(
    runtime: Runtime, redis: Redis, cycles: list[int] | None = None, grace_s: float = 0
) -> Rescue:
    return Rescue(
        redis,
        [QUEUE],
        life_s=3600,
        stuck_after_s=0.3,
        grace_s=grace_s,
        settle_messages=Relay(runtime).settle,
        settle_cycles=lambda: cycles.append(1) if cycles is not None else None,
    )


def test_the_job_of_a_dead_worker_runs_again_and_the_try_is_counted(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message = accept_note(world)
    lease = claim_one(valkey.client, QUEUE)
    rescue = rescue_of(world, valkey.client)
    assert rescue.run_pass() == 0
    assert read_message(world, message.message_id).tries == 0
    expire(valkey.client, QUEUE, lease)
    assert rescue.run_pass() == 1
    row = read_message(world, message.message_id)
    assert (row.state, row.tries) == ("accepted", 1)
    wait_until(lambda: status_of(valkey.client, message.message_id) in (b"scheduled", b"queued"))
    assert valkey.client.zcard(f"rq:wip:{QUEUE}") == 0
    assert rescue.run_pass() == 0


def test_a_job_that_was_abandoned_is_rescued_at_once_with_its_reason(
    world: Runtime, valkey: ValkeyServer
) -> None:
    accept_note(world)
    lease = claim_one(valkey.client, QUEUE)
    assert Leases(valkey.client, QUEUE, WORKER).abandon(lease, "timeout", 1.0)
    assert rescue_of(world, valkey.client, grace_s=60).run_pass() == 1
    row = read_message(world, lease.job.id)
    assert row.tries == 1
    assert "took too long" in str(row.error_message)


def test_a_job_that_was_claimed_and_never_started_costs_no_try(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message = accept_note(world)
    expire(valkey.client, QUEUE, claim_one(valkey.client, QUEUE))
    # A worker of the release before marks a job as started in a step of its own.
    valkey.client.hset(f"rq:job:{message.message_id}", "status", "queued")
    assert rescue_of(world, valkey.client).run_pass() == 1
    assert read_message(world, message.message_id).tries == 0
    assert listed(valkey.client) == [message.message_id.encode()]
    assert valkey.client.zcard(f"rq:wip:{QUEUE}") == 0


def test_the_living_have_time_to_renew_their_leases_at_the_start_and_after_an_outage(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    message = accept_note(quick_world)
    lease = claim_one(valkey.client, QUEUE)
    expire(valkey.client, QUEUE, lease)
    rescue = rescue_of(quick_world, valkey.client, grace_s=0.5)
    assert rescue.run_pass() == 0
    renew(valkey.client)
    assert holds_for(lambda: rescue.run_pass() == 0, 1)
    rescue.on_outage()
    expire(valkey.client, QUEUE, lease)
    assert rescue.run_pass() == 0
    assert read_message(quick_world, message.message_id).tries == 0
    wait_until(rescue.run_pass, what="nobody has renewed it")
    assert read_message(quick_world, message.message_id).tries == 1


def test_a_lease_that_was_renewed_while_it_was_settled_stays(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    accept_note(quick_world)
    lease = claim_one(valkey.client, QUEUE)
    expire(valkey.client, QUEUE, lease)
    rescue = Rescue(
        valkey.client,
        [QUEUE],
        life_s=60,
        grace_s=0,
        settle_messages=lambda ids: renew(valkey.client),
        settle_cycles=lambda: None,
    )
    assert rescue.run_pass() == 1
    assert valkey.client.zscore(f"rq:wip:{QUEUE}", lease.entry) > time.time()


def test_a_dead_cycle_is_left_to_the_watchdog(quick_world: Runtime, valkey: ValkeyServer) -> None:
    id = "robot-todos-1-1"
    quick_world.dispatcher.dispatch([JobSpec(id, QUEUE, CYCLE_TASK, ("todos", 1, 1), 0, 30)])
    expire(valkey.client, QUEUE, claim_one(valkey.client, QUEUE))
    cycles: list[int] = []
    assert rescue_of(quick_world, valkey.client, cycles).run_pass() == 1
    assert cycles == [1]
    assert valkey.client.zcard(f"rq:wip:{QUEUE}") == 0
    assert 0 < valkey.client.ttl(f"rq:job:{id}") <= 3600


def test_garbage_among_the_jobs_in_hand_is_removed_and_stops_nobody(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    message = accept_note(quick_world)
    expire(valkey.client, QUEUE, claim_one(valkey.client, QUEUE))
    garbage = ["no-execution", "a:b:c", b"\xff\xfe:x", "missing:e", ":"]
    valkey.client.zadd(f"rq:wip:{QUEUE}", dict.fromkeys(garbage, 1))
    valkey.client.set("rq:job:missing", "not a hash")
    assert rescue_of(quick_world, valkey.client).run_pass() == 1 + len(garbage)
    assert valkey.client.zcard(f"rq:wip:{QUEUE}") == 0
    assert read_message(quick_world, message.message_id).tries == 1


def test_a_job_that_a_stock_worker_left_between_queue_and_start_is_put_back(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    message, redis = accept_note(quick_world), valkey.client
    intermediate = f"rq:queue:{QUEUE}:intermediate"
    redis.lmove(f"rq:queue:{QUEUE}", intermediate)
    redis.rpush(intermediate, b"\xff\xfe")
    rescue = rescue_of(quick_world, redis)
    assert rescue.run_pass() == 0
    wait_until(rescue.run_pass, 3)
    assert listed(redis) == [message.message_id.encode()]
    assert redis.llen(intermediate) == 0
    assert read_message(quick_world, message.message_id).tries == 0


# --- trimming -----------------------------------------------------------------------------------


def test_registries_forget_what_redis_has_forgotten(
    quick_world: Runtime, valkey: ValkeyServer
) -> None:
    redis, now = valkey.client, time.time()
    for registry in ("finished", "failed"):
        redis.zadd(f"rq:{registry}:{QUEUE}", {"old": now - 1, "young": now + 60})
    redis.zadd(f"rq:canceled:{QUEUE}", {"old": now - 100, "young": now})
    redis.hset("rq:job:old", "status", "canceled")
    redis.sadd("rq:workers", "rq:worker:dead", "rq:worker:alive")
    redis.sadd(f"rq:workers:{QUEUE}", "rq:worker:dead", "rq:worker:alive", b"\xff")
    redis.hset("rq:worker:alive", "birth", "today")
    forget = quick_world.dispatcher.forget
    Trimmer(redis, [QUEUE], cancelled_life_s=50, forget=forget).run_pass()
    for registry in ("finished", "failed", "canceled"):
        assert redis.zrange(f"rq:{registry}:{QUEUE}", 0, -1) == [b"young"]
    assert not redis.exists("rq:job:old")
    for key in ("rq:workers", f"rq:workers:{QUEUE}"):
        assert redis.smembers(key) == {b"rq:worker:alive"}


# --- the keeper ---------------------------------------------------------------------------------


def test_a_step_that_fails_goes_on_and_stops_no_other(valkey: ValkeyServer) -> None:
    calls: dict[str, int] = {"bad": 0, "broken": 0, "good": 0}

    def count(name: str, error: Exception | None = None) -> None:
        calls[name] += 1
        if error is not None:
            raise error

    keeper = Keeper(
        valkey.client,
        [
            Step("bad", 0.05, lambda: count("bad", RedisConnectionError("away"))),
            Step("broken", 0.05, lambda: count("broken", KeyError("a mistake"))),
            Step("good", 0.05, lambda: count("good")),
        ],
    )
    keeper.start()
    try:
        wait_until(lambda: calls["bad"] >= 3 and calls["broken"] >= 3 and calls["good"] >= 3)
        assert keeper.is_alive()
    finally:
        keeper.stop()
    assert not keeper.is_alive()


def test_two_keepers_share_the_passes(valkey: ValkeyServer) -> None:
    moments: list[float] = []
    step = Step("shared", 0.2, lambda: moments.append(time.monotonic()))
    keepers = [Keeper(valkey.client, [step]) for _ in range(2)]
    for keeper in keepers:
        keeper.start()
    wait_until(lambda: len(moments) >= 6)
    for keeper in keepers:
        keeper.stop()
    assert moments[5] - moments[0] > 5 * 0.2 * 0.8


def test_a_step_that_remembers_where_it_was_stays_with_one_keeper_while_that_lives(
    valkey: ValkeyServer,
) -> None:
    """Also while it rests."""
    calls = {"first": 0, "second": 0}

    def walk(name: str) -> float:
        calls[name] += 1
        return 0.2

    keepers = {
        name: Keeper(valkey.client, [Step("walk", 0.02, partial(walk, name), hold_s=1)])
        for name in calls
    }
    for keeper in keepers.values():
        keeper.start()
        wait_until(lambda: calls["first"])
    before = calls["first"]
    assert holds_for(lambda: not calls["second"], 1.5)
    assert calls["first"] > before + 2
    keepers["first"].stop()
    wait_until(lambda: calls["second"] > 2, what="the other one takes over")
    keepers["second"].stop()


def test_a_step_may_say_how_long_it_rests(valkey: ValkeyServer) -> None:
    calls: list[int] = []

    def run() -> float:
        calls.append(1)
        return 60.0

    keeper = Keeper(valkey.client, [Step("lazy", 0.01, run)])
    keeper.start()
    wait_until(lambda: calls)
    assert holds_for(lambda: len(calls) == 1, 0.5)
    keeper.stop()


def test_a_keeper_outlives_a_restart_of_redis(valkey: ValkeyServer) -> None:
    calls: list[int] = []
    client = Redis(port=valkey.port, socket_timeout=1)
    keeper = Keeper(client, [Step("counted", 0.05, lambda: calls.append(1))])
    keeper.start()
    try:
        wait_until(lambda: calls)
        valkey.kill()
        assert holds_for(keeper.is_alive, 1)
        valkey.start()
        before = len(calls)
        wait_until(lambda: len(calls) > before, 5)
    finally:
        keeper.stop()
        client.close()


@pytest.mark.parametrize("how", ["refused", "held-up", "ledger"])
def test_a_step_hears_of_an_outage_of_redis_and_of_no_other(how: str, valkey: ValkeyServer) -> None:
    """A client that tries again makes of an outage a wait, and the turn that was late does well."""
    heard: list[int] = []
    calls: list[int] = []

    def run() -> None:
        calls.append(1)
        if how == "ledger":
            raise LedgerUnavailableError("away")

    is_patient = how == "held-up"
    retry = Retry(NoBackoff(), 0)
    client = Redis(port=valkey.port, socket_timeout=20 if is_patient else 1, retry=retry)
    step = Step("counted", 0.05, run, on_outage=lambda: heard.append(len(calls)))
    keeper = Keeper(client, [step])
    keeper.start()
    try:
        wait_until(lambda: len(calls) > 2)
        assert not heard
        if how != "ledger":
            valkey.kill() if how == "refused" else valkey.pause()
            assert holds_for(keeper.is_alive, LATE_AFTER_S + 0.5)
            before = len(calls)
            valkey.restore()
            wait_until(lambda: len(calls) > before + 2, 5)
            assert heard[0] == before, "before it goes on"
        often = len(heard)
        assert holds_for(lambda: len(heard) == often, 0.5)
        assert bool(often) == (how != "ledger")
    finally:
        keeper.stop()
        client.close()


@pytest.mark.parametrize("how", ["hangs", "is away"])
def test_who_worked_through_an_outage_of_redis_keeps_the_job_and_no_try_is_counted(
    how: str, nursery: Nursery, sqlite_ledger_url: str, tmp_path: Path
) -> None:
    """Leases end meanwhile, and are renewed after a moment only, since the worker's parent is late.

    The keeper's own client waits for Redis; another one fails.
    """
    valkey = ValkeyServer(tmp_path / "valkey", options={"appendonly": "yes"})
    runs, entries = tmp_path / "runs", f"rq:wip:{QUEUE}"
    with (
        valkey,
        closing(open_world(valkey.url, sqlite_ledger_url, kinds=HARD_KINDS)) as runtime,
        closing(open_redis(runtime.settings, caller="loop")) as impatient,
        WorkerProcess(nursery, runtime, tmp_path / "log", constants=LEASE_OF_3_S) as worker,
    ):
        client = runtime.redis if how == "hangs" else impatient
        keeper = Keeper(client, make_steps(replace(runtime, redis=client)))
        keeper.start()
        message = accept_order(runtime, "work_for_long", runs).message_id
        wait_until(lambda: runs_in(runs), what="it runs")
        # The keeper's first seconds are over.
        assert holds_for(lambda: valkey.client.zcard(entries) == 1, STEADY_S + 1)
        valkey.pause() if how == "hangs" else valkey.kill()
        assert holds_for(keeper.is_alive, 5)
        os.kill(worker.pid, signal.SIGSTOP)
        valkey.restore()
        assert holds_for(lambda: valkey.client.zcard(entries) == 1, 2.5)
        os.kill(worker.pid, signal.SIGCONT)
        assert holds_for(lambda: valkey.client.zcard(entries) == 1, STEADY_S + 1)
        ((_, ends_at),) = valkey.client.zrange(entries, 0, -1, withscores=True)
        assert ends_at > time.time(), "its worker lives, and says so"
        row = read_message(runtime, message)
        assert (row.tries, len(runs_in(runs))) == (0, 1)
        keeper.stop()


def test_every_step_of_the_service_passes_on_an_empty_world(world: Runtime) -> None:
    steps = make_steps(world)
    rests = {step.name: step.run() for step in steps}
    assert set(rests) == {
        *("promote", "rescue", "pauses", "relay", "watchdog", "sweep", "trim", "retention")
    }
    assert rests["promote"] is None
    assert rests["retention"] is None


def test_the_steps_of_the_service_bring_a_lost_job_back(world: Runtime) -> None:
    message = accept_note(world)
    world.redis.flushall()
    steps = {step.name: step for step in make_steps(world)}
    wait_until(lambda: steps["relay"].run() or listed(world.redis), 5)
    assert listed(world.redis) == [message.message_id.encode()]
    assert json.loads(world.redis.hget(f"rq:job:{message.message_id}", "meta")) == {"try": 0}  # type: ignore[arg-type]
