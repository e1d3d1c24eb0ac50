"""One cycle of a robot: open its row, walk the source page by page, close it, wake the next one.

No transaction is open while the source is asked. Each page is one short transaction, fenced by the
owner's token and the robot's generation: two processes may for a moment run the same cycle, but only
one can commit. A process that takes a dead one's place goes on after the last page that was committed.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from sqlalchemy.orm import Session

from app_srvc.errors import (
    AppError,
    BrokerUnavailableError,
    FenceLostError,
    LedgerUnavailableError,
    SourcePageError,
    SourceUnavailableError,
)
from app_srvc.kinds import Kind
from app_srvc.logs import get_logger
from app_srvc.messages.accept import Accepted, job_specs
from app_srvc.messages.handling import DONE, HAND_BACK, Outcome
from app_srvc.robots import store
from app_srvc.robots.control import wake_up
from app_srvc.robots.lease import LEASE_S, kept_lease
from app_srvc.robots.model import (
    CYCLE_DONE,
    CYCLE_FAILED,
    CYCLE_RUNNING,
    CYCLE_STOPPED,
    RUNNING,
    Cycle,
    Robot,
)
from app_srvc.robots.records import PageCount, parse_record, take_page
from app_srvc.robots.sources.base import Source
from app_srvc.robots.sources.choose import make_source
from app_srvc.runtime import Runtime

# How early a wake-up may come, by the clocks of Redis and of the ledger, and still be on time.
EARLY_S = 0.5

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Run:
    """This process' hold on a cycle."""

    robot: str
    generation: int
    number: int
    owner: str
    cursor: str | None
    records: int
    delay_s: float
    anchor: datetime
    is_full: bool

    @property
    def key(self) -> tuple[str, int, int]:
        return self.robot, self.generation, self.number


def run_cycle(runtime: Runtime, robot: str, generation: int, number: int, *, owner: str) -> Outcome:
    """Run one cycle and put the wake-up of the next one into Redis.

    A cycle that is not the robot's next one, or whose robot was stopped, does nothing. A source
    that fails ends the cycle, not the robot. `owner` is a token of this run alone, of at most 64
    characters: the fence.

    Raises:
        LedgerUnavailableError: The job is to be handed back; the cycle goes on from its last page.
    """
    opened = _open(runtime, robot, generation, number, owner)
    if isinstance(opened, Outcome):
        return opened
    log.info("cycle_started", robot=robot, generation=generation, cycle=number)
    try:
        with kept_lease(runtime, opened.key, opened.owner):
            error = _walk(runtime, opened)
            next_robot = _close(runtime, opened, error)
    except FenceLostError:
        _mark_stopped(runtime, opened)
        log.info("cycle_fence_lost", robot=robot, generation=generation, cycle=number)
        return Outcome(DONE, reason="fence_lost")
    _wake_next(runtime, next_robot, opened.delay_s)
    return Outcome(DONE)


def _open(runtime: Runtime, name: str, generation: int, number: int, owner: str) -> Run | Outcome:
    """Make the cycle's row, or take over the row of an owner whose lease has ended."""
    with runtime.database.write() as session:
        now = runtime.database.now(session)
        robot = store.lock_robot(session, name)
        if robot is None or not _is_expected(robot, generation, number):
            return Outcome(DONE, reason="not_next")
        early_s = ((robot.next_due_at or now) - now).total_seconds()
        if early_s > EARLY_S:
            return Outcome(HAND_BACK, early_s, reason="early")
        cycle = store.find_cycle(session, name, generation, number)
        if cycle is not None and cycle.lease_until > now:
            wait_s = (cycle.lease_until - now).total_seconds()
            return Outcome(HAND_BACK, wait_s, reason="leased")
        if cycle is None:
            cycle = _new_cycle(robot, now)
            session.add(cycle)
        cycle.owner = owner
        cycle.lease_until = now + timedelta(seconds=LEASE_S)
        policy = json.loads(robot.policy)
        return Run(
            robot=name,
            generation=generation,
            number=number,
            owner=owner,
            cursor=cycle.cursor,
            records=policy["records"],
            delay_s=float(policy["timedelta_s"]),
            anchor=robot.created_at,
            is_full=cycle.new >= policy["records"],
        )


def _walk(runtime: Runtime, run: Run) -> str | None:
    """Fetch and commit page after page; the words of the error that ended the cycle, if one did."""
    source: Source | None = None
    try:
        source = make_source(runtime.settings, anchor=run.anchor)
        cursor: str | None = run.cursor
        is_last = run.is_full
        while not is_last:
            page = source.fetch_page(cursor, now=datetime.now(UTC))
            is_last = _commit_page(runtime, run, page.records, page.next_cursor)
            cursor = page.next_cursor
    except (FenceLostError, LedgerUnavailableError):
        raise
    except (SourceUnavailableError, SourcePageError) as error:
        log.warning(
            "source_failed", robot=run.robot, cycle=run.number, error_type=type(error).__name__
        )
        return error.message
    except Exception as error:
        # The robot must outlive a bug in a source or a schema; the cycle shows what happened.
        log.exception(
            "cycle_failed", robot=run.robot, cycle=run.number, error_type=type(error).__name__
        )
        return (
            error.message if isinstance(error, AppError) else f"Unexpected {type(error).__name__}"
        )
    finally:
        if source is not None:
            source.close()
    return None


def _commit_page(
    runtime: Runtime, run: Run, raw_records: list[object], next_cursor: str | None
) -> bool:
    """Put a page into the ledger and its messages on their queue; True if the walk ends here."""
    kind = runtime.kinds[runtime.robots[run.robot].kind]
    records = [parse_record(kind, raw) for raw in raw_records]
    with runtime.database.write() as session:
        now = runtime.database.now(session)
        robot, cycle = _fenced(session, run)
        count, accepted = take_page(
            runtime.database,
            session,
            records,
            kind=kind,
            queue=runtime.queue_of(kind),
            robot=run.robot,
            cycle=run.number,
            limit=run.records - cycle.new,
            now=now,
        )
        _count_page(robot, cycle, count, next_cursor, now)
    _dispatch(runtime, kind, accepted, now)
    return count.is_full or next_cursor is None


def _count_page(
    robot: Robot, cycle: Cycle, count: PageCount, next_cursor: str | None, now: datetime
) -> None:
    cycle.pages += 1
    cycle.fetched += count.fetched
    cycle.new += count.new
    cycle.duplicate += count.duplicate
    cycle.rejected += count.rejected
    if not count.is_cut:
        # A page that was not taken whole is fetched again by whoever goes on with this cycle.
        cycle.cursor = next_cursor
    cycle.lease_until = now + timedelta(seconds=LEASE_S)
    if count.last_key is not None:
        cycle.watermark_after = robot.watermark = count.last_key


def _dispatch(runtime: Runtime, kind: Kind, accepted: list[Accepted], now: datetime) -> None:
    try:
        runtime.dispatcher.dispatch(job_specs(accepted, now))
    except BrokerUnavailableError:
        log.warning("dispatch_left_to_relay", kind=kind.name, count=len(accepted))


def _close(runtime: Runtime, run: Run, error: str | None) -> Robot:
    """End the cycle and set when the next one is due: the delay counts from now."""
    with runtime.database.write() as session:
        now = runtime.database.now(session)
        robot, cycle = _fenced(session, run)
        store.end_cycle(
            session,
            cycle,
            state=CYCLE_DONE if error is None else CYCLE_FAILED,
            error=error,
            now=now,
        )
        robot.next_cycle = run.number + 1
        robot.next_due_at = now + timedelta(seconds=run.delay_s)
        robot.updated_at = now
    log.info(
        "cycle_ended",
        robot=run.robot,
        cycle=run.number,
        state=cycle.state,
        fetched=cycle.fetched,
        new=cycle.new,
        duplicate=cycle.duplicate,
        rejected=cycle.rejected,
        duration_s=round((now - cycle.started_at).total_seconds(), 3),
    )
    return robot


def _wake_next(runtime: Runtime, robot: Robot, delay_s: float) -> None:
    try:
        runtime.dispatcher.dispatch([wake_up(runtime, robot, delay_s=delay_s)])
    except BrokerUnavailableError:
        log.warning("wake_up_left_to_watchdog", robot=robot.name, cycle=robot.next_cycle)


def _mark_stopped(runtime: Runtime, run: Run) -> None:
    """Close the row of a cycle that lost its robot, if the row is still ours."""
    with runtime.database.write() as session:
        cycle = store.find_cycle(session, *run.key)
        if cycle is not None and cycle.owner == run.owner and cycle.state == CYCLE_RUNNING:
            store.end_cycle(
                session, cycle, state=CYCLE_STOPPED, error=None, now=runtime.database.now(session)
            )


def _fenced(session: Session, run: Run) -> tuple[Robot, Cycle]:
    """The rows that this cycle may write, locked; `FenceLostError` if it may write no more."""
    robot = store.lock_robot(session, run.robot)
    cycle = store.find_cycle(session, *run.key)
    if robot is None or not _is_expected(robot, run.generation, run.number):
        raise FenceLostError
    if cycle is None or cycle.owner != run.owner or cycle.state != CYCLE_RUNNING:
        raise FenceLostError
    return robot, cycle


def _is_expected(robot: Robot | None, generation: int, number: int) -> bool:
    return (
        robot is not None
        and robot.state == RUNNING
        and robot.generation == generation
        and robot.next_cycle == number
    )


def _new_cycle(robot: Robot, now: datetime) -> Cycle:
    return Cycle(
        robot=robot.name,
        generation=robot.generation,
        number=robot.next_cycle,
        state=CYCLE_RUNNING,
        pages=0,
        fetched=0,
        new=0,
        duplicate=0,
        rejected=0,
        watermark_before=robot.watermark,
        started_at=now,
    )
