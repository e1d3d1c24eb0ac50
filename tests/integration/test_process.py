"""Processing: one effect for each message, however often it runs and however it goes wrong."""

import json
import threading
from contextlib import closing

import pytest
from sqlalchemy import func, select

from app_srvc.errors import LedgerUnavailableError
from app_srvc.inbox.model import InboxItem
from app_srvc.kinds import KINDS
from app_srvc.messages import store
from app_srvc.messages.handling import DONE, FAILED, HAND_BACK, RETRY
from app_srvc.messages.process import process_message
from app_srvc.runtime import Runtime
from tests.support.messages import accept_note, read_message
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.worlds import SAMPLE_KINDS, open_world


def run(world: Runtime, message_id: str, **more):  # type: ignore[no-untyped-def]
    return process_message(world, message_id, worker="test", **more)


def test_a_message_is_done_and_its_effect_is_there_once(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    assert run(world, message_id).action == DONE
    assert run(world, message_id).action == DONE
    row = read_message(world, message_id)
    assert (row.state, row.tries, json.loads(row.result or "")) == ("done", 1, {"length": 5})
    assert row.started_at is not None
    assert row.ended_at is not None
    assert _effects(world) == 1


def test_many_deliveries_at_once_have_one_effect(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    barrier = threading.Barrier(6)

    def deliver() -> None:
        barrier.wait()
        run(world, message_id)

    threads = [threading.Thread(target=deliver) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert _effects(world) == 1
    assert read_message(world, message_id).tries == 1


def test_a_failing_handler_is_tried_again_and_then_fails_with_its_error(world: Runtime) -> None:
    message_id = accept_note(world, kind="fail_always").message_id
    outcomes = [run(world, message_id) for _ in range(3)]
    assert [outcome.action for outcome in outcomes] == [RETRY, RETRY, FAILED]
    assert all(outcome.delay_s is not None for outcome in outcomes[:2])
    row = read_message(world, message_id)
    assert (row.state, row.reason, row.tries) == ("failed", "error", 3)
    assert (row.error_type, row.error_message) == ("ValueError", "hello will not do, try 3")
    assert "fail_always" in (row.error_traceback or "")
    with world.database.read() as session:
        tries = store.list_tries(session, message_id)
    assert [attempt.number for attempt in tries] == [1, 2, 3]


def test_an_error_that_cannot_heal_is_not_tried_again(world: Runtime) -> None:
    message_id = accept_note(world, kind="fail_for_good").message_id
    assert run(world, message_id).action == FAILED
    row = read_message(world, message_id)
    assert (row.reason, row.error_type, row.tries) == ("permanent", "not_wanted", 1)


def test_a_handler_that_calls_exit_is_a_failed_try(world: Runtime) -> None:
    message_id = accept_note(world, kind="exit_the_process").message_id
    assert run(world, message_id).action == RETRY
    assert read_message(world, message_id).error_type == "SystemExit"


def test_a_time_out_is_named_as_such(world: Runtime) -> None:
    message_id = accept_note(world, kind="fail_always").message_id
    assert run(world, message_id, timeout_errors=(ValueError,)).reason == "timeout"


def test_a_run_that_lost_its_claim_writes_nothing(world: Runtime) -> None:
    """A slow run whose try was counted as lost meanwhile must not end the message."""
    message_id = accept_note(world).message_id
    row = read_message(world, message_id)
    with world.database.write() as session:
        assert store.finish(
            session,
            message_id,
            tries=row.tries,
            result=None,
            started_at=row.accepted_at,
            now=row.accepted_at,
        )
        assert not store.finish(
            session,
            message_id,
            tries=row.tries,
            result=None,
            started_at=row.accepted_at,
            now=row.accepted_at,
        )
    assert run(world, message_id).reason == "ended_before"
    assert _effects(world) == 0


def test_a_kind_that_this_worker_does_not_know_is_handed_back(
    world: Runtime, valkey: ValkeyServer
) -> None:
    message_id = accept_note(world).message_id
    old_kinds = {name: kind for name, kind in SAMPLE_KINDS.items() if name != "keep_note"}
    old = Runtime(
        world.settings, world.database, world.redis, world.dispatcher, old_kinds, world.robots
    )
    outcome = run(old, message_id)
    assert (outcome.action, outcome.reason) == (HAND_BACK, "unknown_kind")
    assert read_message(world, message_id).tries == 0
    assert run(world, message_id).action == DONE


def test_a_version_that_this_worker_does_not_know_is_handed_back(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    with world.database.write() as session:
        row = store.find_message(session, message_id)
        assert row is not None
        row.payload_version = 2
    assert run(world, message_id).action == HAND_BACK


def test_a_payload_that_does_not_fit_fails_for_good_and_is_not_quoted(world: Runtime) -> None:
    message_id = accept_note(world).message_id
    with world.database.write() as session:
        row = store.find_message(session, message_id)
        assert row is not None
        row.payload = '{"text": 5, "secret": "s3cret"}'
    assert run(world, message_id).action == FAILED
    row = read_message(world, message_id)
    assert row.error_type == "invalid_payload"
    assert "s3cret" not in f"{row.error_message}{row.error_traceback}"


def test_an_id_without_a_message_ends_quietly(world: Runtime) -> None:
    outcome = run(world, "0193e4a0-0000-7000-8000-000000000001")
    assert (outcome.action, outcome.reason) == (DONE, "unknown_message")


def test_with_the_database_away_no_try_is_counted(
    valkey: ValkeyServer, postgres: PostgresServer, postgres_ledger_url: str
) -> None:
    with closing(open_world(valkey.url, postgres_ledger_url)) as world:
        message_id = accept_note(world).message_id
        postgres.kill()
        with pytest.raises(LedgerUnavailableError):
            run(world, message_id)
        postgres.start()
        assert read_message(world, message_id).tries == 0
        assert run(world, message_id).action == DONE


def test_the_services_own_table_holds_no_sample() -> None:
    assert set(KINDS) == {"registration", "todo", "message"}


def _effects(world: Runtime) -> int:
    with world.database.read() as session:
        return session.execute(select(func.count()).select_from(InboxItem)).scalar_one()
