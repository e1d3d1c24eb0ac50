"""RQ: jobs as RQ queues them, and `python -m benchmarks.peers.rq_app CLASS`, one worker of a class."""

import os
import sys

from redis import Redis
from rq import Queue
from rq.utils import import_attribute

from benchmarks.peers import jobs

QUEUE = "jobs"
AT_ONCE = 1000

queue = Queue(QUEUE, connection=Redis.from_url(os.environ["REDIS_URL"]))
# None is RQ's default, 500 s.
result_ttl = int(os.environ["RESULT_TTL"]) if "RESULT_TTL" in os.environ else None


def send(kind: str, number: int) -> None:
    queue.enqueue(jobs.JOBS[kind], number, result_ttl=result_ttl)


def fill(kind: str, count: int) -> None:
    """Many jobs, by RQ's own means for it."""
    for first in range(0, count, AT_ONCE):
        queue.enqueue_many(
            [
                Queue.prepare_data(jobs.JOBS[kind], (number,), result_ttl=result_ttl)
                for number in range(first, min(first + AT_ONCE, count))
            ]
        )


def main() -> None:
    """The module of the jobs is imported already, as RQ's documentation recommends for speed."""
    name, children = sys.argv[1], int(sys.argv[2])
    worker_class = import_attribute(name)
    if name == "rq.Worker":
        jobs.process_id = os.getppid
    named = {"children": children} if children else {}
    worker_class([queue], connection=queue.connection, **named).work(logging_level="CRITICAL")


if __name__ == "__main__":
    main()
