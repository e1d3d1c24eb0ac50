"""Memory and processor of each part, idle and under load: what requests and limits of a pod rest on.

Web part with two gunicorn workers and each worker with the processes that the manifests give it, on a
Valkey and a PostgreSQL of their own. Memory is what a container of its own would be charged: what the
processes have made themselves, what they share counted once, and the most that one of them has of files.
Under load it is the highest of looks a second apart. The load is what one machine can make of itself:
registrations and handed-over documents from some callers, and a robot.
"""

import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import requests

from benchmarks.measuring import GONE, family
from benchmarks.servers import servers
from tests.support.manifests import WORKERS, environment_in_cluster, secret_values
from tests.support.servers import Server
from tests.support.service import Part, Parts
from tests.support.waiting import wait_until

SETTLE_S = 5
IDLE_S = 15
LOADED_S = 40
CALLERS = 6
Process = Part | Server
MEMORY = re.compile(r"^(Rss|Anonymous|Pss_Anon): +(\d+) kB$", re.MULTILINE)


def run() -> Iterator[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as name, servers(Path(name)) as (valkey, postgres):
        database_url = postgres.url(postgres.new_database())
        with Parts(Path(name), valkey.url, database_url, **_processes()) as service:
            parts: dict[str, Process] = {
                "web": service.web,
                **service.workers,
                "redis": valkey,
                "postgresql": postgres,
            }
            wait_until(lambda: all(map(_is_forked, service.workers.values())), 30, what="a start")
            time.sleep(SETTLE_S)
            idle = Looks(parts)
            idle.look_for(IDLE_S)
            loaded = Looks(parts)
            with Load(service):
                loaded.look_for(LOADED_S)
            for part in parts:
                yield {
                    "part": part,
                    "processes": len(family([parts[part]])),
                    "idle_mb": round(idle.peak_mb[part]),
                    "loaded_mb": round(loaded.peak_mb[part]),
                    "idle_cpu_m": round(1000 * idle.cpu(part)),
                    "loaded_cpu_m": round(1000 * loaded.cpu(part)),
                }


def _processes() -> dict[str, str]:
    """The settings that say how many processes a part has, as the manifests give them."""
    given = {"GUNICORN_CMD_ARGS": "--workers=2"}
    for worker in WORKERS:
        variables = environment_in_cluster(worker, secret_values())
        given |= {k: v for k, v in variables.items() if k.endswith("_PROCESSES")}
    return given


def _is_forked(part: Part) -> bool:
    return len(family([part])) > 1


class Looks:
    """What some parts use, from the making of this on."""

    def __init__(self, parts: dict[str, Process]) -> None:
        self._parts = parts
        self._began = time.monotonic()
        self._before = {name: _cpu_s(part) for name, part in parts.items()}
        self._after = dict(self._before)
        self._took_s = 0.0
        self.peak_mb = dict.fromkeys(parts, 0.0)

    def look_for(self, seconds: float) -> None:
        while time.monotonic() - self._began < seconds:
            time.sleep(1)
            for name, part in self._parts.items():
                self.peak_mb[name] = max(self.peak_mb[name], _memory_mb(part))
        self._after = {name: _cpu_s(part) for name, part in self._parts.items()}
        self._took_s = time.monotonic() - self._began

    def cpu(self, name: str) -> float:
        """Processors kept busy, on average."""
        return (self._after[name] - self._before[name]) / self._took_s


def _memory_mb(part: Process) -> float:
    made_kb, of_files_kb = 0, 0
    for process in family([part]):
        with suppress(*GONE):
            text = Path(f"/proc/{process.pid}/smaps_rollup").read_text()
            kb = {name: int(value) for name, value in MEMORY.findall(text)}
            made_kb += kb["Pss_Anon"]
            of_files_kb = max(of_files_kb, kb["Rss"] - kb["Anonymous"])
    return (made_kb + of_files_kb) / 1024


def _cpu_s(part: Process) -> float:
    total = 0.0
    for process in family([part]):
        with suppress(*GONE):
            times = process.cpu_times()
            total += times.user + times.system
    return total


class Load:
    """Callers that post without a pause, and a robot with a short interval."""

    def __init__(self, service: Parts) -> None:
        self._service = service
        self._is_over = threading.Event()
        self._numbers = count()
        self._callers = ThreadPoolExecutor(CALLERS)

    def __enter__(self) -> None:
        self._service.start_robot(timedelta=1, records=10_000)
        for number in range(CALLERS):
            self._callers.submit(self._call, is_document=number % 2 == 1)

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._callers.shutdown()

    def _call(self, *, is_document: bool) -> None:
        while not self._is_over.is_set():
            number = next(self._numbers)
            try:
                if is_document:
                    self._service.post("/api/sendmsg", {"number": number, "text": "x" * 2000})
                else:
                    self._service.register(f"user{number}")
            except requests.RequestException as error:
                sys.stderr.write(f"a call failed: {type(error).__name__}\n")
