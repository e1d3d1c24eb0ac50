"""A worker that also knows the kinds of tests: `python -m tests.samples.worker_process QUEUE`."""

import sys
from functools import partial

from app_srvc.logs import configure_logs
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings
from app_srvc.supervisor import ParentLink
from app_srvc.workers.app_worker import AppWorker
from app_srvc.workers.tasks import make_tasks, warm_up
from tests.support.workers import HARD_KINDS

if __name__ == "__main__":
    settings = Settings.from_env(part="worker")
    configure_logs(settings)
    runtime = open_runtime(settings, kinds=HARD_KINDS)
    connection = open_redis(settings, caller="loop")
    AppWorker(
        sys.argv[1],
        runtime,
        make_tasks(runtime),
        connection=connection,
        link=ParentLink(),
        warm_up=partial(warm_up, runtime, sys.argv[1]),
    ).work()
