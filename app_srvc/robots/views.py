"""The page of a robot: what it does now, its last cycles, and the buttons."""

import re
from collections.abc import Mapping

from flask import Blueprint, Response, current_app, redirect, render_template, url_for
from werkzeug.wrappers import Response as BaseResponse

from app_srvc.bodies import read_form
from app_srvc.errors import InvalidValueError, RobotAlreadyRunningError
from app_srvc.robots.control import start_robot, stop_robot
from app_srvc.robots.overview import robot_overview
from app_srvc.robots.policy import check_policy
from app_srvc.web import current_web

CYCLES_SHOWN = 20
WHOLE_NUMBER = re.compile(r"[0-9]{1,12}")

# What the form begins with: the original's documented example.
FORM_DEFAULTS = {"timedelta": "15", "records": "20", "msg": "start regular job"}

blueprint = Blueprint("robots", __name__, url_prefix="/robots")


@blueprint.get("/<name>")
def robot(name: str) -> str:
    return _page(name, {}, {})


@blueprint.post("/<name>/start")
def start(name: str) -> BaseResponse:
    """Start the robot, and show its page."""
    web = current_web()
    fields = read_form()
    try:
        policy = check_policy(_numbers(fields), web.runtime.settings)
        web.act(lambda runtime: start_robot(runtime, name, policy))
    except InvalidValueError as error:
        return _refused(name, fields, {error.field: f"It {error.problem}."}, 422)
    except RobotAlreadyRunningError:
        pass  # Somebody was quicker: the page shows it running, which is what was wanted.
    return redirect(url_for("robots.robot", name=name), 303)


@blueprint.post("/<name>/stop")
def stop(name: str) -> BaseResponse:
    """Stop the robot, and show its page."""
    current_web().act(lambda runtime: stop_robot(runtime, name))
    return redirect(url_for("robots.robot", name=name), 303)


def _numbers(fields: Mapping[str, str]) -> dict[str, object]:
    """A form sends text: what looks like a whole number is one. An empty field is a missing one."""
    values: dict[str, object] = {"msg": fields["msg"]} if fields.get("msg") else {}
    for name in ("timedelta", "records"):
        text = fields.get(name, "").strip()
        if text:
            values[name] = int(text) if WHOLE_NUMBER.fullmatch(text) else text
    return values


def _refused(
    name: str, fields: Mapping[str, str], problems: Mapping[str, str], status: int
) -> Response:
    return current_app.response_class(_page(name, fields, problems), status)


def _page(name: str, fields: Mapping[str, str], problems: Mapping[str, str]) -> str:
    web = current_web()
    overview = web.read(
        lambda session: robot_overview(web.runtime, session, name, cycles=CYCLES_SHOWN)
    )
    return render_template(
        "robots/robot.html",
        overview=overview,
        robot=overview.robot,
        title=web.runtime.robots[name].title,
        fields=FORM_DEFAULTS | dict(fields),
        problems=problems,
        settings=web.runtime.settings,
    )
