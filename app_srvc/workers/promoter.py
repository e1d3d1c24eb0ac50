"""Promotion: scheduled jobs that are due go to their queue."""

from collections.abc import Sequence
from datetime import UTC, datetime

from redis import Redis
from rq.utils import utcformat

from app_srvc.logs import get_logger
from app_srvc.workers.lease.link import PROMOTE

JOBS_PER_CALL = 1_000

log = get_logger(__name__)


class Promoter:
    """Promotes for some queues. Any number may run at once: each call is one step inside Redis."""

    def __init__(self, client: Redis, queues: Sequence[str]) -> None:
        self._queues = queues
        self._promote = client.register_script(PROMOTE.text)

    def promote(self) -> int:
        """Move what is due, and return how many jobs that were.

        An id without a job is dropped: if it was a message's, the relay's sweep finds the message.
        """
        total = 0
        for queue in self._queues:
            promoted = JOBS_PER_CALL
            while promoted == JOBS_PER_CALL:
                promoted, dropped, _ = self._promote(
                    keys=[f"rq:scheduled:{queue}", f"rq:queue:{queue}", "rq:queues"],
                    args=[JOBS_PER_CALL, utcformat(datetime.now(UTC))],
                )
                total += promoted
                if dropped:
                    log.warning("scheduled_jobs_dropped", queue=queue, count=len(dropped))
        return total
