"""Steps of a job that a test takes by hand, as a child of a worker does."""

import time

from redis import Redis

from app_srvc.workers.job import AppJob
from app_srvc.workers.lease.link import CLAIM, RENEW, Call, ScriptLink
from app_srvc.workers.lease.runner import LEASE_S
from app_srvc.workers.leases import Lease

WORKER = "w"


def claim(link: ScriptLink, queue: str, token: str = "token", most: int = 1) -> list[bytes]:
    """Claim as worker "w" does, and return the ids."""
    keys = (f"app:claim:{token}", f"rq:worker:{WORKER}", "rq:suspended", "app:queue:paused")
    arguments = (token, WORKER, LEASE_S, most, 0, "2026-11-21T00:00:00.000000Z", 1, queue)
    _, _, jobs, _ = link.call(Call(CLAIM, (*keys, f"rq:queue:{queue}"), arguments))
    return [job[0] for job in jobs]


def claim_one(redis: Redis, queue: str, token: str = "token") -> Lease:
    """Claim the next job, which is there."""
    (id,) = claim(ScriptLink(redis), queue, token)
    job = AppJob(id.decode(), redis)
    job.restore_meta(redis.hget(job.key, "meta"))
    return Lease(job, token)


def expire(redis: Redis, queue: str, lease: Lease) -> None:
    """As if the worker had been silent for the length of the lease."""
    redis.zadd(f"rq:wip:{queue}", {lease.entry: time.time() - 1})


def renew(redis: Redis, token: str = "token") -> None:
    """As the worker's parent does."""
    keys = (f"app:claim:{token}", f"rq:worker:{WORKER}")
    ScriptLink(redis).call(Call(RENEW, keys, (token, LEASE_S, "now", 1, 0.0)))
