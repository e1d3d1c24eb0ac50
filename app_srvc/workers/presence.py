"""Presence: a worker is known to RQ's tools while it lives, and hears what they tell it."""

import time
from collections.abc import Callable
from contextlib import suppress

from redis import Redis
from redis.exceptions import RedisError, ResponseError
from rq import Worker, worker_registration
from rq.utils import now, utcformat

from app_srvc.logs import get_logger
from app_srvc.supervisor import ParentLink
from app_srvc.workers.commands import Commands
from app_srvc.workers.leases import WORKER_LIFE_S

BEAT_EVERY_S = 3.0

log = get_logger(__name__)


class Presence:
    """The key, the registration and the channel of one worker, and its link to its parent.

    `obey(command, job_id)` is called for a command of RQ's tools.
    """

    def __init__(
        self,
        worker: Worker,
        client: Redis,
        link: ParentLink | None,
        obey: Callable[[str, str | None], None],
    ) -> None:
        self._worker = worker
        self._client = client
        self._link = link
        self._commands = Commands(client, worker.pubsub_channel_name, obey)
        self._next_beat = 0.0
        self._was_registered = False

    def beat(self) -> None:
        """Tell the parent, without Redis, that this process is alive."""
        if self._link is not None:
            self._link.beat()

    def is_orphaned(self) -> bool:
        """Whether the parent is gone."""
        return self._link is not None and self._link.is_broken()

    def keep(self) -> None:
        """Stay known, every few seconds; be known again after Redis was emptied; hear commands."""
        self.beat()
        if time.monotonic() < self._next_beat:
            return
        key = self._worker.key
        with self._client.pipeline() as pipeline:
            pipeline.hset(key, "last_heartbeat", utcformat(now()))
            pipeline.expire(key, WORKER_LIFE_S)
            pipeline.hexists(key, "birth")
            is_known = pipeline.execute()[-1]
        if not is_known:
            self.register()
        self._commands.obey()
        self._next_beat = time.monotonic() + BEAT_EVERY_S

    def register(self) -> None:
        """Write down who this worker is, in place of anything that is there."""
        worker = self._worker
        worker.ip_address = self._address()
        worker.birth_date = worker.birth_date or now()
        worker.last_heartbeat = now()
        with self._client.pipeline() as pipeline:
            pipeline.delete(worker.key)
            pipeline.hset(worker.key, mapping={**worker.serialize(), "state": "idle"})
            pipeline.expire(worker.key, WORKER_LIFE_S)
            worker_registration.register(worker, pipeline)
            pipeline.execute()
        log.info("worker_registered", worker=worker.name, again=self._was_registered)
        self._was_registered = True

    def hear(self) -> None:
        """Carry out the commands that have come."""
        self._commands.obey()

    def end(self) -> None:
        """Sign off, if Redis can be told."""
        self._commands.close()
        with suppress(RedisError):
            self._worker.register_death()

    def _address(self) -> str:
        try:
            return str(self._client.client_info().get("addr", "unknown"))
        except ResponseError:
            return "unknown"
