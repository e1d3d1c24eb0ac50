"""Inheritance: what a dead child leaves to the next one, and how that settles it."""

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app_srvc.workers.lease.patience import may_pass
from app_srvc.workers.lease.rq_path import RqPath

if TYPE_CHECKING:
    from app_srvc.workers.lease.runner import Runner

# Why the child ended, and so what becomes of the job that it had in hand: it runs again, it failed
# by its time limit, somebody stopped it, somebody killed the child on purpose.
DIED, OVERTIME, STOPPED, KILLED = "died", "overtime", "stopped", "killed"

OVERTIME_TEXT = (
    "rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value ({:g} seconds) and, "
    "since it went on, was killed"
)


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The claims of a dead child, the place of the job that ran (-1: none), and why the child ended."""

    tokens: tuple[str, str]
    place: int
    fate: str
    text: str


def take_over(runner: "Runner", rq_path: RqPath, left: Inheritance) -> None:
    """Settle the job that was in hand, and put back what had not begun or was not reported.

    Each step may be taken again. A job whose process just died goes back with the others, and runs
    alone from now on: after a few deaths it is poison.
    """
    current, ending = left.tokens
    found, has_died = culprit(runner.client, left), left.fate == DIED
    if found is not None and left.fate != STOPPED:
        _tell_of_death(runner, rq_path, *found, current)
    if found is not None and not has_died:
        has_died = not _settle(runner, rq_path, *found, left)
    if found is not None and has_died:
        runner.worker.tell("warning", "job_put_back", job_id=found[0], reason="its process died")
    if current:
        runner.hand_back(current, 0, left.place if has_died else -1)
    if ending:
        runner.hand_back(ending, 0)


def culprit(client: Redis, left: Inheritance) -> tuple[str, str] | None:
    """The job that ran when the child ended, if it is in hand still, and its queue."""
    token = left.tokens[0]
    if not token or left.place < 0:
        return None
    held: Any = client.lrange(f"app:claim:{token}", 0, -1)
    if len(held) <= left.place + 1:
        return None
    id, queue = held[left.place + 1].decode(), held[0].decode()
    try:
        is_in_hand = client.zscore(f"rq:wip:{queue}", f"{id}:{token}") is not None
    except ResponseError:
        return None
    return (id, queue) if is_in_hand else None


def _settle(runner: "Runner", rq_path: RqPath, id: str, queue: str, left: Inheritance) -> bool:
    """End a job; False if it cannot be, as its hash is not in order."""
    try:
        job = rq_path.take(id, queue, left.tokens[0])
        (rq_path.stopped if left.fate == STOPPED else rq_path.fail)(job, left.text)
    except Exception as error:
        if isinstance(error, RedisError) and may_pass(error):
            raise
        runner.worker.tell("exception", "job_not_ended", job_id=id)
        return False
    return True


def _tell_of_death(runner: "Runner", rq_path: RqPath, id: str, queue: str, token: str) -> None:
    """Call the `work_horse_killed_handler`, which may do what it likes."""
    if runner.worker._work_horse_killed_handler is None:
        return
    try:
        job = rq_path.take(id, queue, token)
        runner.worker.handle_work_horse_killed(  # type: ignore[no-untyped-call]
            job, 0, signal.SIGKILL, None
        )
    except Exception as error:
        if isinstance(error, RedisError) and may_pass(error):
            raise
        runner.worker.tell("exception", "work_horse_killed_handler_failed", job_id=id)
