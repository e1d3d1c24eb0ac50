"""Fan-out: how fast a cycle puts its records into the ledger and onto the queue, and in how much memory.

The source is in this process and answers at once, so what is measured is ours: checking each record,
the transaction of each page, and the dispatch. Each size runs in a process of its own.
"""

import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from unittest import mock

from sqlalchemy import func, select, update

from app_srvc.messages.model import Message
from app_srvc.robots.control import start_robot
from app_srvc.robots.cycle import run_cycle
from app_srvc.robots.model import Robot
from app_srvc.robots.policy import Policy
from app_srvc.robots.sources.base import Page
from app_srvc.runtime import Runtime
from benchmarks.servers import servers
from tests.support.worlds import open_world

SIZES = (1_000, 10_000, 100_000)
PAGE_SIZE = 500


class CountingSource:
    """`total` todos, in pages, made as they are asked for."""

    name = "counting"

    def __init__(self, total: int) -> None:
        self._total = total

    def fetch_page(self, cursor: str | None, *, now: datetime) -> Page:
        first = int(cursor or "1")
        last = min(first + PAGE_SIZE - 1, self._total)
        records: list[Any] = [
            {
                "id": number,
                "user_id": number % 97 + 1,
                "title": f"Todo number {number} of a long list",
                "due_on": "2026-05-01T00:00:00.000+05:30",
                "status": "pending",
            }
            for number in range(first, last + 1)
        ]
        return Page(records, None if last >= self._total else str(last + 1))

    def close(self) -> None:
        """Nothing is open."""


def measure(redis_url: str, database_url: str, total: int) -> dict[str, Any]:
    """Run one cycle of `total` records and say how long it took. Runs in a process of its own."""
    world = open_world(redis_url, database_url, SOURCE_URL="demo:")
    with mock.patch("app_srvc.robots.cycle.make_source", lambda *_, **__: CountingSource(total)):
        start_robot(world, "todos", Policy(1, total, "benchmark"))
        _make_due(world)
        before_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        began, cpu = time.perf_counter(), time.process_time()
        run_cycle(world, "todos", 1, 1, owner="benchmark")
        seconds, cpu_s = time.perf_counter() - began, time.process_time() - cpu
    after_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with world.database.read() as session:
        rows = session.execute(select(func.count()).select_from(Message)).scalar_one()
    queued = world.dispatcher.queue_sizes("QUE_OUTMSG").waiting
    assert rows == queued == total, (rows, queued)
    world.close()
    return {
        "benchmark": "fan_out",
        "database": "sqlite" if database_url.startswith("sqlite") else "postgresql",
        "records": total,
        "records_per_s": round(total / seconds),
        "cpu_us_per_record": round(cpu_s / total * 1e6, 1),
        "peak_mb": round(after_kb / 1024, 1),
        "growth_mb": round((after_kb - before_kb) / 1024, 1),
    }


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as (valkey, postgres):
        for total in SIZES:
            for kind in ("sqlite", "postgresql"):
                valkey.client.flushall()
                url = (
                    f"sqlite:///{folder}/fan-{total}.db"
                    if kind == "sqlite"
                    else postgres.url(postgres.new_database())
                )
                done = subprocess.run(
                    [sys.executable, "-m", "benchmarks.fan_out", valkey.url, url, str(total)],
                    stdout=subprocess.PIPE,
                    text=True,
                    check=True,
                )
                yield json.loads(done.stdout.splitlines()[-1])


def _make_due(world: Runtime) -> None:
    with world.database.write() as session:
        now = world.database.now(session)
        session.execute(update(Robot).values(next_due_at=now - timedelta(seconds=1)))


if __name__ == "__main__":
    print(json.dumps(measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
