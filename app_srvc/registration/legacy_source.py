"""The prototype's table of users, `test.rusrs`, read as it is: nothing is ever written there.

Its columns are `iduser` (a serial key), `firstname`, `lastname`, `login`, `email`, `phone`, `status`
and six of dates and times, of which `idt` and `itm` say when a row was made, and `dtopen` from when it
counts. Nothing is unique but the key, and every other column may be empty.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, tzinfo

from sqlalchemy import String, cast, column, func, inspect, select, table
from sqlalchemy import exc as sa_exc

from app_srvc.database import open_database
from app_srvc.errors import AppError, LedgerUnavailableError

SCHEMA, TABLE = "test", "rusrs"
NAME = f"{SCHEMA}.{TABLE}"
TEXTS = ("firstname", "lastname", "login", "email", "phone", "status")
COLUMNS = ("iduser", *TEXTS, "dtopen", "idt", "itm")
STATEMENT_TIMEOUT_S = 30.0

ROWS = table(TABLE, *(column(name) for name in COLUMNS), schema=SCHEMA)
# As text: PostgreSQL has dates that Python has not (BC, infinity), and the time 24:00.
DAY = func.to_char(func.coalesce(ROWS.c.idt, ROWS.c.dtopen), "YYYY-MM-DD AD").label("day")
CLOCK = cast(ROWS.c.itm, String).label("clock")


class LegacySourceError(AppError):
    """The prototype's table of users cannot be read."""


@dataclass(frozen=True, slots=True)
class LegacyRow:
    """One row. `made_at` is None where no date that can be read says when it was made."""

    iduser: int
    firstname: str | None
    lastname: str | None
    login: str | None
    email: str | None
    phone: str | None
    status: str | None
    made_at: datetime | None


class LegacySource:
    """Reads the rows in the order of their key, a page at a time; a page is all that is ever kept.

    `zone` is where the prototype's clock was: its dates and times do not say.
    """

    def __init__(self, url: str, *, zone: tzinfo = UTC) -> None:
        self._database = open_database(url, statement_timeout_s=STATEMENT_TIMEOUT_S, pool_size=1)
        self._zone = zone

    def check(self) -> None:
        """Find out before anything is imported.

        Raises:
            LegacySourceError: The table is not there, lacks a column, or may not be read.
        """
        if self._database.is_sqlite:
            raise LegacySourceError(
                f"Table {NAME} is in PostgreSQL, and the ledger is not. Set LEGACY_DATABASE_URL to "
                "the database that the prototype writes to."
            )
        with _readable():
            inspector = inspect(self._database.engine)
            if not inspector.has_table(TABLE, schema=SCHEMA):
                raise LegacySourceError(
                    f"There is no table {NAME} in the database. Set LEGACY_DATABASE_URL to the one "
                    "that the prototype writes to."
                )
            found = {one["name"] for one in inspector.get_columns(TABLE, schema=SCHEMA)}
            missing = [name for name in COLUMNS if name not in found]
            if missing:
                raise LegacySourceError(f"Table {NAME} has no column {', '.join(missing)}.")
            self._page(None, 1)

    def pages(self, size: int) -> Iterator[Sequence[LegacyRow]]:
        """All rows.

        Raises:
            LegacySourceError: The table can no longer be read.
        """
        after: int | None = None
        while True:
            with _readable():
                page = self._page(after, size)
            if not page:
                return
            after = page[-1].iduser
            yield page

    def close(self) -> None:
        self._database.close()

    def _page(self, after: int | None, size: int) -> list[LegacyRow]:
        texts = (ROWS.c[name] for name in TEXTS)
        query = select(ROWS.c.iduser, *texts, DAY, CLOCK).order_by(ROWS.c.iduser).limit(size)
        if after is not None:
            query = query.where(ROWS.c.iduser > after)
        with self._database.snapshot() as session:
            session.connection(execution_options={"postgresql_readonly": True})
            rows = session.execute(query).all()
        return [
            LegacyRow(
                **{name: getattr(row, name) for name in ("iduser", *TEXTS)},
                made_at=_moment(row.day, row.clock, self._zone),
            )
            for row in rows
        ]


@contextmanager
def _readable() -> Iterator[None]:
    """Turn what the driver says into an error about the prototype's table, without values."""
    try:
        yield
    except LedgerUnavailableError as error:
        raise LegacySourceError(f"Table {NAME} cannot be read. {error.message}") from error
    except sa_exc.SQLAlchemyError as error:
        cause = getattr(error, "orig", None) or error
        first_line = (str(cause).strip().splitlines() or [type(cause).__name__])[0]
        raise LegacySourceError(f"Table {NAME} cannot be read: {first_line}") from error


def _moment(day: str | None, clock: str | None, zone: tzinfo) -> datetime | None:
    """When a row was made; a day without a time counts from its beginning."""
    try:
        at = datetime.combine(
            date.fromisoformat((day or "").removesuffix(" AD")), _clock(clock), zone
        )
        return at.astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _clock(text: str | None) -> time:
    try:
        return time.fromisoformat(text or "")
    except ValueError:
        return time()
