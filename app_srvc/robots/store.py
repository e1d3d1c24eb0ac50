"""Queries about robots and cycles. Each takes the session of its caller, who owns the transaction."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update
from sqlalchemy.orm import Session

from app_srvc.messages.model import BookTotal, Message
from app_srvc.robots.model import CYCLE_RUNNING, RUNNING, STOPPED, Cycle, RejectedRecord, Robot


def ensure_robot(session: Session, name: str, *, insert_ignore: Any, now: datetime) -> None:
    """Make the row of a robot that has none yet: stopped, before its first cycle."""
    session.execute(
        insert_ignore(Robot),
        {
            "name": name,
            "state": STOPPED,
            "generation": 0,
            "next_cycle": 1,
            "policy": "{}",
            "created_at": now,
            "updated_at": now,
        },
    )


def find_robot(session: Session, name: str) -> Robot | None:
    return session.execute(select(Robot).where(Robot.name == name)).scalar_one_or_none()


def lock_robot(session: Session, name: str) -> Robot | None:
    """The robot's row; nobody else can lock it until the transaction ends."""
    return session.execute(
        select(Robot).where(Robot.name == name).with_for_update()
    ).scalar_one_or_none()


def list_due_robots(session: Session, now: datetime) -> list[Robot]:
    query = select(Robot).where(Robot.state == RUNNING, Robot.next_due_at <= now)
    return list(session.execute(query).scalars())


def find_cycle(session: Session, robot: str, generation: int, number: int) -> Cycle | None:
    return session.get(Cycle, (robot, generation, number))


def list_cycles(
    session: Session, robot: str, *, before_number: int | None = None, limit: int = 20
) -> list[Cycle]:
    """Cycles of a robot from the newest on."""
    query = select(Cycle).where(Cycle.robot == robot).order_by(Cycle.number.desc()).limit(limit)
    if before_number is not None:
        query = query.where(Cycle.number < before_number)
    return list(session.execute(query).scalars())


def last_cycle_number(session: Session, robot: str) -> int:
    """The highest number that a cycle of the robot has had; 0 before its first."""
    query = select(func.max(Cycle.number)).where(Cycle.robot == robot)
    return session.execute(query).scalar_one() or 0


def list_running_cycles(session: Session) -> list[Cycle]:
    return list(session.execute(select(Cycle).where(Cycle.state == CYCLE_RUNNING)).scalars())


def renew_lease(
    session: Session, cycle_key: tuple[str, int, int], owner: str, until: datetime
) -> bool:
    """Prolong the lease of a cycle, if it is still the owner's."""
    robot, generation, number = cycle_key
    changed = session.execute(
        update(Cycle)
        .where(
            Cycle.robot == robot,
            Cycle.generation == generation,
            Cycle.number == number,
            Cycle.owner == owner,
            Cycle.state == CYCLE_RUNNING,
        )
        .values(lease_until=until)
        .execution_options(synchronize_session=False)
    )
    return bool(changed.rowcount)  # type: ignore[attr-defined]


def end_cycle(
    session: Session, cycle: Cycle, *, state: str, error: str | None, now: datetime
) -> None:
    cycle.state = state
    cycle.error = error
    cycle.ended_at = now


def put_rejected(session: Session, record: RejectedRecord) -> None:
    """Keep a rejected record once; a record that is seen again only moves its last sight."""
    known = session.get(RejectedRecord, (record.robot, record.digest))
    if known is None:
        session.add(record)
        session.flush()
    else:
        known.last_cycle = record.last_cycle
        known.last_seen_at = record.last_seen_at


def count_items(session: Session, robot: str, numbers: Sequence[int]) -> dict[int, dict[str, int]]:
    """For each cycle number: how many of its messages are in which state, purged ones included."""
    counts: dict[int, dict[str, int]] = {number: {} for number in numbers}
    live = (
        select(Message.cycle, Message.state, func.count())
        .where(Message.robot == robot, Message.cycle.in_(numbers))
        .group_by(Message.cycle, Message.state)
    )
    for number, state, count in session.execute(live):
        counts[number or 0][state] = count
    purged = select(BookTotal).where(BookTotal.robot == robot, BookTotal.cycle.in_(numbers))
    for total in session.execute(purged).scalars():
        of_cycle = counts[total.cycle]
        for state, count in (
            ("done", total.purged_done),
            ("failed", total.purged_failed),
            ("cancelled", total.purged_cancelled),
        ):
            of_cycle[state] = of_cycle.get(state, 0) + count
    return counts
