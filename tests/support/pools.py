"""Real entry scripts for tests, with a health port of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import psutil

from tests.support.servers import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]


class PoolProcess:
    """One entry script, such as `dbworker.py`, with its workers."""

    def __init__(self, script: str, variables: Mapping[str, str], log: Path) -> None:
        self.health_port = free_port()
        self._argv = [sys.executable, str(ROOT / script)]
        self._variables = {**variables, "HEALTH_PORT": str(self.health_port), "LOG_FORMAT": "json"}
        self._log = log
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        with self._log.open("ab") as output:
            self.process = subprocess.Popen(
                self._argv,
                env={**os.environ, **self._variables},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        return self

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def probe(self, name: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of a probe; 0 if nobody answers."""
        return probe(f"http://127.0.0.1:{self.health_port}/health/{name}")

    def wait_until_ready(self, timeout_s: float = 30) -> None:
        wait_until(lambda: self.probe("ready")[0] == 200, timeout_s, what="the pool is ready")

    def workers(self) -> list[psutil.Process]:
        return psutil.Process(self.pid).children()

    def log_text(self) -> str:
        return self._log.read_text()

    def terminate(self) -> None:
        assert self.process is not None
        self.process.terminate()

    def wait_for_exit(self, timeout_s: float = 15) -> int:
        assert self.process is not None
        return self.process.wait(timeout_s)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(10)
        if error is not None:
            sys.stderr.write(self.log_text())


def probe(url: str) -> tuple[int, dict[str, Any]]:
    try:
        with urlopen(url, timeout=5) as answer:
            return answer.status, json.load(answer)
    except HTTPError as error:
        with error:
            return error.code, json.load(error)
    except (URLError, OSError):
        return 0, {}
