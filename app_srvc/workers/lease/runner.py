"""A child: it claims jobs, runs them one after the other, and reports their ends, until told to stop.

The steps stand in the order of a job's life. Redis works on the ends of one batch while the child runs
the next. How one job runs is for a subclass to say.
"""

import time
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from redis.exceptions import RedisError

from app_srvc.workers.lease.allowance import Allowance
from app_srvc.workers.lease.arrivals import Arrivals
from app_srvc.workers.lease.ends import Batch, Ends
from app_srvc.workers.lease.inheritance import Inheritance
from app_srvc.workers.lease.limits import TimeLimit
from app_srvc.workers.lease.link import CLAIM, HAND_BACK, RENEW, Call, ScriptLink, own_client
from app_srvc.workers.lease.patience import Patience, Stopped
from app_srvc.workers.lease.plain import RawJob, Stamps
from app_srvc.workers.lease.progress import ASKED, NOT_ASKED, Progress

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

LEASE_S = 10
# A batch is so many seconds of work.
BATCH_S = 0.02
# After so long its jobs turned out slower than those before: the rest of them goes back.
LONGEST_BATCH_S = 0.1
# And after results of so many bytes, as they are sent in one piece.
LARGEST_BATCH = 16 * 1024 * 1024
GROWTH = 8
SHORT_JOB_S = 0.001
IDLE_LOOK_S = 1.0
PAUSED_LOOK_S = 0.25
TAKEN_LOOK_S = 0.0005

EXIT_DONE, EXIT_RECYCLED = 0, 3


def queue_key(name: str) -> str:
    return f"rq:queue:{name}"


class Runner(ABC):
    """The life of one child. `run` returns its exit status."""

    # How many jobs are in hand at most.
    most_at_once = 250
    # The largest data of a job that is taken, in bytes; 0 for any.
    max_data_bytes = 0
    # Whether a job counts as started once it is claimed.
    claims_start = True

    def __init__(
        self,
        worker: "LeaseWorker",
        progress: Progress,
        wake: int,
        *,
        inheritance: Inheritance | None,
        allowance: Allowance,
    ) -> None:
        self.worker = worker
        self.progress = progress
        self._inheritance = inheritance
        self._allowance = allowance
        self.client = own_client(worker.original_connection)
        self.link = ScriptLink(self.client)
        self.patience = Patience(progress, wake, worker.tell)
        self.ends = Ends(worker, self.client, self.link, progress, self.end_left)
        self.limit = TimeLimit()
        self._order: list[str] = worker.queue_names()
        self._arrivals = Arrivals(self.client, [queue_key(name) for name in self._order], wake)
        self._stamps = Stamps()
        # The keys of queues that are not empty perhaps, and that nobody claims from.
        self._closed: set[str] = set()
        self._token = uuid4().hex
        self._claimed_at = 0.0
        self._is_claiming = False
        self._pace_s = BATCH_S

    # --- what a subclass says ---------------------------------------------------------------------

    @abstractmethod
    def take_over(self, left: Inheritance) -> None:
        """Settle what the child before left. May raise a RedisError, and is then called again."""

    @abstractmethod
    def run_job(self, raw: RawJob, batch: Batch) -> None:
        """Run one job to its end: note it, or move the job otherwise. Raises `Stopped` only."""

    @abstractmethod
    def end_left(self, token: str, queue: str, row: tuple[Any, ...]) -> None:
        """End a job that others depend on. May raise a RedisError, and is then called again."""

    def may_claim(self) -> bool:
        """Called before each claim; it may wait. False to claim nothing for now."""
        return True

    def may_go_on(self) -> bool:
        """Called between two jobs of a batch. False to put the rest of it back."""
        return True

    # --- the loop ---------------------------------------------------------------------------------

    def run(self) -> int:
        """Claim, run and finish until told to stop. The exit status of the child."""
        pause_s, status = 0.0, EXIT_DONE
        try:
            if self._inheritance is not None:
                self._settle_inheritance(self._inheritance)
            while (end := self._must_end()) is None:
                try:
                    what = self._turn()
                    if pause_s:
                        self.worker.tell("info", "worker_redis_recovered")
                    pause_s = 0.0
                    if what != "jobs" and not self._rest(what):
                        break
                except RedisError as error:
                    self._arrivals.close()
                    pause_s = self.patience.after(error, pause_s)
            status = end or EXIT_DONE
            self.patience.insist(self.ends.send_last)
            if self._is_claiming:
                # The answer was lost; what it took is nobody's.
                self.patience.insist(lambda: self.hand_back(self._token, 0))
        except Stopped:
            self.worker.tell("warning", "jobs_left_to_rescue")
        self.progress.end(status)
        return status

    def _settle_inheritance(self, left: Inheritance) -> None:
        """What is settled is in hand until then: the parent renews it."""
        current, ending = left.tokens
        self.progress.claimed(current)
        self.progress.ending(ending)
        self.patience.insist(lambda: self.take_over(left))
        self.progress.claimed("")
        self.progress.ending("")
        self.progress.taken_over()

    def _turn(self) -> str:
        if not self.may_claim():
            return "jobs"
        if self.ends.are_behind:
            self.ends.catch_up()
        what, batch = self.claim()
        # Nobody who depends on what has ended is to wait for the next job, unless that is short.
        if self._pace_s > SHORT_JOB_S and self.ends.settle():
            what = "jobs"
        if batch is not None:
            self.run_batch(batch)
        return "jobs" if self.ends.settle() else what

    def _must_end(self) -> int | None:
        if self.progress.must_stop or self._allowance.is_used_up:
            return EXIT_DONE
        is_worn_out = self._allowance.is_worn_out or self.progress.is_worn_out
        return EXIT_RECYCLED if is_worn_out else None

    def _rest(self, what: str) -> bool:
        """Wait for work; False if there is none to wait for."""
        # A suspended worker or a paused queue goes on when it does: an arrival means nothing then.
        is_open = what == "empty" and not self._closed
        rest_s = self._allowance.rest_s(IDLE_LOOK_S if is_open else PAUSED_LOOK_S)
        if rest_s is None:
            return False
        if what == "empty":
            self._arrivals.wait(rest_s, but=self._closed)
        else:
            self.patience.pause(rest_s)
        return True

    # --- claim ------------------------------------------------------------------------------------

    def claim(self) -> tuple[str, Batch | None]:
        """Claim the next jobs, and send the ends of the last ones, whose answer is read later.

        A claim whose answer was lost is made again with its token, and finds what it had taken.
        """
        most = self._allowance.left(max(1, min(self.most_at_once, int(BATCH_S / self._pace_s))))
        if self.worker.takes_turns and len(self._order) > 1:
            most = 1
        self.progress.claimed(self._token)
        self.link.drop_unanswered()
        self._claimed_at, self._is_claiming = time.monotonic(), True
        self.link.send(self._claim_call(most), *self.ends.calls())
        what, place, jobs, dropped = self.link.answer()
        self._is_claiming = False
        for at in range(0, len(dropped), 2):
            entry = dropped[at][:200].decode("ascii", "backslashreplace")
            self.worker.tell(
                "warning", "job_refused", job_id=entry, reason=dropped[at + 1].decode()
            )
        if not jobs:
            self.progress.claimed("")
            self._closed = {queue_key(self._order[at - 1]) for at in place}
            return what.decode() if not dropped else "jobs", None
        queue = self._order[place - 1]
        self.worker.turn_queues(self._order, queue)
        return "jobs", Batch(self._token, queue, jobs)

    def _claim_call(self, most: int) -> Call:
        worker, names = self.worker, self._order
        keys = (
            f"app:claim:{self._token}",
            worker.key,
            "rq:suspended",
            "app:queue:paused",
            *map(queue_key, names),
        )
        now = self._stamps.text(time.time())
        how = (LEASE_S, most, self.max_data_bytes, now, int(self.claims_start))
        arguments = (self._token, worker.name, *how, *names)
        return Call(CLAIM, keys, arguments)

    # --- run --------------------------------------------------------------------------------------

    def run_batch(self, batch: Batch) -> None:
        """Run jobs that are in hand, in order; put back what is taken away, or not begun in time."""
        begun, ran = time.monotonic(), 0
        self.limit.install()
        self.ends.open(batch)
        for place, raw in enumerate(batch.jobs):
            batch.place = place
            # First this, then the look: so either side sees what the other does.
            self.progress.begin(place)
            if self.progress.is_asked != NOT_ASKED and self._is_taken(batch.token, place):
                break
            if self.progress.must_stop or self._has_lost_lease():
                break
            if ran and (time.monotonic() - begun > LONGEST_BATCH_S or batch.size > LARGEST_BATCH):
                break
            if ran and not self.may_go_on():
                break
            self.run_job(raw, batch)
            ran += 1
        self.progress.idle()
        if ran < len(batch.jobs):
            self.patience.insist(self.ends.settle)
            self.patience.insist(lambda: self.hand_back(batch.token, ran))
        self.ends.close(batch)
        self._token = uuid4().hex
        self._count(ran, time.monotonic() - begun)

    def _has_lost_lease(self) -> bool:
        """Whether others may have the jobs in hand by now: this process, or its parent, was halted."""
        now = time.monotonic()
        if now - self._claimed_at < LEASE_S:
            return False
        return now - self.progress.renewed_at >= LEASE_S

    def _count(self, ran: int, took_s: float) -> None:
        self._allowance.count(ran)
        self.progress.count(self._allowance.jobs)
        if ran:
            # Growth is bounded: a few fast jobs say little about the ones behind them.
            self._pace_s = max(took_s / ran, self._pace_s / GROWTH, BATCH_S / self.most_at_once)

    # --- jobs that wait behind a slow one ---------------------------------------------------------

    def _is_taken(self, token: str, place: int) -> bool:
        """Whether the parent has taken the jobs from this place on, since they waited too long."""
        while self.progress.is_asked == ASKED:
            time.sleep(TAKEN_LOOK_S)
        limit = self.progress.limit_of(token)
        if self.progress.is_asked == NOT_ASKED or (limit is not None and place < limit):
            return False
        # Whatever was asked of a claim before this one is over.
        self.progress.answer()
        return limit is not None

    def hand_back(self, token: str, keep: int, died: int = -1) -> None:
        """Put back what is in hand under a token, but for the first jobs of it.

        A process has died of the job in the place `died`, from 0; -1 is none.
        """
        self.link.call(Call(HAND_BACK, (f"app:claim:{token}",), (token, keep, died + 1)))

    def say_that_it_begins(self, batch: Batch) -> bool:
        """Have it known, should the whole worker die, which job it was; False if it was taken away.

        It is alone in its batch, as it was in hand before when a worker died.
        """
        self.patience.insist(self.ends.settle)
        keys = (f"app:claim:{batch.token}", self.worker.key)
        arguments = (batch.token, LEASE_S, self._stamps.text(time.time()), 1, 0)
        kept = 0

        def renew() -> None:
            nonlocal kept
            kept = self.link.call(Call(RENEW, keys, arguments))

        self.patience.insist(renew)
        return kept > 0
