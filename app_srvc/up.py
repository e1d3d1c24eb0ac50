"""`app-srvc up`: the whole service on this machine, with nothing installed.

Everything is started in order, watched, and stopped in order: an embedded Valkey, unless a Redis is
set; a pool of workers for each queue, of which the first brings the ledger's schema up to date; the
web part. This process only watches, so it imports little, and the others start soon.
"""

import fcntl
import http.client
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

from app_srvc.container import choose_start
from app_srvc.embedded import EmbeddedValkey
from app_srvc.errors import DataDirInUseError, PortInUseError
from app_srvc.logs import configure_logs, get_logger
from app_srvc.settings import Settings, environment
from app_srvc.settings_values import DEMO_SOURCE, bracketed
from app_srvc.supervisor import ChildSpec, Supervisor
from app_srvc.terminal import LinePrinter, show_greeting

WEB = "web"
TURN_S = 0.25
PROBE_TIMEOUT_S = 1.0
PROBE_EVERY_S = 0.1
START_TIMEOUT_S = 60.0
WEB_GRACE_S = 6.0
WORKER_GRACE_S = 8.0
LOOPBACK = "127.0.0.1"
ANY_HOST = {"0.0.0.0": LOOPBACK, "::": "::1"}  # noqa: S104  # where to ask, not a binding

# The four pools: what the person sees, and the settings that name the queue and its size.
POOLS = (
    ("usrreg", "rdsq_usrreg", "usrreg_processes"),
    ("robot", "rdsq_robot", "robot_processes"),
    ("todo", "rdsq_outmsg", "todo_processes"),
    ("tasks", "rdsq_tasks", "task_processes"),
)

# On Linux the kernel tells a program that its parent was killed; ours learn it by their standard
# input, but gunicorn does not look there.
END_WITH_PARENT = (
    "import ctypes, os, sys\nctypes.CDLL(None).prctl(1, 15)\nos.execv(sys.argv[1], sys.argv[1:])\n"
)

log = get_logger(__name__)


def run_up(port: int | None = None, data_dir: Path | None = None) -> int:
    """Run everything until told to stop. The exit status.

    Raises:
        ConfigurationError, DataDirInUseError, PortInUseError, EmbeddedServerError
    """
    variables = environment()
    if port is not None:
        variables["PORT"] = str(port or free_port())
    if data_dir is not None:
        variables["DATA_DIR"] = str(data_dir)
    settings = Settings.from_env(variables, part="web")
    configure_logs(settings)
    with owned_folder(settings.data_dir):
        check_port(settings.host, settings.port)
        return Up(settings, variables).run()


class Up:
    """One run of the whole service."""

    def __init__(self, settings: Settings, variables: Mapping[str, str]) -> None:
        self._settings = settings
        self._variables = variables
        self._valkey = EmbeddedValkey(settings.data_dir) if settings.uses_embedded_redis else None
        self._stops = 0

    def run(self) -> int:
        """Start, keep running, stop in order."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._request_stop)
        try:
            if self._valkey is not None:
                self._valkey.start()
            if not self._stops:
                self._keep_children_running()
        finally:
            if self._valkey is not None:
                self._valkey.stop()
        return 0

    # --- steps ------------------------------------------------------------------------------------

    def _keep_children_running(self) -> None:
        specs = child_specs(self._settings, self._child_variables())
        supervisor = Supervisor(specs, write_line=LinePrinter([spec.name for spec in specs]))
        try:
            supervisor.start()
            self._wait_until_healthy(supervisor)
            while not self._stops:
                supervisor.turn(TURN_S)
                self._revive_valkey()
        finally:
            # First nothing new comes in, then what is in hand is finished, then Valkey saves its data.
            supervisor.stop([WEB], at_once=lambda: self._stops > 1)
            supervisor.stop(at_once=lambda: self._stops > 1)

    def _wait_until_healthy(self, supervisor: Supervisor) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._stops:
            supervisor.turn(PROBE_EVERY_S)
            self._revive_valkey()
            if supervisor.are_ready():
                show_greeting(base_url(self._settings), self._settings.data_dir)
                return
            if time.monotonic() > deadline:
                log.warning("up_not_healthy_yet", waited_s=START_TIMEOUT_S)
                return

    def _revive_valkey(self) -> None:
        if self._valkey is not None and self._valkey.has_died:
            log.warning("embedded_valkey_died")
            self._valkey.start()

    def _child_variables(self) -> dict[str, str]:
        """What every child finds in its environment; secrets go this way, never by arguments."""
        settings = self._settings
        variables = {
            **self._variables,
            "HOST": settings.host,
            "PORT": str(settings.port),
            "DATA_DIR": str(settings.data_dir),
        }
        variables.pop("APP_FILE", None)
        if self._valkey is not None:
            variables["REDIS_URL"] = self._valkey.url
        if settings.secret_key is None:
            variables["SECRET_KEY"] = kept_secret(settings.data_dir / "secret-key")
        if settings.source_url is None:
            variables["SOURCE_URL"] = DEMO_SOURCE
        if settings.log_format == "auto":
            variables["LOG_FORMAT"] = "console"
        if sys.platform == "darwin":
            # Without it macOS ends a forked child that touches its frameworks, as a DNS look-up does.
            variables["OBJC_DISABLE_INITIALIZE_FORK_SAFETY"] = "YES"
        return variables

    def _request_stop(self, signum: int, frame: FrameType | None) -> None:
        self._stops += 1


# --- what is started ------------------------------------------------------------------------------


def child_specs(settings: Settings, variables: Mapping[str, str]) -> list[ChildSpec]:
    """The pools, and then the web part, which is of use once they are there."""
    return [*_pool_specs(settings, variables), _web_spec(settings, variables)]


def _pool_specs(settings: Settings, variables: Mapping[str, str]) -> Iterator[ChildSpec]:
    for name, queue, processes in POOLS:
        health_port = free_port()
        yield ChildSpec(
            name=name,
            argv=(sys.executable, "-m", "app_srvc.workers", queue, processes),
            # Probes of workers are for this machine, whatever the web part is bound to.
            env={**variables, "HOST": LOOPBACK, "HEALTH_PORT": str(health_port)},
            ready=ready_check(LOOPBACK, health_port),
            stop_grace_s=WORKER_GRACE_S,
        )


def _web_spec(settings: Settings, variables: Mapping[str, str]) -> ChildSpec:
    start = choose_start(variables, Path.cwd())
    arguments = start.variables.get("GUNICORN_CMD_ARGS", "")
    return ChildSpec(
        name=WEB,
        argv=tied_to_parent(tuple(start.arguments)),
        # In front, so that an operator's own wins.
        env={**start.variables, "GUNICORN_CMD_ARGS": f"--graceful-timeout=4 {arguments}"},
        ready=ready_check(ANY_HOST.get(settings.host, settings.host), settings.port),
        stop_grace_s=WEB_GRACE_S,
    )


def tied_to_parent(argv: tuple[str, ...]) -> tuple[str, ...]:
    """The same program, but one that the kernel ends when its parent is killed, where it can."""
    if sys.platform != "linux":
        return argv
    return (sys.executable, "-S", "-E", "-c", END_WITH_PARENT, *argv)


def ready_check(host: str, port: int) -> Callable[[], bool]:
    """Asks a part whether it is ready, until it has said so once."""
    has_been_ready = False

    def is_ready() -> bool:
        nonlocal has_been_ready
        has_been_ready = has_been_ready or _says_ready(host, port)
        return has_been_ready

    return is_ready


def _says_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT_S)
    try:
        connection.request("GET", "/health/ready")
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def base_url(settings: Settings) -> str:
    host = bracketed(ANY_HOST.get(settings.host, settings.host))
    return f"http://{host}:{settings.port}"


# --- folder, port, secret -------------------------------------------------------------------------


@contextmanager
def owned_folder(data_dir: Path) -> Iterator[None]:
    """Hold the data folder for this process; its death gives it free, however it dies.

    Raises:
        DataDirInUseError: Another process holds it, or it cannot be made or written to.
    """
    # What is kept there is nobody else's business on this machine: people's names and addresses.
    os.umask(0o077)
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "up.lock").open("a+")
    except OSError as error:
        raise DataDirInUseError(
            f"The data folder {data_dir} cannot be used: {error.strerror}. "
            "Choose another one with --data-dir (DATA_DIR=… for make)."
        ) from None
    with lock as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            pid = handle.read().strip() or "unknown"
            raise DataDirInUseError(
                f"app-srvc already runs on the data folder {data_dir} (process {pid}). "
                "Stop it, or choose another folder with --data-dir (DATA_DIR=… for make)."
            ) from None
        handle.truncate(0)
        handle.write(f"{os.getpid()}\n")
        handle.flush()
        yield


def check_port(host: str, port: int) -> None:
    """Find out before anything is started.

    Raises:
        PortInUseError: Another program listens there.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUseError(
                f"Port {port} of {host} cannot be used: {error.strerror}. "
                "Choose another one with --port (PORT=… for make)."
            ) from error


def free_port() -> int:
    """A port of the loopback address that nobody uses now."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def kept_secret(path: Path) -> str:
    """The secret in a file that only its owner may read; a random one is made if there is none."""
    with suppress(FileExistsError):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w") as handle:
            handle.write(secrets.token_hex(32))
    return path.read_text().strip()
