"""Bad input: each kind of it gets the documented error, and changes nothing."""

import json
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from tests.support.web import START, WebWorld, inner_code, registration

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

# Every address that takes JSON, with a good body of its own.
JSON_ADDRESSES: Mapping[str, Mapping[str, Any]] = {
    "/userregres/": registration(),
    "/api/wstart": START,
    "/api/sendmsg": {"order": 7},
    "/api/v1/messages": {"kind": "registration", "payload": {}},
}
ADDRESSES = pytest.mark.parametrize("address", JSON_ADDRESSES)


def _nothing_changed(web: WebWorld) -> bool:
    robot = web.client.get("/api/v1/robots/todos").get_json()
    return web.messages() == 0 and robot["generation"] == 0


def _code(answer: TestResponse) -> str:
    """The stable word of an error, in the shape of its address."""
    if answer.request.path.startswith("/api/v1/"):
        assert answer.mimetype == "application/problem+json"
        body = answer.get_json()
        assert body["status"] == answer.status_code
        assert body["title"]
        assert body["detail"]
        code: str = body["code"]
        return code
    assert answer.mimetype == JSON
    return inner_code(answer)


@ADDRESSES
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"nonsense",
        b'{"a": 1}}',
        b'{"a": NaN}',
        b'{"a": Infinity}',
        b'{"a": -Infinity}',
        b"{'a': 1}",
        b'{"a": "\x00"}',
        b'{"a": "\xff\xfe"}',
        b"\xff\xfe{\x00}\x00",
        b'\xef\xbb\xbf{"a": 1}',
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"a": ' + b"9" * 5_000 + b"}",
    ],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_not_json_is_400(plain_web: WebWorld, address: str, body: bytes) -> None:
    answer = plain_web.client.post(address, data=body, content_type=JSON)
    assert answer.status_code == 400
    assert _code(answer) == "MalformedBody"
    assert _nothing_changed(plain_web)


@ADDRESSES
@pytest.mark.parametrize("value", [[], [1], "text", 5, None, True])
def test_json_that_is_not_an_object_is_422(
    plain_web: WebWorld, address: str, value: object
) -> None:
    answer = plain_web.client.post(address, data=json.dumps(value), content_type=JSON)
    assert answer.status_code == 422
    assert _code(answer) == "OutOfRangeValue"
    assert _nothing_changed(plain_web)


@ADDRESSES
@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/octet-stream", "image/png", "nonsense", ""]
)
def test_an_unknown_content_type_is_415(
    plain_web: WebWorld, address: str, content_type: str
) -> None:
    body = json.dumps(JSON_ADDRESSES[address])
    answer = plain_web.client.post(
        address, data=body, content_type=content_type, headers={"Accept": JSON}
    )
    assert answer.status_code == 415
    assert _code(answer) == "UnsupportedMediaType"
    assert _nothing_changed(plain_web)


@ADDRESSES
@pytest.mark.parametrize(
    ("content_type", "encoding"),
    [(f"{JSON}; charset=utf-16", None), (JSON, "gzip"), (JSON, "br")],
)
def test_another_charset_or_a_compressed_body_is_415(
    plain_web: WebWorld, address: str, content_type: str, encoding: str | None
) -> None:
    headers = {"Content-Encoding": encoding} if encoding else {}
    answer = plain_web.client.post(address, data="{}", content_type=content_type, headers=headers)
    assert answer.status_code == 415
    assert _nothing_changed(plain_web)


@ADDRESSES
def test_a_body_that_is_too_large_is_413(plain_web: WebWorld, address: str) -> None:
    size = plain_web.settings.max_body_bytes
    body = json.dumps({**JSON_ADDRESSES[address], "more": "x" * size})
    answer = plain_web.client.post(address, data=body, content_type=JSON)
    assert answer.status_code == 413
    assert _code(answer) == "RequestEntityTooLarge"
    assert _nothing_changed(plain_web)


@ADDRESSES
def test_a_method_that_is_not_allowed_is_405_and_says_which_are(
    plain_web: WebWorld, address: str
) -> None:
    answer = plain_web.client.patch(address, json={}, headers={"Accept": JSON})
    assert answer.status_code == 405
    assert "POST" in answer.headers["Allow"]
    assert _code(answer) == "MethodNotAllowed"
    assert _nothing_changed(plain_web)


@pytest.mark.parametrize("name", list(registration()))
def test_a_missing_field_of_a_registration_is_named(plain_web: WebWorld, name: str) -> None:
    fields = {key: value for key, value in registration().items() if key != name}
    answer = plain_web.client.post("/userregres/", json=fields)
    assert answer.status_code == 422
    assert _code(answer) == "NoKey"
    assert answer.get_json()["Error"]["description"] == f"No key [{name}]"
    assert answer.get_json()["Error"]["target"] == "POST-Userregres"
    assert _nothing_changed(plain_web)


@pytest.mark.parametrize(
    "value",
    [
        "",
        "x" * 36,
        "x" * 1_000_000,
        "nul\x00nul",
        "\ud800",
        "line\nend",
        5,
        None,
        True,
        ["Olena"],
        {"a": 1},
    ],
    ids=lambda value: repr(value)[:12],
)
def test_a_wrong_name_is_refused(plain_web: WebWorld, value: object) -> None:
    answer = plain_web.client.post("/userregres/", json={**registration(), "szFirstName": value})
    assert answer.status_code == 422
    assert _code(answer) == "OutOfRangeValue"
    assert "szFirstName" in answer.get_json()["Error"]["description"]
    assert _nothing_changed(plain_web)


@pytest.mark.parametrize(
    "wrong",
    [
        {"szEmail": "nobody"},
        {"szEmail": "a@b"},
        {"szEmail": "a@example.org\r\nBcc: b@example.org"},
        {"szPhone": "12"},
        {"szPhone": "0441234567"},
        {"szPhone": 380441234567},
        {"szLogin": "two words"},
        {"szLogin": "é" * 5},
    ],
    ids=str,
)
def test_a_wrong_address_phone_or_login_is_refused(
    plain_web: WebWorld, wrong: dict[str, Any]
) -> None:
    answer = plain_web.client.post("/userregres/", json={**registration(), **wrong})
    assert answer.status_code == 422
    assert _nothing_changed(plain_web)


def test_a_value_that_was_refused_is_not_repeated_in_the_answer(plain_web: WebWorld) -> None:
    answer = plain_web.client.post("/userregres/", json=registration(szEmail="secret-of-mine"))
    assert "secret-of-mine" not in answer.get_data(as_text=True)


@pytest.mark.parametrize("priority", ["high", "low", "", None, 1])
def test_a_priority_that_no_worker_honours_yet_is_refused(
    plain_web: WebWorld, priority: object
) -> None:
    for address, body in (
        ("/userregres/", {**registration(), "priority": priority}),
        ("/api/v1/messages", {"kind": "message", "payload": {}, "priority": priority}),
    ):
        answer = plain_web.client.post(address, json=body)
        assert answer.status_code == 422
        assert "priority" in answer.get_data(as_text=True)
    assert _nothing_changed(plain_web)


@pytest.mark.parametrize(
    "body", [b"szFirstName=%FF", b"szFirstName=\xff", b"a=1&" * 200], ids=["%FF", "FF", "many"]
)
def test_a_form_that_is_no_form_is_400(plain_web: WebWorld, body: bytes) -> None:
    answer = plain_web.client.post("/userregres/", data=body, content_type=FORM)
    assert answer.status_code == 400
    assert answer.mimetype == "text/html"
    assert _nothing_changed(plain_web)


def test_a_multipart_form_that_is_not_utf_8_is_400(plain_web: WebWorld) -> None:
    body = b'--x\r\nContent-Disposition: form-data; name="szFirstName"\r\n\r\n\xff\xfe\r\n--x--\r\n'
    answer = plain_web.client.post(
        "/userregres/", data=body, content_type="multipart/form-data; boundary=x"
    )
    assert answer.status_code == 400
    assert _nothing_changed(plain_web)


def test_a_multipart_form_is_a_form(plain_web: WebWorld) -> None:
    answer = plain_web.client.post(
        "/userregres/", data=registration(), content_type="multipart/form-data"
    )
    assert answer.status_code == 200
    assert plain_web.only_message().key == "olena"


@pytest.mark.parametrize(
    ("address", "mimetype"),
    [
        ("/nowhere", "text/html"),
        ("/api/nowhere", JSON),
        ("/api/v1/nowhere", "application/problem+json"),
        ("/static/nowhere.css", "text/html"),
        ("/static/../app.py", "text/html"),
    ],
)
def test_an_unknown_address_is_404_in_the_shape_of_its_neighbours(
    plain_web: WebWorld, address: str, mimetype: str
) -> None:
    answer = plain_web.client.get(address)
    assert answer.status_code == 404
    assert answer.mimetype == mimetype


def test_a_page_that_is_asked_for_as_json_answers_errors_as_json(plain_web: WebWorld) -> None:
    answer = plain_web.client.get("/robots/nobody", headers={"Accept": JSON})
    assert answer.status_code == 404
    assert inner_code(answer) == "UnknownRobot"


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=())),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KEYS = [*registration(), "timedelta", "records", "msg", "rplstatus", "kind", "payload", "priority"]
objects = st.dictionaries(st.sampled_from(KEYS), json_values, max_size=6)


@pytest.fixture(scope="module")
def fuzzed_web(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Any:
    server = request.getfixturevalue("valkey_server")
    template = request.getfixturevalue("sqlite_template")
    path = tmp_path_factory.mktemp("fuzz") / "ledger.db"
    path.write_bytes(template.read_bytes())
    web = WebWorld(server.url, f"sqlite:///{path}")
    yield web
    web.close()


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(address=st.sampled_from(list(JSON_ADDRESSES)), body=objects)
def test_no_json_object_makes_a_server_error(
    fuzzed_web: WebWorld, address: str, body: dict[str, Any]
) -> None:
    answer = fuzzed_web.client.post(address, json=body)
    assert answer.status_code in (200, 202, 422)


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    address=st.sampled_from(list(JSON_ADDRESSES)),
    body=st.binary(max_size=60),
    content_type=st.sampled_from([JSON, FORM, "application/xml", "multipart/form-data", "x/y"]),
)
def test_no_bytes_make_a_server_error(
    fuzzed_web: WebWorld, address: str, body: bytes, content_type: str
) -> None:
    answer = fuzzed_web.client.post(address, data=body, content_type=content_type)
    assert 200 <= answer.status_code < 500
