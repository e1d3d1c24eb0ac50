"""Messages for programs: look at them, hand one over, replay and cancel."""

from typing import Any

from flask import Blueprint, Response, jsonify, request
from sqlalchemy.orm import Session

from app_srvc.bodies import (
    check_priority,
    find_unstorable,
    idempotency_key,
    is_unstorable,
    read_json_object,
)
from app_srvc.errors import InvalidValueError, LedgerUnavailableError, UnknownMessageError
from app_srvc.gate import request_id
from app_srvc.kinds import find_kind
from app_srvc.messages import store
from app_srvc.messages.accept import Accepted, draft
from app_srvc.messages.control import cancel_message, replay_message
from app_srvc.messages.ids import is_message_id
from app_srvc.messages.model import ACCEPTED, STATES, Message
from app_srvc.messages.places import place_in_queue
from app_srvc.messages.schemas import known_fields, message_fields
from app_srvc.pages import cut, requested_window
from app_srvc.web import Web, current_web

# What a repeated request is told of a message that retention has removed: no row is in this state.
PURGED = "purged"

FILTERS = ("kind", "state", "queue", "key")

blueprint = Blueprint("messages_api", __name__, url_prefix="/api/v1/messages")


@blueprint.get("")
def list_messages() -> Response:
    """Messages from the newest on, by `kind`, `state`, `queue` and `key`."""
    window = requested_window()
    filters = _filters()
    rows = current_web().read(
        lambda session: store.list_messages(
            session, before_seq=window.before, limit=window.limit + 1, **filters
        )
    )
    page = cut(rows, window, lambda row: row.seq)
    return jsonify(items=[message_fields(row) for row in page.items], next=page.next)


@blueprint.get("/<message_id>")
def show_message(message_id: str) -> Response:
    return jsonify(_shown(current_web(), message_id))


@blueprint.post("")
def accept_message() -> tuple[Response, int]:
    """Accept a message of any kind: `{"kind": …, "payload": {…}}`."""
    web = current_web()
    fields = read_json_object()
    check_priority(fields)
    kind = find_kind(web.runtime.kinds, _text(fields, "kind"))
    accepted = web.intake.accept(
        draft(
            kind,
            web.runtime.queue_of(kind),
            _object(fields, "payload"),
            idempotency_key=idempotency_key(),
            correlation_id=request_id(),
        )
    )
    return jsonify(_answered(web, accepted)), 202


@blueprint.post("/<message_id>/replay")
def replay(message_id: str) -> tuple[Response, int]:
    """Have a message done again: the same one if it failed, a new one if it was done."""
    web = current_web()
    key = idempotency_key()
    accepted = web.act(lambda runtime: replay_message(runtime, message_id, idempotency_key=key))
    return jsonify(_answered(web, accepted)), 202


@blueprint.post("/<message_id>/cancel")
def cancel(message_id: str) -> Response:
    web = current_web()
    web.act(lambda runtime: cancel_message(runtime, message_id))
    return jsonify(_shown(web, message_id))


def _answered(web: Web, accepted: Accepted) -> dict[str, Any]:
    """The message as it stands after it was accepted, which nothing that happens now takes back."""
    try:
        return _shown(web, accepted.message_id)
    except UnknownMessageError:
        return known_fields(accepted, PURGED)
    except LedgerUnavailableError:
        if accepted.is_duplicate:
            raise
        return known_fields(accepted, ACCEPTED)


def _shown(web: Web, message_id: str) -> dict[str, Any]:
    def find(session: Session) -> Message:
        row = store.find_message(session, message_id) if is_message_id(message_id) else None
        if row is None:
            raise UnknownMessageError(f"There is no message {message_id}.")
        return row

    row = web.read(find)
    position = None
    if row.state == ACCEPTED:
        position = web.ask_redis(lambda client: place_in_queue(client, row.queue, row.id))
    return message_fields(row, position)


def _filters() -> dict[str, str]:
    filters = {name: request.args[name] for name in FILTERS if name in request.args}
    if filters.get("state", ACCEPTED) not in STATES:
        raise InvalidValueError("state", f"must be one of {', '.join(STATES)}")
    for name, value in filters.items():
        if is_unstorable(value):
            raise InvalidValueError(name, "must not contain NUL characters or lone surrogates")
    return filters


def _text(fields: dict[str, Any], name: str) -> str:
    value = _present(fields, name)
    if not isinstance(value, str):
        raise InvalidValueError(name, "must be a text")
    return value


def _object(fields: dict[str, Any], name: str) -> dict[str, Any]:
    value = _present(fields, name)
    if not isinstance(value, dict):
        raise InvalidValueError(name, "must be an object")
    if find_unstorable(value):
        raise InvalidValueError(name, "must not contain NUL characters or lone surrogates")
    return value


def _present(fields: dict[str, Any], name: str) -> Any:
    if name not in fields:
        raise InvalidValueError(name, "is required", code="NoKey")
    return fields[name]
