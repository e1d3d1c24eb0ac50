"""Jobs that the prototype, or another program with stock RQ, left in our queues, and what to do with each.

They are pickled, so no worker of ours runs them: it sets them aside as failed. Here they are only listed.
"""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import redis
from redis.exceptions import ResponseError

from app_srvc.errors import BrokerUnavailableError
from app_srvc.workers.pickled import pickled_function

# Where RQ keeps ids of jobs that have not ended well: our word for it, and the key's beginning.
LISTS = (("waiting", "rq:queue:"),)
REGISTRIES = (
    ("running", "rq:wip:"),
    ("planned", "rq:scheduled:"),
    ("deferred", "rq:deferred:"),
    ("failed", "rq:failed:"),
)
PAGE = 500
MAX_DATA_BYTES = 1024 * 1024
MAX_TEXT_CHARS = 100

ADVICE: Mapping[str, str] = MappingProxyType(
    {
        "app_srvc.task_usrreg.task_processor": (
            "a registration: let the prototype's usrregworker.py do it before the change, and import "
            "its row; else that person has to register again"
        ),
        "app_srvc.tasks.crttask_sendmsg": (
            "a document of another system: let the prototype's todoworker.py do it before the change; "
            "else have it sent again to /api/sendmsg"
        ),
        "app_srvc.tasks.task_processor": (
            "a record that the robot fetched: nothing to do, the new robot fetches every record"
        ),
        "app_srvc.tasks.task_robot": (
            "the robot's next run: nothing to do but to start the new robot after the change"
        ),
    }
)
NOT_THE_PROTOTYPES = "none of the prototype's: ask whoever else uses this Redis"

# The prototype's own keys: which job is the robot's next run, and whether it runs (START or STOP).
ROBOT_KEYS = ("repeater_status", "repeater_job_id")


@dataclass(frozen=True, slots=True)
class LegacyJob:
    """A pickled job. `enqueued_at` is as RQ wrote it, or None."""

    queue: str
    place: str
    id: str
    function: str
    enqueued_at: str | None

    @property
    def advice(self) -> str:
        return ADVICE.get(self.function, NOT_THE_PROTOTYPES)


def list_legacy_jobs(
    client: redis.Redis, queues: Sequence[str], *, most_of_a_place: int | None = None
) -> Iterator[LegacyJob]:
    """Pickled jobs of some queues, the oldest of each place first; those of ours are left out.

    Of a queue that is drained meanwhile some may be passed over; nothing is held up for the look.
    With `most_of_a_place` no more ids than that are looked at in each list and registry.

    Raises:
        BrokerUnavailableError: Redis cannot be asked.
    """
    try:
        for queue in queues:
            for place, key in (*LISTS, *REGISTRIES):
                for ids in _pages_of_ids(client, key + queue, most_of_a_place):
                    yield from _pickled(client, queue, place, ids)
    except redis.RedisError as error:
        raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error


def robot_keys(client: redis.Redis) -> dict[str, str]:
    """What the prototype kept about its robot, as far as it is there.

    Raises:
        BrokerUnavailableError: Redis cannot be asked.
    """
    try:
        values: Any = client.mget(ROBOT_KEYS)
    except redis.RedisError as error:
        raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error
    return {
        name: _shown(value)
        for name, value in zip(ROBOT_KEYS, values, strict=True)
        if value is not None
    }


def _pages_of_ids(client: redis.Redis, key: str, most: int | None) -> Iterator[list[str]]:
    is_list = any(key.startswith(beginning) for _, beginning in LISTS)
    for start in itertools.count(0, PAGE):
        if most is not None and start >= most:
            return
        last = min(start + PAGE, most or start + PAGE) - 1
        try:
            page: Any = (client.lrange if is_list else client.zrange)(key, start, last)
        except ResponseError:
            # A key of that name is of another type: nobody's jobs are there.
            return
        if not page:
            return
        # In the registry of running jobs, RQ 2 writes the execution behind the id.
        yield [raw.decode("utf-8", "replace").partition(":")[0] for raw in page]


def _pickled(
    client: redis.Redis, queue: str, place: str, ids: Sequence[str]
) -> Iterator[LegacyJob]:
    with client.pipeline(transaction=False) as pipeline:
        for id in ids:
            pipeline.hstrlen(f"rq:job:{id}", "data")
        sizes = pipeline.execute(raise_on_error=False)
        small = [
            id
            for id, size in zip(ids, sizes, strict=True)
            if isinstance(size, int) and 0 < size <= MAX_DATA_BYTES
        ]
        for id in small:
            pipeline.hmget(f"rq:job:{id}", "data", "enqueued_at", "created_at")
        rows = pipeline.execute(raise_on_error=False)
    for id, row in zip(small, rows, strict=True):
        function = None if isinstance(row, Exception) else pickled_function(row[0] or b"")
        if function is not None:
            moment = row[1] or row[2]
            yield LegacyJob(queue, place, _shown(id), function, _shown(moment) if moment else None)


def _shown(value: bytes | str) -> str:
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return "".join(one if one.isprintable() else "?" for one in text[:MAX_TEXT_CHARS])
