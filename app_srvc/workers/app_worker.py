"""The service's worker: JSON and the tasks of a table, and nothing else.

It is a `LeaseWorker` whose children run tasks with the ledger. What becomes of a job is for the ledger
to say, so it neither promotes nor rescues by itself: the keeper does, with the relay and the watchdog.
"""

import os
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Any
from uuid import uuid4

from redis import Redis
from rq.serializers import JSONSerializer

from app_srvc.errors import LedgerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.runtime import Runtime
from app_srvc.supervisor import ParentLink
from app_srvc.workers.app_runner import AppRunner
from app_srvc.workers.job import AppJob
from app_srvc.workers.lease.housekeeping import WORKER_LIFE_S
from app_srvc.workers.lease.lane import Lane
from app_srvc.workers.lease_worker import LeaseWorker
from app_srvc.workers.tasks import Task

# A child ends after so many jobs, so that what leaks in it does not grow for ever.
RECYCLE_JOBS = 20_000

log = get_logger(__name__)


class AppWorker(LeaseWorker):
    """Runs the tasks of a table for one queue, in `children` processes.

    Every error of Redis is outlived. SIGTERM or SIGINT ends `work` after the jobs in hand. `warm_up` is
    called once, before the children are forked. With a `link` to a parent, the worker ends with it.
    """

    job_class = AppJob
    runner_class = AppRunner
    shares_work = False
    child_max_jobs = RECYCLE_JOBS

    def __init__(
        self,
        queue: str,
        runtime: Runtime,
        tasks: Mapping[str, Task],
        *,
        connection: Redis,
        children: int = 1,
        link: ParentLink | None = None,
        warm_up: Callable[[], None] | None = None,
        name: str | None = None,
    ) -> None:
        super().__init__(
            [queue],
            name=name or f"{socket.gethostname()[:40]}-{os.getpid()}-{uuid4().hex[:8]}",
            connection=connection,
            worker_ttl=WORKER_LIFE_S,
            serializer=JSONSerializer,
            children=children,
        )
        self.tasks = tasks
        self.runtime = runtime
        self._queue_name = queue
        self._link = link
        self._warm_up = warm_up
        self._known: set[str] = set()

    def on_start(self) -> None:
        if self._warm_up is not None:
            try:
                self._warm_up()
            except LedgerUnavailableError:
                log.info("worker_not_warm", queue=self._queue_name)
        # No open connection goes into a fork.
        self.runtime.database.close()

    def on_turn(self) -> None:
        if self._link is None:
            return
        self._link.beat()
        if not self._stops and self._link.is_broken():
            log.warning("worker_parent_gone", worker=self.name)
            self.request_stop(signal.SIGTERM, None)

    def tell(self, level: str, event: str, **fields: Any) -> None:
        getattr(log, level)(event, worker=self.name, queue=self._queue_name, **fields)

    def _register(self, lane: Lane) -> None:
        super()._register(lane)
        log.info("worker_registered", worker=lane.name, again=lane.name in self._known)
        self._known.add(lane.name)
