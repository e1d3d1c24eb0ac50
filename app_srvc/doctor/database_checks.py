"""Is the database there, does it keep what it is given, and is its schema the one that is needed?"""

from collections.abc import Iterator
from pathlib import Path

from sqlalchemy import text
from sqlalchemy.engine import make_url

from app_srvc.database import Database, open_database
from app_srvc.doctor.check import Check, is_sqlite, place_of
from app_srvc.errors import AppError
from app_srvc.migrations import head_revision, is_current, schema_revision
from app_srvc.settings import Settings

STATEMENT_TIMEOUT_S = 5.0


def check_database(settings: Settings) -> Iterator[Check]:
    url = settings.effective_database_url.get_secret_value()
    if is_sqlite(settings) and not Path(make_url(url).database or "").exists():
        # Opening it would make an empty one.
        yield Check("database", True, f"{place_of(url)}: not there yet", "It is made at the start.")
        return
    database = open_database(url, statement_timeout_s=STATEMENT_TIMEOUT_S)
    try:
        yield Check("database", True, f"{_server_version(database)} at {place_of(url)}")
        if not database.is_sqlite:
            yield _durability(database)
        yield _schema(database)
    except AppError as error:
        yield Check("database", False, f"{place_of(url)}: {error.message}", _database_remedy(error))
    finally:
        database.close()


def _server_version(database: Database) -> str:
    query = "SELECT sqlite_version()" if database.is_sqlite else "SHOW server_version"
    with database.read() as session:
        version = session.execute(text(query)).scalar_one()
    return f"{'SQLite' if database.is_sqlite else 'PostgreSQL'} {version}"


def _durability(database: Database) -> Check:
    with database.read() as session:
        off = [
            name
            for name in ("fsync", "synchronous_commit", "full_page_writes")
            if session.execute(text(f"SHOW {name}")).scalar_one() == "off"
        ]
    return Check(
        "database durability",
        not off,
        f"{', '.join(off)} off" if off else "a commit is on disk before it is answered",
        f"Turn {' and '.join(off)} on: a power cut loses messages that were accepted."
        if off
        else "",
    )


def _schema(database: Database) -> Check:
    found, needed = schema_revision(database), head_revision()
    is_good = is_current(found)
    return Check(
        "database schema",
        is_good,
        f"at revision {found or 'none'}" + ("" if is_good else f", {needed} is needed"),
        ""
        if is_good
        else "Run `app-srvc db upgrade`, or start the service, which does the same unless "
        "DB_UPGRADE_AT_START is false.",
    )


def _database_remedy(error: AppError) -> str:
    words = error.message.lower()
    if "certificate" in words:
        return (
            "Name the authority's file with sslrootcert in DATABASE_URL, and the host as the "
            "certificate has it; one that has expired must be made anew. If the server asks for a "
            "certificate of its clients, name it with sslcert and sslkey."
        )
    if "ssl" in words:
        return "Turn TLS on in PostgreSQL, or check sslmode in DATABASE_URL and that the port is right."
    if "read-only" in words:
        return (
            "Name a host in DATABASE_URL that takes writes, or promote the standby. With several hosts "
            "and target_session_attrs=read-write the one that takes them is found."
        )
    if "authentication" in words or "password" in words or "role" in words:
        return "Check the user and password in PG_USER and PG_PSW, or in DATABASE_URL."
    if "does not exist" in words:
        return "Make the database, or check PG_DB or DATABASE_URL."
    if "locked" in words or "disk" in words or "open database file" in words:
        return "Look at who else uses the file, and at its disk and permissions."
    return (
        "Start PostgreSQL, or check PG_HOST, PG_PORT or DATABASE_URL, and that no firewall or "
        "network policy is between. Until it is back, new messages are refused with 503."
    )
