"""Places: where a job stands in the list of its queue."""

from typing import Any

import redis

# Further back than this nobody counts: LPOS reads the list from its head.
MAX_PLACE = 10_000


def place_in_queue(client: redis.Redis, queue: str, message_id: str) -> int | None:
    """The job's place, 1 for the one that is next; None if it is not among the first 10,000.

    Raises:
        redis.RedisError: Redis cannot be asked.
    """
    index: Any = client.lpos(f"rq:queue:{queue}", message_id, maxlen=MAX_PLACE)
    return None if index is None else int(index) + 1
