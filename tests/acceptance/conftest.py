"""What tests of the whole service share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.rq_stage import Monitors, Stage
from tests.support.rq_tools import install_tools
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import Parts, Service


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture(scope="module")
def shared_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    """`app-srvc up` for tests that leave it as healthy as they found it."""
    with Service(tmp_path_factory.mktemp("shared")) as running:
        yield running


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """`app-srvc up`, running and healthy."""
    with Service(tmp_path) as running:
        yield running


@pytest.fixture
def parts(
    tmp_path: Path, valkey: ValkeyServer, postgres: PostgresServer, postgres_ledger_url: str
) -> Iterator[Parts]:
    """The parts as a cluster runs them, on a Valkey and a PostgreSQL that the test may break."""
    with Parts(tmp_path, valkey.url, postgres_ledger_url) as running:
        yield running
        postgres.restore()
        valkey.restore()


@pytest.fixture(scope="session")
def monitors(
    valkey_server: ValkeyServer, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Monitors]:
    """rq-dashboard and rq-exporter, which only look at the Redis of the tests."""
    install_tools()
    with Monitors(valkey_server, tmp_path_factory.mktemp("monitors")) as running:
        yield running


@pytest.fixture
def stage(valkey: ValkeyServer, monitors: Monitors, tmp_path: Path) -> Iterator[Stage]:
    """An empty Redis, and RQ's tools that look at it."""
    with Stage(valkey, tmp_path, monitors) as ready:
        yield ready
