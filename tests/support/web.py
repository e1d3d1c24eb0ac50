"""The web part in this process: an application on real servers, and what tests do with it."""

from collections.abc import Iterable, Mapping
from typing import Any

from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import func, select
from werkzeug.test import TestResponse

from app_srvc.app import create_app
from app_srvc.messages.handling import Outcome
from app_srvc.messages.model import Message
from app_srvc.messages.process import process_message
from app_srvc.runtime import Runtime, open_runtime
from app_srvc.web import EXTENSION, Web
from tests.support.waiting import wait_until
from tests.support.worlds import SAMPLE_KINDS, settings_for

TOKEN = "a-token-of-this-test"
SECRET_KEY = "a secret of this test"

# What a service must be given that others can reach.
PUBLIC = {"HOST": "0.0.0.0", "API_TOKEN": TOKEN, "SECRET_KEY": SECRET_KEY}
PUBLIC_URL = "http://app.example.org"

START: Mapping[str, Any] = {
    "timedelta": 15,
    "records": 20,
    "msg": "start regular job",
    "rplstatus": "START",
}


class WebWorld:
    """An application, a client that speaks to it, and the runtime under it."""

    def __init__(self, redis_url: str, ledger_url: str, **more: str) -> None:
        variables = {"SOURCE_URL": "demo:", **more}
        self.settings = settings_for(redis_url, ledger_url, **variables)
        self.runtime: Runtime = open_runtime(self.settings, caller="web", kinds=SAMPLE_KINDS)
        self.app: Flask = create_app(self.settings, self.runtime)
        self.client: FlaskClient = self.app.test_client()

    def close(self) -> None:
        web: Web = self.app.extensions[EXTENSION]
        web.intake.close()
        self.runtime.close()

    def register(self, login: str) -> str:
        """Accept a registration, wait until its job is on the queue, and return its id."""
        answer = self.client.post("/userregres/", json=registration(login))
        assert answer.status_code == 202, answer.get_data(as_text=True)
        job_id: str = answer.get_json()["jobid"]
        self.await_job(job_id)
        return job_id

    def await_job(self, message_id: str) -> None:
        """Wait for what is done just after the answer: the job is put on its queue."""
        wait_until(lambda: self.runtime.redis.exists(f"rq:job:{message_id}"))

    def messages(self) -> int:
        """How many messages there are in the ledger."""
        with self.runtime.database.read() as session:
            return session.execute(select(func.count()).select_from(Message)).scalar_one()

    def only_message(self) -> Message:
        with self.runtime.database.read() as session:
            return session.execute(select(Message)).scalar_one()

    def work(self, message_id: str) -> Outcome:
        """Do the work of a message, as a worker would."""
        return process_message(self.runtime, message_id, worker="a worker of this test")


def registration(login: str = "olena", **more: str) -> dict[str, str]:
    """A good registration, in the original's words."""
    return {
        "szFirstName": "Olena",
        "szLastName": "Koval",
        "szLogin": login,
        "szEmail": f"{login}@example.org",
        "szPhone": "+380 44 123 45 67",
        **more,
    }


def bearer(token: str = TOKEN) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def inner_code(answer: TestResponse) -> str:
    """The inner code of an error in the original's shape, which must be whole."""
    body = answer.get_json()
    assert set(body) == {"Error"}
    error = body["Error"]
    assert set(error) == {"code", "description", "target", "Inner"}
    assert set(error["Inner"]) == {"code", "description"}
    assert all(isinstance(word, str) and word for word in _words(error))
    code: str = error["Inner"]["code"]
    return code


def _words(error: Mapping[str, Any]) -> Iterable[object]:
    for value in error.values():
        yield from value.values() if isinstance(value, dict) else (value,)
