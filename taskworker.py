"""Drains the queue of all other work (`RDSQ_TASKS`)."""

import sys

from app_srvc.workers.pool import run_script

if __name__ == "__main__":
    sys.exit(run_script(queue="rdsq_tasks", processes="task_processes"))
