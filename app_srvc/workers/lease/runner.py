"""A child: it claims jobs, runs them one after the other, and reports their ends, until told to stop.

The steps stand in the order of a job's life. Redis works on the ends of one batch while the child runs
the next.
"""

import asyncio
import time
import traceback
from types import CoroutineType
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as LinkError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as SilenceError
from redis.retry import Retry as LinkRetry
from rq.defaults import DEFAULT_FAILURE_TTL
from rq.job import Job, Retry
from rq.utils import parse_timeout

from app_srvc.workers.lease import plain
from app_srvc.workers.lease.allowance import Allowance
from app_srvc.workers.lease.arrivals import Arrivals
from app_srvc.workers.lease.ends import Batch, Ends
from app_srvc.workers.lease.inheritance import Heir, Inheritance
from app_srvc.workers.lease.limits import TimeLimit
from app_srvc.workers.lease.link import CLAIM, HAND_BACK, Call, ScriptLink, own_client
from app_srvc.workers.lease.patience import Patience, Stopped
from app_srvc.workers.lease.plain import RawJob
from app_srvc.workers.lease.progress import ASKED, NOT_ASKED, Progress
from app_srvc.workers.lease.rq_path import LeaseLostError, RqPath

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

LEASE_S = 10
# A batch is so many jobs at most, and so many seconds of work.
MOST_AT_ONCE = 250
BATCH_S = 0.02
GROWTH = 8
IDLE_LOOK_S = 1.0
PAUSED_LOOK_S = 0.25
TAKEN_LOOK_S = 0.0005
MAX_RESCUES = 3
PATIENT_TRIES = 30

EXIT_DONE, EXIT_RECYCLED = 0, 3


class Runner:
    """The life of one child. `run` returns its exit status."""

    def __init__(
        self,
        worker: "LeaseWorker",
        progress: Progress,
        wake: int,
        *,
        inheritance: Inheritance | None,
        allowance: Allowance,
    ) -> None:
        self._worker = worker
        self._log = worker.log
        self._progress = progress
        self._inheritance = inheritance
        self._allowance = allowance

        self._client = own_client(worker.original_connection)
        self._link = ScriptLink(self._client)
        self._patience = Patience(progress, wake, worker.log, worker.name)
        patient = own_client(worker.original_connection)
        patient.set_retry(
            LinkRetry(
                ExponentialBackoff(cap=1.0, base=0.05), PATIENT_TRIES, (LinkError, SilenceError)
            )
        )
        self._rq = worker.rq_path = RqPath(worker, patient, self._patience.pause)
        self._ends = Ends(worker, self._link, self._rq, progress)
        self._order: list[str] = worker.queue_names()
        self._arrivals = Arrivals(self._client, [f"rq:queue:{name}" for name in self._order], wake)

        self._calls = plain.Calls(worker.serializer)
        self._make_job = plain.lazy_job(worker.job_class, patient, worker.serializer)
        self._current = plain.CurrentJob()
        self._stamps = plain.Stamps()
        self._limit = TimeLimit()
        self._loop: asyncio.AbstractEventLoop | None = None

        self._token = uuid4().hex
        self._pace_s = BATCH_S

    # --- the loop ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Claim, run and finish until told to stop. The exit status of the child."""
        pause_s, status = 0.0, EXIT_DONE
        try:
            if self._inheritance is not None:
                left = self._inheritance
                heir = Heir(self._worker, self._client, self._link, self._rq)
                self._patience.insist(lambda: heir.take_over(left))
            while (end := self._must_end()) is None:
                try:
                    what = self._turn()
                    pause_s = 0.0
                    if what != "jobs" and not self._rest(what):
                        break
                except RedisError as error:
                    pause_s = self._patience.after(error, pause_s)
            status = end or EXIT_DONE
            self._patience.insist(self._ends.send_last)
        except Stopped:
            self._log.warning("Worker %s: left to be rescued", self._worker.name)
        return status

    def _turn(self) -> str:
        what, batch = self.claim()
        if batch is not None:
            self.run_batch(batch)
        self._ends.settle()
        return what

    def _must_end(self) -> int | None:
        if self._progress.must_stop or self._allowance.is_used_up:
            return EXIT_DONE
        return EXIT_RECYCLED if self._allowance.is_worn_out else None

    def _rest(self, what: str) -> bool:
        """Wait for work; False if there is none to wait for."""
        # A suspended worker or a paused queue goes on when it does: an arrival means nothing then.
        is_empty = what == "empty"
        rest_s = self._allowance.rest_s(IDLE_LOOK_S if is_empty else PAUSED_LOOK_S)
        if rest_s is None:
            return False
        if is_empty:
            self._arrivals.wait(rest_s)
        else:
            self._patience.pause(rest_s)
        return True

    # --- claim ------------------------------------------------------------------------------------

    def claim(self) -> tuple[str, Batch | None]:
        """Claim the next jobs, and send the ends of the last ones, whose answer is read later.

        A claim whose answer was lost is made again with its token, and finds what it had taken.
        """
        most = self._allowance.left(max(1, min(MOST_AT_ONCE, int(BATCH_S / self._pace_s))))
        self._progress.claimed(self._token)
        self._link.drop_unanswered()
        self._link.send(self._claim_call(most), *self._ends.calls())
        what, place, jobs, dropped = self._link.answer()
        for at in range(0, len(dropped), 2):
            self._log.warning(
                "Worker %s: entry %r set aside: %s",
                self._worker.name,
                dropped[at][:200],
                dropped[at + 1].decode(),
            )
        if not jobs:
            self._progress.claimed("")
            return what.decode() if not dropped else "jobs", None
        queue = self._order[place - 1]
        self._worker.turn_queues(self._order, queue)
        return "jobs", Batch(self._token, queue, jobs)

    def _claim_call(self, most: int) -> Call:
        worker, names = self._worker, self._order
        keys = (
            f"app:claim:{self._token}",
            worker.key,
            "rq:suspended",
            "app:queue:paused",
            *(f"rq:queue:{name}" for name in names),
        )
        now = self._stamps.text(time.time())
        arguments = (self._token, worker.name, LEASE_S, most, now, *names)
        return Call(CLAIM, keys, arguments)

    # --- run --------------------------------------------------------------------------------------

    def run_batch(self, batch: Batch) -> None:
        """Run jobs that are in hand, in their order; put back what is taken away, or not begun in time."""
        begun, ran = time.monotonic(), 0
        self._limit.install()
        self._ends.open(batch)
        for place, raw in enumerate(batch.jobs):
            if self._progress.is_asked != NOT_ASKED and self._is_taken(place):
                break
            if place and self._progress.must_stop:
                break
            self.run_job(place, raw, batch)
            ran += 1
        self._progress.idle()
        self._current.set(None)
        if ran < len(batch.jobs):
            self._patience.insist(self._ends.settle)
            self._patience.insist(lambda: self._hand_back(batch.token, ran))
        self._ends.close(batch)
        self._token = uuid4().hex
        self._count(ran, time.monotonic() - begun)

    def run_job(self, place: int, raw: RawJob, batch: Batch) -> None:
        """One job, to its end: the end is noted, or RQ's own code has written it."""
        began = time.time()
        try:
            limit_s = self._limit_of(raw)
            self._limit.begin(self._progress.begin(place, limit_s), limit_s)
            if raw[plain.RESCUES] or raw[plain.MORE]:
                self._limit.end()
                self._run_with_rq(raw, batch)
                return
            function, arguments, named = self._calls.read(raw[plain.DATA])
            self._current.set(self._make_job(raw[plain.ID].decode()))
            value = function(*arguments, **named)
            if type(value) is CoroutineType:
                value = self._await(value)
            self._limit.end()
            if type(value) is Retry:
                self._rq.retry(self._take(raw, batch), value, began, time.time())
                return
            payload = b"" if value is None else plain.packed_result(self._worker.serializer, value)
            life_s = raw[plain.RESULT_TTL] or self._worker.default_result_ttl
            self._ends.note(batch, raw, b"s", began, payload, life_s)
        except Stopped:
            raise
        except LeaseLostError:
            self._limit.end()
        except BaseException as error:
            self._limit.end()
            self._fail(raw, batch, error, began)

    def _limit_of(self, raw: RawJob) -> float:
        text = raw[plain.TIMEOUT]
        limit_s = parse_timeout(text.decode()) if text else self._worker.queue_class.DEFAULT_TIMEOUT
        return float(limit_s) if limit_s and limit_s > 0 else 0.0

    def _await(self, coroutine: Any) -> Any:
        if self._loop is None or self._loop.is_closed():
            self._loop = asyncio.new_event_loop()
        return self._loop.run_until_complete(coroutine)

    def _fail(self, raw: RawJob, batch: Batch, error: BaseException, began: float) -> None:
        worker, text = self._worker, "".join(traceback.format_exception(error))
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
        self._ends.note(batch, raw, b"f", began, plain.packed_error(text), life_s)

    def _run_with_rq(self, raw: RawJob, batch: Batch) -> None:
        """Run a job that has callbacks, retries and the like, or fail one that is poison."""
        job = self._take(raw, batch)
        rescues = int(raw[plain.RESCUES] or 0)
        if rescues < MAX_RESCUES:
            self._rq.run(job)
        else:
            text = f"poison: its worker died {rescues} times while it ran"
            self._log.error("Worker %s: job %s is %s", self._worker.name, job.id, text)
            self._client.hdel(job.key, "rescues", "suspect")
            self._rq.fail(job, text)
        self._limit.install()

    def _take(self, raw: RawJob, batch: Batch) -> Job:
        """The whole job; an outage is waited for, and is no failure of the job."""
        pause_s = 0.0
        while True:
            try:
                return self._rq.take(raw[plain.ID].decode(), batch.queue, batch.token)
            except (LinkError, SilenceError) as error:
                pause_s = self._patience.after(error, pause_s)

    def _count(self, ran: int, took_s: float) -> None:
        self._allowance.count(ran)
        self._progress.count(self._allowance.jobs)
        if ran:
            # Growth is bounded: a few fast jobs say little about the ones behind them.
            self._pace_s = max(took_s / ran, self._pace_s / GROWTH, BATCH_S / MOST_AT_ONCE)

    # --- jobs that wait behind a slow one ---------------------------------------------------------

    def _is_taken(self, place: int) -> bool:
        """Whether the parent has taken the jobs from this place on, since they waited too long."""
        while self._progress.is_asked == ASKED:
            time.sleep(TAKEN_LOOK_S)
        if self._progress.is_asked == NOT_ASKED or place < self._progress.limit:
            return False
        self._progress.answer()
        return True

    def _hand_back(self, token: str, keep: int) -> None:
        self._link.call(Call(HAND_BACK, (f"app:claim:{token}",), (token, keep)))
