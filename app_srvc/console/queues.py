"""Queues as they stand now: what Redis says of their jobs and workers, and the ledger of their items.

Reads RQ's own keys, since `rq.Queue` and `rq.Worker` would ask for each figure, and each worker, in a
round trip of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import redis
from sqlalchemy import select
from sqlalchemy.orm import Session

from app_srvc.messages.model import Message
from app_srvc.messages.pauses import PAUSED_KEY
from app_srvc.robots import store as robot_store
from app_srvc.robots.control import robot_job_id
from app_srvc.runtime import Runtime
from app_srvc.settings import Settings

ITEMS_PER_QUEUE = 10


@dataclass(frozen=True, slots=True)
class QueueKind:
    """A queue of this service: its setting, what it carries, and the script that drains it."""

    setting: str
    carries: str
    drained_by: str


QUEUES: tuple[QueueKind, ...] = (
    QueueKind("rdsq_usrreg", "registrations", "usrregworker.py"),
    QueueKind("rdsq_robot", "robot cycles", "dbworker.py"),
    QueueKind("rdsq_outmsg", "fetched records and documents", "todoworker.py"),
    QueueKind("rdsq_tasks", "photos, word counts, reports, notifications", "taskworker.py"),
)


@dataclass(frozen=True, slots=True)
class QueueState:
    """Figures of a queue, each None while Redis can't be asked."""

    name: str
    carries: str
    drained_by: str
    waiting: int | None = None
    scheduled: int | None = None
    running: int | None = None
    paused: bool | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class QueueLoad:
    """What there is to do on a queue: what a scaler of its workers goes by.

    `backlog` is waiting and running together, so that nobody who works is taken for idle; of a paused
    queue it is what still runs, since nobody may take the rest. `oldest_age_s` is for how long the next
    job has waited; 0.0 if none may be taken.
    """

    queue: str
    waiting: int
    running: int
    backlog: int
    oldest_age_s: float


@dataclass(frozen=True, slots=True)
class Item:
    """One of the last things that went over a queue."""

    id: str
    kind: str
    state: str
    reason: str | None
    since: datetime


def unknown_queues(settings: Settings) -> list[QueueState]:
    """The queues, when nothing can be asked about them."""
    return [
        QueueState(getattr(settings, queue.setting), queue.carries, queue.drained_by)
        for queue in QUEUES
    ]


def read_queues(client: redis.Redis, settings: Settings) -> list[QueueState]:
    """The figures of all queues, in two round trips.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    queues = unknown_queues(settings)
    with client.pipeline(transaction=False) as pipeline:
        for queue in queues:
            pipeline.llen(f"rq:queue:{queue.name}")
            pipeline.zcard(f"rq:scheduled:{queue.name}")
            pipeline.zcard(f"rq:wip:{queue.name}")
            pipeline.smembers(f"rq:workers:{queue.name}")
            pipeline.sismember(PAUSED_KEY, queue.name)
        answers: list[Any] = pipeline.execute()
    alive = _alive_workers(client, [name for names in answers[3::5] for name in names])
    return [
        QueueState(
            queue.name,
            queue.carries,
            queue.drained_by,
            waiting=waiting,
            scheduled=scheduled,
            running=running,
            paused=bool(paused),
            workers=len(alive & names),
        )
        for queue, waiting, scheduled, running, names, paused in zip(
            queues, *(answers[at::5] for at in range(5)), strict=True
        )
    ]


def read_load(client: redis.Redis, name: str, now: datetime) -> QueueLoad:
    """What there is to do on one queue, in two round trips.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    with client.pipeline(transaction=False) as pipeline:
        pipeline.llen(f"rq:queue:{name}")
        pipeline.zcard(f"rq:wip:{name}")
        pipeline.sismember(PAUSED_KEY, name)
        pipeline.lindex(f"rq:queue:{name}", 0)
        waiting, running, paused, next_id = pipeline.execute()
    age_s = 0.0
    if next_id is not None and not paused:
        written: Any = client.hget(f"rq:job:{next_id.decode()}", "enqueued_at")
        age_s = _age_s(written, now)
    open_to_all = 0 if paused else waiting
    return QueueLoad(name, waiting, running, open_to_all + running, age_s)


def _age_s(written: bytes | None, now: datetime) -> float:
    """Seconds since a time that RQ has written; 0.0 for what is no time, or lies ahead."""
    try:
        moment = datetime.fromisoformat((written or b"").decode())
        return round(max(0.0, (now - moment).total_seconds()), 3)
    except (ValueError, TypeError):
        return 0.0


def _alive_workers(client: redis.Redis, keys: Sequence[bytes]) -> set[bytes]:
    """A worker that died stays in the set of its queue; its own key ends with its heartbeats."""
    with client.pipeline(transaction=False) as pipeline:
        for key in keys:
            pipeline.exists(key)
        return {key for key, exists in zip(keys, pipeline.execute(), strict=True) if exists}


def last_items(runtime: Runtime, session: Session) -> Mapping[str, list[Item]]:
    """The last items of each queue, the newest first: of messages and cycles, never their payloads."""
    settings = runtime.settings
    items: dict[str, list[Item]] = {name: [] for name in settings.queue_names}
    for kind in runtime.kinds.values():
        items[runtime.queue_of(kind)] += _last_messages(session, kind.name)
    for robot in runtime.robots:
        items[settings.rdsq_robot] += _last_cycles(session, robot)
    return {
        name: sorted(of_queue, key=lambda item: item.since, reverse=True)[:ITEMS_PER_QUEUE]
        for name, of_queue in items.items()
    }


def _last_messages(session: Session, kind: str) -> list[Item]:
    """By kind, and not by queue, since that is what there is an index for."""
    rows = session.execute(
        select(
            Message.id,
            Message.kind,
            Message.state,
            Message.reason,
            Message.accepted_at,
        )
        .where(Message.kind == kind)
        .order_by(Message.seq.desc())
        .limit(ITEMS_PER_QUEUE)
    )
    return [Item(*row) for row in rows]


def _last_cycles(session: Session, robot: str) -> list[Item]:
    return [
        Item(
            robot_job_id(cycle.robot, cycle.generation, cycle.number),
            f"cycle of {cycle.robot}",
            cycle.state,
            cycle.error,
            cycle.started_at,
        )
        for cycle in robot_store.list_cycles(session, robot, limit=ITEMS_PER_QUEUE)
    ]
