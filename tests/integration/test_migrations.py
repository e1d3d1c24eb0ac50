"""The schema: what the migrations make is what the models say."""

import threading

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from app_srvc.database import open_database
from app_srvc.migrations import (
    METADATA,
    VERSIONS,
    head_revision,
    is_current,
    migrate,
    schema_revision,
)


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
