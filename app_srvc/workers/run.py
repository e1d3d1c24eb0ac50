"""One run of a task, and the report of what becomes of its job."""

from collections.abc import Callable, Mapping
from typing import Any

from rq.timeouts import JobTimeoutException

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.messages.handling import HAND_BACK
from app_srvc.workers.leases import Lease
from app_srvc.workers.tasks import Caller, Task

HAND_BACK_S = 1.0
Report = Mapping[str, Any]

# An action besides those of an outcome: nobody knows how the task went.
LOST = "lost"
LEDGER_AWAY = "ledger_away"

HANDED_BACK: Report = {"action": HAND_BACK, "delay_s": HAND_BACK_S, "reason": LEDGER_AWAY}

log = get_logger(__name__)


def run_task(task: Task, worker: str, lease: Lease, at_end: Callable[[], None]) -> Report:
    """Run the task of a job, and report. Never raises.

    The time limit, which `at_end` lifts, is an exception in the middle of whatever runs. A task that
    takes it for a failed try has counted it; one that lets it pass has not, so the job is lost then.
    """
    caller = Caller(worker, lease.execution_id)
    try:
        try:
            outcome = task.run(caller, *lease.job.args)
        finally:
            at_end()
    except LedgerUnavailableError:
        return HANDED_BACK
    except JobTimeoutException:
        return {"action": LOST, "reason": "timeout"}
    except BaseException as error:
        # The error's text may hold personal data, so the log has its type.
        log.error("job_crashed", error_type=type(error).__name__)
        return {"action": LOST, "reason": "killed"}
    return {
        "action": outcome.action,
        "delay_s": outcome.delay_s,
        "reason": outcome.reason,
        "attempt": outcome.attempt,
    }
