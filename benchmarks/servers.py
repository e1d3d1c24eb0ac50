"""The servers of a benchmark: a Valkey and a PostgreSQL of its own."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.servers import PostgresServer, ValkeyServer


@contextmanager
def servers(folder: Path) -> Iterator[tuple[ValkeyServer, PostgresServer]]:
    (folder / "valkey").mkdir()
    postgres = PostgresServer()
    try:
        with ValkeyServer(folder / "valkey") as valkey:
            postgres.start()
            yield valkey, postgres
    finally:
        postgres.remove()
