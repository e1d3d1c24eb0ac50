"""The API where callers repeat, race and mistype: ids that are none, one key many times, purged messages."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import select
from werkzeug.test import TestResponse

from app_srvc.errors import UnknownMessageError
from app_srvc.messages.accept import Accepted
from app_srvc.messages.control import cancel_message, replay_message
from app_srvc.messages.model import DedupeKey
from app_srvc.messages.retention import purge_ended
from app_srvc.runtime import Runtime
from tests.support.messages import accept_note, read_message
from tests.support.web import WebWorld, registration

AT_ONCE = 8

DOCUMENT: Mapping[str, Any] = {
    "kind": "message",
    "payload": {"content_type": "application/json", "body": "{}"},
}
KEY = {"Idempotency-Key": "once"}

NO_IDS = [
    "nonsense",
    "%00",
    "01a1fbe5-8df1-7fcf-9f45-1d9a73df4a7%00",
    "01A1FBE5-8DF1-7FCF-9F45-1D9A73DF4A75",
    "01a1fbe5-8df1-4fcf-9f45-1d9a73df4a75",
    "%ED%A0%80",
    "x" * 5_000,
]


@pytest.mark.parametrize("message_id", NO_IDS, ids=lambda text: text[-12:])
def test_what_is_no_id_is_no_message(web: WebWorld, message_id: str) -> None:
    for method, action in (("GET", ""), ("POST", "/replay"), ("POST", "/cancel")):
        answer = web.client.open(f"/api/v1/messages/{message_id}{action}", method=method)
        assert answer.status_code == 404, (method, action)
        assert_problem(answer, 404, "UnknownMessage")


@pytest.mark.parametrize("act", [replay_message, cancel_message])
def test_an_id_with_a_nul_is_unknown_wherever_it_comes_from(
    world: Runtime, act: Callable[[Runtime, str], object]
) -> None:
    with pytest.raises(UnknownMessageError):
        act(world, "01a1fbe5-8df1-7fcf-9f45-1d9a73df4a7\x00")


def test_replays_at_once_with_one_key_reopen_a_failed_message_once(web: WebWorld) -> None:
    failed = _failed(web)
    answers = _at_once(web, f"/api/v1/messages/{failed}/replay", headers=KEY)
    assert [answer.status_code for answer in answers] == [202] * AT_ONCE
    assert {answer.get_json()["id"] for answer in answers} == {failed}
    row = read_message(web.runtime, failed)
    assert (row.state, row.max_tries) == ("accepted", 6)
    assert web.messages() == 1


def test_replays_at_once_with_one_key_make_one_message_of_a_done_one(web: WebWorld) -> None:
    done = _done(web)
    answers = _at_once(web, f"/api/v1/messages/{done}/replay", headers=KEY)
    assert [answer.status_code for answer in answers] == [202] * AT_ONCE
    (replayed,) = {answer.get_json()["id"] for answer in answers}
    assert replayed != done
    assert web.messages() == 2


def test_replays_at_once_without_a_key_reopen_a_failed_message_once(web: WebWorld) -> None:
    failed = _failed(web)
    answers = _at_once(web, f"/api/v1/messages/{failed}/replay")
    assert sorted(answer.status_code for answer in answers) == [202] + [409] * (AT_ONCE - 1)
    assert read_message(web.runtime, failed).max_tries == 6


def test_one_key_for_replays_of_two_messages_at_once_is_a_conflict_for_one(web: WebWorld) -> None:
    """Each holds its own message, so only the key itself can decide between them."""
    failed = [_failed(web), _failed(web)]
    answers = _together(
        [
            lambda message_id=message_id: _post(  # type: ignore[misc]
                web, f"/api/v1/messages/{message_id}/replay", headers=KEY
            )
            for message_id in failed
        ]
    )
    assert sorted(answer.status_code for answer in answers) == [202, 409]
    states = sorted(read_message(web.runtime, message_id).state for message_id in failed)
    assert states == ["accepted", "failed"]
    with web.runtime.database.read() as session:
        (key,) = session.execute(select(DedupeKey)).scalars()
    assert read_message(web.runtime, key.message_id).state == "accepted"


def test_of_cancels_at_once_one_wins(web: WebWorld) -> None:
    waiting = web.client.post("/api/v1/messages", json=DOCUMENT).get_json()["id"]
    answers = _at_once(web, f"/api/v1/messages/{waiting}/cancel")
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * (AT_ONCE - 1)
    losers = [answer for answer in answers if answer.status_code == 409]
    for answer in losers:
        assert_problem(answer, 409, "MessageState")
        assert "cancelled" in answer.get_json()["detail"]


def test_a_request_repeated_after_its_message_was_purged_still_gets_its_id(web: WebWorld) -> None:
    first = web.client.post("/api/v1/messages", json=DOCUMENT, headers=KEY).get_json()
    _purge(web, first["id"])
    again = web.client.post("/api/v1/messages", json=DOCUMENT, headers=KEY)
    assert again.status_code == 202
    body = again.get_json()
    assert set(body) == set(first)
    assert (body["id"], body["state"]) == (first["id"], "purged")
    assert (body["kind"], body["queue"]) == ("message", "QUE_OUTMSG")
    assert web.client.get(f"/api/v1/messages/{first['id']}").status_code == 404
    other = {**DOCUMENT, "payload": {"content_type": "application/json", "body": "[]"}}
    conflict = web.client.post("/api/v1/messages", json=other, headers=KEY)
    assert_problem(conflict, 409, "IdempotencyConflict")
    assert web.messages() == 0


@pytest.mark.parametrize(
    ("path", "body", "name"),
    [("/userregres/", registration(), "jobid"), ("/api/sendmsg", {"order": 7}, "idjob")],
)
def test_the_originals_addresses_also_repeat_the_id_of_a_purged_message(
    web: WebWorld, path: str, body: Mapping[str, Any], name: str
) -> None:
    first = web.client.post(path, json=body, headers=KEY)
    _purge(web, first.get_json()[name])
    again = web.client.post(path, json=body, headers=KEY)
    assert (again.status_code, again.get_json()) == (first.status_code, first.get_json())
    assert web.messages() == 0


def test_an_old_form_that_is_sent_again_still_gets_its_answer_page(web: WebWorld) -> None:
    form = registration(form_id="of-last-month")
    first = web.client.post("/userregres/", data=form)
    (message_id,) = _ids(web)
    _purge(web, message_id)
    again = web.client.post("/userregres/", data=form)
    assert (first.status_code, again.status_code) == (200, 200)
    assert message_id in again.get_data(as_text=True)
    assert web.messages() == 0


def test_a_replay_repeated_after_its_message_was_purged_still_gets_its_id(web: WebWorld) -> None:
    done = _done(web)
    path = f"/api/v1/messages/{done}/replay"
    replayed = web.client.post(path, headers=KEY).get_json()["id"]
    _purge(web, replayed)
    again = web.client.post(path, headers=KEY)
    assert again.status_code == 202
    assert (again.get_json()["id"], again.get_json()["state"]) == (replayed, "purged")


def test_pages_of_one_item_show_every_message_once_while_new_ones_come(web: WebWorld) -> None:
    old = [web.client.post("/api/v1/messages", json=DOCUMENT).get_json()["id"] for _ in range(5)]
    seen: list[str] = []
    path: str | None = "/api/v1/messages?limit=1&kind=message"
    while path is not None:
        page = web.client.get(path).get_json()
        seen += [item["id"] for item in page["items"]]
        web.client.post("/api/v1/messages", json=DOCUMENT)
        cursor = page["next"]
        path = cursor and f"/api/v1/messages?limit=1&kind=message&cursor={cursor}"
    assert seen == old[::-1]


def test_a_page_that_ends_with_the_last_item_has_no_next(web: WebWorld) -> None:
    for _ in range(2):
        web.client.post("/api/v1/messages", json=DOCUMENT)
    page = web.client.get("/api/v1/messages?limit=2").get_json()
    assert len(page["items"]) == 2
    assert page["next"] is None


@pytest.mark.parametrize(
    "path", ["/api/v1/messages", "/api/v1/robots/todos/cycles"], ids=["messages", "cycles"]
)
@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=1.5", "limit=%D9%A3", "cursor=0", f"cursor={2**63}"]
)
def test_a_window_that_is_none_is_422_and_is_named(web: WebWorld, path: str, query: str) -> None:
    answer = web.client.get(f"{path}?{query}")
    assert_problem(answer, 422, "OutOfRangeValue")
    assert answer.get_json()["field"] == query.partition("=")[0]


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/api/v1/nowhere", 404, "NotFound"),
        ("GET", "/api/v1/robots/nobody", 404, "UnknownRobot"),
        ("GET", "/api/v1/queues/QUE_TYPO/load", 404, "UnknownQueue"),
        ("GET", "/api/v1/messages?state=lost", 422, "OutOfRangeValue"),
        ("DELETE", "/api/v1/queues", 405, "MethodNotAllowed"),
        ("POST", "/api/v1/messages", 415, "UnsupportedMediaType"),
    ],
)
def test_errors_are_problems_whatever_the_caller_accepts(
    plain_web: WebWorld, method: str, path: str, status: int, code: str
) -> None:
    for accept in ("*/*", "text/html", "application/json"):
        answer = plain_web.client.open(path, method=method, headers={"Accept": accept})
        assert_problem(answer, status, code)


def assert_problem(answer: TestResponse, status: int, code: str) -> None:
    """A whole problem, as RFC 9457 has it."""
    assert answer.status_code == status
    assert answer.mimetype == "application/problem+json"
    body = answer.get_json()
    assert set(body) - {"field"} == {"type", "title", "status", "detail", "code"}
    assert (body["type"], body["status"], body["code"]) == ("about:blank", status, code)
    assert body["title"]
    assert body["detail"]


def _post(web: WebWorld, path: str, **more: Any) -> TestResponse:
    return web.app.test_client().post(path, **more)


def _at_once(web: WebWorld, path: str, **more: Any) -> list[TestResponse]:
    return _together([lambda: _post(web, path, **more)] * AT_ONCE)


def _together(calls: list[Callable[[], TestResponse]]) -> list[TestResponse]:
    """Make calls that all begin at the same moment."""
    start = Barrier(len(calls), timeout=10)

    def run(call: Callable[[], TestResponse]) -> TestResponse:
        start.wait()
        return call()

    with ThreadPoolExecutor(len(calls)) as pool:
        return list(pool.map(run, calls))


def _failed(web: WebWorld) -> str:
    message_id = _accepted(web, "fail_always").message_id
    while read_message(web.runtime, message_id).state == "accepted":
        web.work(message_id)
    row = read_message(web.runtime, message_id)
    assert (row.state, row.max_tries) == ("failed", 3)
    return message_id


def _done(web: WebWorld) -> str:
    message_id = _accepted(web, "keep_note").message_id
    assert web.work(message_id).action == "done"
    return message_id


def _accepted(web: WebWorld, kind: str) -> Accepted:
    return accept_note(web.runtime, kind=kind, is_dispatched=False)


def _ids(web: WebWorld) -> list[str]:
    return [item["id"] for item in web.client.get("/api/v1/messages").get_json()["items"]]


def _purge(web: WebWorld, message_id: str) -> None:
    """End a message and let its retention pass; only what ended is purged."""
    assert web.work(message_id).action == "done"
    later = datetime.now(UTC) + timedelta(days=web.settings.retention_days, minutes=1)
    with web.runtime.database.read() as session:
        kept = session.execute(select(DedupeKey.message_id)).scalars().all()
    assert message_id in kept
    assert purge_ended(web.runtime, later) >= 1
