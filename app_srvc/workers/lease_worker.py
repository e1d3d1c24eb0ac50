"""`LeaseWorker`: a worker for RQ that claims under leases, in batches, and loses nothing.

    rq worker -w app_srvc.workers.LeaseWorker high default

The parent runs no job. It keeps children that do (`lease/runner.py`), sees to their time limits, and
does the housekeeping (`lease/housekeeping.py`).
"""

import os
import select
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from random import shuffle
from types import FrameType
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Worker, worker_registration
from rq.defaults import DEFAULT_LOGGING_DATE_FORMAT, DEFAULT_LOGGING_FORMAT
from rq.logutils import setup_loghandlers
from rq.utils import now
from rq.worker import DequeueStrategy

from app_srvc.workers.lease.allowance import Allowance
from app_srvc.workers.lease.housekeeping import KILLED_TEXT, WORKER_LIFE_S, Housekeeping
from app_srvc.workers.lease.inheritance import (
    DIED,
    KILLED,
    OVERTIME,
    OVERTIME_TEXT,
    Inheritance,
)
from app_srvc.workers.lease.lane import Lane
from app_srvc.workers.lease.left_out import LeftOut
from app_srvc.workers.lease.link import own_client
from app_srvc.workers.lease.rq_path import RqSteps
from app_srvc.workers.lease.rq_runner import RqRunner
from app_srvc.workers.lease.runner import Runner
from app_srvc.workers.lease.signals import StopSignals

STOP_LOOK_S = 0.01
SAME_REQUEST_S = 1.0


class LeaseWorker(RqSteps, LeftOut, Worker):
    """Runs RQ jobs in `children` processes that live on, each known to RQ's tools as a worker.

    `child_max_jobs` and `child_max_rss_mb` end a child after so many jobs, or at such a size, and start
    another; None is never.
    """

    runner_class: type[Runner] = RqRunner
    # Whether this worker also promotes and rescues, as any may.
    shares_work = True
    children = 1
    child_max_jobs: int | None = None
    child_max_rss_mb: float | None = None

    def __init__(self, *arguments: Any, children: int | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.original_connection: Redis = self.connection
        self.children = children or self.children
        self._lanes: list[Lane] = []
        self._strategy = DequeueStrategy.DEFAULT
        self._stops = 0
        self._stopped_at = 0.0

    def work(
        self,
        burst: bool = False,
        logging_level: str | None = None,
        date_format: str = DEFAULT_LOGGING_DATE_FORMAT,
        log_format: str = DEFAULT_LOGGING_FORMAT,
        max_jobs: int | None = None,
        max_idle_time: int | None = None,
        with_scheduler: bool = False,
        dequeue_strategy: DequeueStrategy = DequeueStrategy.DEFAULT,
    ) -> bool:
        """Run jobs until told to stop; with `burst`, until there is none. True if any was run.

        `max_jobs` and `max_idle_time` (seconds) are for each child. Scheduled jobs are promoted always,
        so `with_scheduler` changes nothing.

        Raises:
            ValueError: A worker of this name lives.
        """
        for name in ("rq.worker", "rq.job"):
            setup_loghandlers(logging_level, date_format, log_format, name=name)
        self._strategy = dequeue_strategy
        self._lanes = [
            self.make_lane(self.name if not number else f"{self.name}-{number + 1}")
            for number in range(self.children)
        ]
        client = self.connection = own_client(self.original_connection)
        keeping = Housekeeping(
            self._lanes,
            self.queue_names(),
            client,
            self.tell,
            shares_work=self.shares_work,
            is_short=burst,
            register=self._register,
            shut_down=lambda: self.request_stop(signal.SIGINT, None),
        )
        run = partial(
            self._be_a_child,
            burst=burst,
            max_jobs=max_jobs,
            max_idle_s=None if max_idle_time is None else float(max_idle_time),
        )
        with StopSignals(self.request_stop) as signals:
            self.on_start()
            with suppress(RedisError):
                self.register_birth()
            try:
                queues = ",".join(self.queue_names())
                self.tell("info", "worker_started", pid=os.getpid(), queues=queues)
                while not self._is_over:
                    keeping.turn()
                    self.start_children(run, signals.descriptors)
                    self.wait(signals, keeping.wait_s)
                    self.on_turn()
                    self.look_after_children()
            finally:
                self.end_children()
                if not keeping.is_waiting_for_redis:
                    with suppress(RedisError):
                        self.register_death()
                keeping.close()
                client.close()
                self.tell("info", "worker_stopped", jobs=sum(lane.jobs for lane in self._lanes))
        return any(lane.jobs for lane in self._lanes)

    def tell(self, level: str, event: str, **fields: Any) -> None:
        """Log an event. A subclass may have another log."""
        words = "".join(f" {name}={value}" for name, value in fields.items())
        getattr(self.log, level)("Worker %s: %s%s", self.name, event, words)

    @property
    def _is_over(self) -> bool:
        return all(lane.is_done for lane in self._lanes)

    def make_lane(self, name: str) -> Lane:
        """One for each child."""
        return Lane(name)

    def on_turn(self) -> None:
        """Called every few hundredths of a second. For a subclass."""

    def on_start(self) -> None:
        """Called once, before the first child is forked. For a subclass."""

    # --- children ---------------------------------------------------------------------------------

    def start_children(self, run: Any, close: Sequence[int]) -> None:
        """Fork the children that are to run and do not."""
        for lane in self._lanes:
            # What a dead child left is settled by one more, which then ends.
            if self._stops and not lane.is_alive and (self._stops > 1 or not lane.has_left_jobs):
                lane.is_done = True
            elif lane.is_due:
                others = [fd for each in self._lanes for fd in each.descriptors]
                lane.start(run, [*close, *others])
                if self._stops:
                    # The request may have come before there was somebody to hear it.
                    lane.stop()

    def _be_a_child(self, lane: Lane, wake: int, left: Inheritance | None, **options: Any) -> int:
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, lambda *_: lane.progress.wear_out())
        self.name, self._is_horse = lane.name, True
        options["max_jobs"] = lane.left_of(options["max_jobs"])
        options |= {"recycle_jobs": self.child_max_jobs, "recycle_mb": self.child_max_rss_mb}
        allowance = Allowance(**options)
        runner = self.runner_class(self, lane.progress, wake, inheritance=left, allowance=allowance)
        return runner.run()

    def wait(self, signals: StopSignals, wait_s: float) -> None:
        """Until a signal, a child's end, or the time for housekeeping."""
        links: list[Any] = [lane.link for lane in self._lanes if lane.link is not None]
        readable, _, _ = select.select([signals.wake, *links], [], [], wait_s)
        if signals.wake in readable:
            signals.heard()
        elif readable:
            # A child has closed its end: it is gone in a moment.
            time.sleep(STOP_LOOK_S / 10)

    def look_after_children(self) -> None:
        """Notice who has ended, and end who does not obey its time limit."""
        for lane in self._lanes:
            status = lane.reap()
            if status is not None and lane.is_done and not self._is_over:
                with suppress(RedisError):
                    self._unregister(lane)
            if status is not None and status < 0:
                self.tell("warning", "worker_child_ended", lane=lane.name, signal=-status)
            if lane.is_stuck:
                self.tell("warning", "jobs_left_to_rescue", lane=lane.name)
                lane.is_done = True
                lane.kill(DIED)
            limit_s = lane.overdue_s()
            if limit_s:
                self.tell("error", "job_ignores_its_limit", lane=lane.name, limit_s=limit_s)
                lane.kill(OVERTIME, OVERTIME_TEXT.format(limit_s))

    def end_children(self) -> None:
        """Whatever happens, no child outlives its parent."""
        for lane in self._lanes:
            lane.kill(DIED)
        while any(lane.is_alive and lane.reap() is None for lane in self._lanes):
            time.sleep(STOP_LOOK_S)

    def turn_queues(self, order: list[str], taken: str) -> None:
        """Reorder the queues after a claim, as the dequeue strategy says. Called in a child."""
        if self._strategy == DequeueStrategy.ROUND_ROBIN:
            at = order.index(taken) + 1
            order[:] = order[at:] + order[:at]
        elif self._strategy == DequeueStrategy.RANDOM:
            shuffle(order)

    @property
    def takes_turns(self) -> bool:
        """Whether the queues change their order after each job."""
        return self._strategy != DequeueStrategy.DEFAULT

    @property
    def needs_rq_at_failure(self) -> bool:
        """Whether a failure has to go through RQ's handlers."""
        return bool(self._exc_handlers) or self.disable_default_exception_handler

    # --- signals ----------------------------------------------------------------------------------

    def request_stop(self, signum: int, frame: FrameType | None) -> None:
        """Stop after the jobs in hand; asked a second time, at once.

        A second time within a second is the same request: RQ's pool and the terminal both send it.
        """
        if self._stops and time.monotonic() - self._stopped_at < SAME_REQUEST_S:
            return
        self._stopped_at = time.monotonic()
        self._stops += 1
        self._stop_requested = True
        for lane in self._lanes:
            lane.stop()
            if self._stops > 1:
                lane.kill(DIED)
        how = "after the jobs in hand" if self._stops == 1 else "now; what is in hand runs again"
        # Whoever reads the log may be gone: then this is why to stop.
        with suppress(OSError):
            self.tell("info", "worker_stopping", how=how)

    def kill_horse(self, sig: signal.Signals = signal.SIGKILL) -> None:
        for lane in self._lanes:
            lane.kill(KILLED, KILLED_TEXT)

    # --- registration -----------------------------------------------------------------------------

    def register_birth(self) -> None:
        """Become known to RQ's tools.

        Raises:
            ValueError: A worker of this name lives.
        """
        if self.connection.exists(self.key) and not self.connection.hexists(self.key, "death"):
            raise ValueError(f"There exists an active worker named {self.name!r} already")
        for lane in self._lanes:
            self._register(lane)

    def register_death(self) -> None:
        for lane in self._lanes:
            if not lane.is_unregistered:
                self._unregister(lane)

    def _unregister(self, lane: Lane) -> None:
        lane.is_unregistered = True
        own_name, self.name = self.name, lane.name
        try:
            super().register_death()  # type: ignore[no-untyped-call]
        finally:
            self.name = own_name

    def _register(self, lane: Lane) -> None:
        """Write down who a lane is, in place of anything that is there."""
        own_name, self.name = self.name, lane.name
        self.birth_date = self.birth_date or now()
        self.last_heartbeat = now()
        try:
            with self.connection.pipeline() as pipeline:
                pipeline.delete(self.key)
                pipeline.hset(self.key, mapping={**self.serialize(), "state": "idle"})
                pipeline.expire(self.key, WORKER_LIFE_S)
                worker_registration.register(self, pipeline)
                pipeline.execute()
        finally:
            self.name = own_name
