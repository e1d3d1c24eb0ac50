"""Three workers half way through jobs of every kind, and what is true of all of them."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from rq.job import Job

from tests.samples import rq_jobs
from tests.support.rq_stage import TWO_CHILDREN, Stage
from tests.support.rq_tools import Facts, QueueFacts, WorkerFacts
from tests.support.service import Part
from tests.support.waiting import wait_until

AN_HOUR = timedelta(hours=1)
VALUES: dict[str, Any] = {"a word": "Привіт ✓", "a list": [1, 2.5, {"three": None}]}


@dataclass
class HalfWay:
    """Two workers hold a job, one waits; what else there is, and what is true of it.

    `held` and `free` are the names of the two children of one worker: the first one holds the job
    "first" from the beginning, so whatever has ended was run by the other.
    """

    stage: Stage
    began: float
    pair: Part
    single: Part
    held: str = ""
    free: str = ""
    held_since: float = 0.0
    facts: Facts = field(default_factory=Facts)
    # The jobs of a queue in a state, and those that are asked for by name.
    jobs: dict[tuple[str, str], list[Job]] = field(default_factory=dict)
    named: dict[str, Job] = field(default_factory=dict)

    def add(self, queue: str, state: str, *jobs: Job) -> None:
        self.jobs.setdefault((queue, state), []).extend(jobs)

    def enqueue(self, queue: str, state: str, function: Callable[..., Any], *words: Any) -> Job:
        job = self.stage.queue(queue).enqueue(function, *words)
        self.add(queue, state, job)
        return job

    def count(self) -> None:
        """Write down how many jobs are in each state."""
        for (queue, state), jobs in self.jobs.items():
            facts = self.facts.queues.setdefault(queue, QueueFacts())
            setattr(facts, state, len(jobs))


def go_half_way(stage: Stage) -> HalfWay:
    """Start the workers, let jobs end, hold two, and leave the others where they wait."""
    began = time.time()
    pair = stage.start("worker", "--name", "pair", "high", "low", worker_class=TWO_CHILDREN)
    single = stage.start("worker", "--name", "single", "other", "spare")
    stage.wait_for_workers(3)
    world = HalfWay(stage, began, pair, single)
    _hold_first(world)
    _end_some(world)
    world.named["second"] = stage.hold("low", "second")
    world.add("low", "started", world.named["second"])
    _let_others_wait(world)
    world.count()
    both, alone = ["high", "low"], ["other", "spare"]
    first, second = world.named["first"].id, world.named["second"].id
    world.facts.workers = {
        world.held: WorkerFacts(both, pair.pid, "busy", first),
        world.free: WorkerFacts(both, pair.pid, "busy", second, succeeded=3, failed=3),
        "single": WorkerFacts(alone, single.pid, "idle", succeeded=1),
    }
    return world


def _hold_first(world: HalfWay) -> None:
    first = world.named["first"] = world.stage.hold("high", "first")
    world.held_since = time.time()
    world.add("high", "started", first)
    seen = world.stage.dashboard.look()[1]
    assert set(seen) == {"pair", "pair-2", "single"}
    held = [name for name, worker in seen.items() if worker["state"] == "busy"]
    assert held in (["pair"], ["pair-2"]) and seen[held[0]]["job"] == first.id
    (world.held,) = held
    (world.free,) = set(seen) - {world.held, "single"}


def _end_some(world: HalfWay) -> None:
    for name, value in VALUES.items():
        world.named[name] = world.enqueue("high", "finished", rq_jobs.give, value)
    world.named["failed"] = world.enqueue("high", "failed", rq_jobs.fail, "no such luck")
    world.enqueue("low", "finished", rq_jobs.work_for, 0.3)
    for word in ("one", "two"):
        world.enqueue("low", "failed", rq_jobs.fail, word)
    world.enqueue("other", "finished", rq_jobs.give, 1)


def _let_others_wait(world: HalfWay) -> None:
    high, low, other = map(world.stage.queue, ("high", "low", "other"))
    first, failed = world.named["first"], world.named["failed"]
    for name in ("high", "high", "low"):
        world.enqueue(name, "queued", rq_jobs.give, name)
    world.add("high", "scheduled", high.enqueue_in(AN_HOUR, rq_jobs.give, 1))
    at = datetime.now(UTC) + AN_HOUR
    world.add("other", "scheduled", *(other.enqueue_at(at, rq_jobs.give, each) for each in "ab"))
    world.named["after first"] = low.enqueue(rq_jobs.give, "after", depends_on=first)
    world.add("low", "deferred", world.named["after first"])
    wait_until(lambda: failed.get_status(refresh=True) == "failed")
    world.add("other", "deferred", other.enqueue(rq_jobs.give, "never", depends_on=failed))
    canceled = other.enqueue_in(AN_HOUR, rq_jobs.give, "canceled")
    canceled.cancel()
    world.add("other", "canceled", canceled)
