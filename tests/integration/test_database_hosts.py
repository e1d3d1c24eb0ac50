"""Several hosts of PostgreSQL, of which the first takes connections and never says a word."""

from collections.abc import Iterator

import pytest

from app_srvc.database import Database, open_database
from app_srvc.settings_values import sqlalchemy_url
from tests.support.deadline import TooLateError, deadline
from tests.support.network import SilentServer
from tests.support.servers import PostgresServer


@pytest.fixture
def silent() -> Iterator[SilentServer]:
    with SilentServer() as server:
        yield server


@pytest.fixture
def database(postgres: PostgresServer, silent: SilentServer) -> Iterator[Database]:
    hosts = f"127.0.0.1:{silent.port},127.0.0.1:{postgres.port}"
    opened = open_database(sqlalchemy_url(postgres.tcp_url(hosts=hosts)))
    yield opened
    opened.close()


def test_the_host_that_answered_is_asked_first_from_then_on(
    database: Database, silent: SilentServer
) -> None:
    for _ in range(3):
        database.ping()
        database.engine.dispose()
    assert len(silent.connections) == 1


def test_after_a_deadline_the_next_host_is_asked_first(
    database: Database, silent: SilentServer
) -> None:
    with pytest.raises(TooLateError), deadline(0.5):
        database.ping()
    database.ping()
    assert len(silent.connections) == 1


def test_with_every_host_away_the_order_goes_round(
    postgres: PostgresServer, database: Database, silent: SilentServer
) -> None:
    postgres.stop()
    for _ in range(2):
        with pytest.raises(Exception, match="cannot be used now"):
            database.ping()
    postgres.start()
    database.ping()
