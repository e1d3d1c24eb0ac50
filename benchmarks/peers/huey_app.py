"""Huey as it comes: a job is taken off the queue before its work, so one in hand may be lost."""

import os

from huey import RedisHuey

from benchmarks.peers import jobs

huey = RedisHuey("benchmark", url=os.environ["REDIS_URL"])
tasks = {kind: huey.task(name=kind)(job) for kind, job in jobs.JOBS.items()}


def send(kind: str, number: int) -> None:
    tasks[kind](number)
