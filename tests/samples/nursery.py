"""What a nursery does: it forks workers for a test that writes requests to its standard input.

Each worker is a real process. That it is forked and not started anew only saves the time of imports.
A request is a line of JSON, and so is its answer:

    {"start": what the worker is made of, "log": path, "constants": {…}}  ->  its process id
    {"poll": process id}                      ->  its exit status, or null while it lives

`constants` are set in the worker's modules before it starts, such as a shorter lease.
"""

import json
import os
import signal
import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any, Never


def serve(be_a_worker: Callable[[Any], None]) -> None:
    """Answer requests until standard input ends. `be_a_worker` is called in a process of its own."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ended: dict[int, int] = {}
    for line in iter(sys.stdin.readline, ""):
        request = json.loads(line)
        is_start = "start" in request
        answer = _start(be_a_worker, request) if is_start else _poll(request["poll"], ended)
        sys.stdout.write(f"{json.dumps(answer)}\n")
        sys.stdout.flush()


def _start(be_a_worker: Callable[[Any], None], request: dict[str, Any]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _live(be_a_worker, request)
        finally:
            os._exit(1)
    return pid


def _live(be_a_worker: Callable[[Any], None], request: dict[str, Any]) -> Never:
    os.setsid()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    log = os.open(request["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    nothing = os.open(os.devnull, os.O_RDONLY)
    for ours, theirs in ((nothing, 0), (log, 1), (log, 2)):
        os.dup2(ours, theirs)
    _set_constants(request["constants"])
    be_a_worker(request["start"])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def _set_constants(constants: Mapping[str, float]) -> None:
    """Each by its place, as "module:NAME"."""
    for place, value in constants.items():
        module, _, name = place.partition(":")
        assert hasattr(import_module(module), name), place
        setattr(import_module(module), name, value)


def _poll(pid: int, ended: dict[int, int]) -> int | None:
    if pid not in ended:
        found, status = os.waitpid(pid, os.WNOHANG)
        if found:
            ended[pid] = os.waitstatus_to_exitcode(status)
    return ended.get(pid)
