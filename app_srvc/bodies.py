"""Bodies of requests: parsed strictly, so that what is stored is what was meant."""

import json
from collections.abc import Iterable, Mapping
from typing import Any, NoReturn
from urllib.parse import parse_qsl

from flask import current_app, request
from werkzeug.exceptions import RequestEntityTooLarge

from app_srvc.errors import InvalidValueError, MalformedBodyError, UnsupportedMediaTypeError
from app_srvc.messages.accept import DEFAULT_PRIORITY, check_idempotency_key

FORM_TYPE = "application/x-www-form-urlencoded"
MULTIPART_TYPE = "multipart/form-data"
FORM_TYPES = (FORM_TYPE, MULTIPART_TYPE)
MAX_FORM_FIELDS = 100


def is_json_request() -> bool:
    return _is_json(request.mimetype)


def read_json_object() -> dict[str, Any]:
    """The body as a JSON object.

    Raises:
        UnsupportedMediaTypeError: It does not say that it is JSON in UTF-8.
        MalformedBodyError: It is not JSON (RFC 8259: `NaN` is not).
        InvalidValueError: It is JSON, and not an object.
    """
    if not _is_json(request.mimetype):
        raise UnsupportedMediaTypeError(
            "The body must be JSON, with Content-Type application/json."
        )
    return parse_json_object(read_text())


def parse_json_object(text: str) -> dict[str, Any]:
    try:
        value = _decode(text)
    except (ValueError, RecursionError) as error:
        raise MalformedBodyError(f"The body is not valid JSON: {_reason(error)}.") from None
    if not isinstance(value, dict):
        raise InvalidValueError("body", "must be a JSON object")
    return value


def read_body() -> bytes:
    """The body, kept for whoever reads it next.

    Raises:
        RequestEntityTooLarge: It is larger than the settings allow, whether it said so or not.
    """
    limit: int = current_app.config["MAX_CONTENT_LENGTH"]
    if request.content_length is None:
        # Werkzeug cuts a body of unknown length at the limit and says nothing: one byte more is
        # enough to see that there was more.
        request.max_content_length = limit + 1
    body = request.get_data()
    if len(body) > limit:
        raise RequestEntityTooLarge
    return body


def read_text() -> str:
    """The body as text, which must be UTF-8.

    Raises:
        UnsupportedMediaTypeError: It says that it is compressed, or in another encoding.
        MalformedBodyError: It is not UTF-8.
    """
    if request.content_encoding not in (None, "", "identity"):
        raise UnsupportedMediaTypeError("The body must not be compressed.")
    charset = request.mimetype_params.get("charset", "utf-8").lower()
    if charset not in ("utf-8", "utf8", "us-ascii"):
        raise UnsupportedMediaTypeError("The body must be in UTF-8.")
    try:
        return read_body().decode("utf-8")
    except UnicodeDecodeError as error:
        raise MalformedBodyError(f"The body is not valid UTF-8: byte {error.start}.") from None


def read_form() -> dict[str, str]:
    """The fields of a form, the last one where a name comes twice.

    Raises:
        UnsupportedMediaTypeError, MalformedBodyError
    """
    body = read_body()
    if request.mimetype == MULTIPART_TYPE:
        return _checked(request.form.to_dict())
    if request.mimetype != FORM_TYPE:
        raise UnsupportedMediaTypeError("The body must be a form or JSON.")
    try:
        pairs = parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            errors="strict",
            max_num_fields=MAX_FORM_FIELDS,
        )
    except ValueError:
        raise MalformedBodyError("The form is not valid: it must be UTF-8.") from None
    return dict(pairs)


def idempotency_key() -> str | None:
    """The caller's `Idempotency-Key`, checked."""
    return check_idempotency_key(request.headers.get("Idempotency-Key"))


def check_priority(fields: Mapping[str, Any]) -> None:
    """Refuse a priority that no worker would honour yet."""
    if fields.get("priority", DEFAULT_PRIORITY) != DEFAULT_PRIORITY:
        raise InvalidValueError("priority", f"must be {DEFAULT_PRIORITY}, or be left out")


def find_unstorable(value: Any) -> bool:
    """Whether a JSON value has text that is no text: NUL characters, or halves of surrogate pairs.

    A database refuses them, and another system may stop reading there.
    """
    waiting = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, str):
            if is_unstorable(item):
                return True
        elif isinstance(item, dict):
            waiting += item
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
    return False


def is_unstorable(text: str) -> bool:
    return "\x00" in text or (not text.isascii() and any("\ud800" <= c <= "\udfff" for c in text))


def _is_json(mimetype: str) -> bool:
    return mimetype == "application/json" or (
        mimetype.startswith("application/") and mimetype.endswith("+json")
    )


def _checked(fields: dict[str, str]) -> dict[str, str]:
    """Werkzeug puts U+FFFD where a multipart field is not UTF-8."""
    if any("\ufffd" in text for text in _texts(fields)):
        raise MalformedBodyError("The form is not valid: it must be UTF-8.")
    return fields


def _texts(fields: Mapping[str, str]) -> Iterable[str]:
    yield from fields
    yield from fields.values()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON value")


# Made once: json.loads with an option would make a decoder for each call.
_decode = json.JSONDecoder(parse_constant=_refuse_constant).decode


def _reason(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at line {error.lineno}, column {error.colno}"
    # Also a number of more digits than Python converts.
    return "it has a number that cannot be read" if "digits" in str(error) else str(error)
