"""RQ's own code for the ends that are not plain: dependents, callbacks, repeats, webhooks, retries.

It runs unchanged, on a connection whose transactions are fenced: the one that takes the job out of hand
is carried out only if the lease still stands.
"""

import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, WatchError
from rq import Queue
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.registry import StartedJobRegistry

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

LONGEST_PAUSE_S = 1.0


class LeaseLostError(Exception):
    """The job was given to somebody else; nothing was written."""


class FencedPipeline(Pipeline):
    """A transaction that takes an execution away is carried out only while the execution is there."""

    fence: bytes | str | None = None

    def execute(self, raise_on_error: bool = True) -> list[Any]:
        if not self._takes_away():
            return super().execute(raise_on_error)
        stack, is_watched = list(self.command_stack), self.watching
        while True:
            try:
                self.immediate_execute_command("WATCH", self.fence)  # type: ignore[no-untyped-call]
                if not self.immediate_execute_command(  # type: ignore[no-untyped-call]
                    "EXISTS", self.fence
                ):
                    raise LeaseLostError
                return super().execute(raise_on_error)
            except WatchError:
                # The parent has renewed the lease in between.
                if is_watched:
                    raise
                self.command_stack = list(stack)
            except BaseException:
                self.reset()
                raise

    def _takes_away(self) -> bool:
        return self.fence is not None and any(
            arguments[0] == "DEL" and self.fence in arguments[1:]
            for arguments, _ in self.command_stack
        )


class FencedRedis(Redis):
    """A client whose pipelines mind a fence: the key of the execution in hand."""

    fence: str | None = None

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:
        pipeline = FencedPipeline(
            self.connection_pool, self.response_callbacks, transaction, shard_hint
        )
        pipeline.fence = self.fence
        return pipeline


class Paused(Exception):
    """Whoever insists was told to stop."""


class RqPath:
    """Runs or ends one job at a time with the code of an RQ worker.

    `worker` is this process' own; `pause(seconds)` waits between two tries while Redis is away.
    """

    def __init__(
        self, worker: "LeaseWorker", patient: Redis, pause: Callable[[float], None]
    ) -> None:
        self._worker = worker
        self._patient = patient
        self._pause = pause
        self._fenced = FencedRedis(connection_pool=patient.connection_pool)
        worker.connection = self._fenced
        self._queues: dict[str, Queue] = {}

    def queue(self, name: str) -> Queue:
        if name not in self._queues:
            worker = self._worker
            self._queues[name] = worker.queue_class(
                name=name,
                connection=self._patient,
                job_class=worker.job_class,
                serializer=worker.serializer,
                death_penalty_class=worker.death_penalty_class,
            )
        return self._queues[name]

    def take(self, id: str, queue: str, token: str) -> Job:
        """The whole job, in hand under a token. Raises what is wrong with its hash."""
        worker = self._worker
        job = worker.job_class(id, connection=self._patient, serializer=worker.serializer)
        job.refresh()
        job.origin = queue
        job.worker_name = worker.name
        job._status = JobStatus.STARTED
        execution = Execution(id=token, job_id=id, connection=self._fenced, worker_name=worker.name)
        worker.execution = execution
        self._fenced.fence = execution.key
        return job

    def run(self, job: Job) -> bool:
        """The whole life of a job as RQ's workers do it."""
        done: bool = self._worker.perform_job(job, self.queue(job.origin))
        return done

    def succeed(self, job: Job, value: Any, began: float, ended: float) -> None:
        """End a job that went well and that others depend on."""
        self._times(job, began, ended)
        job._result, job._status = value, JobStatus.FINISHED
        queue = self.queue(job.origin)
        self._worker.handle_job_success(job, queue, queue.started_job_registry)

    def retry(self, job: Job, value: Retry, began: float, ended: float) -> None:
        """A job returned a `Retry`."""
        self._times(job, began, ended)
        queue = self.queue(job.origin)
        execution: Any = self._worker.execution
        self._worker.handle_job_retry(job, queue, value, queue.started_job_registry, execution)

    def fail(
        self, job: Job, text: str, began: float | None = None, ended: float | None = None
    ) -> None:
        self._times(job, began or time.time(), ended or time.time())
        job._status = JobStatus.FAILED
        self._worker.handle_job_failure(job, self.queue(job.origin), exc_string=text)

    def stopped(self, job: Job, text: str) -> None:
        """Somebody stopped the job while it ran."""
        self._worker._stopped_job_id = job.id
        try:
            if job.stopped_callback:
                job.execute_stopped_callback(self._worker.death_penalty_class)
        except Exception:
            text = f"{text}\n{''.join(traceback.format_exception(*sys.exc_info()))}"
        self.fail(job, text)

    def insist(self, step: Callable[[], None], job: Job) -> None:
        """Take one of RQ's last steps however long Redis is away, and no step for a job that was lost."""
        execution, pause_s = self._worker.execution, 0.05
        while True:
            try:
                return step()
            except LeaseLostError:
                self._worker.tell("warning", "job_lease_lost", job_id=job.id)
                job.webhooks = []
                return None
            except RedisError as error:
                self._worker.tell("warning", "worker_redis_failed", error_type=type(error).__name__)
                self._pause(pause_s)
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                # RQ forgets it while it builds its transaction.
                self._worker.execution = execution

    def _times(self, job: Job, began: float, ended: float) -> None:
        job.started_at = datetime.fromtimestamp(began, UTC)
        job.ended_at = datetime.fromtimestamp(ended, UTC)
        if self._worker.execution is not None:
            self._worker.execution.created_at = job.started_at


class RqSteps:
    """What `LeaseWorker` overrides so that RQ's `perform_job` lives with leases and outages."""

    rq_path: RqPath

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """The claim has done it."""

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        job.ended_at = datetime.now(UTC)

    def handle_job_success(
        self, job: Job, queue: Queue, started_job_registry: StartedJobRegistry
    ) -> None:
        step = super().handle_job_success  # type: ignore[misc]
        self.rq_path.insist(lambda: step(job, queue, started_job_registry), job)

    def handle_job_failure(
        self,
        job: Job,
        queue: Queue,
        started_job_registry: StartedJobRegistry | None = None,
        exc_string: str = "",
    ) -> None:
        step = super().handle_job_failure  # type: ignore[misc]
        self.rq_path.insist(lambda: step(job, queue, started_job_registry, exc_string), job)

    def handle_job_retry(
        self,
        job: Job,
        queue: Queue,
        retry: Retry,
        started_job_registry: StartedJobRegistry,
        execution: Execution,
    ) -> None:
        step = super().handle_job_retry  # type: ignore[misc]
        self.rq_path.insist(lambda: step(job, queue, retry, started_job_registry, execution), job)
