"""RQ's own command line, rq-dashboard and rq-exporter, and what each of them says of queues and workers.

The two others need another redis-py than this service, so they are in an environment of their own.
"""

import fcntl
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields
from pathlib import Path
from pprint import pformat
from typing import Any, Protocol, Self

import requests

from tests.support.servers import free_port
from tests.support.service import ROOT, Part, clean_environment
from tests.support.waiting import wait_until

RQ = str(Path(sys.executable).with_name("rq"))
TOOLS = ROOT / ".venv-tools"

Seen = dict[str, dict[str, Any]]


@dataclass
class QueueFacts:
    """How many jobs of a queue are in each state."""

    queued: int = 0
    started: int = 0
    finished: int = 0
    failed: int = 0
    scheduled: int = 0
    deferred: int = 0
    canceled: int = 0


@dataclass
class WorkerFacts:
    """What is known of a worker; `queues` in its order, `job` the id of the one that it runs."""

    queues: list[str]
    pid: int
    state: str = "idle"
    job: str | None = None
    succeeded: int = 0
    failed: int = 0


@dataclass
class Facts:
    """What a test knows to be true."""

    queues: dict[str, QueueFacts] = field(default_factory=dict)
    workers: dict[str, WorkerFacts] = field(default_factory=dict)

    def shown_by(self, tool: "Tool") -> tuple[Seen, Seen]:
        """What a tool has to say of them."""
        return _pick(self.queues, tool.queue_fields), _pick(self.workers, tool.worker_fields)


def _pick(facts: dict[str, Any], names: Iterable[str]) -> Seen:
    return {key: {name: getattr(each, name) for name in names} for key, each in facts.items()}


class Tool(Protocol):
    """Something that shows queues and workers."""

    queue_fields: tuple[str, ...]
    worker_fields: tuple[str, ...]

    def look(self) -> tuple[Seen, Seen]: ...


def expect(tools: Iterable[Tool], facts: Facts, timeout_s: float = 10.0) -> None:
    """Each tool comes to say exactly what is true."""
    for tool in tools:
        comes_to(tool.look, facts.shown_by(tool), timeout_s)


def comes_to(look: Callable[[], Any], expected: Any, timeout_s: float = 10.0) -> None:
    """What is seen becomes what is expected, within a time."""
    seen: list[Any] = []

    def is_so() -> bool:
        seen[:] = [look()]
        return bool(seen[0] == expected)

    try:
        wait_until(is_so, timeout_s, every_s=0.05)
    except AssertionError:
        words = f"still, after {timeout_s:g} s,\n{pformat(seen[0])}\nand not\n{pformat(expected)}"
        raise AssertionError(words) from None


# --- RQ's command line ----------------------------------------------------------------------------


class RqCommand:
    """`rq …` against one Redis."""

    def __init__(self, url: str) -> None:
        self._environment = clean_environment(RQ_REDIS_URL=url)

    def __call__(self, *words: str) -> list[str]:
        """Run a command; its lines."""
        done = subprocess.run(
            [RQ, *words],
            env=self._environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 0 and not done.stderr, (words, done.stdout, done.stderr)
        return done.stdout.splitlines()


QUEUE_LINE = re.compile(
    r"(?:queue )?(?P<name>\S+) +(?:\|█* )?(?P<queued>\d+), (?P<started>\d+) executing, "
    r"(?P<finished>\d+) finished, (?P<failed>\d+) failed"
)
WORKER_LINE = re.compile(
    rf"(?:worker )?(?P<name>\S+) \({re.escape(socket.gethostname())} 127\.0\.0\.1:\d+ "
    r"(?P<pid>\d+)\):? (?P<state>\w+) "
    r"(?P<queues>.+)\. jobs: (?P<succeeded>\d+) finished, (?P<failed>\d+) failed"
)


class Info:
    """`rq info` with some options."""

    queue_fields: tuple[str, ...] = ("queued", "started", "finished", "failed")
    worker_fields: tuple[str, ...] = ("pid", "state", "queues", "succeeded", "failed")

    def __init__(self, rq: RqCommand, *options: str) -> None:
        self._rq = rq
        self._options = options

    def look(self) -> tuple[Seen, Seen]:
        return parse_info(self._rq("info", *self._options))


def parse_info(lines: list[str]) -> tuple[Seen, Seen]:
    queues: Seen = {}
    workers: Seen = {}
    for line in lines:
        if found := QUEUE_LINE.fullmatch(line):
            name, *numbers = found.groups()
            queues[name] = dict(zip(Info.queue_fields, map(int, numbers), strict=True))
        elif found := WORKER_LINE.fullmatch(line):
            word = found.groupdict()
            workers[word["name"]] = {
                "pid": int(word["pid"]),
                "state": word["state"],
                "queues": word["queues"].split(", "),
                "succeeded": int(word["succeeded"]),
                "failed": int(word["failed"]),
            }
    return queues, workers


# --- rq-dashboard and rq-exporter -----------------------------------------------------------------


def install_tools() -> None:
    """Make the environment of the two, as `make test` does, if it is not there."""
    make_environment(TOOLS.name)


def make_environment(name: str) -> None:
    """Make one of the Makefile's environments beside `.venv`, if it is not there."""
    words = ["make", "--silent", f"{name}/.stamp", f"PYTHON={sys.executable}"]
    # Several processes of one test run may ask for it.
    with (ROOT / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(words, cwd=ROOT, check=True)


class _Site:
    """A tool that answers over HTTP; see the constructor's words for how it is started."""

    name = ""

    def __init__(self, url: str, folder: Path) -> None:
        self.port = free_port()
        self.base_url = f"http://127.0.0.1:{self.port}"
        # Of this project it sees nothing: it reads Redis.
        self._part = Part(self.name, self._words(url), folder, PYTHONPATH="")

    def _words(self, url: str) -> list[str]:
        raise NotImplementedError

    def __enter__(self) -> Self:
        self._part.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._part.kill_group()

    def wait_until_up(self) -> None:
        wait_until(self._is_up, 30, what=f"{self.name} answers")

    def _is_up(self) -> bool:
        try:
            return self.get("/").ok
        except requests.ConnectionError:
            return False

    def get(self, path: str) -> requests.Response:
        return requests.get(self.base_url + path, timeout=10)


class Dashboard(_Site):
    """rq-dashboard, by its JSON."""

    name = "rq-dashboard"
    queue_fields = tuple(each.name for each in fields(QueueFacts))
    worker_fields = tuple(each.name for each in fields(WorkerFacts))

    def _words(self, url: str) -> list[str]:
        program = str(TOOLS / "bin" / self.name)
        return [program, "--bind", "127.0.0.1", "--port", str(self.port), "--redis-url", url]

    def data(self, path: str) -> Any:
        answer = self.get(f"/0/data/{path}.json")
        if not answer.ok:
            raise RuntimeError(
                f"{path}: {answer.status_code}\n{self._part.log.read_text()[-2000:]}"
            )
        return answer.json()

    def look(self) -> tuple[Seen, Seen]:
        queues = {
            each["name"]: {
                "queued": each["count"],
                **{name: each[f"{name}_job_registry_count"] for name in self.queue_fields[1:]},
            }
            for each in self.data("queues")["queues"]
        }
        return queues, {name: self._seen(each) for name, each in self.workers().items()}

    def workers(self) -> Seen:
        found = self.data("workers")["workers"]
        by_name = {each["name"]: each for each in found}
        assert len(by_name) == len(found)
        return by_name

    def _seen(self, worker: dict[str, Any]) -> dict[str, Any]:
        job = worker["current_job"]
        return {
            "pid": worker["pid"],
            "state": worker["state"],
            "queues": worker["queues"],
            "job": None if job == "idle" else job["job_id"],
            "succeeded": worker["successful_job_count"],
            "failed": worker["failed_job_count"],
        }

    def jobs(self, queue: str, registry: str) -> Seen:
        """The jobs of a queue that are in a state, by their ids."""
        listed = self.data(f"jobs/{queue}/{registry}/100/asc/1")["jobs"]
        return {job["id"]: job for job in listed}

    def job(self, id: str) -> dict[str, Any]:
        found: dict[str, Any] = self.data(f"job/{id}")
        return found


class Exporter(_Site):
    """rq-exporter, by its metrics."""

    name = "rq-exporter"
    queue_fields = ("queued", "started", "finished", "failed", "scheduled", "deferred")
    worker_fields = ("state", "queues", "succeeded", "failed")

    def _words(self, url: str) -> list[str]:
        program = str(TOOLS / "bin" / self.name)
        return [program, "--host", "127.0.0.1", "--port", str(self.port), "--redis-url", url]

    def metrics(self, name: str) -> list[tuple[dict[str, str], float]]:
        """The labels and the value of each line of a metric."""
        lines = re.findall(rf"^{name}{{(.*)}} (\S+)$", self.get("/metrics").text, re.MULTILINE)
        return [(dict(re.findall(r'(\w+)="([^"]*)"', each)), float(value)) for each, value in lines]

    def look(self) -> tuple[Seen, Seen]:
        queues: Seen = {}
        for labels, value in self.metrics("rq_jobs"):
            queues.setdefault(labels["queue"], {})[labels["status"]] = value
        workers: Seen = {}
        for labels, value in self.metrics("rq_workers"):
            assert value == 1 and labels["name"] not in workers
            workers[labels["name"]] = {
                "state": labels["state"],
                "queues": labels["queues"].split(","),
            }
        for name, metric in (("succeeded", "success"), ("failed", "failed")):
            for labels, value in self.metrics(f"rq_workers_{metric}_total"):
                workers[labels["name"]][name] = value
        return queues, workers

    def working_times(self) -> dict[str, float]:
        found = self.metrics("rq_workers_working_time_total")
        return {labels["name"]: value for labels, value in found}
