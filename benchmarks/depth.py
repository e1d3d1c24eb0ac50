"""Our worker and a long queue: how fast it drains one, and what Redis and the machine need for it."""

import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from redis import Redis
from rq import Queue
from rq.job import Job

from benchmarks.measuring import empty, family, machine_share, pss_mb, used_memory
from benchmarks.peers.ledger import Ledger
from benchmarks.peers.systems import OURS, RQ_QUEUE, SYSTEMS, one
from tests.support.servers import ValkeyServer
from tests.support.service import Part
from tests.support.waiting import wait_until

DEPTHS = (10_000, 1_000_000)
PROCESSES = 2
# The rate is taken over windows of so many jobs, at both depths, after the first jobs of a worker.
WARMING, WINDOW, WINDOWS = 1_500, 7_000, 9
AT_ONCE = 1_000
SETTLE_S = 0.15
QUEUED, FINISHED, SLEPT = 10_000, 2_000, 200
KIND = "benchmarks.peers.jobs.noop"

by_name = {system.name: system for system in SYSTEMS}


def run() -> Iterator[dict[str, Any]]:
    with (
        tempfile.TemporaryDirectory() as name,
        ValkeyServer(Path(name) / "valkey") as valkey,
    ):
        yield from _rates(valkey, Path(name))
        yield from _queued(valkey.client)
        yield from _finished(valkey, Path(name))
        yield from _processes(valkey, Path(name))


# --- a job as RQ queues it ------------------------------------------------------------------------


def fill(client: Redis, count: int) -> None:
    """What RQ's `enqueue` writes of a no-op job, many at once."""
    queue = Queue(RQ_QUEUE, connection=client)
    pattern = queue.create_job(KIND, args=(0,), timeout=Queue.DEFAULT_TIMEOUT, status="queued")
    pattern.enqueued_at = pattern.created_at
    client.sadd("rq:queues", queue.key)
    for first in range(0, count, AT_ONCE):
        numbers = range(first, min(first + AT_ONCE, count))
        ids = [str(uuid4()) for _ in numbers]
        with client.pipeline(transaction=False) as pipeline:
            for id, number in zip(ids, numbers, strict=True):
                pipeline.hset(f"rq:job:{id}", mapping=_fields(pattern, number))
            pipeline.rpush(queue.key, *ids)
            pipeline.execute()


def _fields(pattern: Job, number: int) -> dict[str, Any]:
    pattern.args = (number,)
    pattern.description = pattern.get_call_string()
    return pattern.to_dict()


def check_form(client: Redis) -> None:
    """`fill` writes the fields that `enqueue` writes, and like values: a new release may add some."""
    empty(client)
    id = Queue(RQ_QUEUE, connection=client).enqueue(KIND, 0).id
    theirs = client.hgetall(f"rq:job:{id}")
    empty(client)
    fill(client, 1)
    ours = client.hgetall(b"rq:job:" + client.lindex(f"rq:queue:{RQ_QUEUE}", 0))
    times = (b"created_at", b"enqueued_at")
    different = {
        name
        for name in theirs.keys() | ours.keys()
        if (len if name in times else bytes)(theirs.get(name, b""))
        != (len if name in times else bytes)(ours.get(name, b""))
    }
    assert not different, f"{different}: {theirs} by RQ, {ours} by us"


# --- the measures ---------------------------------------------------------------------------------


def _rates(valkey: ValkeyServer, folder: Path) -> Iterator[dict[str, Any]]:
    """At every depth, in turns, a fresh worker drains a window, and is told to stop.

    Each depth has a Valkey of its own, so that the long queue is filled once; the short one is filled
    anew for each window. A worker that was killed would leave jobs that the next one treats with care.
    """
    check_form(valkey.client)
    rates: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    busy: dict[int, list[float]] = {depth: [] for depth in DEPTHS}
    memory: dict[int, float] = {}
    with ExitStack() as stack:
        servers, ledgers = {}, {}
        for depth in DEPTHS:
            servers[depth] = stack.enter_context(ValkeyServer(folder / f"valkey-{depth}"))
            ledgers[depth] = Ledger.create(folder / f"ledger-{depth}", depth)
        for _ in range(WINDOWS):
            for depth, server in servers.items():
                if server.client.llen(f"rq:queue:{RQ_QUEUE}") < WARMING + WINDOW:
                    empty(server.client)
                    before = used_memory(server.client)
                    fill(server.client, depth)
                    memory[depth] = (used_memory(server.client) - before) / depth
                rate, share = _drain(server, folder, ledgers[depth])
                rates[depth].append(rate)
                busy[depth].append(share)
    for depth, found in rates.items():
        yield {
            "benchmark": "depth",
            "measure": "drain rate",
            "queued": depth,
            "processes": PROCESSES,
            "windows": len(found),
            "jobs_per_s": round(statistics.median(found)),
            "slowest_to_fastest": f"{min(found):.0f}-{max(found):.0f}",
            # Each with the short queue of the same turn.
            "of_short_queue": round(
                statistics.median(a / b for a, b in zip(found, rates[DEPTHS[0]], strict=True)), 2
            ),
            "redis_bytes_per_job": round(memory[depth]),
            "machine_busy": round(statistics.median(busy[depth]), 2),
        }


def _drain(server: ValkeyServer, folder: Path, ledger: Ledger) -> tuple[float, float]:
    """The rate over one window of a worker that is warm, and how busy the machine was."""
    began = time.monotonic()
    goal = server.client.llen(f"rq:queue:{RQ_QUEUE}") - WARMING - WINDOW

    def has_passed() -> bool:
        return bool(server.client.llen(f"rq:queue:{RQ_QUEUE}") <= goal)

    with (
        by_name[OURS].running(PROCESSES, folder, server.url, ledger) as parts,
        machine_share() as share,
    ):
        wait_until(has_passed, 120, what="the window is drained")
        # Claimed is not yet begun.
        time.sleep(SETTLE_S)
        for part in parts:
            part.stop()
    times = sorted(at for at in ledger.begun if at > began)
    return WINDOW / (times[WARMING + WINDOW - 1] - times[WARMING - 1]), share()


def _queued(client: Redis) -> Iterator[dict[str, Any]]:
    def enqueue() -> None:
        queue = Queue(RQ_QUEUE, connection=client)
        for number in range(QUEUED):
            queue.enqueue(KIND, number)

    sizes = {}
    for name, step in (("rq enqueue", enqueue), ("this benchmark", lambda: fill(client, QUEUED))):
        empty(client)
        before = used_memory(client)
        step()
        sizes[name] = (used_memory(client) - before) / QUEUED
    yield from _memory_rows("queued job", sizes, "rq enqueue")


def _finished(valkey: ValkeyServer, folder: Path) -> Iterator[dict[str, Any]]:
    """With its result, which both keep for 500 s."""
    sizes = {}
    for name in ("rq.SimpleWorker", OURS):
        empty(valkey.client)
        ledger = Ledger.create(folder / "ledger", FINISHED)
        with by_name[name].running(1, folder, valkey.url, ledger):
            wait_until(lambda: valkey.client.scard("rq:workers"), 30, what=f"{name} is up")
            time.sleep(1)
            before = used_memory(valkey.client)
            by_name[name].produce("noop", "at-once", valkey.url, ledger)
            wait_until(lambda: _has_finished(valkey.client), 120, what=f"{name} is done")
            sizes[name] = (used_memory(valkey.client) - before) / FINISHED
    yield from _memory_rows("finished job", sizes, "rq.SimpleWorker")


def _has_finished(client: Redis) -> bool:
    """All of them: by the registry, and by nothing being left in hand."""
    finished = client.zcard(f"rq:finished:{RQ_QUEUE}")
    return bool(finished == FINISHED and not client.zcard(f"rq:wip:{RQ_QUEUE}"))


def _memory_rows(measure: str, sizes: dict[str, float], base: str) -> Iterator[dict[str, Any]]:
    for name, size in sizes.items():
        yield {
            "benchmark": "depth",
            "measure": f"Redis: {measure}",
            "by": name,
            "bytes": round(size),
            f"of_{base.replace(' ', '_').replace('.', '_')}": round(size / sizes[base], 3),
        }


def _processes(valkey: ValkeyServer, folder: Path) -> Iterator[dict[str, Any]]:
    """Memory of two processes that run jobs, started by RQ's own command, each with its parent."""
    commands = {
        "rq worker-pool -n 2": one("-m", "benchmarks.peers.rq_command", "worker-pool", "-n", "2"),
        "LeaseWorker, 2 children": one(
            *("-m", "benchmarks.peers.rq_command", "worker"),
            *("-w", "benchmarks.peers.rq_command.TwoChildren"),
        ),
    }
    sizes, counts = {}, {}
    for name, start in commands.items():
        empty(valkey.client)
        ledger = Ledger.create(folder / "ledger", SLEPT)
        with _started(start(2)[0], valkey.url, folder, ledger) as parts:
            by_name[OURS].produce("sleeping", "at-once", valkey.url, ledger)
            wait_until(ledger.is_full, 120, what=f"{name} is warm")
            assert len(set(ledger.process)) >= PROCESSES, "Each process is to have run jobs"
            time.sleep(2)
            sizes[name], counts[name] = pss_mb(parts), len(family(parts))
    for name, size in sizes.items():
        yield {
            "benchmark": "depth",
            "measure": "memory of workers",
            "by": name,
            "processes": counts[name],
            "pss_mb": round(size, 1),
            "of_worker_pool": round(size / next(iter(sizes.values())), 2),
        }


@contextmanager
def _started(
    argv: Sequence[str], redis_url: str, folder: Path, ledger: Ledger
) -> Iterator[list[Part]]:
    system = by_name[OURS]
    words = [system.python, *argv, "--url", redis_url, "--quiet", RQ_QUEUE]
    part = Part("rq", words, folder, **system.environment(redis_url, ledger))
    try:
        yield [part.start()]
    finally:
        if part.is_running:
            part.kill_group()
