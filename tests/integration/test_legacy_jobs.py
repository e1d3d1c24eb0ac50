"""Pickled jobs that lie in our queues: they are listed, never unpickled, and refused by name."""

import json
import pickle
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from rq import Queue
from rq.job import Job
from rq.registry import DeferredJobRegistry, FailedJobRegistry, StartedJobRegistry

from app_srvc.doctor import Check, run_checks
from app_srvc.messages.accept import draft, insert_drafts, job_specs
from app_srvc.settings import Settings
from app_srvc.workers.job import AppJob
from app_srvc.workers.legacy_jobs import ADVICE, LegacyJob, list_legacy_jobs
from app_srvc.workers.pickled import LOOKED_AT_BYTES, pickled_function
from tests.support import prototype
from tests.support.servers import ValkeyServer
from tests.support.service import run_command
from tests.support.worlds import open_world

QUEUES = ("QUE_USRREG", "QUE_ROBOT", "QUE_OUTMSG", "QUE_TASKS")
CALL = ("app_srvc.tasks.task_robot", None, ({"timedelta": 15},), {})
_NOW = datetime.now(UTC)
PERSONAL = ("Taras", "Bondar", "tbondar", "taras@example.org", "380441112233")


class Bomb:
    """Pickled, it writes a file when it is read."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self._file,)


def listed(valkey: ValkeyServer, **more: Any) -> list[LegacyJob]:
    return list(list_legacy_jobs(valkey.client, QUEUES, **more))


def contents(valkey: ValkeyServer) -> dict[bytes, Any]:
    """Everything that Redis has, but for how long it keeps it."""
    client = valkey.client
    return {
        key: client.hgetall(key) if client.type(key) == b"hash" else client.dump(key)
        for key in client.scan_iter()
    }


# --- the name, and nothing else -------------------------------------------------------------------


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_the_function_of_a_call_is_found_in_every_protocol(protocol: int) -> None:
    assert pickled_function(pickle.dumps(CALL, protocol=protocol)) == CALL[0]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80",
        b"\xff\xfe",
        json.dumps(CALL).encode(),
        pickle.dumps({"not": "a call"}),
        pickle.dumps((1, 2)),
        pickle.dumps(("not a name", None, (), {})),
        pickle.dumps(("taras@example.org", None, (), {})),
        pickle.dumps(("a" * 201, None, (), {})),
        pickle.dumps(("a." * LOOKED_AT_BYTES + "a", None, (), {})),
        b"\x8d" + b"\xff" * 8,
        b"V\\u12\n.",
        pickle.dumps(CALL)[:12],
    ],
)
def test_what_is_no_call_has_no_function(data: bytes) -> None:
    assert pickled_function(data) is None


def test_looking_at_a_pickle_runs_nothing_of_it(valkey: ValkeyServer, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    data = pickle.dumps(("a.function", None, (Bomb(mark),), {}))
    valkey.client.hset("rq:job:bomb", mapping={"data": data})
    valkey.client.rpush("rq:queue:QUE_TASKS", "bomb")
    assert [job.function for job in listed(valkey)] == ["a.function"]
    job = AppJob("bomb", valkey.client)
    job.restore({"data": data})
    assert job.refusal == "data: pickled, calls a.function"
    assert not mark.exists()
    pickle.loads(data)
    assert mark.exists(), "so that this test can fail"


# --- the list -------------------------------------------------------------------------------------


def test_every_job_of_the_prototype_is_listed_where_it_lies_with_what_to_do(
    valkey: ValkeyServer,
) -> None:
    client = valkey.client
    registration = prototype.enqueue_registration(client)
    document = prototype.enqueue_document(client)
    record = prototype.enqueue_record(client)
    robot = prototype.schedule_robot(client)
    found = listed(valkey)
    assert [(job.queue, job.place, job.id) for job in found] == [
        ("QUE_USRREG", "waiting", registration),
        ("QUE_ROBOT", "planned", robot),
        ("QUE_OUTMSG", "waiting", document),
        ("QUE_OUTMSG", "waiting", record),
    ]
    assert {job.function for job in found} == set(ADVICE), "all four, and each has its own advice"
    assert len({job.advice for job in found}) == 4
    enqueued_at = Job.fetch(document, connection=client).enqueued_at
    assert enqueued_at is not None and found[2].enqueued_at is not None
    assert found[2].enqueued_at.startswith(enqueued_at.strftime("%Y-%m-%dT%H:%M:%S"))
    assert found[1].enqueued_at is not None, "not enqueued yet: when it was made"


def test_jobs_that_run_wait_for_others_or_have_failed_are_listed(valkey: ValkeyServer) -> None:
    client = valkey.client
    queue = Queue("QUE_USRREG", connection=client)
    places = {}
    for registry in (StartedJobRegistry, DeferredJobRegistry, FailedJobRegistry):
        job = queue.create_job("app_srvc.task_usrreg.task_processor", args=({},))
        job.save()
        key = registry(queue=queue).key
        # RQ 2 writes the execution behind the id of a job that runs, RQ 1 wrote the id alone.
        member = f"{job.id}:an-execution" if registry is StartedJobRegistry else job.id
        client.zadd(key, {member: 9e12})
        places[job.id] = registry
    found = {job.id: job.place for job in listed(valkey)}
    assert found == dict(zip(places, ("running", "deferred", "failed"), strict=True))


def test_jobs_of_ours_and_what_is_no_job_are_left_out(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    world = open_world(valkey.url, sqlite_ledger_url)
    fields = {"first_name": "A", "last_name": "B", "login": "ab"}
    fields |= {"email": "a@example.org", "phone": "+380441112233"}
    with world.database.write() as session:
        answers = insert_drafts(
            world.database,
            session,
            [draft(world.kinds["registration"], "QUE_USRREG", fields)],
            now=_NOW,
        )
    world.dispatcher.dispatch(job_specs(answers, _NOW))
    world.close()
    valkey.client.rpush("rq:queue:QUE_USRREG", "no-such-job", b"\xff\xfe")
    valkey.client.set("rq:job:a-string", "x")
    valkey.client.rpush("rq:queue:QUE_USRREG", "a-string")
    valkey.client.set("rq:queue:QUE_TASKS", "another type")
    large = prototype.enqueue_registration(valkey.client, szFirstName="x" * 2_000_000)
    valkey.client.hset(f"rq:job:{large}", "data", b"\x00" * 2_000_000)
    valkey.client.rpush("rq:queue:QUE_OUTMSG", "another-program")
    data = pickle.dumps(("another.program", None, (), {}))
    valkey.client.hset("rq:job:another-program", mapping={"data": data})
    (found,) = listed(valkey)
    assert (found.function, found.enqueued_at) == ("another.program", None)
    assert "none of the prototype's" in found.advice


def test_a_long_queue_is_listed_to_its_end_or_as_far_as_was_asked(valkey: ValkeyServer) -> None:
    ids = [prototype.enqueue_record(valkey.client) for _ in range(1201)]
    assert [job.id for job in listed(valkey)] == ids
    assert [job.id for job in listed(valkey, most_of_a_place=700)] == ids[:700]


# --- the commands ---------------------------------------------------------------------------------


def test_the_command_lists_and_changes_nothing_and_shows_nothing_personal(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    variables = {"REDIS_URL": valkey.url, "DATABASE_URL": sqlite_ledger_url}
    none = run_command("queue", "legacy", **variables)
    assert (none.returncode, none.stdout) == (
        0,
        f"No pickled jobs. Looked at: {', '.join(QUEUES)}.\n",
    )

    registration = prototype.enqueue_registration(valkey.client)
    robot = prototype.schedule_robot(valkey.client)
    before = contents(valkey)
    done = run_command("queue", "legacy", **variables)
    assert done.returncode == 3, done.stderr
    assert (
        f"QUE_USRREG  waiting  {registration}  app_srvc.task_usrreg.task_processor" in done.stdout
    )
    assert (
        "Pickled jobs, which workers refuse: 2." in done.stdout
        and "repeater_status START" in done.stdout
    )
    as_json = run_command("queue", "legacy", "--json", **variables)
    lines = [json.loads(line) for line in as_json.stdout.splitlines()]
    assert [line["id"] for line in lines] == [registration, robot]
    assert all(line["advice"] for line in lines)
    assert not any(word in done.stdout + as_json.stdout for word in PERSONAL)
    assert contents(valkey) == before


def test_the_doctor_tells_of_pickled_jobs(valkey: ValkeyServer, tmp_path: Path) -> None:
    def check() -> Check:
        settings = Settings.from_env({"REDIS_URL": valkey.url, "DATA_DIR": str(tmp_path)})
        (one,) = [one for one in run_checks(settings) if one.name == "redis pickled jobs"]
        return one

    assert check() == Check("redis pickled jobs", True, "none")
    failed = prototype.enqueue_record(valkey.client)
    valkey.client.delete("rq:queue:QUE_OUTMSG")
    valkey.client.zadd("rq:failed:QUE_OUTMSG", {failed: 9e12})
    assert check().ok and check().detail == "1 failed" and "queue legacy" in check().remedy
    prototype.enqueue_registration(valkey.client)
    assert not check().ok and check().detail == "1 waiting, 1 failed"
