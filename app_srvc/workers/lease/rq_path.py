"""RQ's own code for the ends that are not plain: dependents, callbacks, repeats, webhooks, retries.

It runs unchanged, on a connection whose transactions are fenced: the one that takes the job out of hand
is carried out only if the lease still stands.
"""

import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, cast

from redis import Redis
from redis.client import Pipeline
from redis.exceptions import RedisError, WatchError
from rq import Queue
from rq.executions import Execution
from rq.job import Job, JobStatus, Retry
from rq.registry import StartedJobRegistry

from app_srvc.workers.lease.fence import Fence, FencedRedis, LeaseLostError, OutageError
from app_srvc.workers.lease.patience import Stopped, may_pass
from app_srvc.workers.lease.plain import CHANGEABLE, LazyJob

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.05, 1.0
# So often in a row Redis may refuse what it will not take later either.
MOST_REFUSALS = 3
COUNTS = ("retries_left", "repeats_left", "number_of_retries")


class EndingQueue:
    """A queue whose steps at the end of a job are done whole, or are tried again."""

    def enqueue_dependents(self, *arguments: Any, **named: Any) -> None:
        """After a failure RQ lets an error pass here; nobody would enqueue them then."""
        try:
            super().enqueue_dependents(*arguments, **named)  # type: ignore[misc]
        except WatchError:
            raise
        except RedisError as error:
            raise OutageError from error

    def schedule_job(
        self, job: Job, datetime: datetime, pipeline: Pipeline | None = None, unique: bool = False
    ) -> Job:
        """Keep to the transaction that is given; RQ writes at once."""
        scheduling = super().schedule_job  # type: ignore[misc]
        if pipeline is None or unique:
            scheduled: Job = scheduling(job, datetime, pipeline, unique)
            return scheduled
        queue = cast(Queue, self)
        pipeline.sadd(queue.redis_queues_keys, queue.key)
        queue._persist_job(job, pipeline, status=JobStatus.SCHEDULED)
        pipeline.zadd(queue.scheduled_job_registry.key, {job.id: datetime.timestamp()})
        return job


def keeping_its_status(job_class: type[Job]) -> type[Job]:
    """A class of jobs that become scheduled in a transaction only; RQ's write it at once."""

    def set_status(self: Job, status: JobStatus, pipeline: Pipeline | None = None) -> None:
        self._status = status
        if pipeline is not None or status is not JobStatus.SCHEDULED:
            job_class.set_status(self, status, pipeline)

    return type(job_class.__name__, (job_class,), {"set_status": set_status})


class RqPath:
    """Runs or ends one job at a time with the code of an RQ worker.

    `worker` is this process' own; `pause(seconds)` waits between two tries while Redis is away; `at_end()`
    lifts the time limit of the job, which has run.
    """

    def __init__(
        self,
        worker: "LeaseWorker",
        patient: Redis,
        pause: Callable[[float], None],
        at_end: Callable[[], None],
    ) -> None:
        self._worker = worker
        self._pause = pause
        self._at_end = at_end
        self._fenced = FencedRedis(connection_pool=patient.connection_pool)
        worker.connection = self._fenced
        self._queues: dict[str, Queue] = {}
        self._queue_class = type("Queue", (EndingQueue, worker.queue_class), {})
        self._job_class = keeping_its_status(worker.job_class)
        self._is_stopped = False
        # Whether the job in hand is to be saved when it ends.
        self.has_changed = False

    def queue(self, name: str) -> Queue:
        if name not in self._queues:
            worker = self._worker
            self._queues[name] = self._queue_class(
                name=name,
                connection=self._fenced,
                job_class=worker.job_class,
                serializer=worker.serializer,
                death_penalty_class=worker.death_penalty_class,
            )
        return self._queues[name]

    def take(self, id: str, queue: str, token: str, ran: LazyJob | None = None) -> Job:
        """The whole job, in hand under a token, with what it changed of itself while it ran.

        Raises what is wrong with its hash.
        """
        worker = self._worker
        job = self._job_class(id, connection=self._fenced, serializer=worker.serializer)
        job.refresh()
        job.origin = queue
        job.worker_name = worker.name
        job._status = JobStatus.STARTED
        self.has_changed = ran is not None and ran.has_changed
        if ran is not None and ran.is_whole:
            job.meta = ran.meta
            for name in CHANGEABLE:
                setattr(job, name, getattr(ran, name))
        execution = Execution(id=token, job_id=id, connection=self._fenced, worker_name=worker.name)
        worker.execution = execution
        self._fenced.job = job.key
        self._fenced.fence = Fence(
            execution.key, (f"rq:wip:{queue}", f"{id}:{token}"), f"app:claim:{token}:{id}"
        )
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
        job._result = value
        queue = self.queue(job.origin)
        execution: Any = self._worker.execution
        self._worker.handle_job_retry(job, queue, value, queue.started_job_registry, execution)

    def fail(
        self, job: Job, text: str, began: float | None = None, ended: float | None = None
    ) -> None:
        # A job that was in hand when its process died began when it was claimed.
        if began is None:
            began = (job.started_at or datetime.now(UTC)).timestamp()
        self._times(job, began, ended or time.time())
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
        try:
            self.fail(job, text)
        finally:
            self._worker._stopped_job_id = None

    def forget_marks(self, client: Redis) -> None:
        """Remove what transactions left behind in case that their answers were lost."""
        if self._fenced.marks:
            with suppress(RedisError):
                client.delete(*self._fenced.marks)
            self._fenced.marks.clear()

    def insist(self, step: Callable[[], None], job: Job) -> None:
        """Take one of RQ's last steps however long Redis is away, and no step for a job that was lost.

        Raises:
            Stopped: The child was to stop long ago.
            RuntimeError: Redis will never take it, since a key holds something else.
        """
        worker, execution, pause_s = self._worker, self._worker.execution, FIRST_PAUSE_S
        counts = {name: getattr(job, name) for name in COUNTS}
        stopped, refusals = worker._stopped_job_id, 0

        def again() -> None:
            """RQ counts down while it builds its transaction, which may have to be built again."""
            worker.execution, worker._stopped_job_id = execution, stopped
            for name, value in counts.items():
                setattr(job, name, value)

        self._fenced.again = again
        self._at_end()
        while True:
            if self._is_stopped:
                raise Stopped
            self._fenced.is_ending = True
            try:
                return step()
            except LeaseLostError:
                worker.tell("warning", "job_lease_lost", job_id=job.id)
                job.webhooks = []
                return None
            except (RedisError, OutageError) as error:
                cause = error.__cause__ or error
                worker.tell("warning", "worker_redis_failed", error_type=type(cause).__name__)
                refusals += not may_pass(cause)
                if refusals >= MOST_REFUSALS:
                    raise RuntimeError(f"its end cannot be written: {cause}") from cause
                try:
                    self._pause(pause_s)
                except Stopped:
                    # RQ takes every exception for a failure of the job, which this is not.
                    job._failure_callback_name, job._failure_callback = None, None  # type: ignore[assignment]
                    self._is_stopped = True
                    raise
                pause_s = min(LONGEST_PAUSE_S, 2 * pause_s)
                again()
            finally:
                self._fenced.is_ending = False

    def _times(self, job: Job, began: float, ended: float) -> None:
        job.started_at = datetime.fromtimestamp(began, UTC)
        job.ended_at = datetime.fromtimestamp(ended, UTC)
        if self._worker.execution is not None:
            self._worker.execution.created_at = job.started_at


class RqSteps:
    """What `LeaseWorker` overrides so that RQ's `perform_job` lives with leases and outages."""

    rq_path: RqPath
    execution: Execution | None

    def prepare_job_execution(self, job: Job, remove_from_intermediate_queue: bool = False) -> None:
        """The claim has done it."""

    def handle_execution_ended(self, job: Job, queue: Queue, heartbeat_ttl: int) -> None:
        """The job has run; a callback has a limit of its own."""
        self.rq_path._at_end()
        job.ended_at = datetime.now(UTC)

    def cleanup_execution(self, job: Job, pipeline: Pipeline) -> None:
        """As RQ does, but without forgetting it: the transaction may have to be built once more."""
        execution = self.execution
        super().cleanup_execution(job, pipeline)  # type: ignore[misc]
        self.execution = execution
        if self.rq_path.has_changed:
            job.save(pipeline=pipeline, include_meta=False, include_result=False)
        # Whoever has ended in order is not blamed for ever.
        pipeline.hdel(job.key, "rescues", "suspect")

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
