"""Deadlines: no answer waits longer for the database or Redis than it may.

Three worlds, told apart once, when the calls are made ready:

- Under gevent, a call to PostgreSQL or Redis gives way to other requests while it waits, so it runs
  where it is, and a timer ends it.
- Under gevent, SQLite's driver would hold up every other request of the process while it waits for
  its disk or a lock, so its calls run in native threads. The caller waits with a timer.
- Anywhere else it is a plain call; the drivers' own time-outs end it.
"""

import sys
import time
from collections.abc import Callable
from contextvars import ContextVar, copy_context
from typing import Any, TypeVar

import redis

from app_srvc.errors import BrokerUnavailableError, LedgerUnavailableError
from app_srvc.logs import get_logger

T = TypeVar("T")

# What a request may spend on waiting, all its calls together.
BUDGET_S = 1.8
LEDGER_S = 1.2
BROKER_S = 0.5

# After a failure Redis is not asked for so long: one request pays for the time-out, and not each.
BROKER_PAUSE_S = 2.0

# While the database is away, a line of the log for each request would be too many.
REPORT_EVERY_S = 5.0

NATIVE_THREADS = 4

log = get_logger(__name__)

_request_ends_at: ContextVar[float] = ContextVar("request_ends_at", default=float("inf"))


def begin_request() -> None:
    """Give the request that begins here its budget."""
    _request_ends_at.set(time.monotonic() + BUDGET_S)


def within_budget(limit_s: float) -> float:
    """What a call may take: its own limit, or what is left of the request's budget."""
    return max(0.0, min(limit_s, _request_ends_at.get() - time.monotonic()))


class LedgerCalls:
    """Runs calls to the database, each within its time.

    On SQLite a call runs in another thread, where the sockets of this one can't be used: it must not
    touch Redis. `threads` is how many such calls may run at once.
    """

    def __init__(self, *, is_sqlite: bool, threads: int = NATIVE_THREADS) -> None:
        self._is_cooperative = is_under_gevent()
        self._is_threaded = self._is_cooperative and is_sqlite
        self._threads = threads
        self._pool: Any = None
        self._quiet_until = 0.0

    def run(self, call: Callable[[], T], *, timeout_s: float) -> T:
        """Run a call and return its answer.

        Raises:
            LedgerUnavailableError: There was no answer in time. What the call was to write may
                still come to be.
        """
        try:
            if self._is_threaded:
                return self._in_native_thread(call, timeout_s)
            return _with_timer(call, timeout_s) if self._is_cooperative else call()
        except _TooLateError:
            error = LedgerUnavailableError("The database did not answer in time.")
            self._report(error)
            raise error from None
        except LedgerUnavailableError as error:
            self._report(error)
            raise

    def _report(self, error: LedgerUnavailableError) -> None:
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + REPORT_EVERY_S
            log.warning("ledger_unavailable", error=error.message)

    def _in_native_thread(self, call: Callable[[], T], timeout_s: float) -> T:
        from gevent.threadpool import ThreadPool

        if self._pool is None:
            # Made by the first call and not before: a pool belongs to one process and its hub.
            self._pool = ThreadPool(self._threads)
        # The log context goes along: what is bound for the request stands in the call's lines too.
        answer, error = _with_timer(
            lambda: self._pool.apply(copy_context().run, (_outcome, call)), timeout_s
        )
        if error is not None:
            raise error
        return answer  # type: ignore[no-any-return]


class BrokerCalls:
    """Runs calls to Redis, each within its time; after a failure none is made for a moment."""

    def __init__(self) -> None:
        self._is_cooperative = is_under_gevent()
        self._paused_until = 0.0

    @property
    def is_paused(self) -> bool:
        """Whether Redis was away a moment ago, and is not asked for now."""
        return time.monotonic() < self._paused_until

    def run(
        self, call: Callable[[], T], *, timeout_s: float = BROKER_S, is_probe: bool = False
    ) -> T:
        """Run a call and return its answer. A probe is made in any case, since it asks for the truth.

        Raises:
            BrokerUnavailableError: There was no answer in time, or none at all.
        """
        if not is_probe and self.is_paused:
            raise BrokerUnavailableError("Redis was away a moment ago.")
        try:
            return _with_timer(call, timeout_s) if self._is_cooperative else call()
        except (_TooLateError, redis.RedisError, BrokerUnavailableError) as error:
            self._paused_until = time.monotonic() + BROKER_PAUSE_S
            log.warning("broker_unavailable", error=str(error))
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error


class _TooLateError(Exception):
    """There was no answer in time."""


def is_under_gevent() -> bool:
    """Whether this process runs on gevent: its sockets were patched before they were used."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def _with_timer(call: Callable[[], T], timeout_s: float) -> T:
    from gevent import Timeout

    timer = Timeout.start_new(timeout_s)
    try:
        return call()
    except BaseException as error:
        # A driver that is interrupted may put an error of its own in the timer's place.
        if error is timer or not timer.pending:
            raise _TooLateError("there was no answer in time") from error
        raise
    finally:
        timer.close()


def _outcome(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """An error is carried home as a value: gevent would print one that is raised in a thread."""
    try:
        return call(), None
    except Exception as error:
        return None, error
