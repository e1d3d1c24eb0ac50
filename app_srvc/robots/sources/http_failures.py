"""What went wrong between us and a web service, in words that hold no secret."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus

from requests.exceptions import (
    ChunkedEncodingError,
    ConnectTimeout,
    ContentDecodingError,
    ProxyError,
    SSLError,
    Timeout,
)
from urllib3.exceptions import NameResolutionError, ReadTimeoutError

from app_srvc.errors import SourcePageError, SourceUnavailableError

# Whoever asks for a longer wait has sent a mistake; a robot that never asks again would be one too.
MAX_RETRY_AFTER_S = 86_400.0

_REMEDIES = {
    401: " Check SOURCE_TOKEN.",
    403: " Check SOURCE_TOKEN.",
    404: " Check SOURCE_URL.",
}


def explain_status(name: str, status: int) -> str:
    """A sentence for a status that brings no page. The words that came with it are not repeated."""
    try:
        phrase = f" {HTTPStatus(status).phrase}"
    except ValueError:
        phrase = ""
    return f"{name} answered {status}{phrase}.{_REMEDIES.get(status, '')}"


def retry_after_s(header: str | None, now: datetime) -> float | None:
    """Seconds from now that a Retry-After header asks for (RFC 9110, 10.2.3); None if it says nothing.

    It is a number of seconds or an HTTP date. A time that is past is 0; more than a day is a day.
    """
    text = (header or "").strip()
    if re.fullmatch("[0-9]+", text):
        # A float takes any number of digits; int() refuses more than 4,300.
        return min(float(text), MAX_RETRY_AFTER_S)
    try:
        moment = parsedate_to_datetime(text)
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        wait_s = (moment - now).total_seconds()
    except (ValueError, OverflowError):
        return None
    return min(max(0.0, wait_s), MAX_RETRY_AFTER_S)


def explain_failure(
    error: Exception, name: str, what: str, timeout_s: float
) -> SourceUnavailableError | SourcePageError:
    """The error to raise instead of one of requests, whose text holds the address with its query."""
    causes = list(_causes(error))
    if isinstance(error, ContentDecodingError):
        return SourcePageError(f"{name}: {what} is not compressed as it says.")
    if isinstance(error, ChunkedEncodingError):
        return SourcePageError(f"{name}: {what} breaks off.")
    if isinstance(error, ConnectTimeout):
        return SourceUnavailableError(f"{name} took no connection within {timeout_s:g} s.")
    if isinstance(error, Timeout) or any(isinstance(cause, ReadTimeoutError) for cause in causes):
        return SourceUnavailableError(f"{name} was silent for {timeout_s:g} s.")
    if isinstance(error, SSLError):
        return SourceUnavailableError(
            f"{name} could not be trusted: its TLS certificate or connection is not valid."
        )
    if isinstance(error, ProxyError):
        return SourceUnavailableError(f"The proxy on the way to {name} cannot be reached.")
    if any(isinstance(cause, NameResolutionError) for cause in causes):
        return SourceUnavailableError(f"{name} has a host that is not known. Check SOURCE_URL.")
    if any(isinstance(cause, ConnectionRefusedError) for cause in causes):
        return SourceUnavailableError(f"{name} refused the connection.")
    return SourceUnavailableError(f"{name} did not answer as a web service does, or hung up.")


def _causes(error: BaseException) -> Iterator[BaseException]:
    """The error and what is behind it. requests and urllib3 also keep causes in args and `reason`."""
    seen: set[int] = set()
    todo: list[object] = [error]
    while todo:
        cause = todo.pop()
        if isinstance(cause, BaseException) and id(cause) not in seen:
            seen.add(id(cause))
            yield cause
            todo += [cause.__cause__, cause.__context__, getattr(cause, "reason", None)]
            todo += cause.args
