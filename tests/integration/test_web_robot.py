"""The robot over HTTP: the original's addresses, the API, and the page with its buttons."""

from typing import Any

import pytest
from sqlalchemy import update

from app_srvc.robots.control import wake_up
from app_srvc.robots.cycle import run_cycle
from app_srvc.robots.model import Cycle, Robot
from tests.support.servers import ValkeyServer
from tests.support.web import START, WebWorld, inner_code


def test_the_documented_call_starts_the_robot(web: WebWorld, valkey: ValkeyServer) -> None:
    answer = web.client.post("/api/wstart", json=START)
    assert answer.status_code == 200
    assert answer.get_json() == {"ok": True, "idjob": "robot-todos-1-1", "queue": "QUE_ROBOT"}
    assert valkey.client.zrange("rq:scheduled:QUE_ROBOT", 0, -1) == [b"robot-todos-1-1"]


def test_a_second_start_is_refused_and_changes_nothing(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    before = _robot(web)
    answer = web.client.post("/api/wstart", json={**START, "timedelta": 99, "msg": "another"})
    assert answer.status_code == 422
    assert inner_code(answer) == "Jobid exists"
    error = answer.get_json()["Error"]
    assert error["code"] == "InvalidAPIRequestParams"
    assert error["target"] == "POST-Startrobot"
    assert _robot(web) == before


def test_a_running_robot_is_refused_also_without_rplstatus(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    before = _robot(web)
    answer = web.client.post("/api/wstart", json=_without("rplstatus"))
    assert answer.status_code == 422
    assert inner_code(answer) == "Jobid exists"
    assert _robot(web) == before


def test_without_rplstatus_a_stopped_robot_stays_stopped(web: WebWorld) -> None:
    answer = web.client.post("/api/wstart", json=_without("rplstatus"))
    assert answer.status_code == 200
    assert answer.get_json() == {"ok": True, "idjob": "0", "queue": "None", "rplstatus": "STOP"}
    assert _robot(web)["state"] == "stopped"


@pytest.mark.parametrize("rplstatus", ["STOP", "start", "", None, 1, ["START"]])
def test_another_rplstatus_is_out_of_range(plain_web: WebWorld, rplstatus: Any) -> None:
    answer = plain_web.client.post("/api/wstart", json={**START, "rplstatus": rplstatus})
    assert answer.status_code == 422
    assert inner_code(answer) == "OutOfRangeValue"
    assert _robot(plain_web)["generation"] == 0


@pytest.mark.parametrize("name", ["timedelta", "records", "msg"])
def test_a_missing_key_is_named_as_the_original_does(plain_web: WebWorld, name: str) -> None:
    answer = plain_web.client.post("/api/wstart", json=_without(name))
    assert answer.status_code == 422
    assert inner_code(answer) == "NoKey"
    error = answer.get_json()["Error"]
    assert error["description"] == f"No key [{name}]"
    assert _robot(plain_web)["state"] == "stopped"


@pytest.mark.parametrize(
    "wrong",
    [
        {"timedelta": 0},
        {"timedelta": 86_401},
        {"timedelta": 365 * 86_400},
        {"timedelta": "15"},
        {"timedelta": 1.5},
        {"timedelta": True},
        {"timedelta": None},
        {"timedelta": 10**400},
        {"records": 0},
        {"records": 10_001},
        {"records": -1},
        {"records": [20]},
        {"msg": ""},
        {"msg": 5},
        {"msg": "x" * 501},
        {"msg": "nul\x00"},
        {"msg": "\ud800"},
    ],
    ids=str,
)
def test_a_value_out_of_range_is_refused(plain_web: WebWorld, wrong: dict[str, Any]) -> None:
    answer = plain_web.client.post("/api/wstart", json={**START, **wrong})
    assert answer.status_code == 422
    assert inner_code(answer) == "OutOfRangeValue"
    assert _robot(plain_web)["state"] == "stopped"


@pytest.mark.parametrize(
    "edge", [{"timedelta": 1}, {"timedelta": 86_400}, {"records": 1}, {"records": 10_000}], ids=str
)
def test_the_limits_themselves_are_allowed(plain_web: WebWorld, edge: dict[str, int]) -> None:
    assert plain_web.client.post("/api/wstart", json={**START, **edge}).status_code == 200


def test_the_status_names_the_job_that_is_next_and_none_when_stopped(web: WebWorld) -> None:
    assert web.client.get("/api/wstart").get_json() == {
        "ok": True,
        "idjob": "NONE",
        "queue": "QUE_ROBOT",
        "status": "NotFound",
    }
    web.client.post("/api/wstart", json=START)
    assert web.client.get("/api/wstart").get_json() == {
        "ok": True,
        "idjob": "robot-todos-1-1",
        "queue": "QUE_ROBOT",
        "status": "Found",
    }


@pytest.mark.parametrize("method", ["DELETE", "POST"])
def test_stop_stops_and_takes_the_wake_up_away(
    web: WebWorld, valkey: ValkeyServer, method: str
) -> None:
    web.client.post("/api/wstart", json=START)
    answer = web.client.open("/api/wstop", method=method)
    assert answer.status_code == 200
    assert answer.get_json() == {"ok": True}
    assert web.client.get("/api/wstart").get_json()["idjob"] == "NONE"
    assert valkey.client.zcard("rq:scheduled:QUE_ROBOT") == 0


def test_stopping_a_stopped_robot_changes_nothing(web: WebWorld) -> None:
    before = _robot(web)
    assert web.client.delete("/api/wstop").get_json() == {"ok": True}
    assert _robot(web) == before


def test_the_api_shows_a_robot_with_exactly_the_documented_fields(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    robot = _robot(web)
    assert set(robot) == {
        "name",
        "state",
        "generation",
        "next_cycle",
        "next_due_at",
        "watermark",
        "policy",
        "waiting_for",
        "last_cycle",
    }
    assert robot["policy"] == {"timedelta_s": 15, "records": 20, "msg": "start regular job"}
    assert robot["waiting_for"] == "time"
    assert robot["next_due_at"].endswith("Z")
    assert web.client.get("/api/v1/robots").get_json() == {"items": [robot], "next": None}


def test_a_robot_that_is_due_waits_for_a_worker(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    _make_due(web)
    assert _robot(web)["waiting_for"] == "worker"


def test_the_api_shows_cycles_whose_numbers_balance(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    _run_cycles(web, 3)
    page = web.client.get("/api/v1/robots/todos/cycles?limit=2").get_json()
    cycles = page["items"]
    assert [cycle["number"] for cycle in cycles] == [3, 2]
    assert set(cycles[0]) == {
        "robot",
        "generation",
        "number",
        "state",
        "started_at",
        "ended_at",
        "fetched",
        "new",
        "duplicate",
        "rejected",
        "done",
        "failed",
        "cancelled",
        "in_flight",
        "watermark_before",
        "watermark_after",
        "error",
        "balanced",
    }
    rest = web.client.get(f"/api/v1/robots/todos/cycles?cursor={page['next']}").get_json()
    (first,) = rest["items"]
    assert rest["next"] is None
    assert first["number"] == 1
    assert first["new"] > 0
    assert first["new"] == first["in_flight"]
    assert first["balanced"]
    assert _robot(web)["last_cycle"] == cycles[0]


def test_a_cycle_that_does_not_balance_says_so(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    _run_cycles(web, 1)
    with web.runtime.database.write() as session:
        session.execute(update(Cycle).values(new=Cycle.new + 1))
    (cycle,) = web.client.get("/api/v1/robots/todos/cycles").get_json()["items"]
    assert cycle["balanced"] is False


@pytest.mark.parametrize("address", ["", "/cycles"])
def test_an_unknown_robot_is_not_found(plain_web: WebWorld, address: str) -> None:
    answer = plain_web.client.get(f"/api/v1/robots/nobody{address}")
    assert answer.status_code == 404
    assert answer.mimetype == "application/problem+json"
    assert answer.get_json()["code"] == "UnknownRobot"
    assert plain_web.client.get("/robots/nobody").status_code == 404
    assert plain_web.client.post("/robots/nobody/stop").status_code == 404


def test_the_page_starts_the_robot_and_shows_it_running(web: WebWorld) -> None:
    assert 'id="start"' in web.client.get("/robots/todos").get_data(as_text=True)
    form = {"timedelta": "30", "records": "7", "msg": "by hand"}
    answer = web.client.post("/robots/todos/start", data=form)
    assert (answer.status_code, answer.location) == (303, "/robots/todos")
    page = web.client.get("/robots/todos").get_data(as_text=True)
    assert 'id="stop"' in page
    assert "by hand" in page
    assert "data-countdown" in page
    assert _robot(web)["policy"] == {"timedelta_s": 30, "records": 7, "msg": "by hand"}


def test_the_page_stops_the_robot(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    answer = web.client.post("/robots/todos/stop")
    assert (answer.status_code, answer.location) == (303, "/robots/todos")
    assert _robot(web)["state"] == "stopped"


@pytest.mark.parametrize(
    "wrong",
    [{"timedelta": "0"}, {"timedelta": "soon"}, {"records": "9" * 5000}, {"msg": ""}],
    ids=lambda wrong: next(iter(wrong)),
)
def test_the_page_says_which_field_is_wrong(plain_web: WebWorld, wrong: dict[str, str]) -> None:
    form = {"timedelta": "30", "records": "7", "msg": "by hand", **wrong}
    answer = plain_web.client.post("/robots/todos/start", data=form)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert page.count('aria-invalid="true"') == 1
    assert f'id="{next(iter(wrong))}-words"' in page
    assert _robot(plain_web)["state"] == "stopped"


def test_the_page_shows_the_last_cycles(web: WebWorld) -> None:
    web.client.post("/api/wstart", json=START)
    _run_cycles(web, 2)
    page = web.client.get("/robots/todos").get_data(as_text=True)
    assert page.count('data-label="Cycle"') == 2
    assert page.count(">balanced<") == 2


def test_a_robot_without_a_source_can_not_be_started(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    web = WebWorld(valkey.url, sqlite_ledger_url, SOURCE_URL="")
    answer = web.client.post("/api/wstart", json=START)
    assert answer.status_code == 503
    assert "SOURCE_URL" in answer.get_json()["Error"]["description"]
    assert _robot(web)["state"] == "stopped"
    web.close()


def test_todos_are_listed_from_the_highest_number_on(web: WebWorld) -> None:
    assert "There are none yet" in web.client.get("/todos/").get_data(as_text=True)
    web.client.post("/api/wstart", json=START)
    _run_cycles(web, 1)
    waiting = web.client.get("/api/v1/messages?kind=todo&state=accepted").get_json()["items"]
    for message in waiting:
        web.work(message["id"])
    page = web.client.get("/todos/?limit=5").get_data(as_text=True)
    assert page.count('data-label="Title"') == min(5, len(waiting))
    assert "There are none yet" not in page


def _robot(web: WebWorld) -> dict[str, Any]:
    robot: dict[str, Any] = web.client.get("/api/v1/robots/todos").get_json()
    return robot


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in START.items() if key != name}


def _make_due(web: WebWorld) -> None:
    with web.runtime.database.write() as session:
        session.execute(update(Robot).values(next_due_at=web.runtime.database.now(session)))


def _run_cycles(web: WebWorld, count: int) -> None:
    for _ in range(count):
        _make_due(web)
        with web.runtime.database.read() as session:
            robot = session.get(Robot, "todos")
        assert robot is not None
        name, generation, number = wake_up(web.runtime, robot, delay_s=None).args
        outcome = run_cycle(
            web.runtime, str(name), int(generation), int(number), owner=f"test-{number}"
        )
        assert (outcome.action, outcome.reason) == ("done", None)
