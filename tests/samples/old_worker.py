"""A worker of an earlier release: it drains registrations, and does not know that kind."""

import sys

from app_srvc.kinds import KINDS
from app_srvc.logs import configure_logs
from app_srvc.runtime import open_redis, open_runtime
from app_srvc.settings import Settings
from app_srvc.workers.app_worker import AppWorker
from app_srvc.workers.tasks import make_tasks

if __name__ == "__main__":
    settings = Settings.from_env(part="worker")
    configure_logs(settings)
    old_kinds = {name: kind for name, kind in KINDS.items() if name != "registration"}
    runtime = open_runtime(settings, kinds=old_kinds)
    worker = AppWorker(
        settings.rdsq_usrreg,
        runtime,
        make_tasks(runtime),
        connection=open_redis(settings, caller="loop"),
    )
    worker.work()
    sys.exit(0)
