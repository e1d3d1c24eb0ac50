"""docs/upgrading-from-the-prototype.md, command by command, on what a user of the prototype has."""

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests

from app_srvc.workers.legacy_jobs import ADVICE
from tests.support import prototype
from tests.support.servers import PostgresServer, ValkeyServer, free_port
from tests.support.service import ROOT, Client, Part, clean_environment, run_command
from tests.support.waiting import wait_until

PAGE = ROOT / "docs" / "upgrading-from-the-prototype.md"
TOKEN = "a-token-of-this-test-run"
SCRIPTS = ("usrregworker.py", "dbworker.py", "todoworker.py", "taskworker.py")
START_S = 60.0

# Seven commands, and five parts that start.
pytestmark = pytest.mark.timeout(300)


@dataclass
class Walk:
    """The page's commands, in its order; each is run in the environment that it speaks of."""

    environment: dict[str, str]
    commands: list[str] = field(
        default_factory=lambda: re.findall(r"^\$ app-srvc (.+)$", PAGE.read_text(), re.MULTILINE)
    )

    def step(self, command: str, *, status: int = 0) -> str:
        """Run the next command of the page, which is this one."""
        assert self.commands.pop(0) == command
        done = run_command(*command.split(), **self.environment)
        assert done.returncode == status, f"{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture
def old_valkey(tmp_path: Path) -> Iterator[ValkeyServer]:
    """A Redis with a password, as the prototype's had."""
    with ValkeyServer(tmp_path / "valkey", password="of-the-prototype") as server:
        yield server


def gunicorn_arguments(port: int) -> str:
    """The prototype's own, on another port."""
    return f"--workers=1 --worker-connections=2000 --bind=0.0.0.0:{port} --access-logfile=-"


def container(name: str, folder: Path, **variables: str) -> Part:
    """A part as the image starts it: beside the scripts, by the prototype's variables alone."""
    scripts = folder / f"cwd-{name}"
    scripts.mkdir()
    for script in SCRIPTS:
        shutil.copy(ROOT / script, scripts)
    return Part(name, [sys.executable, "-m", "app_srvc.container"], folder, **variables)


def test_the_page_is_true_step_by_step(
    old_valkey: ValkeyServer, postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    database = re.search(r"/(t_\w+)\?", postgres_url)
    assert database is not None
    of_web = prototype.web_environment(old_valkey)
    of_worker = prototype.worker_environment(old_valkey, postgres, database[1])
    walk = Walk(of_worker)

    # What there is: users, one of them twice and one malformed, and a job of each kind.
    prototype.make_table(postgres_url)
    prototype.add_user(postgres_url, login="olena")
    double = prototype.add_user(postgres_url, login="olena")
    malformed = prototype.add_user(postgres_url, login="ivan", email="ivan at example.org")
    registration = prototype.enqueue_registration(old_valkey.client)
    document = prototype.enqueue_document(old_valkey.client)
    record = prototype.enqueue_record(old_valkey.client)
    robot = prototype.schedule_robot(old_valkey.client)

    # 1. See what is still to be done.
    listed = walk.step("queue legacy", status=3)
    assert all(id in listed for id in (registration, document, record, robot))
    assert "Pickled jobs, which workers refuse: 4." in listed and "repeater_status START" in listed
    assert all(f"`{function}`" in PAGE.read_text() for function in ADVICE)

    # 2. The prototype's worker finishes the registration. The document is forgotten.
    prototype.drain_registrations(tmp_path, old_valkey, postgres_url)
    assert prototype.execute(postgres_url, "SELECT count(*) FROM test.rusrs") == [(4,)]

    # 3. The web part names what it lacks, and starts nothing.
    port = free_port()
    web_variables = {**of_web, "GUNICORN_CMD_ARGS": gunicorn_arguments(port)}
    refused = subprocess.run(
        [sys.executable, "-m", "app_srvc.container"],
        env=clean_environment(**web_variables),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert refused.returncode == 2
    for name in ("PG_HOST", "PG_USER", "PG_PSW", "PG_DB", "SECRET_KEY", "API_TOKEN"):
        assert name in refused.stderr
    assert "of-the-prototype" not in refused.stderr
    doctor = walk.step("doctor", status=1)
    assert "app-srvc db upgrade" in doctor and "app-srvc queue legacy" in doctor

    # 4. and 5. The tables, and the users.
    assert "(was none)" in walk.step("db upgrade")
    dry = walk.step("db import-legacy --dry-run", status=3)
    done = walk.step("db import-legacy", status=3)
    assert "read 4  imported 2  already there 0  changed since 0  refused 2" in done
    assert f"refused  iduser {malformed}  email" in done
    assert f"refused  iduser {double}  login has a user already" in done
    assert dry.splitlines()[:-1] == done.splitlines()

    # 6. The new parts, on the prototype's variables and the two additions.
    additions = {
        **{name: value for name, value in of_worker.items() if name.startswith("PG_")},
        "SECRET_KEY": "a secret that only this test run has",
        "API_TOKEN": TOKEN,
        "SOURCE_URL": "demo:",
    }
    web = container("web", tmp_path, **{**web_variables, **additions})
    workers = {
        script: container(script, tmp_path, **of_worker, APP_FILE=script, SOURCE_URL="demo:")
        for script in SCRIPTS
    }
    client = Client(f"http://127.0.0.1:{port}", TOKEN)
    try:
        for part in (*workers.values(), web):
            part.start()
        wait_until(client.is_ready, START_S, what="the web part is ready")
        listed_users = client.get("/userlist/").text
        assert "olena" in listed_users and "tbondar" in listed_users and "ivan" not in listed_users
        assert requests.get(f"{client.base_url}/userlist/", timeout=10).status_code == 401
        work_as_a_program_of_the_prototype_would(client)

        # Left-over jobs are refused by name, not silently.
        todo_log = workers["todoworker.py"].log
        for function in ("app_srvc.tasks.crttask_sendmsg", "app_srvc.tasks.task_processor"):
            words = f"pickled, calls {function}"
            wait_until(lambda words=words: words in todo_log.read_text(), 30, what=words)
        left = walk.step("queue legacy", status=3)
        for id in (document, record):
            assert re.search(rf"^QUE_OUTMSG  failed  {id} ", left, re.MULTILINE), left
        assert f"QUE_ROBOT  planned  {robot}" in left
        assert "The books balance." in walk.step("audit")
    finally:
        for part in (web, *workers.values()):
            if part.is_running:
                part.ask_to_stop()
        for part in (web, *workers.values()):
            part.stop()
    assert walk.commands == [], "every command of the page was run"
    assert prototype.execute(postgres_url, "SELECT count(*) FROM test.rusrs") == [(4,)]


def work_as_a_program_of_the_prototype_would(client: Client) -> None:
    """The form, a document and the robot, in the prototype's words."""
    fields = {**prototype.FORM, "szLogin": "newcomer", "szEmail": "new@example.org"}
    page = requests.post(f"{client.base_url}/userregres/", data=fields, timeout=10)
    assert page.status_code == 200 and "QUE_USRREG" in page.text
    sent = client.post("/api/sendmsg", {"text": "a document"})
    assert sent.status_code == 200 and sent.json()["ok"]
    started = client.start_robot(timedelta=1, records=25)
    assert started.status_code == 200, started.text
    message = f"/api/v1/messages/{sent.json()['idjob']}"
    wait_until(lambda: client.get(message).json()["state"] == "done", 30, what="the document")
    wait_until(lambda: "newcomer" in client.get("/userlist/").text, 30, what="the new user")
    wait_until(lambda: any(cycle["done"] for cycle in client.cycles()), 60, what="a cycle")
    assert client.get("/api/wstart").json()["status"] == "Found"
    assert client.stop_robot().json() == {"ok": True}


def test_the_robot_of_the_prototype_is_refused_when_its_time_comes(
    old_valkey: ValkeyServer, postgres: PostgresServer, postgres_url: str, tmp_path: Path
) -> None:
    """It lies in RQ's scheduled registry, which is promoted here as well."""
    database = re.search(r"/(t_\w+)\?", postgres_url)
    assert database is not None
    variables = prototype.worker_environment(old_valkey, postgres, database[1])
    robot = prototype.schedule_robot(old_valkey.client)
    old_valkey.client.zadd("rq:scheduled:QUE_ROBOT", {robot: 1.0})
    worker = container("dbworker", tmp_path, **variables, APP_FILE="dbworker.py").start()
    try:
        words = "pickled, calls app_srvc.tasks.task_robot"
        wait_until(lambda: words in worker.log.read_text(), START_S, what=words)
        lines = [line for line in worker.log.read_text().splitlines() if line.startswith("{")]
        refusals = [one for one in map(json.loads, lines) if one["event"] == "job_refused"]
        assert [(one["job_id"], one["queue"]) for one in refusals] == [(robot, "QUE_ROBOT")]
        wait_until(lambda: old_valkey.client.zscore("rq:failed:QUE_ROBOT", robot), 10)
        assert old_valkey.client.hget(f"rq:job:{robot}", "status") == b"failed"
    finally:
        worker.stop()
