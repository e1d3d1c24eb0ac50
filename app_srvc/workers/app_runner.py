"""How a child of the service runs a job: a task of the table, with the ledger, and its outcome."""

import time
from typing import TYPE_CHECKING, Any, cast

from rq.timeouts import JobTimeoutException

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger, log_context
from app_srvc.messages.handling import DONE, FAILED
from app_srvc.workers.conclude import conclude
from app_srvc.workers.horse import Horse
from app_srvc.workers.job import MAX_FIELD_BYTES, AppJob
from app_srvc.workers.lease import plain
from app_srvc.workers.lease.ends import Batch
from app_srvc.workers.lease.inheritance import OVERTIME, Inheritance, culprit
from app_srvc.workers.lease.plain import RawJob
from app_srvc.workers.lease.runner import Runner
from app_srvc.workers.leases import Lease, Leases
from app_srvc.workers.outage import Outage
from app_srvc.workers.run import HANDED_BACK, LEDGER_AWAY, LOST, Report, run_task
from app_srvc.workers.tasks import Task

if TYPE_CHECKING:
    from app_srvc.workers.app_worker import AppWorker

HORSE_GRACE_S = 2.0

log = get_logger(__name__)


class AppRunner(Runner):
    """Runs tasks of the table. What waits for the ledger holds up others for a tenth of a second at most."""

    most_at_once = 20
    claims_start = False
    max_data_bytes = MAX_FIELD_BYTES

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        worker = self.app_worker = cast("AppWorker", self.worker)
        self._runtime = worker.runtime
        self._tasks = worker.tasks
        self._leases = Leases(self.client, worker.queue_names()[0], worker.name)
        self._ledger_in_doubt = True
        self._runtime.database.release_after_fork()

    # --- claim ------------------------------------------------------------------------------------

    def may_claim(self) -> bool:
        """Claim nothing that could not be done: wait until the database answers."""
        outage = Outage("worker_ledger", queue=self.worker.queue_names()[0])
        while self._ledger_in_doubt and not self.progress.must_stop:
            try:
                self._runtime.database.ping()
                self._ledger_in_doubt = False
                outage.over()
            except LedgerUnavailableError as error:
                self.patience.pause(outage.failed(error))
        return not self.progress.must_stop

    def may_go_on(self) -> bool:
        """Once the database does not answer, the rest of a batch need not find out one by one."""
        return not self._ledger_in_doubt

    # --- run --------------------------------------------------------------------------------------

    def run_job(self, raw: RawJob, batch: Batch) -> None:
        job, began = self._read(raw, batch.queue), time.time()
        refusal = self._refusal(job)
        if refusal is not None:
            self._refuse(job, refusal, raw, batch, began)
            return
        with log_context(job_id=job.id, queue=batch.queue):
            lease = Lease(job, batch.token)
            if not self._start(lease):
                log.warning("job_lease_lost")
                return
            # Redis may have been away: the time that its limit is about begins here.
            self.progress.begin(batch.place)
            began = time.time()
            report = self._run(self._tasks[job.func_name or ""], lease)
            self._conclude(lease, report, raw, batch, began)

    def _start(self, lease: Lease) -> bool:
        """From here on, the loss of the job is a try."""
        is_ours = False

        def start() -> None:
            nonlocal is_ours
            is_ours = self._leases.start(lease)

        self.patience.insist(start)
        return is_ours

    def _run(self, task: Task, lease: Lease) -> Report:
        """In this process, or in one of its own for a kind that asks for it."""
        name, limit_s = self.worker.name, lease.job.run_timeout_s
        try:
            is_isolated = task.is_isolated(lease.job.args)
        except LedgerUnavailableError:
            return HANDED_BACK
        if not is_isolated:
            self._limit(limit_s)
            return run_task(task, name, lease, at_end=self._lift)

        def run() -> Report:
            self._runtime.database.release_after_fork()
            return run_task(task, name, lease, at_end=_nothing)

        try:
            # The horse keeps the limit; this one is for a horse that does not obey.
            self._limit(limit_s + HORSE_GRACE_S)
            with Horse.start(run, limit_s=limit_s) as horse:
                horse.wait()
                return horse.report or {"action": LOST, "reason": "killed"}
        except JobTimeoutException:
            return {"action": LOST, "reason": "timeout"}
        finally:
            self._lift()

    def _limit(self, seconds: float) -> None:
        self.progress.limit(seconds)
        self.limit.begin(time.monotonic(), seconds)

    def _lift(self) -> None:
        self.limit.end()
        self.progress.limit(0.0)

    def _conclude(self, lease: Lease, report: Any, raw: RawJob, batch: Batch, began: float) -> None:
        """Move the job to where the report says. The ledger has it already: this is its wake-up only."""
        action, reason = report["action"], report.get("reason")
        settings, worked_s = self._runtime.settings, time.time() - began
        self._ledger_in_doubt = reason == LEDGER_AWAY
        if action == DONE:
            self.ends.note(batch, raw, b"s", began, b"", settings.job_result_ttl_s)
        elif action == FAILED:
            words = plain.packed_error(f"{reason or 'failed'}: message {lease.job.id}")
            self.ends.note(batch, raw, b"f", began, words, settings.job_failure_ttl_s)
        else:
            self.patience.insist(lambda: self._move(lease, report, worked_s))
        write = log.debug if action == DONE else log.info
        write("job_finished", action=action, reason=reason, duration_s=round(worked_s, 3))

    def _move(self, lease: Lease, report: Any, worked_s: float) -> None:
        if not conclude(self._leases, lease, report, round(worked_s, 6)):
            log.warning("job_lease_lost")

    def _read(self, raw: RawJob, queue: str) -> AppJob:
        job = AppJob(raw[plain.ID].decode("ascii"), self.client)
        job.restore(
            {"data": raw[plain.DATA], "timeout": raw[plain.TIMEOUT], "meta": raw[plain.META]}
        )
        if raw[plain.DATA] is None:
            job.refusal = f"larger than {MAX_FIELD_BYTES} bytes"
        # The registries to use are those of the queue it stood in, whatever the hash says.
        job.origin = queue
        return job

    def _refusal(self, job: AppJob) -> str | None:
        if job.refusal is not None:
            return job.refusal
        task = self._tasks.get(job.func_name or "")
        if task is None:
            return "not a task of this service"
        return None if task.accepts(job.args) else "not the arguments of the task"

    def _refuse(self, job: AppJob, reason: str, raw: RawJob, batch: Batch, began: float) -> None:
        """Set a job aside that must not run: it ends in the failed registry, and the queue goes on."""
        log.warning("job_refused", job_id=job.id, queue=batch.queue, reason=reason)
        words = plain.packed_error(f"refused: {reason}")
        life_s = self._runtime.settings.job_failure_ttl_s
        self.ends.note(batch, raw, b"f", began, words, life_s)

    # --- what the child before left ---------------------------------------------------------------

    def take_over(self, left: Inheritance) -> None:
        """End the lease of the job in hand, so that the keeper settles it with the ledger at once."""
        current, ending = left.tokens
        found = culprit(self.client, left)
        if found is not None:
            id, _ = found
            job = AppJob(id, self.client)
            job.restore_meta(self.client.hget(job.key, "meta"))
            reason = "timeout" if left.fate == OVERTIME else "killed"
            self._leases.give_up(current, left.place)
            self._leases.abandon(Lease(job, current), reason, 0.0)
            # What stood behind it had not begun.
            self.hand_back(current, left.place + 1)
            self.client.delete(f"app:claim:{current}")
        elif current:
            self.hand_back(current, 0)
        if ending:
            self.hand_back(ending, 0)

    def end_left(self, token: str, queue: str, row: tuple[Any, ...]) -> None:
        """Nothing of this service depends on a job, whatever somebody has written into Redis."""
        self.client.delete(f"rq:job:{row[0].decode()}:dependents")
        self.ends.send_one(token, queue, row)


def _nothing() -> None:
    """A run in a process of its own has its limit there."""
