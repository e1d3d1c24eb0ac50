"""The robot: one chain, whatever starts, stops, dies or comes twice."""

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import func, select, update

from app_srvc.errors import ConfigurationError, RobotAlreadyRunningError, UnknownRobotError
from app_srvc.messages.audit import audit_messages
from app_srvc.messages.handling import DONE, HAND_BACK
from app_srvc.messages.model import Message
from app_srvc.messages.process import process_message
from app_srvc.robots import store
from app_srvc.robots.audit import audit_robots
from app_srvc.robots.control import robot_status, start_robot, stop_robot
from app_srvc.robots.cycle import run_cycle
from app_srvc.robots.model import Cycle, RejectedRecord, Robot
from app_srvc.robots.policy import Policy
from app_srvc.robots.watchdog import Watchdog
from app_srvc.runtime import Runtime
from app_srvc.todos.model import Todo, TodoChange
from tests.support.servers import ValkeyServer
from tests.support.source_server import Fault, SourceServer, todos
from tests.support.waiting import wait_until
from tests.support.worlds import open_world

POLICY = Policy(timedelta_s=15, records=20, msg="start regular job")
QUEUE = "QUE_ROBOT"


@pytest.fixture
def source() -> Iterator[SourceServer]:
    with SourceServer() as server:
        yield server


@pytest.fixture
def world(valkey: ValkeyServer, ledger_url: str, source: SourceServer) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, ledger_url, SOURCE_URL=source.url, SOURCE_PAGE_SIZE="10")
    yield runtime
    runtime.close()


def test_a_start_schedules_the_first_cycle_and_nothing_else(
    world: Runtime, valkey: ValkeyServer
) -> None:
    status = start_robot(world, "todos", POLICY)
    assert (status.state, status.generation, status.job_id) == ("running", 1, "robot-todos-1-1")
    assert status.policy == {"timedelta_s": 15, "records": 20, "msg": "start regular job"}
    assert valkey.client.zrange(f"rq:scheduled:{QUEUE}", 0, -1) == [b"robot-todos-1-1"]
    assert valkey.client.llen(f"rq:queue:{QUEUE}") == 0


def test_a_second_start_is_refused_and_changes_nothing(world: Runtime) -> None:
    before = start_robot(world, "todos", POLICY)
    with pytest.raises(RobotAlreadyRunningError):
        start_robot(world, "todos", Policy(99, 99, "other"))
    assert robot_status(world, "todos") == before


def test_of_many_starts_at_once_one_wins(world: Runtime) -> None:
    results: list[str] = []
    barrier = threading.Barrier(10)

    def start() -> None:
        barrier.wait()
        try:
            start_robot(world, "todos", POLICY)
            results.append("started")
        except RobotAlreadyRunningError:
            results.append("refused")

    threads = [threading.Thread(target=start) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(results) == ["refused"] * 9 + ["started"]
    assert robot_status(world, "todos").generation == 1


def test_a_robot_that_is_not_in_the_table_cannot_be_started(world: Runtime) -> None:
    with pytest.raises(UnknownRobotError):
        start_robot(world, "nobody", POLICY)


def test_a_robot_without_a_source_cannot_be_started(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    world = open_world(valkey.url, sqlite_ledger_url)
    with pytest.raises(ConfigurationError):
        start_robot(world, "todos", POLICY)
    assert robot_status(world, "todos").state == "stopped"
    world.close()


def test_stopping_a_stopped_robot_changes_nothing(world: Runtime) -> None:
    start_robot(world, "todos", POLICY)
    first = stop_robot(world, "todos")
    assert stop_robot(world, "todos") == first
    assert (first.state, first.job_id) == ("stopped", None)


def test_a_stop_takes_the_wake_up_out_of_redis(world: Runtime, valkey: ValkeyServer) -> None:
    start_robot(world, "todos", POLICY)
    stop_robot(world, "todos")
    assert valkey.client.zcard(f"rq:scheduled:{QUEUE}") == 0


def test_no_cycle_opens_after_a_stop(world: Runtime, source: SourceServer) -> None:
    source.set_records(todos(5))
    start_robot(world, "todos", POLICY)
    _make_due(world)
    stop_robot(world, "todos")
    assert _run(world, 1, 1) == (DONE, "not_next")
    assert _cycles(world) == []


def test_a_cycle_fetches_counts_and_wakes_the_next(
    world: Runtime, source: SourceServer, valkey: ValkeyServer
) -> None:
    source.set_records(todos(15))
    _start_and_run(world)
    (cycle,) = _cycles(world)
    assert (cycle.state, cycle.fetched, cycle.new, cycle.duplicate, cycle.rejected) == (
        "done",
        15,
        15,
        0,
        0,
    )
    assert cycle.pages == 2
    assert robot_status(world, "todos").job_id == "robot-todos-1-2"
    assert b"robot-todos-1-2" in valkey.client.zrange(f"rq:scheduled:{QUEUE}", 0, -1)
    assert valkey.client.llen("rq:queue:QUE_OUTMSG") == 15


def test_the_delay_counts_from_the_end_of_the_cycle(world: Runtime, source: SourceServer) -> None:
    source.set_records(todos(1))
    before = datetime.now(UTC)
    _start_and_run(world)
    due = robot_status(world, "todos").next_due_at
    assert due is not None
    assert timedelta(seconds=14) < due - before < timedelta(seconds=25)


def test_a_cycle_makes_no_more_messages_than_its_policy_says(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records(todos(45))
    _start_and_run(world)
    for number in (2, 3, 4):
        _make_due(world)
        _run(world, 1, number)
    assert [cycle.new for cycle in _cycles(world)] == [20, 20, 5, 0]
    assert [cycle.duplicate for cycle in _cycles(world)] == [0, 20, 40, 45]
    assert _count(world, Message) == 45


def test_known_records_are_duplicates_and_changed_ones_are_new(
    world: Runtime, source: SourceServer
) -> None:
    records = todos(3)
    source.set_records(records)
    _start_and_run(world)
    source.set_records([records[0], {**records[1], "status": "completed"}, records[2]])
    _next(world, 2)
    source.set_records(records)
    _next(world, 3)
    cycles = _cycles(world)
    assert [(cycle.new, cycle.duplicate) for cycle in cycles] == [(3, 0), (1, 2), (1, 2)]
    _process_all(world)
    with world.database.read() as session:
        todo = session.get(Todo, 2)
    assert todo is not None
    assert todo.status == "pending"


def test_an_older_message_does_not_overwrite_a_newer_one(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records(todos(1))
    _start_and_run(world)
    source.set_records([{**todos(1)[0], "title": "newer"}])
    _next(world, 2)
    _process_all(world, newest_first=True)
    with world.database.read() as session:
        todo = session.get(Todo, 1)
        changes = session.execute(select(TodoChange.was_newest)).scalars().all()
    assert todo is not None
    assert todo.title == "newer"
    assert sorted(changes) == [False, True]


def test_the_same_record_twice_on_a_page_is_one_message(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records([*todos(2), *todos(1)])
    _start_and_run(world)
    (cycle,) = _cycles(world)
    assert (cycle.fetched, cycle.new, cycle.duplicate) == (3, 2, 1)


def test_a_record_that_does_not_parse_is_rejected_counted_and_kept_once(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records([*todos(2), {"id": "x", "title": "\x00"}, 5])
    _start_and_run(world)
    _next(world, 2)
    assert [cycle.rejected for cycle in _cycles(world)] == [2, 2]
    with world.database.read() as session:
        kept = session.execute(select(RejectedRecord)).scalars().all()
    assert len(kept) == 2
    assert {(record.first_cycle, record.last_cycle) for record in kept} == {(1, 2)}
    assert _count(world, Message) == 2


def test_a_page_that_does_not_parse_ends_the_cycle_before_it_and_the_robot_goes_on(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records(todos(15))
    source.set_faults(Fault("body", page=2, body="<html>oops</html>"))
    _start_and_run(world)
    (cycle,) = _cycles(world)
    assert (cycle.state, cycle.new, cycle.watermark_after) == ("failed", 10, "10")
    assert cycle.error
    source.set_faults()
    _next(world, 2)
    assert _cycles(world)[1].new == 5


def test_a_source_that_is_down_does_not_end_the_robot(world: Runtime, source: SourceServer) -> None:
    source.set_faults(Fault("hang_up"))
    _start_and_run(world)
    (cycle,) = _cycles(world)
    assert (cycle.state, cycle.fetched) == ("failed", 0)
    assert robot_status(world, "todos").job_id == "robot-todos-1-2"


def test_a_cycle_that_comes_too_early_is_handed_back(world: Runtime) -> None:
    start_robot(world, "todos", POLICY)
    outcome = run_cycle(world, "todos", 1, 1, owner="a")
    assert outcome.action == HAND_BACK
    assert outcome.delay_s == pytest.approx(15, abs=2)


def test_a_cycle_delivered_twice_runs_once(world: Runtime, source: SourceServer) -> None:
    source.set_records(todos(5))
    _start_and_run(world)
    assert _run(world, 1, 1) == (DONE, "not_next")
    assert len(_cycles(world)) == 1


def test_a_cycle_under_a_live_lease_waits_for_its_end(world: Runtime) -> None:
    start_robot(world, "todos", POLICY)
    _make_due(world)
    _open_as_dead(world, lease_s=6)
    outcome = run_cycle(world, "todos", 1, 1, owner="b")
    assert (outcome.action, outcome.reason) == (HAND_BACK, "leased")
    assert outcome.delay_s == pytest.approx(6, abs=1)


def test_a_dead_cycle_is_resumed_after_its_last_committed_page(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records(todos(15))
    start_robot(world, "todos", POLICY)
    _make_due(world)
    with pytest.raises(SystemExit):
        _run_and_die_after_a_page(world)
    _end_leases(world)
    run_cycle(world, "todos", 1, 1, owner="second")
    (cycle,) = _cycles(world)
    assert (cycle.owner, cycle.pages, cycle.fetched, cycle.new) == ("second", 2, 15, 15)


def test_a_cycle_that_died_on_a_page_it_took_in_part_passes_no_record(
    world: Runtime, source: SourceServer
) -> None:
    """The limit was reached in the middle of the page, and the process died before it closed."""
    source.set_records(todos(30))
    start_robot(world, "todos", Policy(15, 5, "a small limit"))
    _make_due(world)
    with pytest.raises(SystemExit):
        _run_and_die_before_closing(world)
    _end_leases(world)
    run_cycle(world, "todos", 1, 1, owner="second")
    (cycle,) = _cycles(world)
    assert (cycle.fetched, cycle.new, cycle.watermark_after) == (5, 5, "5")


def test_a_stop_in_the_middle_drops_the_page_and_closes_the_cycle(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records(todos(15))
    source.set_faults(Fault("slow", page=2, seconds=1.5))
    start_robot(world, "todos", POLICY)
    _make_due(world)
    outcomes: list[tuple[str, str | None]] = []
    running = threading.Thread(target=lambda: outcomes.append(_run(world, 1, 1)))
    running.start()
    wait_until(lambda: [seen.page for seen in source.requests] == ["1", "2"], 10)
    stop_robot(world, "todos")
    running.join(20)
    assert outcomes == [(DONE, "fence_lost")]
    (cycle,) = _cycles(world)
    assert (cycle.state, cycle.new) == ("stopped", 10)
    source.set_faults()
    start_robot(world, "todos", POLICY)
    assert robot_status(world, "todos").next_cycle == 2
    _make_due(world)
    _run(world, 3, 2)
    assert [cycle.new for cycle in _cycles(world)] == [10, 5]


def test_the_watchdog_wakes_what_redis_has_lost(world: Runtime, valkey: ValkeyServer) -> None:
    start_robot(world, "todos", POLICY)
    valkey.client.flushall()
    assert Watchdog(world).run_pass() == 0, "it is not due yet"
    _make_due(world)
    assert Watchdog(world).run_pass() == 1
    assert Watchdog(world).run_pass() == 0
    assert valkey.client.lrange(f"rq:queue:{QUEUE}", 0, -1) == [b"robot-todos-1-1"]


def test_the_watchdog_resumes_a_dead_cycle_that_rq_still_takes_for_alive(
    world: Runtime, valkey: ValkeyServer
) -> None:
    start_robot(world, "todos", POLICY)
    _make_due(world)
    _open_as_dead(world, lease_s=-1)
    valkey.client.flushall()
    valkey.client.hset("rq:job:robot-todos-1-1", "status", "started")
    valkey.client.zadd("rq:executions:robot-todos-1-1", {"e": 9e12})
    valkey.client.zadd(f"rq:wip:{QUEUE}", {"robot-todos-1-1:e": 9e12})
    assert Watchdog(world).run_pass() == 1
    assert valkey.client.lrange(f"rq:queue:{QUEUE}", 0, -1) == [b"robot-todos-1-1"]


def test_the_watchdog_leaves_a_stopped_robot_alone_and_closes_its_dead_cycle(
    world: Runtime, valkey: ValkeyServer
) -> None:
    start_robot(world, "todos", POLICY)
    _make_due(world)
    _open_as_dead(world, lease_s=-1)
    stop_robot(world, "todos")
    valkey.client.flushall()
    assert Watchdog(world).run_pass() == 0
    assert [cycle.state for cycle in _cycles(world)] == ["stopped"]


def test_the_books_of_a_robot_balance_and_see_a_wrong_count(
    world: Runtime, source: SourceServer
) -> None:
    source.set_records([*todos(7), "bad"])
    _start_and_run(world)
    _process_all(world)
    assert all(line.is_balanced for line in [*audit_messages(world), *audit_robots(world)])
    with world.database.write() as session:
        session.execute(update(Cycle).values(new=Cycle.new + 1))
    assert not all(line.is_balanced for line in audit_robots(world))


def _run(world: Runtime, generation: int, number: int) -> tuple[str, str | None]:
    outcome = run_cycle(world, "todos", generation, number, owner="test")
    return outcome.action, outcome.reason


def _start_and_run(world: Runtime) -> None:
    start_robot(world, "todos", POLICY)
    _next(world, 1)


def _next(world: Runtime, number: int) -> None:
    _make_due(world)
    assert _run(world, 1, number) == (DONE, None)


def _make_due(world: Runtime) -> None:
    with world.database.write() as session:
        session.execute(
            update(Robot).values(next_due_at=world.database.now(session) - timedelta(seconds=5))
        )


def _end_leases(world: Runtime) -> None:
    with world.database.write() as session:
        session.execute(
            update(Cycle).values(lease_until=world.database.now(session) - timedelta(seconds=1))
        )


def _open_as_dead(world: Runtime, *, lease_s: float) -> None:
    """The row of a cycle whose process is gone."""
    with world.database.write() as session:
        now = world.database.now(session)
        session.add(
            Cycle(
                robot="todos",
                generation=1,
                number=1,
                state="running",
                owner="dead",
                lease_until=now + timedelta(seconds=lease_s),
                started_at=now,
            )
        )


def _run_and_die_after_a_page(world: Runtime) -> None:
    """A process that dies between two pages: nothing of ours runs after it."""

    import app_srvc.robots.cycle as cycle_module

    real, pages = cycle_module._commit_page, []

    def commit_page(*args: Any, **kwargs: Any) -> bool:
        if pages:
            raise SystemExit
        pages.append(1)
        return real(*args, **kwargs)

    cycle_module._commit_page = commit_page  # type: ignore[assignment]
    try:
        run_cycle(world, "todos", 1, 1, owner="first")
    finally:
        cycle_module._commit_page = real


def _run_and_die_before_closing(world: Runtime) -> None:
    import app_srvc.robots.cycle as cycle_module

    real = cycle_module._close

    def die(*args: Any, **kwargs: Any) -> Any:
        raise SystemExit

    cycle_module._close = die  # type: ignore[assignment]
    try:
        run_cycle(world, "todos", 1, 1, owner="first")
    finally:
        cycle_module._close = real


def _process_all(world: Runtime, *, newest_first: bool = False) -> None:
    with world.database.read() as session:
        ids = list(session.execute(select(Message.id).order_by(Message.seq)).scalars())
    for message_id in reversed(ids) if newest_first else ids:
        process_message(world, message_id, worker="test")


def _cycles(world: Runtime) -> list[Cycle]:
    with world.database.read() as session:
        return store.list_cycles(session, "todos")[::-1]


def _count(world: Runtime, table: type[Any]) -> int:
    with world.database.read() as session:
        return session.execute(select(func.count()).select_from(table)).scalar_one()
