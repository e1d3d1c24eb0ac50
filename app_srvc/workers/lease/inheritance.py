"""Inheritance: what a dead child leaves to the next one, and how that settles it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from redis import Redis
from redis.exceptions import RedisError, ResponseError

from app_srvc.workers.lease.link import HAND_BACK, Call, ScriptLink
from app_srvc.workers.lease.rq_path import RqPath

if TYPE_CHECKING:
    from app_srvc.workers.lease_worker import LeaseWorker

# Why the child ended, and so what becomes of the job that it had in hand: it runs again, it failed
# by its time limit, somebody stopped it, somebody killed the child on purpose.
DIED, OVERTIME, STOPPED, KILLED = "died", "overtime", "stopped", "killed"


@dataclass(frozen=True, slots=True)
class Inheritance:
    """The claims of a dead child, the place of the job that ran (-1: none), and why the child ended."""

    tokens: tuple[str, str]
    place: int
    fate: str
    text: str


class Heir:
    """The next child, before its first claim. Each step may be taken again."""

    def __init__(
        self, worker: "LeaseWorker", client: Redis, link: ScriptLink, rq_path: RqPath
    ) -> None:
        self._log = worker.log
        self._name = worker.name
        self._client = client
        self._link = link
        self._rq = rq_path

    def take_over(self, left: Inheritance) -> None:
        """Settle the job that was in hand, and put back what had not begun or was not reported."""
        current, ending = left.tokens
        if current and left.place >= 0:
            held: Any = self._client.lrange(f"app:claim:{current}", 0, -1)
            if len(held) > left.place + 1:
                self._settle(held[left.place + 1].decode(), held[0].decode(), left)
        for token in filter(None, (current, ending)):
            self._link.call(Call(HAND_BACK, (f"app:claim:{token}",), (token, 0)))

    def _settle(self, id: str, queue: str, left: Inheritance) -> None:
        token = left.tokens[0]
        if self._client.zscore(f"rq:wip:{queue}", f"{id}:{token}") is None:
            return
        if left.fate == DIED:
            # It goes back with the others, and runs alone from now on: after a few deaths it is poison.
            with self._client.pipeline() as pipeline:
                pipeline.hincrby(f"rq:job:{id}", "rescues", 1)
                pipeline.hset(f"rq:job:{id}", "suspect", 1)
                pipeline.execute()
            return
        try:
            job = self._rq.take(id, queue, token)
            (self._rq.stopped if left.fate == STOPPED else self._rq.fail)(job, left.text)
        except RedisError as error:
            if not isinstance(error, ResponseError):
                raise
        except Exception:
            self._log.exception("Worker %s: job %s could not be ended", self._name, id)
