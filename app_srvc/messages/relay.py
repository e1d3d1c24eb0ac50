"""Relay: whatever the ledger says is to be done has a live job, or gets one.

Three ways to find what has none, from quick to thorough: suspects that a worker or the keeper names
(`settle`), rows that nobody has seen in this epoch of Redis (`run_pass`), and the slow walk over all
rows of `messages.sweep`, which finds what a part of Redis has lost.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from app_srvc.logs import get_logger
from app_srvc.messages import store
from app_srvc.messages.accept import seconds_until
from app_srvc.messages.dispatch import PROCESS_TASK, JobFact, JobSpec, Look
from app_srvc.messages.handling import FAILED, RETRY
from app_srvc.messages.horizon import Horizon
from app_srvc.messages.model import ACCEPTED, Message
from app_srvc.messages.process import record_lost_try
from app_srvc.runtime import Runtime

EPOCH_FACT = "redis_epoch"

# A message this young is with the process that accepted it, which is about to dispatch it.
GRACE_S = 2.0
PAGE = 500
DEFAULT_TIMEOUT_S = 60

# What a job's status says about a job that is not live: it had started, so a try was lost.
STARTED_STATUSES = frozenset({"started", "failed", "stopped"})

log = get_logger(__name__)


class Relay:
    """Settles messages without a live job. Any number may run: each step is idempotent."""

    def __init__(self, runtime: Runtime, *, grace_s: float = GRACE_S) -> None:
        self._runtime = runtime
        self._horizon = Horizon(grace_s)

    def run_pass(self) -> int:
        """Settle the rows that nobody has seen in this epoch, and return how many jobs were made.

        The pass after a restart or a fail-over of Redis is of a new epoch, so it reads every row.
        """
        epoch = self.current_epoch()
        with self._runtime.database.read() as session:
            up_to_seq = self._horizon.after_seeing(store.newest_seq(session))
        made, last = 0, (-1, 0)
        while True:
            with self._runtime.database.read() as session:
                rows = store.list_unconfirmed(
                    session, epoch=epoch, after=last, up_to_seq=up_to_seq, limit=PAGE
                )
            if not rows:
                return made
            last = (rows[-1].dispatched_epoch, rows[-1].seq)
            settled = self._settle_rows(rows, {}, look=Look.TRUST)
            made += settled.made
            if settled.epoch != epoch:
                # Redis was emptied on the way: the next pass begins an epoch, and reads all rows.
                return made

    def settle(
        self,
        ids: Sequence[str],
        reasons: Mapping[str, str] | None = None,
        *,
        look: Look = Look.LIST,
    ) -> int:
        """Settle messages of whose jobs something is known to be wrong; return how many jobs were made.

        The job of a message that has ended is taken out of Redis; an id without a message is left to
        the caller. `reasons` says why a try was lost, for those of which the caller knows.
        """
        made = 0
        for start in range(0, len(ids), PAGE):
            page = list(ids[start : start + PAGE])
            with self._runtime.database.read() as session:
                rows = store.find_messages(session, page)
            ended = [(row.id, row.queue) for row in rows.values() if row.state != ACCEPTED]
            if ended:
                self._runtime.dispatcher.forget(ended)
            waiting = [row for row in rows.values() if row.state == ACCEPTED]
            if waiting:
                made += self._settle_rows(waiting, reasons or {}, look=look).made
        return made

    def current_epoch(self) -> int:
        """The number of this Redis' epoch; a new one where it may not have all that it was told.

        It was emptied, and has no epoch or another than the ledger. Or it is another process than the one
        of the epoch: one that was restarted has lost what was not on its disk yet, and one that has become
        the master what was not replicated yet, and either may be all since the last confirmation.

        Raises:
            BrokerUnavailableError: Redis cannot be asked.
        """
        with self._runtime.database.read() as session:
            known = store.get_fact(session, EPOCH_FACT)
        # First the process: after a fail-over in between, the next pass sees the new one.
        server = self._runtime.dispatcher.server_id()
        token, _ = self._runtime.dispatcher.probe([])
        if is_of_epoch(known, token=token, server=server):
            return epoch_number(known)
        return self._begin_epoch(known, server)

    def _begin_epoch(self, known: str | None, server: str) -> int:
        """Begin a new epoch, unless somebody else did so since `known` was read.

        The ledger is written first: a crash before Redis has the epoch only means one more epoch.
        """
        database = self._runtime.database
        with database.write() as session:
            token = store.lock_fact(session, EPOCH_FACT, insert_ignore=database.insert_ignore)
            is_first = token == (known or "")
            if is_first:
                token = f"{epoch_number(token) + 1}:{uuid.uuid4().hex[:12]}:{server}"
                store.put_fact(session, EPOCH_FACT, token)
        self._runtime.dispatcher.set_epoch(token)
        if is_first:
            log.warning("redis_epoch_began", epoch=epoch_number(token))
        return epoch_number(token)

    def _settle_rows(
        self, rows: Sequence[Message], reasons: Mapping[str, str], *, look: Look
    ) -> "_Settled":
        self._follow_renamed_queues(rows)
        token, facts = self._runtime.dispatcher.probe(
            [(row.id, row.queue) for row in rows], look=look
        )
        now = datetime.now(UTC)
        jobs: list[JobSpec] = []
        live: list[str] = []
        for row, fact in zip(rows, facts, strict=True):
            if fact.is_live or (fact.awaits_rescue and look is Look.TRUST):
                # After an outage every lease may have ended: the rescue knows how long to wait.
                live.append(row.id)
            elif fact.status in STARTED_STATUSES and fact.attempt == row.tries:
                jobs += self._after_lost_try(row, fact, reasons, now)
            else:
                jobs.append(self._job(row, row.tries, seconds_until(row.run_at, now)))
        made = self._runtime.dispatcher.dispatch(jobs, look=look) if jobs else 0
        confirmed = live + [job.id for job in jobs]
        if confirmed and token:
            with self._runtime.database.write() as session:
                store.confirm_dispatched(session, confirmed, epoch=epoch_number(token))
        if made:
            log.info("messages_relayed", count=made)
        return _Settled(made, epoch_number(token))

    def _after_lost_try(
        self, row: Message, fact: JobFact, reasons: Mapping[str, str], now: datetime
    ) -> list[JobSpec]:
        reason = reasons.get(row.id) or fact.note or "lost"
        outcome = record_lost_try(self._runtime, row, reason=reason, now=now)
        if outcome.action == FAILED:
            self._runtime.dispatcher.forget([(row.id, row.queue)])
        # Whoever was quicker to count the try has made the job as well: hands off.
        return [self._job(row, outcome.attempt, outcome.delay_s)] if outcome.action == RETRY else []

    def _follow_renamed_queues(self, rows: Sequence[Message]) -> None:
        """A message goes with its kind's queue when that gets another name: nobody drains the old one."""
        known = self._runtime.settings.queue_names
        for row in rows:
            kind = self._runtime.kinds.get(row.kind)
            if row.queue in known or kind is None:
                continue
            row.queue = self._runtime.queue_of(kind)
            with self._runtime.database.write() as session:
                store.move_to_queue(session, row.id, row.queue)

    def _job(self, row: Message, attempt: int, delay_s: float | None) -> JobSpec:
        kind = self._runtime.kinds.get(row.kind)
        return JobSpec(
            id=row.id,
            queue=row.queue,
            task=PROCESS_TASK,
            args=(row.id,),
            attempt=attempt,
            timeout_s=kind.timeout_s if kind is not None else DEFAULT_TIMEOUT_S,
            delay_s=delay_s,
        )


@dataclass(frozen=True, slots=True)
class _Settled:
    """How many jobs were made, and in which epoch of Redis."""

    made: int
    epoch: int


def epoch_number(token: str | None) -> int:
    number = (token or "0").partition(":")[0]
    return int(number) if number.isdigit() else 0


def is_of_epoch(known: str | None, *, token: str, server: str) -> bool:
    """Whether a Redis with this epoch, and of this process, is the one that the ledger knows.

    A Redis that does not say which process it is counts as the one in which the epoch began.
    """
    return token != "" and token == known and server in ("", known.rpartition(":")[2])
