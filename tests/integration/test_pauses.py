"""Paused queues: promised by the ledger, obeyed by real workers, restored when Redis was emptied."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from app_srvc.cli import cli
from app_srvc.errors import ConfigurationError, LedgerUnavailableError, UnknownQueueError
from app_srvc.messages.pauses import (
    PAUSED_KEY,
    list_paused_queues,
    pause_queue,
    restore_pauses,
    resume_queue,
)
from app_srvc.runtime import Runtime
from app_srvc.workers.keeper import Keeper, make_steps
from tests.support.messages import accept_note, read_message
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.waiting import holds_for, wait_until
from tests.support.web import WebWorld
from tests.support.workers import HARD_KINDS, QUEUE, Nursery, WorkerProcess, wait_for_state
from tests.support.worlds import open_world


@pytest.fixture
def world(valkey: ValkeyServer, ledger_url: str) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, ledger_url, kinds=HARD_KINDS)
    yield runtime
    runtime.close()


@pytest.fixture
def worker(nursery: Nursery, world: Runtime, tmp_path: Path) -> Iterator[WorkerProcess]:
    with WorkerProcess(nursery, world, tmp_path / "worker.log") as process:
        yield process


def paused(world: Runtime) -> tuple[set[str], set[bytes]]:
    """What the ledger says, and what Redis does."""
    with world.database.read() as session:
        return list_paused_queues(session), set(world.redis.smembers(PAUSED_KEY))


def test_nothing_is_taken_from_a_paused_queue_until_it_is_resumed(
    world: Runtime, worker: WorkerProcess
) -> None:
    assert pause_queue(world, QUEUE)
    waits = accept_note(world).message_id
    assert holds_for(lambda: read_message(world, waits).started_at is None, 1.0)
    assert world.redis.llen(f"rq:queue:{QUEUE}") == 1
    assert pause_queue(world, QUEUE)
    assert resume_queue(world, QUEUE)
    wait_for_state(world, waits, "done")
    assert read_message(world, waits).tries == 1
    assert resume_queue(world, QUEUE)
    assert paused(world) == (set(), set())


def test_an_emptied_redis_is_told_again(world: Runtime, worker: WorkerProcess) -> None:
    pause_queue(world, QUEUE)
    world.redis.flushall()
    keeper = Keeper(world.redis, make_steps(world))
    keeper.start()
    try:
        wait_until(lambda: paused(world) == ({QUEUE}, {QUEUE.encode()}), what="it is paused again")
        waits = accept_note(world).message_id
        assert holds_for(lambda: read_message(world, waits).started_at is None, 1.0)
    finally:
        keeper.stop()


def test_only_queues_of_this_service_are_resumed(world: Runtime) -> None:
    """Others may share the Redis, and pause queues of their own."""
    world.redis.sadd(PAUSED_KEY, "theirs", QUEUE)
    restore_pauses(world)
    assert paused(world) == (set(), {b"theirs"})


def test_with_redis_away_it_is_promised_and_done_later(
    world: Runtime, valkey: ValkeyServer
) -> None:
    valkey.kill()
    assert not pause_queue(world, QUEUE)
    valkey.start()
    restore_pauses(world)
    assert paused(world) == ({QUEUE}, {QUEUE.encode()})
    valkey.kill()
    assert not resume_queue(world, QUEUE)
    valkey.start()
    restore_pauses(world)
    assert paused(world) == (set(), set())


def test_with_the_ledger_away_nothing_is_promised(
    valkey: ValkeyServer, postgres: PostgresServer, postgres_ledger_url: str
) -> None:
    world = open_world(valkey.url, postgres_ledger_url)
    postgres.stop()
    with pytest.raises(LedgerUnavailableError):
        pause_queue(world, QUEUE)
    postgres.start()
    assert paused(world) == (set(), set())
    world.close()


def test_a_queue_that_is_not_there(world: Runtime) -> None:
    for change in (pause_queue, resume_queue):
        with pytest.raises(UnknownQueueError, match=r"no queue QUE_TYPO.*QUE_USRREG"):
            change(world, "QUE_TYPO")
    assert paused(world) == (set(), set())


def test_from_a_terminal_and_on_the_pages(web: WebWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = web.settings
    assert settings.redis_url is not None
    monkeypatch.setenv("REDIS_URL", settings.redis_url.get_secret_value())
    monkeypatch.setenv("DATABASE_URL", settings.effective_database_url.get_secret_value())
    runner = CliRunner()
    assert runner.invoke(cli, ["queue", "pause", QUEUE]).stdout == "paused\n"
    lines = runner.invoke(cli, ["queue", "list"]).stdout.splitlines()
    assert [line.split()[0] for line in lines if line.endswith("paused")] == [QUEUE]
    items = web.client.get("/api/v1/queues").get_json()["items"]
    assert {item["name"] for item in items if item["paused"]} == {QUEUE}
    assert web.client.get("/admin/task").get_data(as_text=True).count("chip-paused") == 1
    assert runner.invoke(cli, ["queue", "resume", QUEUE]).stdout == "resumed\n"
    assert paused(web.runtime) == (set(), set())
    failed = runner.invoke(cli, ["queue", "pause", "QUE_TYPO"])
    assert isinstance(failed.exception, UnknownQueueError)


def test_a_terminal_in_the_wrong_place_makes_no_ledger(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "typo"
    monkeypatch.setenv("DATA_DIR", str(folder))
    failed = CliRunner().invoke(cli, ["queue", "pause", QUEUE])
    assert isinstance(failed.exception, ConfigurationError)
    assert "is DATA_DIR right?" in str(failed.exception)
    assert not (folder / "ledger.db").exists()
    assert CliRunner().invoke(cli, ["db", "migrate"]).exit_code == 0
    modes = [path.stat().st_mode & 0o777 for path in (folder, folder / "ledger.db")]
    assert modes == [0o700, 0o600]


def test_the_row_says_since_when(world: Runtime) -> None:
    pause_queue(world, QUEUE)
    with world.database.read() as session:
        first = session.execute(text("SELECT paused_at FROM paused_queues")).scalar_one()
    pause_queue(world, QUEUE)
    with world.database.read() as session:
        assert session.execute(text("SELECT paused_at FROM paused_queues")).scalar_one() == first
