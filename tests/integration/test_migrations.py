"""The schema: what the migrations make is what the models say."""

import threading
from datetime import UTC, datetime

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app_srvc.database import open_database
from app_srvc.errors import LedgerUnavailableError, SchemaBehindError
from app_srvc.messages import store
from app_srvc.messages.accept import Accepted, draft, insert_drafts
from app_srvc.messages.model import LedgerFact
from app_srvc.messages.process import process_message
from app_srvc.migrations import (
    METADATA,
    VERSIONS,
    head_revision,
    is_current,
    migrate,
    prepare_schema,
    schema_revision,
)
from app_srvc.runtime import open_runtime
from tests.support.prototype import execute
from tests.support.servers import ValkeyServer
from tests.support.worlds import open_world, settings_for


def test_the_newest_file_is_the_head_that_alembic_finds() -> None:
    assert ScriptDirectory(str(VERSIONS.parent)).get_heads() == [head_revision()]


def test_the_migrations_make_the_tables_of_the_models(database_url: str) -> None:
    database = open_database(database_url)
    migrate(database)
    with database.engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []
    database.close()


def test_many_processes_may_migrate_at_once(database_url: str) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        database = open_database(database_url)
        try:
            migrate(database)
        except BaseException as error:
            errors.append(error)
        finally:
            database.close()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    database = open_database(database_url)
    assert errors == []
    assert schema_revision(database) == head_revision()
    database.close()


def test_a_schema_is_brought_up_to_date_while_others_write(database_url: str) -> None:
    """As the Job does: the parts of the release before are at work."""
    database = open_database(database_url)
    migrate(database)
    others = open_database(database_url)
    is_over = threading.Event()
    errors: list[BaseException] = []

    def write() -> None:
        number = 0
        while not is_over.is_set():
            number += 1
            try:
                with others.write() as session:
                    session.add(LedgerFact(name=f"fact-{number}", value="x"))
            except BaseException as error:
                errors.append(error)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(20):
            with database.write() as session:
                session.execute(text("DROP TABLE paused_queues"))
                session.execute(text("UPDATE alembic_version SET version_num = '0001'"))
            migrate(database)
            assert schema_revision(database) == head_revision()
    finally:
        is_over.set()
        writer.join(30)
        others.close()
        database.close()
    assert errors == []


def test_a_process_that_only_looks_says_what_it_waits_for(database_url: str) -> None:
    database = open_database(database_url)
    with pytest.raises(SchemaBehindError) as caught:
        prepare_schema(database, may_upgrade=False)
    assert (caught.value.found, caught.value.needed) == (None, head_revision())
    assert schema_revision(database) is None, "and has made nothing"
    prepare_schema(database, may_upgrade=True)
    prepare_schema(database, may_upgrade=False)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
    with pytest.raises(SchemaBehindError, match="at revision 0000"):
        prepare_schema(database, may_upgrade=False)
    database.close()


def test_a_right_that_is_missing_is_an_outage_and_costs_no_message_a_try(
    valkey: ValkeyServer, postgres_ledger_url: str
) -> None:
    world = open_world(valkey.url, postgres_ledger_url)
    note = draft(world.kinds["keep_note"], "QUE_TASKS", {"text": "a note"})
    with world.database.write() as session:
        (accepted,) = insert_drafts(world.database, session, [note], now=datetime.now(UTC))
    assert isinstance(accepted, Accepted)
    execute(
        postgres_ledger_url,
        "CREATE ROLE reader LOGIN; GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
    )
    try:
        url = postgres_ledger_url.replace("postgres@", "reader@")
        reader = open_runtime(settings_for(valkey.url, url), kinds=world.kinds)
        with pytest.raises(LedgerUnavailableError, match="permission denied"):
            process_message(reader, accepted.message_id, worker="w")
        reader.close()
    finally:
        execute(postgres_ledger_url, "DROP OWNED BY reader; DROP ROLE reader")
    with world.database.read() as session:
        row = store.find_message(session, accepted.message_id)
    assert row is not None and (row.state, row.tries) == ("accepted", 0)
    assert process_message(world, accepted.message_id, worker="w").action == "done"
    world.close()


def test_a_newer_schema_is_good_for_an_older_program(database_url: str) -> None:
    """A rolling update: the first new process has migrated, and old ones start and serve on."""
    database = open_database(database_url)
    migrate(database)
    with database.engine.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    migrate(database)
    assert is_current(schema_revision(database))
    assert not is_current(None)
    assert not is_current("0000")
    database.close()
