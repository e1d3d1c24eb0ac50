"""taskiq with a Redis stream. Its jobs are coroutines, as it prefers; a sleeping one lets others run."""

import asyncio
import os

from taskiq_redis import RedisStreamBroker

from benchmarks.peers import jobs

broker = RedisStreamBroker(os.environ["REDIS_URL"], consumer_id="0")


@broker.task(task_name="noop")
async def noop(number: int) -> None:
    jobs.noop(number)


@broker.task(task_name="busy")
async def busy(number: int) -> None:
    jobs.busy(number)


@broker.task(task_name="sleeping")
async def sleeping(number: int) -> None:
    jobs.noop(number)
    await asyncio.sleep(jobs.SLEEP_S)


@broker.task(task_name="failing")
async def failing(number: int) -> None:
    jobs.failing(number)


TASKS = {"noop": noop, "busy": busy, "sleeping": sleeping, "failing": failing}
loop = asyncio.new_event_loop()


def send(kind: str, number: int) -> None:
    loop.run_until_complete(TASKS[kind].kiq(number))
