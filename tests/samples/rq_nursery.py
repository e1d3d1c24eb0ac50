"""Forks workers of several classes, for a test that writes requests to its standard input.

Each worker is a real process. That it is forked and not started anew only saves the time of imports.
A request is a line of JSON, and so is its answer:

    {"start": one of CLASSES or "a.dotted.WorkerClass", "url": Redis, "queues": […], "log": path,
     "options": {for the class; dotted names stand for what they name}, "work": {for work()}}
                            ->  its process id
    {"wait": process id, "seconds": at most}  ->  its exit status, or null if it lives on
    {"kill": process id}    ->  true; it and all that it has started get kill -9

A worker exits with 0 if `work` said that it ran a job, 1 if it ran none, and 2 if it raised.
"""

import gc
import json
import os
import signal
import sys
import time
import traceback
from contextlib import suppress
from typing import Any, Never

import psutil
from redis import Redis
from rq import SimpleWorker, Worker
from rq.serializers import JSONSerializer
from rq.utils import import_attribute, now, utcformat, utcparse

from app_srvc.workers import LeaseWorker
from tests.samples import rq_tasks

CLASSES = {"simple": SimpleWorker, "worker": Worker, "lease": LeaseWorker}
SERIALIZERS = {"json": JSONSerializer}


def start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        code = 2
        try:
            code = be_a_worker(request)
        except BaseException:
            traceback.print_exc()
        finally:
            end(code)
    return pid


def be_a_worker(request: dict[str, Any]) -> int:
    os.setsid()
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGCHLD})
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    os.environ[rq_tasks.URL_NAME] = request["url"]
    connection = Redis.from_url(request["url"])
    make = CLASSES.get(request["start"]) or import_attribute(request["start"])
    worker = make(request["queues"], connection=connection, **made(request["options"]))
    # RQ's worker would wait up to a second for a thread that ends with this process.
    worker.unsubscribe = lambda: None
    return 0 if worker.work(**request["work"]) else 1


def made(options: dict[str, Any]) -> dict[str, Any]:
    """The options with what their names stand for."""
    found = dict(options)
    if "serializer" in found:
        found["serializer"] = SERIALIZERS[found["serializer"]]
    if "exception_handlers" in found:
        found["exception_handlers"] = [
            import_attribute(name) for name in found["exception_handlers"]
        ]
    for name in ("work_horse_killed_handler", "job_class", "queue_class"):
        if name in found:
            found[name] = import_attribute(found[name])
    return found


def end(code: int) -> Never:
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def wait(pid: int, seconds: float, ended: dict[int, int]) -> int | None:
    until = time.monotonic() + seconds
    while pid not in ended and (left_s := until - time.monotonic()) > 0:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
        else:
            signal.sigtimedwait({signal.SIGCHLD}, left_s)
    return ended.get(pid)


def kill(pid: int) -> bool:
    """Kill a worker before its children: it must not see them die."""
    family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    for process in family:
        with suppress(psutil.NoSuchProcess):
            process.kill()
    return True


def answer_to(request: dict[str, Any], ended: dict[int, int]) -> Any:
    if "start" in request:
        return start(request)
    if "kill" in request:
        return kill(request["kill"])
    return wait(request["wait"], request["seconds"], ended)


def warm_up() -> None:
    """Do once what each worker would do at its start."""
    Redis.from_url("redis://127.0.0.1:1").close()
    utcparse(utcformat(now()))
    gc.freeze()


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    warm_up()
    ended: dict[int, int] = {}
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        sys.stdout.write(f"{json.dumps(answer_to(request, ended))}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
