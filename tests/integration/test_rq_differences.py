"""What LeaseWorker does otherwise than RQ's own workers, by intent.

Mostly that is where theirs lose a job, run one that is not to be run, or end.
"""

from collections.abc import Callable
from datetime import timedelta

import pytest
from rq import Callback, Repeat, Worker
from rq.command import send_kill_horse_command, send_stop_job_command
from rq.job import Job, JobStatus

from app_srvc.workers import LeaseWorker
from tests.samples import rq_tasks as tasks
from tests.support.rq_trial import OURS, STOCK, Site, Trial


@pytest.fixture
def ours(trial: Trial) -> Site:
    """The one site on which our worker works."""
    trial.take_part(OURS)
    return trial.ours


def run(trial: Trial, **options: object) -> None:
    trial.start(OURS, **options)  # type: ignore[arg-type]
    trial.wait(OURS)


def keys(site: Site, *patterns: str) -> list[str]:
    return sorted(key.decode() for each in patterns for key in site.redis.scan_iter(each))


def in_hand(site: Site) -> list[str]:
    return keys(site, "rq:wip:*", "rq:execution*", "app:*")


# --- garbage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("id", [b"a b", b"\xff\xfe", b"", b"x" * 300, b"a:b"], ids=repr)
def test_an_entry_that_is_no_id_is_set_aside(trial: Trial, ours: Site, id: bytes) -> None:
    """RQ's worker ends at it."""
    ours.redis.rpush("rq:queue:default", id)
    ours.enqueue(tasks.note_itself)
    run(trial)
    assert ours.notes() == ["ran a"]
    assert in_hand(ours) == []


def test_an_id_may_be_as_long_as_it_likes(trial: Trial, ours: Site) -> None:
    ours.enqueue(tasks.note_itself, id="x" * 1000)
    run(trial)
    assert ours.notes() == ["ran " + "x" * 1000]
    assert in_hand(ours) == []


def test_an_entry_whose_job_is_none_is_set_aside(trial: Trial, ours: Site) -> None:
    ours.redis.set("rq:job:text", "text")
    ours.redis.hset("rq:job:empty", "status", "queued")
    ours.redis.hset("rq:job:odd", mapping={"data": b"", "status": "weird"})
    ours.redis.rpush("rq:queue:default", "text", "empty", "odd")
    ours.enqueue(tasks.note_itself)
    run(trial)
    assert ours.notes() == ["ran a"]
    assert in_hand(ours) == []


@pytest.mark.parametrize("value", ["garbage", "1.5", "nan", "inf", "1e300", "9" * 30])
def test_jobs_with_garbage_in_their_fields_hold_up_nobody(
    trial: Trial, ours: Site, value: str
) -> None:
    """RQ's worker ends at most of these, and again when it is started again."""
    for field in ("timeout", "result_ttl", "failure_ttl", "ttl", "created_at", "rescues"):
        for id, function in (("good", tasks.do_nothing), ("bad", tasks.fail)):
            ours.enqueue(function, id=f"{id}-{field}")
            ours.redis.hset(f"rq:job:{id}-{field}", field, value)
    for field in ("retries_left", "webhooks", "success_callback_timeout"):
        ours.enqueue(tasks.do_nothing, id=field)
        ours.redis.hset(f"rq:job:{field}", field, value)
    ours.enqueue(tasks.note_itself)
    run(trial)
    assert ours.notes() == ["ran a"]
    assert ours.status() == "finished"
    assert in_hand(ours) == []


def test_garbage_among_the_scheduled_holds_up_nobody(trial: Trial, ours: Site) -> None:
    for id, life in (("a", "garbage"), ("b", "1.5"), ("c", "1e300"), ("d", "100")):
        ours.queue().enqueue_in(timedelta(seconds=30), tasks.note_itself, job_id=id)
        ours.redis.hset(f"rq:job:{id}", "ttl", life)
    ours.redis.zadd("rq:scheduled:default", {"nobody": 1, "\u2603": 1})
    ours.make_due()
    run(trial)
    assert sorted(ours.notes()) == ["ran a", "ran b", "ran c", "ran d"]
    assert keys(ours, "rq:scheduled:*", "rq:queue:*") == []


# --- canceled and deleted -------------------------------------------------------------------------


def test_a_canceled_job_that_still_stands_in_its_queue_is_not_run(trial: Trial, ours: Site) -> None:
    """RQ's worker runs it (rq#2160)."""
    ours.enqueue(tasks.note_itself).cancel()
    ours.redis.rpush("rq:queue:default", "a")
    run(trial)
    assert (ours.status(), ours.notes()) == ("canceled", [])


def test_a_job_that_is_canceled_while_it_runs_stays_canceled(trial: Trial, ours: Site) -> None:
    """With RQ's worker it is finished in the end, and canceled as well."""
    ours.enqueue(tasks.cancel_itself)
    run(trial)
    assert ours.status() == "canceled"
    assert keys(ours, "rq:finished:*", "rq:wip:*", "app:*") == []


@pytest.mark.parametrize("more", [{}, {"on_success": Callback(tasks.note_success)}])
def test_a_job_that_is_deleted_while_it_runs_stays_away(
    trial: Trial, ours: Site, more: dict[str, Callback]
) -> None:
    """With RQ's worker it is there again."""
    ours.enqueue(tasks.delete_itself, **more)
    run(trial)
    assert keys(ours, "rq:job:*", "rq:results:*", "rq:finished:*") == []
    assert in_hand(ours) == []


# --- ends -----------------------------------------------------------------------------------------


def test_a_stopped_job_whose_callback_raises_is_stopped(trial: Trial, ours: Site) -> None:
    """RQ's worker ends at it, and leaves the job as started."""
    ours.enqueue(tasks.sleep, 20, on_stopped=Callback(tasks.refuse_stop))
    ours.enqueue(tasks.note_itself, id="next")
    trial.start(OURS)
    ours.wait_for_note("begun")
    send_stop_job_command(ours.redis, "a")
    trial.wait(OURS)
    assert (ours.status(), ours.notes()) == ("stopped", ["begun", "ran next"])
    result = ours.job().latest_result()
    assert result is not None and "KeyError: 'stopped callback'" in str(result.exc_string)


def test_a_stopped_job_began_when_it_began(trial: Trial, ours: Site) -> None:
    ours.enqueue(tasks.sleep, 20)
    trial.start(OURS)
    ours.wait_for_note("begun")
    began = ours.job().started_at
    send_stop_job_command(ours.redis, "a")
    trial.wait(OURS)
    job = ours.job()
    assert job.ended_at is not None
    assert began == job.started_at < job.ended_at


@pytest.mark.parametrize("kind", [STOCK, OURS])
@pytest.mark.parametrize("end", [send_stop_job_command, send_kill_horse_command])
def test_a_job_that_ended_with_its_process_is_one_of_so_many(
    trial: Trial, kind: str, end: Callable[..., None]
) -> None:
    site = trial.sites[kind]
    site.enqueue(tasks.sleep, 20)
    site.enqueue(tasks.note_itself, id="b")
    trial.start(kind, work={"max_jobs": 1})
    site.wait_for_note("begun")
    end(site.redis, "a" if end is send_stop_job_command else site.worker_name)
    trial.wait(kind)
    assert site.status() in ("stopped", "failed")
    assert (site.status("b"), site.notes()) == ("queued", ["begun"])


def test_a_job_that_was_killed_for_its_limit_is_one_of_so_many(trial: Trial, ours: Site) -> None:
    ours.enqueue("tests.samples.lease_jobs.ignore_every_limit", job_timeout=1)
    ours.enqueue(tasks.note_itself, id="b")
    run(trial, work={"max_jobs": 1})
    assert (ours.status(), ours.status("b"), ours.notes()) == ("failed", "queued", [])


@pytest.mark.parametrize("kind", [STOCK, OURS])
def test_a_change_in_the_moment_of_the_end_leaves_nothing_in_hand(trial: Trial, kind: str) -> None:
    """RQ's worker forgets the execution when it has to begin its transaction again (rq#2424)."""
    site = trial.sites[kind]
    site.enqueue(tasks.echo, 1, on_success=Callback(tasks.note_success))
    trial.start(kind, queue_class="tests.samples.rq_tasks.MovingQueue")
    trial.wait(kind)
    assert site.status() == "finished"
    assert (in_hand(site) == []) == (kind == OURS)


@pytest.mark.parametrize(("kind", "times"), [(STOCK, 2), (OURS, 3)])
def test_a_change_in_the_moment_of_the_end_costs_no_repeat(
    trial: Trial, kind: str, times: int
) -> None:
    """RQ's worker counts a repeat each time that it begins its transaction."""
    site = trial.sites[kind]
    site.enqueue(tasks.note_itself, repeat=Repeat(times=2))
    trial.start(kind, queue_class="tests.samples.rq_tasks.MovingQueue")
    trial.wait(kind)
    assert site.notes() == ["ran a"] * times


# --- processes that die ---------------------------------------------------------------------------


def test_a_job_that_kills_its_process_is_run_again_and_fails_in_the_end(
    trial: Trial, ours: Site
) -> None:
    """With RQ's worker it fails at once, even if somebody else killed the process."""
    ours.enqueue(tasks.kill_itself)
    ours.enqueue(tasks.note_itself, id="next")
    run(trial, work_horse_killed_handler="tests.samples.rq_tasks.note_death")
    assert ours.notes() == ["ran a", "killed a"] * 3 + ["ran next"]
    assert ours.status() == "failed"
    result = ours.job().latest_result()
    assert result is not None and str(result.exc_string).startswith("poison: ")


def test_only_the_job_that_ran_is_blamed(trial: Trial, ours: Site) -> None:
    """The first jobs go alone or in few, so the one that kills is in hand with others of the rest."""
    good = [f"good-{number}" for number in range(30)]
    for id in good:
        ours.enqueue(tasks.do_nothing, id=id)
    ours.enqueue(tasks.suspend_and_kill_itself, at_front=True)
    ours.redis.linsert("rq:queue:default", "after", good[14], "a")
    ours.redis.lpop("rq:queue:default")
    run(trial)
    back: list[bytes] = ours.redis.lrange("rq:queue:default", 0, -1)
    assert ours.notes() == ["ran a"]
    assert len(back) > 15 > back.index(b"a")
    blamed = {id: ours.redis.hget(f"rq:job:{id}", "rescues") for id in ["a", *good]}
    assert {id: count for id, count in blamed.items() if count} == {"a": b"1"}


def test_a_job_may_end_a_process_of_its_own(trial: Trial, ours: Site) -> None:
    """Its signal means nothing to the process of the worker, which goes on."""
    for id in ("a", "b"):
        ours.enqueue(tasks.end_own_process, id=id)
    run(trial)
    first, second = ours.notes()
    assert first == second
    assert first.endswith(" its own ended with -15")


# --- schedules ------------------------------------------------------------------------------------


def test_scheduled_jobs_need_no_option(trial: Trial, ours: Site) -> None:
    """RQ's worker looks for them only with `--with-scheduler`."""
    ours.queue().enqueue_in(timedelta(seconds=30), tasks.note_itself, job_id="a")
    ours.make_due()
    run(trial)
    assert ours.notes() == ["ran a"]


# --- who watches RQ's steps -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hook", "notes"),
    [
        ("HookedWorker", ["perform_job good", "perform_job bad"]),
        ("HandlingWorker", ["handle_exception bad"]),
        ("wrapped_perform_job", ["perform_job good", "perform_job bad"]),
        ("wrapped_handle_job_success", ["handle_job_success good"]),
        ("wrapped_perform", ["perform good", "perform bad"]),
        ("proxied_execute", ["_execute good", "_execute bad"]),
        ("proxied_perform_job", ["perform_job good", "perform_job bad"]),
    ],
)
def test_whoever_watches_a_step_of_rq_sees_plain_jobs_too(
    trial: Trial, ours: Site, hook: str, notes: list[str]
) -> None:
    ours.enqueue(tasks.do_nothing, id="good")
    ours.enqueue(tasks.fail, id="bad")
    run(trial, worker=f"tests.samples.rq_hooks.{hook}")
    assert ours.notes() == notes
    assert (ours.status("good"), ours.status("bad")) == ("finished", "failed")


def test_a_plain_job_that_nobody_watches_does_not_go_through_rq_s_code(
    trial: Trial, ours: Site
) -> None:
    ours.enqueue(tasks.note_own_class)
    run(trial)
    assert ours.notes() == ["LazyJob"]


# --- what RQ's tools see --------------------------------------------------------------------------


def test_rq_finds_our_workers(trial: Trial, ours: Site) -> None:
    ours.enqueue(tasks.sleep, 0.5)
    trial.start(OURS)
    ours.wait_for_note("begun")
    for worker_class in (Worker, LeaseWorker):
        (worker,) = worker_class.all(connection=ours.redis)
        job = worker.get_current_job()
        assert isinstance(job, Job) and job.id == "a"
        assert (worker.pid, worker.get_state()) == (ours.pid, "busy")
        assert job.get_status() == JobStatus.STARTED
    trial.wait(OURS)
