"""A nursery of the service's workers, made of {environment, queue}, that know the kinds of tests too.

See `nursery`.
"""

from functools import partial
from typing import Any

from app_srvc.logs import configure_logs
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings
from app_srvc.supervisor import ParentLink
from app_srvc.workers.app_worker import AppWorker
from app_srvc.workers.tasks import make_tasks, warm_up
from tests.samples.nursery import serve
from tests.support.workers import HARD_KINDS


def be_a_worker(parts: dict[str, Any]) -> None:
    settings = Settings.from_env(parts["environment"], part="worker")
    configure_logs(settings)
    runtime = open_runtime(settings, kinds=HARD_KINDS)
    AppWorker(
        parts["queue"],
        runtime,
        make_tasks(runtime),
        connection=open_redis(settings, caller="loop"),
        link=ParentLink(),
        warm_up=partial(warm_up, runtime, parts["queue"]),
    ).work()


if __name__ == "__main__":
    serve(be_a_worker)
