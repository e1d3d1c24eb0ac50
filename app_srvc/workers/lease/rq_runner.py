"""How a child runs jobs of any RQ user: the plain ones itself, the others with RQ's own code."""

import asyncio
import time
import traceback
from types import CoroutineType
from typing import Any

from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LinkError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SilenceError
from redis.retry import Retry as LinkRetry
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job, Retry
from rq.utils import parse_timeout

from app_srvc.workers.lease import plain
from app_srvc.workers.lease.ends import Batch
from app_srvc.workers.lease.inheritance import Inheritance, take_over
from app_srvc.workers.lease.link import own_client
from app_srvc.workers.lease.patience import Stopped
from app_srvc.workers.lease.plain import RawJob
from app_srvc.workers.lease.rq_path import LeaseLostError, RqPath
from app_srvc.workers.lease.runner import Runner

MAX_RESCUES = 3
PATIENT_TRIES = 30


class RqRunner(Runner):
    """Runs whatever function a job names."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        worker = self.worker
        patient = own_client(worker.original_connection)
        patient.set_retry(
            LinkRetry(
                ExponentialBackoff(cap=1.0, base=0.05), PATIENT_TRIES, (LinkError, SilenceError)
            )
        )
        self._rq = worker.rq_path = RqPath(worker, patient, self.patience.pause)
        self._calls = plain.Calls(worker.serializer)
        self._make_job = plain.lazy_job(worker.job_class, patient, worker.serializer)
        self._current = plain.CurrentJob()
        self._loop: asyncio.AbstractEventLoop | None = None

    def take_over(self, left: Inheritance) -> None:
        take_over(self, self._rq, left)

    def run_batch(self, batch: Batch) -> None:
        super().run_batch(batch)
        self._current.set(None)

    def run_job(self, place: int, raw: RawJob, batch: Batch) -> None:
        """One job, to its end: the end is noted, or RQ's own code has written it."""
        began = time.time()
        try:
            limit_s = self._limit_of(raw)
            self.limit.begin(self.progress.begin(place, limit_s), limit_s)
            if raw[plain.RESCUES] or raw[plain.MORE]:
                self.limit.end()
                self._run_with_rq(raw, batch)
                return
            function, arguments, named = self._calls.read(raw[plain.DATA])
            self._current.set(self._make_job(raw[plain.ID].decode()))
            value = function(*arguments, **named)
            if type(value) is CoroutineType:
                value = self._await(value)
            self.limit.end()
            if type(value) is Retry:
                self._rq.retry(self._take(raw, batch), value, began, time.time())
                return
            payload = b"" if value is None else plain.packed_result(self.worker.serializer, value)
            life_s = raw[plain.RESULT_TTL] or self.worker.default_result_ttl
            self.ends.note(batch, raw, b"s", began, payload, life_s)
        except Stopped:
            raise
        except LeaseLostError:
            self.limit.end()
        except BaseException as error:
            self.limit.end()
            self._fail(raw, batch, error, began)

    def _limit_of(self, raw: RawJob) -> float:
        text = raw[plain.TIMEOUT]
        limit_s = parse_timeout(text.decode()) if text else self.worker.queue_class.DEFAULT_TIMEOUT
        return float(limit_s) if limit_s and limit_s > 0 else 0.0

    def _await(self, coroutine: Any) -> Any:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def _fail(self, raw: RawJob, batch: Batch, error: BaseException, began: float) -> None:
        worker, text = self.worker, "".join(traceback.format_exception(error))
        if worker.needs_rq_at_failure:
            job = self._take(raw, batch)
            worker.handle_exception(job, type(error), error, error.__traceback__)
            self._rq.fail(job, text, began, time.time())
            return
        worker.log.error(
            "Worker %s: job %s: exception raised while executing\n%s",
            worker.name,
            raw[plain.ID].decode(),
            text,
        )
        life_s = raw[plain.FAILURE_TTL] or DEFAULT_FAILURE_TTL
        self.ends.note(batch, raw, b"f", began, plain.packed_error(text), life_s)

    def _run_with_rq(self, raw: RawJob, batch: Batch) -> None:
        """Run a job that has callbacks, retries and the like, or fail one that is poison."""
        job = self._take(raw, batch)
        rescues = int(raw[plain.RESCUES] or 0)
        if rescues < MAX_RESCUES:
            if self._rq.run(job) and rescues:
                # A job that repeats must not be blamed for ever.
                self.client.hdel(job.key, "rescues", "suspect")
        else:
            text = f"poison: its worker died {rescues} times while it ran"
            self.worker.tell("error", "job_is_poison", job_id=job.id, rescues=rescues)
            self.client.hdel(job.key, "rescues", "suspect")
            self._rq.fail(job, text)
        self.limit.install()

    def _take(self, raw: RawJob, batch: Batch) -> Job:
        """The whole job; an outage is waited for, and is no failure of the job."""
        pause_s = 0.0
        while True:
            try:
                return self._rq.take(raw[plain.ID].decode(), batch.queue, batch.token)
            except (LinkError, SilenceError) as error:
                pause_s = self.patience.after(error, pause_s)

    def end_left(self, token: str, queue: str, row: tuple[Any, ...]) -> None:
        """Others depend on the job, so RQ's own code ends it."""
        id, outcome, _, _, began, ended, _, payload = row
        try:
            job = self._rq.take(id.decode(), queue, token)
            if outcome == b"s":
                value = plain.unpacked_result(self.worker.serializer, payload)
                self._rq.succeed(job, value, float(began), float(ended))
            else:
                self._rq.fail(job, plain.unpacked_error(payload), float(began), float(ended))
        except RedisError:
            raise
        except Exception:
            self.worker.tell("exception", "job_not_ended", job_id=id.decode())
