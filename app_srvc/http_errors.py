"""Errors as HTTP answers, in the shape that the caller of an address expects.

`/api/v1/` answers `application/problem+json` (RFC 9457). The original's addresses answer its own
`{"Error": …}`. Pages answer a page, unless the caller asked for JSON.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from types import MappingProxyType

from flask import Flask, Response, current_app, render_template, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, TooManyRequests

from app_srvc import errors
from app_srvc.bodies import FORM_TYPES
from app_srvc.logs import get_logger

RETRY_AFTER_S = 2

# How the original names a request in `target`: method, dash, subject.
TARGETS: Mapping[str, str] = MappingProxyType(
    {
        "/api/wstart": "Startrobot",
        "/api/wstop": "Stoprobot",
        "/api/sendmsg": "Sendmsg",
        "/api/health": "Health",
        "/userregres/": "Userregres",
    }
)

# The original's first-level codes.
LEGACY_CODES: Mapping[int, str] = MappingProxyType(
    {
        400: "InvalidAPIRequest",
        401: "Unauthorized",
        403: "Forbidden",
        404: "NotFound",
        405: "MethodNotAllowed",
        409: "Conflict",
        413: "RequestTooLarge",
        415: "UnsupportedMediaType",
        422: "InvalidAPIRequestParams",
        429: "TooManyRequests",
        503: "ServiceUnavailable",
    }
)

log = get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong with a request: status, a stable word for programs, words for people."""

    status: int
    code: str
    detail: str
    field: str | None = None


# The first class that an error is an instance of decides.
STATUSES: tuple[tuple[type[errors.AppError], int, str], ...] = (
    (errors.LedgerUnavailableError, 503, "LedgerUnavailable"),
    (errors.BrokerUnavailableError, 503, "BrokerUnavailable"),
    (errors.ConfigurationError, 503, "NotConfigured"),
    (errors.MalformedBodyError, 400, "MalformedBody"),
    (errors.UnsupportedMediaTypeError, 415, "UnsupportedMediaType"),
    (errors.UnknownKindError, 422, "UnknownKind"),
    (errors.UnknownMessageError, 404, "UnknownMessage"),
    (errors.UnknownRobotError, 404, "UnknownRobot"),
    (errors.UnknownQueueError, 404, "UnknownQueue"),
    (errors.MessageStateError, 409, "MessageState"),
    (errors.IdempotencyConflictError, 409, "IdempotencyConflict"),
    (errors.RobotAlreadyRunningError, 409, "RobotAlreadyRunning"),
)


def register_error_handlers(app: Flask) -> None:
    app.register_error_handler(errors.AppError, answer_app_error)
    app.register_error_handler(HTTPException, answer_http_exception)
    app.register_error_handler(Exception, answer_unexpected)


def answer_app_error(error: errors.AppError) -> Response:
    if isinstance(error, errors.RobotAlreadyRunningError) and request.path in TARGETS:
        # The original's words for it.
        return answer_problem(Problem(422, "Jobid exists", error.message))
    return answer_problem(problem_of(error))


def problem_of(error: errors.AppError) -> Problem:
    """The problem that an error of ours is to a caller."""
    if isinstance(error, errors.InvalidValueError):
        return Problem(422, error.code, _value_detail(error), error.field)
    if isinstance(error, (errors.LedgerUnavailableError, errors.BrokerUnavailableError)):
        # What the driver says names hosts: that is for the log, where it stands, and not for callers.
        error = type(error)()
    for kind, status, code in STATUSES:
        if isinstance(error, kind):
            return Problem(status, code, error.message)
    log.error("request_failed", error_type=type(error).__name__, exc_info=error)
    return Problem(500, "InternalError", "Something went wrong here. It has been logged.")


def answer_http_exception(error: HTTPException) -> Response:
    """What Flask itself refuses: an unknown address, a wrong method, a body that is too large."""
    if error.code is None or error.code < 400:
        redirect: Response = error.get_response()  # type: ignore[assignment]
        return redirect
    phrase = HTTPStatus(error.code).phrase
    answer = answer_problem(
        Problem(error.code, phrase.replace(" ", ""), error.description or phrase)
    )
    if isinstance(error, MethodNotAllowed) and error.valid_methods:
        answer.headers["Allow"] = ", ".join(sorted(error.valid_methods))
    if isinstance(error, TooManyRequests):
        answer.headers.setdefault("Retry-After", str(RETRY_AFTER_S))
    return answer


def answer_unexpected(error: Exception) -> Response:
    log.error("request_failed", path=request.path, error_type=type(error).__name__, exc_info=error)
    return answer_problem(
        Problem(500, "InternalError", "Something went wrong here. It has been logged.")
    )


def answer_problem(problem: Problem) -> Response:
    """The answer in the shape that belongs to the address."""
    if request.path.startswith("/api/v1/"):
        answer = _json(problem.status, _problem_json(problem), "application/problem+json")
    elif request.path.startswith(("/api/", "/health/")) or wants_json() or _is_for_programs():
        answer = _json(problem.status, _original(problem), "application/json")
    else:
        answer = _page(problem)
    if problem.status == 503:
        answer.headers["Retry-After"] = str(RETRY_AFTER_S)
    if problem.status == 401:
        answer.headers["WWW-Authenticate"] = 'Bearer realm="app-srvc"'
    return answer


def wants_json() -> bool:
    """Whether the caller of a page is a program: it sent JSON, or likes it better than HTML."""
    if request.mimetype == "application/json" or request.mimetype.endswith("+json"):
        return True
    accept = request.accept_mimetypes
    return accept["application/json"] > accept["text/html"]


def _is_for_programs() -> bool:
    """Whether an address of the original got what no form sends, from no caller that names HTML."""
    return (
        request.path in TARGETS
        and request.mimetype not in FORM_TYPES
        and "text/html" not in request.accept_mimetypes.values()
    )


def _problem_json(problem: Problem) -> dict[str, object]:
    body: dict[str, object] = {
        "type": "about:blank",
        "title": HTTPStatus(problem.status).phrase,
        "status": problem.status,
        "detail": problem.detail,
        "code": problem.code,
    }
    if problem.field is not None:
        body["field"] = problem.field
    return body


def _original(problem: Problem) -> dict[str, object]:
    description = problem.detail
    if problem.code == "NoKey" and problem.field is not None:
        description = f"No key [{problem.field}]"
    return {
        "Error": {
            "code": LEGACY_CODES.get(problem.status, "InternalError"),
            "description": description,
            "target": f"{request.method}-{_target()}",
            "Inner": {"code": problem.code, "description": problem.detail},
        }
    }


def _target() -> str:
    known = TARGETS.get(request.path)
    return known or request.path.strip("/").replace("/", "-") or "home"


def _value_detail(error: errors.InvalidValueError) -> str:
    return f"{error.field} {error.problem}"


def _json(status: int, body: Mapping[str, object], content_type: str) -> Response:
    text = json.dumps(body)
    return current_app.response_class(text, status, content_type=content_type)


def _page(problem: Problem) -> Response:
    title = HTTPStatus(problem.status).phrase
    html = render_template("errors/error.html", problem=problem, title=title)
    return current_app.response_class(html, problem.status)
