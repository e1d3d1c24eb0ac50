"""Dispatch: put ids on their queues in Redis, once, however often it is asked.

The payload stays in the ledger (the *claim check* pattern): what lies in Redis is an id, the name of
one of two tasks, and the number of tries that the ledger had counted. It is written as RQ's own
`JSONSerializer` would write it, so RQ's tools show it.
"""

import itertools
import json
import threading
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import redis
from redis.commands.core import Script

from app_srvc.errors import BrokerUnavailableError

PROCESS_TASK = "app_srvc.workers.tasks.process_message"
CYCLE_TASK = "app_srvc.workers.tasks.run_cycle"

T = TypeVar("T")

EPOCH_KEY = "app:redis:epoch"

# One script call holds Redis for about 10 µs a job; 500 keeps the others' waits under 5 ms.
JOBS_PER_CALL = 500
IDS_PER_READ = 5_000

# After one time-out a web request does not try Redis again for so long; the relay dispatches meanwhile.
PAUSE_AFTER_FAILURE_S = 3.0


class Look(StrEnum):
    """How to look for an id whose job is said to be queued.

    TRUST: it is in its list. LIST: look into the list, which reads all of it, so for few ids only.
    ABSENT: the caller has looked, and it is in no list.
    """

    TRUST = "0"
    LIST = "1"
    ABSENT = "2"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One job to put on a queue.

    `attempt` is the number of tries that the ledger has counted so far. `delay_s` puts the job in
    the scheduled registry, with a fractional score on Redis' own clock; None means now.
    """

    id: str
    queue: str
    task: str
    args: tuple[str | int, ...]
    attempt: int
    timeout_s: int
    delay_s: float | None = None


@dataclass(frozen=True, slots=True)
class JobFact:
    """What Redis knows about a job. `status` is empty where it knows nothing.

    `awaits_rescue` says that its lease has ended and it is still where the keeper looks for such.
    `attempt` is the number of tries that had been counted when the job was dispatched; -1 if unknown.
    `note` is why its worker says that it ended early (`killed`, `timeout`), if it could.
    """

    status: str
    is_live: bool
    awaits_rescue: bool
    attempt: int
    note: str | None


@dataclass(frozen=True, slots=True)
class QueueSizes:
    """How many jobs of a queue wait, run, and are planned for later."""

    waiting: int
    running: int
    planned: int


class Dispatcher:
    """The one writer of new jobs. Scripts are atomic, so any number of processes may dispatch the same."""

    def __init__(self, client: redis.Redis, *, result_ttl_s: int, failure_ttl_s: int) -> None:
        self._client = client
        self._result_ttl_s = result_ttl_s
        self._failure_ttl_s = failure_ttl_s
        self._dispatch = _script(client, "dispatch")
        self._probe = _script(client, "probe")
        self._forget = _script(client, "forget")
        self._pause_lock = threading.Lock()
        self._paused_until = 0.0

    def dispatch(self, jobs: Sequence[JobSpec], *, look: Look = Look.TRUST) -> int:
        """Put jobs on their queues, and return how many were not there yet.

        `look` says what an id that is said to be queued is worth; see `Look`.

        Raises:
            BrokerUnavailableError: Redis did not answer, or refused. Some of the jobs may be there.
        """
        put = 0
        for batch in _batches(jobs, JOBS_PER_CALL):
            arguments: list[Any] = [_rq_time(datetime.now(UTC)), look]
            for job in batch:
                arguments += self._fields(job)
            put += sum(self._call(self._dispatch, arguments))
        return put

    def try_dispatch(self, jobs: Sequence[JobSpec]) -> bool:
        """Dispatch for a caller who can't wait: False leaves it to the relay.

        After a failure nothing is tried for `PAUSE_AFTER_FAILURE_S`, so that one request pays for
        the time-out and not each.
        """
        if time.monotonic() < self._paused_until:
            return False
        try:
            self.dispatch(jobs)
        except BrokerUnavailableError:
            with self._pause_lock:
                self._paused_until = time.monotonic() + PAUSE_AFTER_FAILURE_S
            return False
        return True

    def try_forget(self, jobs: Sequence[tuple[str, str]]) -> None:
        """Remove jobs of ended messages for a caller who can't wait; a job that stays does nothing."""
        if time.monotonic() < self._paused_until:
            return
        with suppress(BrokerUnavailableError):
            self.forget(jobs, from_list=True)

    def try_forget_waiting(self, id: str, queue: str) -> None:
        """Remove a job that waits, for a caller who can't wait himself; one that runs is left alone."""
        if time.monotonic() < self._paused_until:
            return
        with suppress(BrokerUnavailableError):
            _, (fact,) = self.probe([(id, queue)])
            if fact.status in ("queued", "scheduled"):
                self.forget([(id, queue)], from_list=True)

    def probe(
        self, jobs: Sequence[tuple[str, str]], *, look: Look = Look.TRUST
    ) -> tuple[str, list[JobFact]]:
        """What Redis knows about (id, queue) pairs, and its epoch (empty if it has none)."""
        epoch = ""
        facts: list[JobFact] = []
        for batch in _batches(jobs, JOBS_PER_CALL) or [[]]:
            answer = self._call(self._probe, [look, *_flat(batch)])
            epoch = _text(answer[0])
            facts += [
                _fact(_text(status), life, meta)
                for status, life, meta in zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
            ]
        return epoch, facts

    def forget(self, jobs: Sequence[tuple[str, str]], *, from_list: bool = False) -> int:
        """Remove (id, queue) pairs from Redis; `from_list` also takes them out of the waiting list."""
        return sum(
            self._call(self._forget, ["1" if from_list else "0", *_flat(batch)])
            for batch in _batches(jobs, JOBS_PER_CALL)
        )

    def server_id(self) -> str:
        """Which process of Redis this is: another after each restart and fail-over. Empty if it won't say.

        Raises:
            BrokerUnavailableError: Redis did not answer.
        """
        try:
            info: Any = self._client.info("server")
        except redis.ResponseError:
            return ""
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error
        return str(info.get("run_id", ""))

    def set_epoch(self, token: str) -> None:
        """Mark this Redis as the one of an epoch; an emptied Redis has no mark."""
        try:
            self._client.set(EPOCH_KEY, token)
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error

    def queue_sizes(self, queue: str) -> QueueSizes:
        """Sizes by counting commands only, whatever the depth.

        Raises:
            BrokerUnavailableError: Redis did not answer.
        """
        try:
            with self._client.pipeline(transaction=False) as pipeline:
                pipeline.llen(f"rq:queue:{queue}")
                pipeline.zcard(f"rq:wip:{queue}")
                pipeline.zcard(f"rq:scheduled:{queue}")
                return QueueSizes(*pipeline.execute())
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error

    def waiting_ids(self, queue: str) -> set[int]:
        """Hashes of all ids in a queue's list, read in pieces while others go on using it.

        Hashes, because a million ids would take a few hundred megabytes.
        """
        found: set[int] = set()
        try:
            for start in itertools.count(0, IDS_PER_READ):
                piece: Any = self._client.lrange(
                    f"rq:queue:{queue}", start, start + IDS_PER_READ - 1
                )
                found.update(hash(raw.decode("utf-8", "replace")) for raw in piece)
                if len(piece) < IDS_PER_READ:
                    return found
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error
        return found

    def _fields(self, job: JobSpec) -> tuple[Any, ...]:
        return (
            job.id,
            job.queue,
            f'["{job.task}", null, {json.dumps(job.args)}, {{}}]',
            f"{job.task.rpartition('.')[2]}({', '.join(map(str, job.args))})",
            f'{{"try": {job.attempt}}}',
            job.timeout_s,
            self._result_ttl_s,
            self._failure_ttl_s,
            "" if job.delay_s is None else f"{job.delay_s:.6f}",
        )

    def _call(self, script: Script, arguments: Sequence[Any]) -> Any:
        try:
            return script(keys=[], args=arguments)
        except redis.RedisError as error:
            raise BrokerUnavailableError(f"Redis cannot be used now: {error}") from error


def _script(client: redis.Redis, name: str) -> Script:
    return client.register_script((Path(__file__).parent / "lua" / f"{name}.lua").read_text())


def _batches(items: Sequence[T], size: int) -> list[Sequence[T]]:
    return [items[start : start + size] for start in range(0, len(items), size)]


def _flat(pairs: Iterable[tuple[str, str]]) -> list[str]:
    return [part for pair in pairs for part in pair]


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _rq_time(moment: datetime) -> str:
    """A time as RQ writes it (`rq.utils.utcformat`)."""
    return moment.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _fact(status: str, life: int, meta: bytes) -> JobFact:
    """Whoever can write to Redis can write any meta: what is not of our form counts as unknown."""
    attempt, note = -1, None
    try:
        values = json.loads(meta) if meta else {}
    except (ValueError, RecursionError):
        values = {}
    if isinstance(values, dict):
        if type(values.get("try")) is int:
            attempt = values["try"]
        if values.get("ended") in ("killed", "timeout"):
            note = values["ended"]
    return JobFact(status, life == 1, life == 2, attempt, note)
