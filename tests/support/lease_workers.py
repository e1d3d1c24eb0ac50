"""Real lease workers for tests, and what they leave behind: in Redis, and in a diary beside it."""

import os
import re
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import psutil
from redis import Redis
from rq import Queue

from tests.support.waiting import wait_until
from tests.support.workers import Nursery

JOBS = "tests.samples.lease_jobs"
KNOWN_S = 86_400
# A lease short enough to wait for; everything that depends on it is as much shorter.
SHORT_LEASE: Mapping[str, float] = {
    "app_srvc.workers.lease.runner:LEASE_S": 1,
    "app_srvc.workers.lease.housekeeping:LEASE_S": 1,
    "app_srvc.workers.lease.housekeeping:RENEW_EVERY_S": 0.3,
    "app_srvc.workers.lease.housekeeping:RESCUE_EVERY_S": 0.1,
}


class LeaseWorkerProcess:
    """One worker with its children. `constants` are set in its modules, as "module:NAME"."""

    def __init__(
        self,
        nursery: Nursery,
        url: str,
        log: Path,
        queues: Iterable[str] = ("q",),
        *,
        name: str = "w",
        children: int = 1,
        constants: Mapping[str, float] | None = None,
        worker_class: str = "app_srvc.workers.LeaseWorker",
    ) -> None:
        self.name = name
        self.log = log
        self._nursery = nursery
        self._parts = {
            "url": url,
            "queues": list(queues),
            "name": name,
            "children": children,
            "worker_class": worker_class,
        }
        self._constants = dict(constants or {})
        self.pid = 0

    def start(self) -> Self:
        self.pid = self._nursery.ask(
            start=self._parts, log=str(self.log), constants=self._constants
        )
        return self

    def __enter__(self) -> Self:
        self.start()
        wait_until(lambda: bool(self.children()), 30, what="the worker has a child")
        return self

    def children(self) -> list[int]:
        """The process ids of those that run jobs."""
        with suppress(psutil.NoSuchProcess):
            return [child.pid for child in psutil.Process(self.pid).children()]
        return []

    def family(self) -> list[int]:
        with suppress(psutil.NoSuchProcess):
            below = psutil.Process(self.pid).children(recursive=True)
            return [self.pid, *(child.pid for child in below)]
        return []

    def signal_all(self, number: signal.Signals) -> None:
        """To the parent first, as a terminal or a container would."""
        for pid in self.family():
            with suppress(ProcessLookupError):
                os.kill(pid, number)

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def is_alive(self) -> bool:
        return self._nursery.ask(poll=self.pid) is None

    def wait_for_exit(self, timeout_s: float = 15) -> int:
        wait_until(lambda: not self.is_alive(), timeout_s, what="the worker ends")
        code: int = self._nursery.ask(poll=self.pid)
        return code

    def log_text(self) -> str:
        return self.log.read_text() if self.log.exists() else ""

    def counted_deaths(self) -> list[str]:
        """The jobs of others that it rescued and knew to have begun; one more death counts against each."""
        return re.findall(r"job_rescued job_id=(\S+) rescues=\d+$", self.log_text(), re.MULTILINE)

    def end(self) -> None:
        """Kill whatever of it lives still."""
        if self.pid and self.is_alive():
            self.signal_all(signal.SIGCONT)
            self.signal_all(signal.SIGKILL)
            self.wait_for_exit()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.end()
        if error is not None:
            sys.stderr.write(f"--- {self.name} ---\n{self.log_text()[-10_000:]}")


class Diary:
    """A file in which jobs note when they begin and end, each line as `what name pid time`."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self, what: str) -> list[tuple[str, int, float]]:
        """Who has noted it, in which process, and when."""
        rows = (line.split() for line in self.path.read_text().splitlines())
        return [(name, int(pid), float(at)) for kind, name, pid, at in rows if kind == what]

    def names(self, what: str) -> list[str]:
        return [name for name, _, _ in self.lines(what)]

    def counts(self, what: str) -> Counter[str]:
        return Counter(self.names(what))

    def size(self) -> int:
        return self.path.stat().st_size


def enqueue_work(
    redis: Redis,
    diary: Diary,
    count: int,
    *,
    queue: str = "q",
    seconds: float = 0.0,
    tag: str = "j",
) -> list[str]:
    """Enqueue so many jobs that note their runs; returns their ids, which are their names too."""
    ids = [f"{tag}{number:04d}" for number in range(count)]
    Queue(queue, connection=redis).enqueue_many(
        [
            Queue.prepare_data(
                f"{JOBS}.work", args=(str(diary.path), id, seconds), job_id=id, timeout=60
            )
            for id in ids
        ]
    )
    return ids


def fields(redis: Redis, ids: Iterable[str], field: str) -> dict[str, str]:
    """A field of the hash of each job; "" where there is none."""
    names = list(ids)
    with redis.pipeline(transaction=False) as pipeline:
        for id in names:
            pipeline.hget(f"rq:job:{id}", field)
        values: list[Any] = pipeline.execute()
    return {id: (value or b"").decode() for id, value in zip(names, values, strict=True)}


def in_hand(redis: Redis, queue: str = "q") -> set[str]:
    """The ids in the started registry."""
    entries: Any = redis.zrange(f"rq:wip:{queue}", 0, -1)
    return {entry.decode().rpartition(":")[0] for entry in entries}


def are_finished(redis: Redis, ids: Iterable[str], queue: str = "q") -> bool:
    names = list(ids)
    # Most often the answer is no, and the last one says so.
    if redis.zscore(f"rq:finished:{queue}", names[-1]) is None:
        return False
    scores: Any = redis.zmscore(f"rq:finished:{queue}", names)
    return None not in scores


def assert_finished_once(
    redis: Redis, ids: Iterable[str], queue: str = "q", *, others_failed: bool = False
) -> None:
    """Each job is finished, has one result, and none failed."""
    names = list(ids)
    not_finished = {
        id: status for id, status in fields(redis, names, "status").items() if status != "finished"
    }
    assert not not_finished
    with redis.pipeline(transaction=False) as pipeline:
        for id in names:
            pipeline.xlen(f"rq:results:{id}")
        results = dict(zip(names, pipeline.execute(), strict=True))
    assert {id: count for id, count in results.items() if count != 1} == {}
    assert are_finished(redis, names, queue)
    if not others_failed:
        assert redis.zcard(f"rq:failed:{queue}") == 0


def assert_nothing_stranded(redis: Redis, queue: str = "q") -> None:
    """Nothing is in hand, nothing says that it is, and what is kept of claims will go."""
    assert redis.zrange(f"rq:wip:{queue}", 0, -1) == []
    keys = [key.decode() for key in redis.scan_iter(count=10_000)]
    assert [key for key in keys if key.startswith(("rq:execution:", "rq:executions:"))] == []
    for key in keys:
        if key.startswith("app:claim:"):
            life_ms = redis.pttl(key)
            # One whose life has just ended is gone.
            assert life_ms == -2 or 0 < life_ms <= KNOWN_S * 1000, key
    ids = [key.removeprefix("rq:job:") for key in keys if key.count(":") == 2 and "rq:job:" in key]
    states = {kind: redis.type(f"rq:job:{id}") for id in ids if (kind := id)}
    hashes = [id for id, kind in states.items() if kind == b"hash"]
    started = {id for id, status in fields(redis, hashes, "status").items() if status == "started"}
    assert not started
    empty = {id for id, data in fields(redis, hashes, "created_at").items() if not data}
    assert not empty, "hashes that are no jobs"
