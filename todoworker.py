"""Drains the queue of fetched records and of sent messages (`RDSQ_OUTMSG`)."""

import sys

from app_srvc.workers.pool import run_script

if __name__ == "__main__":
    sys.exit(run_script(queue="rdsq_outmsg", processes="todo_processes"))
