"""How a child runs jobs of any RQ user: the plain ones itself, the others with RQ's own code."""

import asyncio
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from redis.backoff import AbstractBackoff
from redis.exceptions import ConnectionError as LinkError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SilenceError
from redis.retry import Retry as LinkRetry
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job, Retry
from rq.utils import parse_timeout

from app_srvc.workers.lease import plain
from app_srvc.workers.lease.ends import LARGEST_PAYLOAD, Batch
from app_srvc.workers.lease.fence import LeaseLostError
from app_srvc.workers.lease.inheritance import Inheritance, take_over
from app_srvc.workers.lease.link import own_client
from app_srvc.workers.lease.patience import FIRST_PAUSE_S, LONGEST_PAUSE_S, Stopped, may_pass
from app_srvc.workers.lease.plain import RawJob
from app_srvc.workers.lease.rq_path import RqPath
from app_srvc.workers.lease.runner import Runner

MAX_RESCUES = 3
# A failure that `finish.lua` writes whatever depends on the job.
FINAL = b"F"
# Longer than anybody keeps a result, and what Redis can count.
LONGEST_LIFE_S = 10**10


class Pausing(AbstractBackoff):
    """Waits for Redis between two tries as a child does, who notices that it is to stop."""

    def __init__(self, pause: Callable[[float], None]) -> None:
        self._pause = pause

    def compute(self, failures: int) -> float:
        self._pause(min(LONGEST_PAUSE_S, FIRST_PAUSE_S * 2 ** min(failures, 10)))
        return 0.0

    def __deepcopy__(self, memo: Any) -> "Pausing":
        """Every connection has a copy of how to retry; there is one child to pause."""
        return self


class RqRunner(Runner):
    """Runs whatever function a job names."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        worker = self.worker
        patient = own_client(worker.original_connection)
        patient.set_retry(LinkRetry(Pausing(self.patience.pause), -1, (LinkError, SilenceError)))
        self._rq = worker.rq_path = RqPath(worker, patient, self.patience.pause, self._lift)
        self._calls = plain.Calls(worker.serializer)
        job_class = worker.job_class
        self._does_more = plain.does_more(job_class) or plain.is_watched(type(worker), job_class)
        self._make_job = plain.lazy_job(job_class, patient, worker.serializer, self._halted)
        self._current = plain.CurrentJob()
        # At tens of thousands a second nobody reads them.
        self._is_verbose = worker.log.isEnabledFor(logging.DEBUG)
        self._loop: asyncio.AbstractEventLoop | None = None

    def take_over(self, left: Inheritance) -> None:
        take_over(self, self._rq, left)
        self._rq.forget_marks(self.client)

    def run_batch(self, batch: Batch) -> None:
        super().run_batch(batch)
        self._current.set(None)
        self._rq.forget_marks(self.client)

    def run_job(self, raw: RawJob, batch: Batch) -> None:
        """One job, to its end: the end is noted, or RQ's own code has written it."""
        began = time.time()
        job: plain.LazyJob | None = None
        try:
            limit_s = self._limit_of(raw)
            life_s = _life_of(raw[plain.RESULT_TTL], self.worker.default_result_ttl)
            if raw[plain.RESCUES] or raw[plain.MORE] or self._does_more:
                self._run_with_rq(raw, batch, limit_s)
                return
            self.progress.limit(limit_s)
            self.limit.begin(time.monotonic(), limit_s)
            function, arguments, named = self._calls.read(raw[plain.DATA])
            job = self._make_job(raw[plain.ID].decode())
            self._current.set(job)
            value = function(*arguments, **named)
            if asyncio.iscoroutine(value):
                value = self._await(value)
            self.limit.end()
            if isinstance(value, Retry) or job.has_changed:
                self.progress.limit(0.0)
            if isinstance(value, Retry):
                self._rq.retry(self._take(raw, batch, job), value, began, time.time())
            elif job.has_changed:
                self._rq.succeed(self._take(raw, batch, job), value, began, time.time())
            else:
                self._succeed(raw, batch, value, began, life_s)
        except Stopped:
            raise
        except LeaseLostError:
            self._lift()
        except BaseException as error:
            self._lift()
            self._fail_whatever_happens(raw, batch, error, began, job)

    def _succeed(self, raw: RawJob, batch: Batch, value: Any, began: float, life_s: int) -> None:
        payload = b"" if value is None else plain.packed_result(self.worker.serializer, value)
        if len(payload) > LARGEST_PAYLOAD:
            raise ValueError(f"the result takes {len(payload):,} bytes, which Redis refuses")
        self.ends.note(batch, raw, b"s", began, payload, life_s)
        if self._is_verbose:
            took_s = round(time.time() - began, 3)
            job_id = raw[plain.ID].decode()
            self.worker.tell("debug", "job_finished", job_id=job_id, seconds=took_s)

    def _limit_of(self, raw: RawJob) -> float:
        text = raw[plain.TIMEOUT]
        limit_s = parse_timeout(text.decode()) if text else self.worker.queue_class.DEFAULT_TIMEOUT
        return float(limit_s) if limit_s and limit_s > 0 else 0.0

    def _lift(self) -> None:
        """The job has run, so nobody must end it for its time limit."""
        self.limit.end()
        self.progress.limit(0.0)

    @contextmanager
    def _halted(self) -> Iterator[None]:
        """The job's time stands still, here and for the parent: Redis may be away for long."""
        began, (_, _, limit_s) = time.monotonic(), self.progress.running
        self.progress.limit(0.0)
        try:
            with self.limit.halted():
                yield
        finally:
            if limit_s:
                self.progress.limit(limit_s + time.monotonic() - began)

    def _await(self, coroutine: Any) -> Any:
        """The result of a coroutine. Nothing that it leaves behind goes on beside the next one."""
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        loop, is_clean = self._loop, False
        try:
            value = loop.run_until_complete(coroutine)
            is_clean = not asyncio.all_tasks(loop)
            return value
        finally:
            if not is_clean:
                for task in asyncio.all_tasks(loop):
                    task.cancel()
                loop.close()

    def _fail_whatever_happens(
        self,
        raw: RawJob,
        batch: Batch,
        error: BaseException,
        began: float,
        ran: plain.LazyJob | None,
    ) -> None:
        """An error while a failure is written down must not end the child, nor come again and again."""
        try:
            self._fail(raw, batch, error, began, ran)
        except Stopped:
            raise
        except BaseException as another:
            self.worker.tell("exception", "job_not_ended", job_id=raw[plain.ID].decode())
            text = "".join(traceback.format_exception(another))
            payload = plain.packed_error(text)
            self.ends.note(batch, raw, FINAL, began, payload, DEFAULT_FAILURE_TTL)

    def _fail(
        self,
        raw: RawJob,
        batch: Batch,
        error: BaseException,
        began: float,
        ran: plain.LazyJob | None,
    ) -> None:
        worker, text = self.worker, "".join(traceback.format_exception(error))
        if worker.needs_rq_at_failure or (ran is not None and ran.has_changed):
            ended = time.time()
            job = self._take(raw, batch, ran)
            try:
                worker.handle_exception(job, type(error), error, error.__traceback__)
            except Exception as another:
                text = "".join(traceback.format_exception(another))
            self._rq.fail(job, text, began, ended)
            return
        worker.log.error(
            "Worker %s: job %s: exception raised while executing\n%s",
            worker.name,
            raw[plain.ID].decode(),
            text,
        )
        try:
            life_s = _life_of(raw[plain.FAILURE_TTL], DEFAULT_FAILURE_TTL)
        except ValueError:
            life_s = DEFAULT_FAILURE_TTL
        self.ends.note(batch, raw, b"f", began, plain.packed_error(text), life_s)

    def _run_with_rq(self, raw: RawJob, batch: Batch, limit_s: float) -> None:
        """Run a job that has callbacks, retries and the like, or fail one that is poison."""
        rescues = int(raw[plain.RESCUES] or 0)
        is_poison = rescues >= MAX_RESCUES
        # First this: it may end another job, which is then the one that is taken.
        if raw[plain.RESCUES] and not is_poison and not self.say_that_it_begins(batch):
            return
        job = self._take(raw, batch)
        # RQ's callbacks have no current job, least of all the one before.
        self._current.set(None)
        try:
            if not is_poison:
                # Redis may have been waited for: only from here on does the job run.
                self.progress.begin(batch.place)
                self.progress.limit(limit_s)
                self._rq.run(job)
                return
            text = f"poison: its worker died {rescues} times while it ran"
            self.worker.tell("error", "job_is_poison", job_id=job.id, rescues=rescues)
            self._rq.fail(job, text)
        finally:
            self.limit.install()

    def _take(self, raw: RawJob, batch: Batch, ran: plain.LazyJob | None = None) -> Job:
        """The whole job, with what it changed of itself.

        An outage is waited for, and is no failure of the job.
        """
        pause_s = 0.0
        while True:
            try:
                return self._rq.take(raw[plain.ID].decode(), batch.queue, batch.token, ran)
            except (LinkError, SilenceError) as error:
                pause_s = self.patience.after(error, pause_s)

    def end_left(self, token: str, queue: str, row: tuple[Any, ...]) -> None:
        """Others depend on the job, so RQ's own code ends it; if that can't, it fails without them."""
        id, outcome, _, _, began, ended, _, payload = row
        try:
            job = self._rq.take(id.decode(), queue, token)
            if outcome == b"s":
                value = plain.unpacked_result(self.worker.serializer, payload)
                self._rq.succeed(job, value, float(began), float(ended))
            else:
                self._rq.fail(job, plain.unpacked_error(payload), float(began), float(ended))
        except Exception as error:
            if isinstance(error, RedisError) and may_pass(error):
                raise
            self.worker.tell("exception", "job_not_ended", job_id=id.decode())
            payload = plain.packed_error("".join(traceback.format_exception(error)))
            final = (id, FINAL, *row[2:6], DEFAULT_FAILURE_TTL, payload)
            self.ends.send_one(token, queue, final)
        self._rq.forget_marks(self.client)


def _life_of(text: bytes | None, otherwise: int) -> int:
    """For how many seconds to keep a job that has ended; -1 is for ever."""
    return max(-1, min(int(text), LONGEST_LIFE_S)) if text else otherwise
