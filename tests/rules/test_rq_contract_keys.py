"""The words, keys and fields that `app_srvc/workers/lease/lua` shares with rq 2.12.

When one of these fails after an upgrade, its message says what is otherwise now, and where we rely on it.
"""

import inspect
import re
from pathlib import Path

import pytest
import rq.command
import rq.defaults
import rq.executions
import rq.group
import rq.registry
import rq.suspension
import rq.utils
import rq.worker_registration
from redis import Redis
from rq import Callback, Queue, Repeat, Retry
from rq.job import Job, JobStatus
from rq.results import Result
from rq.webhook import Webhook
from rq.worker import DequeueStrategy, Worker
from rq.worker.base import WorkerStatus

from app_srvc.workers.lease import plain

LUA = Path(plain.__file__).parent / "lua"
# Nothing connects to it.
CLIENT = Redis()


def test_the_words_for_states() -> None:
    text = (LUA / "claim.lua").read_text()
    table = re.search(r"STATUSES = \{(.*?)\}", text, re.DOTALL)
    assert table is not None
    known = {*re.findall(r"(\w+) = 1", table[1]), "canceled"}
    assert known == {each.value for each in JobStatus}, "claim.lua and JobStatus know others"
    assert {each.value for each in WorkerStatus} == {
        "started",
        "suspended",
        "busy",
        "idle",
    }
    assert {each.value for each in DequeueStrategy} == {"default", "round_robin", "random"}


KEYS = {
    "the queues": (Queue.redis_queues_keys, "rq:queues"),
    "a queue": (Queue("Q", connection=CLIENT).key, "rq:queue:Q"),
    "jobs between it and their start": (
        Queue("Q", connection=CLIENT).intermediate_queue_key,
        "rq:queue:Q:intermediate",
    ),
    "jobs in hand": (rq.registry.StartedJobRegistry.key_template, "rq:wip:{0}"),
    "finished jobs": (rq.registry.FinishedJobRegistry.key_template, "rq:finished:{0}"),
    "failed jobs": (rq.registry.FailedJobRegistry.key_template, "rq:failed:{0}"),
    "scheduled jobs": (rq.registry.ScheduledJobRegistry.key_template, "rq:scheduled:{0}"),
    "a job": (Job("J", CLIENT).key, "rq:job:J"),
    "its dependents": (Job("J", CLIENT).dependents_key, "rq:job:J:dependents"),
    "its dependencies": (Job("J", CLIENT).dependencies_key, "rq:job::J:dependencies"),
    "its results": (Result.get_key("J"), "rq:results:J"),
    "its executions": (rq.executions.ExecutionRegistry.key_template, "rq:executions:{0}"),
    "an execution": (rq.executions.Execution("E", "J", CLIENT).key, "rq:execution:J:E"),
    "an entry of jobs in hand": (rq.executions.Execution("E", "J", CLIENT).composite_key, "J:E"),
    "a group": (rq.group.Group.get_key("G"), "rq:group:G"),
    "a worker": (Worker.redis_worker_namespace_prefix, "rq:worker:"),
    "the workers": (Worker.redis_workers_keys, "rq:workers"),
    "the workers of a queue": (rq.worker_registration.WORKERS_BY_QUEUE_KEY, "rq:workers:%s"),
    "a worker's channel": (rq.command.PUBSUB_CHANNEL_TEMPLATE, "rq:pubsub:%s"),
    "the mark of suspended workers": (rq.suspension.WORKERS_SUSPENDED, "rq:suspended"),
}


@pytest.mark.parametrize("what", KEYS)
def test_the_names_of_keys(what: str) -> None:
    found, known = KEYS[what]
    assert found == known, f"the key of {what} is {found!r} now; lease/lua says {known!r}"


def test_the_fields_of_a_job() -> None:
    """The fields that claim.lua returns, and those that the scripts read and write."""
    callback = Callback("a.b")
    job = Queue("Q", connection=CLIENT).create_job(
        "a.b", timeout=1, result_ttl=1, failure_ttl=1, ttl=1, group_id="G",
        on_success=callback, on_failure=callback, on_stopped=callback,
    )  # fmt: skip
    retry = Retry(max=1, enqueue_at_front=True)
    job.retries_left, job.enqueue_at_front_on_retry = retry.max, retry.enqueue_at_front
    job.enqueue_at_front = True
    job.repeats_left = Repeat(times=1).times
    job.webhooks = [Webhook("http://localhost", "failed")]
    written = set(job.to_dict())
    ours = {"suspect", "rescues"}
    ends = {"status", "started_at", "ended_at", "last_heartbeat", "worker_name", "enqueued_at"}
    promoted = {"enqueue_at_front", "enqueue_at_front_on_retry", "ttl", "group_id"}
    gone = (set(READ_FIELDS) - ours | ends | promoted) - written - {"enqueued_at"}
    assert not gone, f"rq writes no {sorted(gone)} into a job's hash any more"
    new = written - set(KNOWN_FIELDS)
    assert not new, f"rq writes {sorted(new)} as well now; does it ask for more at a job's end?"


# What `claim.lua` reads of a job.
READ_FIELDS = (
    "data", "status", "suspect", "ttl", "timeout", "result_ttl", "failure_ttl", "rescues",
    "retries_left", "repeats_left", "success_callback_name", "failure_callback_name",
    "stopped_callback_name", "webhooks",
)  # fmt: skip
KNOWN_FIELDS = (
    *READ_FIELDS, "created_at", "description", "origin", "started_at", "ended_at", "last_heartbeat",
    "worker_name", "group_id", "enqueue_at_front", "enqueue_at_front_on_retry",
    "success_callback_timeout", "failure_callback_timeout", "stopped_callback_timeout",
)  # fmt: skip


def test_the_fields_of_a_result() -> None:
    execution = {"execution_id": "E", "execution_started_at": rq.utils.now()}
    execution["execution_ended_at"] = rq.utils.now()
    result = Result("J", Result.Type.FAILED, CLIENT, return_value=1, exc_string="x", **execution)
    assert list(result.serialize()) == [
        "type", "worker_name", "exc_string", "return_value", "execution_id", "execution_started_at",
        "execution_ended_at",
    ], "finish.lua writes other fields into a result than rq does"  # fmt: skip
    assert (Result.Type.SUCCESSFUL.value, Result.Type.FAILED.value) == (1, 2)


def test_the_fields_of_an_execution_and_of_a_worker() -> None:
    execution = rq.executions.Execution("E", "J", CLIENT).serialize()
    assert list(execution) == ["id", "created_at", "last_heartbeat", "worker_name"]
    worker = Worker(["q"], connection=CLIENT, prepare_for_work=False)
    worker.birth_date = worker.last_heartbeat = rq.utils.now()
    assert list(worker.serialize()) == [
        "birth", "last_heartbeat", "queues", "pid", "hostname", "ip_address", "version",
        "python_version",
    ]  # fmt: skip


def test_the_numbers_that_both_know() -> None:
    assert rq.defaults.DEFAULT_RESULT_TTL == 500, "finish.lua gives 500 s to a life nobody can read"
    assert Queue.DEFAULT_TIMEOUT == 180
    assert "maxlen=10" in inspect.getsource(Result.save), "finish.lua keeps 10 results"
