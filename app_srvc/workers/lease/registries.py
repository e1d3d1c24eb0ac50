"""What RQ's own workers clean now and then: registries, names of dead workers, jobs left half-way.

Here it is done by scripts in small pieces, so that a parent with much to clean still renews and promotes
in time. Any number of parents may do it at once.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from redis.exceptions import ResponseError

from app_srvc.workers.lease.link import FORGET, TRIM, UNSTICK, Call, ScriptLink
from app_srvc.workers.lease.patience import Tell

TRIM_EVERY_S = 5.0
UNSTICK_EVERY_S = 5.0
FORGET_EVERY_S = 60.0
# While there is more to trim: so much in a turn, and turns so far apart.
PER_CALL, CALLS_PER_TURN = 1_000, 4
SOON_S = 0.1
# As long as RQ waits. Its workers need a moment between a queue and the start of a job.
STUCK_AFTER_S = 60.0


class Registries:
    """The cleaning of some queues. Call `clean` every `SOON_S`; it knows whose time has come.

    `refuse` is told when Redis refuses a key, since it is something else: that holds up no other.
    """

    def __init__(
        self,
        queues: Sequence[str],
        link: ScriptLink,
        tell: Tell,
        refuse: Callable[[ResponseError], None],
    ) -> None:
        self._queues = queues
        self._link = link
        self._tell = tell
        self._refuse = refuse
        self._steps = (self.trim, self.unstick, self.forget)
        self._due = [0.0] * len(self._steps)
        self._looked_at = 0.0
        # For each queue, since when its jobs are seen between it and their start.
        self._since: dict[str, dict[bytes, float]] = {}

    def clean(self) -> None:
        """Take every step that is due; each says for how long it rests."""
        for at, step in enumerate(self._steps):
            if time.monotonic() >= self._due[at]:
                self._due[at] = step() + time.monotonic()

    def trim(self) -> float:
        """Remove what registries say of jobs that Redis has forgotten."""
        names = [f"rq:{kind}:{queue}" for queue in self._queues for kind in ("finished", "failed")]
        for _ in range(CALLS_PER_TURN):
            answers = self._ask({name: Call(TRIM, (name,), (PER_CALL,)) for name in names})
            names = [name for name, removed in answers if removed >= PER_CALL]
            if not names:
                return TRIM_EVERY_S
        return SOON_S

    def forget(self) -> float:
        """Take the names of dead workers out of the sets of workers."""
        names = ["rq:workers", *(f"rq:workers:{queue}" for queue in self._queues)]
        for _ in self._ask({name: Call(FORGET, (name,), (PER_CALL,)) for name in names}):
            pass
        return FORGET_EVERY_S

    def unstick(self) -> float:
        """Put back what a dead worker of RQ left between its queue and its start."""
        now = time.monotonic()
        if now - self._looked_at > 2 * UNSTICK_EVERY_S:
            # Nobody has looked for a while, so nobody knows what was there all the time.
            self._since.clear()
        self._looked_at = now
        calls = {queue: self._unstick(queue, now) for queue in self._queues}
        for queue, (back, there) in self._ask(calls):
            seen = self._since.get(queue, {})
            self._since[queue] = {id: seen.get(id, now) for id in there}
            for id in back:
                self._tell("warning", "job_rescued", job_id=_text_of(id), rescues="not counted")
        return UNSTICK_EVERY_S

    def _unstick(self, queue: str, now: float) -> Call:
        seen = self._since.get(queue, {})
        stuck = [id for id, since in seen.items() if now - since >= STUCK_AFTER_S]
        key = f"rq:queue:{queue}"
        keys = (f"{key}:intermediate", key, f"rq:wip:{queue}", "rq:queues")
        return Call(UNSTICK, keys, (PER_CALL, *stuck))

    def _ask(self, calls: dict[str, Call]) -> Iterator[tuple[str, Any]]:
        """The answers to calls that are sent together, but for those that Redis refused."""
        self._link.send(*calls.values())
        for name, answer in zip(calls, self._link.answers(), strict=True):
            if isinstance(answer, ResponseError):
                self._refuse(answer)
            else:
                yield name, answer


def _text_of(id: bytes) -> str:
    return id[:200].decode("ascii", "backslashreplace")
