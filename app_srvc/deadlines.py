"""Deadlines: no answer waits longer for the database or Redis than it may.

Three worlds, told apart once, when `Calls` is made:

- Under gevent, a call to PostgreSQL or Redis gives way to other requests while it waits, so it runs
  where it is, and a timer ends it.
- Under gevent, SQLite's driver would hold up every other request of the process while it waits for
  its disk or a lock, so its calls run in native threads. The caller waits with a timer.
- Anywhere else it is a plain call; the drivers' own time-outs end it.
"""

import sys
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

import redis

from app_srvc.errors import BrokerUnavailableError, LedgerUnavailableError

T = TypeVar("T")

# A request makes at most one call to the ledger and one to Redis, so both together stay under 2 s.
LEDGER_S = 1.2
BROKER_S = 0.6

NATIVE_THREADS = 4


class _TooLateError(Exception):
    """The timer ran out."""


class Calls:
    """Runs calls to the ledger and to Redis, each within its time.

    A call to the ledger on SQLite runs in another thread, where the sockets of this one can't be used:
    it must not touch Redis. `threads` is how many such calls may run at once.
    """

    def __init__(self, *, is_sqlite: bool, threads: int = NATIVE_THREADS) -> None:
        self._threads = threads
        self._pool: Any = None
        if not is_under_gevent():
            self._run_ledger = self._run_broker = _plain
        else:
            self._run_ledger = self._in_native_thread if is_sqlite else _with_timer
            self._run_broker = _with_timer

    def ledger(self, call: Callable[[], T], *, timeout_s: float = LEDGER_S) -> T:
        """Run a call to the database and return its answer.

        Raises:
            LedgerUnavailableError: There was no answer in time. What the call was to write may
                still come to be.
        """
        try:
            return self._run_ledger(call, timeout_s)
        except _TooLateError:
            raise LedgerUnavailableError("The database did not answer in time.") from None

    def broker(self, call: Callable[[], T], *, timeout_s: float = BROKER_S) -> T:
        """Run a call to Redis and return its answer.

        Raises:
            BrokerUnavailableError: There was no answer in time, or none at all.
        """
        try:
            return self._run_broker(call, timeout_s)
        except _TooLateError:
            raise BrokerUnavailableError("Redis did not answer in time.") from None
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error

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


def is_under_gevent() -> bool:
    """Whether this process runs on gevent: its sockets were patched before they were used."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and bool(monkey.is_module_patched("socket"))


def _plain(call: Callable[[], T], _timeout_s: float) -> T:
    return call()


def _with_timer(call: Callable[[], T], timeout_s: float) -> T:
    from gevent import Timeout

    timer = Timeout.start_new(timeout_s)
    try:
        return call()
    except Timeout as error:
        if error is not timer:
            raise
        raise _TooLateError from None
    finally:
        timer.close()


def _outcome(call: Callable[[], T]) -> tuple[T | None, Exception | None]:
    """An error is carried home as a value: gevent would print one that is raised in a thread."""
    try:
        return call(), None
    except Exception as error:
        return None, error
