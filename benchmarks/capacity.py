"""What a worker of each kind carries, and what its messages cost Redis and PostgreSQL.

Each kind's messages stand in the ledger and on their queue; then its worker starts, with the processes
that its pod has by default, and drains them. Costs are seconds of processor time, so they hold on a
machine with other clocks or more cores, in proportion; the rate is that of this machine, where worker,
Redis and PostgreSQL share the cores.
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy import func, select, text

from app_srvc.messages.accept import Accepted, draft, insert_drafts, job_specs
from app_srvc.messages.model import Message
from app_srvc.runtime import Runtime
from benchmarks.measuring import Usage, cpu_s, pss_mb, usage
from benchmarks.servers import servers
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import ROOT, Part
from tests.support.waiting import wait_until
from tests.support.worlds import open_world

MESSAGES, PAGE = 6_000, 500
# Measured between these shares of the messages, so that neither start nor end is in it.
FROM, TO = 0.15, 0.95
LOOK_S = 0.02


@dataclass(frozen=True, slots=True)
class Load:
    """Messages of one kind, and the script and processes that handle them."""

    kind: str
    script: str
    processes: int
    payload: Callable[[int], dict[str, Any]]


LOADS = (
    Load(
        "registration",
        "usrregworker",
        1,
        lambda number: {
            "first_name": "Olena",
            "last_name": "Koval",
            "login": f"olena{number}",
            "email": f"olena{number}@example.org",
            "phone": "+380501234567",
        },
    ),
    Load(
        "todo",
        "todoworker",
        2,
        lambda number: {
            "id": number + 1,
            "user_id": number % 97 + 1,
            "title": f"Todo number {number} of a long list",
            "due_on": "2026-05-01T00:00:00.000+05:30",
            "status": "pending",
        },
    ),
    Load(
        "message",
        "todoworker",
        2,
        lambda number: {"content_type": "application/json", "body": f'{{"order": {number}}}'},
    ),
)


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (valkey, postgres):
        for number, load in enumerate(LOADS):
            folder = Path(name) / str(number)
            folder.mkdir()
            valkey.client.flushall()
            yield _measure(folder, valkey, postgres, load)


def _measure(
    folder: Path, valkey: ValkeyServer, postgres: PostgresServer, load: Load
) -> dict[str, Any]:
    url = postgres.url(postgres.new_database())
    world = open_world(valkey.url, url)
    try:
        empty_bytes = _ledger_bytes(world)
        queue = _fill(world, load)
        worker = Part(
            load.script,
            [sys.executable, str(ROOT / f"{load.script}.py")],
            folder,
            REDIS_URL=valkey.url,
            DATABASE_URL=url,
            SOURCE_URL="demo:",
        ).start()
        try:
            first = _look(valkey, postgres, worker, queue, round(FROM * MESSAGES))
            last = _look(valkey, postgres, worker, queue, round(TO * MESSAGES))
            memory_mb = pss_mb([worker])
            wait_until(lambda: _ended(valkey, queue) == MESSAGES, 60, what="all have ended")
            _assert_all_done(world)
            ledger_bytes = _ledger_bytes(world)
        finally:
            worker.stop()
    finally:
        world.close()
    cost, count = last.usage - first.usage, last.usage.jobs - first.usage.jobs
    return {
        "benchmark": "capacity",
        "kind": load.kind,
        "processes": load.processes,
        "messages_per_s": round(count / (last.at - first.at)),
        "worker_ms": round(cost.workers_s / count * 1e3, 3),
        "redis_ms": round(cost.redis_s / count * 1e3, 3),
        "postgresql_ms": round((last.postgres_s - first.postgres_s) / count * 1e3, 3),
        "pss_mb": round(memory_mb, 1),
        "ledger_bytes": round((ledger_bytes - empty_bytes) / MESSAGES),
    }


@dataclass(frozen=True, slots=True)
class _Look:
    at: float
    usage: Usage
    postgres_s: float


def _look(
    valkey: ValkeyServer, postgres: PostgresServer, worker: Part, queue: str, done: int
) -> _Look:
    """What was used when so many messages were done."""
    wait_until(lambda: _ended(valkey, queue) >= done, 120, what=f"{done} are done", every_s=LOOK_S)
    at, count = time.monotonic(), _ended(valkey, queue)
    server = psutil.Process(postgres.pid)
    postgres_s = sum(map(cpu_s, [server, *server.children(recursive=True)]))
    return _Look(at, usage([worker], valkey.client, count), postgres_s)


def _ended(valkey: ValkeyServer, queue: str) -> int:
    """How many are neither waiting nor in hand. Asked of Redis, since to count rows has its price."""
    with valkey.client.pipeline() as pipeline:
        pipeline.llen(f"rq:queue:{queue}")
        pipeline.zcard(f"rq:wip:{queue}")
        pipeline.zcard(f"rq:scheduled:{queue}")
        return MESSAGES - sum(pipeline.execute())


def _assert_all_done(world: Runtime) -> None:
    with world.database.read() as session:
        query = select(Message.state, func.count()).group_by(Message.state)
        states = dict(session.execute(query).tuples().all())
    assert states == {"done": MESSAGES}, states


def _ledger_bytes(world: Runtime) -> int:
    """What the tables take with their indexes, before old versions of rows are cleared away."""
    with world.database.read() as session:
        query = text("SELECT sum(pg_total_relation_size(relid)) FROM pg_stat_user_tables")
        return int(session.execute(query).scalar_one())


def _fill(world: Runtime, load: Load) -> str:
    """Accept the messages and put their jobs on the queue, whose name is returned."""
    kind = world.kinds[load.kind]
    queue = world.queue_of(kind)
    for first in range(0, MESSAGES, PAGE):
        drafts = [draft(kind, queue, load.payload(n)) for n in range(first, first + PAGE)]
        with world.database.write() as session:
            answers: Sequence[Any] = insert_drafts(
                world.database, session, drafts, now=datetime.now(UTC)
            )
        assert all(isinstance(answer, Accepted) for answer in answers)
        world.dispatcher.dispatch(job_specs(answers, datetime.now(UTC)))
    return queue
