"""Queues for programs."""

from dataclasses import asdict
from datetime import UTC, datetime

from flask import Blueprint, Response, jsonify

from app_srvc.console.queues import read_load, read_queues, unknown_queues
from app_srvc.errors import BrokerUnavailableError
from app_srvc.messages.pauses import check_queue
from app_srvc.web import current_web

blueprint = Blueprint("console_api", __name__, url_prefix="/api/v1")


@blueprint.get("/queues")
def list_queues() -> Response:
    """Each queue's figures; they are null while Redis can't be asked."""
    web = current_web()
    settings = web.runtime.settings
    states = web.ask_redis(lambda client: read_queues(client, settings))
    return jsonify(items=[asdict(state) for state in states or unknown_queues(settings)], next=None)


@blueprint.get("/queues/<name>/load")
def show_load(name: str) -> Response:
    """What there is to do on a queue, for what scales its workers.

    While it can't be known there is no answer: a scaler that was told 0 would end workers.
    """
    web = current_web()
    check_queue(web.runtime.settings, name)
    load = web.ask_redis(lambda client: read_load(client, name, datetime.now(UTC)))
    if load is None:
        raise BrokerUnavailableError
    return jsonify(asdict(load))
