"""A rolling update: the schema is already the next release's, and this release works on, old beside new."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from app_srvc.database import open_database
from app_srvc.migrations import head_revision, schema_revision
from tests.support.migration_rules import load_migration, not_additions
from tests.support.servers import ValkeyServer
from tests.support.service import (
    ROOT,
    Part,
    Parts,
    assert_balanced,
    clean_environment,
    run_command,
)
from tests.support.waiting import wait_until

# Three starts of parts, one after the other.
pytestmark = pytest.mark.timeout(300)

NEXT = f"{int(head_revision()) + 1:04d}"
# Everything that a migration may do, on the tables that are used most.
MIGRATION = f'''
"""What a next release may bring"""

import sqlalchemy as sa
from alembic import op

revision = "{NEXT}"
down_revision = "{head_revision()}"


def upgrade():
    op.create_table(
        "next_things",
        sa.Column("id", sa.Integer(), primary_key=True),
        sa.Column("name", sa.String(length=20), nullable=False),
    )
    for table in ("messages", "users", "receipts", "dedupe_keys", "robots", "cycles", "todos"):
        op.add_column(table, sa.Column("next_note", sa.String(length=20), nullable=True))
        op.add_column(
            table, sa.Column("next_flag", sa.Boolean(), nullable=False, server_default=sa.false())
        )
    op.create_index("ix_users_next_note", "users", ["next_note"])
'''


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A checkout of a next release: this one, and one more migration."""
    root = tmp_path / "next"
    shutil.copytree(
        ROOT / "app_srvc", root / "app_srvc", ignore=shutil.ignore_patterns("__pycache__")
    )
    for name in Parts.SCRIPTS:
        shutil.copy(ROOT / f"{name}.py", root)
    (root / "app_srvc" / "migrations" / "versions" / f"{NEXT}_next.py").write_text(MIGRATION)
    return root


@pytest.fixture
def running(tmp_path: Path, valkey: ValkeyServer, ledger_url: str) -> Iterator[Parts]:
    with Parts(tmp_path, valkey.url, ledger_url) as parts:
        yield parts


def test_the_migration_of_this_test_is_one_that_the_rule_lets_through(next_release: Path) -> None:
    module = load_migration(next_release / f"app_srvc/migrations/versions/{NEXT}_next.py")
    assert not_additions(module.upgrade, module) == []


def test_this_release_works_on_beside_the_next_one_on_its_schema(
    running: Parts, next_release: Path, tmp_path: Path
) -> None:
    parts, ids = running, []

    def register(login: str) -> None:
        # On a machine with much else to do an answer may be 503; the key makes one of many calls.
        def ask() -> str | None:
            answer = parts.register(login, Idempotency_Key=login)
            return answer.json()["jobid"] if answer.status_code == 202 else None

        ids.append(wait_until(ask, 30, what=f"{login} is accepted"))

    parts.start_robot(timedelta=1, records=20)
    register("before")
    upgraded = subprocess.run(
        [sys.executable, "-m", "app_srvc.cli", "db", "upgrade"],
        env={**clean_environment(**parts.variables), "PYTHONPATH": str(next_release)},
        cwd=next_release,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert upgraded.returncode == 0 and f"at revision {NEXT}" in upgraded.stdout, upgraded.stderr
    assert revision_of(parts) == NEXT
    for number in range(5):
        register(f"during{number}")

    # A pod of this release that starts now must not refuse the newer schema, nor one that only looks.
    old = parts.workers["usrregworker"]
    old.stop()
    old.start()
    looking = parts.workers["todoworker"]
    looking.stop()
    variables = {**parts.variables, "DB_UPGRADE_AT_START": "false"}
    beside = Part("todo2", [sys.executable, str(ROOT / "todoworker.py")], tmp_path, **variables)
    newer = Part(
        "next",
        [sys.executable, str(next_release / "usrregworker.py")],
        tmp_path,
        **{**parts.variables, "PYTHONPATH": str(next_release)},
    )
    try:
        beside.start()
        newer.start()
        for part in (old, beside, newer):
            wait_until(lambda log=part.log: "worker_registered" in log.read_text(), 60)
        for number in range(20):
            register(f"after{number}")
        for id in ids:
            wait_until(lambda id=id: state(parts, id) == "done", 30, what=f"{id} is done")
        wait_until(lambda: any(cycle["done"] for cycle in parts.cycles()), 60, what="a cycle")
        parts.stop_robot()
        assert parts.is_ready()
        assert run_command("db", "upgrade", **parts.variables).returncode == 0, (
            "and changes nothing"
        )
        assert revision_of(parts) == NEXT
        doctor = run_command("doctor", **parts.variables).stdout
        assert f"at revision {NEXT}" in doctor
        assert_balanced(parts)
    finally:
        for part in (beside, newer):
            if part.is_running:
                part.stop()


def state(parts: Parts, id: str) -> str:
    answer: str = parts.get(f"/api/v1/messages/{id}").json()["state"]
    return answer


def revision_of(parts: Parts) -> str | None:
    database = open_database(parts.variables["DATABASE_URL"])
    try:
        return schema_revision(database)
    finally:
        database.close()
