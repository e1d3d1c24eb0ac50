"""The worker of one queue of a pool: `python -m app_srvc.workers.process QUEUE PROCESSES`."""

import sys
from collections.abc import Sequence
from functools import partial

from app_srvc.logs import configure_logs
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings
from app_srvc.supervisor import ParentLink
from app_srvc.workers.app_worker import AppWorker
from app_srvc.workers.tasks import make_tasks, warm_up


def main(arguments: Sequence[str]) -> int:
    """Work on a queue until told to stop, or until the parent is gone."""
    queue, processes = arguments
    settings = Settings.from_env(part="worker")
    configure_logs(settings)
    return serve_queue(settings, queue, int(processes))


def serve_queue(settings: Settings, queue: str, processes: int) -> int:
    """The life of a worker with so many children, whose standard input is the link to its parent."""
    runtime = open_runtime(settings)
    connection = open_redis(settings, caller="loop")
    worker = AppWorker(
        queue,
        runtime,
        make_tasks(runtime),
        connection=connection,
        children=processes,
        link=ParentLink(),
        warm_up=partial(warm_up, runtime, queue),
    )
    worker.work()
    connection.close()
    runtime.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
