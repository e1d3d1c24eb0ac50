"""Registration over HTTP: the form, its answer, JSON, and the list of users."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from app_srvc.messages.ids import is_message_id
from tests.support.servers import ValkeyServer
from tests.support.web import WebWorld, inner_code, registration


def test_json_is_answered_with_202_and_the_documented_words(web: WebWorld) -> None:
    answer = web.client.post("/userregres/", json=registration())
    assert answer.status_code == 202
    body = answer.get_json()
    assert body == {
        "ok": True,
        "jobid": body["jobid"],
        "queue": "QUE_USRREG",
        "status_url": f"/api/v1/messages/{body['jobid']}",
    }
    assert is_message_id(body["jobid"])


def test_an_accepted_registration_is_in_the_ledger_and_on_its_queue(
    web: WebWorld, valkey: ValkeyServer
) -> None:
    answer = web.client.post(
        "/userregres/", json=registration(), headers={"X-Request-ID": "call-7"}
    )
    row = web.only_message()
    web.await_job(row.id)
    assert row.id == answer.get_json()["jobid"]
    assert (row.kind, row.state, row.key, row.queue) == (
        "registration",
        "accepted",
        "olena",
        "QUE_USRREG",
    )
    assert row.correlation_id == "call-7"
    assert valkey.client.lrange("rq:queue:QUE_USRREG", 0, -1) == [row.id.encode()]


def test_what_lies_in_redis_holds_nothing_personal(web: WebWorld, valkey: ValkeyServer) -> None:
    job_id = web.register("olena")
    job = valkey.client.hgetall(f"rq:job:{job_id}")
    assert job
    assert b"olena" not in b" ".join([*job, *job.values()]).lower()


def test_a_form_that_asks_for_json_gets_json(plain_web: WebWorld) -> None:
    answer = plain_web.client.post(
        "/userregres/", data=registration(), headers={"Accept": "application/json"}
    )
    assert answer.status_code == 202
    assert answer.get_json()["queue"] == "QUE_USRREG"


def test_a_form_is_answered_with_a_page_that_names_job_queue_state_and_place(web: WebWorld) -> None:
    web.register("first")
    answer = web.client.post("/userregres/", data=registration())
    page = answer.get_data(as_text=True)
    with_second_place = re.search(r"Place in the queue: <strong>2</strong>", page)
    assert answer.status_code == 200
    assert answer.mimetype == "text/html"
    assert with_second_place is not None
    assert "QUE_USRREG" in page
    assert _job_id(page) in page
    assert "accepted" in page


def test_the_answer_page_says_when_the_work_is_done(web: WebWorld) -> None:
    page = web.client.post("/userregres/", data=registration()).get_data(as_text=True)
    job_id = _job_id(page)
    assert "data-done" not in page
    web.work(job_id)
    later = web.client.get(f"/userregres/{job_id}/").get_data(as_text=True)
    assert "You are registered." in later
    assert "data-done" in later


def test_the_answer_page_works_without_scripts(plain_web: WebWorld) -> None:
    page = plain_web.client.post("/userregres/", data=registration()).get_data(as_text=True)
    job_id = _job_id(page)
    assert f'<noscript><meta http-equiv="refresh" content="3; url=/userregres/{job_id}/">' in page


def test_a_taken_login_fails_and_the_page_says_why(web: WebWorld) -> None:
    first = web.client.post("/userregres/", json=registration()).get_json()["jobid"]
    second = web.client.post("/userregres/", json=registration()).get_json()["jobid"]
    web.work(first)
    web.work(second)
    page = web.client.get(f"/userregres/{second}/").get_data(as_text=True)
    assert "This login is taken." in page
    state = web.client.get(f"/userregres/{second}/state").get_json()
    assert state["state"] == "failed"
    assert "taken" in state["reason"]


def test_the_state_of_a_registration_says_nothing_personal(plain_web: WebWorld) -> None:
    job_id = plain_web.register("olena")
    state = plain_web.client.get(f"/userregres/{job_id}/state").get_json()
    assert state == {"state": "accepted", "place": 1, "reason": None}
    page = plain_web.client.get(f"/userregres/{job_id}/").get_data(as_text=True)
    assert not re.search("olena|koval|38044", page, re.IGNORECASE)


def test_a_message_of_another_kind_has_no_public_page(plain_web: WebWorld) -> None:
    other = plain_web.client.post("/api/sendmsg", json={"a": 1}).get_json()["idjob"]
    assert plain_web.client.get(f"/userregres/{other}/").status_code == 404
    assert plain_web.client.get("/userregres/nonsense/state").status_code == 404


def test_a_form_with_mistakes_comes_back_filled_in_and_says_what_is_wrong(
    plain_web: WebWorld,
) -> None:
    wrong = registration(szEmail="nobody", szPhone="12", szLastName=" ")
    answer = plain_web.client.post("/userregres/", data=wrong)
    page = answer.get_data(as_text=True)
    assert answer.status_code == 422
    assert 'value="Olena"' in page
    assert 'value="nobody"' in page
    assert page.count('aria-invalid="true"') == 3
    assert "Please fill this in." in page
    assert "such as name@example.org" in page
    assert plain_web.messages() == 0


def test_what_a_form_shows_again_is_escaped(plain_web: WebWorld) -> None:
    wrong = registration(szFirstName='"><script>alert(1)</script>', szEmail="nobody")
    page = plain_web.client.post("/userregres/", data=wrong).get_data(as_text=True)
    assert "<script>alert" not in page
    assert "&lt;script&gt;" in page


def test_a_form_that_is_sent_twice_is_one_registration(web: WebWorld) -> None:
    form_id = _form_id(web.client.get("/userreg/").get_data(as_text=True))
    pages = [
        web.client.post("/userregres/", data=registration(form_id=form_id)).get_data(as_text=True)
        for _ in range(2)
    ]
    assert _job_id(pages[0]) == _job_id(pages[1])
    assert web.messages() == 1


def test_a_form_that_was_mended_and_sent_again_is_another_registration(
    plain_web: WebWorld,
) -> None:
    form_id = _form_id(plain_web.client.get("/userreg/").get_data(as_text=True))
    for login in ("olena", "olena2"):
        plain_web.client.post("/userregres/", data=registration(login, form_id=form_id))
    assert plain_web.messages() == 2


def test_each_form_has_a_number_of_its_own(plain_web: WebWorld) -> None:
    numbers = {_form_id(plain_web.client.get("/userreg/").get_data(as_text=True)) for _ in range(5)}
    assert len(numbers) == 5


def test_the_same_idempotency_key_twenty_times_at_once_is_one_message(web: WebWorld) -> None:
    def post(_: int) -> str:
        answer = web.app.test_client().post(
            "/userregres/", json=registration(), headers={"Idempotency-Key": "once"}
        )
        assert answer.status_code == 202
        job_id: str = answer.get_json()["jobid"]
        return job_id

    with ThreadPoolExecutor(20) as pool:
        ids = set(pool.map(post, range(20)))
    assert len(ids) == 1
    assert web.messages() == 1


def test_the_same_key_with_another_body_is_a_conflict(web: WebWorld) -> None:
    headers = {"Idempotency-Key": "once"}
    web.client.post("/userregres/", json=registration(), headers=headers)
    answer = web.client.post("/userregres/", json=registration("other"), headers=headers)
    assert answer.status_code == 409
    assert inner_code(answer) == "IdempotencyConflict"
    assert web.messages() == 1


@pytest.mark.parametrize("key", ["", "x" * 256, "ключ".encode().decode("latin-1")])
def test_an_idempotency_key_that_is_no_key_is_refused(plain_web: WebWorld, key: str) -> None:
    answer = plain_web.client.post(
        "/userregres/", json=registration(), headers={"Idempotency-Key": key}
    )
    assert answer.status_code == 422
    assert plain_web.messages() == 0


def test_users_are_listed_in_pages_from_the_newest_on(web: WebWorld) -> None:
    logins = [f"user{number:02}" for number in range(5)]
    _register(web, *logins)
    seen: list[str] = []
    address = "/userlist/?limit=2"
    while address:
        page = web.client.get(address).get_data(as_text=True)
        seen += re.findall(r"<strong>(user\d+)</strong>", page)
        cursor = re.search(r'rel="next" href="[^"]*cursor=(\d+)', page)
        address = f"/userlist/?limit=2&cursor={cursor[1]}" if cursor else ""
    assert seen == logins[::-1]


def test_users_are_found_by_the_beginning_of_login_last_name_or_e_mail(web: WebWorld) -> None:
    _register(web, "anna", "boris")
    for search, found in (("ann", {"anna"}), ("Kov", {"anna", "boris"}), ("nna", set())):
        page = web.client.get("/userlist/", query_string={"search": search}).get_data(as_text=True)
        assert set(re.findall(r"<strong>(\w+)</strong>", page)) == found, search


@pytest.mark.parametrize("search", ["%", "_nna", "\\", "'; DROP TABLE users; --"])
def test_signs_of_sql_in_a_search_are_only_letters(web: WebWorld, search: str) -> None:
    _register(web, "anna")
    page = web.client.get("/userlist/", query_string={"search": search})
    assert page.status_code == 200
    assert "Nobody is known" in page.get_data(as_text=True)


@pytest.mark.parametrize("query", ["cursor=x", "cursor=0", "limit=0", "limit=100000", "cursor=9e9"])
def test_a_cursor_or_limit_that_is_none_is_refused(plain_web: WebWorld, query: str) -> None:
    assert plain_web.client.get(f"/userlist/?{query}").status_code == 422


def _register(web: WebWorld, *logins: str) -> None:
    for login in logins:
        assert web.work(web.register(login)).action == "done"


def _job_id(page: str) -> str:
    found = re.search(r'id="job-id">([^<]+)<', page)
    assert found is not None
    return found[1]


def _form_id(page: str) -> str:
    found = re.search(r'name="form_id" value="([^"]+)"', page)
    assert found is not None
    return found[1]
