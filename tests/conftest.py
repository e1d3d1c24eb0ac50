"""The servers that tests ask for by name. Each pytest-xdist worker has its own."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from app_srvc.database import open_database
from app_srvc.migrations import migrate
from tests.support.servers import PostgresServer, ValkeyServer

# How long an example takes says something about the machine, and nothing about the code.
settings.register_profile("untimed", deadline=None)
settings.load_profile("untimed")


@pytest.fixture(scope="session")
def valkey_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    with ValkeyServer(tmp_path_factory.mktemp("valkey")) as server:
        yield server


@pytest.fixture
def valkey(valkey_server: ValkeyServer) -> Iterator[ValkeyServer]:
    """An empty Valkey, which the test may also stop, kill, pause and start."""
    valkey_server.restore()
    valkey_server.client.flushall()
    yield valkey_server
    valkey_server.restore()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    server = PostgresServer()
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture
def postgres(postgres_server: PostgresServer) -> Iterator[PostgresServer]:
    """A PostgreSQL that the test may also stop, kill, pause and start."""
    postgres_server.restore()
    yield postgres_server
    postgres_server.restore()


@pytest.fixture
def postgres_url(postgres: PostgresServer) -> Iterator[str]:
    """The address of an empty PostgreSQL database of this test's own."""
    name = postgres.new_database()
    yield postgres.url(name)
    postgres.restore()
    postgres.drop_database(name)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    """The address of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A ledger without messages, made once and copied for each test."""
    path = tmp_path_factory.mktemp("template") / "ledger.db"
    _bring_up_to_date(f"sqlite:///{path}")
    return path


@pytest.fixture(scope="session")
def postgres_template(postgres_server: PostgresServer) -> str:
    name = postgres_server.new_database()
    _bring_up_to_date(postgres_server.url(name))
    return name


@pytest.fixture
def sqlite_ledger_url(sqlite_template: Path, tmp_path: Path) -> str:
    """The address of a ledger without messages, on SQLite."""
    shutil.copy(sqlite_template, tmp_path / "ledger.db")
    return f"sqlite:///{tmp_path / 'ledger.db'}"


@pytest.fixture
def postgres_ledger_url(postgres: PostgresServer, postgres_template: str) -> Iterator[str]:
    """The address of a ledger without messages, on PostgreSQL."""
    name = postgres.new_database(postgres_template)
    yield postgres.url(name)
    postgres.restore()
    postgres.drop_database(name)


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest) -> str:
    """The address of a ledger without messages: the test runs on each kind of database."""
    fixture = "sqlite_ledger_url" if request.param == "sqlite" else "postgres_ledger_url"
    url: str = request.getfixturevalue(fixture)
    return url


def _bring_up_to_date(url: str) -> None:
    database = open_database(url)
    migrate(database)
    database.close()


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest) -> str:
    """The address of an empty database: the test runs on each kind."""
    fixture = "sqlite_url" if request.param == "sqlite" else "postgres_url"
    url: str = request.getfixturevalue(fixture)
    return url


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--kills", type=int, default=3, help="How often a test that kills a process does so."
    )
    parser.addoption(
        "--seed", type=int, help="Of the random points of faults; a test prints the one it drew."
    )
