"""What our worker may leave otherwise than RQ's workers do, and why. Each is taken out of both pictures.

`ALWAYS` holds everywhere; the others are named by the tests in which they show. What is otherwise by
intent, so that there is nothing to compare, is in tests/integration/test_rq_differences.py.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.support.rq_picture import Picture

Forgive = Callable[[Picture], None]
DEFAULT_FAILURE_LIFE = "about 31536000 s"


def working_time_of_none(picture: Picture) -> None:
    """A worker that runs no job says 0 or nothing of how long its job has run; both are read as 0."""
    for worker in _of(picture, "rq:worker:"):
        if float(worker.get("current_job_working_time", 0)) == 0:
            worker.pop("current_job_working_time", None)


def life_of_failures(picture: Picture) -> None:
    """The results of a failed job without `failure_ttl` stay for ever with RQ, which forgets to let them
    die (django-rq#801); ours die with the job, unless RQ's own code has ended it.
    """
    for key in [key for key in picture if key.startswith("rq:results:")]:
        if (
            picture[key][-1]["type"] == "2"
            and picture.get(f"life of {key}") == DEFAULT_FAILURE_LIFE
        ):
            del picture[f"life of {key}"]


def failures_that_are_gone(picture: Picture) -> None:
    """With `failure_ttl=0` RQ deletes a job and still lists it as failed until somebody looks; ours
    does not list it.
    """
    failed = picture.get("rq:failed:default", {})
    for id in [id for id in failed if f"rq:job:{id}" not in picture]:
        del failed[id]
    if not failed:
        picture.pop("rq:failed:default", None)


def ids_without_a_job(picture: Picture) -> None:
    """RQ leaves an id without a job in its intermediate list until its maintenance; ours has none."""
    picture.pop("rq:queue:default:intermediate", None)


def state_without_work(picture: Picture) -> None:
    """RQ's worker ends as `started`, if it was suspended; ours has been suspended and is idle."""
    for worker in _of(picture, "rq:worker:"):
        del worker["state"]


def what_a_dead_process_knew(picture: Picture) -> None:
    """When a horse was killed, RQ's parent writes the job as it knew it before it began: without its
    worker, its heartbeat and, if it was stopped, the time of its end and its working time.
    """
    for name in ("last_heartbeat", "worker_name", "ended_at"):
        picture["rq:job:a"].pop(name)
    for result in picture.get("rq:results:a", []):
        result.pop("execution_ended_at", None)
    for worker in _of(picture, "rq:worker:"):
        worker.pop("total_working_time", None)


def text_of_the_error(picture: Picture) -> None:
    """RQ's parent knows only how the horse ended; ours knows what was raised."""
    for result in picture["rq:results:a"]:
        del result["exc_string"]


def order_of_notes(picture: Picture) -> None:
    """In random order, nothing is before anything."""
    picture["notes"].sort()


def who_is_told_of_a_shutdown(picture: Picture) -> None:
    """RQ writes when a busy worker was asked to end; ours obeys at once, and nobody reads that date."""
    for worker in _of(picture, "rq:worker:"):
        worker.pop("shutdown_requested_date", None)


def leases(picture: Picture) -> None:
    """While a job runs: RQ's marks live for one and a half minutes or more, ours for one lease."""
    for key in [key for key in picture if key.startswith(("rq:wip:", "rq:executions:"))]:
        picture[key] = sorted(picture[key])
    for key in [key for key in picture if key.startswith("life of rq:")]:
        del picture[key]
    for key in [key for key in picture if key.startswith(("app:claim:", "life of app:claim:"))]:
        del picture[key]


ALWAYS: tuple[Forgive, ...] = (working_time_of_none, life_of_failures)


def without_allowed(picture: Picture, allowed: Sequence[Forgive] = ()) -> Picture:
    """The picture without what may be otherwise: always, and in one case."""
    for forgive in (*ALWAYS, *allowed):
        forgive(picture)
    return picture


def _of(picture: Picture, prefix: str) -> Iterator[dict[str, Any]]:
    return (content for key, content in picture.items() if key.startswith(prefix))
