"""The ledger's database: engine, sessions, clock, and what differs between SQLite and PostgreSQL.

Transactions are short by rule: none is ever open around a handler, a fetch or a call to Redis.
On SQLite a write transaction takes the write lock at its start (`BEGIN IMMEDIATE`), so it can wait
for its turn but can't fail half-way because somebody else wrote first.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

from sqlalchemy import (
    DateTime,
    Engine,
    String,
    Table,
    create_engine,
    event,
    func,
    insert,
    select,
    text,
)
from sqlalchemy import exc as sa_exc
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Dialect, make_url
from sqlalchemy.orm import DeclarativeBase, Session
from sqlalchemy.pool import ConnectionPoolEntry
from sqlalchemy.types import TypeDecorator

from app_srvc.database_hosts import HostOrder
from app_srvc.errors import LedgerUnavailableError

SQLITE_BUSY_TIMEOUT_S = 10.0
# From about so many rows on, one `COPY` is quicker than as many inserts in a pipeline.
COPY_FROM_ROWS = 20

POOL_SIZE = 5
POOL_OVERFLOW = 15
POOL_WAIT_S = 2.0
# A connection that was not used for so long may be dead: its server has gone, or a firewall forgot it.
ASK_AFTER_S = 0.05
RESTS_SINCE = "app_rests_since"


class UtcDateTime(TypeDecorator[datetime]):
    """An aware time in UTC. A naive one is refused: it means another moment on another host."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        if value.tzinfo is None:
            raise ValueError("a time without a zone cannot be stored")
        value = value.astimezone(UTC)
        return value if dialect.name == "postgresql" else value.replace(tzinfo=None)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


class Base(DeclarativeBase):
    """The tables of every folder meet here."""

    type_annotation_map = {datetime: UtcDateTime(), str: String()}


class Database:
    """One process's link to the ledger.

    Every session comes from `write`, `read` or `snapshot`. Whatever says "the database can't be
    used now" (no connection, time-out, full disk, lock not granted) leaves them as
    `LedgerUnavailableError`, with nothing committed as far as this process knows.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.is_sqlite = engine.dialect.name == "sqlite"
        self._writer = engine.execution_options(app_write=True)
        self._reader = self._snapshots = engine
        if not self.is_sqlite:
            # Each query is a transaction of its own then, which costs no messages of its own.
            self._reader = engine.execution_options(isolation_level="AUTOCOMMIT")
            self._snapshots = engine.execution_options(isolation_level="REPEATABLE READ")

    @contextmanager
    def write(self) -> Iterator[Session]:
        """A transaction that commits when the block ends, and rolls back when it raises."""
        with (
            self.translated(),
            Session(self._writer, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    @contextmanager
    def read(self) -> Iterator[Session]:
        """A session for queries. What they see may differ from one to the next; see `snapshot`."""
        with self.translated(), Session(self._reader, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def snapshot(self) -> Iterator[Session]:
        """A session whose queries all see the same moment."""
        with self.translated(), Session(self._snapshots, expire_on_commit=False) as session:
            yield session

    def connect_for_writing(self) -> Connection:
        """A connection whose transactions take SQLite's write lock at their start, as `write` does."""
        return self._writer.connect()

    def now(self, session: Session) -> datetime:
        """The ledger's clock, so that leases do not depend on how well hosts agree on the time."""
        if self.is_sqlite:
            return datetime.now(UTC)
        moment: datetime = session.execute(select(func.clock_timestamp())).scalar_one()
        return moment.astimezone(UTC)

    def insert_rows(
        self, session: Session, model: type[Base], rows: Sequence[Mapping[str, Any]]
    ) -> None:
        """Insert rows that have the same columns each. Many rows go to PostgreSQL by `COPY`."""
        if not rows:
            return
        table = cast(Table, model.__table__)
        if self.is_sqlite or len(rows) < COPY_FROM_ROWS:
            session.connection().execute(insert(table), rows)
            return
        columns = list(rows[0])
        preparer = self.engine.dialect.identifier_preparer
        names = ", ".join(map(preparer.quote, columns))
        target = preparer.quote(table.name)
        connection = session.connection()
        cursor = connection.connection.cursor()
        try:
            with cursor.copy(f"COPY {target} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row([row[column] for column in columns])
        except self.engine.dialect.loaded_dbapi.OperationalError as error:
            # SQLAlchemy does not know of this way: it would not see that the connection is lost.
            connection.invalidate(error)
            raise LedgerUnavailableError(_short_reason(error)) from error
        cursor.close()

    def insert_ignore(self, table: Any) -> Any:
        """An `INSERT` that leaves out the rows whose unique key is there already."""
        dialect = sqlite if self.is_sqlite else postgresql
        return dialect.insert(table).on_conflict_do_nothing()

    def ping(self) -> None:
        """Raise `LedgerUnavailableError` unless the database answers a query now."""
        with self.read() as session:
            session.execute(text("SELECT 1"))

    def release_after_fork(self) -> None:
        """Forget the parent's connections without closing them; the parent goes on using them."""
        self.engine.dispose(close=False)

    def close(self) -> None:
        self.engine.dispose()

    @contextmanager
    def translated(self) -> Iterator[None]:
        """Turn "the database can't be used now" in any of the driver's words into ours."""
        try:
            yield
        except (sa_exc.OperationalError, sa_exc.InterfaceError, sa_exc.TimeoutError) as error:
            raise LedgerUnavailableError(_short_reason(error)) from error
        except sa_exc.DBAPIError as error:
            if not error.connection_invalidated and not _is_not_prepared(error):
                raise
            raise LedgerUnavailableError(_short_reason(error)) from error


def open_database(
    url: str, *, statement_timeout_s: float = 30.0, pool_size: int = POOL_SIZE
) -> Database:
    """Make the link; nothing is connected yet.

    `statement_timeout_s` bounds every statement on PostgreSQL, and every wait for the write lock on
    SQLite: seconds for a worker, about one for a web process.
    """
    parsed = make_url(url)
    if parsed.get_backend_name() == "sqlite":
        busy_timeout_s = min(SQLITE_BUSY_TIMEOUT_S, statement_timeout_s)
        engine = _sqlite_engine(url, Path(parsed.database or ""), busy_timeout_s, pool_size)
    else:
        engine = _postgresql_engine(url, statement_timeout_s, pool_size)
    return Database(engine)


def _sqlite_engine(url: str, path: Path, busy_timeout_s: float, pool_size: int) -> Engine:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    engine = create_engine(
        url,
        connect_args={"timeout": busy_timeout_s, "check_same_thread": False},
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_S,
    )

    @event.listens_for(engine, "do_connect")
    def make_private(*_: Any) -> None:
        # It holds personal data, whoever makes it first.
        with suppress(OSError):
            path.touch(mode=0o600, exist_ok=True)

    @event.listens_for(engine, "connect")
    def prepare(dbapi_connection: Any, _record: Any) -> None:
        # The driver must not open transactions by itself: the "begin" event below does.
        dbapi_connection.isolation_level = None
        cursor = dbapi_connection.cursor()
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine, "begin")
    def begin(connection: Connection) -> None:
        is_write = connection.get_execution_options().get("app_write", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if is_write else "BEGIN")

    return engine


def _postgresql_engine(url: str, statement_timeout_s: float, pool_size: int) -> Engine:
    # tcp_user_timeout ends a connection whose peer went away without a word; the statement
    # time-out ends one whose server is there but does not get on.
    milliseconds = int(statement_timeout_s * 1000)
    engine = create_engine(
        url,
        connect_args={
            "connect_timeout": 2,
            "keepalives_idle": 5,
            "keepalives_interval": 2,
            "keepalives_count": 3,
            "tcp_user_timeout": max(2000, milliseconds),
            "options": " ".join(
                f"-c {name}={value}"
                for name, value in (
                    ("statement_timeout", milliseconds),
                    ("lock_timeout", milliseconds),
                    ("timezone", "UTC"),
                )
            ),
        },
        hide_parameters=True,
        pool_size=pool_size,
        max_overflow=POOL_OVERFLOW,
        pool_timeout=POOL_WAIT_S,
    )
    HostOrder().attach(engine)
    _ask_after_a_rest(engine)
    return engine


def _ask_after_a_rest(engine: Engine) -> None:
    """Ask a connection that rested whether it still lives; one that was at work a moment ago does."""

    @event.listens_for(engine, "checkin")
    def note(_: Any, record: ConnectionPoolEntry) -> None:
        record.info[RESTS_SINCE] = time.monotonic()

    @event.listens_for(engine, "checkout")
    def ask(dbapi_connection: Any, record: ConnectionPoolEntry, _: Any) -> None:
        rests_since = record.info.get(RESTS_SINCE)
        if rests_since is None or time.monotonic() - rests_since < ASK_AFTER_S:
            return
        try:
            engine.dialect.do_ping(dbapi_connection)
        except engine.dialect.loaded_dbapi.Error as error:
            if not engine.dialect.is_disconnect(error, dbapi_connection, None):
                # A deadline has interrupted it, say: to connect anew would take more time.
                raise
            # The pool then takes a new one, and trusts none of the others.
            raise sa_exc.InvalidatePoolError from error


def _is_not_prepared(error: sa_exc.DBAPIError) -> bool:
    """Whether a table, a column or a right is not there yet.

    A process that starts, or `app-srvc db upgrade`, brings the schema up to date, and whoever runs
    PostgreSQL grants the rights: what is asked meanwhile is not to blame.
    """
    return getattr(error.orig, "sqlstate", None) in ("42P01", "42703", "42501")


def _short_reason(error: Exception) -> str:
    """The driver's first line: it names hosts and causes, never values (`hide_parameters`)."""
    original = getattr(error, "orig", None) or error
    first_line = (str(original).strip().splitlines() or [type(original).__name__])[0]
    return f"The database cannot be used now: {first_line}"
