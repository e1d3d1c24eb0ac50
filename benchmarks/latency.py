"""From the call that queues a job to the first line of the job, with a worker that has nothing to do.

One job at a time, about every 10 ms (`peers/produce.py`), one worker process. Producer and job read the
same clock and note it in the ledger.
"""

import statistics
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measuring import empty, machine_share
from benchmarks.peers.ledger import Ledger
from benchmarks.peers.systems import OURS, SYSTEMS, System
from tests.support.servers import ValkeyServer

NAMES = (OURS, "rq.SimpleWorker", "Celery prefork", "Dramatiq", "Huey", "taskiq stream")
# The first ones find modules that are not imported and connections that are not open.
WARMING, JOBS = 30, 300
ROUNDS = 3


def run() -> Iterator[dict[str, Any]]:
    systems = [system for system in SYSTEMS if system.name in NAMES]
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(Path(name) / "valkey") as valkey,
    ):
        rounds = [
            [measure(valkey, Path(name), system) for system in systems] for _ in range(ROUNDS)
        ]
    ours = [system.name for system in systems].index(OURS)
    for at, system in enumerate(systems):
        p50, p99 = (_median(rounds, at, name) for name in ("p50_ms", "p99_ms"))
        yield {
            "benchmark": "latency",
            "system": system.name,
            "jobs": JOBS,
            "rounds": ROUNDS,
            "p50_ms": round(p50, 2),
            "p99_ms": round(p99, 2),
            "p50_of_lease_worker": round(p50 / _median(rounds, ours, "p50_ms"), 2),
            "machine_busy": round(_median(rounds, at, "machine_busy"), 2),
            "setting": system.setting,
        }


def measure(valkey: ValkeyServer, folder: Path, system: System) -> dict[str, float]:
    """One run of one system."""
    empty(valkey.client)
    ledger = Ledger.create(folder / "ledger", WARMING + JOBS)
    with system.running(1, folder, valkey.url, ledger), machine_share() as share:
        system.produce("noop", "paced", valkey.url, ledger)
    waits_ms = [
        (begun - sent) * 1e3
        for sent, begun in list(zip(ledger.sent, ledger.begun, strict=True))[WARMING:]
    ]
    cuts = statistics.quantiles(waits_ms, n=100, method="inclusive")
    return {"p50_ms": cuts[49], "p99_ms": cuts[98], "machine_busy": share()}


def _median(rounds: Sequence[Sequence[dict[str, float]]], at: int, name: str) -> float:
    return statistics.median(results[at][name] for results in rounds)
