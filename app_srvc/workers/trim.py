"""Trimming: what RQ's registries say of jobs that Redis has forgotten goes too, so nothing piles up."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from redis import Redis

PER_PASS = 1_000


class Trimmer:
    """Does for some queues what RQ's workers do with their cleaning, which is off here.

    `forget(pairs)` takes jobs, as (id, queue), out of Redis.
    """

    def __init__(
        self,
        client: Redis,
        queues: Sequence[str],
        *,
        cancelled_life_s: int,
        forget: Callable[[Sequence[tuple[str, str]]], object],
    ) -> None:
        self._client = client
        self._queues = queues
        self._cancelled_life_s = cancelled_life_s
        self._forget = forget

    def run_pass(self) -> None:
        now = time.time()
        for queue in self._queues:
            for registry in ("finished", "failed"):
                self._client.zremrangebyscore(f"rq:{registry}:{queue}", "-inf", now)
            self._forget_cancelled(queue, now - self._cancelled_life_s)
            self._forget_workers(f"rq:workers:{queue}")
        self._forget_workers("rq:workers")

    def _forget_cancelled(self, queue: str, before: float) -> None:
        """RQ keeps these for ever; they come from RQ's tools only, since we cancel in the ledger."""
        ids: Any = self._client.zrangebyscore(
            f"rq:canceled:{queue}", "-inf", before, start=0, num=PER_PASS
        )
        if ids:
            self._forget([(id.decode("utf-8", "backslashreplace"), queue) for id in ids])
            self._client.zrem(f"rq:canceled:{queue}", *ids)

    def _forget_workers(self, key: str) -> None:
        workers = list(self._client.smembers(key))
        with self._client.pipeline(transaction=False) as pipeline:
            for worker in workers:
                pipeline.exists(worker)
            dead = [
                worker
                for worker, lives in zip(workers, pipeline.execute(), strict=True)
                if not lives
            ]
        if dead:
            self._client.srem(key, *dead)
