"""The gate: what happens to every request before a view sees it, and to every answer.

Around the application: a request id, which all log lines of the request carry, and the headers
that tell browsers what a page may do. In front of the views: who may, and from where.
"""

import os
import re
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import Any

import structlog
from flask import Flask, Response, request
from flask.sessions import SecureCookieSession, SecureCookieSessionInterface, SessionMixin
from flask.wrappers import Request
from flask_wtf.csrf import CSRFError, CSRFProtect

from app_srvc.auth import UNSAFE_METHODS, Access, Credentials, access_of, is_foreign_origin
from app_srvc.bodies import read_body
from app_srvc.deadlines import begin_request
from app_srvc.http_errors import Problem, answer_problem

REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_request_id: ContextVar[str] = ContextVar("request_id", default="")

SECURITY_HEADERS = [
    (
        "Content-Security-Policy",
        "default-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'",
    ),
    ("X-Content-Type-Options", "nosniff"),
    ("X-Frame-Options", "DENY"),
    ("Referrer-Policy", "same-origin"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
]

StartResponse = Callable[..., Any]
WsgiApp = Callable[[dict[str, Any], StartResponse], Iterable[bytes]]


class RequestFrame:
    """Wraps the application: below Flask, so that no answer can miss it, and cheaper than its hooks."""

    def __init__(self, application: WsgiApp) -> None:
        self._application = application

    def __call__(self, variables: dict[str, Any], start_response: StartResponse) -> Iterable[bytes]:
        given = variables.get("HTTP_X_REQUEST_ID", "")
        made = given if REQUEST_ID.fullmatch(given) else os.urandom(12).hex()
        _request_id.set(made)
        begin_request()
        structlog.contextvars.bind_contextvars(request_id=made)

        def start(status: str, headers: list[tuple[str, str]], *rest: Any) -> Any:
            if not any(name == "Cache-Control" for name, _ in headers):
                headers.append(("Cache-Control", "no-store"))
            return start_response(
                status, [*headers, *SECURITY_HEADERS, ("X-Request-ID", made)], *rest
            )

        return self._application(variables, start)


def request_id() -> str:
    """The id of the present request: the caller's, or one made for it."""
    return _request_id.get()


class LazySessions(SecureCookieSessionInterface):
    """Flask's own signed cookie, at no cost for a request that neither brings nor needs one."""

    def open_session(self, app: Flask, request: Request) -> SecureCookieSession | None:
        if app.secret_key and app.config["SESSION_COOKIE_NAME"] not in request.cookies:
            return self.session_class()
        return super().open_session(app, request)

    def save_session(self, app: Flask, session: SessionMixin, response: Response) -> None:
        if session.accessed or session.modified:
            super().save_session(app, session, response)

    def get_cookie_secure(self, app: Flask) -> bool:
        return request.is_secure


class Gate:
    """Stands before every view of an application."""

    def __init__(self, app: Flask, credentials: Credentials) -> None:
        self._credentials = credentials
        self._has_sessions = bool(app.secret_key)
        self._cookie = app.config["SESSION_COOKIE_NAME"]
        self._open = frozenset(
            name for name, view in app.view_functions.items() if access_of(view) is Access.ALL
        ) | {"static"}
        self._csrf = CSRFProtect()
        app.config["WTF_CSRF_CHECK_DEFAULT"] = False
        self._csrf.init_app(app)

    def check(self) -> Response | None:
        """Refuse a request that may not pass; None lets it."""
        if request.endpoint is None:
            return None
        if request.endpoint not in self._open:
            refusal = self._check_credentials()
            if refusal is not None:
                return refusal
        if request.method not in UNSAFE_METHODS:
            return None
        return self._check_host() or self._check_origin()

    def _check_host(self) -> Response | None:
        """A name of another site may be made to lead here, and its pages then look like our own."""
        if self._credentials.is_host_expected(request.host) or self._has_good_token():
            return None
        words = "This service is for its own machine: call it by a loopback name or address."
        return answer_problem(Problem(403, "ForeignHost", words))

    def _check_credentials(self) -> Response | None:
        if self._credentials.is_open_to(request.host):
            return None
        if self._has_good_token():
            return None
        words = (
            "This token is not known here."
            if request.headers.get("Authorization")
            else "This address asks for a token: send it as `Authorization: Bearer`."
        )
        return answer_problem(Problem(401, "Unauthorized", words))

    def _has_good_token(self) -> bool:
        return self._credentials.is_token_good(request.headers.get("Authorization", ""))

    def _check_origin(self) -> Response | None:
        """A browser sends what other sites tell it to: it must prove that one of our pages did."""
        if self._has_sessions and self._cookie in request.cookies:
            return self._check_csrf()
        origin = request.headers.get("Origin")
        if origin is not None and is_foreign_origin(origin, request.host):
            return answer_problem(
                Problem(403, "ForeignOrigin", "A page of another site may not send this.")
            )
        return None

    def _check_csrf(self) -> Response | None:
        # Read here and kept: Flask-WTF looks into the form, and the view parses the body itself.
        read_body()
        try:
            self._csrf.protect()
        except CSRFError as error:
            words = f"{error.description} Load the page again, and send the form from there."
            return answer_problem(Problem(403, "CSRF", words))
        return None
