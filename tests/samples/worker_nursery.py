"""Forks workers that also know the kinds of tests, for a test that writes requests to its standard input.

Each worker is a real process. That it is forked and not started anew only saves the time of imports.
A request is a line of JSON, and so is its answer:

    {"start": {environment}, "queue": name, "log": path, "constants": {…}}  ->  its process id
    {"poll": process id}                      ->  its exit status, or null while it lives

`constants` are set in the worker's modules before it starts, such as a shorter lease.
"""

import json
import os
import signal
import sys
from collections.abc import Mapping
from functools import partial
from importlib import import_module
from typing import Any, Never

from app_srvc.logs import configure_logs
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings
from app_srvc.supervisor import ParentLink
from app_srvc.workers.app_worker import AppWorker
from app_srvc.workers.tasks import make_tasks, warm_up
from tests.support.workers import HARD_KINDS


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
    settings = Settings.from_env(request["start"], part="worker")
    configure_logs(settings)
    runtime = open_runtime(settings, kinds=HARD_KINDS)
    AppWorker(
        request["queue"],
        runtime,
        make_tasks(runtime),
        connection=open_redis(settings, caller="loop"),
        link=ParentLink(),
        warm_up=partial(warm_up, runtime, request["queue"]),
    ).work()
    os._exit(0)


def set_constants(constants: Mapping[str, float]) -> None:
    """Each by its place, as "module:NAME"."""
    for place, value in constants.items():
        module, _, name = place.partition(":")
        assert hasattr(import_module(module), name), place
        setattr(import_module(module), name, value)


def poll(pid: int, ended: dict[int, int]) -> int | None:
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended.get(pid)


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: dict[int, int] = {}
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        answer = start(request) if "start" in request else poll(request["poll"], ended)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
