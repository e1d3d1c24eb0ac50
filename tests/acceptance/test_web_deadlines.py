"""The web part as it is run, by gunicorn on gevent: no answer waits for the database or Redis."""

import socket
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.support.servers import PostgresServer, ValkeyServer, free_port
from tests.support.service import START_S, Client, Part
from tests.support.waiting import wait_until
from tests.support.web import START, registration

# The promise: no answer takes longer.
LIMIT_S = 2.0
AT_ONCE = 10

READS = ("/userlist/", "/todos/", "/robots/todos", "/admin/task", "/api/wstart", "/api/v1/messages")
Request = Callable[[], requests.Response]


class WebPart(Client):
    """The web part alone, with two processes, on servers of the test."""

    def __init__(self, folder: Path, redis_url: str, ledger_url: str) -> None:
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        self.part = Part(
            "web",
            [sys.executable, "-m", "app_srvc.cli", "web"],
            folder,
            REDIS_URL=redis_url,
            DATABASE_URL=ledger_url,
            SOURCE_URL="demo:",
            PORT=str(port),
        )

    def __enter__(self) -> "WebPart":
        self.part.start()
        wait_until(self.is_ready, START_S, what="the web part is ready")
        return self

    def __exit__(self, *_: object) -> None:
        self.part.stop()


@pytest.fixture
def on_postgres(
    tmp_path: Path, valkey: ValkeyServer, postgres: PostgresServer, postgres_ledger_url: str
) -> Iterator[WebPart]:
    with WebPart(tmp_path, valkey.url, postgres_ledger_url) as web:
        yield web
        postgres.restore()
        valkey.restore()


@pytest.fixture
def on_sqlite(tmp_path: Path, valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[WebPart]:
    with WebPart(tmp_path, valkey.url, sqlite_ledger_url) as web:
        yield web
        valkey.restore()


def test_with_postgresql_hanging_every_answer_comes_in_time_and_claims_nothing(
    on_postgres: WebPart, postgres: PostgresServer
) -> None:
    web = on_postgres
    assert all(answer.status_code < 300 for answer, _ in _at_once(_everything(web, "before")))
    postgres.pause()
    for _ in range(4):
        for answer, took_s in _at_once(_everything(web, "during")):
            assert took_s < LIMIT_S, answer.url
            assert answer.status_code == 503, answer.url
            assert "Retry-After" in answer.headers
        assert web.get("/health/live").status_code == 200
        assert web.get("/health/ready").json()["missing"] == ["database"]
        assert web.get("/").status_code == 200
    postgres.resume()
    wait_until(web.is_ready, 10)
    # More than the connections of both processes: none of those that hung may be lost to the pool.
    for _ in range(6):
        for answer, _ in _at_once([lambda: web.get("/userlist/")] * AT_ONCE):
            assert answer.status_code == 200
    keys = {item["key"] for item in web.get("/api/v1/messages?limit=200").json()["items"]}
    assert keys == {"before", None}


def test_with_redis_hanging_messages_are_accepted_and_pages_shown_in_time(
    on_postgres: WebPart, valkey: ValkeyServer
) -> None:
    web = on_postgres
    assert all(answer.status_code < 300 for answer, _ in _at_once(_everything(web, "before")))
    valkey.pause()
    for number in range(4):
        for answer, took_s in _at_once(_everything(web, f"during{number}")):
            assert took_s < LIMIT_S, answer.url
            # The robot runs since the first round: a start is refused, as it should be.
            assert answer.status_code in (200, 202, 422), answer.url
    valkey.resume()
    keys = [item["key"] for item in web.get("/api/v1/messages?kind=registration").json()["items"]]
    # One came as JSON and one as a form, each time.
    assert sorted(keys) == sorted(2 * ["before", *(f"during{number}" for number in range(4))])
    wait_until(lambda: web.get("/health/ready").json()["missing"] == [], 10)


def test_with_the_ledger_locked_by_another_program_nothing_waits_and_nothing_is_claimed(
    on_sqlite: WebPart, tmp_path: Path
) -> None:
    web = on_sqlite
    assert web.register("before").status_code == 202
    with closing(sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        for _ in range(3):
            for answer, took_s in _at_once([lambda: web.register("during")] * AT_ONCE):
                assert took_s < LIMIT_S
                assert answer.status_code == 503
            for answer, took_s in _at_once([lambda path=path: web.get(path) for path in READS]):  # type: ignore[misc]
                assert took_s < LIMIT_S
                assert answer.status_code == 200, answer.url
        other.execute("ROLLBACK")
    wait_until(lambda: web.register("after").status_code == 202, 10)
    items = web.get("/api/v1/messages").json()["items"]
    assert [item["key"] for item in items] == ["after", "before"]


def test_readers_and_writers_at_once_on_sqlite_all_get_what_they_asked_for(
    on_sqlite: WebPart,
) -> None:
    """SQLite's calls run in native threads next to the event loop; nothing may mix or stick there."""
    web = on_sqlite
    sent = 0
    for _ in range(15):
        posts = [
            lambda login=f"user{sent + number}": web.register(login)  # type: ignore[misc]
            for number in range(AT_ONCE)
        ]
        reads = [lambda path=path: web.get(path) for path in READS]  # type: ignore[misc]
        sent += len(posts)
        for answer, _ in _at_once([*posts, *reads]):
            assert answer.status_code in (200, 202), answer.url
    assert _count_messages(web) == sent


def test_slow_clients_hold_nobody_up(on_sqlite: WebPart) -> None:
    web = on_sqlite
    host, _, port = web.base_url.removeprefix("http://").partition(":")
    slow = [socket.create_connection((host, int(port)), timeout=5) for _ in range(300)]
    try:
        for connection in slow:
            connection.sendall(b"POST /userregres/ HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-")
        for answer, took_s in _at_once([lambda: web.get("/health/live")] * AT_ONCE):
            assert answer.status_code == 200
            assert took_s < LIMIT_S
        assert web.register("olena").status_code == 202
    finally:
        for connection in slow:
            connection.close()


def test_what_is_accepted_while_the_web_part_stops_is_on_its_queue(
    on_sqlite: WebPart, valkey: ValkeyServer
) -> None:
    for number in range(20):
        assert on_sqlite.register(f"user{number}").status_code == 202
    assert on_sqlite.part.stop() == 0
    assert valkey.client.llen("rq:queue:QUE_USRREG") == 20


def _everything(web: WebPart, login: str) -> list[Request]:
    """A request of each sort that needs the database."""
    return [
        lambda: web.register(login),
        lambda: requests.post(
            f"{web.base_url}/userregres/", data=registration(login, form_id=login), timeout=10
        ),
        lambda: web.post("/api/sendmsg", {"from": login}, {"Idempotency-Key": login}),
        lambda: web.post("/api/wstart", START),
        *(lambda path=path: web.get(path) for path in READS),  # type: ignore[misc]
    ]


def _at_once(calls: Sequence[Request]) -> list[tuple[requests.Response, float]]:
    """Make requests at the same moment; each answer with the seconds that it took."""

    def timed(call: Request) -> tuple[requests.Response, float]:
        began = time.monotonic()
        return call(), time.monotonic() - began

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(timed, calls))


def _count_messages(web: WebPart) -> int:
    count, cursor = 0, ""
    while True:
        page = web.get(f"/api/v1/messages?limit=200{cursor}").json()
        count += len(page["items"])
        if page["next"] is None:
            return count
        cursor = f"&cursor={page['next']}"
