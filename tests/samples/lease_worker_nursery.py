"""Forks lease workers for a test that writes requests to its standard input; see `worker_nursery`.

    {"start": {url, queues, name, children, log, constants, worker_class}}  ->  its process id
    {"poll": process id}                      ->  its exit status, or null while it lives

`constants` are set in the worker's modules before it starts, such as a shorter lease.
"""

import json
import os
import signal
import sys
from typing import Any, Never

from redis import Redis
from rq.utils import import_attribute

import app_srvc.workers.lease_worker
import tests.samples.lease_jobs
from tests.samples.worker_nursery import poll, set_constants

IMPORTED_FOR_ALL = (app_srvc.workers.lease_worker, tests.samples.lease_jobs)


def start(request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            be_a_worker(request)
        finally:
            os._exit(1)
    return pid


def be_a_worker(request: dict[str, Any]) -> Never:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    set_constants(request["constants"])
    worker_class = import_attribute(request["worker_class"])
    worker = worker_class(
        request["queues"],
        name=request["name"],
        connection=Redis.from_url(request["url"]),
        children=request["children"],
    )
    worker.work()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: dict[int, int] = {}
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        answer = start(request["start"]) if "start" in request else poll(request["poll"], ended)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
