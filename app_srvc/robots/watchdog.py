"""Watchdog: a running robot's next cycle has a wake-up, and a cycle whose owner is dead is resumed."""

from datetime import datetime, timedelta

from app_srvc.logs import get_logger
from app_srvc.messages.dispatch import Look
from app_srvc.robots import store
from app_srvc.robots.control import robot_job_id, wake_up
from app_srvc.robots.model import CYCLE_RUNNING, CYCLE_STOPPED, Robot
from app_srvc.runtime import Runtime

# A cycle this late is with the promoter, which is about to put it on its queue.
GRACE_S = 1.0

log = get_logger(__name__)


class Watchdog:
    """Any number may run: the wake-up of a cycle has one id, and dispatch is idempotent."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run_pass(self) -> int:
        """Wake what is due and has no live job; return how many wake-ups were made."""
        with self._runtime.database.read() as session:
            now = self._runtime.database.now(session)
            due = store.list_due_robots(session, now - timedelta(seconds=GRACE_S))
            dead = {
                (cycle.robot, cycle.generation, cycle.number)
                for cycle in store.list_running_cycles(session)
                if cycle.lease_until < now
            }
        self._close_abandoned(dead)
        return sum(self._wake(robot, is_dead=_next_key(robot) in dead) for robot in due)

    def _wake(self, robot: Robot, *, is_dead: bool) -> int:
        """The ledger's lease decides who is dead: it is shorter than what RQ allows a started job."""
        queue = self._runtime.settings.rdsq_robot
        job_id = robot_job_id(*_next_key(robot))
        _, (fact,) = self._runtime.dispatcher.probe([(job_id, queue)], look=Look.LIST)
        if is_dead and fact.status == "started":
            self._runtime.dispatcher.forget([(job_id, queue)])
        elif fact.is_live:
            return 0
        woken = self._runtime.dispatcher.dispatch(
            [wake_up(self._runtime, robot, delay_s=None)], look=Look.LIST
        )
        if woken:
            log.warning(
                "robot_woken",
                robot=robot.name,
                cycle=robot.next_cycle,
                after="crash" if is_dead else "loss",
            )
        return woken

    def _close_abandoned(self, dead: set[tuple[str, int, int]]) -> None:
        """End the rows of dead cycles whose robot was stopped or started again meanwhile."""
        for robot_name, generation, number in dead:
            with self._runtime.database.write() as session:
                now: datetime = self._runtime.database.now(session)
                robot = store.lock_robot(session, robot_name)
                cycle = store.find_cycle(session, robot_name, generation, number)
                is_current = robot is not None and robot.generation == generation
                if cycle is None or cycle.state != CYCLE_RUNNING:
                    continue
                if not is_current and cycle.lease_until < now:
                    store.end_cycle(session, cycle, state=CYCLE_STOPPED, error=None, now=now)


def _next_key(robot: Robot) -> tuple[str, int, int]:
    return robot.name, robot.generation, robot.next_cycle
