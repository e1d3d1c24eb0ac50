"""What `app_srvc/workers/lease*` takes for granted of rq 2.12 and redis-py, beside what they document.

When one of these fails after an upgrade, its message says what is otherwise now, and where we rely on it.
"""

import ast
import inspect
import re
import textwrap
from typing import Any

import pytest
import redis.client
import redis.connection
import rq
import rq.executions
import rq.job
import rq.logutils
import rq.utils
import rq.worker_registration
from rq.job import Job
from rq.worker import BaseWorker, Worker

from app_srvc.workers.lease import plain
from app_srvc.workers.lease_worker import LeaseWorker

# Nothing connects to it.
CLIENT = redis.Redis()


def parameters(function: Any) -> str:
    """The names of what a function takes, with those that have defaults marked."""
    return ", ".join(
        f"{'*' if each.kind is each.VAR_POSITIONAL else ''}{'**' if each.kind is each.VAR_KEYWORD else ''}"
        f"{each.name}{'' if each.default is each.empty else '='}"
        for each in inspect.signature(function).parameters.values()
    )


def source(function: Any) -> ast.AST:
    return ast.parse(textwrap.dedent(inspect.getsource(function)))


def calls(function: Any, on: str) -> set[str]:
    """The names of the methods that a function calls on one of its variables."""
    return {
        node.func.attr
        for node in ast.walk(source(function))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == on
    }


def test_the_version_is_the_one_that_was_read() -> None:
    assert re.match(r"2\.12\.", rq.VERSION), f"rq {rq.VERSION}: read its changes, then this file"


# --- methods that are overridden or called --------------------------------------------------------

METHODS = {
    "perform_job": "self, job, queue",
    "prepare_job_execution": "self, job, remove_from_intermediate_queue=",
    "handle_execution_ended": "self, job, queue, heartbeat_ttl",
    "handle_job_success": "self, job, queue, started_job_registry",
    "handle_job_failure": "self, job, queue, started_job_registry=, exc_string=",
    "handle_job_retry": "self, job, queue, retry, started_job_registry, execution",
    "cleanup_execution": "self, job, pipeline",
    "handle_exception": "self, job, *exc_info",
    "handle_work_horse_killed": "self, job, retpid, ret_val, rusage",
    "register_birth": "self",
    "register_death": "self",
    "serialize": "self",
    "request_stop": "self, signum, frame",
    "kill_horse": "self, sig=",
    "queue_names": "self",
    "run_maintenance_tasks": "self",
    "clean_registries": "self",
    "_install_signal_handlers": "self",
    "_set_connection": "self, connection",
    "_set_ip_address": "self, connection",
    "work": "self, burst=, logging_level=, date_format=, log_format=, max_jobs=, max_idle_time=, "
    "with_scheduler=, dequeue_strategy=",
}


@pytest.mark.parametrize("name", METHODS)
def test_the_methods_of_a_worker(name: str) -> None:
    method = getattr(Worker, name, None)
    assert method is not None, f"rq.Worker has no {name} any more"
    found = parameters(method)
    assert found == METHODS[name], f"rq.Worker.{name} takes ({found}) now, not ({METHODS[name]})"


@pytest.mark.parametrize("name", sorted(set(METHODS) & set(dir(LeaseWorker))))
def test_ours_takes_what_theirs_takes(name: str) -> None:
    assert parameters(getattr(LeaseWorker, name)) == METHODS[name]


OTHERS = {
    rq.job.Job.__init__: "self, id=, connection=, serializer=",
    rq.job.Job.refresh: "self",
    rq.job.Job.execute_stopped_callback: "self, death_penalty_class",
    rq.job.Job.save: "self, pipeline=, include_meta=, include_result=",
    rq.executions.Execution.__init__: "self, id, job_id, connection, worker_name=",
    rq.executions.Execution.delete: "self, job, pipeline",
    rq.worker_registration.register: "worker, pipeline=",
    rq.logutils.setup_loghandlers: "level=, date_format=, log_format=, name=",
    rq.utils.parse_timeout: "timeout",
    rq.utils.import_attribute: "name",
    redis.client.Pipeline.__init__: "self, connection_pool, response_callbacks, transaction, "
    "shard_hint",
    redis.client.Pipeline.immediate_execute_command: "self, *args, **options",
    redis.client.Pipeline.execute: "self, raise_on_error=",
    redis.client.Pipeline.reset: "self",
    redis.connection.Connection.pack_command: "self, *args",
    redis.connection.Connection.send_packed_command: "self, command, check_health=",
    redis.connection.ConnectionPool.get_connection: "self, command_name=, *keys, **options",
    redis.connection.ConnectionPool.release: "self, connection",
}


@pytest.mark.parametrize("function", OTHERS, ids=lambda each: each.__qualname__)
def test_what_else_is_called(function: Any) -> None:
    found, name = parameters(function), f"{function.__module__}.{function.__qualname__}"
    assert found == OTHERS[function], f"{name} takes ({found}) now, not ({OTHERS[function]})"


# --- what RQ's code does on the way ---------------------------------------------------------------

STEPS = {
    ("perform_job", "self"): {
        "prepare_job_execution", "death_penalty_class", "handle_execution_ended", "handle_job_retry",
        "handle_job_success", "handle_exception", "handle_job_failure",
    },
    ("perform_job", "job"): {
        "perform", "execute_success_callback", "execute_failure_callback", "send_webhooks",
        "get_result_ttl",
    },
    ("handle_job_success", "self"): {
        "increment_successful_job_count", "increment_total_working_time", "cleanup_execution",
    },
    ("handle_job_success", "job"): {"get_result_ttl", "_handle_success", "cleanup"},
    ("handle_job_failure", "self"): {
        "cleanup_execution", "increment_failed_job_count", "increment_total_working_time",
    },
    ("handle_job_failure", "job"): {"set_status", "_handle_failure", "retry", "send_webhooks"},
    ("handle_job_retry", "self"): {
        "cleanup_execution", "increment_failed_job_count", "increment_total_working_time",
    },
}  # fmt: skip


@pytest.mark.parametrize(("name", "on"), STEPS, ids=[" on ".join(each) for each in STEPS])
def test_the_steps_that_rq_takes(name: str, on: str) -> None:
    """A step more or less: look whether lease/rq_path.py overrides enough, and finish.lua does it too."""
    found, known = calls(getattr(BaseWorker, name), on), STEPS[name, on]
    assert found == known, f"{name}: new {sorted(found - known)}, gone {sorted(known - found)}"


def test_an_execution_ends_with_one_delete_of_its_key() -> None:
    """FencedPipeline in lease/rq_path.py knows the transaction that ends a job by this."""
    assert "pipeline.delete(self.key)" in inspect.getsource(rq.executions.Execution.delete)
    assert "worker.execution = None" in inspect.getsource(rq.executions.cleanup_execution)


def test_the_stack_of_current_jobs_is_a_list_that_push_returns() -> None:
    """CurrentJob in lease/plain.py sets the job in that list, without a call."""
    mark = object()
    frames = rq.job._job_stack.push(mark)
    try:
        assert isinstance(frames, list) and frames[-1] is mark, (
            "LocalStack.push returns another thing"
        )
        frames[-1] = other = object()
        assert rq.get_current_job() is other, "get_current_job does not read that list"
    finally:
        rq.job._job_stack.pop()


def test_attributes_of_a_worker_a_pipeline_and_a_connection() -> None:
    worker = Worker(["q"], connection=CLIENT, prepare_for_work=False)
    for name in (
        "_exc_handlers", "_is_horse", "_stop_requested", "_stopped_job_id", "_work_horse_killed_handler",
        "birth_date", "connection", "default_result_ttl", "disable_default_exception_handler",
        "execution", "ip_address", "job_class", "last_heartbeat", "name", "queue_class", "serializer",
    ):  # fmt: skip
        assert hasattr(worker, name), f"rq.Worker has no attribute {name} any more"
    assert worker.death_penalty_class and worker.log
    pipeline = CLIENT.pipeline()
    pipeline.delete("a", "b")
    assert pipeline.command_stack == [(("DEL", "a", "b"), {})], "redis' command_stack is otherwise"
    assert pipeline.watching is False
    assert hasattr(redis.connection.Connection(), "_sock"), (
        "redis' Connection has no _sock any more"
    )
    for name in (*plain.CHANGEABLE, "number_of_retries", "_status", "_result", "meta", "origin"):
        assert name in Job("J", CLIENT).__dict__, f"rq's Job has no attribute {name} any more"
