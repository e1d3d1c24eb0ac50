"""The master of Redis dies, and Sentinels promote its replica: nobody is refused, nothing is lost."""

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.load import Ledger, Load
from tests.support.sentinels import SentinelRedis
from tests.support.servers import ValkeyServer
from tests.support.service import Parts, assert_balanced
from tests.support.waiting import wait_until


@pytest.fixture
def redis(tmp_path: Path) -> Iterator[SentinelRedis]:
    with SentinelRedis(tmp_path / "redis") as running:
        yield running


@pytest.fixture
def parts(tmp_path: Path, redis: SentinelRedis, postgres_ledger_url: str) -> Iterator[Parts]:
    """Under the users of their roles, as the Sentinels and the replica are under theirs."""
    with Parts(
        tmp_path, redis.url("web"), postgres_ledger_url, worker_redis_url=redis.url("worker")
    ) as running:
        yield running


@pytest.fixture
def ledger(postgres_ledger_url: str) -> Iterator[Ledger]:
    with Ledger(postgres_ledger_url) as ledger:
        yield ledger


@pytest.mark.timeout(240)
def test_the_master_is_killed_under_load(
    parts: Parts, redis: SentinelRedis, ledger: Ledger
) -> None:
    assert parts.start_robot(timedelta=1).status_code == 200
    with Load(parts.register) as load:
        wait_until(lambda: len(parts.cycles()) >= 2, 30, what="the robot runs")
        load.wait_for(20)
        redis.first.kill()
        killed_at, before = time.monotonic(), _newest_cycle(parts)
        wait_until(lambda: redis.is_master(redis.second), 40, what="the replica is the master")
        promoted_s = time.monotonic() - killed_at
        wait_until(lambda: _newest_cycle(parts) > before + 1, 40, what="the robot goes on")
        robot_s = time.monotonic() - killed_at
        wait_until(lambda: _obey(parts, redis.second), 20, what="workers hear commands again")
        load.wait_for(20)

        redis.bring_first_back()
        wait_until(redis.switch, 30, what="a Sentinel agrees to switch", every_s=0.5)
        switched_at, before = time.monotonic(), _newest_cycle(parts)
        wait_until(lambda: redis.is_master(redis.first), 40, what="the first is the master again")
        wait_until(lambda: _newest_cycle(parts) > before + 1, 40, what="the robot goes on again")
        load.wait_for(20)
    assert load.statuses == {202}, load.refused[:5]
    wait_until(lambda: load.accepted <= set(ledger.logins()), 60, what="all are registered")
    assert Counter(ledger.logins()) == Counter(load.accepted)
    assert redis.refusals() == []
    numbers = [cycle["number"] for cycle in parts.cycles()]
    assert numbers == list(range(1, len(numbers) + 1))
    assert_balanced(parts)
    print(
        f"{len(load.accepted)} accepted, none refused. Master killed: another after "
        f"{promoted_s:.1f} s, two more cycles after {robot_s:.1f} s. Longest gap of acceptance "
        f"{load.longest_gap_s():.2f} s, of handling {ledger.longest_gap_of_handling_s():.2f} s; "
        f"of acceptance from the planned switch on {load.longest_gap_s(switched_at):.2f} s"
    )


@pytest.mark.timeout(240)
def test_what_the_replica_had_not_got_is_dispatched_again(
    parts: Parts, redis: SentinelRedis, ledger: Ledger
) -> None:
    """Jobs that were dispatched and seen on the old master only, and that the new one never had."""
    assert parts.command("queue", "pause", "QUE_USRREG").returncode == 0
    wait_until(lambda: redis.second.client.exists("app:queue:paused"), 10, what="it is replicated")
    redis.cut_replica()
    accepted = {f"tail{number}" for number in range(30)}
    assert {parts.register(login).status_code for login in accepted} == {202}
    unseen = "SELECT count(*) FROM messages WHERE dispatched_epoch = 0"
    wait_until(lambda: ledger.count(unseen) == 0, 30, what="the relay has seen every job")
    assert redis.second.client.llen("rq:queue:QUE_USRREG") == 0
    redis.first.kill()
    wait_until(lambda: redis.is_master(redis.second), 40, what="the replica is the master")
    promoted_at = time.monotonic()
    wait_until(lambda: redis.second.client.llen("rq:queue:QUE_USRREG") == 30, 30)
    back_s = time.monotonic() - promoted_at
    assert parts.command("queue", "resume", "QUE_USRREG").returncode == 0
    wait_until(lambda: Counter(ledger.logins()) == Counter(accepted), 60, what="all are registered")
    assert_balanced(parts)
    print(f"the tail was dispatched again {back_s:.1f} s after the replica had become the master")
    assert back_s < 15


def _obey(parts: Parts, master: ValkeyServer) -> bool:
    """Whether every worker hears what RQ's tools publish. The command is none, so nothing is done."""
    heard = [
        master.client.publish(
            f"rq:pubsub:{key.decode().rpartition(':')[2]}", b'{"command": "none"}'
        )
        for key in master.client.smembers("rq:workers")
    ]
    logs = [worker.log.read_text() for worker in parts.workers.values()]
    return all(heard) and len(heard) >= 4 and all("worker_command_received" in log for log in logs)


def _newest_cycle(parts: Parts) -> int:
    cycle = parts.robot()["last_cycle"]
    return 0 if cycle is None else int(cycle["number"])
