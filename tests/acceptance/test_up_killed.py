"""`kill -9` of `app-srvc up` alone: its parts notice it, and a new one goes on with the same folder."""

import os
import signal

from tests.support.service import Service
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
