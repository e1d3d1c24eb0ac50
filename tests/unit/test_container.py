"""What a container becomes, by its environment."""

import os
import shlex
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from gunicorn.app.wsgiapp import WSGIApplication
from gunicorn.config import Config

from app_srvc.container import choose_start, is_ready
from app_srvc.errors import ConfigurationError

WEB = {
    "HOST": "0.0.0.0",
    "SECRET_KEY": "k" * 32,
    "API_TOKEN": "t" * 32,
    "RDS_HOST": "redis",
    "PG_HOST": "postgresql",
    "PG_USER": "user",
}
WORKER = {"RDS_HOST": "redis", "PG_HOST": "postgresql", "PG_USER": "user"}


@pytest.fixture
def scripts(tmp_path: Path) -> Path:
    """A folder of scripts, one of which shows what it was started as."""
    (tmp_path / "usrregworker.py").write_text("import os; print(os.getpid())")
    (tmp_path / "dbworker.py").write_text("raise SystemExit(5)")
    return tmp_path


def gunicorn_config(monkeypatch: pytest.MonkeyPatch, **variables: str) -> Config:
    """What gunicorn itself makes of the environment that the container would start it with."""
    start = choose_start({**WEB, **variables}, Path())
    monkeypatch.setenv("GUNICORN_CMD_ARGS", start.variables["GUNICORN_CMD_ARGS"])
    monkeypatch.setattr(sys, "argv", ["gunicorn", *start.arguments[3:]])
    return WSGIApplication("%(prog)s [OPTIONS] [APP_MODULE]").cfg


def test_without_a_script_gunicorn_serves_the_web_part(monkeypatch: pytest.MonkeyPatch) -> None:
    assert choose_start(WEB, Path()).arguments[1:] == (
        "-m",
        "gunicorn",
        "app_srvc.webapp:application",
    )
    config = gunicorn_config(monkeypatch)
    assert config.bind == ["0.0.0.0:8080"]
    assert (config.workers, config.worker_class_str) == (2, "gevent")


def test_the_gunicorn_arguments_of_the_original_are_stronger_than_ours(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    original = "--workers=1 --worker-connections=2000 --bind=0.0.0.0:9090 --access-logfile=-"
    config = gunicorn_config(monkeypatch, GUNICORN_CMD_ARGS=original)
    assert config.bind == ["0.0.0.0:9090"]
    assert (config.workers, config.worker_connections, config.accesslog) == (1, 2000, "-")
    assert config.worker_class_str == "gevent"


def test_an_address_of_ipv6_is_written_as_gunicorn_needs_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert gunicorn_config(monkeypatch, HOST="::", PORT="81").bind == ["[::]:81"]


def test_another_module_may_be_served_and_its_object_named() -> None:
    assert choose_start({**WEB, "APP_MODULE": "mine.web"}, Path()).arguments[3] == (
        "mine.web:application"
    )
    assert choose_start({**WEB, "APP_MODULE": "mine:app"}, Path()).arguments[3] == "mine:app"


def test_app_file_names_the_script_of_a_worker(scripts: Path) -> None:
    start = choose_start({**WORKER, "APP_FILE": "usrregworker.py"}, scripts)
    assert start.arguments == (sys.executable, str(scripts / "usrregworker.py"))


@pytest.mark.parametrize("name", ["worker.py", "../usrregworker.py", "usrregworker", "a b.py"])
def test_a_script_that_is_not_there_is_refused_with_those_that_are(
    scripts: Path, name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        choose_start({**WORKER, "APP_FILE": name}, scripts)
    assert "usrregworker.py" in caught.value.message
    assert repr(name) in caught.value.message


def run_container(
    folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app_srvc.container", *arguments],
        env={"PATH": os.environ["PATH"], **variables},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=30,
    )


def test_the_script_takes_the_place_of_the_start_program(scripts: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-m", "app_srvc.container"],
        env={**WORKER, "APP_FILE": "usrregworker.py"},
        cwd=scripts,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        output, _ = process.communicate(timeout=30)
    assert int(output) == process.pid


def test_the_exit_status_is_that_of_the_script(scripts: Path) -> None:
    assert run_container(scripts, **WORKER, APP_FILE="dbworker.py").returncode == 5


def test_a_signal_reaches_the_script_itself(scripts: Path) -> None:
    (scripts / "taskworker.py").write_text(
        "import signal, sys\n"
        "signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))\n"
        "print('ready', flush=True)\n"
        "signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-m", "app_srvc.container"],
        env={**WORKER, "APP_FILE": "taskworker.py"},
        cwd=scripts,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert process.wait(10) == 7


def test_a_command_may_be_run_instead(scripts: Path) -> None:
    answer = run_container(scripts, sys.executable, "-c", "print('hello')", **WORKER)
    assert (answer.returncode, answer.stdout) == (0, "hello\n")


def test_a_command_that_is_not_there_is_named(scripts: Path) -> None:
    answer = run_container(scripts, "no-such-command", **WORKER)
    assert answer.returncode == 127
    assert "'no-such-command'" in answer.stderr


def test_everything_that_is_wrong_is_said_at_once(scripts: Path) -> None:
    answer = run_container(scripts, **{**WEB, "RDS_PORT": "abc", "API_TOKEN": ""})
    assert answer.returncode == 2
    assert "RDS_PORT must be" in answer.stderr
    assert "API_TOKEN" in answer.stderr
    assert shlex.quote(WEB["SECRET_KEY"]) not in answer.stderr


@contextmanager
def part_that_answers(status: int) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_arguments: Any) -> None:
            """Nothing to say."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield str(server.server_address[1])
        server.shutdown()
        thread.join()


@pytest.mark.parametrize(("status", "answer"), [(200, True), (503, False), (404, False)])
def test_a_container_is_healthy_when_its_part_says_that_it_is_ready(
    status: int, answer: bool
) -> None:
    with part_that_answers(status) as port:
        assert is_ready({**WEB, "PORT": port}) is answer
        assert is_ready({**WORKER, "APP_FILE": "dbworker.py", "HEALTH_PORT": port}) is answer


def test_a_container_in_which_nothing_listens_is_not_healthy() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        assert not is_ready({**WEB, "PORT": str(unused.getsockname()[1])})


def test_a_worker_without_a_health_port_counts_as_healthy() -> None:
    assert is_ready({**WORKER, "APP_FILE": "dbworker.py"})
