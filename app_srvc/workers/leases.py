"""What a worker of the service does with a job in hand besides ending it, each in one step inside Redis.

Every step is fenced: it does nothing to a job whose lease was taken away, because the keeper may have
given the job to somebody else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from redis import Redis
from redis.commands.core import Script
from rq.utils import utcformat

from app_srvc.workers.job import AppJob
from app_srvc.workers.scripts import load_script


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in hand. `execution_id` is the token of the claim: this run of it, and never used again."""

    job: AppJob
    execution_id: str

    @property
    def entry(self) -> str:
        return f"{self.job.id}:{self.execution_id}"


class Leases:
    """The leases of one worker on one queue."""

    def __init__(self, client: Redis, queue: str, worker: str) -> None:
        self._client = client
        self.queue = queue
        self.worker = worker
        self._start = load_script(client, "start")
        self._reschedule = load_script(client, "reschedule")
        self._abandon = load_script(client, "abandon")

    def start(self, lease: Lease) -> bool:
        """Mark a claimed job as started: from here on, its loss is a try. False if the lease is lost."""
        now = utcformat(datetime.now(UTC))
        keys = [self._key("wip"), lease.job.key]
        return bool(self._start(keys=keys, args=[lease.entry, now, self.worker]))

    def reschedule(
        self, lease: Lease, *, delay_s: float, tries: int, worked_s: float, is_failed_try: bool
    ) -> bool:
        """Have the job run again after a delay. `tries` is what the ledger counts now."""
        meta = json.dumps({"try": tries})
        counter = "failed_job_count" if is_failed_try else ""
        now = utcformat(datetime.now(UTC))
        arguments = [lease.job.id, f"{delay_s:.6f}", meta, now, worked_s, counter]
        return bool(self._call(self._reschedule, lease, arguments, self._key("scheduled")))

    def abandon(self, lease: Lease, reason: str, worked_s: float) -> bool:
        """End the lease of a job whose process died (`killed`, `timeout`): the next rescue settles it."""
        meta = json.dumps({"try": lease.job.tries, "ended": reason})
        keys = self._keys(lease)
        return bool(self._abandon(keys=keys, args=[lease.entry, meta, worked_s]))

    def give_up(self, token: str, count: int) -> None:
        """End the leases of the first jobs of a claim. They have run: the next rescue asks the ledger how."""
        held: Any = self._client.lrange(f"app:claim:{token}", 1, count) if count else []
        if held:
            entries = {f"{id.decode()}:{token}": 0 for id in held}
            self._client.zadd(self._key("wip"), entries, xx=True)

    def _call(self, script: Script, lease: Lease, arguments: Sequence[Any], *more_keys: str) -> Any:
        return script(
            keys=[*self._keys(lease), *more_keys],
            args=[lease.entry, lease.execution_id, *arguments],
        )

    def _keys(self, lease: Lease) -> list[str]:
        return [
            self._key("wip"),
            lease.job.key,
            f"rq:execution:{lease.entry}",
            f"rq:executions:{lease.job.id}",
            self._worker_key,
        ]

    def _key(self, registry: str) -> str:
        return f"rq:{registry}:{self.queue}"

    @property
    def _worker_key(self) -> str:
        return f"rq:worker:{self.worker}"
