"""Registration for people: the form, the answer page that changes by itself, the list of users."""

import secrets
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime

from flask import Blueprint, Response, current_app, jsonify, render_template, request
from pydantic import ValidationError
from sqlalchemy.orm import Session

from app_srvc.auth import open_to_all
from app_srvc.bodies import FORM_TYPES, idempotency_key, is_json_request, is_unstorable, read_form
from app_srvc.errors import (
    InvalidValueError,
    LedgerUnavailableError,
    UnknownMessageError,
    UnsupportedMediaTypeError,
)
from app_srvc.http_errors import wants_json
from app_srvc.messages import store as message_store
from app_srvc.messages.accept import Accepted, content_digest
from app_srvc.messages.ids import is_message_id
from app_srvc.messages.model import ACCEPTED, Message
from app_srvc.messages.places import place_in_queue
from app_srvc.pages import cut, requested_window
from app_srvc.registration import store
from app_srvc.registration.api import (
    KIND,
    NAMES,
    accept_registration,
    answer_accepted,
    register_from_json,
)
from app_srvc.registration.progress import Progress, just_accepted, progress_of
from app_srvc.registration.schemas import FORM_FIELDS, Registration, from_form
from app_srvc.web import current_web

FORM_ID = "form_id"
MAX_SEARCH_CHARS = 254
PLACE_LOOKS = 4
PLACE_LOOK_S = 0.01

blueprint = Blueprint("registration", __name__)


@blueprint.get("/userreg/")
@open_to_all
def form() -> str:
    return _form_page({}, {})


@blueprint.post("/userregres/")
@open_to_all
def register() -> Response:
    """Accept a registration from a form or as JSON."""
    if is_json_request():
        return register_from_json()
    if request.mimetype not in FORM_TYPES:
        raise UnsupportedMediaTypeError("The body must be a form or JSON.")
    fields = read_form()
    if wants_json():
        return answer_accepted(accept_registration(fields, _form_key(fields)))
    problems = form_problems(fields)
    if problems:
        return current_app.response_class(_form_page(fields, problems), 422)
    accepted = accept_registration(fields, _form_key(fields))
    return current_app.response_class(_answer_page(_first_progress(accepted)))


@blueprint.get("/userregres/<message_id>/")
@open_to_all
def answer(message_id: str) -> str:
    """The answer page again, as it stands now. Whoever knows the id may see it; it says nothing personal."""
    return _answer_page(_progress(message_id))


@blueprint.get("/userregres/<message_id>/state")
@open_to_all
def state(message_id: str) -> Response:
    """The same for programs: state, place in the queue and reason."""
    progress = _progress(message_id)
    return jsonify(state=progress.state, place=progress.place, reason=progress.reason)


@blueprint.get("/userlist/")
def users() -> str:
    """Users from the newest on, a page at a time, by the beginning of login, last name or e-mail."""
    window = requested_window()
    search = request.args.get("search", "").strip()[:MAX_SEARCH_CHARS]
    if is_unstorable(search):
        raise InvalidValueError("search", "must not contain NUL characters")
    rows = current_web().read(
        lambda session: store.list_users(
            session, search=search, before_id=window.before, limit=window.limit + 1
        )
    )
    page = cut(rows, window, lambda row: row.id)
    return render_template("registration/users.html", page=page, search=search)


def form_problems(fields: Mapping[str, str]) -> dict[str, str]:
    """What is wrong with each field of a form, in words that help to mend it."""
    given = {name: fields.get(name, "") for name in FORM_FIELDS}
    try:
        Registration.model_validate(from_form(given))
    except ValidationError as error:
        return {
            NAMES[str(detail["loc"][0])]: _words(
                detail["type"], detail["msg"], given, detail["loc"][0]
            )
            for detail in error.errors(include_url=False)
        }
    return {}


def _words(kind: str, message: str, given: Mapping[str, str], field: object) -> str:
    if not given[NAMES[str(field)]].strip():
        return "Please fill this in."
    if kind == "string_pattern_mismatch":
        return "Letters A to Z, digits and . _ @ - only, please."
    words = message.removeprefix("Value error, ").replace("String should have", "must have")
    return f"It {words}."


def _form_key(fields: Mapping[str, str]) -> str | None:
    """One form that is sent twice (a double click, a reload) is one registration.

    With other content it is another one: whoever goes back and mends a field sends the same form.
    """
    if request.headers.get("Idempotency-Key") is not None:
        return idempotency_key()
    form_id = fields.get(FORM_ID)
    if not form_id:
        return None
    content = "\x00".join([form_id, *(fields.get(name, "") for name in FORM_FIELDS)])
    return f"form-{content_digest(content)}"


def _form_page(fields: Mapping[str, str], problems: Mapping[str, str]) -> str:
    return render_template(
        "registration/form.html",
        fields=fields,
        problems=problems,
        form_id=fields.get(FORM_ID) or secrets.token_urlsafe(16),
    )


def _answer_page(progress: Progress) -> str:
    return render_template("registration/answer.html", progress=progress)


def _first_progress(accepted: Accepted) -> Progress:
    """What there is to say at once. It has been accepted, whatever happens to the database now.

    An old form that is sent again may stand for a registration that retention has removed.
    """
    try:
        progress = _progress(accepted.message_id)
    except (LedgerUnavailableError, UnknownMessageError):
        return just_accepted(accepted.message_id, accepted.queue, datetime.now(UTC))
    if progress.has_ended or progress.place is not None:
        return progress
    return replace(progress, place=_awaited_place(accepted))


def _awaited_place(accepted: Accepted) -> int | None:
    """The job is put on its queue just after the registration was accepted: look again for a moment."""
    web = current_web()
    for _ in range(PLACE_LOOKS):
        if web.broker.is_paused:
            return None
        time.sleep(PLACE_LOOK_S)
        place = web.ask_redis(
            lambda client: place_in_queue(client, accepted.queue, accepted.message_id)
        )
        if place is not None:
            return place
    return None


def _progress(message_id: str) -> Progress:
    web = current_web()

    def find(session: Session) -> Message:
        row = message_store.find_message(session, message_id) if is_message_id(message_id) else None
        if row is None or row.kind != KIND:
            raise UnknownMessageError("There is no registration of that number.")
        return row

    row = web.read(find)
    place = None
    if row.state == ACCEPTED:
        place = web.ask_redis(lambda client: place_in_queue(client, row.queue, row.id))
    return progress_of(row, place)
