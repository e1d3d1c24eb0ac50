"""The pool of connections to a PostgreSQL that ends them behind its back."""

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Barrier

import psycopg
import pytest
from sqlalchemy import text

from app_srvc.database import ASK_AFTER_S, COPY_FROM_ROWS, Database, open_database
from app_srvc.errors import LedgerUnavailableError
from app_srvc.messages.model import LedgerFact
from tests.support.servers import PostgresServer


@pytest.fixture
def database(postgres_ledger_url: str) -> Iterator[Database]:
    opened = open_database(postgres_ledger_url)
    yield opened
    opened.close()


def backend(database: Database) -> int:
    with database.read() as session:
        number: int = session.execute(text("SELECT pg_backend_pid()")).scalar_one()
        return number


def open_two(database: Database) -> None:
    """Two connections in the pool, both at rest."""
    both = Barrier(2)

    def use(_: int) -> None:
        with database.read() as session:
            session.execute(text("SELECT 1"))
            both.wait(10)

    with ThreadPoolExecutor(2) as threads:
        list(threads.map(use, range(2)))


def end_all_others(postgres: PostgresServer, postgres_ledger_url: str) -> None:
    with psycopg.connect(
        postgres_ledger_url.replace("+psycopg", ""), autocommit=True
    ) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )


def test_connections_that_died_while_they_rested_are_replaced(
    database: Database, postgres: PostgresServer, postgres_ledger_url: str
) -> None:
    open_two(database)
    end_all_others(postgres, postgres_ledger_url)
    time.sleep(ASK_AFTER_S)
    open_two(database)
    with database.write() as session:
        session.execute(text("CREATE TABLE proof (id integer)"))
    with database.snapshot() as session:
        assert session.execute(text("SELECT count(*) FROM proof")).scalar_one() == 0


def test_one_that_dies_between_two_uses_costs_one_of_them(
    database: Database, postgres: PostgresServer, postgres_ledger_url: str
) -> None:
    open_two(database)
    end_all_others(postgres, postgres_ledger_url)
    with suppress(LedgerUnavailableError):
        backend(database)
    open_two(database)


def test_what_is_read_is_rolled_back_by_nobody_and_holds_nothing(database: Database) -> None:
    """A read leaves no transaction open, in which PostgreSQL would keep old rows for it."""
    with database.read() as session:
        session.execute(text("SELECT 1"))
        other = backend(database)
        with database.read() as watcher:
            states = watcher.execute(
                text(
                    "SELECT state FROM pg_stat_activity WHERE pid NOT IN (:own, pg_backend_pid())"
                    " AND datname = current_database()"
                ),
                {"own": other},
            ).scalars()
            assert "idle in transaction" not in set(states)


def test_a_server_that_goes_away_before_a_copy_is_an_outage(
    database: Database, postgres: PostgresServer
) -> None:
    rows = [{"name": f"fact{number}", "value": ""} for number in range(COPY_FROM_ROWS)]
    with pytest.raises(LedgerUnavailableError), database.write() as session:
        session.execute(text("SELECT 1"))
        postgres.stop()
        database.insert_rows(session, LedgerFact, rows)
    postgres.start()
    with database.write() as session:
        database.insert_rows(session, LedgerFact, rows)
    with database.read() as session:
        count = session.execute(text("SELECT count(*) FROM ledger_facts")).scalar_one()
    assert count >= COPY_FROM_ROWS
