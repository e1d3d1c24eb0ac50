"""`app-srvc db`: the schema, and the users of the prototype."""

import json
import sys
import time
from contextlib import ExitStack
from datetime import tzinfo
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import click

from app_srvc.cli_runtime import cli_runtime
from app_srvc.database import Database
from app_srvc.errors import LedgerUnavailableError, SchemaBehindError
from app_srvc.kinds import load
from app_srvc.migrations import head_revision, migrate, prepare_schema, schema_revision

# By path: services are known by the table of kinds and the app only.
LEGACY_IMPORT = "app_srvc.registration.legacy_import:LegacyImport"
LEGACY_OPTIONS = "app_srvc.registration.legacy_import:Options"

RETRY_S = 1.0
# Rows were left out that a person should look at.
EXIT_WITH_FINDINGS = 3


@click.group()
def db() -> None:
    """Look after the database."""


@db.command("upgrade")
@click.option(
    "--wait",
    "wait_s",
    type=click.FloatRange(0, 3600),
    default=60,
    show_default=True,
    help="Seconds to wait for a database that does not answer yet.",
)
def upgrade(wait_s: float) -> None:
    """Bring the schema up to date. Run it once for a release, before the parts are renewed.

    The parts do the same at their start, unless DB_UPGRADE_AT_START is false.
    """
    with cli_runtime(may_make_ledger=True) as runtime:
        before = _await_database(runtime.database, wait_s)
        migrate(runtime.database)
        after = schema_revision(runtime.database)
    click.echo(
        f"at revision {after}, newest is {head_revision()}"
        + ("" if after == before else f" (was {before or 'none'})")
    )


@db.command("migrate", hidden=True)
@click.pass_context
def migrate_as_before(context: click.Context) -> None:
    """Another name of `upgrade`."""
    context.invoke(upgrade, wait_s=0)


@db.command("import-legacy")
@click.option("--dry-run", is_flag=True, help="Say what would be done, and write nothing.")
@click.option(
    "--phone-region",
    metavar="COUNTRY",
    callback=lambda _context, _option, value: _region(value),
    help="Two letters, such as UA: the country of phone numbers that were written without one. "
    "Without it such rows are refused.",
)
@click.option(
    "--timezone",
    "zone",
    default="UTC",
    show_default=True,
    callback=lambda _context, _option, value: _zone(value),
    help="Where the prototype's clock was, such as Europe/Kyiv.",
)
@click.option(
    "--findings",
    "findings_file",
    type=click.Path(dir_okay=False, writable=True, path_type=Path),
    help="Write the rows that need a look to this file, a JSON object a line, not to the terminal.",
)
def import_legacy(
    dry_run: bool, phone_region: str | None, zone: tzinfo, findings_file: Path | None
) -> None:
    """Bring in the users of the prototype's table test.rusrs.

    The table is looked for in the service's own database, or where LEGACY_DATABASE_URL says; it is
    only read. A row comes in once, however often this runs. Exit status 3 says that rows were left
    out; each is named by its iduser, with the reason.
    """
    options = load(LEGACY_OPTIONS)(zone=zone, phone_region=phone_region, is_dry_run=dry_run)
    with cli_runtime() as runtime, ExitStack() as files:
        try:
            prepare_schema(runtime.database, may_upgrade=False)
        except SchemaBehindError as error:
            raise click.ClickException(
                f"The schema is at revision {error.found or 'none'}, and {error.needed} is needed: "
                "run `app-srvc db upgrade` first."
            ) from None
        file = files.enter_context(findings_file.open("w")) if findings_file else None

        def tell(finding: Any) -> None:
            if file is None:
                click.echo(_words(finding))
            else:
                file.write(json.dumps(_fields(finding)) + "\n")

        run = load(LEGACY_IMPORT)(runtime, options, tell)
        try:
            run.run()
        finally:
            _show_counts(run.counts, dry_run)
    sys.exit(EXIT_WITH_FINDINGS if run.counts.refused or run.counts.changed else 0)


def _await_database(database: Database, wait_s: float) -> str | None:
    """The revision that the database is at, once it answers.

    Raises:
        LedgerUnavailableError: It did not, for so long.
    """
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return schema_revision(database)
        except LedgerUnavailableError:
            if time.monotonic() + RETRY_S > deadline:
                raise
            time.sleep(RETRY_S)


def _region(value: str | None) -> str | None:
    if value is None:
        return None
    # It knows every country's numbers and takes its time to load, so only this command pays for it.
    from phonenumbers import SUPPORTED_REGIONS

    if value.upper() in SUPPORTED_REGIONS:
        return value.upper()
    raise click.BadParameter("two letters that name a country, such as UA")


def _zone(value: str) -> tzinfo:
    try:
        return ZoneInfo(value)
    except (ValueError, KeyError, OSError):
        raise click.BadParameter("the name of a time zone, such as Europe/Kyiv") from None


def _words(finding: Any) -> str:
    column = f"{finding.column} " if finding.column else ""
    return f"{finding.what}  iduser {finding.iduser}  {column}{finding.problem}"


def _fields(finding: Any) -> dict[str, Any]:
    return {
        "iduser": finding.iduser,
        "what": finding.what,
        "column": finding.column,
        "problem": finding.problem,
    }


def _show_counts(counts: Any, is_dry_run: bool) -> None:
    click.echo(
        f"read {counts.read}  imported {counts.imported}  already there {counts.already_there}  "
        f"changed since {counts.changed}  refused {counts.refused}"
    )
    if is_dry_run:
        click.echo("This was a dry run: nothing was written.")
