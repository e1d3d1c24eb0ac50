"""The inbox: other systems hand over a JSON object or an XML document, which is kept as it came."""

import re

from defusedxml.common import DefusedXmlException
from defusedxml.ElementTree import DefusedXMLParser, ParseError
from flask import Blueprint, Response, jsonify, request

from app_srvc.bodies import (
    find_unstorable,
    idempotency_key,
    is_json_request,
    parse_json_object,
    read_text,
)
from app_srvc.errors import InvalidValueError, MalformedBodyError, UnsupportedMediaTypeError
from app_srvc.gate import request_id
from app_srvc.kinds import find_kind
from app_srvc.messages.accept import draft
from app_srvc.web import current_web

KIND = "message"
XML_TYPES = frozenset({"application/xml", "text/xml"})
DECLARED_ENCODING = re.compile(r"""\A\ufeff?<\?xml\s[^>]*?encoding\s*=\s*["']([^"']*)["']""")

blueprint = Blueprint("inbox_api", __name__)


@blueprint.post("/api/sendmsg")
def send_message() -> Response:
    """Accept any JSON object, or any XML document without a DTD."""
    fields = {"content_type": _content_type(), "body": read_text()}
    check = _check_json if fields["content_type"] == "application/json" else _check_xml
    check(fields["body"])
    web = current_web()
    kind = find_kind(web.runtime.kinds, KIND)
    accepted = web.intake.accept(
        draft(
            kind,
            web.runtime.queue_of(kind),
            fields,
            idempotency_key=idempotency_key(),
            correlation_id=request_id(),
        )
    )
    return jsonify(ok=True, idjob=accepted.message_id)


def _content_type() -> str:
    if is_json_request():
        return "application/json"
    if request.mimetype in XML_TYPES or request.mimetype.endswith("+xml"):
        return "application/xml"
    raise UnsupportedMediaTypeError(
        "The body must be JSON or XML, and its Content-Type must say so."
    )


def _check_json(text: str) -> None:
    if find_unstorable(parse_json_object(text)):
        raise InvalidValueError("body", "must not contain NUL characters or lone surrogates")


def _check_xml(text: str) -> None:
    """Well-formed, in UTF-8, and without a DTD: nothing that can refer, expand or fetch."""
    declared = DECLARED_ENCODING.match(text)
    if declared and declared[1].lower() not in ("utf-8", "us-ascii"):
        raise MalformedBodyError(
            "The XML document must be in UTF-8, and say so if it says anything."
        )
    parser = DefusedXMLParser(target=_NoTree(), forbid_dtd=True)
    try:
        parser.feed(text.encode())
        parser.close()
    except ParseError as error:
        raise MalformedBodyError(f"The body is not well-formed XML: {error}.") from None
    except DefusedXmlException:
        raise MalformedBodyError("The XML document must not have a DTD or entities.") from None


class _NoTree:
    """A parser's target that keeps nothing, so that a document costs no more memory than its text."""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """An element begins."""

    def end(self, tag: str) -> None:
        """An element ends."""

    def data(self, text: str) -> None:
        """Text of an element."""

    def close(self) -> None:
        """The document ends."""
