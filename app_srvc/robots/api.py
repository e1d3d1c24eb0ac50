"""Robots and cycles for programs."""

from flask import Blueprint, Response, jsonify

from app_srvc.pages import cut, requested_window
from app_srvc.robots.overview import robot_overview
from app_srvc.web import current_web

blueprint = Blueprint("robots_api", __name__, url_prefix="/api/v1/robots")


@blueprint.get("")
def list_robots() -> Response:
    """Every robot that can be started; there are few, so they come on one page."""
    web = current_web()
    robots = web.read(
        lambda session: [
            robot_overview(web.runtime, session, name).robot for name in sorted(web.runtime.robots)
        ]
    )
    return jsonify(items=robots, next=None)


@blueprint.get("/<name>")
def show_robot(name: str) -> Response:
    web = current_web()
    return jsonify(web.read(lambda session: robot_overview(web.runtime, session, name)).robot)


@blueprint.get("/<name>/cycles")
def list_cycles(name: str) -> Response:
    """Cycles of a robot from the newest on."""
    web = current_web()
    window = requested_window()
    overview = web.read(
        lambda session: robot_overview(
            web.runtime, session, name, cycles=window.limit + 1, before_number=window.before
        )
    )
    page = cut(overview.cycles, window, lambda cycle: cycle["number"])
    return jsonify(items=page.items, next=page.next)
