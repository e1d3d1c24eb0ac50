"""The table of what a worker can run: two tasks. What is not in it is refused, whoever asks."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType

from rq.timeouts import JobTimeoutException

from app_srvc.kinds import load
from app_srvc.messages import store
from app_srvc.messages.dispatch import CYCLE_TASK, PROCESS_TASK
from app_srvc.messages.handling import Outcome
from app_srvc.messages.ids import is_message_id
from app_srvc.messages.process import process_message as process
from app_srvc.runtime import Runtime
from app_srvc.workers.job import arguments_fit

OWNER_CHARS = 64
# By path, as handlers are: what fetches from a source is for the workers of robots only.
RUN_CYCLE = "app_srvc.robots.cycle:run_cycle"
ROBOT_NAME = re.compile(r"[a-z0-9_]{1,40}")


@dataclass(frozen=True, slots=True)
class Caller:
    """Which worker runs the task, and in which execution: the same job may run twice."""

    worker: str
    execution_id: str


@dataclass(frozen=True, slots=True)
class Task:
    """`run(caller, *arguments)` does the work; `accepts(arguments)` says whether they have the form.

    `is_isolated(arguments)` says whether the run needs a process of its own. It may ask the ledger.
    """

    run: Callable[..., Outcome]
    accepts: Callable[[Sequence[object]], bool]
    is_isolated: Callable[[Sequence[object]], bool]


def make_tasks(runtime: Runtime) -> Mapping[str, Task]:
    """The tasks of this service, by the names that job data carries."""

    def process_message(caller: Caller, message_id: str) -> Outcome:
        return process(
            runtime, message_id, worker=caller.worker, timeout_errors=(JobTimeoutException,)
        )

    def run_cycle(caller: Caller, robot: str, generation: int, number: int) -> Outcome:
        # Unlike a worker's name, an execution is never repeated: a cycle that was taken over can't
        # be mistaken for one's own.
        owner = f"{caller.worker}:{caller.execution_id}"[-OWNER_CHARS:]
        outcome: Outcome = load(RUN_CYCLE)(runtime, robot, generation, number, owner=owner)
        return outcome

    def is_isolated(arguments: Sequence[object]) -> bool:
        isolated = {kind.name for kind in runtime.kinds.values() if kind.isolate}
        if not isolated:
            return False
        with runtime.database.read() as session:
            row = store.find_message(session, str(arguments[0]))
            return row is not None and row.kind in isolated

    return MappingProxyType(
        {
            PROCESS_TASK: Task(process_message, accepts_message, is_isolated),
            CYCLE_TASK: Task(run_cycle, accepts_cycle, lambda arguments: False),
        }
    )


def warm_up(runtime: Runtime, queue: str) -> None:
    """Pay once, before the first fork, for what every run would pay for again: imports and SQL."""
    for kind in runtime.kinds.values():
        if runtime.queue_of(kind) == queue:
            load(kind.schema)
            load(kind.handler)
    if queue == runtime.settings.rdsq_robot:
        load(RUN_CYCLE)
    now = datetime.now(UTC)
    with runtime.database.write() as session:
        # There is no such message, so nothing changes; the statements stay compiled.
        store.find_message(session, "")
        store.finish(session, "", tries=0, result=None, started_at=now, now=now)


def accepts_message(arguments: Sequence[object]) -> bool:
    return arguments_fit(arguments, str) and is_message_id(str(arguments[0]))


def accepts_cycle(arguments: Sequence[object]) -> bool:
    if not arguments_fit(arguments, str, int, int):
        return False
    robot, *numbers = map(str, arguments)
    return ROBOT_NAME.fullmatch(robot) is not None and all(text.isdecimal() for text in numbers)
