"""A PostgreSQL with a standby that is told of every commit before its client is."""

import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import psycopg

from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

STANDBY = "standby"


class Standby(PostgresServer):
    """A copy of another PostgreSQL, which follows it until it is promoted."""

    name = "PostgreSQL standby"

    def __init__(self, primary: PostgresServer) -> None:
        super().__init__()
        self._primary = primary
        self.password = primary.password

    def promote(self) -> None:
        """Make it take writes; returns when it does."""
        with self._connect() as connection:
            connection.execute("SELECT pg_promote(true, 30)")

    def is_read_only(self) -> bool:
        with self._connect() as connection:
            row = connection.execute("SELECT pg_is_in_recovery()").fetchone()
        return row is not None and bool(row[0])

    def _initialise(self, programs: Path, data: Path) -> None:
        place = f"host={self._primary.folder} port={self._primary.port} user={self.user}"
        subprocess.run(
            [
                str(programs / "pg_basebackup"),
                f"--pgdata={data}",
                f"--dbname={place} application_name={STANDBY}",
                *("--write-recovery-conf", "--checkpoint=fast", "--no-sync"),
            ],
            check=True,
            capture_output=True,
            cwd=self.folder,
            user=self._run_as,
        )

    def _programs(self) -> Path:
        return self._primary._programs()


class PostgresPair:
    """A primary and its synchronous standby, both real."""

    def __init__(self) -> None:
        self.primary = PostgresServer()
        self.standby = Standby(self.primary)
        self._stack = ExitStack()

    def url(self, database: str) -> str:
        """Both hosts, and that the one is wanted that takes writes."""
        hosts = f"127.0.0.1:{self.primary.port},127.0.0.1:{self.standby.port}"
        url = self.primary.tcp_url(database, hosts=hosts)
        return f"{url}?target_session_attrs=read-write"

    def __enter__(self) -> Self:
        for server in (self.primary, self.standby):
            self._stack.callback(server.remove)
            server.start()
        # Of the primary only: the standby, once it is promoted, waits for nobody.
        for command in (
            f"ALTER SYSTEM SET synchronous_standby_names = '{STANDBY}'",
            "SELECT pg_reload_conf()",
        ):
            self._ask(command)
        synced = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        wait_until(lambda: self._ask(synced) == 1, 30, what="the standby is synchronous")
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _ask(self, command: str) -> object:
        with psycopg.connect(
            host=str(self.primary.folder),
            port=self.primary.port,
            user=self.primary.user,
            dbname="postgres",
            autocommit=True,
        ) as connection:
            cursor = connection.execute(command)
            row = cursor.fetchone() if cursor.description else None
        return row[0] if row else None
