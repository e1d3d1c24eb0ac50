"""The jobs: what every system runs. Each notes its begin in the ledger, and its process.

Nobody logs anything: it would be the log that is measured.
"""

import logging
import os
import time
from pathlib import Path

from benchmarks.peers.ledger import Ledger

BUSY_S = 50e-6
SLEEP_S = 0.005

logging.disable(logging.CRITICAL)
ledger = Ledger(Path(os.environ["BENCHMARK_LEDGER"]))
begun, process = ledger.begun, ledger.process
# A worker that forks for each job is known by the parent's id instead.
process_id = os.getpid


def noop(number: int) -> None:
    begun[number] = time.monotonic()
    process[number] = process_id()


def busy(number: int) -> None:
    """Uses the processor for 50 µs of its own time, whoever else wants it meanwhile."""
    noop(number)
    ends = time.thread_time() + BUSY_S
    while time.thread_time() < ends:
        pass


def sleeping(number: int) -> None:
    noop(number)
    time.sleep(SLEEP_S)


def failing(number: int) -> None:
    noop(number)
    raise ValueError("This job fails")


JOBS = {job.__name__: job for job in (noop, busy, sleeping, failing)}
