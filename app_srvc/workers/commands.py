"""What RQ's tools may tell a worker while it runs, over its channel. Read in between, without a thread."""

import json
from collections.abc import Callable
from contextlib import suppress

from redis import Redis
from redis.client import PubSub
from redis.exceptions import RedisError

from app_srvc.logs import get_logger

COMMANDS = ("shutdown", "kill-horse", "stop-job")
MAX_AT_ONCE = 100

log = get_logger(__name__)


class Commands:
    """The channel of one worker. `handle(command, job_id)` is called for what is understood."""

    def __init__(
        self, client: Redis, channel: str, handle: Callable[[str, str | None], None]
    ) -> None:
        self._client = client
        self._channel = channel
        self._handle = handle
        self._pubsub: PubSub | None = None

    def obey(self) -> None:
        """Carry out what has come since the last time. Never waits.

        Raises:
            RedisError: The channel is lost; the next call opens it again.
        """
        try:
            if self._pubsub is None:
                self._pubsub = self._client.pubsub()
                self._pubsub.subscribe(self._channel)
            for _ in range(MAX_AT_ONCE):
                message = self._pubsub.get_message(timeout=0)
                if message is None:
                    return
                if message["type"] == "message":
                    self._read(message["data"])
        except RedisError:
            self.close()
            raise

    def close(self) -> None:
        if self._pubsub is not None:
            with suppress(RedisError):
                self._pubsub.close()
            self._pubsub = None

    def _read(self, data: bytes) -> None:
        try:
            payload = json.loads(data)
            command, job_id = payload["command"], payload.get("job_id")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            command, job_id = None, None
        if command in COMMANDS:
            self._handle(command, job_id if isinstance(job_id, str) else None)
        else:
            log.warning("worker_command_refused", channel=self._channel)
