"""Functions that jobs of tests name, each for what it does to its process or to its Redis.

Most write their runs in a diary, which is a file: what is in Redis may be lost or doubled by a fault.
"""

import ctypes
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, Never

from redis import Redis
from rq import Retry, get_current_job
from rq.suspension import suspend
from rq.timeouts import JobTimeoutException


def note(diary: str, what: str, name: str) -> None:
    """Add a line to a diary, in one write."""
    line = f"{what} {name} {os.getpid()} {time.time():.6f}\n"
    file = os.open(diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        os.write(file, line.encode())
    finally:
        os.close(file)


def work(diary: str, name: str, seconds: float = 0.0) -> str:
    note(diary, "begun", name)
    if seconds:
        time.sleep(seconds)
    note(diary, "ended", name)
    return name


# --- what RQ's own code has to end ----------------------------------------------------------------


def fail_once(diary: str, name: str) -> str:
    """Fails while it may be tried again."""
    note(diary, "begun", name)
    job = get_current_job()
    if job is not None and job.retries_left:
        raise RuntimeError("the first time")
    note(diary, "ended", name)
    return name


def ask_for_another_try(diary: str, name: str) -> Any:
    """Returns a `Retry` unless it is one."""
    note(diary, "begun", name)
    job = get_current_job()
    if job is not None and not job.number_of_retries:
        return Retry(max=1)
    note(diary, "ended", name)
    return name


def look_at_itself(diary: str, name: str, before_s: float, after_s: float) -> None:
    note(diary, "begun", name)
    time.sleep(before_s)
    job = get_current_job()
    assert job is not None and job.timeout
    time.sleep(after_s)
    note(diary, "ended", name)


def fail(diary: str, name: str) -> Never:
    note(diary, "begun", name)
    note(diary, "ended", name)
    raise RuntimeError("as always")


def note_success(job: Any, connection: Redis, result: Any) -> None:
    note(job.args[0], "success", job.args[1])


def note_failure(job: Any, connection: Redis, *error: Any) -> None:
    note(job.args[0], "failure", job.args[1])


def take_long(job: Any, connection: Redis, result: Any) -> None:
    """A callback that takes longer than its job may."""
    time.sleep(8)


def note_nothing(*_: Any) -> None:
    """A callback, so that RQ's own code runs the job."""


def raise_in_callback(job: Any, connection: Redis, *more: Any) -> Never:
    raise RuntimeError("in the callback")


# --- what is hard on a worker ---------------------------------------------------------------------


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1) + 1


def crash() -> None:
    ctypes.string_at(0)


def leave(status: int) -> None:
    sys.exit(status)


def leave_at_once(status: int) -> None:
    os._exit(status)


def kill_own_process() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def kill_own_worker() -> None:
    """The parent too, as when a container runs out of memory."""
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def die_while_suspended(url: str, victim: str, diary: str, name: str, seconds: float = 0.0) -> None:
    """Ends its process or its worker, and nobody claims anything after it."""
    with Redis.from_url(url) as redis:
        suspend(redis)
    note(diary, "begun", name)
    time.sleep(seconds)
    kill_own_process() if victim == "process" else kill_own_worker()


def ignore_every_limit() -> Never:
    signal.signal(signal.SIGALRM, signal.SIG_IGN)
    while True:
        with suppress(JobTimeoutException):
            time.sleep(60)


def ignore_the_limit_once(seconds: float) -> str:
    with suppress(JobTimeoutException):
        time.sleep(60)
    time.sleep(seconds)
    return "went on"


def spoil(url: str, key: str) -> None:
    """Puts a string in place of whatever a key holds, such as the job's own hash."""
    with Redis.from_url(url) as redis:
        redis.set(key, "spoiled")


# --- what ends otherwise in the process that began it first ---------------------------------------


def _is_first(diary: str, name: str) -> bool:
    lines = Path(diary).read_text().splitlines()
    pids = [line.split()[2] for line in lines if line.startswith(f"begun {name} ")]
    return pids[0] == str(os.getpid())


def fail_in_first_process(diary: str, name: str, seconds: float) -> str:
    work(diary, name, seconds)
    if _is_first(diary, name):
        raise RuntimeError("in the first process")
    return name


def retry_in_first_process(diary: str, name: str, seconds: float, interval: int) -> Any:
    work(diary, name, seconds)
    return Retry(max=1, interval=interval) if _is_first(diary, name) else name


def give_bytes(count: int) -> bytes:
    return bytes(count)


def work_and_give_bytes(diary: str, name: str, seconds: float, count: int) -> bytes:
    work(diary, name, seconds)
    return bytes(count)


def close_output(diary: str, name: str) -> None:
    """As a job does that made itself a daemon."""
    note(diary, "begun", name)
    sys.stdout.close()
    note(diary, "ended", name)


def change_itself(diary: str, name: str, seconds: float) -> None:
    note(diary, "begun", name)
    job = get_current_job()
    assert job is not None
    job.result_ttl = 1000
    time.sleep(seconds)
    note(diary, "ended", name)


def stop_slowly(job: Any, connection: Redis) -> None:
    """A callback."""
    diary, name = job.args[:2]
    note(diary, "stopping", name)
    time.sleep(6)
    note(diary, "stopped", name)


def measure(data: bytes) -> int:
    return len(data)
