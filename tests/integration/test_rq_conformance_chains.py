"""LeaseWorker beside RQ's own workers: retries, repeats, schedules and dependents."""

from datetime import timedelta
from typing import Any

import pytest
from rq import Repeat, Retry
from rq.job import Dependency

from tests.samples import rq_tasks as tasks
from tests.support.rq_differences import failures_that_are_gone
from tests.support.rq_trial import Site, Trial

SCHEDULED = {"with_scheduler": True}


# --- retries --------------------------------------------------------------------------------------


def test_a_job_is_tried_again_at_once(trial: Trial) -> None:
    trial.enqueue(tasks.fail_at_first, 1, retry=Retry(max=2))
    picture = trial.run()
    assert (picture["rq:job:a"]["status"], picture["runs"]) == ("finished", "2")


def test_a_job_fails_for_good_when_its_tries_are_used_up(trial: Trial) -> None:
    trial.enqueue(tasks.fail_at_first, 9, retry=Retry(max=2))
    picture = trial.run()
    assert (picture["rq:job:a"]["status"], picture["runs"]) == ("failed", "3")


def test_a_job_is_tried_again_later(trial: Trial) -> None:
    trial.enqueue(tasks.fail_at_first, 2, retry=Retry(max=2, interval=[40, 60]))
    picture = trial.run()
    assert picture["rq:scheduled:default"] == {"a": "about 40 s"}
    trial.each(Site.make_due)
    picture = trial.run(work=SCHEDULED)
    assert picture["rq:scheduled:default"] == {"a": "about 60 s"}
    trial.each(Site.make_due)
    assert trial.run(work=SCHEDULED)["rq:job:a"]["status"] == "finished"


@pytest.mark.parametrize("at_front", [True, False])
@pytest.mark.parametrize("interval", [0, 30])
def test_the_place_of_a_job_that_is_tried_again(
    trial: Trial, at_front: bool, interval: int
) -> None:
    retry = Retry(max=1, interval=interval, enqueue_at_front=at_front)
    trial.enqueue(tasks.fail_at_first, 1, retry=retry)
    trial.enqueue(tasks.note, "other", id="b")
    trial.run(work={"max_jobs": 1})
    trial.each(Site.make_due)
    picture = trial.run(work=SCHEDULED)
    others = ["other", "run 2"]
    assert picture["notes"] == ["run 1", *(reversed(others) if at_front else others)]


def test_a_job_that_asks_for_a_retry(trial: Trial) -> None:
    trial.enqueue(tasks.ask_for_a_retry, 2)
    picture = trial.run()
    assert (picture["rq:job:a"]["status"], len(picture["notes"])) == ("failed", 3)
    assert [each["type"] for each in picture["rq:results:a"]] == ["4", "4", "5"]


def test_a_job_that_asks_for_a_retry_later(trial: Trial) -> None:
    trial.enqueue(tasks.ask_for_a_retry, 1, interval=30)
    assert trial.run()["rq:job:a"]["status"] == "scheduled"
    trial.each(Site.make_due)
    assert trial.run(work=SCHEDULED)["rq:job:a"]["status"] == "failed"


def test_a_job_that_takes_too_long_is_tried_again(trial: Trial) -> None:
    trial.enqueue(tasks.sleep, 20, job_timeout=1, retry=Retry(max=1, interval=30))
    assert trial.run()["rq:job:a"]["status"] == "scheduled"


# --- repeats and schedules ------------------------------------------------------------------------


def test_a_job_is_repeated(trial: Trial) -> None:
    trial.enqueue(tasks.note_itself, repeat=Repeat(times=2))
    assert trial.run()["notes"] == ["ran a"] * 3


def test_a_job_is_repeated_later(trial: Trial) -> None:
    trial.enqueue(tasks.note_itself, repeat=Repeat(times=1, interval=30))
    assert trial.run()["rq:job:a"]["status"] == "scheduled"
    trial.each(Site.make_due)
    assert trial.run(work=SCHEDULED)["notes"] == ["ran a"] * 2


def test_a_job_that_fails_is_not_repeated(trial: Trial) -> None:
    trial.enqueue(tasks.fail, repeat=Repeat(times=1))
    assert trial.run()["rq:job:a"]["status"] == "failed"


def test_scheduled_jobs(trial: Trial) -> None:
    def schedule(site: Site) -> None:
        enqueue = site.queue().enqueue_in
        enqueue(timedelta(seconds=30), tasks.note_itself, job_id="a")
        enqueue(timedelta(seconds=30), tasks.note_itself, job_id="b", at_front=True)
        enqueue(timedelta(seconds=30), tasks.note_itself, job_id="c", ttl=100, result_ttl=0)
        site.make_due()
        enqueue(timedelta(seconds=30), tasks.note_itself, job_id="later")

    trial.each(schedule)
    picture = trial.run(work=SCHEDULED)
    assert picture["notes"] == ["ran b", "ran a", "ran c"]
    assert list(picture["rq:scheduled:default"]) == ["later"]


def test_a_scheduled_job_waits_only_so_long_after_its_time_has_come(trial: Trial) -> None:
    def schedule(site: Site) -> None:
        queue = site.queue()
        queue.enqueue(tasks.do_nothing, job_id="first")
        queue.enqueue_in(timedelta(seconds=30), tasks.do_nothing, job_id="a", ttl=100)
        site.redis.expire("rq:job:a", 60)
        site.make_due()

    trial.each(schedule)
    picture = trial.run(work={**SCHEDULED, "max_jobs": 1})
    assert picture["rq:queue:default"] == ["a"]
    assert picture["life of rq:job:a"] == "about 100 s"


# --- dependents -----------------------------------------------------------------------------------


def depend(site: Site, parent: Any, *, ids: str = "bc", **more: Any) -> None:
    """A job, and others that depend on it."""
    job = site.enqueue(parent, **({"result_ttl": 0} if more.pop("vanishes", False) else {}))
    for id in ids:
        site.enqueue(tasks.note_itself, id=id, depends_on=Dependency([job], **more))


@pytest.mark.parametrize("vanishes", [False, True])
def test_jobs_that_depend_on_a_success(trial: Trial, vanishes: bool) -> None:
    trial.each(lambda site: depend(site, tasks.do_nothing, ids="b", vanishes=vanishes))
    assert trial.run()["notes"] == ["ran b"]


def test_jobs_that_depend_on_a_failure(trial: Trial) -> None:
    trial.each(lambda site: depend(site, tasks.fail))
    picture = trial.run()
    assert set(picture["rq:deferred:default"]) == {"b", "c"}


def test_jobs_that_allow_for_a_failure(trial: Trial) -> None:
    trial.each(lambda site: depend(site, tasks.fail, ids="b", allow_failure=True))
    assert trial.run()["notes"] == ["ran b"]


def test_a_dependent_in_front_of_the_queue(trial: Trial) -> None:
    """Only what our worker has claimed already may still run before it."""
    trial.each(lambda site: depend(site, tasks.do_nothing, ids="b", enqueue_at_front=True))
    trial.enqueue(tasks.note_itself, id="d")
    assert trial.run(work={"max_jobs": 1})["rq:queue:default"] == ["b", "d"]
    assert trial.run()["notes"] == ["ran b", "ran d"]


def test_a_dependent_on_another_queue(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        parent = site.enqueue(tasks.do_nothing)
        site.queue("other").enqueue(tasks.note_itself, job_id="b", depends_on=parent)

    trial.each(enqueue)
    assert trial.run(queues=["default", "other"])["notes"] == ["ran b"]


def test_a_dependent_that_fails(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        parent = site.enqueue(tasks.do_nothing)
        for number, life_s in enumerate((60, 0, -1)):
            site.enqueue(tasks.fail, id=f"b{number}", depends_on=parent, failure_ttl=life_s)

    trial.each(enqueue)
    picture = trial.run(allowed=[failures_that_are_gone])
    assert picture["life of rq:job::b0:dependencies"] == "about 60 s"


def test_a_dependent_of_two(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        parents = [site.enqueue(tasks.do_nothing, id="a"), site.enqueue(tasks.fail, id="z")]
        site.enqueue(tasks.note_itself, id="b", depends_on=parents)
        both = Dependency(parents, allow_failure=True)
        site.enqueue(tasks.note_itself, id="c", depends_on=both)

    trial.each(enqueue)
    assert trial.run()["notes"] == ["ran c"]


def test_a_chain(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        job = site.enqueue(tasks.note_itself)
        for id in "bcd":
            job = site.enqueue(tasks.note_itself, id=id, depends_on=job)

    trial.each(enqueue)
    assert trial.run()["notes"] == ["ran a", "ran b", "ran c", "ran d"]


def test_a_dependent_that_comes_while_its_parent_runs(trial: Trial) -> None:
    trial.enqueue(tasks.add_a_dependent, "b")
    assert trial.run()["notes"] == ["ran b"]


def test_a_dependent_of_a_job_that_is_tried_again(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        job = site.enqueue(tasks.fail_at_first, 1, retry=Retry(max=1))
        site.enqueue(tasks.note_itself, id="b", depends_on=job)

    trial.each(enqueue)
    assert trial.run()["notes"] == ["run 1", "run 2", "ran b"]
