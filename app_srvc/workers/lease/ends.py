"""How jobs end: many in one step, sent while the next batch runs, and sent again until Redis has heard."""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError

from app_srvc.workers.lease.link import FINISH, Call, ScriptLink, own_client
from app_srvc.workers.lease.plain import ID, RawJob, Stamps
from app_srvc.workers.lease.progress import Progress

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

FLUSH_AFTER_S = 0.05
JOIN_S = 5.0
# How many values `finish.lua` takes for a job.
WIDTH = 8
# Redis takes no longer value. Source: `proto-max-bulk-len`.
LARGEST_PAYLOAD = 512 * 1024 * 1024 - 1


@dataclass(slots=True)
class Batch:
    """Jobs in hand under one token, all of one queue, and the ends of those that have ended."""

    token: str
    queue: str
    jobs: list[RawJob]
    # Of the job that runs.
    place: int = 0
    # Bytes of the results so far.
    size: int = 0
    # Two threads take from it; each end is taken once.
    ends: deque[tuple[Any, ...]] = field(default_factory=deque)

    def take_ends(self) -> list[Any]:
        """The ends that nobody has taken yet, as one list of values."""
        rows: list[Any] = []
        while True:
            try:
                rows += self.ends.popleft()
            except IndexError:
                return rows


@dataclass(slots=True)
class Report:
    """Ends of one batch on their way to Redis. With `is_over`, the batch has no more of them."""

    token: str
    queue: str
    rows: list[Any]
    is_over: bool
    times_sent: int = 0


class Ends:
    """The ends of one child's jobs.

    `note` an end, `close` a batch, send `calls()` over the link of the child together with its next
    claim, and `settle` when the jobs of that claim have run. `end_left(token, queue, values)` ends a
    job that others depend on.
    """

    def __init__(
        self,
        worker: "LeaseWorker",
        client: Redis,
        link: ScriptLink,
        progress: Progress,
        end_left: Callable[[str, str, tuple[Any, ...]], None],
    ) -> None:
        self._worker = worker
        self._client = client
        self._link = link
        self._end_left = end_left
        self._progress = progress
        self._stamps = Stamps()
        self._unsent: deque[Report] = deque()
        # Others depend on these: token, queue, and the eight values.
        self._left: deque[tuple[str, str, tuple[Any, ...]]] = deque()
        self._batch: Batch | None = None
        self._is_closed = threading.Event()
        self._flusher = threading.Thread(target=self._flush_behind_slow_jobs, daemon=True)
        self._flusher.start()

    def open(self, batch: Batch) -> None:
        """The jobs of a batch are about to run."""
        self._batch = batch

    def note(
        self, batch: Batch, raw: RawJob, outcome: bytes, began: float, payload: Any, life_s: Any
    ) -> None:
        """A job has ended: "s" for success or "f" for failure, and for how long to keep it."""
        ended = time.time()
        stamp = self._stamps.text
        batch.size += len(payload)
        batch.ends.append(
            (
                raw[ID],
                outcome,
                stamp(began),
                stamp(ended),
                repr(began),
                repr(ended),
                life_s,
                payload,
            )
        )

    def close(self, batch: Batch) -> None:
        """No job of the batch is in hand any more."""
        self._batch = None
        self._unsent.append(Report(batch.token, batch.queue, batch.take_ends(), is_over=True))
        self._progress.ending(self._unsent[0].token)

    @property
    def are_behind(self) -> bool:
        """Whether Redis has not taken what was sent: nothing more is to be begun before it does."""
        return bool(self._left) or any(report.times_sent for report in self._unsent)

    def calls(self) -> list[Call]:
        """What Redis has not confirmed, to be sent over the link of the child."""
        return [self._call(report) for report in self._unsent]

    def settle(self) -> bool:
        """Read the answers to what was sent, and end what RQ's own code must.

        True if that ended some: then there may be new jobs.
        """
        for _ in range(self._link.unanswered):
            self._heed(self._unsent[0], self._link.answer())
            self._unsent.popleft()
        has_left = bool(self._left)
        while self._left:
            token = self._left[0][0]
            self._end_left(*self._left[0])
            self._left.popleft()
            if self._batch is None or self._batch.token != token:
                self._client.delete(f"app:claim:{token}")
        self._progress.ending(self._unsent[0].token if self._unsent else "")
        return has_left

    def send_last(self) -> None:
        """Send what Redis has not confirmed, and wait for its answer: the child is about to end."""
        self._is_closed.set()
        self._flusher.join(JOIN_S)
        self.catch_up()
        with suppress(RedisError), self._client.pipeline() as pipeline:
            pipeline.hset(
                self._worker.key, mapping={"state": "idle", "current_job_working_time": 0}
            )
            pipeline.hdel(self._worker.key, "current_job")
            pipeline.execute()

    def catch_up(self) -> None:
        """Send what Redis has not confirmed, and wait for its answer."""
        self._link.drop_unanswered()
        if self._unsent:
            self._link.send(*self.calls())
        self.settle()

    def send_one(self, token: str, queue: str, values: tuple[Any, ...]) -> None:
        """Send one end again, at once."""
        report = Report(token, queue, list(values), is_over=False)
        self._heed(report, self._link.call(self._call(report)))

    def _call(self, report: Report) -> Call:
        queue, worker, token = report.queue, self._worker, report.token
        report.times_sent += 1
        keys = (
            f"rq:wip:{queue}",
            f"rq:finished:{queue}",
            f"rq:failed:{queue}",
            worker.key,
            f"app:claim:{token}",
            f"app:result:{token}",
        )
        return Call(FINISH, keys, (token, worker.name, int(report.is_over), *report.rows))

    def _heed(self, report: Report, answer: Sequence[Sequence[bytes]]) -> None:
        lost, left = answer
        # What was sent twice may have been done the first time.
        level = "debug" if report.times_sent > 1 else "warning"
        for id in lost:
            self._worker.tell(level, "job_lease_lost", job_id=id.decode())
        if left:
            rows = {
                report.rows[at]: tuple(report.rows[at : at + WIDTH])
                for at in range(0, len(report.rows), WIDTH)
            }
            self._left += [(report.token, report.queue, rows[id]) for id in left]

    def _flush_behind_slow_jobs(self) -> None:
        """While a job takes long, report those of its batch that ended before it."""
        link = ScriptLink(own_client(self._worker.original_connection))
        unsent: Report | None = None
        while not self._is_closed.wait(FLUSH_AFTER_S):
            batch = self._batch
            place, began, _ = self._progress.running
            is_slow = place >= 0 and time.monotonic() - began > FLUSH_AFTER_S
            try:
                if unsent is None and batch is not None and is_slow and batch.ends:
                    rows = batch.take_ends()
                    unsent = Report(batch.token, batch.queue, rows, is_over=False)
                if unsent is not None:
                    self._heed(unsent, link.call(self._call(unsent)))
                    unsent = None
            except RedisError:
                self._is_closed.wait(FLUSH_AFTER_S)
        if unsent is not None:
            self._unsent.append(unsent)
        link.drop()
