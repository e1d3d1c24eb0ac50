"""Drains the queue of registrations (`RDSQ_USRREG`)."""

import sys

from app_srvc.workers.pool import run_script

if __name__ == "__main__":
    sys.exit(run_script(queue="rdsq_usrreg", processes="usrreg_processes"))
