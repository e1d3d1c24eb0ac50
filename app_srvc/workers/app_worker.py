"""The worker: one process, one queue, one job at a time.

The methods stand in the order of a job's life: claim, start, run, watch, conclude. RQ's own
`Worker` gives the form that RQ's tools know (names, keys, registration, states); the life is ours,
since RQ's loop ends on most errors of Redis, loses a job between claiming and starting it, and fails
whatever it recovers.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.exceptions import ReadOnlyError, RedisError
from rq import Worker
from rq.serializers import JSONSerializer

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger, log_context
from app_srvc.messages.handling import DONE
from app_srvc.runtime import Runtime
from app_srvc.supervisor import ParentLink
from app_srvc.workers.conclude import conclude
from app_srvc.workers.horse import Horse, Report
from app_srvc.workers.job import AppJob
from app_srvc.workers.leases import WORKER_LIFE_S, Lease, Leases
from app_srvc.workers.outage import Outage
from app_srvc.workers.presence import BEAT_EVERY_S, Presence
from app_srvc.workers.run import LEDGER_AWAY, LOST, run_task
from app_srvc.workers.tasks import Task

WAIT_FOR_JOB_S = 1
LOOK_EVERY_S = 0.5
SHORT_REST_S = 0.1
HARD_KILL_AFTER_S = 5.0
# A worker that is to stop does not insist longer on telling Redis how its last job went.
INSIST_WHEN_STOPPING_S = 5.0

log = get_logger(__name__)


class AppWorker(Worker):
    """Runs the tasks of a table, and nothing else, for one queue.

    Every error of Redis is outlived. SIGTERM or SIGINT ends `work` after the job in hand, and puts a
    job back that was claimed and not started. `connection` should fail fast, without retries of its
    own: the loop is the retry. `warm_up` is called once, when the ledger answers for the first time.
    """

    job_class = AppJob

    def __init__(
        self,
        queue: str,
        runtime: Runtime,
        tasks: Mapping[str, Task],
        *,
        connection: Redis,
        link: ParentLink | None = None,
        warm_up: Callable[[], None] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            [queue],
            name=name or f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid4().hex[:8]}",
            connection=connection,
            worker_ttl=WORKER_LIFE_S,
            job_monitoring_interval=int(BEAT_EVERY_S),
            serializer=JSONSerializer,
        )
        self.tasks = tasks
        self._runtime = runtime
        self._leases = Leases(connection, queue, self.name)
        self._presence = Presence(self, connection, link, self._obey)
        self._horse: Horse | None = None
        self._job_in_hand: str | None = None
        self._warm_up = warm_up or _nothing
        self._ledger_in_doubt = True
        self._outage = Outage("worker_redis", queue=queue)

    def work(self, burst: bool = False, *_: Any, max_jobs: int | None = None, **__: Any) -> bool:
        """Run jobs until told to stop; with `burst`, until there is none. True if any was run."""
        self._install_signal_handlers()  # type: ignore[no-untyped-call]
        log.info("worker_started", worker=self.name, queue=self._leases.queue)
        worked = 0
        try:
            while not self._must_stop() and (max_jobs is None or worked < max_jobs):
                try:
                    self._presence.keep()
                    self.wait_for_ledger()
                    lease = self.claim_job(burst)
                    if lease is not None:
                        self.run_lease(lease)
                        worked += 1
                    elif burst:
                        break
                    self._outage.over()
                except RedisError as error:
                    self._rest_after(error)
        finally:
            self._presence.end()
            log.info("worker_stopped", worker=self.name, queue=self._leases.queue, jobs=worked)
        return worked > 0

    # --- claim ------------------------------------------------------------------------------------

    def wait_for_ledger(self) -> None:
        """Claim nothing that could not be done: return when the database answers, or it is time to stop."""
        outage = Outage("worker_ledger", queue=self._leases.queue)
        while self._ledger_in_doubt and not self._must_stop():
            try:
                self._runtime.database.ping()
                self._warm_up()
                # No open connection goes into a fork.
                self._runtime.database.close()
                self._warm_up, self._ledger_in_doubt = _nothing, False
                outage.over()
            except LedgerUnavailableError as error:
                self._pause(outage.failed(error))
                self._presence.keep()

    def claim_job(self, burst: bool = False) -> Lease | None:
        """Take the next job; without one, wait for it a little and return None."""
        if self._must_stop():
            return None
        claim = self._leases.claim()
        for entry, reason in claim.dropped:
            log.warning("job_refused", job_id=entry, queue=self._leases.queue, reason=reason)
        if claim.is_suspended:
            self._pause(WAIT_FOR_JOB_S)
        elif claim.lease is None and not claim.dropped and not burst:
            self._leases.wait_for_arrival(WAIT_FOR_JOB_S)
        return claim.lease

    def run_lease(self, lease: Lease) -> None:
        """A claimed job, to its end: refuse it, put it back, or start it, run it and conclude."""
        refusal = self._refusal(lease.job)
        if refusal is not None:
            self.refuse_job(lease, refusal)
        elif self._must_stop():
            self._insist(lambda: self._leases.put_back(lease))
            log.info("job_put_back", job_id=lease.job.id, queue=self._leases.queue)
        elif self._leases.start(lease):
            self.run_job(lease)
        else:
            log.warning("job_lease_lost", job_id=lease.job.id, queue=self._leases.queue)

    def refuse_job(self, lease: Lease, reason: str) -> None:
        """Set a job aside that must not run: it ends in the failed registry, and the queue goes on."""
        log.warning("job_refused", job_id=lease.job.id, queue=self._leases.queue, reason=reason)
        life_s = self._runtime.settings.job_failure_ttl_s
        self._leases.fail(lease, f"refused: {reason}", life_s=life_s, worked_s=0.0)

    def _refusal(self, job: AppJob) -> str | None:
        if job.refusal is not None:
            return job.refusal
        task = self.tasks.get(job.func_name or "")
        if task is None:
            return "not a task of this service"
        return None if task.accepts(job.args) else "not the arguments of the task"

    # --- run --------------------------------------------------------------------------------------

    def run_job(self, lease: Lease) -> None:
        """Run a job that was started in a horse, and move it to where the outcome says."""
        started = time.monotonic()
        with log_context(job_id=lease.job.id, queue=self._leases.queue):
            self._horse = Horse.start(lambda: run_task(self._runtime, self.tasks, self.name, lease))
            self._horse_pid, self._job_in_hand = self._horse.pid, lease.job.id
            try:
                reason = self.watch_horse(self._horse, lease, started)
                report = self._horse.report or {"action": LOST, "reason": reason}
            finally:
                self._horse, self._horse_pid, self._job_in_hand = None, 0, None
            self.conclude_job(lease, report, time.monotonic() - started)

    def watch_horse(self, horse: Horse, lease: Lease, started: float) -> str:
        """Renew the lease until the horse has ended; kill it when it does not obey its time limit.

        Returns why it ended, should it have said nothing itself.
        """
        reason = "killed"
        deadline = started + lease.job.run_timeout_s + HARD_KILL_AFTER_S
        renew_at = started + BEAT_EVERY_S
        while not horse.wait(LOOK_EVERY_S):
            self._presence.beat()
            if time.monotonic() > deadline:
                reason = "timeout"
                horse.kill()
            if time.monotonic() > renew_at:
                renew_at = time.monotonic() + BEAT_EVERY_S
                self._look_after(lease, time.monotonic() - started)
        return reason

    def _look_after(self, lease: Lease, worked_s: float) -> None:
        try:
            if not self._leases.renew(lease, worked_s):
                # It runs on: should another worker have it too, the ledger takes only one result.
                log.warning("job_lease_lost")
            self._presence.hear()
            self._outage.over()
        except RedisError as error:
            self._outage.failed(error)

    # --- conclude ---------------------------------------------------------------------------------

    def conclude_job(self, lease: Lease, report: Report, worked_s: float) -> None:
        """Move the job to where the report says. The ledger has it already: this is only its wake-up."""
        action, reason = report["action"], report.get("reason")
        seconds = round(worked_s, 6)
        self._ledger_in_doubt = reason == LEDGER_AWAY
        moved = self._insist(
            lambda: conclude(self._leases, lease, report, seconds, self._runtime.settings)
        )
        write = log.debug if action == DONE else log.info
        write(
            "job_finished", action=action, reason=reason, duration_s=round(worked_s, 3), moved=moved
        )

    def _insist(self, step: Callable[[], bool]) -> bool:
        """Take a step however long Redis is away; one that is to stop gives up, and the keeper settles it."""
        begun = time.monotonic()
        while True:
            try:
                return step()
            except RedisError as error:
                if self._must_stop() and time.monotonic() - begun > INSIST_WHEN_STOPPING_S:
                    log.warning("job_left_to_keeper")
                    return False
                self._rest_after(error)
                time.sleep(SHORT_REST_S)

    # --- signals, commands, rests -----------------------------------------------------------------

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Only note it: an exception out of a signal handler would lose replies that are on their way."""
        self._stop_requested = True

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        if self._horse is not None:
            self._horse.kill()

    def _obey(self, command: str, job_id: str | None) -> None:
        """What RQ's tools may ask for: `shutdown`, `kill-horse`, `stop-job`."""
        log.info("worker_command_received", command=command)
        if command == "shutdown":
            self._stop_requested = True
        elif command == "kill-horse" or job_id == self._job_in_hand:
            self.kill_horse()

    def _must_stop(self) -> bool:
        if not self._stop_requested and self._presence.is_orphaned():
            log.warning("worker_parent_gone", worker=self.name)
            self._stop_requested = True
        return self._stop_requested

    def _rest_after(self, error: RedisError) -> None:
        if isinstance(error, ReadOnlyError):
            # After a fail-over the old address may lead to the new master, on a new connection.
            self.connection.connection_pool.disconnect()
        self._pause(self._outage.failed(error))

    def _pause(self, seconds: float) -> None:
        """Rest, but notice a signal."""
        until = time.monotonic() + seconds
        while not self._stop_requested and time.monotonic() < until:
            self._presence.beat()
            time.sleep(min(SHORT_REST_S, seconds))

    # --- what RQ does, and this worker leaves out -------------------------------------------------

    def _set_connection(self, connection: Redis) -> Redis:
        """Leave the time-outs as they are; RQ would raise them to suit its long blocking waits."""
        return connection

    def _set_ip_address(self, connection: Redis) -> None:
        """Ask nothing of Redis yet: it may be away. `Presence.register` knows the address."""
        self.ip_address = "unknown"

    def run_maintenance_tasks(self) -> None:
        """None: RQ's would fail jobs that the keeper can save, and import what a hash names."""

    def clean_registries(self) -> None:
        """None; see `run_maintenance_tasks`."""


def _nothing() -> None:
    """No warm-up."""
