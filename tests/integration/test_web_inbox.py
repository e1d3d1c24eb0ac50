"""The inbox over HTTP: what other systems hand over is kept as it came."""

import json

import pytest
from sqlalchemy import select

from app_srvc.inbox.model import InboxItem
from tests.support.web import WebWorld, inner_code


def test_json_is_kept_as_the_text_that_came(web: WebWorld) -> None:
    text = '{ "b" : 1.50,\n "a": "\\u0456ї", "b": 2 }'
    answer = web.client.post("/api/sendmsg", data=text, content_type="application/json")
    assert answer.status_code == 200
    body = answer.get_json()
    assert body == {"ok": True, "idjob": body["idjob"]}
    assert _kept(web, body["idjob"]) == ("application/json", text)


@pytest.mark.parametrize("content_type", ["application/xml", "text/xml", "application/soap+xml"])
def test_xml_is_kept_as_the_text_that_came(web: WebWorld, content_type: str) -> None:
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<замовлення  n="1"><!-- x -->&lt;</замовлення>\n'
    )
    answer = web.client.post("/api/sendmsg", data=text.encode(), content_type=content_type)
    assert answer.status_code == 200
    assert _kept(web, answer.get_json()["idjob"]) == ("application/xml", text)


def test_a_document_goes_over_the_item_queue(plain_web: WebWorld) -> None:
    plain_web.client.post("/api/sendmsg", json={"a": 1})
    row = plain_web.only_message()
    assert (row.kind, row.queue) == ("message", "QUE_OUTMSG")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "text",
        "<a>",
        "<a></b>",
        "<a/><b/>",
        "<a>\x00</a>",
        '<!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>',
        '<!DOCTYPE a SYSTEM "http://127.0.0.1/x.dtd"><a/>',
        '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]><a>&x;</a>',
        "<!DOCTYPE a><a/>",
        '<?xml version="1.0" encoding="windows-1251"?><a/>',
        "<a>&undefined;</a>",
    ],
)
def test_xml_that_is_not_well_formed_or_refers_to_something_is_400(
    plain_web: WebWorld, text: str
) -> None:
    answer = plain_web.client.post("/api/sendmsg", data=text, content_type="application/xml")
    assert answer.status_code == 400
    assert inner_code(answer) == "MalformedBody"
    assert plain_web.messages() == 0


def test_entities_that_would_grow_without_end_are_refused_at_once(plain_web: WebWorld) -> None:
    levels = "".join(f'<!ENTITY l{level} "{f"&l{level - 1};" * 10}">' for level in range(1, 10))
    bomb = f'<!DOCTYPE lolz [<!ENTITY l0 "lol">{levels}]><lolz>&l9;</lolz>'
    answer = plain_web.client.post("/api/sendmsg", data=bomb, content_type="application/xml")
    assert answer.status_code == 400


def test_xml_that_is_nested_as_deeply_as_a_body_can_be_is_accepted(plain_web: WebWorld) -> None:
    depth = 100_000
    text = "<a>" * depth + "</a>" * depth
    answer = plain_web.client.post("/api/sendmsg", data=text, content_type="application/xml")
    assert answer.status_code == 200


def test_xml_in_another_encoding_is_refused(plain_web: WebWorld) -> None:
    for text in ("<a>\u0456</a>".encode("utf-16"), "<a>\u0456</a>".encode("cp1251")):
        answer = plain_web.client.post("/api/sendmsg", data=text, content_type="text/xml")
        assert answer.status_code == 400
    assert plain_web.messages() == 0


@pytest.mark.parametrize(
    "value", ["nul\x00", "\ud800", {"deep": ["\udfff"]}, {"\x00": 1}], ids=repr
)
def test_text_that_no_database_takes_is_refused(plain_web: WebWorld, value: object) -> None:
    answer = plain_web.client.post(
        "/api/sendmsg", data=json.dumps({"a": value}), content_type="application/json"
    )
    assert answer.status_code == 422
    assert inner_code(answer) == "OutOfRangeValue"
    assert plain_web.messages() == 0


def test_the_same_key_and_body_is_the_same_document(web: WebWorld) -> None:
    headers = {"Idempotency-Key": "order-7"}
    ids = {
        web.client.post("/api/sendmsg", json={"a": 1}, headers=headers).get_json()["idjob"]
        for _ in range(3)
    }
    assert len(ids) == 1
    other = web.client.post("/api/sendmsg", json={"a": 2}, headers=headers)
    assert other.status_code == 409
    assert web.messages() == 1


def _kept(web: WebWorld, message_id: str) -> tuple[str, str]:
    assert web.work(message_id).action == "done"
    with web.runtime.database.read() as session:
        item = session.execute(
            select(InboxItem).where(InboxItem.message_id == message_id)
        ).scalar_one()
    return item.content_type, item.body
