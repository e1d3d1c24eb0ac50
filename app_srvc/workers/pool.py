"""A pool: the parent of some worker processes.

It brings the ledger's schema up to date, or waits until that is done, keeps its workers running,
answers probes, and runs a keeper: each pool has one, so that any that lives keeps house for all. Its
first workers are forked; once it has threads, a worker that takes the place of a dead one is a fresh
interpreter.
"""

import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from types import FrameType

from redis.exceptions import RedisError

from app_srvc.errors import ConfigurationError, LedgerUnavailableError, SchemaBehindError
from app_srvc.logs import configure_logs, get_logger
from app_srvc.migrations import prepare_schema
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings, environment
from app_srvc.supervisor import ChildSpec, ParentLink, Supervisor
from app_srvc.workers.health import HealthServer, TimedCheck
from app_srvc.workers.keeper import make_keeper
from app_srvc.workers.outage import Outage
from app_srvc.workers.process import serve_queue

TURN_S = 0.25
# Whoever stops a pool sets the limit for a job in hand: Kubernetes by its grace period, a person by
# asking a second time.
STOP_GRACE_S = 24 * 3600.0
SILENT_AFTER_S = 60.0
DATABASE_TIMEOUT_S = 2.0
# What stays open in an idle pool: keepers share the passes, so most steps of one rest.
DATABASE_CONNECTIONS = 2

log = get_logger(__name__)


def run_script(queue: str, processes: str, *, link: ParentLink | None = None) -> int:
    """The whole life of an entry script; it names the settings of its queue and of its size.

    With a link to a parent, the pool ends when that is gone.
    """
    try:
        settings = Settings.from_env(part="worker")
        configure_logs(settings)
        pool = Pool(settings, [getattr(settings, queue)], getattr(settings, processes), link=link)
        return pool.run()
    except ConfigurationError as error:
        sys.stderr.write(f"{error.message}\n")
        return 2


def run_pools(settings: Settings, queues: Sequence[str], processes: int) -> int:
    """Run workers that drain queues, so many for each, until told to stop. The exit status."""
    return Pool(settings, queues, processes).run()


class Pool:
    """The workers of some queues. `run` returns when it was told to stop and all have ended."""

    def __init__(
        self,
        settings: Settings,
        queues: Sequence[str],
        processes: int,
        *,
        link: ParentLink | None = None,
    ) -> None:
        self._settings = settings
        self._link = link
        self._queues = queues
        self._runtime = open_runtime(
            settings, caller="worker", database_connections=DATABASE_CONNECTIONS
        )
        self._probe_link = open_redis(settings, caller="web")
        self._database = TimedCheck(self._runtime.database.ping, DATABASE_TIMEOUT_S)
        self._supervisor = Supervisor(
            [_worker_spec(settings, queue, processes) for queue in queues],
            own_groups=False,
        )
        self._keeper_is_alive: Callable[[], bool] = lambda: True
        self._health: HealthServer | None = None
        self._stops = 0
        self._waits_for_schema = False
        self._is_started = False

    def run(self) -> int:
        """Start, keep running, stop in order. The exit status of the process."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._request_stop)
        log.info("pool_started", queues=list(self._queues), workers=len(self._supervisor.children))
        try:
            if self._prepare_ledger():
                self._keep_workers_running()
        finally:
            self._is_started = False
            if self._health is not None:
                self._health.stop()
            self._probe_link.close()
            self._runtime.close()
        log.info("pool_stopped", queues=list(self._queues))
        return 0

    # --- steps ------------------------------------------------------------------------------------

    def _prepare_ledger(self) -> bool:
        """Wait for the database and its schema, however long; False if told to stop meanwhile."""
        outage = Outage("pool_start")
        may_upgrade = self._settings.db_upgrade_at_start
        while not self._must_stop():
            try:
                prepare_schema(self._runtime.database, may_upgrade=may_upgrade)
                self._waits_for_schema = False
                outage.over()
                return True
            except LedgerUnavailableError as error:
                self._waits_for_schema = isinstance(error, SchemaBehindError)
                self._open_health()
                self._rest(outage.failed(error))
        return False

    def _keep_workers_running(self) -> None:
        # Nothing that is open goes into a fork, and there are no threads before it.
        self._runtime.database.close()
        self._supervisor.start()
        self._open_health()
        stop_keeper = self._start_keeper()
        try:
            while not self._must_stop():
                self._supervisor.turn(TURN_S)
                self._is_started = self._is_started or all(
                    child.beaten_at is not None for child in self._supervisor.children
                )
        finally:
            # The keeper goes on meanwhile: a job in hand may need minutes, and others need it.
            self._supervisor.stop(at_once=lambda: self._stops > 1)
            stop_keeper()

    def _start_keeper(self) -> Callable[[], None]:
        keeper = make_keeper(self._runtime)
        keeper.start()
        self._keeper_is_alive = keeper.is_alive
        return keeper.stop

    # --- signals and probes -----------------------------------------------------------------------

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stops += 1

    def _must_stop(self) -> bool:
        if not self._stops and self._link is not None and self._link.is_broken():
            log.warning("pool_parent_gone", queues=list(self._queues))
            self._stops += 1
        return self._stops > 0

    def _rest(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while not self._stops and time.monotonic() < until:
            time.sleep(0.05)

    def _open_health(self) -> None:
        if self._settings.health_port is None or self._health is not None:
            return
        checks = {
            "/health/live": self._what_is_dead,
            "/health/ready": self._what_is_not_ready,
            "/health/started": lambda: [] if self._is_started else ["workers"],
        }
        try:
            server = HealthServer(self._settings.host, self._settings.health_port, checks)
        except OSError as error:
            raise ConfigurationError(
                [
                    f"HEALTH_PORT is {self._settings.health_port}, which cannot be used: "
                    f"{error.strerror}. Set it to a free port, or remove it."
                ]
            ) from error
        server.start()
        self._health = server

    def _what_is_dead(self) -> list[str]:
        """A worker that is silent, or a keeper whose thread has ended; one that is started again is not."""
        now = time.monotonic()
        silent = [
            child.spec.name
            for child in self._supervisor.children
            if child.is_alive and now - (child.beaten_at or child.started_at) > SILENT_AFTER_S
        ]
        return silent + ([] if self._keeper_is_alive() else ["keeper"])

    def _what_is_not_ready(self) -> list[str]:
        missing = [] if self._is_started else ["workers"]
        if self._waits_for_schema:
            missing.append("schema")
        try:
            self._probe_link.ping()
        except RedisError:
            missing.append("redis")
        if not self._database.passes():
            missing.append("database")
        return missing


def _worker_spec(settings: Settings, queue: str, processes: int) -> ChildSpec:
    return ChildSpec(
        name=queue,
        argv=(sys.executable, "-m", "app_srvc.workers.process", queue, str(processes)),
        env=environment(),
        stop_grace_s=STOP_GRACE_S,
        run=partial(serve_queue, settings, queue, processes),
    )
