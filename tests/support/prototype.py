"""The prototype, as its users have it: its environment, its table of users, its pickled jobs.

Column by column and word by word as it was; the code of its tasks is ours, and does the least that they
did.
"""

import subprocess
import sys
from collections.abc import Iterable
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import Any

import psycopg
from redis import Redis
from rq import Queue
from sqlalchemy.engine import make_url

from tests.support.servers import PostgresServer, ValkeyServer
from tests.support.service import clean_environment

TABLE = """
CREATE SCHEMA IF NOT EXISTS test;
CREATE TABLE test.rusrs (
    iduser serial PRIMARY KEY,
    firstname varchar(35),
    lastname varchar(35),
    login varchar(35),
    email varchar(35),
    phone varchar(15),
    status varchar(1) DEFAULT 'O',
    dtopen date,
    dtclose date,
    idt date,
    itm time,
    mdt date,
    mtm time
);
CREATE INDEX rusrs_email ON test.rusrs (email);
CREATE INDEX rusrs_phone ON test.rusrs (phone);
CREATE INDEX rusrs_login ON test.rusrs (login);
"""

# What `rq worker` imports for the prototype's jobs. It stands in a package of the same name as ours.
TASK_USRREG = """
import os
import psycopg

def task_processor(fields):
    with psycopg.connect(os.environ["PROTOTYPE_DB"], autocommit=True) as connection:
        connection.execute(
            "INSERT INTO test.rusrs (firstname, lastname, login, email, phone, dtopen, idt, itm)"
            " VALUES (%s, %s, %s, %s, %s, current_date, current_date, localtime)",
            [fields[name] for name in
             ("szFirstName", "szLastName", "szLogin", "szEmail", "szPhone")],
        )
"""

FORM = {
    "szFirstName": "Taras",
    "szLastName": "Bondar",
    "szLogin": "tbondar",
    "szEmail": "taras@example.org",
    "szPhone": "+380441112233",
}
TODO = {"id": 1, "user_id": 2, "title": "t", "due_on": "2023-05-01", "status": "pending"}
ROBOT = {"timedelta": 15, "records": 25, "msg": "start regular job"}


def libpq_url(url: str) -> str:
    """An address as psycopg takes it."""
    return make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)


def execute(url: str, command: str, values: Iterable[Any] = ()) -> list[tuple[Any, ...]]:
    """Run a command in a database, as somebody other than the service."""
    with closing(psycopg.connect(libpq_url(url), autocommit=True)) as connection:
        cursor = connection.execute(command, list(values) or None)  # type: ignore[call-overload]
        return cursor.fetchall() if cursor.description else []


def make_table(url: str) -> None:
    execute(url, TABLE)


def add_user(url: str, **columns: Any) -> int:
    """Insert a row that is good, but for the columns that are said; its `iduser`."""
    row = {
        "firstname": "Olena",
        "lastname": "Koval",
        "login": "olena",
        "email": "olena@example.org",
        "phone": "+380501234567",
        "dtopen": "2023-04-02",
        "idt": "2023-04-02",
        "itm": "13:45:30",
        **columns,
    }
    names = ", ".join(row)
    places = ", ".join(["%s"] * len(row))
    command = f"INSERT INTO test.rusrs ({names}) VALUES ({places}) RETURNING iduser"
    ((iduser,),) = execute(url, command, row.values())
    return int(iduser)


def web_environment(valkey: ValkeyServer) -> dict[str, str]:
    """What the prototype's web part was given."""
    return {
        "RDS_HOST": "127.0.0.1",
        "RDS_PORT": str(valkey.port),
        **({"RDS_PSW": valkey.password} if valkey.password else {}),
        "RDSQ_OUTMSG": "QUE_OUTMSG",
        "RDSQ_ROBOT": "QUE_ROBOT",
        "RDSQ_USRREG": "QUE_USRREG",
        "APP_MODULE": "app_srvc.webapp",
    }


def worker_environment(valkey: ValkeyServer, postgres: PostgresServer, db: str) -> dict[str, str]:
    """What each of its workers was given."""
    return {
        **{name: value for name, value in web_environment(valkey).items() if name != "APP_MODULE"},
        "PG_HOST": "127.0.0.1",
        "PG_PORT": str(postgres.port),
        "PG_USER": postgres.user,
        "PG_PSW": postgres.password,
        "PG_DB": db,
    }


def enqueue_registration(client: Redis, **fields: str) -> str:
    queue = Queue("QUE_USRREG", connection=client)
    return queue.enqueue("app_srvc.task_usrreg.task_processor", {**FORM, **fields}).id


def enqueue_document(client: Redis) -> str:
    queue = Queue("QUE_OUTMSG", connection=client)
    return queue.enqueue("app_srvc.tasks.crttask_sendmsg", {"text": "a document"}).id


def enqueue_record(client: Redis) -> str:
    return Queue("QUE_OUTMSG", connection=client).enqueue("app_srvc.tasks.task_processor", TODO).id


def schedule_robot(client: Redis) -> str:
    """The robot's next run, which waits in RQ's scheduled registry, and the keys that it kept."""
    queue = Queue("QUE_ROBOT", connection=client)
    job = queue.enqueue_in(timedelta(hours=1), "app_srvc.tasks.task_robot", ROBOT)
    client.set("repeater_job_id", job.id)
    client.set("repeater_status", "START")
    return job.id


def drain_registrations(folder: Path, valkey: ValkeyServer, database_url: str) -> None:
    """Run the prototype's worker of registrations until its queue is empty."""
    package = folder / "prototype" / "app_srvc"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text("")
    (package / "task_usrreg.py").write_text(TASK_USRREG)
    environment = clean_environment(
        PYTHONPATH=str(package.parent), PROTOTYPE_DB=libpq_url(database_url)
    )
    rq = str(Path(sys.executable).with_name("rq"))
    done = subprocess.run(
        [rq, "worker", "--burst", "--url", valkey.url, "QUE_USRREG"],
        env=environment,
        cwd=package.parent,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
