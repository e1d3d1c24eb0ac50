"""RQ's commands upon running LeaseWorkers: what each does, and what RQ's tools show before and after."""

import os
import signal
import time
from pathlib import Path

import psutil
import pytest
from rq.command import send_stop_job_command

from tests.samples import rq_jobs
from tests.support.rq_half_way import go_half_way
from tests.support.rq_stage import TWO_CHILDREN, Stage
from tests.support.rq_tools import Facts, QueueFacts, WorkerFacts, expect
from tests.support.waiting import holds_for, wait_until

pytestmark = pytest.mark.xdist_group("rq_tools")


def test_what_was_held_and_what_waited_is_counted_when_it_has_run(stage: Stage) -> None:
    world = go_half_way(stage)
    facts, first = world.facts, world.named["first"]
    expect(stage.monitors, facts)
    held_s, let_go_at = time.time() - world.held_since, time.time()
    stage.let_go("first", "second")

    for name in ("high", "low"):
        queue = facts.queues[name]
        queue.finished += queue.started + queue.queued
        queue.started = queue.queued = 0
    facts.queues["low"].finished += facts.queues["low"].deferred
    facts.queues["low"].deferred = 0
    # Which child ran what waited is up to them; nine jobs went well in all.
    wait_until(lambda: sum(_succeeded(stage, name) for name in ("pair", "pair-2")) == 9)
    for name, at_least in ((world.held, 1), (world.free, 4)):
        worker = facts.workers[name]
        worker.state, worker.job, worker.succeeded = "idle", None, _succeeded(stage, name)
        assert worker.succeeded >= at_least
    stage.expect(facts)

    first.refresh()
    assert first.started_at is not None and first.ended_at is not None
    assert world.began < first.started_at.timestamp() <= world.held_since
    assert let_go_at <= first.ended_at.timestamp() <= time.time()
    assert stage.dashboard.job(first.id)["result"] == "through first"
    assert world.named["after first"].return_value(refresh=True) == "after"
    times, lived_s = stage.exporter.working_times(), time.time() - world.began
    assert held_s <= times[world.held] <= lived_s
    assert 0.3 <= times[world.free] <= lived_s

    world.single.stop()
    del facts.workers["single"]
    expect(stage.monitors, facts)
    world.pair.stop()
    facts.workers.clear()
    stage.expect(facts)


def _succeeded(stage: Stage, name: str) -> int:
    count: int = stage.dashboard.look()[1][name]["succeeded"]
    return count


def test_suspend_lets_the_jobs_in_hand_end_and_starts_no_other_until_resume(stage: Stage) -> None:
    part = stage.start("worker", "--name", "pair", "high", "low", worker_class=TWO_CHILDREN)
    stage.wait_for_workers(2)
    held = stage.hold("low", "first")
    (busy,) = (name for name, each in stage.dashboard.look()[1].items() if each["job"] == held.id)
    (other,) = {"pair", "pair-2"} - {busy}

    assert stage.rq("suspend") == [
        "Suspending workers.  No new jobs will be started.  But current jobs will be completed"
    ]
    facts = Facts(
        {"high": QueueFacts(queued=2), "low": QueueFacts(started=1)},
        {
            busy: WorkerFacts(["high", "low"], part.pid, "busy", held.id),
            other: WorkerFacts(["high", "low"], part.pid, "suspended"),
        },
    )
    wait_until(lambda: stage.dashboard.look()[1][other]["state"] == "suspended")
    for value in range(2):
        stage.queue("high").enqueue(rq_jobs.give, value)
    stage.expect(facts)

    stage.let_go("first")
    facts.queues["low"] = QueueFacts(finished=1)
    facts.workers[busy] = WorkerFacts(["high", "low"], part.pid, "suspended", succeeded=1)
    expect(stage.monitors, facts)
    assert holds_for(lambda: stage.dashboard.look() == facts.shown_by(stage.dashboard), 0.5)

    assert stage.rq("resume") == ["Resuming workers."]
    facts.queues["high"] = QueueFacts(finished=2)
    wait_until(lambda: _succeeded(stage, "pair") + _succeeded(stage, "pair-2") == 3)
    for name, worker in facts.workers.items():
        worker.state, worker.succeeded = "idle", _succeeded(stage, name)
    expect(stage.monitors, facts)


def test_requeue_runs_failed_jobs_again_and_empty_takes_what_waits(stage: Stage) -> None:
    part = stage.start("worker", "--name", "one", "jobs")
    stage.wait_for_workers(1)
    queue, mended = stage.queue("jobs"), stage.gate("mended")
    failed = [queue.enqueue(rq_jobs.fail_until, mended) for _ in range(3)]
    worker = WorkerFacts(["jobs"], part.pid, failed=3)
    facts = Facts({"jobs": QueueFacts(failed=3)}, {"one": worker})
    expect(stage.monitors, facts)

    Path(mended).touch()
    assert "Requeueing 1 jobs from failed queue" in stage.rq(
        "requeue", "--queue", "jobs", failed[0].id
    )
    worker.succeeded, facts.queues["jobs"] = 1, QueueFacts(failed=2, finished=1)
    expect(stage.monitors, facts)
    assert "Requeueing 2 jobs from failed queue" in stage.rq("requeue", "--queue", "jobs", "--all")
    worker.succeeded, facts.queues["jobs"] = 3, QueueFacts(finished=3)
    stage.expect(facts)
    for job in failed:
        page = stage.dashboard.job(job.id)
        assert (page["status"], page["result"], page["exc_info"]) == ("finished", "mended", None)

    held = stage.hold("jobs", "held")
    waiting = [queue.enqueue(rq_jobs.give, each) for each in range(3)]
    assert stage.rq("empty", "jobs") == ["3 jobs removed from jobs queue"]
    worker.state, worker.job = "busy", held.id
    facts.queues["jobs"].started = 1
    expect(stage.monitors, facts)
    assert not stage.redis.exists(*(job.key for job in waiting))
    stage.let_go("held")
    worker.state, worker.job, worker.succeeded = "idle", None, 4
    facts.queues["jobs"] = QueueFacts(finished=4)
    expect(stage.monitors, facts)


def test_a_job_that_is_stopped_shows_when_it_ran_and_how_long(stage: Stage) -> None:
    part = stage.start("worker", "--name", "one", "jobs")
    stage.wait_for_workers(1)
    held, since = stage.hold("jobs", "held"), time.time()
    wait_until(lambda: time.time() > since + 0.5)
    stopped_at = time.time()
    send_stop_job_command(stage.redis, held.id)
    worker = WorkerFacts(["jobs"], part.pid, failed=1)
    expect([stage.dashboard], Facts({"jobs": QueueFacts(failed=1)}, {"one": worker}))
    held.refresh()
    assert held.started_at is not None and held.ended_at is not None
    assert held.started_at.timestamp() <= since
    assert stopped_at <= held.ended_at.timestamp() <= time.time()
    assert stopped_at - since <= stage.exporter.working_times()["one"]
    assert stage.dashboard.job(held.id)["status"] == "stopped"


def test_enqueue_and_a_burst_worker(stage: Stage) -> None:
    stage.rq("enqueue", "--queue", "jobs", "tests.samples.rq_jobs.give", ":[1, 2]")
    for value in ("a", "b"):
        stage.queue("jobs").enqueue(rq_jobs.give, value)
    facts = Facts({"jobs": QueueFacts(queued=3)})
    expect(stage.monitors, facts)
    part = stage.start("worker", "--burst", "jobs", worker_class=TWO_CHILDREN)
    wait_until(lambda: not part.is_running, 20)
    assert part.stop() == 0
    facts.queues["jobs"] = QueueFacts(finished=3)
    stage.expect(facts)
    listed = stage.dashboard.jobs("jobs", "finished")
    results = [stage.dashboard.job(id)["result"] for id in listed]
    assert sorted(results, key=str) == [[1, 2], "a", "b"]


def test_a_child_that_has_had_its_jobs_is_no_worker_any_more(stage: Stage) -> None:
    part = stage.start(
        "worker", "--name", "pair", "--max-jobs", "1", "jobs", worker_class=TWO_CHILDREN
    )
    stage.wait_for_workers(2)
    held = stage.hold("jobs", "held")
    (busy,) = (name for name, each in stage.dashboard.look()[1].items() if each["job"] == held.id)
    stage.queue("jobs").enqueue(rq_jobs.give, 1)
    facts = Facts(
        {"jobs": QueueFacts(started=1, finished=1)},
        {busy: WorkerFacts(["jobs"], part.pid, "busy", held.id)},
    )
    expect(stage.monitors, facts)
    # It is not made known again either, even when Redis has forgotten it.
    stage.redis.delete(*(f"rq:worker:{name}" for name in {"pair", "pair-2"} - {busy}))
    assert holds_for(lambda: stage.redis.scard("rq:workers") == 1, 1.5)
    stage.let_go("held")
    wait_until(lambda: not part.is_running)
    expect(stage.monitors, Facts({"jobs": QueueFacts(finished=2)}))


def test_a_pool_and_ctrl_c_which_reaches_its_workers_twice(stage: Stage) -> None:
    """From the terminal, which signals the whole group, and from the pool: RQ's workers hear one."""
    pool = stage.start("worker-pool", "--num-workers", "2", "high", "low")
    stage.wait_for_workers(2)
    held = stage.hold("low", "held")
    pids = {each.pid for each in psutil.Process(pool.pid).children()}
    queues, workers = stage.info.look()
    assert queues == {"low": {"queued": 0, "started": 1, "finished": 0, "failed": 0}}
    assert {worker["pid"] for worker in workers.values()} == pids and len(pids) == 2
    assert sorted(worker["state"] for worker in workers.values()) == ["busy", "idle"]
    assert all(worker["queues"] == ["high", "low"] for worker in workers.values())

    os.killpg(pool.pid, signal.SIGINT)
    (busy,) = (name for name, each in stage.dashboard.look()[1].items() if each["job"] == held.id)
    facts = Facts(
        {"low": QueueFacts(started=1)},
        {busy: WorkerFacts(["high", "low"], workers[busy]["pid"], "busy", held.id)},
    )
    expect(stage.monitors, facts)
    stage.let_go("held")
    wait_until(lambda: not pool.is_running, 10)
    expect(stage.monitors, Facts({"low": QueueFacts(finished=1)}))
