"""Pages about the service as a whole: home, about, and the queues."""

from flask import Blueprint, render_template
from sqlalchemy.orm import Session

from app_srvc.auth import open_to_all
from app_srvc.console.queues import QueueState, last_items, read_queues, unknown_queues
from app_srvc.errors import LedgerUnavailableError
from app_srvc.robots.overview import Overview, robot_overview
from app_srvc.web import Web, current_web

blueprint = Blueprint("console", __name__)


@blueprint.get("/")
@open_to_all
def home() -> str:
    """What this is, where to go, and whether its parts are there."""
    web = current_web()
    queues = _queue_states(web)
    robots = _robots(web)
    return render_template(
        "console/home.html",
        queues=queues,
        has_redis=queues[0].waiting is not None,
        has_database=robots is not None,
        robots=robots or [],
    )


@blueprint.get("/about/")
@open_to_all
def about() -> str:
    return render_template("console/about.html")


@blueprint.get("/admin/task")
def queues() -> str:
    """Each queue's size and its last items."""
    web = current_web()
    states = _queue_states(web)
    items = web.read(lambda session: last_items(web.runtime, session))
    return render_template("console/queues.html", queues=states, items=items)


def _queue_states(web: Web) -> list[QueueState]:
    settings = web.runtime.settings
    states = web.ask_redis(lambda client: read_queues(client, settings))
    return states if states is not None else unknown_queues(settings)


def _robots(web: Web) -> list[Overview] | None:
    """Every robot; None if the database can't be asked now."""

    def read(session: Session) -> list[Overview]:
        return [robot_overview(web.runtime, session, name) for name in sorted(web.runtime.robots)]

    try:
        return web.read(read)
    except LedgerUnavailableError:
        return None
