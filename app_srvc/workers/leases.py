"""Leases: a job is claimed, kept, and given up, each in one step inside Redis.

Every step after the claim is fenced: it does nothing to a job whose lease was taken away, because the
keeper may have given the job to somebody else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from redis import Redis
from redis.commands.core import Script
from rq.job import JobStatus
from rq.results import Result
from rq.utils import utcformat

from app_srvc.workers.job import FIELDS, MAX_FIELD_BYTES, AppJob
from app_srvc.workers.scripts import load_script

# A dead worker's job is rescued when its lease has ended and the keeper has looked: within 15 s.
LEASE_S = 10
WORKER_LIFE_S = 30
MAX_DROPPED = 100


@dataclass(frozen=True, slots=True)
class Lease:
    """A job in hand. `execution_id` is this run of it, and is never used again."""

    job: AppJob
    execution_id: str

    @property
    def entry(self) -> str:
        return f"{self.job.id}:{self.execution_id}"


@dataclass(frozen=True, slots=True)
class Claim:
    """What a claim found: a lease, or none; whether workers are suspended; bad entries that it dropped."""

    lease: Lease | None
    is_suspended: bool
    dropped: Sequence[tuple[str, str]]


class Leases:
    """The leases of one worker on one queue."""

    def __init__(self, client: Redis, queue: str, worker: str) -> None:
        self._client = client
        self.queue = queue
        self.worker = worker
        self._execution_id = uuid4().hex
        self._claim = load_script(client, "claim")
        self._renew = load_script(client, "renew")
        self._put_back = load_script(client, "put_back")
        self._reschedule = load_script(client, "reschedule")
        self._finish = load_script(client, "finish")
        self._abandon = load_script(client, "abandon")

    def wait_for_arrival(self, timeout_s: int) -> None:
        """Return when the queue has a job, or after the time. Moving its head to its head moves nothing."""
        key = self._queue_key
        self._client.blmove(key, key, timeout_s, src="LEFT", dest="LEFT")

    def claim(self) -> Claim:
        """Take the next job under a lease.

        A claim whose reply was lost is answered again by the next call, until `start` has succeeded.
        """
        what, id, values, dropped = self._claim(
            keys=[self._queue_key, self._key("wip"), self._worker_key, "rq:suspended"],
            args=[self._execution_id, LEASE_S, self.worker, MAX_FIELD_BYTES, MAX_DROPPED, *FIELDS],
        )
        names = [_printable(entry) for entry in dropped]
        return Claim(
            lease=self._lease(what, id, values) if id else None,
            is_suspended=what == b"suspended",
            dropped=list(zip(names[::2], names[1::2], strict=True)),
        )

    def start(self, lease: Lease) -> bool:
        """Mark a claimed job as started: from here on, its loss is a try. False if the lease is lost."""
        now = utcformat(datetime.now(UTC))
        fields = ("status", JobStatus.STARTED.value, "started_at", now, "worker_name", self.worker)
        is_ours = bool(self._call(self._renew, lease, [LEASE_S, WORKER_LIFE_S, now, 0, *fields]))
        self._execution_id = uuid4().hex
        return is_ours

    def renew(self, lease: Lease, worked_s: float) -> bool:
        now = utcformat(datetime.now(UTC))
        arguments = [LEASE_S, WORKER_LIFE_S, now, round(worked_s, 3)]
        return bool(self._call(self._renew, lease, arguments))

    def put_back(self, lease: Lease) -> bool:
        """Return a job that was not started to the head of its queue."""
        is_ours = bool(self._call(self._put_back, lease, [lease.job.id], self._queue_key))
        self._execution_id = uuid4().hex
        return is_ours

    def reschedule(
        self, lease: Lease, *, delay_s: float, tries: int, worked_s: float, is_failed_try: bool
    ) -> bool:
        """Have the job run again after a delay. `tries` is what the ledger counts now."""
        meta = json.dumps({"try": tries})
        counter = "failed_job_count" if is_failed_try else ""
        now = utcformat(datetime.now(UTC))
        arguments = [lease.job.id, f"{delay_s:.6f}", meta, now, worked_s, counter]
        return bool(self._call(self._reschedule, lease, arguments, self._key("scheduled")))

    def finish(self, lease: Lease, *, life_s: int, worked_s: float) -> bool:
        """End a job that did its work; Redis forgets it after `life_s`."""
        return self._end(lease, JobStatus.FINISHED, Result.Type.SUCCESSFUL, None, life_s, worked_s)

    def fail(self, lease: Lease, reason: str, *, life_s: int, worked_s: float) -> bool:
        """End a job for good. `reason` is shown by RQ's tools, so it holds no personal data."""
        is_ours = self._end(lease, JobStatus.FAILED, Result.Type.FAILED, reason, life_s, worked_s)
        self._execution_id = uuid4().hex
        return is_ours

    def abandon(self, lease: Lease, reason: str, worked_s: float) -> bool:
        """End the lease of a job whose process died (`killed`, `timeout`): the next rescue settles it."""
        meta = json.dumps({"try": lease.job.tries, "ended": reason})
        keys = self._keys(lease)
        return bool(self._abandon(keys=keys, args=[lease.entry, meta, worked_s]))

    def _end(
        self,
        lease: Lease,
        status: JobStatus,
        kind: Result.Type,
        reason: str | None,
        life_s: int,
        worked_s: float,
    ) -> bool:
        now = datetime.now(UTC)
        is_done = status is JobStatus.FINISHED
        result = Result(
            lease.job.id,
            kind,
            connection=self._client,
            exc_string=reason,
            worker_name=self.worker,
            serializer=lease.job.serializer,
            execution_id=lease.execution_id,
            execution_started_at=lease.job.started_at,
            execution_ended_at=now,
        )
        fields = [part for pair in result.serialize().items() for part in pair]
        arguments = [
            lease.job.id,
            status.value,
            life_s,
            utcformat(now),
            worked_s,
            "successful_job_count" if is_done else "failed_job_count",
            *fields,
        ]
        registry = self._key("finished" if is_done else "failed")
        results = f"rq:results:{lease.job.id}"
        return bool(self._call(self._finish, lease, arguments, registry, results))

    def _call(self, script: Script, lease: Lease, arguments: Sequence[Any], *more_keys: str) -> Any:
        return script(
            keys=[*self._keys(lease), *more_keys],
            args=[lease.entry, lease.execution_id, *arguments],
        )

    def _lease(self, what: bytes, id: bytes, values: Sequence[bytes | None]) -> Lease:
        job = AppJob(id.decode("ascii"), self._client)
        if what == b"too_large":
            job.refusal = f"larger than {MAX_FIELD_BYTES} bytes"
        else:
            job.restore(dict(zip(FIELDS, values, strict=True)))
        # The registries to use are those of the queue it stood in, whatever the hash says.
        job.origin = self.queue
        return Lease(job, self._execution_id)

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
    def _queue_key(self) -> str:
        return self._key("queue")

    @property
    def _worker_key(self) -> str:
        return f"rq:worker:{self.worker}"


def _printable(raw: bytes) -> str:
    return raw.decode("ascii", "backslashreplace")[:200]
