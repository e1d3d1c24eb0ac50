"""A stage for RQ's tools: workers started by `rq worker`, jobs of which a test knows everything."""

from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from redis import Redis
from rq import Queue
from rq.job import Job

from tests.samples import rq_jobs
from tests.support.rq_tools import RQ, Dashboard, Exporter, Facts, Info, RqCommand, Tool, expect
from tests.support.servers import ValkeyServer
from tests.support.service import Part
from tests.support.waiting import wait_until

ONE_CHILD = "app_srvc.workers.LeaseWorker"
TWO_CHILDREN = "tests.samples.rq_workers.TwoChildren"


class Monitors:
    """rq-dashboard and rq-exporter, running."""

    def __init__(self, valkey: ValkeyServer, folder: Path) -> None:
        self.dashboard = Dashboard(valkey.url, folder)
        self.exporter = Exporter(valkey.url, folder)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        for site in (self.dashboard, self.exporter):
            self._stack.enter_context(site)
        for site in (self.dashboard, self.exporter):
            site.wait_until_up()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()


class Stage:
    """Workers and jobs of one test; at the end the workers are killed."""

    def __init__(self, valkey: ValkeyServer, folder: Path, monitors: Monitors) -> None:
        self.redis: Redis = valkey.client
        self.rq = RqCommand(valkey.url)
        self.dashboard = monitors.dashboard
        self.exporter = monitors.exporter
        self.info = Info(self.rq, "--raw")
        self.monitors: list[Tool] = [self.dashboard, self.exporter]
        self._url = valkey.url
        self._folder = folder
        self.parts: list[Part] = []

    def queue(self, name: str) -> Queue:
        return Queue(name, connection=self.redis)

    def start(self, command: str, *words: str, worker_class: str = ONE_CHILD) -> Part:
        """`rq worker` or `rq worker-pool` with a LeaseWorker, not waited for."""
        part = Part(
            f"{command}-{len(self.parts)}",
            [RQ, command, "--worker-class", worker_class, *words],
            self._folder,
            RQ_REDIS_URL=self._url,
        )
        self.parts.append(part.start())
        return part

    def wait_for_workers(self, count: int) -> None:
        wait_until(
            lambda: self.redis.scard("rq:workers") == count, 20, what=f"{count} workers are known"
        )

    def gate(self, name: str) -> str:
        return str(self._folder / name)

    def hold(self, queue: str, name: str, **options: Any) -> Job:
        """Enqueue a job that runs until its gate is opened, and wait until it runs."""
        job = self.queue(queue).enqueue(rq_jobs.hold, self.gate(name), **options)
        self.wait_until_held(name)
        return job

    def wait_until_held(self, name: str) -> None:
        wait_until(Path(f"{self.gate(name)}.running").exists, 10, what=f"{name} runs")

    def let_go(self, *names: str) -> None:
        for name in names:
            Path(self.gate(name)).touch()

    def expect(self, facts: Facts) -> None:
        """Every tool comes to say what is true."""
        expect([*self.monitors, self.info], facts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for part in self.parts:
            if part.is_running:
                part.kill_group()
            # Shown by pytest if the test has failed.
            print(part.log.read_text()[-4000:])
