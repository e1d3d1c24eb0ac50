"""The robot as the original system's callers start, ask and stop it. It speaks of the robot `todos`."""

from typing import Any

from flask import Blueprint, Response, jsonify

from app_srvc.bodies import read_json_object
from app_srvc.errors import InvalidValueError, RobotAlreadyRunningError
from app_srvc.robots.control import robot_status, start_robot, stop_robot
from app_srvc.robots.policy import check_policy
from app_srvc.robots.table import DEFAULT_ROBOT
from app_srvc.web import current_web

START = "START"

blueprint = Blueprint("robots_legacy_api", __name__)


@blueprint.post("/api/wstart")
def start() -> Response:
    """Start the robot, if `rplstatus` says so; a running robot is refused in any case."""
    web = current_web()
    fields = read_json_object()
    policy = check_policy(fields, web.runtime.settings)
    if not _is_start(fields):
        return _answer_not_asked()
    status = web.act(lambda runtime: start_robot(runtime, DEFAULT_ROBOT, policy))
    return jsonify(ok=True, idjob=status.job_id, queue=web.runtime.settings.rdsq_robot)


@blueprint.get("/api/wstart")
def status() -> Response:
    """The job of the cycle that runs or is next."""
    web = current_web()
    found = web.call_ledger(lambda: robot_status(web.runtime, DEFAULT_ROBOT))
    return jsonify(
        ok=True,
        idjob=found.job_id or "NONE",
        queue=web.runtime.settings.rdsq_robot,
        status="Found" if found.is_running else "NotFound",
    )


@blueprint.route("/api/wstop", methods=["DELETE", "POST"])
def stop() -> Response:
    """Stop the robot; stopping a stopped one changes nothing."""
    current_web().act(lambda runtime: stop_robot(runtime, DEFAULT_ROBOT))
    return jsonify(ok=True)


def _is_start(fields: dict[str, Any]) -> bool:
    if "rplstatus" not in fields:
        return False
    if fields["rplstatus"] != START:
        raise InvalidValueError("rplstatus", f"must be {START}, or be left out")
    return True


def _answer_not_asked() -> Response:
    """Without `rplstatus` nothing is started; the answer says whether something could have been."""
    web = current_web()
    if web.call_ledger(lambda: robot_status(web.runtime, DEFAULT_ROBOT)).is_running:
        raise RobotAlreadyRunningError
    return jsonify(ok=True, idjob="0", queue="None", rplstatus="STOP")
