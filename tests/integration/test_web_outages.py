"""Health, and what the web part does while the database or Redis is away."""

from collections.abc import Iterator

import pytest

from app_srvc.health import prepare_ledger_in_background
from app_srvc.migrations import head_revision
from tests.support.servers import PostgresServer, ValkeyServer, free_port
from tests.support.waiting import wait_until
from tests.support.web import START, WebWorld, inner_code, registration

POSTS = {"/userregres/": registration(), "/api/wstart": START, "/api/sendmsg": {"a": 1}}
LEDGER_PAGES = ("/userlist/", "/todos/", "/robots/todos", "/api/v1/messages", "/api/v1/robots")


@pytest.fixture
def web_on_postgres(valkey: ValkeyServer, postgres_ledger_url: str) -> Iterator[WebWorld]:
    world = WebWorld(valkey.url, postgres_ledger_url)
    yield world
    world.close()


def test_the_documented_health_address_answers_whatever_is_away(sqlite_ledger_url: str) -> None:
    web = WebWorld(f"redis://127.0.0.1:{free_port()}/0", sqlite_ledger_url, APP_TITLE="Registry")
    answer = web.client.get("/api/health")
    assert answer.get_json() == {"ok": True, "app_title": "Registry"}
    assert web.client.get("/health/live").get_json() == {"ok": True}
    web.close()


def test_it_is_ready_and_started_when_everything_is_there(web: WebWorld) -> None:
    for path in ("/health/ready", "/health/started"):
        answer = web.client.get(path)
        assert answer.status_code == 200
        assert answer.get_json() == {"ok": True, "missing": []}


def test_a_ledger_without_tables_is_said_to_be_missing_them(
    valkey: ValkeyServer, database_url: str
) -> None:
    web = WebWorld(valkey.url, database_url)
    assert head_revision() is not None
    for path in ("/health/ready", "/health/started"):
        answer = web.client.get(path)
        assert answer.status_code == 503
        assert answer.get_json() == {"ok": False, "missing": ["schema"]}
    answer = web.client.post("/userregres/", json=registration())
    assert answer.status_code == 503
    web.close()


def test_the_web_part_makes_the_tables_that_are_missing(
    valkey: ValkeyServer, database_url: str
) -> None:
    web = WebWorld(valkey.url, database_url)
    prepare_ledger_in_background(web.app)
    wait_until(lambda: web.client.get("/health/started").status_code == 200, 30)
    assert web.client.post("/userregres/", json=registration()).status_code == 202
    web.close()


def test_without_redis_messages_are_accepted_and_ready_says_what_is_missing(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    valkey.stop()
    assert web.client.post("/userregres/", json=registration()).status_code == 202
    assert web.client.post("/api/sendmsg", json={"a": 1}).status_code == 200
    assert web.messages() == 2
    assert web.client.get("/health/ready").get_json()["missing"] == ["redis"]
    assert web.client.get("/health/started").status_code == 200


def test_without_redis_the_robot_is_started_and_stopped_all_the_same(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    valkey.stop()
    assert web.client.post("/api/wstart", json=START).status_code == 200
    assert web.client.get("/api/wstart").get_json()["status"] == "Found"
    assert web.client.delete("/api/wstop").status_code == 200
    assert web.client.get("/api/wstart").get_json()["status"] == "NotFound"


def test_without_redis_pages_show_unknown_for_what_it_alone_knows(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    valkey.stop()
    for path in ("/", *LEDGER_PAGES):
        assert web.client.get(path).status_code == 200, path
    queues = web.client.get("/admin/task")
    assert queues.status_code == 200
    assert queues.get_data(as_text=True).count("<dd>unknown</dd>") == 16
    figures = web.client.get("/api/v1/queues").get_json()["items"][0]
    assert figures["waiting"] is None
    assert "away" in web.client.get("/").get_data(as_text=True)


def test_a_registration_without_redis_has_a_page_without_a_place(
    plain_web: WebWorld, valkey: ValkeyServer
) -> None:
    valkey.stop()
    page = plain_web.client.post("/userregres/", data=registration()).get_data(as_text=True)
    assert "It is accepted" in page
    assert "Place in the queue" not in page


def test_without_the_database_a_post_is_503_and_claims_nothing(
    web_on_postgres: WebWorld, postgres: PostgresServer, valkey: ValkeyServer
) -> None:
    web = web_on_postgres
    assert web.client.get("/health/ready").status_code == 200
    postgres.kill()
    for path, body in POSTS.items():
        answer = web.client.post(path, json=body)
        assert answer.status_code == 503, path
        assert int(answer.headers["Retry-After"]) > 0
        assert inner_code(answer) == "LedgerUnavailable"
    assert valkey.client.keys("rq:*") == []
    postgres.start()
    assert web.messages() == 0
    assert web.client.get("/api/wstart").get_json()["status"] == "NotFound"


def test_without_the_database_pages_say_so(
    web_on_postgres: WebWorld, postgres: PostgresServer
) -> None:
    web = web_on_postgres
    postgres.kill()
    for path in LEDGER_PAGES:
        answer = web.client.get(path)
        assert answer.status_code == 503, path
        assert "Retry-After" in answer.headers
    assert web.client.get("/health/ready").get_json() == {"ok": False, "missing": ["database"]}
    assert "away" in web.client.get("/").get_data(as_text=True)
    assert web.client.get("/health/live").status_code == 200


def test_it_goes_on_by_itself_when_the_database_is_back(
    web_on_postgres: WebWorld, postgres: PostgresServer
) -> None:
    web = web_on_postgres
    assert web.client.post("/userregres/", json=registration("one")).status_code == 202
    postgres.kill()
    assert web.client.post("/userregres/", json=registration("two")).status_code == 503
    postgres.start()
    assert web.client.post("/userregres/", json=registration("three")).status_code == 202
    assert web.messages() == 2


def test_an_answer_to_a_database_error_names_no_host_and_no_password(
    web_on_postgres: WebWorld, postgres: PostgresServer
) -> None:
    postgres.kill()
    text = web_on_postgres.client.post("/userregres/", json=registration()).get_data(as_text=True)
    assert str(postgres.folder) not in text
    assert str(postgres.port) not in text
