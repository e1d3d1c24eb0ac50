"""The service as a person runs it: real processes, spoken to from outside."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import psutil
import requests

from tests.support.servers import free_port
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
START_S = 60.0
# Of all variables of whoever runs the tests, a process of ours sees only these.
KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG")


def clean_environment(**variables: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in KEPT_VARIABLES if name in os.environ}
    return {**kept, "PYTHONPATH": str(ROOT), **variables}


class Part:
    """One process of the service, with its children, in a process group of its own."""

    def __init__(self, name: str, argv: list[str], folder: Path, **variables: str) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self._argv = argv
        self._folder = folder
        self._variables = variables
        self._process: subprocess.Popen[bytes] | None = None
        self._family: list[psutil.Process] = []

    def start(self) -> Self:
        folder = self._folder / f"cwd-{self.name}"
        folder.mkdir(exist_ok=True)
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=folder,
                env=clean_environment(**self._variables),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._family = []
        return self

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def descendants(self, containing: str = "") -> list[psutil.Process]:
        """Its children and theirs whose command line contains a text."""
        found = []
        with suppress(psutil.NoSuchProcess):
            for process in psutil.Process(self.pid).children(recursive=True):
                with suppress(psutil.NoSuchProcess):
                    if containing in " ".join(process.cmdline()):
                        found.append(process)
        return found

    def kill_group(self) -> None:
        """kill -9 of the process and everything below it, at once."""
        victims = [*self.descendants()]
        with suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        for victim in victims:
            with suppress(psutil.NoSuchProcess):
                victim.kill()
        assert self._process is not None
        self._process.wait(10)

    def ask_to_stop(self) -> None:
        """SIGTERM, once; `stop` waits for the end."""
        if self._process is not None and self._process.poll() is None and not self._family:
            self._family = self.descendants()
            self._process.terminate()

    def stop(self, timeout_s: float = 25.0) -> int:
        """SIGTERM, and the exit status; whatever is left afterwards is an error."""
        self.ask_to_stop()
        if self._process is None:
            return 0
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            self.kill_group()
            raise AssertionError(
                f"{self.name} did not stop:\n{self.log.read_text()[-4000:]}"
            ) from None
        _, left = psutil.wait_procs(self._family, timeout=5)
        for process in left:
            process.kill()
        assert not left, f"{self.name} left processes behind: {left}"
        return status


class Client:
    """Speaks HTTP with the service, as a stranger's program would."""

    def __init__(self, base_url: str, token: str | None = None) -> None:
        self.base_url = base_url
        self.headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get(self, path: str, **more: Any) -> requests.Response:
        return requests.get(self.base_url + path, timeout=10, headers=self.headers, **more)

    def post(
        self, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> requests.Response:
        return requests.post(
            self.base_url + path, json=body, timeout=10, headers={**self.headers, **(headers or {})}
        )

    def register(self, login: str, **headers: str) -> requests.Response:
        return self.post(
            "/userregres/",
            {
                "szFirstName": "Olena",
                "szLastName": "Koval",
                "szLogin": login,
                "szEmail": f"{login}@example.org",
                "szPhone": "+380441234567",
            },
            {name.replace("_", "-"): value for name, value in headers.items()},
        )

    def start_robot(self, timedelta: int = 1, records: int = 20) -> requests.Response:
        return self.post(
            "/api/wstart",
            {
                "timedelta": timedelta,
                "records": records,
                "msg": "start regular job",
                "rplstatus": "START",
            },
        )

    def stop_robot(self) -> requests.Response:
        return requests.delete(f"{self.base_url}/api/wstop", timeout=10, headers=self.headers)

    def robot(self) -> dict[str, Any]:
        answer: dict[str, Any] = self.get("/api/v1/robots/todos").json()
        return answer

    def cycles(self) -> list[dict[str, Any]]:
        """All cycles of the robot, the oldest first."""
        items: list[dict[str, Any]] = []
        path = "/api/v1/robots/todos/cycles?limit=100"
        page = self.get(path).json()
        while True:
            items += page["items"]
            if page["next"] is None:
                return items[::-1]
            page = self.get(f"{path}&cursor={page['next']}").json()

    def is_ready(self) -> bool:
        try:
            return self.get("/health/ready").status_code == 200
        except requests.RequestException:
            return False


class Service(Client):
    """`app-srvc up` on a folder of its own."""

    def __init__(self, folder: Path, **variables: str) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.data_dir = folder / "data"
        argv = [sys.executable, "-m", "app_srvc.cli", "up"]
        argv += ["--port", str(port), "--data-dir", str(self.data_dir)]
        self.up = Part("up", argv, folder, **variables)

    def start(self) -> Self:
        self.up.start()
        wait_until(lambda: self.is_ready() or not self.up.is_running, START_S, what="up is ready")
        assert self.up.is_running, self.up.log.read_text()
        wait_until(
            lambda: "app-srvc is ready" in self.up.log.read_text(), START_S, what="a greeting"
        )
        return self

    def stop(self) -> int:
        return self.up.stop()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, DATA_DIR=str(self.data_dir))

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        if self.up.is_running:
            self.stop()


class Parts(Client):
    """The web part and the four workers, each started by its own script, on servers of the test.

    `worker_redis_url` is for the workers, where they are another user of Redis than the web part. Each
    worker answers probes on its port among `health_ports`.
    """

    SCRIPTS = ("usrregworker", "dbworker", "todoworker", "taskworker")

    def __init__(
        self,
        folder: Path,
        redis_url: str,
        database_url: str,
        *,
        worker_redis_url: str | None = None,
        **variables: str,
    ) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.variables = {
            "REDIS_URL": redis_url,
            "DATABASE_URL": database_url,
            "SOURCE_URL": "demo:",
            "SECRET_KEY": "a secret that only this test run has",
            "PORT": str(port),
            **variables,
        }
        words = [sys.executable, "-m", "app_srvc.cli", "web"]
        self.web = Part("web", words, folder, **self.variables)
        of_workers = {**self.variables, "REDIS_URL": worker_redis_url or redis_url}
        self.health_ports = {name: free_port() for name in self.SCRIPTS}
        self.workers = {
            name: Part(
                name,
                [sys.executable, str(ROOT / f"{name}.py")],
                folder,
                **of_workers,
                HEALTH_PORT=str(self.health_ports[name]),
            )
            for name in self.SCRIPTS
        }

    def start(self) -> Self:
        for part in (*self.workers.values(), self.web):
            part.start()
        wait_until(self.is_ready, START_S, what="the web part is ready")
        return self

    def stop(self) -> None:
        running = [part for part in (self.web, *self.workers.values()) if part.is_running]
        for part in running:
            part.ask_to_stop()
        for part in running:
            part.stop()

    def command(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return run_command(*arguments, **self.variables)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()


def run_command(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """`app-srvc …` from a terminal."""
    return subprocess.run(
        [sys.executable, "-m", "app_srvc.cli", *arguments],
        env=clean_environment(**variables),
        capture_output=True,
        text=True,
        timeout=60,
    )


def assert_balanced(service: Service | Parts) -> None:
    """The books balance, says the command."""
    done = service.command("audit", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
    assert lines
    assert all(line["balanced"] for line in lines)
