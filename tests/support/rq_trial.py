"""A trial: the same jobs, run by two of RQ's workers and by ours, each on a Redis of its own."""

import difflib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from pprint import pformat
from typing import Any

from redis import Redis
from rq import Queue
from rq.job import Job
from rq.serializers import DefaultSerializer, JSONSerializer

from tests.support.rq_differences import Forgive, without_allowed
from tests.support.rq_picture import Picture, take_picture
from tests.support.servers import ValkeyServer
from tests.support.waiting import wait_until
from tests.support.workers import Nursery

SIMPLE, STOCK, OURS = "simple", "worker", "lease"
DATABASES = {SIMPLE: 1, STOCK: 2, OURS: 3}
LONGEST_RUN_S = 30


@dataclass
class Site:
    """One database of a Valkey, and the worker that works on it."""

    kind: str
    redis: Redis
    url: str
    serializer: Any
    log: Path
    pid: int = 0

    @property
    def worker_name(self) -> str:
        return f"w-{self.kind}-w"

    def queue(self, name: str = "default", **more: Any) -> Queue:
        return Queue(name, connection=self.redis, serializer=self.serializer, **more)

    def enqueue(self, function: Any, *arguments: Any, id: str = "a", **more: Any) -> Job:
        return self.queue().enqueue(function, *arguments, job_id=id, **more)

    def job(self, id: str = "a") -> Job:
        return Job.fetch(id, connection=self.redis, serializer=self.serializer)

    def notes(self) -> list[str]:
        """What the jobs have noted so far."""
        found: Any = self.redis.lrange("notes", 0, -1)
        return [each.decode() for each in found]

    def wait_for_note(self, text: str) -> None:
        wait_until(lambda: text in self.notes(), 10, what=f"{self.kind} notes {text!r}")

    def status(self, id: str = "a") -> str:
        return self._field(f"rq:job:{id}", "status")

    def worker_says(self, field: str) -> str:
        return self._field(f"rq:worker:{self.worker_name}", field)

    def _field(self, key: str, name: str) -> str:
        found: Any = self.redis.hget(key, name)
        return (found or b"").decode()

    def end_leases(self) -> None:
        """Let the time pass for everything that is in hand."""
        for key in self.redis.scan_iter("rq:wip:*"):
            for entry in self.redis.zrange(key, 0, -1):
                self.redis.zadd(key, {entry: time.time() - 5})

    def make_due(self) -> None:
        """Let the time come for everything that is scheduled."""
        for key in self.redis.scan_iter("rq:scheduled:*"):
            for id in self.redis.zrange(key, 0, -1):
                self.redis.zadd(key, {id: time.time() - 5})

    def picture(self) -> Picture:
        return take_picture(self.redis, self.worker_name, self.serializer or DefaultSerializer)


class Trial:
    """Does everything once for each worker. `sites` says which take part."""

    def __init__(self, nursery: Nursery, valkey: ValkeyServer, folder: Path) -> None:
        self._nursery = nursery
        self._valkey = valkey
        self._folder = folder
        self.sites: dict[str, Site] = {}
        self._exit_statuses: dict[str, int] = {}
        self.take_part(SIMPLE, STOCK, OURS)

    def take_part(self, *kinds: str, serializer: str | None = None) -> None:
        """Which workers take part from here on; at first all do."""
        self.sites = {
            kind: Site(
                kind,
                Redis(port=self._valkey.port, db=DATABASES[kind]),
                f"redis://127.0.0.1:{self._valkey.port}/{DATABASES[kind]}",
                JSONSerializer if serializer else None,
                self._folder / f"{kind}.log",
            )
            for kind in kinds
        }
        self._serializer = serializer

    def close(self) -> None:
        for site in self.sites.values():
            site.redis.close()

    @property
    def ours(self) -> Site:
        return self.sites[OURS]

    def each(self, step: Callable[[Site], Any]) -> None:
        for site in self.sites.values():
            step(site)

    def enqueue(self, function: Any, *arguments: Any, id: str = "a", **more: Any) -> None:
        self.each(lambda site: site.enqueue(function, *arguments, id=id, **more))

    def run(
        self,
        *,
        queues: Sequence[str] = ("default",),
        meanwhile: Callable[[Site], Any] | None = None,
        allowed: Sequence[Forgive] = (),
        work: dict[str, Any] | None = None,
        **options: Any,
    ) -> Picture:
        """Run the workers until there is no job, and compare what they leave.

        `meanwhile` is called while the worker of a site runs; `allowed` names the differences that this
        case may show beside those that all may. Returns what RQ's worker left.
        """
        for kind, site in self.sites.items():
            self.start(kind, queues=queues, work=work, **options)
            if meanwhile is not None:
                meanwhile(site)
                self.wait(kind)
        for kind in self.sites:
            self.wait(kind)
        return self.compare(allowed)

    def start(
        self,
        kind: str,
        *,
        queues: Sequence[str] = ("default",),
        work: dict[str, Any] | None = None,
        worker: str | None = None,
        **options: Any,
    ) -> None:
        """Start the worker of a site, or another one there; by itself it ends when there is no job."""
        site = self.sites[kind]
        more = {"serializer": self._serializer} if self._serializer else {}
        site.pid = self._nursery.ask(
            start=worker or kind,
            url=site.url,
            queues=list(queues),
            log=str(site.log),
            options={"name": site.worker_name, **more, **options},
            work={"burst": True, **(work or {})},
        )

    def wait(self, kind: str) -> None:
        """Wait for the end of the worker of a site."""
        site = self.sites[kind]
        status = self._nursery.ask(wait=site.pid, seconds=LONGEST_RUN_S)
        assert status is not None, f"The {kind} worker has not ended:\n{site.log.read_text()}"
        assert status != 2, f"The {kind} worker has raised:\n{site.log.read_text()}"
        self._exit_statuses[kind] = status

    def kill(self, kind: str) -> None:
        """kill -9 of the worker of a site, and of all that it has started."""
        pid = self.sites[kind].pid
        self._nursery.ask(kill=pid)
        assert self._nursery.ask(wait=pid, seconds=5) is not None

    def exit_status(self, kind: str) -> int:
        return self._exit_statuses[kind]

    def compare(self, allowed: Sequence[Forgive] = ()) -> Picture:
        pictures = {
            kind: without_allowed(site.picture(), allowed) for kind, site in self.sites.items()
        }
        expected = pictures[STOCK]
        for kind in (SIMPLE, OURS):
            if kind in pictures and pictures[kind] != expected:
                raise AssertionError(
                    f"RQ's worker (-) and the {kind} worker (+) left different things:\n"
                    f"{self.differences(expected, pictures[kind])}\n\n"
                    f"{self.sites[kind].log.read_text()[-4000:]}"
                )
        return expected

    @staticmethod
    def differences(expected: Picture, found: Picture) -> str:
        """The lines in which two pictures differ."""
        texts = [
            [f"{key}: {line}" for key in sorted(each) for line in pformat(each[key]).splitlines()]
            for each in (expected, found)
        ]
        lines = difflib.ndiff(*texts)
        return "\n".join(line for line in lines if line.startswith(("+ ", "- ")))
