"""What happens inside a horse: one task, and a report of what becomes of its job."""

from collections.abc import Mapping

from rq.timeouts import JobTimeoutException, UnixSignalDeathPenalty

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.messages.handling import HAND_BACK
from app_srvc.runtime import Runtime
from app_srvc.workers.horse import Report
from app_srvc.workers.leases import Lease
from app_srvc.workers.tasks import Caller, Task

HAND_BACK_S = 1.0

# An action besides those of an outcome: nobody knows how the task went.
LOST = "lost"
LEDGER_AWAY = "ledger_away"

log = get_logger(__name__)


def run_task(runtime: Runtime, tasks: Mapping[str, Task], worker: str, lease: Lease) -> Report:
    """Run the task of a job within its time limit, and report. Never raises.

    The time limit is an exception in the middle of whatever runs. A task that takes it for a failed
    try has counted it; one that lets it pass has not, so the job is lost then.
    """
    runtime.database.release_after_fork()
    task = tasks[lease.job.func_name or ""]
    caller = Caller(worker, lease.execution_id)
    try:
        with UnixSignalDeathPenalty(lease.job.run_timeout_s, JobTimeoutException):
            outcome = task.run(caller, *lease.job.args)
    except LedgerUnavailableError:
        return {"action": HAND_BACK, "delay_s": HAND_BACK_S, "reason": LEDGER_AWAY}
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
