"""Start, stop and status of a robot: what the button, the API and the command line call."""

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app_srvc.errors import RobotAlreadyRunningError, UnknownRobotError
from app_srvc.logs import get_logger
from app_srvc.messages.dispatch import CYCLE_TASK, JobSpec
from app_srvc.robots import store
from app_srvc.robots.model import RUNNING, STOPPED, Robot
from app_srvc.robots.policy import Policy
from app_srvc.robots.sources.choose import make_source
from app_srvc.runtime import Runtime

# A cycle may walk a long and slow source; its lease, not this limit, says whether it is alive.
CYCLE_TIMEOUT_S = 3_600

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class RobotStatus:
    """What a robot should be doing now. `job_id` is the job of the cycle that runs or is next."""

    name: str
    state: str
    generation: int
    next_cycle: int
    next_due_at: datetime | None
    watermark: str | None
    policy: dict[str, Any]
    job_id: str | None

    @property
    def is_running(self) -> bool:
        return self.state == RUNNING


def start_robot(runtime: Runtime, name: str, policy: Policy) -> RobotStatus:
    """Start a robot and return its status; its first cycle is due `policy.timedelta_s` from now.

    Of any number of starts at once, one wins, since each locks the robot's row.

    Raises:
        UnknownRobotError: There is no robot of that name.
        RobotAlreadyRunningError: It runs; nothing was changed.
        ConfigurationError: Its source is not set.
    """
    if robot_status(runtime, name).is_running:
        # Said without the lock that those who press at the same time would stand in line for.
        raise RobotAlreadyRunningError
    with runtime.database.write() as session:
        now = runtime.database.now(session)
        store.ensure_robot(session, name, insert_ignore=runtime.database.insert_ignore, now=now)
        robot = store.lock_robot(session, name)
        if robot is None:
            raise UnknownRobotError
        if robot.state == RUNNING:
            raise RobotAlreadyRunningError
        make_source(runtime.settings, anchor=robot.created_at).close()
        robot.state = RUNNING
        robot.generation += 1
        # A cycle that was stopped on its way has used its number.
        robot.next_cycle = max(robot.next_cycle, store.last_cycle_number(session, name) + 1)
        robot.next_due_at = now + timedelta(seconds=policy.timedelta_s)
        robot.policy = json.dumps(policy.as_dict(), ensure_ascii=False)
        robot.updated_at = now
        status = _status(robot)
    log.info("robot_started", robot=name, generation=status.generation, cycle=status.next_cycle)
    runtime.dispatcher.try_dispatch([wake_up(runtime, robot, delay_s=float(policy.timedelta_s))])
    return status


def stop_robot(runtime: Runtime, name: str) -> RobotStatus:
    """Stop a robot and return its status.

    No cycle starts once this returns, because every cycle must match the generation that this raises
    before it opens its row. What a running cycle has put in the ledger stays there; a page that it has
    not committed yet is dropped, and is fetched again after a later start.

    Stopping a stopped robot changes nothing.

    Raises:
        UnknownRobotError: There is no robot of that name.
    """
    _check_name(runtime, name)
    with runtime.database.write() as session:
        now = runtime.database.now(session)
        robot = store.lock_robot(session, name)
        if robot is None or robot.state == STOPPED:
            return status_of(name, robot)
        job_id = robot_job_id(robot.name, robot.generation, robot.next_cycle)
        robot.state = STOPPED
        robot.generation += 1
        robot.next_due_at = None
        robot.updated_at = now
        status = _status(robot)
    log.info("robot_stopped", robot=name, generation=status.generation)
    runtime.dispatcher.try_forget_waiting(job_id, runtime.settings.rdsq_robot)
    return status


def robot_status(runtime: Runtime, name: str) -> RobotStatus:
    """The status as the ledger has it.

    Raises:
        UnknownRobotError: There is no robot of that name.
    """
    _check_name(runtime, name)
    with runtime.database.read() as session:
        return status_of(name, store.find_robot(session, name))


def status_of(name: str, robot: Robot | None) -> RobotStatus:
    """The status that a robot's row says; one without a row has never been started."""
    return _status(robot) if robot is not None else _never_started(name)


def robot_job_id(name: str, generation: int, number: int) -> str:
    """The id of the job that runs a cycle: the same cycle always has the same job."""
    return f"robot-{name}-{generation}-{number}"


def wake_up(runtime: Runtime, robot: Robot, *, delay_s: float | None) -> JobSpec:
    """The job of a robot's next cycle, due after `delay_s` (None: now)."""
    return JobSpec(
        id=robot_job_id(robot.name, robot.generation, robot.next_cycle),
        queue=runtime.settings.rdsq_robot,
        task=CYCLE_TASK,
        args=(robot.name, robot.generation, robot.next_cycle),
        attempt=0,
        timeout_s=CYCLE_TIMEOUT_S,
        delay_s=delay_s,
    )


def _check_name(runtime: Runtime, name: str) -> None:
    if name not in runtime.robots:
        raise UnknownRobotError(f"There is no robot of the name {name!r}.")


def _status(robot: Robot) -> RobotStatus:
    is_running = robot.state == RUNNING
    return RobotStatus(
        name=robot.name,
        state=robot.state,
        generation=robot.generation,
        next_cycle=robot.next_cycle,
        next_due_at=robot.next_due_at,
        watermark=robot.watermark,
        policy=json.loads(robot.policy),
        job_id=robot_job_id(robot.name, robot.generation, robot.next_cycle) if is_running else None,
    )


def _never_started(name: str) -> RobotStatus:
    return RobotStatus(name, STOPPED, 0, 1, None, None, {}, None)
