"""LeaseWorker beside RQ's own workers: whom a job tells of its end."""

from collections.abc import Iterator
from typing import Any

import pytest
from rq import Callback, Retry
from rq.webhook import Webhook

from tests.samples import rq_tasks as tasks
from tests.support.rq_listener import Listener
from tests.support.rq_trial import OURS, STOCK, Site, Trial

CALLBACKS = {
    "on_success": Callback(tasks.note_success),
    "on_failure": Callback(tasks.note_failure),
    "on_stopped": Callback(tasks.note_stop),
}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with Listener() as listener:
        yield listener


@pytest.mark.parametrize(
    ("function", "note"),
    [
        (tasks.wait_and_echo, "success of a: '5', finished"),
        (tasks.fail, "failure of a: ValueError 5"),
    ],
    ids=["success", "failure"],
)
def test_callbacks(trial: Trial, function: Any, note: str) -> None:
    trial.enqueue(function, "5", **CALLBACKS)
    assert trial.run()["notes"] == [note]


@pytest.mark.parametrize(
    ("function", "callbacks"),
    [
        (tasks.echo, {"on_success": tasks.refuse_success}),
        (tasks.echo, {"on_success": tasks.refuse_success, "on_failure": tasks.note_failure}),
        (tasks.fail, {"on_failure": tasks.refuse_failure}),
        (tasks.echo, {"on_success": "tests.samples.rq_tasks.not_there"}),
        (tasks.fail, {"on_failure": "tests.samples.rq_tasks.not_there"}),
    ],
    ids=["on_success", "both", "on_failure", "no on_success", "no on_failure"],
)
def test_callbacks_that_raise(trial: Trial, function: Any, callbacks: dict[str, Any]) -> None:
    named = {name: Callback(callback) for name, callback in callbacks.items()}
    trial.enqueue(function, "5", **named)
    assert trial.run()["rq:job:a"]["status"] == "failed"


def test_no_job_is_the_current_one_in_a_callback(trial: Trial) -> None:
    for id in "abcde":
        trial.enqueue(tasks.do_nothing, id=id)
        trial.enqueue(tasks.do_nothing, id=f"{id}2", on_success=Callback(tasks.note_current_job))
    assert trial.run()["notes"] == [f"after {id}2 comes None" for id in "abcde"]


def test_a_callback_that_takes_too_long(trial: Trial) -> None:
    trial.enqueue(tasks.echo, 1, on_success=Callback(tasks.take_too_long, timeout=1))
    trial.enqueue(tasks.sleep, 20, id="b", job_timeout=1)
    picture = trial.run()
    assert [picture[f"rq:job:{id}"]["status"] for id in "ab"] == ["failed"] * 2


def test_callbacks_of_a_job_that_is_tried_again(trial: Trial) -> None:
    trial.enqueue(tasks.fail_at_first, 1, retry=Retry(max=1), **CALLBACKS)
    notes = trial.run()["notes"]
    assert [note.partition(":")[0] for note in notes] == [
        "run 1",
        "failure of a",
        "run 2",
        "success of a",
    ]


# --- webhooks -------------------------------------------------------------------------------------


@pytest.mark.parametrize("function", [tasks.echo, tasks.fail], ids=["success", "failure"])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_webhooks(trial: Trial, listener: Listener, function: Any, method: Any) -> None:
    def enqueue(site: Site) -> None:
        hooks = [
            Webhook(f"{listener.url}/{site.worker_name}/{status}", status, method=method)
            for status in ("finished", "failed")
        ]
        site.enqueue(function, "5", webhooks=hooks)

    trial.each(enqueue)
    trial.run()
    heard = {site.kind: listener.heard(f"/{site.worker_name}/") for site in trial.sites.values()}
    assert len(heard[STOCK]) == 1
    assert heard[OURS] == heard[STOCK]


def test_a_webhook_that_nobody_answers(trial: Trial) -> None:
    trial.enqueue(tasks.echo, 1, webhooks=[Webhook("http://127.0.0.1:1/", "finished")])
    assert trial.run()["rq:job:a"]["status"] == "finished"
