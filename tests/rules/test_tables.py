"""When two places must agree, a test compares them."""

import ast
import re
from pathlib import Path
from typing import cast

import pytest
from pydantic import BaseModel

from app_srvc.kinds import KINDS, Kind, load
from app_srvc.messages.dispatch import CYCLE_TASK, PROCESS_TASK
from app_srvc.robots.table import ROBOTS, RobotDefinition
from app_srvc.runtime import Runtime
from app_srvc.settings import Settings
from app_srvc.workers.lease.link import FAR_S
from app_srvc.workers.tasks import make_tasks

ROOT = Path(__file__).parents[2]
SCRIPT_OF_QUEUE = {
    "rdsq_usrreg": "usrregworker.py",
    "rdsq_robot": "dbworker.py",
    "rdsq_outmsg": "todoworker.py",
    "rdsq_tasks": "taskworker.py",
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.name)
def test_everything_that_a_kind_names_is_there(kind: Kind) -> None:
    schema = load(kind.schema)
    assert issubclass(schema, BaseModel)
    assert callable(load(kind.handler))
    assert callable(load(kind.effects))
    assert kind.key_field is None or kind.key_field in schema.model_fields
    assert kind.queue in Settings.model_fields


@pytest.mark.parametrize("robot", ROBOTS.values(), ids=lambda robot: robot.name)
def test_what_a_robot_fetches_becomes_a_known_kind_with_a_key(robot: RobotDefinition) -> None:
    assert KINDS[robot.kind].key_field is not None


@pytest.mark.parametrize(("queue", "script"), SCRIPT_OF_QUEUE.items())
def test_every_queue_has_a_script_that_drains_it(queue: str, script: str) -> None:
    """Add a queue and forget its consumer: this names the missing file."""
    tree = ast.parse((ROOT / script).read_text())
    attributes = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)}
    constants = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
    assert queue in attributes | constants, f"{script} does not drain {queue}"


def test_every_queue_of_the_settings_is_drained() -> None:
    queues = {name for name in Settings.model_fields if name.startswith("rdsq_")}
    assert queues == set(SCRIPT_OF_QUEUE)


def test_workers_run_the_tasks_that_dispatch_names_and_no_others() -> None:
    assert set(make_tasks(cast(Runtime, None))) == {PROCESS_TASK, CYCLE_TASK}


def test_scripts_agree_on_how_the_end_of_a_lease_is_written() -> None:
    told = {
        script.name: set(re.findall(r"^local FAR_S = (\d+)$", text, re.MULTILINE))
        for script in (ROOT / "app_srvc").rglob("*.lua")
        if "FAR_S" in (text := script.read_text())
    }
    users = ("claim.lua", "renew.lua", "rescue.lua", "bury.lua", "dispatch.lua", "probe.lua")
    assert told == {name: {str(FAR_S)} for name in users}
