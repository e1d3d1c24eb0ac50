"""Dramatiq as it comes: it acknowledges a message after its work. A failed job is not tried again."""

import os

import dramatiq
from dramatiq.brokers.redis import RedisBroker

from benchmarks.peers import jobs

broker = RedisBroker(url=os.environ["REDIS_URL"])
dramatiq.set_broker(broker)
actors = {
    kind: dramatiq.actor(job, actor_name=kind, max_retries=0) for kind, job in jobs.JOBS.items()
}


def send(kind: str, number: int) -> None:
    actors[kind].send(number)
