"""What RQ's tools show while a LeaseWorker has a batch in hand: the job that runs, and no other."""

import time
from pathlib import Path
from typing import Any

import pytest
from rq import Queue, Retry, Worker

from tests.samples import rq_jobs
from tests.support.rq_stage import Stage
from tests.support.rq_tools import Facts, QueueFacts, WorkerFacts, expect
from tests.support.waiting import wait_until

pytestmark = pytest.mark.xdist_group("rq_tools")

# Long before the leases are renewed the next time, which would correct it by the way.
SOON_S = 1.5
FAST = 300
# How many jobs a tool may be behind: as many as one batch is when it takes its time.
BEHIND = 5


@pytest.fixture
def facts(stage: Stage) -> Facts:
    """A worker that takes many jobs at once, since those that it has run were fast."""
    part = stage.start("worker", "--name", "one", "jobs")
    stage.wait_for_workers(1)
    stage.queue("jobs").enqueue_many([Queue.prepare_data(rq_jobs.give, args=(1,))] * FAST)
    known = Facts(
        {"jobs": QueueFacts(finished=FAST)},
        {"one": WorkerFacts(["jobs"], part.pid, succeeded=FAST)},
    )
    expect([stage.dashboard], known, 10)
    return known


@pytest.mark.parametrize(
    "options",
    [{}, {"result_ttl": 0}, {"retry": Retry(1)}],
    ids=["as any", "that is not kept", "that RQ's own code runs"],
)
def test_the_current_job_is_the_one_that_runs_behind_a_job(
    stage: Stage, facts: Facts, options: dict[str, Any]
) -> None:
    jobs, worker = facts.queues["jobs"], facts.workers["one"]
    ahead, held, *behind = stage.queue("jobs").enqueue_many(
        [
            Queue.prepare_data(rq_jobs.give, args=(1,), **options),
            Queue.prepare_data(rq_jobs.hold, args=(stage.gate("held"),), retry=Retry(1)),
            Queue.prepare_data(rq_jobs.hold, args=(stage.gate("next"),)),
            Queue.prepare_data(rq_jobs.give, args=(1,)),
        ]
    )
    stage.wait_until_held("held")
    jobs.queued, jobs.started = 2, 1
    jobs.finished += 0 if options.get("result_ttl") == 0 else 1
    worker.state, worker.job, worker.succeeded = "busy", held.id, FAST + 1
    expect(stage.monitors, facts, SOON_S)
    assert set(stage.dashboard.jobs("jobs", "queued")) == {job.id for job in behind}
    for job in behind:
        page = stage.dashboard.job(job.id)
        assert (page["status"], page["started_at"]) == ("queued", None)
        job.refresh()
        assert job.worker_name is None

    let_go_at = time.time()
    stage.let_go("held")
    stage.wait_until_held("next")
    assert _worked_s(stage) <= time.time() - let_go_at
    stage.let_go("next")
    jobs.queued, jobs.started, jobs.finished = 0, 0, jobs.finished + 3
    worker.state, worker.job, worker.succeeded = "idle", None, FAST + 4
    expect(stage.monitors, facts)
    assert stage.redis.exists(ahead.key) == (0 if "result_ttl" in options else 1)


def test_for_how_long_the_current_job_has_run(stage: Stage, facts: Facts) -> None:
    before = time.time()
    stage.queue("jobs").enqueue_many(
        [
            Queue.prepare_data(rq_jobs.give, args=(1,)),
            Queue.prepare_data(rq_jobs.hold, args=(stage.gate("held"),)),
        ]
    )
    assert 0 < wait_until(lambda: _worked_s(stage)) < time.time() - before
    stage.let_go("held")
    facts.queues["jobs"].finished = facts.workers["one"].succeeded = FAST + 2
    expect(stage.monitors, facts)
    assert _worked_s(stage) == 0


def _worked_s(stage: Stage) -> float:
    (worker,) = Worker.all(stage.redis)
    return worker.current_job_working_time


def test_what_depends_on_a_job_does_not_wait_for_the_one_behind_it(
    stage: Stage, facts: Facts
) -> None:
    jobs, worker = facts.queues["jobs"], facts.workers["one"]
    stage.rq("suspend")
    wait_until(lambda: stage.dashboard.look()[1]["one"]["state"] == "suspended")
    first = stage.queue("jobs").enqueue(rq_jobs.give, 1)
    held = stage.queue("jobs").enqueue(rq_jobs.hold, stage.gate("held"))
    after = stage.queue("jobs").enqueue(rq_jobs.give, 2, depends_on=first)
    stage.rq("resume")
    stage.wait_until_held("held")
    jobs.queued, jobs.started, jobs.finished = 1, 1, FAST + 1
    worker.state, worker.job, worker.succeeded = "busy", held.id, FAST + 1
    expect(stage.monitors, facts, SOON_S)
    assert set(stage.dashboard.jobs("jobs", "queued")) == {after.id}
    stage.let_go("held")
    assert wait_until(lambda: after.return_value(refresh=True)) == 2


def test_jobs_that_are_slower_than_those_before_are_counted_as_they_run(
    stage: Stage, facts: Facts
) -> None:
    notes, many = stage.gate("notes"), 50
    Path(notes).touch()
    stage.queue("jobs").enqueue_many(
        [Queue.prepare_data(rq_jobs.work_and_note, args=(0.04, notes))] * many
    )

    def have_run() -> int:
        return len(Path(notes).read_text().splitlines())

    for half_and_more in (many // 2, many * 3 // 4):
        wait_until(lambda least=half_and_more: have_run() >= least, 20)
        before = have_run()
        jobs = stage.dashboard.look()[0]["jobs"]
        after = have_run()
        assert before - BEHIND <= jobs["finished"] - FAST <= after
        assert 1 <= jobs["started"] <= BEHIND
    facts.queues["jobs"].finished += many
    facts.workers["one"].succeeded += many
    expect(stage.monitors, facts, 10)
