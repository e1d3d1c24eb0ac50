"""Draining a queue that was filled before: our worker beside RQ's own and beside other job queues.

All on one private Valkey, in turns, so that a machine that gets slower gets slower for all. The ledger
(`peers/ledger.py`) tells when jobs began; the time that workers need to start is not counted.
"""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from redis import Redis

from benchmarks.measuring import empty, own_cpu_s, pss_mb, usage
from benchmarks.peers.ledger import Ledger
from benchmarks.peers.systems import OURS, RQ_QUEUE, SYSTEMS, System
from tests.support.servers import ValkeyServer
from tests.support.service import Part
from tests.support.waiting import wait_until

KINDS = ("noop", "busy", "sleeping", "failing")
PROCESSES = (1, 2)
ROUNDS = 3
LOOK_EVERY_S = 0.02
PSS_EVERY_S = 0.5
# After the last job has begun: it ends, and its end is reported, which belongs to the cost.
SETTLE_S = 0.15
LONGEST_S = 120.0


def run() -> Iterator[dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(Path(name) / "valkey") as valkey,
    ):
        for kind in KINDS:
            for processes in PROCESSES:
                rounds = [
                    [measure(valkey, Path(name), system, kind, processes) for system in SYSTEMS]
                    for _ in range(ROUNDS)
                ]
                yield from _rows(kind, processes, rounds)


def measure(
    valkey: ValkeyServer, folder: Path, system: System, kind: str, processes: int
) -> dict[str, float]:
    """One run of one system."""
    count = system.jobs[KINDS.index(kind)]
    empty(valkey.client)
    ledger = Ledger.create(folder / "ledger", count)
    system.produce(kind, "at-once", valkey.url, ledger)
    with system.running(processes, folder, valkey.url, ledger) as parts:
        wait_until(lambda: any(ledger.begun), 60, what=f"{system.name} begins", every_s=0.005)
        before, looked_on_s = usage(parts, valkey.client, ledger.count()), own_cpu_s()
        peak_mb = _watch(ledger, parts, system)
        time.sleep(SETTLE_S)
        cost = usage(parts, valkey.client, count) - before
        looked_on_s = own_cpu_s() - looked_on_s
        elapsed_s = max(ledger.begun) - min(ledger.begun) + SETTLE_S
        if system.app == "rq":
            _check(valkey.client, system, kind, count)
    others_s = cost.machine_s - cost.workers_s - cost.redis_s - looked_on_s
    return {
        "jobs": count,
        "jobs_per_s": ledger.rate(processes),
        "cpu_ms_per_job": cost.workers_s / cost.jobs * 1e3,
        "redis_commands": cost.redis_commands / cost.jobs,
        "redis_reads": cost.redis_reads / cost.jobs,
        "redis_us_per_job": cost.redis_s / cost.jobs * 1e6,
        "peak_pss_mb": peak_mb,
        "others_cpus": max(0.0, others_s / elapsed_s),
    }


def _watch(ledger: Ledger, parts: Sequence[Part], system: System) -> float:
    """Until every job has begun; the most memory that was seen meanwhile, and at the end."""
    peak_mb, look_at = 0.0, 0.0
    deadline = time.monotonic() + LONGEST_S
    while not ledger.is_full():
        if time.monotonic() > deadline:
            log = "\n".join(part.log.read_text()[-2000:] for part in parts)
            raise RuntimeError(f"{system.name}: {ledger.count()} of {ledger.size} jobs\n{log}")
        if time.monotonic() >= look_at:
            peak_mb = max(peak_mb, pss_mb(parts))
            look_at = time.monotonic() + PSS_EVERY_S
        time.sleep(LOOK_EVERY_S)
    return max(peak_mb, pss_mb(parts))


def _check(client: Redis, system: System, kind: str, count: int) -> None:
    """RQ's books agree with the ledger: every job has ended once, and as it should."""
    outcome = "failed" if kind == "failing" else "finished"
    counter = "failed_job_count" if kind == "failing" else "successful_job_count"
    is_kept = kind == "failing" or "RESULT_TTL" not in system.variables

    def books() -> tuple[int, int, int, int]:
        workers = client.smembers("rq:workers")
        return (
            sum(int(client.hget(worker, counter) or 0) for worker in workers),
            client.zcard(f"rq:{outcome}:{RQ_QUEUE}"),
            client.llen(f"rq:queue:{RQ_QUEUE}"),
            client.zcard(f"rq:wip:{RQ_QUEUE}"),
        )

    expected = (count, count if is_kept else 0, 0, 0)
    deadline = time.monotonic() + 10
    while books() != expected:
        if time.monotonic() > deadline:
            raise RuntimeError(f"{system.name}, {kind}: the books say {books()}, not {expected}")
        time.sleep(LOOK_EVERY_S)


def _rows(
    kind: str, processes: int, rounds: Sequence[Sequence[dict[str, float]]]
) -> Iterator[dict[str, Any]]:
    ours = [system.name for system in SYSTEMS].index(OURS)
    for at, system in enumerate(SYSTEMS):
        results = [results[at] for results in rounds]
        median = {name: statistics.median(r[name] for r in results) for name in results[0]}
        rates = [result["jobs_per_s"] for result in results]
        yield {
            "benchmark": "drain",
            "job": kind,
            "processes": processes,
            "system": system.name,
            "jobs": round(median["jobs"]),
            "jobs_per_s": round(median["jobs_per_s"]),
            "slowest_to_fastest": f"{min(rates):.0f}-{max(rates):.0f}",
            # Each with ours of the same turn.
            "of_lease_worker": _short(
                statistics.median(
                    mine["jobs_per_s"] / turn[ours]["jobs_per_s"]
                    for mine, turn in zip(results, rounds, strict=True)
                )
            ),
            "cpu_ms_per_job": _short(median["cpu_ms_per_job"]),
            "redis_commands": round(median["redis_commands"], 1),
            "redis_reads": _short(median["redis_reads"]),
            "redis_us_per_job": round(median["redis_us_per_job"]),
            "peak_pss_mb": round(median["peak_pss_mb"], 1),
            "others_cpus": round(median["others_cpus"], 2),
            "delivery": system.delivery,
            "setting": system.setting,
        }


def _short(value: float) -> float:
    """Three digits that say something."""
    return float(f"{value:.3g}")
