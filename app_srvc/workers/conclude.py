"""What becomes of a job, by what its run reported: one step inside Redis."""

from app_srvc.messages.handling import DONE, FAILED, HAND_BACK, RETRY
from app_srvc.settings import Settings
from app_srvc.workers.horse import Report
from app_srvc.workers.leases import Lease, Leases
from app_srvc.workers.run import HAND_BACK_S


def conclude(
    leases: Leases, lease: Lease, report: Report, worked_s: float, settings: Settings
) -> bool:
    """Move a job to where its report says; False if its lease was taken away.

    A job of which nobody knows how it went keeps its place, with its lease ended: the keeper settles
    it with the ledger.
    """
    action, reason = report["action"], report.get("reason")
    if action == DONE:
        return leases.finish(lease, life_s=settings.job_result_ttl_s, worked_s=worked_s)
    if action == FAILED:
        words = f"{reason or 'failed'}: message {lease.job.id}"
        return leases.fail(lease, words, life_s=settings.job_failure_ttl_s, worked_s=worked_s)
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
