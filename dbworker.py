"""Drains the queue of robot cycles (`RDSQ_ROBOT`)."""

import sys

from app_srvc.workers.pool import run_script

if __name__ == "__main__":
    sys.exit(run_script(queue="rdsq_robot", processes="robot_processes"))
