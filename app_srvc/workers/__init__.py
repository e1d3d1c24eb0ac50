"""The processes that do the work: pools of workers, their housekeeping, and their health."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

__all__ = ["LeaseWorker"]


def __getattr__(name: str) -> Any:
    """`app_srvc.workers.LeaseWorker`, for `rq worker -w`; imported when it is asked for."""
    if name == "LeaseWorker":
        from app_srvc.workers.lease_worker import LeaseWorker

        return LeaseWorker
    raise AttributeError(name)
