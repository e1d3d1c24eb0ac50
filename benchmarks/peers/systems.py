"""The systems that are compared: how each is set up, and how its workers and its producer are started."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.peers.environment import peers_python
from benchmarks.peers.ledger import Ledger
from tests.support.service import Part, clean_environment

RQ_QUEUE = "jobs"
OURS = "LeaseWorker"


@dataclass(frozen=True)
class System:
    """`app` names a module beside this one; `start` gives the command lines of so many processes."""

    name: str
    app: str
    start: Callable[[int], list[list[str]]]
    delivery: str
    setting: str
    # How many jobs make a run of seconds: no-op, busy, sleeping and failing ones.
    jobs: tuple[int, int, int, int]
    variables: Mapping[str, str] = field(default_factory=dict)
    in_peers: bool = True

    @property
    def python(self) -> str:
        return peers_python() if self.in_peers else sys.executable

    def environment(self, redis_url: str, ledger: Ledger) -> dict[str, str]:
        return {"REDIS_URL": redis_url, "BENCHMARK_LEDGER": str(ledger.path), **self.variables}

    def produce(self, kind: str, how: str, redis_url: str, ledger: Ledger) -> None:
        """Send as many jobs as the ledger holds, `at-once` or `paced`."""
        subprocess.run(
            [self.python, "-m", "benchmarks.peers.produce", self.app, kind, how],
            env=clean_environment(**self.environment(redis_url, ledger)),
            check=True,
        )

    @contextmanager
    def running(
        self, processes: int, folder: Path, redis_url: str, ledger: Ledger
    ) -> Iterator[list[Part]]:
        """Its workers; whatever they were doing, they are killed at the end."""
        variables = self.environment(redis_url, ledger)
        parts = [
            Part(f"{self.app}{number}", [self.python, *argv], folder, **variables).start()
            for number, argv in enumerate(self.start(processes))
        ]
        try:
            yield parts
        finally:
            for part in parts:
                # The number of one that has ended may be somebody else's by now.
                if part.is_running:
                    part.kill_group()


def rq_worker(name: str) -> Callable[[int], list[list[str]]]:
    return lambda processes: [["-m", "benchmarks.peers.rq_app", name, "0"]] * processes


def one(*words: str) -> Callable[[int], list[list[str]]]:
    """One command line, in which N stands for the number of processes."""
    return lambda processes: [[str(processes) if word == "N" else word for word in words]]


RQ_DELIVERY = "in hand when a worker dies: failed"
LEAST_ONCE = "at least once"

SYSTEMS: Sequence[System] = (
    System(
        OURS,
        "rq",
        one("-m", "benchmarks.peers.rq_app", "app_srvc.workers.LeaseWorker", "N"),
        LEAST_ONCE,
        "results kept 500 s",
        (40_000, 20_000, 600, 20_000),
        in_peers=False,
    ),
    System(
        f"{OURS}, no result",
        "rq",
        one("-m", "benchmarks.peers.rq_app", "app_srvc.workers.LeaseWorker", "N"),
        LEAST_ONCE,
        "result_ttl=0; failures kept a year",
        (40_000, 20_000, 600, 20_000),
        variables={"RESULT_TTL": "0"},
        in_peers=False,
    ),
    System(
        "rq.Worker",
        "rq",
        rq_worker("rq.Worker"),
        RQ_DELIVERY,
        "results kept 500 s; a worker for each process",
        (300, 300, 200, 300),
        in_peers=False,
    ),
    System(
        "rq.SimpleWorker",
        "rq",
        rq_worker("rq.SimpleWorker"),
        RQ_DELIVERY,
        "results kept 500 s; a worker for each process",
        (1_000, 1_000, 300, 1_000),
        in_peers=False,
    ),
    System(
        "Celery prefork",
        "celery",
        one(
            *("-m", "celery", "-A", "benchmarks.peers.celery_app", "worker"),
            *("--pool", "prefork", "--concurrency", "N", "--loglevel", "CRITICAL"),
        ),
        LEAST_ONCE,
        "acks_late, prefetch multiplier 128, ignore_result",
        (3_000, 3_000, 600, 3_000),
    ),
    System(
        "Dramatiq",
        "dramatiq",
        one(
            *("-m", "dramatiq", "benchmarks.peers.dramatiq_app"),
            *("--processes", "N", "--threads", "8"),
        ),
        LEAST_ONCE,
        "8 threads in each process, no results",
        (6_000, 6_000, 4_000, 6_000),
    ),
    System(
        "Huey",
        "huey",
        one(
            *("-m", "huey.bin.huey_consumer", "benchmarks.peers.huey_app.huey"),
            *("--workers", "N", "--worker-type", "process", "--no-periodic", "--quiet"),
        ),
        "at most once",
        "-k process, results of None not kept",
        (10_000, 8_000, 600, 8_000),
    ),
    System(
        "taskiq stream",
        "taskiq",
        one(
            *("-m", "taskiq", "worker", "benchmarks.peers.taskiq_app:broker", "--workers", "N"),
            *("--ack-type", "when_executed", "--max-prefetch", "100", "--log-level", "CRITICAL"),
        ),
        LEAST_ONCE,
        "ack when_executed, up to 100 coroutines at once, uvloop, no results",
        (10_000, 10_000, 8_000, 8_000),
    ),
)
