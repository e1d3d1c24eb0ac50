"""Celery, as its documentation sets it up for many short tasks that must not be lost."""

import os

from celery import Celery

from benchmarks.peers import jobs

app = Celery("benchmark", broker=os.environ["REDIS_URL"])
app.conf.update(
    task_acks_late=True,
    task_ignore_result=True,
    worker_prefetch_multiplier=128,
    worker_hijack_root_logger=False,
    broker_connection_retry_on_startup=True,
)
tasks = {kind: app.task(job, name=kind) for kind, job in jobs.JOBS.items()}


def send(kind: str, number: int) -> None:
    tasks[kind].delay(number)
