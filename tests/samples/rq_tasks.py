"""Job functions, callbacks, handlers and job classes, each named for what it does.

What they note goes into the list `notes` of the Redis that their worker works on.
"""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Coroutine
from functools import cache
from typing import Any

from redis import Redis
from rq import Queue, Retry, get_current_job
from rq.job import Job
from rq.suspension import suspend

URL_NAME = "RQ_TASKS_REDIS_URL"


@cache
def client(url: str) -> Redis:
    return Redis.from_url(url)


def note(*words: object) -> None:
    client(os.environ[URL_NAME]).rpush("notes", " ".join(map(str, words)))


def this_job() -> Job:
    job = get_current_job()
    assert job is not None
    return job


# --- functions ------------------------------------------------------------------------------------


def do_nothing() -> None:
    pass


def echo(value: Any, **named: Any) -> Any:
    return (value, named) if named else value


def return_what_cannot_be_stored() -> Any:
    return lambda: None


def fail(text: str = "no") -> None:
    raise ValueError(text)


def exit_in_the_middle() -> None:
    sys.exit(3)


def fail_at_first(times: int) -> str:
    """Fail so many times, and then succeed."""
    runs = client(os.environ[URL_NAME]).incr("runs")
    note("run", runs)
    if runs <= times:
        raise ValueError(f"run {runs}")
    return "at last"


def ask_for_a_retry(max: int, interval: int = 0) -> Retry:
    note("asked")
    this_job().meta.setdefault("asked", "kept, since a job that is tried again is saved whole")
    return Retry(max=max, interval=interval)


def sleep(seconds: float) -> str:
    note("begun")
    time.sleep(seconds)
    return "slept"


def swallow_the_limit(seconds: float) -> str:
    """Swallow the time limit, as a broad `except` does."""
    try:
        time.sleep(seconds)
    except Exception:
        note("swallowed")
    return "went on"


def tell_own_life() -> Any:
    """How long the job lives that runs, as Redis says it: -1 is for ever."""
    return client(os.environ[URL_NAME]).ttl(f"rq:job:{this_job().id}")


def fail_and_then_tell_own_life() -> Any:
    fail_at_first(1)
    return tell_own_life()


async def wait_and_echo(value: Any) -> Any:
    import asyncio

    await asyncio.sleep(0)
    return value


async def fail_while_waiting() -> None:
    raise LookupError("async")


class OtherCoroutine(Coroutine[Any, Any, str]):
    """A coroutine that no `async def` made; compilers make such."""

    def send(self, value: Any) -> Any:
        raise StopIteration("of another kind")

    def throw(self, *arguments: Any) -> Any:
        raise arguments[0]

    def close(self) -> None:
        pass

    def __await__(self) -> Any:
        return self


def make_other_coroutine() -> Any:
    return OtherCoroutine()


class Greeter:
    def __init__(self, name: str) -> None:
        self.name = name

    def greet(self) -> str:
        return f"Hello {self.name}"

    @staticmethod
    def wave() -> str:
        return "waves"


def keep_progress() -> str:
    job = this_job()
    job.meta["progress"] = 50
    job.save_meta()
    job.meta["progress"] = "never saved"
    return f"{job.id} {job.origin} {job.func_name} {job.args} {job.get_status(refresh=False)}"


def shorten_own_life(seconds: int) -> None:
    job = this_job()
    job.result_ttl = job.failure_ttl = seconds


def describe_itself(then: str = "end") -> None:
    job = this_job()
    job.description = "changed while it ran"
    if then == "fail":
        raise ValueError(job.description)


def note_itself() -> None:
    note("ran", this_job().id)


def note_own_class() -> None:
    note(type(this_job()).__name__)


def enqueue_another(name: str, queue: str) -> None:
    note("ran parent")
    job = this_job()
    Queue(queue, connection=job.connection).enqueue(note_itself, job_id=name)


def add_a_dependent(name: str) -> None:
    """Another job comes to depend on this one while it runs."""
    job = this_job()
    queue = Queue(job.origin, connection=job.connection)
    queue.enqueue(note_itself, job_id=name, depends_on=job.id)


def sleep_at_first(seconds: float) -> str:
    """Sleep in the first run only."""
    note("begun")
    if client(os.environ[URL_NAME]).incr("runs") == 1:
        time.sleep(seconds)
    return "slept"


def kill_itself() -> None:
    note_itself()
    os.kill(os.getpid(), signal.SIGKILL)


def end_own_process() -> None:
    own = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
    own.start()
    own.terminate()
    own.join(5)
    note(os.getpid(), "its own ended with", own.exitcode)
    own.kill()


def suspend_and_kill_itself() -> None:
    suspend(client(os.environ[URL_NAME]))
    kill_itself()


def delete_itself() -> None:
    this_job().delete()


def cancel_itself() -> None:
    this_job().cancel()


def run_inline() -> str:
    outer = this_job()
    queue = Queue("inline", is_async=False, connection=outer.connection)
    inner = queue.enqueue(note_itself, job_id="inner")
    return f"{outer.id} {inner.id} {this_job().id}"


# --- callbacks ------------------------------------------------------------------------------------


def note_success(job: Job, connection: Redis, result: Any) -> None:
    connection.rpush(
        "notes", f"success of {job.id}: {result!r}, {job.get_status(refresh=False).value}"
    )


def note_failure(job: Job, connection: Redis, kind: Any, error: Any, traceback: Any) -> None:
    connection.rpush("notes", f"failure of {job.id}: {kind.__name__} {error}")


def note_stop(job: Job, connection: Redis) -> None:
    connection.rpush("notes", f"stop of {job.id}")


def note_current_job(job: Job, *others: Any) -> None:
    current = get_current_job()
    note("after", job.id, "comes", current.id if current is not None else None)


def refuse_success(job: Job, connection: Redis, result: Any) -> None:
    raise KeyError("success callback")


def refuse_failure(job: Job, connection: Redis, *error: Any) -> None:
    raise KeyError("failure callback")


def refuse_stop(job: Job, connection: Redis) -> None:
    raise KeyError("stopped callback")


def take_too_long(job: Job, connection: Redis, *others: Any) -> None:
    time.sleep(30)


# --- exception handlers ---------------------------------------------------------------------------


def note_error(job: Job, *error: Any) -> None:
    note("handler 1:", job.id, error[1])


def note_error_and_end(job: Job, *error: Any) -> bool:
    note("handler 2:", job.id, error[1])
    return False


def refuse_to_handle(job: Job, *error: Any) -> None:
    raise KeyError("handler")


# --- classes of jobs and queues -------------------------------------------------------------------


class NamedJob(Job):
    """A job with one more property and nothing else."""

    @property
    def shout(self) -> str:
        return self.id.upper()


class NotingJob(Job):
    """A job that does something of its own when it is performed."""

    def perform(self) -> Any:
        note("before", self.id)
        try:
            return super().perform()
        finally:
            note("after", self.id)


class MovingQueue(Queue):
    """A queue on which something of a job changes just when it ends, once."""

    def enqueue_dependents(self, job: Job, *arguments: Any, **named: Any) -> None:
        super().enqueue_dependents(job, *arguments, **named)
        redis = client(os.environ[URL_NAME])
        if redis.incr("endings") == 1:
            redis.sadd(job.dependents_key, "nobody")


def shout() -> str:
    job = get_current_job(job_class=NamedJob)
    assert isinstance(job, NamedJob)
    return job.shout


def note_death(job: Job, *details: Any) -> None:
    note("killed", job.id)
