"""RQ's command line, in a process that has imported the jobs: `python -m benchmarks.peers.rq_command …`."""

from rq.cli import main

from app_srvc.workers import LeaseWorker
from benchmarks.peers import jobs  # noqa: F401


class TwoChildren(LeaseWorker):
    """For `rq worker -w`, which has no option for their number."""

    children = 2


if __name__ == "__main__":
    main()
