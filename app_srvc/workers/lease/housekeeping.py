"""What a parent does besides its children: promote, stay known, renew, take back, rescue, obey, clean.

Each step is one script or one transaction that any number of workers may repeat at any time, so there
is no lock, no leader and no hand-over.
"""

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

from redis import Redis
from redis.client import PubSub
from redis.exceptions import OutOfMemoryError, ReadOnlyError, RedisError, ResponseError
from rq.command import PUBSUB_CHANNEL_TEMPLATE
from rq.utils import now, utcformat

from app_srvc.workers.lease.inheritance import KILLED, STOPPED
from app_srvc.workers.lease.lane import Lane
from app_srvc.workers.lease.link import HAND_BACK, PROMOTE, RENEW, RESCUE, Call, ScriptLink
from app_srvc.workers.lease.patience import Tell
from app_srvc.workers.lease.registries import SOON_S, Registries
from app_srvc.workers.lease.runner import LEASE_S

BEAT_EVERY_S = 1.0
RENEW_EVERY_S = 3.0
RESCUE_EVERY_S = 1.0
PROMOTE_EVERY_S = 0.04
FIRST_REST_S, LONGEST_REST_S = 0.05, 1.0
WORKER_LIFE_S = 30
PER_PASS = 500
# The parent was held up if its turns are so far apart; its view of who lives is good after so long.
LATE_AFTER_S, STEADY_S = 2.0, 4.0
KILLED_TEXT = "Work-horse terminated unexpectedly; waitpid returned 9 (signal 9); "
STOPPED_TEXT = "Job stopped by user, work-horse terminated."


class Housekeeping:
    """The steps of one parent. Call `turn` when `wait_s` is over.

    `shares_work` is whether this parent promotes, rescues and cleans, `is_short` whether it will end when
    the queues are empty. `register(lane)` makes a lane known anew; `shut_down()` carries out that command.
    """

    def __init__(
        self,
        lanes: Sequence[Lane],
        queues: Sequence[str],
        client: Redis,
        tell: Tell,
        *,
        shares_work: bool,
        is_short: bool,
        register: Callable[[Lane], None],
        shut_down: Callable[[], None],
    ) -> None:
        self._lanes = lanes
        self._queues = queues
        self._client = client
        self._link = ScriptLink(client)
        self._tell = tell
        self._shares_work = shares_work
        self._is_short = is_short
        self._register = register
        self._shut_down = shut_down
        self._pubsub: PubSub | None = None
        self._rest_s = 0.0
        self._promote_at = 0.0
        self._last_turn = self._steady_since = time.monotonic()
        self._refused: set[str] = set()
        self._next: dict[str, float] = {}
        self._steps = [
            ("renew", RENEW_EVERY_S, self.renew),
            ("beat", BEAT_EVERY_S, self.beat),
        ]
        if shares_work:
            registries = Registries(queues, self._link, tell, self._refuse)
            self._steps.append(("rescue", RESCUE_EVERY_S, self.rescue))
            self._steps.append(("clean", SOON_S, registries.clean))

    @property
    def is_waiting_for_redis(self) -> bool:
        """Whether the last turn failed."""
        return self._rest_s > 0

    @property
    def wait_s(self) -> float:
        """For how long there is nothing to do."""
        until_s = self._promote_at - time.monotonic() if self._shares_work else PROMOTE_EVERY_S
        return self._rest_s or max(0.0, until_s)

    def turn(self) -> None:
        """Take every step whose time has come. An outage of Redis is waited for."""
        began = time.monotonic()
        if began - self._last_turn > LATE_AFTER_S:
            self._steady_since = began
        self._last_turn = began
        try:
            for name, every_s, step in self._steps:
                if time.monotonic() >= self._next.get(name, 0.0):
                    self._try(step)
                    self._next[name] = time.monotonic() + every_s
            for lane in self._lanes:
                self._try(partial(self.take_back, lane))
            self._try(self.obey)
            if self._shares_work and time.monotonic() >= self._promote_at:
                self._promote_at = time.monotonic() + PROMOTE_EVERY_S
                self._try(self.promote)
            if self._rest_s:
                self._tell("info", "worker_redis_recovered")
            self._rest_s = 0.0
        except RedisError as error:
            if not self._rest_s:
                self._tell("warning", "worker_redis_failed", error_type=type(error).__name__)
            self._link.drop()
            self._close_pubsub()
            self._steady_since = time.monotonic()
            self._rest_s = min(LONGEST_REST_S, max(FIRST_REST_S, 2 * self._rest_s))

    def _try(self, step: Callable[[], None]) -> None:
        """A step that Redis refuses, since a key is not what it should be, holds up no other."""
        try:
            step()
        except (ReadOnlyError, OutOfMemoryError):
            raise
        except ResponseError as error:
            self._link.drop_unanswered()
            self._refuse(error)

    def _refuse(self, error: ResponseError) -> None:
        """Said once for each reason."""
        if str(error) not in self._refused:
            self._tell("error", "worker_step_refused", error=str(error)[:200])
            self._refused.add(str(error))

    def close(self) -> None:
        """Give the connections back."""
        self._close_pubsub()
        self._link.drop()

    def promote(self) -> None:
        """Move due jobs from the scheduled registries to their queues."""
        stamp, soonest_s = utcformat(now()), PROMOTE_EVERY_S
        calls = [
            Call(
                PROMOTE,
                (f"rq:scheduled:{name}", f"rq:queue:{name}", "rq:queues"),
                (PER_PASS, stamp),
            )
            for name in self._queues
        ]
        self._link.send(*calls)
        for answer in self._link.answers():
            if isinstance(answer, ResponseError):
                self._refuse(answer)
                continue
            promoted, dropped, due_in_s = answer
            for id in dropped:
                entry = id[:200].decode("ascii", "backslashreplace")
                self._tell("warning", "job_refused", job_id=entry, reason="scheduled_without_job")
            if promoted + len(dropped) >= PER_PASS:
                soonest_s = 0.0
            elif float(due_in_s) >= 0:
                soonest_s = min(soonest_s, float(due_in_s))
        self._promote_at = time.monotonic() + soonest_s

    def take_back(self, lane: Lane) -> None:
        """Put jobs back that wait behind a slow one, so that an idle worker can take them."""
        place = lane.slow_place()
        token, _ = lane.progress.tokens
        if place is None or not token or lane.taken == (token, place):
            return
        lane.progress.ask(token, place + 1)
        # By now the child has seen the request, or had begun another job before it.
        time.sleep(0.001)
        is_still = lane.slow_place() == place and lane.progress.tokens[0] == token
        try:
            if is_still:
                self._link.call(Call(HAND_BACK, (f"app:claim:{token}",), (token, place + 1, 0)))
                if place:
                    # To RQ's tools the first of the claim was the current job.
                    self._renew(lane, token, place, lane.place_and_time[1])
                lane.taken = (token, place)
        except RedisError:
            # Nobody knows whether it was done; the child puts back what it then does not run.
            lane.progress.take(is_taken=True)
            raise
        lane.progress.take(is_taken=is_still)

    def beat(self) -> None:
        """Stay known to RQ's tools; be known again after Redis was emptied."""
        stamp, lanes = utcformat(now()), [lane for lane in self._lanes if not lane.is_done]
        with self._client.pipeline(transaction=False) as pipeline:
            for lane in lanes:
                pipeline.hset(lane.key, "last_heartbeat", stamp)
                pipeline.expire(lane.key, WORKER_LIFE_S)
                pipeline.hexists(lane.key, "birth")
            are_known = pipeline.execute(raise_on_error=False)[2::3]
        for lane, is_known in zip(lanes, are_known, strict=True):
            # An error in place of the answer: something else stands there.
            if is_known is not True:
                self._register(lane)

    def renew(self) -> None:
        """Renew the leases of what the children have in hand."""
        for lane in self._lanes:
            current, ending = lane.progress.tokens
            place, worked_s = lane.place_and_time
            for token, at in ((current, place), (ending, -1)):
                if token and not lane.is_done:
                    self._renew(lane, token, at, worked_s)

    def _renew(self, lane: Lane, token: str, place: int, worked_s: float) -> None:
        """Renew what is in hand under one token; the job at the place, if not -1, runs."""
        keys, asked_at = (f"app:claim:{token}", lane.key), time.monotonic()
        call = Call(RENEW, keys, (token, LEASE_S, utcformat(now()), place + 1, worked_s))
        if self._link.call(call) and token == lane.progress.tokens[0]:
            lane.progress.renewed(asked_at)

    def rescue(self) -> None:
        """Put jobs back whose lease has ended: their worker is dead, or cut off.

        At the start and after an outage every lease may have ended, so the living have some seconds to
        renew theirs. A worker that is to end when its queues are empty does not wait for that: it would
        be gone before it could rescue anything.
        """
        if time.monotonic() - self._steady_since < STEADY_S and not self._is_short:
            return
        for name in self._queues:
            self._try(partial(self._rescue_from, name))

    def _rescue_from(self, name: str) -> None:
        keys = (f"rq:wip:{name}", f"rq:queue:{name}", "rq:queues")
        rescued = self._link.call(Call(RESCUE, keys, (PER_PASS,)))
        for at in range(0, len(rescued), 2):
            times = rescued[at + 1]
            self._tell(
                "warning",
                "job_rescued",
                job_id=rescued[at].decode(),
                rescues=times if isinstance(times, int) else "not counted",
            )

    def obey(self) -> None:
        """Carry out the commands of RQ's tools that have come."""
        if self._pubsub is None:
            self._pubsub = self._client.pubsub()
            self._pubsub.subscribe(*(PUBSUB_CHANNEL_TEMPLATE % lane.name for lane in self._lanes))
        try:
            while (message := self._pubsub.get_message(timeout=0)) is not None:
                if message["type"] == "message":
                    self._obey_one(message["channel"].decode(), message["data"])
        except RedisError:
            self._close_pubsub()
            raise

    def _obey_one(self, channel: str, data: bytes) -> None:
        try:
            payload = json.loads(data)
            command, job_id = payload["command"], payload.get("job_id")
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            self._tell("warning", "worker_command_refused")
            return
        for lane in self._lanes:
            if PUBSUB_CHANNEL_TEMPLATE % lane.name != channel:
                continue
            self._tell("info", "worker_command_received", lane=lane.name, command=str(command))
            if command == "shutdown":
                self._shut_down()
            elif command == "kill-horse":
                lane.kill(KILLED, KILLED_TEXT)
            elif command == "stop-job" and job_id is not None and self._runs(lane, str(job_id)):
                lane.kill(STOPPED, STOPPED_TEXT)

    def _runs(self, lane: Lane, job_id: str) -> bool:
        place, _, _ = lane.progress.running
        token, _ = lane.progress.tokens
        if place < 0 or not token:
            return False
        held = self._client.lindex(f"app:claim:{token}", place + 1)
        return held == job_id.encode() and lane.progress.running[0] == place

    def _close_pubsub(self) -> None:
        if self._pubsub is not None:
            with suppress(RedisError):
                self._pubsub.close()
            self._pubsub = None
