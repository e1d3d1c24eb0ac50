"""Pools: the real entry scripts as processes, with real servers."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import psutil
import pytest

from app_srvc.runtime import Runtime
from app_srvc.workers.health import HealthServer, TimedCheck
from app_srvc.workers.keeper import make_keeper
from tests.support.messages import accept_note, read_message
from tests.support.pools import ROOT, PoolProcess, probe
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.waiting import holds_for, wait_until
from tests.support.workers import (
    HARD_KINDS,
    Nursery,
    WorkerProcess,
    accept_order,
    process_exists,
    runs_in,
    variables_of,
    wait_for_state,
)
from tests.support.worlds import open_world

SCRIPTS = {
    "usrregworker.py": "QUE_USRREG",
    "dbworker.py": "QUE_ROBOT",
    "todoworker.py": "QUE_OUTMSG",
    "taskworker.py": "QUE_TASKS",
}


@pytest.fixture
def hard_world(valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, sqlite_ledger_url, kinds=HARD_KINDS)
    yield runtime
    runtime.close()


# --- the life of a pool ---------------------------------------------------------------------------


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_entry_script_drains_its_queue(
    script: str, hard_world: Runtime, valkey: ValkeyServer, tmp_path: Path
) -> None:
    with PoolProcess(script, variables_of(hard_world), tmp_path / "log") as pool:
        pool.wait_until_ready()
        assert valkey.client.exists(f"rq:workers:{SCRIPTS[script]}")
        assert [pool.probe(name) for name in ("live", "started", "nothing")] == [
            (200, {"ok": True, "missing": []}),
            (200, {"ok": True, "missing": []}),
            (404, {"ok": False, "missing": []}),
        ]
        pool.terminate()
        assert pool.wait_for_exit() == 0
    assert not valkey.client.exists(f"rq:workers:{SCRIPTS[script]}")


@pytest.mark.parametrize("script", SCRIPTS)
def test_each_pool_keeps_house_for_the_queues_of_all(
    script: str, hard_world: Runtime, valkey: ValkeyServer, tmp_path: Path
) -> None:
    """None waits for another one: what the promoter of each drops is no job."""
    due = [f"rq:scheduled:{queue}" for queue in SCRIPTS.values()]
    for key in due:
        valkey.client.zadd(key, {"no-job": 1})
    with PoolProcess(script, variables_of(hard_world), tmp_path / "log") as pool:
        pool.wait_until_ready()
        wait_until(lambda: not valkey.client.exists(*due))
        assert pool.probe("live") == (200, {"ok": True, "missing": []})


def test_entry_scripts_are_short() -> None:
    for script in SCRIPTS:
        assert len((ROOT / script).read_text().splitlines()) < 15


def test_a_script_with_wrong_settings_says_so_and_ends() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "todoworker.py")],
        env={**os.environ, "REDIS_URL": "", "RDS_HOST": "", "TODO_PROCESSES": "many"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "TODO_PROCESSES must be a number from 1 to 256, got 'many'" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_worker_that_is_killed_is_replaced(hard_world: Runtime, tmp_path: Path) -> None:
    variables = {**variables_of(hard_world), "TODO_PROCESSES": "2"}
    with PoolProcess("todoworker.py", variables, tmp_path / "log") as pool:
        pool.wait_until_ready()
        (before,) = pool.workers()
        children = before.children()
        assert len(children) == 2
        before.kill()
        wait_until(lambda: [one for one in pool.workers() if one.pid != before.pid], 10)
        assert before.pid not in {worker.pid for worker in pool.workers()}
        wait_until(lambda: not any(process_exists(child.pid) for child in children), 5)
        assert pool.probe("live") == (200, {"ok": True, "missing": []})
        wait_until(lambda: pool.log_text().count('"worker_registered"') == 4, 15)


def test_a_child_that_is_killed_is_replaced(hard_world: Runtime, tmp_path: Path) -> None:
    variables = {**variables_of(hard_world), "TODO_PROCESSES": "2"}
    with PoolProcess("todoworker.py", variables, tmp_path / "log") as pool:
        pool.wait_until_ready()
        (worker,) = pool.workers()
        before = {child.pid for child in wait_until(lambda: worker.children())}
        os.kill(min(before), signal.SIGKILL)
        wait_until(lambda: len({child.pid for child in worker.children()} - before) == 1, 5)
        wait_until(lambda: '"worker_child_ended"' in pool.log_text())
        assert pool.log_text().count('"worker_registered"') == 2


def test_workers_end_when_their_pool_is_killed(hard_world: Runtime, tmp_path: Path) -> None:
    with PoolProcess("taskworker.py", variables_of(hard_world), tmp_path / "log") as pool:
        pool.wait_until_ready()
        workers = [worker.pid for worker in pool.workers()]
        os.kill(pool.pid, signal.SIGKILL)
        wait_until(lambda: not any(process_exists(pid) for pid in workers), 10)
        assert '"worker_parent_gone"' in pool.log_text()


def test_a_pool_waits_for_its_database_and_goes_on_by_itself(
    valkey: ValkeyServer, postgres: PostgresServer, tmp_path: Path
) -> None:
    name = postgres.new_database()
    url = postgres.url(name).replace("postgresql+psycopg", "postgresql")
    postgres.kill()
    variables = {"REDIS_URL": valkey.url, "DATABASE_URL": url}
    with PoolProcess("usrregworker.py", variables, tmp_path / "log") as pool:
        wait_until(lambda: pool.probe("live")[0] == 200, 30)
        assert pool.probe("ready") == (503, {"ok": False, "missing": ["workers", "database"]})
        assert pool.probe("started") == (503, {"ok": False, "missing": ["workers"]})
        postgres.start()
        pool.wait_until_ready()
        postgres.pause()
        begun = time.monotonic()
        assert pool.probe("ready") == (503, {"ok": False, "missing": ["database"]})
        assert time.monotonic() - begun < 3
        assert pool.probe("live")[0] == 200
        postgres.resume()
        pool.wait_until_ready()


def test_a_pool_says_that_redis_is_missing_and_outlives_it(
    hard_world: Runtime, valkey: ValkeyServer, tmp_path: Path
) -> None:
    valkey.kill()
    with PoolProcess("dbworker.py", variables_of(hard_world), tmp_path / "log") as pool:
        wait_until(lambda: pool.probe("ready") == (503, {"ok": False, "missing": ["redis"]}), 30)
        assert pool.probe("live")[0] == 200
        valkey.start()
        pool.wait_until_ready()
        valkey.kill()
        wait_until(lambda: pool.probe("ready")[1]["missing"] == ["redis"], 10)
        assert holds_for(lambda: pool.probe("live")[0] == 200, 1)
        pool.terminate()
        assert pool.wait_for_exit() == 0


def test_a_pool_whose_health_port_is_taken_says_so_and_ends(
    hard_world: Runtime, tmp_path: Path
) -> None:
    pool = PoolProcess("taskworker.py", variables_of(hard_world), tmp_path / "log")
    server = HealthServer("127.0.0.1", pool.health_port, {})
    server.start()
    with pool:
        assert pool.wait_for_exit(30) == 2
        assert f"HEALTH_PORT is {pool.health_port}, which cannot be used" in pool.log_text()
        assert "Traceback" not in pool.log_text()
    server.stop()


def test_stopping_a_pool_twice_waits_for_no_job(hard_world: Runtime, tmp_path: Path) -> None:
    """A pool waits for a job in hand as long as it takes; whoever is in a hurry asks again."""
    with PoolProcess("taskworker.py", variables_of(hard_world), tmp_path / "log") as pool:
        pool.wait_until_ready()
        (worker,) = pool.workers()
        worker.send_signal(signal.SIGSTOP)
        pool.terminate()
        assert holds_for(lambda: process_exists(pool.pid), 1)
        pool.terminate()
        assert pool.wait_for_exit(5) == 0
        assert not worker.is_running() or worker.status() == psutil.STATUS_ZOMBIE


# --- recovery, from end to end ----------------------------------------------------------------------


@contextmanager
def kept(runtime: Runtime) -> Iterator[None]:
    """With the keeper running that knows the kinds of the test, as that of a pool can't."""
    keeper = make_keeper(runtime)
    keeper.start()
    try:
        yield
    finally:
        keeper.stop()


def test_the_job_of_a_killed_horse_runs_again_within_five_seconds(
    nursery: Nursery, valkey: ValkeyServer, ledger_url: str, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with (
        closing(open_world(valkey.url, ledger_url, kinds=HARD_KINDS)) as runtime,
        kept(runtime),
        WorkerProcess(nursery, runtime, tmp_path / "worker.log"),
    ):
        message = accept_order(runtime, "die_once", runs).message_id
        wait_until(lambda: len(runs_in(runs)) == 1)
        wait_for_state(runtime, message, "done", 5)
        assert (len(runs_in(runs)), read_message(runtime, message).tries) == (2, 2)


def test_the_job_of_a_killed_worker_runs_again_within_fifteen_seconds(
    nursery: Nursery, hard_world: Runtime, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with kept(hard_world):
        with WorkerProcess(nursery, hard_world, tmp_path / "first.log") as first:
            message = accept_order(hard_world, "work_slowly", runs).message_id
            wait_until(lambda: runs_in(runs))
            first.kill()
        with WorkerProcess(nursery, hard_world, tmp_path / "second.log"):
            wait_until(lambda: len(runs_in(runs)) == 2, 15)
            wait_for_state(hard_world, message, "done", 10)
    assert read_message(hard_world, message).tries == 2


def test_a_message_that_fails_is_tried_again_and_then_fails_for_good(
    nursery: Nursery, hard_world: Runtime, tmp_path: Path
) -> None:
    with kept(hard_world), WorkerProcess(nursery, hard_world, tmp_path / "worker.log"):
        message = accept_note(hard_world, kind="fail_always").message_id
        wait_for_state(hard_world, message, "failed", 10)
    assert read_message(hard_world, message).tries == 3


def test_everything_is_done_after_redis_was_emptied_under_load(
    nursery: Nursery, hard_world: Runtime, valkey: ValkeyServer, tmp_path: Path
) -> None:
    with kept(hard_world), WorkerProcess(nursery, hard_world, tmp_path / "worker.log"):
        ids = [accept_note(hard_world).message_id for _ in range(40)]
        wait_until(lambda: any(read_message(hard_world, id).state == "done" for id in ids))
        valkey.client.flushall()
        wait_until(lambda: all(read_message(hard_world, id).state == "done" for id in ids), 20)
    assert {read_message(hard_world, id).tries for id in ids} == {1}


# --- probes -------------------------------------------------------------------------------------------


def test_a_probe_says_what_is_missing() -> None:
    server = HealthServer("127.0.0.1", 0, {"/health/ready": lambda: ["redis"]})
    server.start()
    url = f"http://127.0.0.1:{server.port}/health/ready"
    assert probe(f"{url}?x=1") == (503, {"ok": False, "missing": ["redis"]})
    server.stop()
    assert probe(url) == (0, {})


def test_a_check_that_hangs_has_failed_in_time() -> None:
    calls: list[int] = []

    def hang() -> None:
        calls.append(1)
        wait_until(lambda: len(calls) > 1, 30)

    check = TimedCheck(hang, 0.2)
    begun = time.monotonic()
    assert not check.passes()
    assert not check.passes()
    assert time.monotonic() - begun < 2
    assert calls == [1]
    calls.append(2)
    wait_until(check.passes)


def test_a_check_that_raises_has_failed() -> None:
    def fail() -> None:
        raise ConnectionError("away")

    assert not TimedCheck(fail, 1).passes()
    assert TimedCheck(lambda: None, 1).passes()
