"""What becomes of a job, by what its run reported: one step inside Redis."""

from app_srvc.messages.handling import HAND_BACK, RETRY
from app_srvc.workers.leases import Lease, Leases
from app_srvc.workers.run import HAND_BACK_S, Report


def conclude(leases: Leases, lease: Lease, report: Report, worked_s: float) -> bool:
    """Move a job that is not at its end to where its report says; False if its lease was taken away.

    A job of which nobody knows how it went keeps its place, with its lease ended: the keeper settles
    it with the ledger.
    """
    action, reason = report["action"], report.get("reason")
    if action in (RETRY, HAND_BACK):
        tries, delay_s = report.get("attempt"), report.get("delay_s")
        return leases.reschedule(
            lease,
            delay_s=HAND_BACK_S if delay_s is None else delay_s,
            tries=lease.job.tries if tries is None else tries,
            worked_s=worked_s,
            is_failed_try=action == RETRY,
        )
    return leases.abandon(lease, reason or "killed", worked_s)
