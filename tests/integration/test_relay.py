"""The relay: whatever is to be done has a live job, whatever Redis has lost."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import update

import app_srvc.messages.relay as relay_module
from app_srvc.inbox.model import InboxItem
from app_srvc.messages.audit import audit_messages
from app_srvc.messages.control import cancel_message, replay_message
from app_srvc.messages.handling import Outcome
from app_srvc.messages.model import Message
from app_srvc.messages.process import process_message
from app_srvc.messages.relay import Relay
from app_srvc.messages.sweep import Sweep
from app_srvc.runtime import Runtime, open_runtime
from tests.support.messages import accept_note, draft_note, insert, read_message
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until
from tests.support.worlds import open_world, settings_for

QUEUE = "QUE_TASKS"


def test_a_message_that_was_never_dispatched_is_relayed_without_a_try(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world, is_dispatched=False).message_id
    _age_all(world)
    assert Relay(world, grace_s=0.0).run_pass() == 1
    assert _waiting(valkey) == [message_id]
    assert read_message(world, message_id).tries == 0


def test_a_young_message_is_left_to_the_process_that_accepted_it(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world, is_dispatched=False).message_id
    relay = Relay(world, grace_s=1.0)
    assert relay.run_pass() == 0
    assert _waiting(valkey) == []
    wait_until(lambda: relay.run_pass() == 1, 10, what="it has grown old enough")
    assert _waiting(valkey) == [message_id]


def test_a_clock_that_is_an_hour_ahead_keeps_no_message_from_the_relay(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world, is_dispatched=False).message_id
    with world.database.write() as session:
        session.execute(update(Message).values(accepted_at=datetime.now(UTC) + timedelta(hours=1)))
    assert Relay(world, grace_s=0.0).run_pass() == 1
    assert _waiting(valkey) == [message_id]


def test_who_is_second_to_count_a_lost_try_leaves_the_job_of_the_first_alone(
    world: Runtime, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rescue and relay both probed the same dead job; one has settled it before the other counts."""
    message_id = accept_note(world).message_id
    valkey.client.delete(f"rq:queue:{QUEUE}")
    _start(valkey, message_id, lease_s=-1, attempt=0)
    real, is_first = relay_module.record_lost_try, []

    def count_after_somebody_else(*args: Any, **kwargs: Any) -> Outcome:
        if not is_first:
            is_first.append(True)
            assert Relay(world, grace_s=0.0).settle([message_id]) == 1
        return real(*args, **kwargs)

    monkeypatch.setattr(relay_module, "record_lost_try", count_after_somebody_else)
    assert Relay(world, grace_s=0.0).settle([message_id]) == 0
    _, (fact,) = world.dispatcher.probe([(message_id, QUEUE)])
    assert fact.is_live
    assert read_message(world, message_id).tries == 1


def test_a_redis_that_is_emptied_in_the_middle_of_a_pass_ends_the_pass(
    world: Runtime, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(20):
        accept_note(world, str(number), is_dispatched=False)
    monkeypatch.setattr(relay_module, "PAGE", 5)
    relay = Relay(world, grace_s=0.0)
    relay.current_epoch()
    real = world.dispatcher.probe

    def probe_an_emptied_redis(jobs: Any, **kwargs: Any) -> Any:
        if jobs:
            valkey.client.flushall()
        return real(jobs, **kwargs)

    monkeypatch.setattr(world.dispatcher, "probe", probe_an_emptied_redis)
    assert relay.run_pass() == 5
    monkeypatch.undo()
    monkeypatch.setattr(relay_module, "PAGE", 5)
    assert relay.run_pass() == 15
    assert len(_waiting(valkey)) == 20


def test_a_message_follows_its_kind_to_a_queue_of_another_name(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world, is_dispatched=False).message_id
    with world.database.write() as session:
        session.execute(update(Message).values(queue="QUE_OLD_NAME"))
    assert Relay(world, grace_s=0.0).run_pass() == 1
    assert _waiting(valkey) == [message_id]
    assert read_message(world, message_id).queue == QUEUE


def test_a_second_pass_reads_nothing_that_was_confirmed(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    _age_all(world)
    relay = Relay(world, grace_s=0.0)
    assert relay.run_pass() == 0
    assert read_message(world, message_id).dispatched_epoch == relay.current_epoch()


def test_an_emptied_redis_gets_everything_back_once(world: Runtime, valkey: ValkeyServer) -> None:
    ids = [accept_note(world, str(number)).message_id for number in range(20)]
    _age_all(world)
    relay = Relay(world, grace_s=0.0)
    relay.run_pass()
    before = relay.current_epoch()
    valkey.client.flushall()
    assert relay.run_pass() == 20
    assert relay.run_pass() == 0
    assert relay.current_epoch() == before + 1
    assert _waiting(valkey) == ids


def test_many_keepers_that_find_an_empty_redis_begin_one_epoch(world: Runtime) -> None:
    numbers: list[int] = []
    barrier = threading.Barrier(6)

    def look() -> None:
        barrier.wait()
        numbers.append(Relay(world, grace_s=0.0).current_epoch())

    threads = [threading.Thread(target=look) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert numbers == [1] * 6
    assert Relay(world, grace_s=0.0).current_epoch() == 1


def test_a_job_lost_in_the_middle_of_the_work_counts_one_try(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world).message_id
    _start(valkey, message_id, lease_s=-1, attempt=0)
    assert Relay(world, grace_s=0.0).settle([message_id]) == 1
    row = read_message(world, message_id)
    assert (row.state, row.tries, row.error_type) == ("accepted", 1, "WorkerLost")
    assert Relay(world, grace_s=0.0).settle([message_id]) == 0, "the job lives again"


def test_a_lost_job_whose_try_was_counted_is_only_dispatched(
    world: Runtime, valkey: ValkeyServer
) -> None:
    """The worker counted the failure in the ledger and died before it moved the job."""
    message_id = accept_note(world, kind="fail_always").message_id
    process_message(world, message_id, worker="test")
    _start(valkey, message_id, lease_s=-1, attempt=0)
    assert Relay(world, grace_s=0.0).settle([message_id]) == 1
    assert read_message(world, message_id).tries == 1


def test_a_message_that_loses_its_worker_three_times_is_poison_and_leaves_redis(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world).message_id
    relay = Relay(world, grace_s=0.0)
    for attempt in range(3):
        valkey.client.delete(f"rq:queue:{QUEUE}")
        _start(valkey, message_id, lease_s=-1, attempt=attempt)
        relay.settle([message_id], {message_id: "killed"})
    row = read_message(world, message_id)
    assert (row.state, row.reason, row.tries) == ("failed", "poison", 3)
    assert valkey.client.exists(f"rq:job:{message_id}") == 0


def test_a_live_job_is_left_alone(world: Runtime, valkey: ValkeyServer) -> None:
    message_id = accept_note(world).message_id
    valkey.client.delete(f"rq:queue:{QUEUE}")
    _start(valkey, message_id, lease_s=30, attempt=0)
    assert Relay(world, grace_s=0.0).settle([message_id]) == 0
    assert read_message(world, message_id).tries == 0


def test_what_is_left_of_an_ended_message_is_taken_out_of_redis(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world).message_id
    process_message(world, message_id, worker="test")
    _start(valkey, message_id, lease_s=-1, attempt=0)
    Relay(world, grace_s=0.0).settle([message_id])
    assert valkey.client.exists(f"rq:job:{message_id}") == 0
    assert valkey.client.zcard(f"rq:wip:{QUEUE}") == 0


def test_a_delayed_message_is_scheduled_not_queued(world: Runtime, valkey: ValkeyServer) -> None:
    message_id = accept_note(world, is_dispatched=False).message_id
    with world.database.write() as session:
        session.execute(
            update(Message).values(
                run_at=datetime.now(UTC) + timedelta(seconds=60),
                accepted_at=datetime.now(UTC) - timedelta(seconds=60),
            )
        )
    Relay(world, grace_s=0.0).run_pass()
    assert _waiting(valkey) == []
    score = valkey.client.zscore(f"rq:scheduled:{QUEUE}", message_id)
    assert score == pytest.approx(time.time() + 60, abs=5)


@pytest.mark.parametrize("loss", ["hash", "list"])
def test_the_sweep_finds_what_a_part_of_redis_has_lost(
    world: Runtime, valkey: ValkeyServer, loss: str
) -> None:
    ids = [accept_note(world, str(number)).message_id for number in range(5)]
    _age_all(world)
    relay = Relay(world, grace_s=0.0)
    relay.run_pass()
    if loss == "hash":
        valkey.client.delete(f"rq:job:{ids[2]}")
    valkey.client.lrem(f"rq:queue:{QUEUE}", 0, ids[2])
    assert relay.run_pass() == 0
    sweep = Sweep(world, relay)
    assert sweep.step() is False
    assert sweep.step() is True
    assert sorted(_waiting(valkey)) == sorted(ids)
    assert read_message(world, ids[2]).tries == 0


def test_the_sweep_of_a_lost_list_never_blocks_redis(world: Runtime, valkey: ValkeyServer) -> None:
    """To look for each id in its list inside Redis would take seconds at a time."""
    count = 3_000
    for start in range(0, count, 500):
        insert(world, *(draft_note(world, str(start + number)) for number in range(500)))
    relay = Relay(world, grace_s=0.0)
    assert relay.run_pass() == count
    valkey.client.delete(f"rq:queue:{QUEUE}")
    valkey.client.config_resetstat()
    sweep = Sweep(world, relay)
    while not sweep.step():
        pass
    assert len(_waiting(valkey)) == count
    assert "cmdstat_lpos" not in valkey.client.info("commandstats")


def test_the_sweep_leaves_a_healthy_queue_alone(world: Runtime, valkey: ValkeyServer) -> None:
    ids = [accept_note(world, str(number)).message_id for number in range(5)]
    _age_all(world)
    relay = Relay(world, grace_s=0.0)
    relay.run_pass()
    Sweep(world, relay).step()
    assert _waiting(valkey) == ids


def test_replaying_a_failed_message_gives_the_same_one_more_tries(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world, kind="fail_for_good").message_id
    process_message(world, message_id, worker="test")
    assert replay_message(world, message_id).message_id == message_id
    row = read_message(world, message_id)
    assert (row.state, row.tries, row.max_tries, row.reason) == ("accepted", 1, 4, None)
    assert message_id in _waiting(valkey)


def test_replaying_a_done_message_makes_a_new_one_that_names_it(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    process_message(world, message_id, worker="test")
    again = replay_message(world, message_id).message_id
    assert again != message_id
    assert read_message(world, again).replay_of == message_id
    assert read_message(world, message_id).state == "done"


def test_a_cancelled_message_leaves_its_queue_and_is_never_done(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world).message_id
    cancel_message(world, message_id)
    assert _waiting(valkey) == []
    process_message(world, message_id, worker="test")
    assert read_message(world, message_id).state == "cancelled"


def test_the_books_balance_after_all_of_this(world: Runtime, valkey: ValkeyServer) -> None:
    done = accept_note(world).message_id
    failed = accept_note(world, kind="fail_for_good").message_id
    cancelled = accept_note(world).message_id
    accept_note(world, is_dispatched=False)
    for message_id in (done, failed):
        process_message(world, message_id, worker="test")
    cancel_message(world, cancelled)
    assert [line.problems for line in _books(world)] == [()] * 3
    valkey.client.flushall()
    assert all(line.is_balanced for line in _books(world))


def test_the_books_see_a_row_that_is_gone(world: Runtime) -> None:
    accept_note(world)
    with world.database.write() as session:
        session.query(Message).delete()
    assert any("receipts say 1" in text for line in _books(world) for text in line.problems)


def test_the_books_see_an_effect_that_is_gone(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    process_message(world, message_id, worker="test")
    with world.database.write() as session:
        session.query(InboxItem).delete()
    assert any("0 effects" in text for line in _books(world) for text in line.problems)


def test_the_books_see_a_list_that_is_gone(world: Runtime, valkey: ValkeyServer) -> None:
    accept_note(world)
    Relay(world, grace_s=0.0).run_pass()
    valkey.client.delete(f"rq:queue:{QUEUE}")
    assert any("have no job" in text for line in _books(world) for text in line.problems)


def test_the_books_know_a_job_that_awaits_its_rescue(world: Runtime, valkey: ValkeyServer) -> None:
    message_id = accept_note(world).message_id
    Relay(world, grace_s=0.0).run_pass()
    valkey.client.delete(f"rq:queue:{QUEUE}")
    _start(valkey, message_id, lease_s=-1, attempt=0)
    line = _books(world)[-1]
    assert (line.is_balanced, line.figures["awaiting_rescue"]) == (True, 1)


def test_with_redis_away_the_books_say_that_jobs_were_not_checked(
    world: Runtime, valkey: ValkeyServer
) -> None:
    accept_note(world)
    valkey.kill()
    terminal = open_runtime(world.settings, caller="loop", kinds=world.kinds)
    line = _books(terminal)[-1]
    terminal.close()
    assert (line.is_balanced, line.is_checked) == (True, False)


def test_the_books_see_a_message_without_a_job(world: Runtime, valkey: ValkeyServer) -> None:
    message_id = accept_note(world).message_id
    _age_all(world)
    Relay(world, grace_s=0.0).run_pass()
    valkey.client.delete(f"rq:job:{message_id}")
    assert any("have no job" in text for line in _books(world) for text in line.problems)


def _books(world: Runtime):  # type: ignore[no-untyped-def]
    """The samples share one table of effects, so its count is compared for one of them only."""
    kinds = {**world.kinds}
    for name in ("fail_for_good", "fail_always"):
        kinds.pop(name)
    return audit_messages(
        Runtime(world.settings, world.database, world.redis, world.dispatcher, kinds, world.robots)
    )


def _age_all(world: Runtime) -> None:
    """Make every message older than the relay's grace."""
    with world.database.write() as session:
        session.execute(
            update(Message).values(accepted_at=datetime.now(UTC) - timedelta(seconds=60))
        )


def _waiting(valkey: ValkeyServer) -> list[str]:
    return [raw.decode() for raw in valkey.client.lrange(f"rq:queue:{QUEUE}", 0, -1)]


def _start(valkey: ValkeyServer, id: str, *, lease_s: float, attempt: int) -> None:
    """A job that a worker holds, as RQ writes it."""
    until = time.time() + lease_s
    valkey.client.hset(
        f"rq:job:{id}", mapping={"status": "started", "meta": f'{{"try": {attempt}}}'}
    )
    valkey.client.zadd(f"rq:executions:{id}", {"e1": until})
    valkey.client.zadd(f"rq:wip:{QUEUE}", {f"{id}:e1": until})


def test_a_redis_that_comes_back_with_older_data_gets_what_it_has_lost(
    ledger_url: str, tmp_path: Path
) -> None:
    """As after a fail-over to a replica that lagged, or a restart from a disk that did."""
    with ValkeyServer(tmp_path / "v") as server:
        world = open_world(server.url, ledger_url)
        relay = Relay(world, grace_s=0.0)
        kept = accept_note(world, "kept").message_id
        relay.run_pass()
        server.client.save()
        lost = [accept_note(world, f"lost {number}").message_id for number in range(20)]
        _age_all(world)
        relay.run_pass()
        assert relay.run_pass() == 0, "all were seen in this epoch"
        before = relay.current_epoch()
        server.kill()
        server.start()
        assert _waiting(server) == [kept]
        line = next(line for line in audit_messages(world) if line.subject == "jobs")
        assert line.is_balanced and line.figures["waiting_for_relay"] == 20
        assert relay.run_pass() == 20
        assert relay.run_pass() == 0
        assert relay.current_epoch() == before + 1
        assert _waiting(server) == [kept, *lost]
        world.close()


def test_a_redis_that_does_not_say_which_process_it_is_keeps_its_epoch(
    world: Runtime, valkey: ValkeyServer
) -> None:
    relay = Relay(world, grace_s=0.0)
    assert relay.current_epoch() == 1
    with _user_without(valkey, "info") as url:
        shy = open_runtime(
            settings_for(url, world.settings.effective_database_url.get_secret_value())
        )
        assert shy.dispatcher.server_id() == ""
        assert Relay(shy, grace_s=0.0).current_epoch() == 1
        shy.close()


@contextmanager
def _user_without(valkey: ValkeyServer, command: str) -> Iterator[str]:
    """The address for a user of Redis who may do everything but one command."""
    valkey.client.execute_command(
        "ACL", "SETUSER", "shy", "on", ">hush", "~*", "&*", "+@all", f"-{command}"
    )
    yield valkey.url.replace("redis://", "redis://shy:hush@")
    valkey.client.execute_command("ACL", "DELUSER", "shy")
