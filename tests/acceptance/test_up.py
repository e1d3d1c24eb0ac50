"""`app-srvc up`: one command, and a person has a service that works."""

import os
import pickle
import time
import zlib
from pathlib import Path
from urllib.parse import unquote

import psutil
import pytest
import redis
import requests

from app_srvc.embedded import EmbeddedValkey
from tests.support.service import Service, assert_balanced, run_command
from tests.support.waiting import wait_until

# One worker of the test run has the shared service.
pytestmark = pytest.mark.xdist_group("up")


def test_a_form_and_a_json_call_give_users_within_a_second(shared_service: Service) -> None:
    service = shared_service
    page = service.get("/userreg/")
    assert page.status_code == 200
    session = requests.Session()
    form = session.get(service.base_url + "/userreg/", timeout=10).text
    token = form.partition('name="csrf_token"')[2].partition('value="')[2].partition('"')[0]
    fields = {
        "szFirstName": "Taras",
        "szLastName": "Bondar",
        "szLogin": "tbondar",
        "szEmail": "taras@example.org",
        "szPhone": "+380501234567",
        "csrf_token": token,
    }
    began = time.monotonic()
    answer = session.post(service.base_url + "/userregres/", data=fields, timeout=10)
    assert answer.status_code == 200
    assert "QUE_USRREG" in answer.text
    accepted = service.register("okoval")
    assert accepted.status_code == 202
    body = accepted.json()
    assert (body["ok"], body["queue"]) == (True, "QUE_USRREG")
    assert body["status_url"] == f"/api/v1/messages/{body['jobid']}"
    wait_until(
        lambda: all(login in service.get("/userlist/").text for login in ("tbondar", "okoval")), 10
    )
    # On an idle machine this takes a fraction of a second; a shared one is given some more.
    assert time.monotonic() - began < 10
    wait_until(lambda: service.get(body["status_url"]).json()["state"] == "done", 5)
    assert_balanced(service)


def test_the_robot_starts_fetches_repeats_and_stops(shared_service: Service) -> None:
    service = shared_service
    started = service.start_robot(timedelta=1)
    assert started.status_code == 200
    answer = started.json()
    assert (answer["ok"], answer["queue"]) == (True, "QUE_ROBOT")
    assert answer["idjob"].startswith("robot-todos-")
    again = service.start_robot(timedelta=1)
    assert again.status_code == 422
    assert again.json()["Error"]["Inner"]["code"] == "Jobid exists"
    wait_until(lambda: len(service.cycles()) >= 3, 30, what="three cycles")
    wait_until(lambda: service.get("/todos/").text.count("<tr") >= 20, 30)
    assert service.stop_robot().json() == {"ok": True}
    numbers = [cycle["number"] for cycle in service.cycles()]
    time_to_start_another_s = 3
    time.sleep(time_to_start_another_s)
    assert [cycle["number"] for cycle in service.cycles()] == numbers
    assert service.get("/api/wstart").json()["idjob"] == "NONE"
    wait_until(lambda: all(cycle["in_flight"] == 0 for cycle in service.cycles()), 30)
    assert all(cycle["balanced"] for cycle in service.cycles())
    assert_balanced(service)


def test_a_second_up_on_the_same_folder_says_so_and_exits(shared_service: Service) -> None:
    service = shared_service
    second = run_command("up", "--port", "0", "--data-dir", str(service.data_dir))
    assert second.returncode == 1
    assert str(service.data_dir) in second.stderr
    assert str(service.up.pid) in second.stderr
    assert service.is_ready()


@pytest.mark.parametrize("what", ["os.system", "pickle", "zlib bomb"])
def test_a_job_that_somebody_wrote_into_redis_is_refused_and_the_worker_goes_on(
    shared_service: Service, what: str
) -> None:
    service = shared_service
    client = redis.Redis(unix_socket_path=_socket(service))
    witness = service.data_dir / "owned"
    data = {
        "os.system": f'["os.system", null, ["touch {witness}"], {{}}]'.encode(),
        "pickle": pickle.dumps(("os.system", None, (f"touch {witness}",), {})),
        "zlib bomb": zlib.compress(b"[" * 200_000_000),
    }[what]
    client.hset(
        "rq:job:evil",
        mapping={
            "data": data,
            "origin": "QUE_USRREG",
            "status": "queued",
            "created_at": "2026-01-01T00:00:00.000000Z",
            "success_callback_name": "os.system",
        },
    )
    refused_before = service.up.log.read_text().count("job_refused")
    client.rpush("rq:queue:QUE_USRREG", "evil")
    wait_until(lambda: service.up.log.read_text().count("job_refused") > refused_before, 20)
    login = f"after-{what.replace(' ', '-')}"
    assert service.register(login).status_code == 202
    wait_until(lambda: login in service.get("/userlist/").text, 20)
    assert client.hget("rq:job:evil", "status") == b"failed"
    client.delete("rq:job:evil")
    assert not witness.exists()
    workers = service.up.descendants("rdsq_usrreg")
    assert max(worker.memory_info().rss for worker in workers) < 200 * 2**20
    client.close()
    assert_balanced(service)


def test_up_refuses_a_port_that_is_taken(shared_service: Service, tmp_path: Path) -> None:
    service = shared_service
    port = service.base_url.rpartition(":")[2]
    done = run_command("up", "--port", port, "--data-dir", str(tmp_path / "other"))
    assert done.returncode == 1
    assert port in done.stderr


def test_secrets_are_not_in_the_process_list(shared_service: Service) -> None:
    service = shared_service
    secret = (service.data_dir / "secret-key").read_text().strip()
    for process in [psutil.Process(os.getpid()), *service.up.descendants()]:
        assert secret not in " ".join(process.cmdline())
    assert secret not in service.up.log.read_text()


def _socket(service: Service) -> str:
    return unquote(EmbeddedValkey(service.data_dir).url.removeprefix("unix://"))
