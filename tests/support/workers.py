"""Real worker processes for tests, with the service's kinds and some that are hard on them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, Self

from app_srvc.kinds import Kind
from app_srvc.messages.accept import Accepted
from app_srvc.runtime import Runtime
from tests.support.messages import accept_note, read_message
from tests.support.waiting import wait_until
from tests.support.worlds import QUICK, SAMPLE_KINDS

QUEUE = "QUE_TASKS"

HARD_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **SAMPLE_KINDS,
        **{
            name: Kind(
                name=name,
                version=1,
                queue="rdsq_tasks",
                schema="tests.samples.hard_handlers:Order",
                handler=f"tests.samples.hard_handlers:{name}",
                effects="tests.samples.handlers:count_notes",
                timeout_s=timeout_s,
                retry=QUICK,
                isolate=name.endswith("_alone"),
            )
            for name, timeout_s in (
                ("die_once", 10),
                ("sleep_through_the_limit", 1),
                ("ignore_the_limit", 1),
                ("work_slowly", 10),
                ("kill_redis", 10),
                ("work_for_long", 60),
                ("work_within_the_limit", 3),
                ("work_alone", 10),
                ("die_once_alone", 10),
                ("sleep_alone", 1),
            )
        },
    }
)


class Nursery:
    """A process that forks workers for tests, so that each starts at once; see the sample it runs."""

    def __init__(self, module: str = "tests.samples.worker_nursery") -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, **request: Any) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(f"{json.dumps(request)}\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def end(self) -> None:
        self._process.communicate(timeout=10)


class WorkerProcess:
    """One worker process, without a parent that watches it. `constants` are set in its modules."""

    def __init__(
        self,
        nursery: Nursery,
        runtime: Runtime,
        log: Path,
        queue: str = QUEUE,
        *,
        constants: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        self._nursery = nursery
        self._runtime = runtime
        self._log = log
        self._queue = queue
        self._constants = dict(constants)
        self.pid = 0

    def __enter__(self) -> Self:
        self.pid = self._nursery.ask(
            start={"environment": variables_of(self._runtime), "queue": self._queue},
            log=str(self._log),
            constants=self._constants,
        )
        wait_until(lambda: self.logs("worker_registered"), 30, what="the worker is registered")
        return self

    def logs(self, event: str) -> bool:
        """Whether the worker has written of an event."""
        return f'"{event}"' in self.log_text()

    def log_text(self) -> str:
        return self._log.read_text() if self._log.exists() else ""

    def kill(self) -> None:
        """kill -9 of the worker itself, not of what it has started."""
        os.kill(self.pid, signal.SIGKILL)
        self.wait_for_exit()

    def terminate(self) -> None:
        os.kill(self.pid, signal.SIGTERM)

    def is_alive(self) -> bool:
        return self._nursery.ask(poll=self.pid) is None

    def wait_for_exit(self, timeout_s: float = 10) -> int:
        wait_until(lambda: not self.is_alive(), timeout_s, what="the worker ends")
        code: int = self._nursery.ask(poll=self.pid)
        return code

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.is_alive():
            self.kill()
        if error is not None:
            sys.stderr.write(self.log_text())


def variables_of(runtime: Runtime) -> dict[str, str]:
    """The environment in which a process of this runtime runs."""
    redis_url = runtime.settings.effective_redis_url
    assert redis_url is not None
    return {
        "REDIS_URL": redis_url.get_secret_value(),
        "DATABASE_URL": database_url_of(runtime),
        "LOG_FORMAT": "json",
    }


def database_url_of(runtime: Runtime) -> str:
    url = runtime.settings.effective_database_url.get_secret_value()
    return url.replace("postgresql+psycopg://", "postgresql://")


def accept_order(runtime: Runtime, kind: str, file: Path) -> Accepted:
    """Accept and dispatch a message of a kind that notes its runs in a file."""
    file.touch()
    return accept_note(runtime, str(file), kind=kind)


def runs_in(file: Path) -> list[int]:
    """The process ids of the runs that are noted in a file."""
    return [int(line) for line in file.read_text().splitlines()]


def wait_for_state(runtime: Runtime, message_id: str, state: str, timeout_s: float = 10) -> None:
    wait_until(
        lambda: read_message(runtime, message_id).state == state,
        timeout_s,
        what=f"message {message_id} is {state}",
    )


def process_exists(pid: int) -> bool:
    """Whether a process of that number runs, and is not only waiting to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return status.rpartition(")")[2].split()[0] != "Z"
