"""Queues for programs."""

from dataclasses import asdict

from flask import Blueprint, Response, jsonify

from app_srvc.console.queues import read_queues, unknown_queues
from app_srvc.web import current_web

blueprint = Blueprint("console_api", __name__, url_prefix="/api/v1")


@blueprint.get("/queues")
def list_queues() -> Response:
    """Each queue's figures; they are null while Redis can't be asked."""
    web = current_web()
    settings = web.runtime.settings
    states = web.ask_redis(lambda client: read_queues(client, settings))
    return jsonify(items=[asdict(state) for state in states or unknown_queues(settings)], next=None)
