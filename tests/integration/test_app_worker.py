"""AppWorker: real worker processes on a real Valkey. Each name says what happens next.

Most tests use one kind of database, since the worker only pings it; what depends on the database
runs on both.
"""

import json
import os
import pickle
import signal
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import psutil
import pytest
from redis import Redis
from rq import Queue, Worker
from rq.command import send_kill_horse_command, send_shutdown_command
from rq.serializers import JSONSerializer
from rq.suspension import resume, suspend

from app_srvc.messages.dispatch import PROCESS_TASK
from app_srvc.runtime import Runtime
from app_srvc.workers.job import AppJob
from app_srvc.workers.lease.link import FAR_S, FINISH, HAND_BACK, RENEW, Call, ScriptLink
from app_srvc.workers.lease.runner import LEASE_S
from app_srvc.workers.leases import Lease, Leases
from tests.support.leases import claim
from tests.support.messages import accept_note, read_message
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.waiting import holds_for, wait_until
from tests.support.workers import (
    HARD_KINDS,
    QUEUE,
    Nursery,
    WorkerProcess,
    accept_order,
    process_exists,
    runs_in,
    wait_for_state,
)
from tests.support.worlds import open_world


@pytest.fixture
def world(valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, sqlite_ledger_url, kinds=HARD_KINDS)
    yield runtime
    runtime.close()


@pytest.fixture
def worker(nursery: Nursery, world: Runtime, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(nursery, world, tmp_path / "worker.log") as process:
        yield process


@pytest.fixture
def link(valkey: ValkeyServer) -> ScriptLink:
    """What a child has, to take the steps of a job by hand."""
    return ScriptLink(valkey.client)


def job_field(redis: Redis, job_id: str, field: str) -> str:
    value: Any = redis.hget(f"rq:job:{job_id}", field)
    return (value or b"").decode()


def wait_for_status(redis: Redis, job_id: str, status: str, timeout_s: float = 10) -> None:
    wait_until(
        lambda: job_field(redis, job_id, "status") == status,
        timeout_s,
        what=f"job {job_id} is {status}",
    )


def listed(redis: Redis, queue: str = QUEUE) -> list[bytes]:
    ids: Any = redis.lrange(f"rq:queue:{queue}", 0, -1)
    return list(ids)


def in_hand(redis: Redis) -> list[tuple[bytes, float]]:
    """What is in the started registry, each with the second at which its lease ends."""
    entries: Any = redis.zrange(f"rq:wip:{QUEUE}", 0, -1, withscores=True)
    return [(entry, max(0.0, score - FAR_S)) for entry, score in entries]


# --- the plain life of a job ----------------------------------------------------------------------


def test_a_message_is_done_and_its_job_ends_as_rq_ends_one(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    message = accept_note(world)
    wait_for_status(valkey.client, message.message_id, "finished")
    assert read_message(world, message.message_id).state == "done"
    redis, life_s = valkey.client, world.settings.job_result_ttl_s
    assert 0 < redis.ttl(f"rq:job:{message.message_id}") <= life_s
    assert 0 < redis.ttl(f"rq:results:{message.message_id}") <= life_s
    assert redis.zscore(f"rq:finished:{QUEUE}", message.message_id) <= time.time() + life_s + 1
    assert in_hand(redis) == []
    assert list(redis.scan_iter("rq:execution*")) == []
    (known,) = Worker.all(queue=Queue(QUEUE, connection=redis))
    assert (known.pid, known.get_state(), known.successful_job_count) == (worker.pid, "idle", 1)
    assert known.get_current_job_id() is None
    queue = Queue(QUEUE, connection=redis, serializer=JSONSerializer)
    assert queue.finished_job_registry.get_job_ids() == [message.message_id]
    (job,) = queue.finished_job_registry.job_class.fetch_many(
        [message.message_id], connection=redis, serializer=JSONSerializer
    )
    result = job.latest_result()
    assert (result.type, result.worker_name) == (result.Type.SUCCESSFUL, known.name)


def test_a_message_that_fails_for_good_leaves_no_personal_data_in_redis(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    message = accept_note(world, "Ada Lovelace", kind="fail_for_good")
    wait_for_status(valkey.client, message.message_id, "failed")
    redis, life_s = valkey.client, world.settings.job_failure_ttl_s
    assert 0 < redis.ttl(f"rq:job:{message.message_id}") <= life_s
    assert 0 < redis.ttl(f"rq:results:{message.message_id}") <= life_s
    assert redis.zscore(f"rq:failed:{QUEUE}", message.message_id) > time.time() + life_s - 60
    queue = Queue(QUEUE, connection=redis, serializer=JSONSerializer)
    job = queue.fetch_job(message.message_id)
    assert job is not None
    result = job.latest_result()
    assert result is not None
    assert result.exc_string == f"permanent: message {message.message_id}"
    assert "Ada" in str(read_message(world, message.message_id).error_message)
    assert "Ada" not in worker.log_text()


def test_a_message_that_is_to_be_tried_again_is_scheduled_with_its_tries(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    message = accept_note(world, kind="fail_always")
    wait_for_status(valkey.client, message.message_id, "scheduled")
    redis = valkey.client
    assert json.loads(job_field(redis, message.message_id, "meta")) == {"try": 1}
    score = redis.zscore(f"rq:scheduled:{QUEUE}", message.message_id)
    assert abs(score - time.time()) < 5
    assert score != int(score)
    assert in_hand(redis) == []
    assert redis.ttl(f"rq:job:{message.message_id}") == -1
    assert read_message(world, message.message_id).tries == 1


def test_many_messages_are_done_by_two_workers_each_once(
    nursery: Nursery, world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    with WorkerProcess(nursery, world, tmp_path / "other.log"):
        ids = [accept_note(world).message_id for _ in range(30)]
        wait_until(lambda: all(read_message(world, id).state == "done" for id in ids), 30)
        wait_until(lambda: in_hand(valkey.client) == [])
    assert [read_message(world, id).tries for id in ids] == [1] * 30


# --- what must not run ----------------------------------------------------------------------------


@cache
def bomb() -> bytes:
    """Less than a megabyte that becomes 200."""
    return zlib.compress(bytes(200_000_000), 1)


def unpickling(mark: Path) -> bytes:
    class Bomb:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, (f"touch {mark}",)

    return pickle.dumps(Bomb())


REFUSED: dict[str, tuple[Callable[[Path], dict[str, Any]], str]] = {
    "os.system": (
        lambda mark: {"data": json.dumps(["os.system", None, [f"touch {mark}"], {}])},
        "not a task of this service",
    ),
    "a pickle": (lambda mark: {"data": unpickling(mark)}, "data: pickled, calls posix"),
    "a pickle as meta": (lambda mark: {"meta": unpickling(mark)}, "meta: UnicodeDecodeError"),
    "a compressed pickle": (
        lambda mark: {"data": zlib.compress(unpickling(mark))},
        "data: pickled, calls posix",
    ),
    "a bomb": (
        lambda mark: {"data": bomb()},
        "larger than 16384 bytes",
    ),
    "a small bomb": (
        lambda mark: {"data": zlib.compress(b"\0" * 10_000_000)},
        "data: larger than 65536 bytes when inflated",
    ),
    "other arguments": (
        lambda mark: {"data": json.dumps([PROCESS_TASK, None, ["../x"], {}])},
        "not the arguments of the task",
    ),
    "a time limit that is no number": (lambda mark: {"timeout": "abc"}, "timeout: ValueError"),
    "nothing": (lambda mark: {"data": ""}, "data: missing"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_job_that_must_not_run_is_set_aside(
    name: str, world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    mark = tmp_path / "ran"
    make, reason = REFUSED[name]
    redis = valkey.client
    message = accept_note(world, is_dispatched=False)
    good = json.dumps([PROCESS_TASK, None, [message.message_id], {}])
    fields = {"data": good, "status": "queued", "meta": "{}", "timeout": 5, **make(mark)}
    redis.hset("rq:job:bad", mapping=fields)
    redis.rpush(f"rq:queue:{QUEUE}", "bad")
    wait_for_status(redis, "bad", "failed")
    assert f'"reason": "{reason}"' in worker.log_text()
    assert 0 < redis.ttl("rq:job:bad") <= world.settings.job_failure_ttl_s
    assert redis.zscore(f"rq:failed:{QUEUE}", "bad") is not None
    (_,) = redis.xrange("rq:results:bad")
    assert read_message(world, message.message_id).state == "accepted"
    assert in_hand(redis) == []
    assert not mark.exists()


def test_garbage_in_the_queue_is_dropped_and_the_worker_goes_on(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    redis, mark = valkey.client, tmp_path / "ran"
    good = [PROCESS_TASK, None, ["x"], {}]
    redis.hset("rq:job:bad id", mapping={"data": json.dumps(good), "status": "queued"})
    redis.set("rq:job:a-string", "not a hash")
    redis.hset("rq:job:executed", mapping={"data": json.dumps(good), "status": "queued"})
    redis.set("rq:executions:executed", "not a registry")
    for make, _ in REFUSED.values():
        id = f"bad-{redis.incr('count')}"
        redis.hset(f"rq:job:{id}", mapping={"status": "queued", **make(mark)})
        redis.rpush(f"rq:queue:{QUEUE}", id)
    redis.hset("rq:job:weird", mapping={"data": json.dumps(good), "status": "weird"})
    garbage = [
        "weird",
        "bad id",
        b"\xff\xfe",
        b"",
        "missing",
        "a-string",
        "executed",
        "x" * 1000,
        "a:b",
    ]
    redis.rpush(f"rq:queue:{QUEUE}", *garbage)
    message = accept_note(world)
    # Not "done" in the ledger: that comes first, while the job is still in hand.
    wait_for_status(redis, message.message_id, "finished")
    assert read_message(world, message.message_id).state == "done"
    assert listed(redis) == []
    assert in_hand(redis) == []
    assert not mark.exists()
    assert redis.ttl("rq:job:weird") > 0
    for reason in (
        "unknown_status",
        "bad_id",
        "no_job",
        "not a task of this service",
        "larger than 16384 bytes",
    ):
        assert f'"reason": "{reason}"' in worker.log_text()
    assert worker.is_alive()


def test_a_bomb_costs_a_worker_no_memory(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    def peak_kb() -> int:
        status = Path(f"/proc/{worker.pid}/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0])

    before = peak_kb()
    valkey.client.hset("rq:job:bomb", mapping={"data": bomb(), "status": "queued"})
    valkey.client.rpush(f"rq:queue:{QUEUE}", "bomb")
    wait_for_status(valkey.client, "bomb", "failed")
    assert peak_kb() - before < 8_000


def test_a_job_that_stands_twice_in_the_queue_does_not_run_beside_itself(
    nursery: Nursery, world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with WorkerProcess(nursery, world, tmp_path / "other.log"):
        message = accept_order(world, "work_slowly", runs)
        wait_until(lambda: runs_in(runs))
        valkey.client.rpush(f"rq:queue:{QUEUE}", message.message_id)
        wait_for_state(world, message.message_id, "done")
    assert len(runs_in(runs)) == 1


# --- stopping -------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_worker_that_is_stopped_finishes_the_job_in_hand_and_leaves_the_next(
    how: signal.Signals,
    world: Runtime,
    worker: WorkerProcess,
    valkey: ValkeyServer,
    tmp_path: Path,
) -> None:
    first = accept_order(world, "work_slowly", tmp_path / "runs")
    second = accept_note(world)
    wait_until(lambda: runs_in(tmp_path / "runs"))
    os.kill(worker.pid, how)
    assert worker.wait_for_exit() == 0
    assert read_message(world, first.message_id).state == "done"
    assert job_field(valkey.client, first.message_id, "status") == "finished"
    assert listed(valkey.client) == [second.message_id.encode()]
    assert in_hand(valkey.client) == []
    assert Worker.all(queue=Queue(QUEUE, connection=valkey.client)) == []


def test_an_idle_worker_that_is_stopped_ends_at_once(worker: WorkerProcess) -> None:
    worker.terminate()
    assert worker.wait_for_exit(5) == 0


def test_jobs_that_were_claimed_and_not_started_go_back_to_the_head(
    world: Runtime, link: ScriptLink, valkey: ValkeyServer
) -> None:
    ids = [accept_note(world).message_id.encode() for _ in range(4)]
    assert claim(link, QUEUE, "token", 3) == ids[:3]
    assert listed(valkey.client) == ids[3:]
    link.call(Call(HAND_BACK, ("app:claim:token",), ("token", 1, 0)))
    assert listed(valkey.client) == ids[1:]
    link.call(Call(HAND_BACK, ("app:claim:token",), ("token", 0, 0)))
    assert listed(valkey.client) == ids
    assert {job_field(valkey.client, id.decode(), "status") for id in ids} == {"queued"}
    assert in_hand(valkey.client) == []
    assert list(valkey.client.scan_iter("rq:execution*")) == []


def test_stopping_workers_under_load_strands_nothing(
    nursery: Nursery, world: Runtime, valkey: ValkeyServer, tmp_path: Path
) -> None:
    ids = [accept_note(world).message_id for _ in range(40)]
    for number in range(4):
        with WorkerProcess(nursery, world, tmp_path / f"{number}.log") as worker:
            done = sum(read_message(world, id).state == "done" for id in ids)
            wait_until(lambda: sum(read_message(world, id).state == "done" for id in ids) > done)  # noqa: B023
            worker.terminate()
            assert worker.wait_for_exit() == 0
        waiting = {id for id in ids if read_message(world, id).state == "accepted"}
        assert {raw.decode() for raw in listed(valkey.client)} == waiting
        assert in_hand(valkey.client) == []
        if not waiting:
            break


# --- death ----------------------------------------------------------------------------------------


def test_a_horse_that_is_killed_gives_its_job_up_at_once_and_says_why(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    message = accept_order(world, "die_once", tmp_path / "runs")
    wait_until(lambda: [score for _, score in in_hand(valkey.client)] == [0.0])
    meta = json.loads(job_field(valkey.client, message.message_id, "meta"))
    assert meta == {"try": 0, "ended": "killed"}
    assert job_field(valkey.client, message.message_id, "status") == "started"
    assert read_message(world, message.message_id).state == "accepted"
    other = accept_note(world)
    wait_for_state(world, other.message_id, "done")


def test_a_killed_worker_takes_its_horse_along_and_its_lease_runs_out(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    accept_order(world, "work_for_long", runs)
    (horse,) = wait_until(lambda: runs_in(runs))
    worker.kill()
    wait_until(lambda: not process_exists(horse), 3)
    ((_, until),) = in_hand(valkey.client)
    assert until <= time.time() + LEASE_S


def test_a_lease_is_renewed_while_its_job_runs(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    accept_order(world, "work_for_long", tmp_path / "runs")
    ((entry, first),) = wait_until(lambda: in_hand(valkey.client))
    assert first <= time.time() + LEASE_S
    wait_until(lambda: in_hand(valkey.client)[0][1] > first + 2, 8)
    job_id, _, execution_id = entry.decode().partition(":")
    assert valkey.client.ttl(f"rq:execution:{job_id}:{execution_id}") > LEASE_S - 5
    (known,) = Worker.all(queue=Queue(QUEUE, connection=valkey.client))
    assert (known.get_state(), known.get_current_job_id()) == ("busy", job_id)


def test_a_handler_that_takes_too_long_has_failed_a_try(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    message = accept_order(world, "sleep_through_the_limit", tmp_path / "runs")
    wait_for_status(valkey.client, message.message_id, "scheduled")
    row = read_message(world, message.message_id)
    assert (row.tries, row.error_type) == (1, "JobTimeoutException")


def test_a_handler_that_ignores_its_time_limit_is_killed(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    message = accept_order(world, "ignore_the_limit", runs)
    (horse,) = wait_until(lambda: runs_in(runs))
    wait_until(lambda: not process_exists(horse), 1 + 5 + 3)
    wait_until(lambda: [score for _, score in in_hand(valkey.client)] == [0.0])
    meta = json.loads(job_field(valkey.client, message.message_id, "meta"))
    assert meta == {"try": 0, "ended": "timeout"}


# --- a process of its own -------------------------------------------------------------------------


def test_an_isolated_kind_runs_each_time_in_a_process_of_its_own(
    world: Runtime, worker: WorkerProcess, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for _ in range(2):
        message = accept_order(world, "work_alone", runs)
        wait_for_state(world, message.message_id, "done")
    (child,) = psutil.Process(worker.pid).children()
    assert len({*runs_in(runs), child.pid}) == 3
    assert not any(process_exists(pid) for pid in runs_in(runs))


def test_an_isolated_run_that_dies_costs_a_try_and_no_child(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    (child,) = wait_until(lambda: psutil.Process(worker.pid).children())
    message = accept_order(world, "die_once_alone", tmp_path / "runs")
    wait_until(lambda: [score for _, score in in_hand(valkey.client)] == [0.0])
    meta = json.loads(job_field(valkey.client, message.message_id, "meta"))
    assert meta == {"try": 0, "ended": "killed"}
    assert child.is_running()


def test_an_isolated_run_has_its_time_limit(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    message = accept_order(world, "sleep_alone", tmp_path / "runs")
    wait_for_status(valkey.client, message.message_id, "scheduled")
    row = read_message(world, message.message_id)
    assert (row.tries, row.error_type) == (1, "JobTimeoutException")


# --- Redis away, full, stubborn -------------------------------------------------------------------


def test_an_idle_worker_outlives_a_restart_of_redis(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    valkey.kill()
    assert holds_for(worker.is_alive, 2)
    valkey.start()
    message = accept_note(world)
    wait_for_state(world, message.message_id, "done", 5)
    wait_until(lambda: worker.logs("worker_redis_recovered"))


def test_a_busy_worker_outlives_a_restart_of_redis_and_its_work_counts(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    message = accept_order(world, "work_slowly", runs)
    wait_until(lambda: runs_in(runs))
    valkey.kill()
    wait_for_state(world, message.message_id, "done")
    valkey.start()
    other = accept_note(world)
    wait_for_state(world, other.message_id, "done", 5)
    assert len(runs_in(runs)) == 1


def test_a_worker_outlives_a_redis_that_hangs(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    valkey.pause()
    assert holds_for(worker.is_alive, 7)
    valkey.resume()
    message = accept_note(world)
    wait_for_state(world, message.message_id, "done", 5)


def test_a_worker_is_stopped_while_redis_is_away(
    worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    valkey.kill()
    wait_until(lambda: worker.logs("worker_redis_failed"))
    worker.terminate()
    assert worker.wait_for_exit(5) == 0


@pytest.mark.parametrize(
    ("trouble", "cure"),
    [
        ("REPLICAOF 127.0.0.1 1", "REPLICAOF NO ONE"),
        ("CONFIG SET maxmemory 1", "CONFIG SET maxmemory 0"),
        ("CONFIG SET min-replicas-to-write 1", "CONFIG SET min-replicas-to-write 0"),
    ],
    ids=["READONLY", "OOM", "NOREPLICAS"],
)
def test_a_worker_outlives_a_redis_that_refuses(
    trouble: str, cure: str, world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    message = accept_note(world, is_dispatched=False)
    valkey.client.execute_command(*trouble.split())
    try:
        wait_until(lambda: worker.logs("worker_redis_failed"))
        assert worker.is_alive()
    finally:
        valkey.client.execute_command(*cure.split())
    again = accept_note(world)
    wait_for_state(world, again.message_id, "done", 5)
    assert read_message(world, message.message_id).state == "accepted"


def test_a_worker_is_known_again_after_redis_was_emptied(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    queue = Queue(QUEUE, connection=valkey.client)
    (before,) = Worker.all(queue=queue)
    valkey.client.flushall()
    (after,) = wait_until(lambda: Worker.all(queue=queue), 6)
    assert (after.name, after.pid) == (before.name, worker.pid)
    message = accept_note(world)
    wait_for_state(world, message.message_id, "done", 5)


def test_redis_emptied_under_a_running_job_leaves_nothing_that_lives_for_ever(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    message = accept_order(world, "work_slowly", runs)
    wait_until(lambda: runs_in(runs))
    valkey.client.flushall()
    wait_for_state(world, message.message_id, "done")
    wait_until(lambda: worker.logs("job_lease_lost") or valkey.client.dbsize() == 0, 5)
    names = {key.partition(b":")[2].partition(b":")[0] for key in valkey.client.scan_iter()}
    assert names <= {b"worker", b"workers"}


# --- replies that were lost, leases that were taken away ------------------------------------------


def test_a_claim_whose_reply_was_lost_is_answered_again(
    world: Runtime, link: ScriptLink, valkey: ValkeyServer
) -> None:
    ids = [accept_note(world).message_id.encode() for _ in range(3)]
    assert claim(link, QUEUE, "token", 2) == ids[:2]
    assert claim(link, QUEUE, "token", 2) == ids[:2]
    assert listed(valkey.client) == ids[2:]
    assert claim(link, QUEUE, "another", 2) == ids[2:]


def test_a_job_whose_lease_was_taken_away_cannot_be_moved_by_its_old_owner(
    world: Runtime, link: ScriptLink, valkey: ValkeyServer
) -> None:
    redis, id = valkey.client, accept_note(world).message_id
    assert claim(link, QUEUE) == [id.encode()]
    redis.zrem(f"rq:wip:{QUEUE}", f"{id}:token")
    before = redis.hgetall(f"rq:job:{id}")
    keys = (
        f"rq:wip:{QUEUE}",
        f"rq:finished:{QUEUE}",
        f"rq:failed:{QUEUE}",
        "rq:worker:w",
        "c",
        "r",
    )
    for outcome in ("s", "f"):
        end = (id, outcome, "began", "ended", "1.0", "2.0", 60, "")
        assert link.call(Call(FINISH, keys, ("token", "w", 0, *end))) == [[id.encode()], []]
    assert link.call(Call(RENEW, ("app:claim:token", "w"), ("token", LEASE_S, "now", 1, 0))) == 0
    assert link.call(Call(HAND_BACK, ("app:claim:token",), ("token", 0, 0))) == 0
    leases, lease = Leases(redis, QUEUE, "w"), Lease(AppJob(id, redis), "token")
    assert not leases.abandon(lease, "killed", 1.0)
    assert not leases.reschedule(lease, delay_s=1, tries=1, worked_s=1, is_failed_try=True)
    assert redis.hgetall(f"rq:job:{id}") == before
    assert not redis.exists(
        f"rq:finished:{QUEUE}", f"rq:failed:{QUEUE}", f"rq:scheduled:{QUEUE}", f"rq:queue:{QUEUE}"
    )


# --- what RQ's tools may tell it ------------------------------------------------------------------


def test_suspended_workers_claim_nothing_until_they_are_resumed(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer
) -> None:
    suspend(valkey.client)
    message = accept_note(world)
    assert holds_for(lambda: listed(valkey.client) == [message.message_id.encode()], 2)
    resume(valkey.client)
    wait_for_state(world, message.message_id, "done", 5)


def test_a_worker_obeys_a_shutdown_command(worker: WorkerProcess, valkey: ValkeyServer) -> None:
    (known,) = Worker.all(queue=Queue(QUEUE, connection=valkey.client))
    valkey.client.publish(f"rq:pubsub:{known.name}", b"\xff not json")
    send_shutdown_command(valkey.client, known.name)
    assert worker.wait_for_exit(10) == 0
    assert worker.logs("worker_command_refused")


def test_a_worker_obeys_a_command_to_kill_its_horse(
    world: Runtime, worker: WorkerProcess, valkey: ValkeyServer, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    accept_order(world, "work_for_long", runs)
    (horse,) = wait_until(lambda: runs_in(runs))
    (known,) = Worker.all(queue=Queue(QUEUE, connection=valkey.client))
    send_kill_horse_command(valkey.client, known.name)
    wait_until(lambda: not process_exists(horse), 8)
    assert worker.is_alive()


# --- the ledger away ------------------------------------------------------------------------------


def test_with_the_database_away_no_try_is_counted_and_nothing_more_is_claimed(
    nursery: Nursery, valkey: ValkeyServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    url = postgres.url(postgres.new_database())
    with (
        closing(open_world(valkey.url, url, kinds=HARD_KINDS)) as runtime,
        WorkerProcess(nursery, runtime, tmp_path / "worker.log") as worker,
    ):
        done = accept_note(runtime)
        wait_for_state(runtime, done.message_id, "done")
        first, second = (accept_note(runtime, is_dispatched=False).message_id for _ in range(2))
        runtime.database.close()
        postgres.kill()
        for id in (first, second):
            data = json.dumps([PROCESS_TASK, None, [id], {}])
            fields = {"data": data, "status": "queued", "meta": '{"try": 0}', "timeout": 5}
            valkey.client.hset(f"rq:job:{id}", mapping=fields)
            valkey.client.rpush(f"rq:queue:{QUEUE}", id)
        wait_for_status(valkey.client, first, "scheduled")
        assert json.loads(job_field(valkey.client, first, "meta")) == {"try": 0}
        assert holds_for(lambda: listed(valkey.client) == [second.encode()], 2)
        assert worker.is_alive()
        postgres.start()
        wait_for_state(runtime, second, "done", 10)
        valkey.client.zrem(f"rq:scheduled:{QUEUE}", first)
        valkey.client.rpush(f"rq:queue:{QUEUE}", first)
        wait_for_state(runtime, first, "done", 5)
        assert [read_message(runtime, id).tries for id in (first, second)] == [1, 1]
