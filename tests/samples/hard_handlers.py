"""Sample handlers that are hard on their process, each named for what it does."""

import os
import signal
import time
from pathlib import Path

from pydantic import BaseModel

from app_srvc.messages.handling import Effect, HandlerContext


class Order(BaseModel):
    """`text` is the path of a file to which each run of the handler adds a line with its process id."""

    text: str


def note_run(order: Order) -> None:
    with Path(order.text).open("a") as file:
        file.write(f"{os.getpid()}\n")


def die_once(order: Order, context: HandlerContext) -> Effect:
    """Killed from outside the first time, done the second."""
    note_run(order)
    if context.attempt == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return Effect(result="lived")


def sleep_through_the_limit(order: Order, context: HandlerContext) -> Effect:
    note_run(order)
    time.sleep(60)
    return Effect()


def ignore_the_limit(order: Order, context: HandlerContext) -> Effect:
    """Takes every exception for its own business, the time limit's too."""
    note_run(order)
    while True:
        try:
            time.sleep(60)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise


def work_slowly(order: Order, context: HandlerContext) -> Effect:
    note_run(order)
    time.sleep(2)
    return Effect(result="worked")


def work_for_long(order: Order, context: HandlerContext) -> Effect:
    note_run(order)
    time.sleep(30)
    return Effect(result="worked")


def work_alone(order: Order, context: HandlerContext) -> Effect:
    note_run(order)
    return Effect(result="worked")


die_once_alone = die_once
sleep_alone = sleep_through_the_limit
work_within_the_limit = work_slowly


def kill_redis(order: Order, context: HandlerContext) -> Effect:
    os.kill(int(Path(order.text).read_text()), signal.SIGKILL)
    return Effect(result="killed")
