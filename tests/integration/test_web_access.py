"""Who may: tokens off a loopback address, foreign origins, sessions and their tokens, headers."""

import re
from collections.abc import Iterator

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app_srvc.auth import Access, access_of
from tests.support.servers import ValkeyServer
from tests.support.web import (
    PUBLIC,
    PUBLIC_URL,
    START,
    WebWorld,
    bearer,
    inner_code,
    registration,
)

# What anybody may use, wherever the service is bound: the design's words, by rule of the address.
OPEN = {
    "/",
    "/about/",
    "/userreg/",
    "/userregres/",
    "/userregres/<message_id>/",
    "/userregres/<message_id>/state",
    "/api/health",
    "/health/live",
    "/health/ready",
    "/health/started",
    "/static/<path:filename>",
}
OWN_ORIGIN = {"Origin": PUBLIC_URL}
FOREIGN_ORIGIN = {"Origin": "https://evil.example.net"}


@pytest.fixture
def public_web(valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[WebWorld]:
    """The application as it is bound to an address that others can reach."""
    world = WebWorld(valkey.url, sqlite_ledger_url, **PUBLIC)
    yield world
    world.close()


@pytest.fixture
def browser(public_web: WebWorld) -> FlaskClient:
    """A browser that has opened the form, and so has a session."""
    client = public_web.app.test_client()
    client.get("/userreg/", base_url=PUBLIC_URL)
    return client


def test_exactly_the_documented_addresses_are_open(public_web: WebWorld) -> None:
    app = public_web.app
    found = {
        rule.rule
        for rule in app.url_map.iter_rules()
        if rule.endpoint == "static" or access_of(app.view_functions[rule.endpoint]) is Access.ALL
    }
    assert found == OPEN


def test_every_other_address_asks_for_a_token_by_every_method(public_web: WebWorld) -> None:
    asked = 0
    for rule in public_web.app.url_map.iter_rules():
        if rule.rule in OPEN:
            continue
        path = re.sub(r"<[^>]+>", "todos", rule.rule)
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
            answer = public_web.client.open(path, method=method, base_url=PUBLIC_URL)
            assert answer.status_code == 401, (method, path)
            assert answer.headers["WWW-Authenticate"].startswith("Bearer")
            asked += 1
    assert asked >= 15


@pytest.mark.parametrize(
    "authorization",
    [
        "",
        "Bearer",
        "Bearer ",
        "Bearer wrong",
        "Bearer a-token-of-this-tes",
        "Bearer a-token-of-this-test2",
        "Basic a-token-of-this-test",
        "a-token-of-this-test",
        "Bearer \xff",
    ],
)
def test_a_wrong_token_is_no_token(public_web: WebWorld, authorization: str) -> None:
    answer = public_web.client.post(
        "/api/wstart",
        json=START,
        headers={"Authorization": authorization} if authorization else {},
        base_url=PUBLIC_URL,
    )
    assert answer.status_code == 401
    assert inner_code(answer) == "Unauthorized"
    assert _robot_state(public_web) == "stopped"


@pytest.mark.parametrize("scheme", ["Bearer", "bearer"])
def test_the_token_opens_everything(public_web: WebWorld, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} a-token-of-this-test"}
    for path in ("/api/wstart", "/userlist/", "/todos/", "/admin/task", "/api/v1/messages"):
        answer = public_web.client.get(path, headers=headers, base_url=PUBLIC_URL)
        assert answer.status_code == 200, path


def test_a_public_service_takes_registrations_from_anybody(public_web: WebWorld) -> None:
    answer = public_web.client.post("/userregres/", json=registration(), base_url=PUBLIC_URL)
    assert answer.status_code == 202


def test_on_a_loopback_address_everything_is_open(plain_web: WebWorld) -> None:
    for host in ("localhost", "127.0.0.1:8080", "[::1]:8080"):
        answer = plain_web.client.get("/api/v1/messages", base_url=f"http://{host}")
        assert answer.status_code == 200, host


def test_a_name_that_somebody_made_lead_to_a_loopback_address_opens_nothing(
    plain_web: WebWorld,
) -> None:
    """DNS rebinding: a page of evil.example.net whose name now leads to 127.0.0.1."""
    evil = "http://evil.example.net:8080"
    answer = plain_web.client.post(
        "/api/wstart", json=START, base_url=evil, headers={"Origin": evil}
    )
    assert answer.status_code == 401
    assert _robot_state(plain_web) == "stopped"


@pytest.mark.parametrize(
    "origin",
    [
        "https://evil.example.net",
        "http://localhost.evil.example.net",
        "http://localhost:8081",
        "null",
        "file://",
        "http://localhost:x",
        "nonsense",
        "",
    ],
)
def test_a_foreign_origin_may_change_nothing(plain_web: WebWorld, origin: str) -> None:
    for method, path in (
        ("POST", "/api/wstart"),
        ("DELETE", "/api/wstop"),
        ("POST", "/userregres/"),
        ("POST", "/api/sendmsg"),
        ("POST", "/robots/todos/start"),
    ):
        answer = plain_web.client.open(
            path,
            method=method,
            json=START,
            base_url="http://localhost:8080",
            headers={"Origin": origin},
        )
        assert answer.status_code == 403, path
    assert plain_web.messages() == 0
    assert _robot_state(plain_web) == "stopped"


def test_a_foreign_origin_may_read_what_is_open(plain_web: WebWorld) -> None:
    answer = plain_web.client.get("/", headers=FOREIGN_ORIGIN)
    assert answer.status_code == 200
    assert "Access-Control-Allow-Origin" not in answer.headers


@pytest.mark.parametrize(
    ("origin", "host"),
    [
        ("http://app.example.org", "app.example.org"),
        ("https://app.example.org", "app.example.org"),
        ("https://app.example.org", "app.example.org:443"),
        ("http://app.example.org:8080", "app.example.org:8080"),
        ("http://APP.example.org", "app.example.org"),
        ("http://[::1]:8080", "[::1]:8080"),
    ],
)
def test_the_own_origin_may(public_web: WebWorld, origin: str, host: str) -> None:
    answer = public_web.client.post(
        "/userregres/", json=registration(), headers={"Origin": origin, "Host": host}
    )
    assert answer.status_code == 202


def test_a_session_cookie_is_kept_from_scripts_and_other_sites(public_web: WebWorld) -> None:
    cookie = public_web.client.get("/userreg/", base_url=PUBLIC_URL).headers["Set-Cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Lax" in cookie
    assert "Secure" not in cookie
    other = public_web.app.test_client()
    behind_tls = other.get("/userreg/", base_url="https://app.example.org").headers["Set-Cookie"]
    assert "Secure" in behind_tls


def test_a_request_that_needs_no_session_gets_no_cookie(public_web: WebWorld) -> None:
    for answer in (
        public_web.client.get("/", base_url=PUBLIC_URL),
        public_web.client.post("/userregres/", json=registration(), base_url=PUBLIC_URL),
    ):
        assert "Set-Cookie" not in answer.headers


def test_with_a_session_a_form_needs_its_token(public_web: WebWorld, browser: FlaskClient) -> None:
    answer = browser.post(
        "/userregres/", data=registration(), base_url=PUBLIC_URL, headers=OWN_ORIGIN
    )
    assert answer.status_code == 403
    assert public_web.messages() == 0


def test_with_a_session_and_its_token_a_form_is_taken(
    public_web: WebWorld, browser: FlaskClient
) -> None:
    answer = _send_form(browser, _csrf_token(browser))
    assert answer.status_code == 200
    assert public_web.messages() == 1


def test_the_token_of_another_session_does_not_do(
    public_web: WebWorld, browser: FlaskClient
) -> None:
    stranger = public_web.app.test_client()
    answer = _send_form(browser, _csrf_token(stranger))
    assert answer.status_code == 403
    assert public_web.messages() == 0


def test_with_a_session_json_needs_the_token_in_a_header(
    public_web: WebWorld, browser: FlaskClient
) -> None:
    token = _csrf_token(browser)
    without = browser.post("/userregres/", json=registration(), base_url=PUBLIC_URL)
    assert without.status_code == 403
    headers = {"X-CSRFToken": token}
    answer = browser.post("/userregres/", json=registration(), base_url=PUBLIC_URL, headers=headers)
    assert answer.status_code == 202


def test_a_session_gives_no_rights(public_web: WebWorld, browser: FlaskClient) -> None:
    assert browser.get("/userlist/", base_url=PUBLIC_URL).status_code == 401


def test_a_forged_session_cookie_changes_nothing(public_web: WebWorld) -> None:
    client = public_web.app.test_client()
    client.set_cookie("app_session", "eyJhIjoxfQ.forged", domain="app.example.org")
    answer = client.post("/userregres/", data=registration(), base_url=PUBLIC_URL)
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "path", ["/", "/nowhere", "/api/nowhere", "/api/v1/nowhere", "/static/app.css", "/health/live"]
)
def test_every_answer_carries_the_security_headers(plain_web: WebWorld, path: str) -> None:
    answer = plain_web.client.get(path)
    answer.close()
    headers = answer.headers
    policy = headers["Content-Security-Policy"]
    assert "default-src 'self'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "same-origin"
    assert len(headers.getlist("Content-Security-Policy")) == 1


def test_what_is_shown_is_not_kept_by_browsers_and_proxies(plain_web: WebWorld) -> None:
    for path in ("/userlist/", "/api/v1/messages", "/robots/todos"):
        assert plain_web.client.get(path).headers["Cache-Control"] == "no-store", path
    page = plain_web.client.get("/").get_data(as_text=True)
    stylesheet = re.search(r'href="(/static/app\.css\?v=[0-9a-f]+)"', page)
    assert stylesheet is not None
    answer = plain_web.client.get(stylesheet[1])
    answer.close()
    assert "max-age=31536000" in answer.headers["Cache-Control"]


def test_a_request_id_is_kept_or_made(plain_web: WebWorld) -> None:
    kept = plain_web.client.get("/health/live", headers={"X-Request-ID": "call-7"})
    assert kept.headers["X-Request-ID"] == "call-7"
    made = [plain_web.client.get("/health/live").headers["X-Request-ID"] for _ in range(2)]
    assert made[0] != made[1]


@pytest.mark.parametrize("wrong", ["x" * 200, "a b", "a\tb", "<script>", "é"])
def test_a_request_id_that_could_do_harm_in_a_log_is_replaced(
    plain_web: WebWorld, wrong: str
) -> None:
    answer = plain_web.client.get("/health/live", headers={"X-Request-ID": wrong})
    assert re.fullmatch("[0-9a-f]{24}", answer.headers["X-Request-ID"])


def _csrf_token(client: FlaskClient) -> str:
    page = client.get("/userreg/", base_url=PUBLIC_URL).get_data(as_text=True)
    found = re.search(r'name="csrf_token" value="([^"]+)"', page)
    assert found is not None
    return found[1]


def _send_form(client: FlaskClient, token: str) -> TestResponse:
    return client.post(
        "/userregres/",
        data={**registration(), "csrf_token": token},
        base_url=PUBLIC_URL,
        headers=OWN_ORIGIN,
    )


def _robot_state(web: WebWorld) -> str:
    robot = web.client.get("/api/v1/robots/todos", headers=bearer()).get_json()
    state: str = robot["state"]
    return state
