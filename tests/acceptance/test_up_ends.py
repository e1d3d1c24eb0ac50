"""`app-srvc up` ends, or one of its parts does: each test has one of its own, and ends it."""

import json
import os
import signal
import time

import psutil

from tests.support.service import Service, assert_balanced
from tests.support.waiting import wait_until
from tests.support.workers import process_exists


def test_the_parts_end_with_their_parent_and_the_next_one_goes_on(service: Service) -> None:
    assert service.register("before").status_code == 202
    family = {process.pid: process.name() for process in service.up.descendants()}
    valkeys = [pid for pid, name in family.items() if "valkey" in name]
    assert len(family) >= 4 + 5 + 3 + len(valkeys)
    os.kill(service.up.pid, signal.SIGKILL)
    wait_until(lambda: not service.up.is_running)
    # Valkey stays, so that it saves what it has; whoever starts next on the folder ends it.
    ours = [pid for pid in family if pid not in valkeys]
    wait_until(lambda: not any(process_exists(pid) for pid in ours), 15, what="the parts end")
    service.start()
    assert not any(process_exists(pid) for pid in valkeys)
    wait_until(lambda: "before" in service.get("/userlist/").text, 20)
    assert service.register("after").status_code == 202


def test_sigterm_stops_everything_in_order(service: Service) -> None:
    assert service.register("okoval").status_code == 202
    began = time.monotonic()
    assert service.stop() == 0
    assert time.monotonic() - began < 20


def test_a_part_that_dies_is_started_again(service: Service) -> None:
    for name in ("usrregworker", "gunicorn", "valkey-server"):
        needle = "rdsq_usrreg" if name == "usrregworker" else name
        victim = service.up.descendants(needle)[0]
        victim.send_signal(signal.SIGKILL)
        wait_until(
            lambda process=victim: (
                not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
            ),
            10,
        )
        wait_until(service.is_ready, 30, what=f"ready after {name} was killed")
    login = "after"
    wait_until(lambda: service.register(login).status_code == 202, 10)
    wait_until(lambda: login in service.get("/userlist/").text, 20)
    assert_balanced(service)


def test_what_was_accepted_before_a_kill_of_everything_is_done_after_a_new_start(
    service: Service,
) -> None:
    for part in service.up.descendants("rdsq_usrreg"):
        part.send_signal(signal.SIGSTOP)
    for number in range(30):
        assert service.register(f"user{number}").status_code == 202
    service.up.kill_group()
    service.start()
    wait_until(lambda: _users(service) == 30, 60, what="all thirty are done")
    assert_balanced(service)


def _users(service: Service) -> int:
    lines = service.command("audit", "--json").stdout.splitlines()
    for line in lines:
        values = json.loads(line)
        if values["subject"] == "kind registration":
            return int(values["effects"])
    return 0
