"""The border as a whole: the documented conversation, and bad input against every address that takes one."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from io import BytesIO
from typing import Any

import pytest
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from app_srvc.database import Base
from tests.support.servers import ValkeyServer
from tests.support.web import START, WebWorld, inner_code, registration

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"
NO_RPLSTATUS = {name: value for name, value in START.items() if name != "rplstatus"}
ID = "<id>"

# Every address that takes a JSON body, with a good one.
JSON_POSTS: Mapping[str, Mapping[str, Any]] = {
    "/userregres/": registration(),
    "/api/sendmsg": {"order": 7},
    "/api/wstart": START,
    "/api/v1/messages": {
        "kind": "message",
        "payload": {"content_type": JSON, "body": "{}"},
    },
}
FORM_POSTS: Mapping[str, Mapping[str, str]] = {
    "/userregres/": registration(),
    "/robots/todos/start": {"timedelta": "15", "records": "20", "msg": "by hand"},
}
UNKNOWN_MESSAGE = "01a1fbe5-8df1-7fcf-9f45-1d9a73df4a75"

# What each address takes, as the Allow header says it.
METHODS = {
    "/userregres/": {"POST", "OPTIONS"},
    "/api/health": {"GET", "HEAD", "OPTIONS"},
    "/api/sendmsg": {"POST", "OPTIONS"},
    "/api/wstart": {"GET", "HEAD", "POST", "OPTIONS"},
    "/api/wstop": {"DELETE", "POST", "OPTIONS"},
    "/api/v1/messages": {"GET", "HEAD", "POST", "OPTIONS"},
    f"/api/v1/messages/{UNKNOWN_MESSAGE}": {"GET", "HEAD", "OPTIONS"},
    f"/api/v1/messages/{UNKNOWN_MESSAGE}/replay": {"POST", "OPTIONS"},
    f"/api/v1/messages/{UNKNOWN_MESSAGE}/cancel": {"POST", "OPTIONS"},
}


def test_the_conversation_of_the_original_system(web: WebWorld) -> None:
    """Every request that the original documents, in order, and the whole of its answer."""
    running = {"ok": True, "idjob": "robot-todos-1-1", "queue": "QUE_ROBOT"}
    stopped = {"ok": True, "idjob": "NONE", "queue": "QUE_ROBOT", "status": "NotFound"}
    refused = {
        "Error": {
            "code": "InvalidAPIRequestParams",
            "description": "The robot is running already; nothing was changed.",
            "target": "POST-Startrobot",
            "Inner": {
                "code": "Jobid exists",
                "description": "The robot is running already; nothing was changed.",
            },
        }
    }
    conversation: list[tuple[str, str, Mapping[str, Any] | None, int, Mapping[str, Any]]] = [
        ("GET", "/api/health", None, 200, {"ok": True, "app_title": "app-srvc"}),
        ("POST", "/api/sendmsg", {"any": ["object"]}, 200, {"ok": True, "idjob": ID}),
        ("GET", "/api/wstart", None, 200, stopped),
        (
            "POST",
            "/api/wstart",
            NO_RPLSTATUS,
            200,
            {"ok": True, "idjob": "0", "queue": "None", "rplstatus": "STOP"},
        ),
        ("GET", "/api/wstart", None, 200, stopped),
        ("POST", "/api/wstart", START, 200, running),
        ("GET", "/api/wstart", None, 200, {**running, "status": "Found"}),
        ("POST", "/api/wstart", START, 422, refused),
        ("POST", "/api/wstart", NO_RPLSTATUS, 422, refused),
        ("GET", "/api/wstart", None, 200, {**running, "status": "Found"}),
        ("DELETE", "/api/wstop", None, 200, {"ok": True}),
        ("POST", "/api/wstop", None, 200, {"ok": True}),
        ("GET", "/api/wstart", None, 200, stopped),
        # A stop raises the generation too, so that no wake-up of before it is taken for a later one.
        ("POST", "/api/wstart", START, 200, {**running, "idjob": "robot-todos-3-1"}),
    ]
    for number, (method, path, body, status, expected) in enumerate(conversation):
        answer = web.client.open(path, method=method, json=body)
        found = answer.get_json()
        if expected.get("idjob") == ID:
            assert found["idjob"] == web.only_message().id
            found = {**found, "idjob": ID}
        assert (answer.status_code, found) == (status, expected), f"{number}: {method} {path}"


NOT_JSON: Mapping[str, bytes] = {
    "nothing": b"",
    "text": b"hello",
    "a form": b"szFirstName=Olena&szLastName=Koval",
    "cut": b'{"timedelta": 15, ',
    "two": b"{} {}",
    "NaN": b'{"timedelta": NaN, "records": 20, "msg": "m", "rplstatus": "START"}',
    "Infinity": b'{"timedelta": -Infinity, "records": 20, "msg": "m", "rplstatus": "START"}',
    "a raw NUL": b'{"msg": "\x00"}',
    "no UTF-8": b'{"msg": "\xff"}',
    "too deep": b'{"a": ' * 100_000 + b"1" + b"}" * 100_000,
    "too many digits": b'{"timedelta": ' + b"9" * 10_000 + b"}",
}


@pytest.mark.parametrize("body", NOT_JSON.values(), ids=NOT_JSON)
def test_what_is_not_json_changes_nothing_anywhere(
    web: WebWorld, valkey: ValkeyServer, body: bytes
) -> None:
    for path in JSON_POSTS:
        with unchanged(web, valkey):
            answer = web.client.post(path, data=body, content_type=JSON)
        assert_refused(answer, 400, "MalformedBody")


@pytest.mark.parametrize("value", [[START], "START", 15, 1.5, None, True, []], ids=repr)
def test_json_that_is_no_object_changes_nothing_anywhere(
    web: WebWorld, valkey: ValkeyServer, value: object
) -> None:
    for path in JSON_POSTS:
        with unchanged(web, valkey):
            answer = web.client.post(path, data=json.dumps(value), content_type=JSON)
        assert_refused(answer, 422, "OutOfRangeValue")


WRONG_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("/userregres/", {"szFirstName": "x" * 1_000_000}, "szFirstName"),
    ("/userregres/", {"szLastName": "nul\x00"}, "szLastName"),
    ("/userregres/", {"szFirstName": "\ud800"}, "szFirstName"),
    ("/userregres/", {"szLogin": 7}, "szLogin"),
    ("/userregres/", {"szEmail": ["a@example.org"]}, "szEmail"),
    ("/userregres/", {"szPhone": None}, "szPhone"),
    ("/userregres/", {"priority": "high"}, "priority"),
    ("/api/sendmsg", {"text": "nul\x00"}, "body"),
    ("/api/sendmsg", {"\udc00": 1}, "body"),
    ("/api/wstart", {"timedelta": "15"}, "timedelta"),
    ("/api/wstart", {"timedelta": 31_536_000}, "timedelta"),
    ("/api/wstart", {"timedelta": -1}, "timedelta"),
    ("/api/wstart", {"records": "20"}, "records"),
    ("/api/wstart", {"records": 0}, "records"),
    ("/api/wstart", {"msg": "nul\x00"}, "msg"),
    ("/api/wstart", {"msg": "\udfff"}, "msg"),
    ("/api/wstart", {"msg": "x" * 1_000_000}, "msg"),
    ("/api/wstart", {"rplstatus": "RESTART"}, "rplstatus"),
    ("/api/v1/messages", {"priority": "low"}, "priority"),
    ("/api/v1/messages", {"kind": 5}, "kind"),
    ("/api/v1/messages", {"payload": "text"}, "payload"),
    ("/api/v1/messages", {"payload": {"content_type": JSON, "body": "\x00"}}, "payload"),
    ("/api/v1/messages", {"payload": {"content_type": JSON, "body": 5}}, "body"),
]


def test_a_wrong_field_is_named_and_changes_nothing(web: WebWorld, valkey: ValkeyServer) -> None:
    for path, wrong, field in WRONG_FIELDS:
        text = json.dumps({**JSON_POSTS[path], **wrong})
        with unchanged(web, valkey):
            answer = web.client.post(path, data=text, content_type=JSON)
        assert_refused(answer, 422, "OutOfRangeValue")
        assert field in answer.get_data(as_text=True), (path, wrong)


MISSING_FIELDS = [
    (path, field) for path in JSON_POSTS if path != "/api/sendmsg" for field in JSON_POSTS[path]
]


def test_a_missing_field_is_named_and_changes_nothing(web: WebWorld, valkey: ValkeyServer) -> None:
    for path, field in MISSING_FIELDS:
        if field == "rplstatus":
            continue
        body = {name: value for name, value in JSON_POSTS[path].items() if name != field}
        with unchanged(web, valkey):
            answer = web.client.post(path, json=body)
        assert_refused(answer, 422, "NoKey")
        assert field in answer.get_data(as_text=True), path


@pytest.mark.parametrize("accept", [None, "*/*", "application/json, */*;q=0.5"])
@pytest.mark.parametrize("content_type", ["text/plain", "application/x-yaml", "text/json", ""])
def test_an_unknown_content_type_is_answered_in_the_shape_of_the_address(
    web: WebWorld, valkey: ValkeyServer, content_type: str, accept: str | None
) -> None:
    headers = {} if accept is None else {"Accept": accept}
    for path, body in JSON_POSTS.items():
        with unchanged(web, valkey):
            answer = web.client.post(
                path, data=json.dumps(body), content_type=content_type, headers=headers
            )
        assert_refused(answer, 415, "UnsupportedMediaType")


def test_a_browser_gets_a_page_about_an_unknown_content_type(plain_web: WebWorld) -> None:
    answer = plain_web.client.post(
        "/userregres/",
        data="hello",
        content_type="text/plain",
        headers={"Accept": "text/html,application/xhtml+xml,*/*;q=0.8"},
    )
    assert (answer.status_code, answer.mimetype) == (415, "text/html")


def test_a_body_of_unknown_length_that_is_too_large_is_413_and_is_not_cut(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    limit = web.settings.max_body_bytes
    for path, fields in JSON_POSTS.items():
        text = json.dumps(dict(fields)).encode()
        for body in (text.ljust(limit + 1), text.ljust(2 * limit)):
            with unchanged(web, valkey):
                answer = post_chunked(web, path, body, JSON)
            assert_refused(answer, 413, "RequestEntityTooLarge")


def test_a_body_of_unknown_length_may_be_as_large_as_any_other(plain_web: WebWorld) -> None:
    limit = plain_web.settings.max_body_bytes
    body = b'{"order": 7}'.ljust(limit)
    assert post_chunked(plain_web, "/api/sendmsg", body, JSON).status_code == 200
    assert plain_web.client.post("/api/sendmsg", data=body, content_type=JSON).status_code == 200


def test_a_form_of_unknown_length_that_is_too_large_is_413(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    """What is too much would come last: what was cut off would leave a form that looks whole."""
    limit = web.settings.max_body_bytes
    for path, fields in FORM_POSTS.items():
        urlencoded = "&".join(f"{name}={value}" for name, value in fields.items()).encode()
        with unchanged(web, valkey):
            answer = post_chunked(web, path, urlencoded + b"&more=" + b"x" * limit, FORM)
        assert answer.status_code == 413, path
        multipart = b"".join(
            f'--x\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
            for name, value in fields.items()
        )
        with unchanged(web, valkey):
            answer = post_chunked(
                web,
                path,
                multipart + b"--x--\r\n" + b"x" * limit,
                "multipart/form-data; boundary=x",
            )
        assert answer.status_code == 413, path


def test_a_form_of_unknown_length_is_a_form(plain_web: WebWorld) -> None:
    body = (
        b"szFirstName=O&szLastName=K&szLogin=olena&szEmail=o%40example.org&szPhone=%2B380441234567"
    )
    assert post_chunked(plain_web, "/userregres/", body, FORM).status_code == 200
    assert plain_web.only_message().key == "olena"


def test_a_method_that_is_not_allowed_is_405_and_names_those_that_are(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    refused = 0
    for path, allowed in METHODS.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - allowed:
            with unchanged(web, valkey):
                answer = web.client.open(path, method=method, json={})
            assert_refused(answer, 405, "MethodNotAllowed")
            assert set(answer.headers["Allow"].split(", ")) == allowed, (method, path)
            refused += 1
    assert refused > 25


def test_an_unknown_robot_is_404_and_changes_nothing(web: WebWorld, valkey: ValkeyServer) -> None:
    for name in ("nobody", "TODOS", "%00", "x" * 5_000, "..%2ftodos"):
        for method, path in (
            ("GET", f"/api/v1/robots/{name}"),
            ("GET", f"/api/v1/robots/{name}/cycles"),
            ("GET", f"/robots/{name}"),
            ("POST", f"/robots/{name}/start"),
            ("POST", f"/robots/{name}/stop"),
        ):
            body = FORM_POSTS["/robots/todos/start"] if method == "POST" else None
            with unchanged(web, valkey):
                answer = web.client.open(path, method=method, data=body)
            assert answer.status_code == 404, (method, path)


@pytest.mark.parametrize("path", ["/userregres/", "/api/sendmsg", "/api/v1/messages"])
def test_an_idempotency_key_that_is_no_key_changes_nothing(
    web: WebWorld, valkey: ValkeyServer, path: str
) -> None:
    for key in ("", "x" * 256, "tab\there"):
        with unchanged(web, valkey):
            answer = web.client.post(path, json=JSON_POSTS[path], headers={"Idempotency-Key": key})
        assert_refused(answer, 422, "OutOfRangeValue")
        assert "Idempotency-Key" in answer.get_data(as_text=True)


@pytest.mark.parametrize(
    "host", ["evil.example.net", "evil.example.net:8080", "localhost.evil.net"]
)
def test_a_name_made_to_lead_to_this_machine_changes_nothing(
    web: WebWorld, valkey: ValkeyServer, host: str
) -> None:
    """DNS rebinding: to a browser the page of that name and this service are one site."""
    for path, fields in {**JSON_POSTS, "/robots/todos/stop": {}}.items():
        for headers in ({}, {"Origin": f"http://{host}"}):
            with unchanged(web, valkey):
                answer = web.client.post(
                    path, json=fields, headers={**headers, "Host": host, "Accept": JSON}
                )
            assert answer.status_code in (401, 403), path
    assert inner_code(
        web.client.post("/userregres/", json=registration(), headers={"Host": host})
    ) == ("ForeignHost")


def test_a_proxy_on_the_same_machine_passes_with_the_token(
    valkey: ValkeyServer, sqlite_ledger_url: str
) -> None:
    """No page of another site knows the token, whatever name it is called by."""
    world = WebWorld(valkey.url, sqlite_ledger_url, API_TOKEN="a-token", SECRET_KEY="a secret")
    headers = {"Host": "app.example.org", "Authorization": "Bearer a-token"}
    answer = world.client.post("/userregres/", json=registration(), headers=headers)
    assert answer.status_code == 202
    headers["Authorization"] = "Bearer wrong"
    answer = world.client.post("/userregres/", json=registration("other"), headers=headers)
    assert (answer.status_code, inner_code(answer)) == (403, "ForeignHost")
    world.close()


@contextmanager
def unchanged(web: WebWorld, valkey: ValkeyServer) -> Iterator[None]:
    """A block after which every table and every key of Redis must be as before."""
    before = _state(web, valkey)
    yield
    assert _state(web, valkey) == before


def _state(web: WebWorld, valkey: ValkeyServer) -> tuple[dict[str, int], dict[bytes, bytes | None]]:
    with web.runtime.database.read() as session:
        rows = {
            table.name: session.execute(select(func.count()).select_from(table)).scalar_one()
            for table in Base.metadata.sorted_tables
        }
    client = valkey.client
    return rows, {key: client.dump(key) for key in client.scan_iter()}


def post_chunked(web: WebWorld, path: str, body: bytes, content_type: str) -> TestResponse:
    """Send a body without its length, as a server hands over one that came in chunks."""
    return web.client.post(
        path,
        input_stream=BytesIO(body),
        content_type=content_type,
        # The client knows the length and says it too; in chunks, what it says does not count.
        headers={"Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )


def assert_refused(answer: TestResponse, status: int, code: str) -> None:
    """An error in the whole of the documented shape of its address."""
    assert answer.status_code == status
    if not answer.request.path.startswith("/api/v1/"):
        assert answer.mimetype == JSON
        assert inner_code(answer) == code
        return
    assert answer.mimetype == "application/problem+json"
    body = answer.get_json()
    assert set(body) - {"field"} == {"type", "title", "status", "detail", "code"}
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["title"] and body["detail"]
