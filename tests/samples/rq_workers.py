"""Worker classes as a user writes them, for `rq worker -w`."""

from app_srvc.workers import LeaseWorker


class TwoChildren(LeaseWorker):
    children = 2
