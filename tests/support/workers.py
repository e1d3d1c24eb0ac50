"""Real worker processes for tests, with the service's kinds and some that are hard on them."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Self

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
            )
            for name, timeout_s in (
                ("die_once", 10),
                ("sleep_through_the_limit", 1),
                ("ignore_the_limit", 1),
                ("work_slowly", 10),
                ("work_for_long", 60),
            )
        },
    }
)


class WorkerProcess:
    """One `tests.samples.worker_process`, without a parent that watches it."""

    def __init__(self, runtime: Runtime, folder: Path, queue: str = QUEUE) -> None:
        self.queue = queue
        self._runtime = runtime
        self._log = folder / "worker.log"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self.start()

    def start(self) -> Self:
        """Start it and return when it is known to Redis."""
        with self._log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.samples.worker_process", self.queue],
                env={**os.environ, **variables_of(self._runtime)},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        wait_until(lambda: self.logs("worker_registered"), 30, what="the worker is registered")
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def logs(self, event: str) -> bool:
        """Whether the worker has written of an event."""
        return f'"{event}"' in self._log.read_text()

    def log_text(self) -> str:
        return self._log.read_text()

    def terminate(self) -> None:
        assert self._process is not None
        self._process.terminate()

    def kill(self) -> None:
        """kill -9 of the worker itself, not of what it has started."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(10)

    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def wait_for_exit(self, timeout_s: float = 10) -> int:
        assert self._process is not None
        return self._process.wait(timeout_s)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait(10)
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
