"""What there is to see of a robot, read at one moment: its status and its last cycles."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import Session

from app_srvc.errors import UnknownRobotError
from app_srvc.robots import store
from app_srvc.robots.control import RobotStatus, status_of
from app_srvc.robots.schemas import cycle_fields, robot_fields
from app_srvc.runtime import Runtime


@dataclass(frozen=True, slots=True)
class Overview:
    """A robot and its cycles, from the newest on, as the API shows them; `now` is the ledger's time."""

    status: RobotStatus
    robot: dict[str, Any]
    cycles: list[dict[str, Any]]
    now: datetime


def robot_overview(
    runtime: Runtime,
    session: Session,
    name: str,
    *,
    cycles: int = 1,
    before_number: int | None = None,
) -> Overview:
    """A robot with its `cycles` newest cycles.

    Raises:
        UnknownRobotError: There is no robot of that name.
    """
    if name not in runtime.robots:
        raise UnknownRobotError(f"There is no robot of the name {name!r}.")
    now = runtime.database.now(session)
    status = status_of(name, store.find_robot(session, name))
    rows = store.list_cycles(session, name, before_number=before_number, limit=cycles)
    items = store.count_items(session, name, [row.number for row in rows])
    shown = [cycle_fields(row, items[row.number]) for row in rows]
    return Overview(status, robot_fields(status, shown[0] if shown else None, now=now), shown, now)
