"""Jobs that RQ's own code has to end, each with what is to be found when that is over."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from redis import Redis
from rq import Callback, Queue, Repeat, Retry
from rq.job import Dependency

from tests.support.lease_workers import JOBS, Diary, fields

LATER_S = 600


@dataclass(frozen=True)
class Expected:
    """By the names of jobs: status, results, and what the diary says (`what`, then how often)."""

    statuses: Mapping[str, str]
    results: Mapping[str, int]
    diary: Mapping[str, Mapping[str, int]] = field(default_factory=dict)

    def is_there(self, redis: Redis) -> bool:
        return fields(redis, self.statuses, "status") == dict(self.statuses)

    def check(self, redis: Redis, diary: Diary, queue: str, *, ran_twice: bool = False) -> None:
        """The registries are as they should be. After a death, functions may have run once more."""
        for name, status in self.statuses.items():
            lists = {
                kind: redis.zscore(f"rq:{kind}:{queue}", name) is not None
                for kind in ("finished", "failed", "scheduled", "deferred")
            }
            # RQ leaves a job that is to run again in the registry of those that have ended.
            lists.pop("finished" if status == "scheduled" else "deferred")
            assert {kind for kind, is_in in lists.items() if is_in} == {status}, name
            assert redis.lpos(f"rq:queue:{queue}", name) is None
            assert redis.xlen(f"rq:results:{name}") == self.results[name], name
        for what, counts in self.diary.items():
            noted = {name: count for name, count in diary.counts(what).items() if name in counts}
            if ran_twice:
                assert all(noted[name] >= count for name, count in counts.items())
            else:
                assert noted == Counter(counts), what


Case = Callable[[Queue, Diary, str], Expected]


def callback(queue: Queue, diary: Diary, name: str) -> Expected:
    queue.enqueue(
        f"{JOBS}.work",
        args=(str(diary.path), name),
        job_id=name,
        on_success=Callback(f"{JOBS}.note_success"),
    )
    return Expected({name: "finished"}, {name: 1}, {"begun": {name: 1}, "success": {name: 1}})


def retry(queue: Queue, diary: Diary, name: str) -> Expected:
    queue.enqueue(
        f"{JOBS}.fail_once", args=(str(diary.path), name), job_id=name, retry=Retry(max=1)
    )
    return Expected({name: "finished"}, {name: 1}, {"begun": {name: 2}})


def retry_later(queue: Queue, diary: Diary, name: str) -> Expected:
    queue.enqueue(
        f"{JOBS}.fail_once",
        args=(str(diary.path), name),
        job_id=name,
        retry=Retry(max=1, interval=LATER_S),
    )
    return Expected({name: "scheduled"}, {name: 0}, {"begun": {name: 1}})


def returned_retry(queue: Queue, diary: Diary, name: str) -> Expected:
    queue.enqueue(f"{JOBS}.ask_for_another_try", args=(str(diary.path), name), job_id=name)
    return Expected({name: "finished"}, {name: 2}, {"begun": {name: 2}})


def repeat(queue: Queue, diary: Diary, name: str) -> Expected:
    queue.enqueue(
        f"{JOBS}.work",
        args=(str(diary.path), name),
        job_id=name,
        repeat=Repeat(times=1, interval=LATER_S),
    )
    return Expected({name: "scheduled"}, {name: 1}, {"begun": {name: 1}})


def dependent(queue: Queue, diary: Diary, name: str) -> Expected:
    """The second one waits for the first."""
    then = f"{name}then"
    first = queue.create_job(f"{JOBS}.work", args=(str(diary.path), name), job_id=name)
    first.save()
    queue.enqueue(f"{JOBS}.work", args=(str(diary.path), then), job_id=then, depends_on=first)
    queue.enqueue_job(first)
    return Expected(
        {name: "finished", then: "finished"},
        {name: 1, then: 1},
        {"begun": {name: 1, then: 1}},
    )


def failure(queue: Queue, diary: Diary, name: str) -> Expected:
    """It fails, tells so in a callback, and another one runs nevertheless."""
    then = f"{name}then"
    first = queue.create_job(
        f"{JOBS}.fail",
        args=(str(diary.path), name),
        job_id=name,
        on_failure=Callback(f"{JOBS}.note_failure"),
    )
    first.save()
    queue.enqueue(
        f"{JOBS}.work",
        args=(str(diary.path), then),
        job_id=then,
        depends_on=Dependency([first], allow_failure=True),
    )
    queue.enqueue_job(first)
    return Expected(
        {name: "failed", then: "finished"},
        {name: 1, then: 1},
        {"begun": {name: 1, then: 1}, "failure": {name: 1}},
    )


CASES: Mapping[str, Case] = {
    case.__name__: case
    for case in (callback, retry, retry_later, returned_retry, repeat, dependent, failure)
}
