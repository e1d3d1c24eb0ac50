"""What dies and what is lost: processes, Redis, the database. Nothing that was accepted is."""

import random
import signal
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from sqlalchemy import create_engine, text

from tests.samples import old_worker
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import Part, Parts, assert_balanced
from tests.support.source_server import Fault, SourceServer, todos
from tests.support.waiting import wait_until

CHAIN_GOES_ON_S = 15.0


@pytest.fixture
def source() -> Iterator[SourceServer]:
    with SourceServer() as server:
        yield server


@pytest.fixture
def parts_on_source(
    tmp_path: Path, valkey: ValkeyServer, postgres: PostgresServer, source: SourceServer
) -> Iterator[Parts]:
    """The parts, with a robot that reads a source of the test."""
    url = postgres.url(postgres.new_database())
    more = {"SOURCE_URL": source.url, "SOURCE_PAGE_SIZE": "10"}
    with Parts(tmp_path, valkey.url, url, **more) as running:
        yield running


def test_of_fifty_starts_at_once_one_wins_and_one_chain_runs(parts: Parts) -> None:
    unknown = []

    def start(_: int) -> requests.Response:
        while (answer := parts.start_robot(timedelta=1)).status_code == 503:
            # Fifty wait for one row here: who waits too long is told so, and asks again.
            unknown.append(answer)
        return answer

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(start, range(50)))
    won = [answer for answer in answers if answer.status_code == 200]
    assert len(won) == 1 or (not won and unknown)
    refused = [answer.json()["Error"] for answer in answers if answer not in won]
    assert len(refused) >= 49
    assert {error["Inner"]["code"] for error in refused} == {"Jobid exists"}
    wait_until(lambda: len(parts.cycles()) >= 3, 30)
    cycles = parts.cycles()
    numbers = [cycle["number"] for cycle in cycles]
    assert numbers == list(range(1, len(numbers) + 1))
    assert {cycle["generation"] for cycle in cycles} == {1}
    assert_balanced(parts)


@pytest.mark.timeout(600)
def test_kill_9_of_the_robot_worker_in_the_middle_of_cycles(
    parts_on_source: Parts, source: SourceServer, kills: int
) -> None:
    """The chain goes on each time, numbers only grow, nothing is doubled, nothing is skipped."""
    parts, draw = parts_on_source, random.Random(20261121)
    source.set_faults(Fault("slow", seconds=0.15))
    shown = 60
    source.set_records(todos(shown))
    assert parts.start_robot(timedelta=1, records=10_000).status_code == 200
    waits: list[float] = []
    for _ in range(kills):
        wait_until(lambda: _runs_a_cycle(parts), 30, what="a cycle runs")
        threading.Event().wait(draw.uniform(0.0, 0.7))
        before = _progress(parts)
        parts.workers["dbworker"].kill_group()
        shown += 10
        source.set_records(todos(shown))
        parts.workers["dbworker"].start()
        began = time.monotonic()
        wait_until(lambda seen=before: _progress(parts) > seen, 40, what="the chain goes on")
        waits.append(time.monotonic() - began)
    source.set_faults()
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM todos") == shown, 90)
    numbers = [cycle["number"] for cycle in parts.cycles()]
    assert numbers == sorted(set(numbers))
    assert sum(cycle["new"] for cycle in parts.cycles()) == shown
    assert _rows(parts, "SELECT count(*) FROM todo_changes") == shown
    assert_balanced(parts)
    print(f"the chain went on after {[round(wait, 1) for wait in waits]} s")
    # A worker takes a second or two to start before the fifteen seconds count.
    assert max(waits) < CHAIN_GOES_ON_S + 5


@pytest.mark.timeout(300)
def test_redis_is_emptied_and_then_lost_with_500_registrations_accepted(
    parts: Parts, valkey: ValkeyServer
) -> None:
    assert parts.start_robot(timedelta=1).status_code == 200
    accepted = 0
    with ThreadPoolExecutor(8) as pool:
        statuses = list(pool.map(lambda n: parts.register(f"user{n}").status_code, range(500)))
        accepted = statuses.count(202)
        valkey.client.flushall()
    assert accepted == 500
    valkey.kill()
    valkey.start_empty()
    back_at = time.monotonic()
    before = _progress(parts)
    wait_until(lambda: _progress(parts) > before, 40, what="the robot goes on")
    robot_waited_s = time.monotonic() - back_at
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 500, 120)
    assert _rows(parts, "SELECT count(DISTINCT message_id) FROM users") == 500
    assert_balanced(parts)
    assert robot_waited_s < CHAIN_GOES_ON_S


def test_with_redis_down_a_post_is_accepted_and_done_later(
    parts: Parts, valkey: ValkeyServer
) -> None:
    valkey.kill()
    slowest = 0.0
    for number in range(10):
        began = time.monotonic()
        answer = parts.register(f"user{number}")
        slowest = max(slowest, time.monotonic() - began)
        assert answer.status_code == 202
    ready = parts.get("/health/ready")
    assert (ready.status_code, ready.json()) == (200, {"ok": True, "missing": ["redis"]})
    assert parts.get("/health/live").status_code == 200
    assert slowest < 2.0
    assert_balanced(parts)
    valkey.start()
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 10, 30)
    assert_balanced(parts)


def test_with_redis_hanging_a_post_is_still_answered(parts: Parts, valkey: ValkeyServer) -> None:
    valkey.pause()
    began = time.monotonic()
    assert parts.register("patience").status_code == 202
    assert time.monotonic() - began < 2.0
    valkey.resume()
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 1, 30)


def test_the_same_idempotency_key_twenty_times_at_once_is_one_message(parts: Parts) -> None:
    with ThreadPoolExecutor(20) as pool:
        answers = list(
            pool.map(lambda _: parts.register("okoval", Idempotency_Key="k-1"), range(20))
        )
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["jobid"] for answer in answers}) == 1
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 1, 20)
    assert _rows(parts, "SELECT count(*) FROM messages") == 1
    other = parts.register("another", Idempotency_Key="k-1")
    assert other.status_code == 409
    assert_balanced(parts)


@pytest.mark.timeout(240)
def test_postgresql_stopped_for_20_seconds_under_load(
    parts: Parts, postgres: PostgresServer
) -> None:
    assert parts.start_robot(timedelta=1).status_code == 200
    told: list[tuple[str, int, float, float]] = []
    is_over = threading.Event()

    def load(client: int) -> None:
        number = 0
        while not is_over.is_set():
            login, began = f"c{client}n{number}", time.monotonic()
            status = parts.register(login).status_code
            told.append((login, status, began, time.monotonic() - began))
            number += 1
            is_over.wait(0.1)

    threads = [threading.Thread(target=load, args=(client,)) for client in range(4)]
    for thread in threads:
        thread.start()
    is_over.wait(3)
    down_from = time.monotonic()
    postgres.pause()
    is_over.wait(20)
    postgres.resume()
    down_until = time.monotonic()
    is_over.wait(5)
    is_over.set()
    for thread in threads:
        thread.join(30)
    during = [row for row in told if row[2] > down_from + 0.5 and row[2] + row[3] < down_until]
    assert len(during) > 20
    assert {row[1] for row in during} == {503}
    assert max(row[3] for row in told) < 2.5
    ok = {row[0] for row in told if row[1] == 202}
    assert {row[1] for row in told} == {202, 503}
    wait_until(lambda: ok <= _logins(parts), 90, what="everything accepted is done")
    wait_until(
        lambda: _rows(parts, "SELECT count(*) FROM messages WHERE state='accepted'") == 0, 90
    )
    assert _rows(parts, "SELECT count(*) FROM message_tries") == 0
    before = _progress(parts)
    wait_until(lambda: _progress(parts) > before, 30, what="the robot goes on")
    assert_balanced(parts)


def test_a_kind_that_an_old_worker_does_not_know_is_done_by_a_new_one(
    parts: Parts, tmp_path: Path
) -> None:
    parts.workers["usrregworker"].stop()
    old = Part("old", [sys.executable, str(old_worker.__file__)], tmp_path, **parts.variables)
    old.start()
    body = parts.register("okoval").json()
    wait_until(lambda: "message_kind_unknown" in old.log.read_text(), 20)
    state = parts.get(body["status_url"]).json()
    assert (state["state"], state["tries"]) == ("accepted", 0)
    old.stop()
    parts.workers["usrregworker"].start()
    wait_until(lambda: parts.get(body["status_url"]).json()["state"] == "done", 30)
    assert_balanced(parts)


def test_a_worker_killed_in_the_middle_of_a_job_loses_nothing(parts: Parts) -> None:
    worker = parts.workers["usrregworker"]
    for number in range(40):
        assert parts.register(f"user{number}").status_code == 202
    worker.kill_group()
    worker.start()
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 40, 60)
    assert_balanced(parts)


@pytest.mark.timeout(600)
def test_sigterm_under_load_strands_nothing(parts: Parts, kills: int) -> None:
    worker = parts.workers["usrregworker"]
    for turn in range(kills):
        for number in range(15):
            assert parts.register(f"t{turn}u{number}").status_code == 202
        # One that is still starting has no hand on anything, and may end by the signal itself.
        wait_until(lambda n=turn: worker.log.read_text().count("worker_started") > n, 20)
        assert worker.stop() == 0
        worker.start()
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 15 * kills, 60)
    assert _rows(parts, "SELECT count(*) FROM message_tries") == 0
    assert_balanced(parts)


def test_a_paused_worker_finishes_nothing_that_was_taken_from_it(parts: Parts) -> None:
    """SIGSTOP for longer than a lease: the message is done once, by whoever has the lease."""
    worker = parts.workers["usrregworker"]
    family = [psutil.Process(worker.pid), *worker.descendants()]
    for number in range(10):
        assert parts.register(f"user{number}").status_code == 202
    for process in family:
        process.send_signal(signal.SIGSTOP)
    threading.Event().wait(16)
    for process in family:
        process.send_signal(signal.SIGCONT)
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM users") == 10, 60)
    wait_until(lambda: _rows(parts, "SELECT count(*) FROM messages WHERE state='done'") == 10, 30)
    assert_balanced(parts)


def _runs_a_cycle(parts: Parts) -> bool:
    cycle = parts.robot()["last_cycle"]
    return cycle is not None and cycle["state"] == "running"


def _progress(parts: Parts) -> tuple[int, int]:
    """How far the chain has come: the newest cycle, and what it has fetched so far."""
    try:
        cycle: dict[str, Any] | None = parts.robot()["last_cycle"]
    except (requests.RequestException, KeyError):
        return (0, 0)
    return (0, 0) if cycle is None else (cycle["number"], cycle["fetched"])


def _rows(parts: Parts, query: str) -> int:
    engine = create_engine(
        parts.variables["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
    )
    try:
        with engine.connect() as connection:
            return int(connection.execute(text(query)).scalar_one())
    finally:
        engine.dispose()


def _logins(parts: Parts) -> set[str]:
    engine = create_engine(
        parts.variables["DATABASE_URL"].replace("postgresql:", "postgresql+psycopg:")
    )
    try:
        with engine.connect() as connection:
            return set(connection.execute(text("SELECT login FROM users")).scalars())
    finally:
        engine.dispose()
