"""Messages over the API: one message, lists, replay, cancel; and the queues."""

from typing import Any

import pytest

from app_srvc.messages.model import Message
from tests.support.messages import draft_note, insert
from tests.support.servers import ValkeyServer
from tests.support.web import WebWorld, registration

UNKNOWN = "01a1fbe5-8df1-7fcf-9f45-1d9a73df4a75"

FIELDS = {
    "id",
    "kind",
    "key",
    "state",
    "reason",
    "queue",
    "priority",
    "tries",
    "max_tries",
    "accepted_at",
    "run_at",
    "started_at",
    "ended_at",
    "error",
    "result",
    "progress",
    "robot",
    "cycle",
    "replay_of",
    "correlation_id",
    "position",
}


def test_a_message_has_exactly_the_documented_fields(web: WebWorld) -> None:
    web.register("first")
    message = _show(web, web.register("olena"))
    assert set(message) == FIELDS
    assert message["kind"] == "registration"
    assert message["key"] == "olena"
    assert message["state"] == "accepted"
    assert message["priority"] == "default"
    assert message["tries"] == 0
    assert message["position"] == 2
    assert message["accepted_at"].endswith("Z")
    assert message["error"] is None


def test_a_message_never_shows_its_payload(plain_web: WebWorld) -> None:
    message_id = plain_web.register("olena")
    for address in (f"/api/v1/messages/{message_id}", "/api/v1/messages"):
        text = plain_web.client.get(address).get_data(as_text=True)
        assert message_id in text
        assert "example.org" not in text


def test_a_done_message_shows_its_result_and_no_position(web: WebWorld) -> None:
    message_id = web.register("olena")
    web.work(message_id)
    message = _show(web, message_id)
    assert message["state"] == "done"
    assert message["result"] == {"login": "olena"}
    assert message["position"] is None
    assert message["ended_at"] >= message["started_at"] >= message["accepted_at"]


def test_a_failed_message_shows_its_error(web: WebWorld) -> None:
    message = _show(web, _failed_message(web))
    assert message["state"] == "failed"
    assert message["tries"] == message["max_tries"] == 3
    assert message["error"]["type"] == "ValueError"
    assert "will not do" in message["error"]["message"]
    assert "Traceback" in message["error"]["traceback"]


@pytest.mark.parametrize("message_id", [UNKNOWN, "nonsense", "' OR 1=1 --"])
def test_an_unknown_message_is_404(plain_web: WebWorld, message_id: str) -> None:
    for method, action in (("GET", ""), ("POST", "/replay"), ("POST", "/cancel")):
        answer = plain_web.client.open(f"/api/v1/messages/{message_id}{action}", method=method)
        assert answer.status_code == 404
        assert answer.get_json()["code"] == "UnknownMessage"


def test_messages_are_listed_in_pages_from_the_newest_on(web: WebWorld) -> None:
    ids = [web.register(f"user{number}") for number in range(5)]
    seen: list[str] = []
    cursor: str | None = ""
    while cursor is not None:
        page = web.client.get(
            "/api/v1/messages", query_string={"limit": 2, **({"cursor": cursor} if cursor else {})}
        ).get_json()
        assert set(page) == {"items", "next"}
        assert len(page["items"]) <= 2
        seen += [item["id"] for item in page["items"]]
        cursor = page["next"]
    assert seen == ids[::-1]


def test_messages_are_found_by_kind_state_queue_and_key(web: WebWorld) -> None:
    done = web.register("anna")
    web.work(done)
    waiting = web.register("boris")
    document = web.client.post("/api/sendmsg", json={"a": 1}).get_json()["idjob"]
    assert _ids(web, kind="registration") == {done, waiting}
    assert _ids(web, state="accepted") == {waiting, document}
    assert _ids(web, queue="QUE_OUTMSG") == {document}
    assert _ids(web, key="anna") == {done}
    assert _ids(web, kind="registration", state="accepted") == {waiting}
    assert _ids(web, key="nobody") == set()


@pytest.mark.parametrize(
    "query", [{"limit": "0"}, {"limit": "x"}, {"cursor": "-1"}, {"state": "lost"}, {"key": "\x00"}]
)
def test_a_filter_that_is_none_is_422(plain_web: WebWorld, query: dict[str, str]) -> None:
    answer = plain_web.client.get("/api/v1/messages", query_string=query)
    assert answer.status_code == 422
    assert answer.mimetype == "application/problem+json"
    assert answer.get_json()["field"] == next(iter(query))


def test_a_message_of_any_kind_can_be_handed_over(web: WebWorld) -> None:
    body = {"kind": "message", "payload": {"content_type": "application/json", "body": "{}"}}
    answer = web.client.post("/api/v1/messages", json=body, headers={"Idempotency-Key": "k"})
    assert answer.status_code == 202
    assert set(answer.get_json()) == FIELDS
    again = web.client.post("/api/v1/messages", json=body, headers={"Idempotency-Key": "k"})
    assert again.get_json()["id"] == answer.get_json()["id"]
    assert web.messages() == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"payload": {}}, "NoKey"),
        ({"kind": "message"}, "NoKey"),
        ({"kind": 5, "payload": {}}, "OutOfRangeValue"),
        ({"kind": "message", "payload": []}, "OutOfRangeValue"),
        ({"kind": "message", "payload": {}}, "NoKey"),
        ({"kind": "os.system", "payload": {"command": "true"}}, "UnknownKind"),
    ],
)
def test_a_message_that_does_not_fit_its_kind_is_422(
    plain_web: WebWorld, body: dict[str, Any], code: str
) -> None:
    answer = plain_web.client.post("/api/v1/messages", json=body)
    assert answer.status_code == 422
    assert answer.get_json()["code"] == code
    assert plain_web.messages() == 0


def test_a_failed_message_is_replayed_as_itself(web: WebWorld, valkey: ValkeyServer) -> None:
    message_id = _failed_message(web)
    answer = web.client.post(f"/api/v1/messages/{message_id}/replay")
    assert answer.status_code == 202
    message = answer.get_json()
    assert (message["id"], message["state"]) == (message_id, "accepted")
    assert message["tries"] == 3
    assert message["max_tries"] == 6
    assert valkey.client.lrange("rq:queue:QUE_TASKS", 0, -1) == [message_id.encode()]


def test_a_done_message_is_replayed_as_a_new_one(web: WebWorld) -> None:
    done = web.register("olena")
    web.work(done)
    replayed = web.client.post(f"/api/v1/messages/{done}/replay").get_json()
    assert replayed["id"] != done
    assert replayed["replay_of"] == done
    assert replayed["state"] == "accepted"
    assert _show(web, done)["state"] == "done"


def test_a_replay_with_the_same_key_is_one_replay(web: WebWorld) -> None:
    done = web.register("olena")
    web.work(done)
    headers = {"Idempotency-Key": "again"}
    ids = {
        web.client.post(f"/api/v1/messages/{done}/replay", headers=headers).get_json()["id"]
        for _ in range(3)
    }
    assert len(ids) == 1
    assert web.messages() == 2


def test_a_replay_of_a_failed_message_with_the_same_key_is_one_replay(web: WebWorld) -> None:
    failed = _failed_message(web)
    headers = {"Idempotency-Key": "again"}
    for _ in range(3):
        answer = web.client.post(f"/api/v1/messages/{failed}/replay", headers=headers)
        assert answer.status_code == 202
        assert (answer.get_json()["id"], answer.get_json()["max_tries"]) == (failed, 6)


def test_a_replay_with_the_key_of_something_else_is_a_conflict(web: WebWorld) -> None:
    headers = {"Idempotency-Key": "mine"}
    done = web.client.post("/userregres/", json=registration(), headers=headers).get_json()["jobid"]
    web.work(done)
    answer = web.client.post(f"/api/v1/messages/{done}/replay", headers=headers)
    assert answer.status_code == 409
    assert answer.get_json()["code"] == "IdempotencyConflict"
    assert web.messages() == 1


def test_a_message_that_is_to_be_done_can_not_be_replayed(plain_web: WebWorld) -> None:
    answer = plain_web.client.post(f"/api/v1/messages/{plain_web.register('olena')}/replay")
    assert answer.status_code == 409
    assert answer.get_json()["code"] == "MessageState"


def test_a_cancelled_message_is_not_done(web: WebWorld, valkey: ValkeyServer) -> None:
    message_id = web.register("olena")
    answer = web.client.post(f"/api/v1/messages/{message_id}/cancel")
    assert answer.status_code == 200
    assert answer.get_json()["state"] == "cancelled"
    assert valkey.client.llen("rq:queue:QUE_USRREG") == 0
    web.work(message_id)
    assert _show(web, message_id)["state"] == "cancelled"


def test_a_message_that_has_ended_can_not_be_cancelled(plain_web: WebWorld) -> None:
    message_id = plain_web.register("olena")
    plain_web.work(message_id)
    answer = plain_web.client.post(f"/api/v1/messages/{message_id}/cancel")
    assert answer.status_code == 409
    assert _show(plain_web, message_id)["state"] == "done"


def test_the_queues_give_their_figures(web: WebWorld) -> None:
    web.register("olena")
    queues = {item["name"]: item for item in web.client.get("/api/v1/queues").get_json()["items"]}
    assert list(queues) == ["QUE_USRREG", "QUE_ROBOT", "QUE_OUTMSG", "QUE_TASKS"]
    assert queues["QUE_USRREG"]["waiting"] == 1
    assert queues["QUE_OUTMSG"]["waiting"] == 0
    assert queues["QUE_USRREG"]["workers"] == 0


def test_the_queues_page_shows_sizes_and_last_items_of_each_queue(web: WebWorld) -> None:
    first = web.register("olena")
    for number in range(30):
        answer = web.client.post("/api/sendmsg", json={"number": number})
    web.await_job(answer.get_json()["idjob"])
    page = web.client.get("/admin/task").get_data(as_text=True)
    for name in ("QUE_USRREG", "QUE_ROBOT", "QUE_OUTMSG", "QUE_TASKS"):
        assert name in page
    assert first in page
    assert page.count('<td data-label="Kind">message</td>') == 10
    assert "olena" not in page
    assert "<dd>30</dd>" in page


def test_only_workers_that_live_are_counted(web: WebWorld, valkey: ValkeyServer) -> None:
    valkey.client.sadd("rq:workers:QUE_USRREG", "rq:worker:alive", "rq:worker:dead")
    valkey.client.hset("rq:worker:alive", "state", "idle")
    queue = web.client.get("/api/v1/queues").get_json()["items"][0]
    assert queue["workers"] == 1
    assert "1 up" in web.client.get("/").get_data(as_text=True)


def _show(web: WebWorld, message_id: str) -> dict[str, Any]:
    message: dict[str, Any] = web.client.get(f"/api/v1/messages/{message_id}").get_json()
    return message


def _ids(web: WebWorld, **filters: str) -> set[str]:
    page = web.client.get("/api/v1/messages", query_string=filters).get_json()
    assert page["next"] is None
    return {item["id"] for item in page["items"]}


def _failed_message(web: WebWorld) -> str:
    (answer,) = insert(web.runtime, draft_note(web.runtime, "hello", kind="fail_always"))
    assert not isinstance(answer, Exception)
    for _ in range(3):
        web.work(answer.message_id)
    with web.runtime.database.read() as session:
        row = session.query(Message).filter_by(id=answer.message_id).one()
    assert row.state == "failed"
    return answer.message_id
