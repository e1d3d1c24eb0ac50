"""A picture of all that RQ keeps in a Redis, in which only what matters is told apart.

Times, ids of executions, names and numbers of processes are placeholders; how long something lives is
rough; what is packed is unpacked. So two workers that did the same leave equal pictures.
"""

import hashlib
import json
import re
import time
import zlib
from base64 import b64decode
from collections.abc import Callable
from typing import Any

from redis import Redis
from rq.serializers import DefaultSerializer

STEP_S = 20
# A run may take this long before lives that were set in it count as shorter.
SLACK_S = 18
LONG = 400

TIMES = {
    "created_at", "enqueued_at", "started_at", "ended_at", "last_heartbeat", "birth", "death",
    "shutdown_requested_date", "execution_started_at", "execution_ended_at",
}  # fmt: skip
OF_A_PROCESS = {"pid", "hostname", "ip_address", "version", "python_version"}

# RQ makes ids of executions of 32 digits, and so does our worker of its claims.
TOKEN = re.compile(r"\b[0-9a-f]{32}\b")

Picture = dict[str, Any]


def take_picture(redis: Redis, worker_name: str, serializer: Any = DefaultSerializer) -> Picture:
    """What is in this Redis after a worker of that name was at work."""

    def plain(value: bytes | str) -> str:
        text = value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else value
        text = TOKEN.sub("<execution>", text.replace(worker_name, "<worker>"))
        return _shortened(text)

    picture: Picture = {}
    for key in sorted(redis.scan_iter()):
        name, life_s = plain(key), redis.ttl(key)
        picture[name] = _content(redis, key, plain, serializer)
        if life_s != -1:
            picture[f"life of {name}"] = _rough(life_s)
    return picture


def _content(redis: Any, key: bytes, plain: Callable[[Any], str], serializer: Any) -> Any:
    readers: dict[str, Callable[[], Any]] = {
        "string": lambda: plain(redis.get(key)),
        "list": lambda: [plain(each) for each in redis.lrange(key, 0, -1)],
        "set": lambda: sorted(plain(each) for each in redis.smembers(key)),
        "zset": lambda: _scores(redis, key, plain),
        "hash": lambda: {
            plain(name): _field(plain(name), value, plain, serializer)
            for name, value in sorted(redis.hgetall(key).items())
        },
        "stream": lambda: [
            {
                plain(name): _field(plain(name), value, plain, serializer)
                for name, value in sorted(entry.items())
            }
            for _, entry in redis.xrange(key)
        ],
    }
    return readers[redis.type(key).decode()]()


def _scores(redis: Any, key: bytes, plain: Callable[[Any], str]) -> dict[str, str]:
    now = time.time()
    entries = redis.zrange(key, 0, -1, withscores=True)
    words = {float("inf"): "for ever", -1.0: "-1"}
    return {plain(id): words.get(score) or _rough(score - now) for id, score in entries}


def _field(name: str, value: bytes, plain: Callable[[Any], str], serializer: Any) -> Any:
    if name in TIMES:
        return "<time>" if value else ""
    if name in OF_A_PROCESS:
        return f"<{name}>"
    if name == "total_working_time":
        return "<seconds>" if float(value) > 0 else "0"
    if name == "data":
        return _shortened(repr(_inflated(value)))
    if name == "exc_string":
        return plain(_last_line(zlib.decompress(b64decode(value)).decode()))
    if name == "return_value":
        return plain(repr(serializer.loads(b64decode(value))))
    if name == "meta":
        return serializer.loads(value)
    if name in ("webhooks", "dependency_ids"):
        return json.loads(plain(value))
    return plain(value)


def _inflated(value: bytes) -> bytes:
    try:
        return zlib.decompress(value)
    except zlib.error:
        return value


def _last_line(traceback: str) -> str:
    """What was raised; the frames above are each worker's own."""
    lines = traceback.strip().splitlines()
    return lines[-1] if lines else ""


def _rough(seconds: float) -> str:
    """How long something lives, in steps; what was set during the run falls into one step."""
    return f"about {int((seconds + SLACK_S) // STEP_S) * STEP_S} s"


def _shortened(text: str) -> str:
    if len(text) <= LONG:
        return text
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{text[:40]}… ({len(text)} characters, {digest})"
