"""The prototype's users come over: each row once, with its time, and nothing is lost without a word."""

import json
import os
import signal
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import func, select, update

from app_srvc.kinds import find_kind
from app_srvc.messages.accept import draft, insert_drafts
from app_srvc.messages.audit import audit_messages
from app_srvc.messages.model import DONE, DedupeKey, Message
from app_srvc.messages.process import process_message
from app_srvc.messages.retention import purge_ended
from app_srvc.registration.legacy_import import Finding, LegacyImport, Options
from app_srvc.registration.legacy_source import LegacySource, LegacySourceError
from app_srvc.registration.model import User
from app_srvc.runtime import Runtime
from tests.support.prototype import add_user, execute, libpq_url, make_table
from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import clean_environment, run_command
from tests.support.waiting import wait_until
from tests.support.worlds import open_world

# Words of the rows below that must not stand in what a terminal or a log shows.
PERSONAL = ("Olena", "Koval", "olena", "not-an-address", "380501234567", "0501234567")


@pytest.fixture
def old_url(postgres_url: str) -> str:
    """The prototype's database, with its table and nobody in it."""
    make_table(postgres_url)
    return postgres_url


@pytest.fixture
def world(valkey: ValkeyServer, ledger_url: str, old_url: str) -> Iterator[Runtime]:
    runtime = open_world(valkey.url, ledger_url, LEGACY_DATABASE_URL=old_url)
    yield runtime
    runtime.close()


def run_import(world: Runtime, **options: Any) -> tuple[LegacyImport, list[Finding]]:
    findings: list[Finding] = []
    run = LegacyImport(world, Options(**options), findings.append)
    run.run()
    return run, findings


def counts(run: LegacyImport) -> tuple[int, int, int, int, int]:
    one = run.counts
    return (one.read, one.imported, one.already_there, one.changed, one.refused)


def users(world: Runtime) -> list[User]:
    with world.database.read() as session:
        return list(session.execute(select(User).order_by(User.id)).scalars())


def assert_books_balance(world: Runtime) -> None:
    lines = audit_messages(world)
    assert lines and all(line.is_balanced for line in lines), lines


def fill(url: str, count: int, name: str = "user") -> None:
    execute(
        url,
        "INSERT INTO test.rusrs (firstname, lastname, login, email, phone, idt, itm)"
        f" SELECT 'First', 'Last', '{name}' || n, '{name}' || n || '@example.org', '+380441234567',"
        f" date '2023-01-01', time '12:00' FROM generate_series(1, {count}) AS n",
    )


# --- what comes over ------------------------------------------------------------------------------


def test_a_row_becomes_a_user_with_its_time_and_status_and_a_message_that_is_done(
    world: Runtime, old_url: str
) -> None:
    add_user(old_url, status="C")
    run, findings = run_import(world, zone=ZoneInfo("Europe/Kyiv"))
    assert (counts(run), findings) == ((1, 1, 0, 0, 0), [])
    (user,) = users(world)
    assert (user.first_name, user.last_name, user.login) == ("Olena", "Koval", "olena")
    assert (user.email, user.phone, user.status) == ("olena@example.org", "+380501234567", "C")
    assert user.created_at.isoformat() == "2023-04-02T10:45:30+00:00"
    with world.database.read() as session:
        message = session.execute(select(Message)).scalar_one()
    assert (message.id, message.kind, message.state) == (user.message_id, "registration", DONE)
    assert (message.key, message.correlation_id) == ("olena", "legacy-import")
    assert_books_balance(world)
    assert world.redis.keys("rq:*") == []


@pytest.mark.parametrize(
    ("columns", "made_at"),
    [
        ({"idt": None}, "2023-04-02T13:45:30"),
        ({"itm": None}, "2023-04-02T00:00:00"),
        ({"itm": "24:00"}, "2023-04-02T00:00:00"),
        ({"itm": "13:45:30.25"}, "2023-04-02T13:45:30.250000"),
        ({"idt": None, "dtopen": None}, None),
        ({"idt": "infinity"}, None),
        ({"idt": "0044-03-15 BC"}, None),
    ],
)
def test_whatever_stands_in_the_dates_the_row_comes_over(
    valkey: ValkeyServer, sqlite_ledger_url: str, old_url: str, columns: Any, made_at: str | None
) -> None:
    runtime = open_world(valkey.url, sqlite_ledger_url, LEGACY_DATABASE_URL=old_url)
    add_user(old_url, **columns)
    run_import(runtime)
    (user,) = users(runtime)
    with runtime.database.read() as session:
        accepted_at = session.execute(select(Message.accepted_at)).scalar_one()
    expected = f"{made_at}+00:00" if made_at else accepted_at.isoformat()
    assert user.created_at.isoformat() == expected
    runtime.close()


def test_a_second_run_brings_only_what_is_new_and_names_what_was_changed(
    world: Runtime, old_url: str
) -> None:
    first = add_user(old_url)
    run_import(world)
    add_user(old_url, login="taras")
    execute(old_url, f"UPDATE test.rusrs SET lastname = 'Melnyk' WHERE iduser = {first}")
    run, findings = run_import(world)
    assert counts(run) == (2, 1, 0, 1, 0)
    assert [(one.iduser, one.what) for one in findings] == [(first, "changed")]
    assert [user.last_name for user in users(world)] == ["Koval", "Koval"]
    run, _ = run_import(world)
    assert counts(run) == (2, 0, 1, 1, 0)
    assert_books_balance(world)


def test_rows_stay_known_when_retention_has_purged_their_messages_and_their_users_are_gone(
    world: Runtime, old_url: str
) -> None:
    add_user(old_url)
    run_import(world)
    with world.database.write() as session:
        session.execute(update(Message).values(ended_at=users(world)[0].created_at))
    assert purge_ended(world, users(world)[0].created_at.replace(year=2030)) == 1
    assert_books_balance(world)
    assert counts(run_import(world)[0]) == (1, 0, 1, 0, 0)


# --- what does not --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("columns", "column"),
    [
        ({"email": "not-an-address"}, "email"),
        ({"email": None}, "email"),
        ({"phone": "0501234567"}, "phone"),
        ({"phone": ""}, "phone"),
        ({"login": "логін"}, "login"),
        ({"login": "x"}, "login"),
        ({"firstname": "  "}, "firstname"),
        ({"lastname": "a\tb"}, "lastname"),
    ],
)
def test_a_row_that_our_schema_refuses_is_named_without_what_stands_in_it(
    world: Runtime, old_url: str, columns: Any, column: str
) -> None:
    bad = add_user(old_url, **columns)
    good = add_user(old_url, login="taras")
    run, findings = run_import(world)
    assert counts(run) == (2, 1, 0, 0, 1)
    (finding,) = findings
    assert (finding.iduser, finding.what, finding.column) == (bad, "refused", column)
    assert finding.problem and not any(word in finding.problem for word in PERSONAL)
    assert [user.login for user in users(world)] == ["taras"]
    execute(old_url, "UPDATE test.rusrs SET firstname = 'Olha', lastname = 'Bila', login = 'olha',"
            f" email = 'o@example.org', phone = '+380441112233' WHERE iduser = {bad}")  # fmt: skip
    assert counts(run_import(world)[0]) == (2, 1, 1, 0, 0), "mended, it comes with the next run"
    assert good != bad
    assert_books_balance(world)


def test_a_number_without_its_country_comes_over_when_the_country_is_said(
    world: Runtime, old_url: str
) -> None:
    add_user(old_url, phone="050 123 45 67")
    add_user(old_url, phone="+48221234567", login="pole")
    run, _ = run_import(world, phone_region="UA")
    assert counts(run) == (2, 2, 0, 0, 0)
    assert [user.phone for user in users(world)] == ["+380501234567", "+48221234567"]


def test_of_rows_with_one_login_the_first_comes_over_and_the_others_are_named(
    world: Runtime, old_url: str
) -> None:
    first, second, third = (add_user(old_url, firstname=name) for name in ("One", "Two", "Three"))
    run, findings = run_import(world)
    assert counts(run) == (3, 1, 0, 0, 2)
    assert [(one.iduser, one.column) for one in findings] == [(second, "login"), (third, "login")]
    assert [user.first_name for user in users(world)] == ["One"]
    assert counts(run_import(world)[0]) == (3, 0, 1, 0, 2), "and again the same"
    assert first < second


def test_a_login_that_was_registered_here_meanwhile_keeps_its_user(
    world: Runtime, old_url: str
) -> None:
    kind = find_kind(world.kinds, "registration")
    fields = {"first_name": "New", "last_name": "User", "login": "olena"}
    fields |= {"email": "new@example.org", "phone": "+380441112233"}
    with world.database.write() as session:
        (accepted,) = insert_drafts(
            world.database, session, [draft(kind, "QUE_USRREG", fields)], now=datetime.now(UTC)
        )
    process_message(world, accepted.message_id, worker="w")  # type: ignore[union-attr]
    add_user(old_url)
    run, findings = run_import(world)
    assert counts(run) == (1, 0, 0, 0, 1)
    assert findings[0].column == "login"
    assert [user.first_name for user in users(world)] == ["New"]
    assert_books_balance(world)


# --- dry runs, crashes, crowds --------------------------------------------------------------------


def test_a_dry_run_says_what_a_run_will_say_and_writes_nothing(
    world: Runtime, old_url: str
) -> None:
    fill(old_url, 600)
    add_user(old_url, login="user1")  # on another page than the first one
    add_user(old_url, email="not-an-address")
    foretold, foreseen = run_import(world, is_dry_run=True)
    assert users(world) == []
    with world.database.read() as session:
        assert session.execute(select(func.count()).select_from(DedupeKey)).scalar_one() == 0
    run, findings = run_import(world)
    assert (counts(foretold), foreseen) == (counts(run), findings)
    assert counts(run) == (602, 600, 0, 0, 2)
    again, _ = run_import(world, is_dry_run=True)
    assert counts(again) == (602, 0, 600, 0, 2)


def test_imports_at_once_bring_each_row_once(world: Runtime, old_url: str) -> None:
    fill(old_url, 1500)
    imported: list[int] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            imported.append(run_import(world)[0].counts.imported)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    assert errors == []
    assert sum(imported) == 1500
    assert len(users(world)) == 1500
    assert_books_balance(world)


def test_a_login_that_is_registered_between_our_look_and_our_write_keeps_its_user(
    valkey: ValkeyServer, postgres_ledger_url: str, old_url: str
) -> None:
    """The other's row is not committed when the import looks; its write waits for that, and fails."""
    world = open_world(valkey.url, postgres_ledger_url, LEGACY_DATABASE_URL=old_url)
    add_user(old_url)
    add_user(old_url, login="taras")
    outcome: list[tuple[int, int, int, int, int]] = []
    importing = threading.Thread(target=lambda: outcome.append(counts(run_import(world)[0])))
    waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with world.database.write() as session:
        fields = {"first_name": "New", "last_name": "User", "email": "new@example.org"}
        fields |= {"login": "olena", "phone": "+380441112233", "message_id": "another"}
        session.add(User(**fields, created_at=datetime.now(UTC)))
        session.flush()
        importing.start()
        wait_until(lambda: execute(postgres_ledger_url, waiting) == [(1,)], 30, what="a wait")
    importing.join(60)
    assert outcome == [(2, 1, 0, 0, 1)]
    assert sorted((user.first_name, user.login) for user in users(world)) == [
        ("New", "olena"),
        ("Olena", "taras"),
    ]
    world.close()


def test_a_run_that_is_killed_is_made_complete_by_the_next(world: Runtime, old_url: str) -> None:
    fill(old_url, 8000)
    url = world.settings.effective_database_url.get_secret_value()
    variables = {"DATABASE_URL": url, "LEGACY_DATABASE_URL": old_url, "REDIS_URL": "redis://x"}
    process = subprocess.Popen(
        [sys.executable, "-m", "app_srvc.cli", "db", "import-legacy"],
        env=clean_environment(**variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        wait_until(lambda: _count_users(world) > 0, 60, what="a first page")
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait(10)
    before = _count_users(world)
    assert 0 < before < 8000, "killed in the middle"
    assert_books_balance(world)
    run, findings = run_import(world)
    assert (counts(run), findings) == ((8000, 8000 - before, before, 0, 0), [])
    assert _count_users(world) == 8000
    assert_books_balance(world)


def test_memory_does_not_grow_with_the_rows(
    valkey: ValkeyServer, postgres_ledger_url: str, old_url: str
) -> None:
    """A page is all that is kept: 7,000 rows more do not take the 4 MB that they would."""
    runtime = open_world(valkey.url, postgres_ledger_url, LEGACY_DATABASE_URL=old_url)

    def peak_of_a_run(rows: int, name: str) -> int:
        execute(old_url, "TRUNCATE test.rusrs")
        fill(old_url, rows, name)
        run = LegacyImport(runtime, Options(), lambda finding: None)
        tracemalloc.start()
        run.run()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert run.counts.imported == rows
        return peak

    peak_of_a_run(500, "first")  # imports, and statements that stay compiled
    # pydantic keeps up to 16,384 short strings, about 1 MB.
    assert peak_of_a_run(8000, "many") < peak_of_a_run(1000, "few") + 1_700_000
    runtime.close()


# --- the command ----------------------------------------------------------------------------------


def test_the_command_reports_and_shows_nothing_personal(
    valkey: ValkeyServer, postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """The table in the service's own database, as it is after the web part was given PG_*."""
    make_table(postgres_url)
    add_user(postgres_url)
    bad = add_user(postgres_url, email="not-an-address", login="other")
    double = add_user(postgres_url)
    variables = {"DATABASE_URL": libpq_url(postgres_url), "REDIS_URL": valkey.url}

    early = run_command("db", "import-legacy", **variables)
    assert early.returncode == 1 and "app-srvc db upgrade" in early.stderr
    assert run_command("db", "upgrade", **variables).returncode == 0

    dry = run_command("db", "import-legacy", "--dry-run", **variables)
    assert dry.returncode == 3 and "nothing was written" in dry.stdout
    file = tmp_path / "findings.jsonl"
    done = run_command("db", "import-legacy", "--findings", str(file), **variables)
    assert done.returncode == 3, done.stderr
    assert done.stdout == "read 3  imported 1  already there 0  changed since 0  refused 2\n"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert [(line["iduser"], line["what"], line["column"]) for line in lines] == [
        (bad, "refused", "email"),
        (double, "refused", "login"),
    ]
    again = run_command("db", "import-legacy", **variables)
    assert f"refused  iduser {bad}  email must be an e-mail address" in again.stdout
    assert "imported 0  already there 1" in again.stdout
    shown = [one for run in (dry, done, again) for one in (run.stdout, run.stderr)]
    assert not any(word in text for text in [*shown, file.read_text()] for word in PERSONAL)

    execute(postgres_url, f"DELETE FROM test.rusrs WHERE iduser IN ({bad}, {double})")
    assert run_command("db", "import-legacy", **variables).returncode == 0
    assert run_command("audit", **variables).returncode == 0


def test_a_table_that_cannot_be_read_is_a_clear_error_and_changes_nothing(
    valkey: ValkeyServer, postgres_ledger_url: str, postgres_url: str, sqlite_ledger_url: str
) -> None:
    def fail(**variables: str) -> str:
        ledger = {"DATABASE_URL": libpq_url(postgres_ledger_url), "REDIS_URL": valkey.url}
        done = run_command("db", "import-legacy", **{**ledger, **variables})
        assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
        assert "imported 0" in done.stdout
        return done.stderr

    assert "There is no table test.rusrs" in fail()
    old = libpq_url(postgres_url)
    make_table(postgres_url)
    execute(postgres_url, "ALTER TABLE test.rusrs DROP COLUMN itm")
    assert "no column itm" in fail(LEGACY_DATABASE_URL=old)
    execute(postgres_url, "ALTER TABLE test.rusrs ADD COLUMN itm time")
    execute(postgres_url, "CREATE ROLE blind LOGIN; GRANT USAGE ON SCHEMA test TO blind")
    try:
        blind = old.replace("postgres@", "blind@")
        assert "permission denied" in fail(LEGACY_DATABASE_URL=blind)
    finally:
        execute(postgres_url, "REVOKE ALL ON SCHEMA test FROM blind; DROP ROLE blind")
    away = "postgresql://u:hush-hush@127.0.0.1:1/db"
    words = fail(LEGACY_DATABASE_URL=away)
    assert "cannot be read" in words and "hush" not in words
    assert "LEGACY_DATABASE_URL" in fail(DATABASE_URL=sqlite_ledger_url)


def test_the_prototypes_table_is_read_in_transactions_that_cannot_write(old_url: str) -> None:
    """A view in the table's place, which writes down whoever reads it, is refused by PostgreSQL."""
    execute(old_url, "ALTER TABLE test.rusrs RENAME TO rows; CREATE TABLE test.reads (n int)")
    execute(
        old_url,
        "CREATE FUNCTION test.note() RETURNS int LANGUAGE sql VOLATILE"
        " AS 'INSERT INTO test.reads VALUES (1) RETURNING n'",
    )
    execute(
        old_url,
        "CREATE VIEW test.rusrs AS SELECT iduser + 0 * test.note() AS iduser, firstname, lastname,"
        " login, email, phone, status, dtopen, idt, itm FROM test.rows",
    )
    add_row = "INSERT INTO test.rows (login) VALUES ('olena')"
    execute(old_url, add_row)
    assert execute(old_url, "SELECT login FROM test.rusrs WHERE iduser > 0") == [("olena",)]
    source = LegacySource(old_url)
    with pytest.raises(LegacySourceError, match="read-only transaction"):
        source.check()
    source.close()


@pytest.mark.parametrize("words", [("--phone-region", "Ukraine"), ("--timezone", "Kyiv/Nowhere")])
def test_an_option_that_means_nothing_is_refused_at_the_border(words: tuple[str, str]) -> None:
    done = run_command("db", "import-legacy", *words)
    assert done.returncode == 2 and "such as" in done.stderr


def _count_users(world: Runtime) -> int:
    with world.database.read() as session:
        return session.execute(select(func.count()).select_from(User)).scalar_one()
