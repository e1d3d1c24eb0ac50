"""LeaseWorker beside RQ's own workers: how one job ends, and what it leaves in Redis."""

from typing import Any

import pytest
from rq import Callback, Queue
from rq.group import Group

from tests.samples import rq_tasks as tasks
from tests.support.rq_differences import failures_that_are_gone, ids_without_a_job
from tests.support.rq_trial import OURS, SIMPLE, STOCK, Site, Trial

LIVES = pytest.mark.parametrize(
    ("life_s", "life"),
    [(0, None), (60, "about 60 s"), (-1, None)],
    ids=["no longer", "a minute", "for ever"],
)


# --- successes ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [None, 0, 7, "text", "", b"\x00\xff", {"a": [1, None]}, ("tuple",), False, "x" * 100_000],
    ids=lambda value: repr(value)[:20],
)
def test_a_job_that_succeeds(trial: Trial, value: Any) -> None:
    trial.enqueue(tasks.echo, value)
    picture = trial.run()
    assert picture["rq:job:a"]["status"] == "finished"
    assert list(picture["rq:finished:default"]) == ["a"]

    def has_result(site: Site) -> None:
        result = site.job().latest_result()
        assert result is not None and result.return_value == value

    trial.each(has_result)


def test_a_result_that_cannot_be_stored(trial: Trial) -> None:
    trial.enqueue(tasks.return_what_cannot_be_stored)
    picture = trial.run()
    assert picture["rq:job:a"]["status"] == "finished"
    assert picture["rq:results:a"][0]["return_value"] == "'Unserializable return value'"


@pytest.mark.parametrize(
    "function",
    [tasks.Greeter("Ada").greet, tasks.Greeter.wave, "builtins.len", "tests.samples.rq_tasks.echo"],
    ids=["method", "static method", "builtin", "dotted name"],
)
def test_what_may_be_a_job(trial: Trial, function: Any) -> None:
    arguments = ["four"] if isinstance(function, str) else []
    trial.enqueue(function, *arguments)
    assert trial.run()["rq:job:a"]["status"] == "finished"


def test_arguments_by_position_and_by_name(trial: Trial) -> None:
    trial.enqueue(tasks.echo, 1, other=2)
    assert trial.run()["rq:results:a"][0]["return_value"] == "(1, {'other': 2})"


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (tasks.wait_and_echo, [5], "5"),
        (tasks.make_other_coroutine, [], "'of another kind'"),
    ],
    ids=["async def", "compiled"],
)
def test_coroutines_are_awaited(
    trial: Trial, function: Any, arguments: list[Any], result: str
) -> None:
    trial.enqueue(function, *arguments)
    trial.enqueue(function, *arguments, id="b")
    picture = trial.run()
    assert [picture[f"rq:results:{id}"][0]["return_value"] for id in "ab"] == [result] * 2


def test_many_jobs_that_succeed_and_fail(trial: Trial) -> None:
    for number in range(10):
        trial.enqueue(tasks.echo, number, id=f"good-{number}")
        trial.enqueue(tasks.fail, str(number), id=f"bad-{number}", failure_ttl=100 * number + 100)
    worker = trial.run()["rq:worker:<worker>"]
    assert (worker["successful_job_count"], worker["failed_job_count"]) == ("10", "10")


# --- failures -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "error"),
    [
        (tasks.fail, "ValueError: no"),
        (tasks.fail_while_waiting, "LookupError: async"),
        (tasks.exit_in_the_middle, "SystemExit: 3"),
        ("tests.samples.rq_tasks.not_there", "Invalid attribute name: "),
        ("no_such_module.function", "ValueError: Invalid attribute name: no_such_module.function"),
    ],
    ids=["raises", "raises while it is awaited", "exits", "no function", "no module"],
)
def test_a_job_that_fails(trial: Trial, function: Any, error: str) -> None:
    trial.enqueue(function)
    picture = trial.run()
    assert picture["rq:job:a"]["status"] == "failed"
    assert list(picture["rq:failed:default"]) == ["a"]
    assert error in picture["rq:results:a"][0]["exc_string"]


@pytest.mark.parametrize("data", [b"\x80garbage", b""], ids=["garbage", "nothing"])
def test_a_job_whose_data_cannot_be_read(trial: Trial, data: bytes) -> None:
    trial.enqueue(tasks.do_nothing)
    trial.enqueue(tasks.note_itself, id="next")
    trial.each(lambda site: site.redis.hset("rq:job:a", "data", data))
    picture = trial.run()
    assert picture["rq:results:a"][0]["exc_string"] == "rq.exceptions.DeserializationError"
    assert picture["notes"] == ["ran next"]


def test_arguments_that_do_not_fit(trial: Trial) -> None:
    trial.enqueue(tasks.do_nothing, 1, 2)
    assert "TypeError" in trial.run()["rq:results:a"][0]["exc_string"]


def test_a_job_that_takes_too_long(trial: Trial) -> None:
    trial.enqueue(tasks.sleep, 20, job_timeout=1)
    trial.enqueue(tasks.note_itself, id="next")
    picture = trial.run()
    assert picture["rq:results:a"][0]["exc_string"] == (
        "rq.timeouts.JobTimeoutException: Task exceeded maximum timeout value (1 seconds)"
    )
    assert picture["notes"] == ["begun", "ran next"]


def test_a_job_that_swallows_its_time_limit_is_left_in_peace(trial: Trial) -> None:
    trial.enqueue(tasks.swallow_the_limit, 20, job_timeout=1)
    picture = trial.run()
    assert (picture["rq:job:a"]["status"], picture["notes"]) == ("finished", ["swallowed"])


def test_a_job_without_a_time_limit(trial: Trial) -> None:
    trial.enqueue(tasks.sleep, 0.1, job_timeout=-1)
    assert trial.run()["rq:job:a"]["status"] == "finished"


# --- how long it is kept --------------------------------------------------------------------------


@LIVES
def test_the_life_of_a_success(trial: Trial, life_s: int, life: str | None) -> None:
    trial.enqueue(tasks.echo, 1, result_ttl=life_s)
    picture = trial.run()
    assert ("rq:job:a" in picture) == (life_s != 0)
    assert picture.get("life of rq:job:a") == picture.get("life of rq:results:a") == life


@LIVES
def test_the_life_of_a_failure(trial: Trial, life_s: int, life: str | None) -> None:
    trial.enqueue(tasks.fail, failure_ttl=life_s)
    picture = trial.run(allowed=[failures_that_are_gone])
    assert ("rq:job:a" in picture) == (life_s != 0)
    assert picture.get("life of rq:job:a") == picture.get("life of rq:results:a") == life


def test_the_lives_that_nobody_has_set(trial: Trial) -> None:
    trial.enqueue(tasks.echo, 1)
    trial.enqueue(tasks.fail, id="b")
    picture = trial.run(default_result_ttl=100)
    assert picture["life of rq:job:a"] == "about 100 s"
    assert picture["life of rq:job:b"] == "about 31536000 s"


def test_a_job_may_wait_only_so_long_and_run_longer(trial: Trial) -> None:
    trial.enqueue(tasks.tell_own_life, ttl=60, result_ttl=-1)
    picture = trial.run()
    assert picture["rq:results:a"][0]["return_value"] == "-1"
    assert "life of rq:job:a" not in picture


def test_a_job_that_has_waited_too_long_is_not_run(trial: Trial) -> None:
    trial.enqueue(tasks.note_itself, ttl=60)
    trial.enqueue(tasks.note_itself, id="b")
    trial.each(lambda site: site.redis.delete("rq:job:a"))
    assert trial.run(allowed=[ids_without_a_job])["notes"] == ["ran b"]


def test_a_failed_job_that_is_run_again_lives_as_a_success_does(trial: Trial) -> None:
    trial.enqueue(tasks.fail_at_first, 1, failure_ttl=60, result_ttl=-1)
    trial.run()
    trial.each(lambda site: site.job().requeue())
    picture = trial.run()
    assert picture["rq:job:a"]["status"] == "finished"
    assert "life of rq:job:a" not in picture


def test_a_job_that_is_run_again_outlives_the_life_of_its_failure(trial: Trial) -> None:
    trial.enqueue(tasks.fail_and_then_tell_own_life, failure_ttl=60)
    trial.run()
    trial.each(lambda site: site.job().requeue())
    assert trial.run()["rq:results:a"][-1]["return_value"] == "-1"


def test_a_job_leaves_its_group_when_it_goes(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        make = Queue.prepare_data
        Group.create(site.redis, name="g").enqueue_many(
            site.queue(),
            [
                make(tasks.do_nothing, job_id="stays"),
                make(tasks.do_nothing, job_id="goes", result_ttl=0),
                make(tasks.fail, job_id="fails", failure_ttl=0),
                make(tasks.fail, job_id="failed"),
            ],
        )

    trial.each(enqueue)
    picture = trial.run(allowed=[failures_that_are_gone])
    assert picture["rq:group:g"] == ["failed", "stays"]


# --- what a job knows and changes of itself -------------------------------------------------------


def test_a_job_reads_itself_and_writes_its_meta(trial: Trial) -> None:
    trial.enqueue(tasks.keep_progress, meta={"given": 1}, description="A description")
    picture = trial.run()
    job = picture["rq:job:a"]
    assert job["meta"] == {"given": 1, "progress": 50}
    assert job["description"] == "A description"
    assert "a default tests.samples.rq_tasks.keep_progress" in str(picture["rq:results:a"])


@pytest.mark.parametrize("then", ["end", "fail"])
def test_what_a_job_changes_of_itself_is_kept(trial: Trial, then: str) -> None:
    trial.enqueue(tasks.describe_itself, then)
    assert trial.run()["rq:job:a"]["description"] == "changed while it ran"


def test_a_job_changes_how_long_it_is_kept(trial: Trial) -> None:
    trial.enqueue(tasks.shorten_own_life, 40)
    assert trial.run()["life of rq:job:a"] == "about 40 s"


def test_a_job_in_a_job(trial: Trial) -> None:
    trial.enqueue(tasks.run_inline)
    assert trial.run()["notes"] == ["ran inner"]


# --- job classes and serializers ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("job_class", "function", "notes"),
    [
        ("NamedJob", tasks.shout, None),
        ("NamedJob", tasks.fail, None),
        ("NotingJob", tasks.do_nothing, ["before a", "after a"]),
        ("NotingJob", tasks.fail, ["before a", "after a"]),
    ],
)
def test_a_job_class_of_ones_own(
    trial: Trial, job_class: str, function: Any, notes: list[str] | None
) -> None:
    trial.enqueue(function)
    assert trial.run(job_class=f"tests.samples.rq_tasks.{job_class}").get("notes") == notes


def test_the_json_serializer(trial: Trial) -> None:
    trial.take_part(SIMPLE, STOCK, OURS, serializer="json")
    trial.enqueue(tasks.echo, {"a": [1]}, meta={"given": 1})
    trial.enqueue(tasks.return_what_cannot_be_stored, id="b")
    trial.enqueue(tasks.fail, id="c")
    trial.enqueue(tasks.ask_for_a_retry, 1, id="d")
    trial.enqueue(tasks.echo, 5, id="e", on_success=Callback(tasks.note_success))
    trial.enqueue(tasks.keep_progress, id="f", meta={"given": 1})
    picture = trial.run()
    statuses = [picture[f"rq:job:{id}"]["status"] for id in "abcdef"]
    assert statuses == ["finished", "finished", "failed", "failed", "finished", "finished"]


def test_a_pickled_job_is_refused_by_the_json_serializer(trial: Trial) -> None:
    trial.enqueue(tasks.note_itself)
    trial.take_part(SIMPLE, STOCK, OURS, serializer="json")
    picture = trial.run()
    assert picture["rq:results:a"][0]["exc_string"] == "rq.exceptions.DeserializationError"
    assert "notes" not in picture
