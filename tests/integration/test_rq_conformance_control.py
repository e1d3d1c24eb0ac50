"""LeaseWorker beside RQ's own workers: in which order, until when, and what people do meanwhile."""

import os
import signal
from typing import Any

import pytest
from rq import Callback, Retry
from rq.command import (
    send_command,
    send_kill_horse_command,
    send_shutdown_command,
    send_stop_job_command,
)
from rq.suspension import resume, suspend

from tests.samples import rq_tasks as tasks
from tests.support.rq_differences import (
    leases,
    order_of_notes,
    state_without_work,
    text_of_the_error,
    what_a_dead_process_knew,
    who_is_told_of_a_shutdown,
)
from tests.support.rq_trial import OURS, STOCK, Site, Trial
from tests.support.waiting import wait_until


def fill(site: Site, *queues: str, count: int = 2) -> None:
    """Jobs that note the queue on which they stood, and their place on it."""
    for name in queues:
        for number in range(count):
            site.queue(name).enqueue(tasks.note, name, number, job_id=f"{name}-{number}")


# --- order ----------------------------------------------------------------------------------------


def test_queues_are_drained_in_their_order(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "low", "high"))
    picture = trial.run(queues=["high", "low"])
    assert picture["notes"] == ["high 0", "high 1", "low 0", "low 1"]


def test_a_job_for_a_higher_queue_goes_before_what_nobody_has_claimed(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        site.queue("low").enqueue(tasks.enqueue_another, "b", "high", job_id="a")
        site.queue("low").enqueue(tasks.note, "last", job_id="c")

    trial.each(enqueue)
    assert trial.run(queues=["high", "low"])["notes"] == ["ran parent", "ran b", "last"]


def test_queues_take_turns(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "x", "y", "z", count=3))
    picture = trial.run(queues=["x", "y", "z"], work={"dequeue_strategy": "round_robin"})
    assert picture["notes"] == [f"{name} {number}" for number in range(3) for name in "xyz"]


def test_queues_in_random_order(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "x", "y", count=15))
    picture = trial.run(
        queues=["x", "y"], work={"dequeue_strategy": "random"}, allowed=[order_of_notes]
    )
    assert len(picture["notes"]) == 30
    assert trial.ours.notes() != sorted(trial.ours.notes())


def test_a_job_at_the_front(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "default"))
    trial.enqueue(tasks.note, "first", id="front", at_front=True)
    assert trial.run()["notes"][0] == "first"


def test_ids_that_nobody_knows(trial: Trial) -> None:
    def enqueue(site: Site) -> None:
        for number in range(3):
            site.redis.rpush("rq:queue:default", f"nobody-{number}")
            site.enqueue(tasks.note_itself, id=f"a-{number}")

    trial.each(enqueue)
    # With one queue, RQ's own would leave those ids in its intermediate list for a while.
    assert trial.run(queues=["default", "other"])["notes"] == ["ran a-0", "ran a-1", "ran a-2"]


# --- until when -----------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 2])
def test_so_many_jobs_and_no_more(trial: Trial, count: int) -> None:
    trial.each(lambda site: fill(site, "default", count=3))
    picture = trial.run(work={"max_jobs": count})
    assert len(picture["notes"]) == count
    assert len(picture["rq:queue:default"]) == 3 - count


def test_a_worker_says_whether_it_had_work(trial: Trial) -> None:
    trial.run()
    assert {kind: trial.exit_status(kind) for kind in trial.sites} == dict.fromkeys(trial.sites, 1)
    trial.enqueue(tasks.do_nothing)
    trial.run()
    assert {kind: trial.exit_status(kind) for kind in trial.sites} == dict.fromkeys(trial.sites, 0)


def test_a_worker_that_ends_when_it_was_idle_for_long(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "default"))
    picture = trial.run(work={"burst": False, "max_idle_time": 1})
    assert len(picture["notes"]) == 2


@pytest.mark.parametrize("times", [1, 3])
def test_a_worker_is_asked_to_end_while_it_works(trial: Trial, times: int) -> None:
    """Ctrl-C reaches the workers of a pool twice: from the terminal and from the pool."""

    def ask(site: Site) -> None:
        site.wait_for_note("begun")
        for _ in range(times):
            os.kill(site.pid, signal.SIGINT)
            site.notes()

    trial.enqueue(tasks.sleep, 0.3)
    trial.enqueue(tasks.note_itself, id="b")
    picture = trial.run(meanwhile=ask, allowed=[who_is_told_of_a_shutdown])
    assert picture["rq:job:a"]["status"] == "finished"
    assert picture["rq:queue:default"] == ["b"]


def test_a_suspended_worker_that_ends_when_there_is_no_work_ends(trial: Trial) -> None:
    trial.each(lambda site: fill(site, "default"))
    trial.each(lambda site: suspend(site.redis))
    assert "notes" not in trial.run(allowed=[state_without_work])
    trial.each(lambda site: resume(site.redis))
    assert len(trial.run()["notes"]) == 2


def test_a_suspended_worker_goes_on_when_it_is_resumed(trial: Trial) -> None:
    def resume_it(site: Site) -> None:
        wait_until(lambda: site.worker_says("state") == "suspended")
        assert site.notes() == []
        resume(site.redis)
        wait_until(lambda: len(site.notes()) == 2)
        wait_until(lambda: site.worker_says("state") == "idle")
        send_shutdown_command(site.redis, site.worker_name)

    trial.each(lambda site: fill(site, "default"))
    trial.each(lambda site: suspend(site.redis))
    trial.run(meanwhile=resume_it, work={"burst": False})


# --- while a job runs -----------------------------------------------------------------------------


def stop(site: Site) -> None:
    site.wait_for_note("begun")
    send_stop_job_command(site.redis, "a")


def kill_horse(site: Site) -> None:
    site.wait_for_note("begun")
    send_kill_horse_command(site.redis, site.worker_name)


def test_what_is_seen_of_a_job_that_runs(trial: Trial) -> None:
    trial.take_part(STOCK, OURS)
    pictures: dict[str, Any] = {}

    def look(site: Site) -> None:
        site.wait_for_note("begun")
        pictures[site.kind] = site.picture()
        leases(pictures[site.kind])
        pictures[site.kind]["rq:worker:<worker>"].pop("current_job_working_time")

    trial.enqueue(tasks.sleep, 0.3)
    trial.run(meanwhile=look)
    assert trial.differences(pictures[STOCK], pictures[OURS]) == ""
    assert pictures[OURS]["rq:wip:default"] == ["a:<execution>"]
    assert pictures[OURS]["rq:worker:<worker>"]["current_job"] == "a"


@pytest.mark.parametrize(
    "more", [{}, {"retry": Retry(max=2)}, {"failure_ttl": 60}], ids=["", "retry", "failure_ttl"]
)
def test_a_job_is_stopped(trial: Trial, more: dict[str, Any]) -> None:
    trial.take_part(STOCK, OURS)
    trial.enqueue(tasks.sleep, 20, **more)
    trial.enqueue(tasks.note_itself, id="next")
    picture = trial.run(meanwhile=stop, allowed=[what_a_dead_process_knew])
    assert picture["rq:job:a"]["status"] == "stopped"
    assert picture["notes"] == ["begun", "ran next"]


def test_a_stopped_job_calls_back(trial: Trial) -> None:
    trial.take_part(STOCK, OURS)
    trial.enqueue(tasks.sleep, 20, on_stopped=Callback(tasks.note_stop))
    picture = trial.run(meanwhile=stop, allowed=[what_a_dead_process_knew])
    assert picture["notes"] == ["begun", "stop of a"]


def test_nothing_that_depends_on_a_stopped_job_is_run(trial: Trial) -> None:
    trial.take_part(STOCK, OURS)
    trial.enqueue(tasks.sleep, 20)
    trial.enqueue(tasks.note_itself, id="b", depends_on="a")
    picture = trial.run(meanwhile=stop, allowed=[what_a_dead_process_knew])
    assert picture["rq:job:b"]["status"] == "deferred"


def test_a_job_that_does_not_run_is_not_stopped(trial: Trial) -> None:
    def stop_another(site: Site) -> None:
        site.wait_for_note("begun")
        send_command(site.redis, site.worker_name, "stop-job", job_id="b")

    trial.enqueue(tasks.sleep, 0.3)
    trial.enqueue(tasks.note_itself, id="b")
    assert trial.run(meanwhile=stop_another)["notes"] == ["begun", "ran b"]


@pytest.mark.parametrize(
    ("more", "status"),
    [({}, "failed"), ({"retry": Retry(max=1, interval=30)}, "scheduled")],
    ids=["", "retry"],
)
def test_a_horse_is_killed(trial: Trial, more: dict[str, Any], status: str) -> None:
    trial.take_part(STOCK, OURS)
    trial.enqueue(tasks.sleep, 20, **more)
    trial.enqueue(tasks.note_itself, id="next")
    picture = trial.run(
        meanwhile=kill_horse,
        allowed=[what_a_dead_process_knew],
        work_horse_killed_handler="tests.samples.rq_tasks.note_death",
    )
    assert picture["notes"] == ["begun", "killed a", "ran next"]
    assert picture["rq:job:a"]["status"] == status


# --- canceled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_on", [False, True], ids=["", "with its dependents enqueued"])
def test_a_canceled_job_is_not_run(trial: Trial, is_on: bool) -> None:
    trial.enqueue(tasks.note_itself)
    trial.enqueue(tasks.note_itself, id="b", depends_on="a")
    trial.each(lambda site: site.job().cancel(enqueue_dependents=is_on))
    picture = trial.run()
    assert picture["rq:job:a"]["status"] == "canceled"
    assert picture.get("notes") == (["ran b"] if is_on else None)


# --- exception handlers ---------------------------------------------------------------------------

HANDLERS = [f"tests.samples.rq_tasks.{name}" for name in ("note_error", "note_error_and_end")]


@pytest.mark.parametrize(
    "more", [{}, {"retry": Retry(max=1)}, {"failure_ttl": 60}], ids=["", "retry", "failure_ttl"]
)
@pytest.mark.parametrize("is_disabled", [False, True], ids=["", "without RQ's own"])
def test_exception_handlers(trial: Trial, is_disabled: bool, more: dict[str, Any]) -> None:
    trial.enqueue(tasks.fail, **more)
    trial.enqueue(tasks.echo, 1, id="b")
    picture = trial.run(
        exception_handlers=[*HANDLERS, HANDLERS[0]],
        disable_default_exception_handler=is_disabled,
    )
    assert picture["notes"][:2] == ["handler 1: a no", "handler 2: a no"]
    assert len(picture["notes"]) == (4 if "retry" in more else 2)


def test_without_any_exception_handler(trial: Trial) -> None:
    trial.enqueue(tasks.fail)
    assert "rq:failed:default" not in trial.run(disable_default_exception_handler=True)


@pytest.mark.parametrize("more", [{}, {"on_success": tasks.note_success}], ids=["", "callback"])
def test_an_exception_handler_that_raises(trial: Trial, more: dict[str, Any]) -> None:
    trial.take_part(STOCK, OURS)
    trial.enqueue(tasks.fail, **{name: Callback(each) for name, each in more.items()})
    trial.enqueue(tasks.swallow_the_limit, 20, id="b", job_timeout=1)
    picture = trial.run(
        exception_handlers=["tests.samples.rq_tasks.refuse_to_handle"],
        allowed=[what_a_dead_process_knew, text_of_the_error],
    )
    assert picture["rq:job:a"]["status"] == "failed"
    assert picture["notes"] == ["swallowed"]
