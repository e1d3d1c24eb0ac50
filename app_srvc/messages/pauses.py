"""Paused queues: promised by a row of the ledger, obeyed by workers through a set in Redis.

Messages are accepted and put on a paused queue as on any other; no worker takes one from it. What runs
already goes on to its end.
"""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from redis.exceptions import RedisError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from app_srvc.errors import UnknownQueueError
from app_srvc.logs import get_logger
from app_srvc.messages.model import PausedQueue
from app_srvc.runtime import Runtime
from app_srvc.settings import Settings

# The claim of every worker looks there.
PAUSED_KEY = "app:queue:paused"

log = get_logger(__name__)


def pause_queue(runtime: Runtime, name: str) -> bool:
    """Have no worker take jobs from a queue; to pause a paused one changes nothing.

    True if workers obey by now; False if Redis can't be told, and they do within a second of its return.

    Raises:
        UnknownQueueError
        LedgerUnavailableError: Nothing was promised.
    """
    check_queue(runtime.settings, name)
    with runtime.database.write() as session:
        row = {"name": name, "paused_at": datetime.now(UTC)}
        session.execute(runtime.database.insert_ignore(PausedQueue).values(row))
    log.info("queue_paused", queue=name)
    return _can(lambda: runtime.redis.sadd(PAUSED_KEY, name))


def resume_queue(runtime: Runtime, name: str) -> bool:
    """Have workers take jobs from a queue again; see `pause_queue`."""
    check_queue(runtime.settings, name)
    with runtime.database.write() as session:
        session.execute(delete(PausedQueue).where(PausedQueue.name == name))
    log.info("queue_resumed", queue=name)
    return _can(lambda: runtime.redis.srem(PAUSED_KEY, name))


def list_paused_queues(session: Session) -> set[str]:
    return set(session.scalars(select(PausedQueue.name)))


def restore_pauses(runtime: Runtime) -> None:
    """Make Redis say of this service's queues what the ledger says. Any number may do so at any time.

    Raises:
        redis.RedisError, LedgerUnavailableError: It will be tried again.
    """
    # Redis first: whatever changes after this look is told to Redis by whoever changes it.
    names: Any = runtime.redis.smembers(PAUSED_KEY)
    told = {name.decode() for name in names}
    with runtime.database.read() as session:
        paused = list_paused_queues(session)
    if missing := paused - told:
        runtime.redis.sadd(PAUSED_KEY, *missing)
    if over := (told - paused) & set(runtime.settings.queue_names):
        runtime.redis.srem(PAUSED_KEY, *over)
    if missing or over:
        log.warning("pauses_restored", paused=sorted(missing), resumed=sorted(over))


def _can(tell: Callable[[], object]) -> bool:
    try:
        tell()
    except RedisError:
        return False
    return True


def check_queue(settings: Settings, name: str) -> None:
    """Raise `UnknownQueueError` unless a queue is one of this service."""
    known = settings.queue_names
    if name not in known:
        raise UnknownQueueError(f"There is no queue {name}; there are {', '.join(known)}.")
