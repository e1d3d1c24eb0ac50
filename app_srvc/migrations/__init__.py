"""The ledger's schema, version by version, and the lock under which it is brought up to date."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sqlalchemy import MetaData, inspect, text
from sqlalchemy.engine import Connection

import app_srvc.inbox.model
import app_srvc.messages.model
import app_srvc.registration.model
import app_srvc.robots.model
import app_srvc.todos.model  # noqa: F401  (each import adds a folder's tables to the metadata)
from app_srvc.database import Base, Database
from app_srvc.errors import SchemaBehindError

METADATA: MetaData = Base.metadata
VERSIONS = Path(__file__).parent / "versions"

# Any number that no other program on the same PostgreSQL uses for its own advisory lock.
ADVISORY_LOCK = 0x6170705F73727663


def prepare_schema(database: Database, *, may_upgrade: bool) -> None:
    """Bring the schema up to date at a process' start or, where another program does that, look at it.

    To look needs no rights but to read.

    Raises:
        SchemaBehindError: The schema is not there yet, or older than this program needs.
    """
    if may_upgrade:
        migrate(database)
        return
    revision = schema_revision(database)
    if not is_current(revision):
        raise SchemaBehindError(revision, head_revision())


def migrate(database: Database) -> None:
    """Bring the schema up to date. Several processes may call this at once: one does the work."""
    if is_current(schema_revision(database)):
        return
    # Alembic takes half a second to import, so it is not imported when there is nothing to do.
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    with (
        database.translated(),
        database.connect_for_writing() as connection,
        _locked(database, connection),
    ):
        config.attributes["connection"] = connection
        command.upgrade(config, "head")


def schema_revision(database: Database) -> str | None:
    """The revision that the database is at; None for one that has no tables of ours."""
    with database.translated(), database.engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return None
        revision: str | None = connection.execute(
            text("SELECT version_num FROM alembic_version")
        ).scalar_one_or_none()
        return revision


def is_current(revision: str | None) -> bool:
    """Whether this program can work with a schema.

    A newer one is good as well: during a rolling update old and new processes work side by side, so
    a migration only ever adds to what the release before it knows.
    """
    return revision is not None and revision >= head_revision()


def head_revision() -> str:
    """The revision that this program needs: the one with the highest number."""
    return max(path.name.partition("_")[0] for path in VERSIONS.glob("[0-9]*_*.py"))


@contextmanager
def _locked(database: Database, connection: Connection) -> Iterator[None]:
    """Wait for the lock, and hold it. The holder's death releases it on both databases."""
    if database.is_sqlite:
        with Path(f"{database.engine.url.database}.migrate-lock").open("w") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
        return
    key = {"key": ADVISORY_LOCK}
    connection.execute(text("SELECT set_config('lock_timeout', '0', false)"))
    connection.execute(text("SELECT set_config('statement_timeout', '0', false)"))
    connection.execute(text("SELECT pg_advisory_lock(:key)"), key)
    connection.commit()
    try:
        yield
    finally:
        connection.rollback()
        connection.execute(text("SELECT pg_advisory_unlock(:key)"), key)
        connection.commit()
