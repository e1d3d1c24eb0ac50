"""Registration for programs: JSON in, the message's id out."""

import json
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from flask import Blueprint, Response, current_app

from app_srvc.bodies import check_priority, idempotency_key, read_json_object
from app_srvc.gate import request_id
from app_srvc.kinds import find_kind
from app_srvc.messages.accept import Accepted, draft
from app_srvc.registration.schemas import FORM_FIELDS, from_form
from app_srvc.web import current_web

KIND = "registration"

# For our field names, those that the caller used.
NAMES: Mapping[str, str] = MappingProxyType({ours: theirs for theirs, ours in FORM_FIELDS.items()})

blueprint = Blueprint("registration_api", __name__)


def accept_registration(fields: Mapping[str, Any], key: str | None) -> Accepted:
    """Put a registration into the ledger; `fields` has the original's names.

    Raises:
        InvalidValueError: A field is missing or wrong.
        LedgerUnavailableError, IdempotencyConflictError
    """
    web = current_web()
    kind = find_kind(web.runtime.kinds, KIND)
    return web.intake.accept(
        draft(
            kind,
            web.runtime.queue_of(kind),
            from_form(fields),
            names=NAMES,
            idempotency_key=key,
            correlation_id=request_id(),
        )
    )


def register_from_json() -> Response:
    """Accept a registration that came as JSON. This is the busiest way in: keep it short."""
    fields = read_json_object()
    check_priority(fields)
    return answer_accepted(accept_registration(fields, idempotency_key()))


def answer_accepted(accepted: Accepted) -> Response:
    text = json.dumps(
        {
            "ok": True,
            "jobid": accepted.message_id,
            "queue": accepted.queue,
            "status_url": f"/api/v1/messages/{accepted.message_id}",
        }
    )
    return current_app.response_class(text, 202, content_type="application/json")
