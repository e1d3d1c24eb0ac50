"""Rescue: jobs whose worker died are settled, so that their messages and cycles go on.

A lease that has ended is the sign. What becomes of the job is for the ledger to say: the relay
settles messages, the watchdog settles cycles.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis

from app_srvc.logs import get_logger
from app_srvc.messages.ids import is_message_id
from app_srvc.workers.lease.housekeeping import LATE_AFTER_S, STEADY_S
from app_srvc.workers.lease.link import FAR_S
from app_srvc.workers.scripts import load_script

PER_PASS = 500
# RQ's own workers move a job through this list; one that stays there has lost its worker.
STUCK_AFTER_S = 6.0
# Where `abandon.lua` sets the end of a lease: its worker has given the job up.
GIVEN_UP = 0.0

log = get_logger(__name__)


class Rescue:
    """`settle_messages(ids)` and `settle_cycles()` say what becomes of jobs that nobody has in hand.

    A job that they leave as it was, being neither a message's nor a cycle's, is forgotten after `life_s`.
    At the start, and after `on_outage`, a lease that has ended is no sign of death: its worker has
    `grace_s` to renew it.
    """

    def __init__(
        self,
        client: Redis,
        queues: Sequence[str],
        *,
        life_s: int,
        stuck_after_s: float = STUCK_AFTER_S,
        grace_s: float = STEADY_S,
        settle_messages: Callable[[Sequence[str]], object],
        settle_cycles: Callable[[], object],
    ) -> None:
        self._client = client
        self._queues = queues
        self._life_s = life_s
        self._stuck_after_s = stuck_after_s
        self._settle_messages = settle_messages
        self._settle_cycles = settle_cycles
        self._bury = load_script(client, "bury")
        self._grace_s = grace_s
        self._wait_until = time.monotonic() + grace_s
        self._first_seen: dict[bytes, float] = {}

    def on_outage(self) -> None:
        """Redis was away, or this process was held up: every lease may have ended meanwhile."""
        self._wait_until = time.monotonic() + self._grace_s
        self._first_seen.clear()

    def run_pass(self) -> int:
        """Settle the jobs of dead workers, and return how many there were."""
        began = time.monotonic()
        seconds, microseconds = self._client.time()
        if time.monotonic() - began > LATE_AFTER_S:
            self.on_outage()
        if time.monotonic() < self._wait_until:
            return sum(self._rescue_expired(queue, GIVEN_UP) for queue in self._queues)
        now = seconds + microseconds / 1_000_000
        return sum(
            self._rescue_expired(queue, now) + self._rescue_stuck(queue) for queue in self._queues
        )

    def _rescue_expired(self, queue: str, now: float) -> int:
        key = f"rq:wip:{queue}"
        entries: list[Any] = []
        # Of leases like ours, and of RQ's own workers.
        for first, last in ((now + FAR_S / 2, now + FAR_S), ("-inf", now)):
            entries += self._client.zrangebyscore(key, first, last, start=0, num=PER_PASS)
        if entries:
            self._settle(queue, [entry.rpartition(b":")[0] for entry in entries])
            # Settle first: after a crash in between, the next pass finds the entries again.
            self._bury(keys=[key], args=[self._life_s, *entries])
        return len(entries)

    def _rescue_stuck(self, queue: str) -> int:
        key = f"rq:queue:{queue}:intermediate"
        entries: Any = self._client.lrange(key, 0, PER_PASS - 1)
        now = time.monotonic()
        prefix = key.encode() + b" "
        seen = {prefix + entry: self._first_seen.get(prefix + entry, now) for entry in entries}
        self._first_seen = {
            name: since for name, since in self._first_seen.items() if not name.startswith(prefix)
        } | seen
        stuck = [entry for entry in entries if now - seen[prefix + entry] > self._stuck_after_s]
        if stuck:
            self._settle(queue, stuck)
            for entry in stuck:
                self._client.lrem(key, 1, entry)
        return len(stuck)

    def _settle(self, queue: str, raw_ids: Sequence[bytes]) -> None:
        ids = [raw.decode("ascii", "backslashreplace") for raw in raw_ids]
        messages = [id for id in ids if is_message_id(id)]
        cycles = [id for id in ids if id.startswith("robot-")]
        strangers = sorted({*ids} - {*messages} - {*cycles})
        log.warning("jobs_rescued", queue=queue, messages=len(messages), cycles=len(cycles))
        for id in strangers:
            log.warning(
                "job_refused", job_id=id[:200], queue=queue, reason="neither message nor cycle"
            )
        if messages:
            self._settle_messages(messages)
        if cycles:
            self._settle_cycles()
