"""The schema is brought up to date by a Job; the parts have no right to make tables, and need none."""

import re
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest
import requests
from sqlalchemy.engine import make_url

from app_srvc.messages.retention import add_up_receipts, purge_ended
from app_srvc.migrations import head_revision
from app_srvc.runtime import open_runtime
from tests.support.prototype import execute
from tests.support.servers import PostgresServer, ValkeyServer, free_port
from tests.support.service import ROOT, Part, Parts, assert_balanced, run_command
from tests.support.waiting import wait_until
from tests.support.worlds import settings_for

ROLES = ("app_before", "app", "app_owner")
START_S = 60.0

# Parts start, wait, and work.
pytestmark = pytest.mark.timeout(300)


def blocks_of_the_docs() -> list[str]:
    """What an administrator is told to run: for a new database, and for one that has tables."""
    return re.findall(r"```sql\n(.+?)```", (ROOT / "docs" / "upgrading.md").read_text(), re.DOTALL)


def as_role(url: str, role: str) -> str:
    return make_url(url).set(username=role).render_as_string(hide_password=False)


@pytest.fixture
def roles(postgres: PostgresServer, postgres_url: str) -> Iterator[None]:
    """No role is left behind: they belong to the server, and not to a database."""
    yield
    for role in ROLES:
        (found,) = execute(postgres_url, f"SELECT count(*) FROM pg_roles WHERE rolname = '{role}'")
        if found[0]:
            execute(postgres_url, f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def missing(url: str) -> set[str] | None:
    """What a part says that it is waiting for; None if it does not answer."""
    try:
        return set(requests.get(url, timeout=5).json()["missing"])
    except requests.RequestException:
        return None


def test_parts_wait_for_the_job_and_then_work_without_a_right_to_make_tables(
    valkey: ValkeyServer, postgres_url: str, roles: None, tmp_path: Path
) -> None:
    execute(postgres_url, blocks_of_the_docs()[0])
    owner_url, app_url = as_role(postgres_url, "app_owner"), as_role(postgres_url, "app")
    parts = Parts(tmp_path, valkey.url, app_url, DB_UPGRADE_AT_START="false")
    health_port = free_port()
    parts.workers["usrregworker"] = Part(
        "usrregworker",
        [sys.executable, str(ROOT / "usrregworker.py")],
        tmp_path,
        **{**parts.variables, "HEALTH_PORT": str(health_port)},
    )
    worker_url = f"http://127.0.0.1:{health_port}/health/ready"
    everyone = (*parts.workers.values(), parts.web)
    try:
        for part in everyone:
            part.start()
        wait_until(
            lambda: missing(f"{parts.base_url}/health/ready") == {"schema"}, START_S, what="web"
        )
        wait_until(lambda: missing(worker_url) == {"workers", "schema"}, START_S, what="a worker")
        wait_until(lambda: "schema_awaited" in parts.web.log.read_text(), 10)
        for part in parts.workers.values():
            wait_until(lambda log=part.log: "app-srvc db upgrade" in log.read_text(), START_S)
        assert parts.register("early").status_code == 503, "nothing is promised meanwhile"
        assert all(part.is_running for part in everyone)

        # The Job under the role of the parts: it says what it lacks.
        refused = run_command("db", "upgrade", REDIS_URL=valkey.url, DATABASE_URL=app_url)
        assert refused.returncode == 1 and "permission denied" in refused.stderr
        assert "Traceback" not in refused.stderr
        # And as it should be; it needs no Redis. A second time it does nothing.
        for words in ("(was none)", "newest is"):
            done = run_command("db", "upgrade", DATABASE_URL=owner_url)
            assert done.returncode == 0 and words in done.stdout, done.stderr

        wait_until(parts.is_ready, START_S, what="the web part is ready")
        wait_until(lambda: missing(worker_url) == set(), START_S, what="a worker is ready")
        assert "schema_found" in parts.web.log.read_text()
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(app_url, "CREATE TABLE more (id int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            execute(app_url, "ALTER TABLE users ADD COLUMN more int")
        work(parts)
        keep_house(valkey, app_url)
        assert_balanced(parts)
    finally:
        for part in everyone:
            if part.is_running:
                part.ask_to_stop()
        for part in everyone:
            part.stop()


def test_tables_that_another_role_has_made_are_handed_over(
    valkey: ValkeyServer, postgres_url: str, roles: None, tmp_path: Path
) -> None:
    """From a service whose parts made the tables themselves, as they do by default."""
    execute(
        postgres_url, "CREATE ROLE app_before LOGIN; GRANT CREATE ON SCHEMA public TO app_before"
    )
    before_url, app_url = as_role(postgres_url, "app_before"), as_role(postgres_url, "app")
    assert run_command("db", "upgrade", DATABASE_URL=before_url).returncode == 0
    for block in blocks_of_the_docs():
        execute(postgres_url, block)
    owner_url = as_role(postgres_url, "app_owner")
    execute(owner_url, "ALTER TABLE users ADD COLUMN more int")
    with Parts(tmp_path, valkey.url, app_url, DB_UPGRADE_AT_START="false") as parts:
        work(parts)
        assert_balanced(parts)


def test_the_job_waits_for_a_database_that_is_not_there_yet(
    postgres: PostgresServer, postgres_url: str
) -> None:
    postgres.kill()
    at_once = run_command("db", "upgrade", "--wait", "0", DATABASE_URL=postgres_url)
    assert at_once.returncode == 1 and "cannot be used now" in at_once.stderr
    later = threading.Timer(2.0, postgres.start)
    later.start()
    done = run_command("db", "upgrade", DATABASE_URL=postgres_url)
    later.join()
    assert done.returncode == 0, done.stderr
    assert run_command("db", "migrate", DATABASE_URL=postgres_url).stdout == (
        f"at revision {head_revision()}, newest is {head_revision()}\n"
    ), "by its former name"


def work(parts: Parts) -> None:
    """A registration, a document, and a robot's cycle with enough records for a COPY."""
    ids = [parts.register("olena").json()["jobid"]]
    ids.append(parts.post("/api/sendmsg", {"text": "a document"}).json()["idjob"])
    assert parts.start_robot(timedelta=1, records=40).status_code == 200
    for id in ids:
        wait_until(lambda id=id: parts.get(f"/api/v1/messages/{id}").json()["state"] == "done", 30)
    wait_until(lambda: any(cycle["done"] >= 20 for cycle in parts.cycles()), 60, what="a cycle")
    assert parts.stop_robot().status_code == 200


def keep_house(valkey: ValkeyServer, url: str) -> None:
    """What comes round once in hours: retention needs the right to delete."""
    runtime = open_runtime(settings_for(valkey.url, url))
    later = datetime.now(UTC) + timedelta(days=40)
    assert add_up_receipts(runtime, later) > 0
    assert purge_ended(runtime, later) > 0
    runtime.close()
