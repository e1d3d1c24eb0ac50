"""Relay: whatever the ledger says is to be done has a live job, or gets one.

Three ways to find what has none, from quick to thorough: suspects that a worker or the keeper names
(`settle`), rows that nobody has seen in this epoch of Redis (`run_pass`), and the slow walk over all
rows of `messages.sweep`, which finds what a part of Redis has lost.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta

from app_srvc.logs import get_logger
from app_srvc.messages import store
from app_srvc.messages.accept import seconds_until
from app_srvc.messages.dispatch import PROCESS_TASK, JobFact, JobSpec
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

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def run_pass(self) -> int:
        """Settle the rows that nobody has seen in this epoch, and return how many jobs were made.

        A Redis that was emptied has another epoch or none, so the pass after that reads every row.
        """
        epoch = self.current_epoch()
        made = 0
        while True:
            with self._runtime.database.read() as session:
                rows = store.list_unconfirmed(
                    session,
                    epoch=epoch,
                    accepted_before=datetime.now(UTC) - timedelta(seconds=GRACE_S),
                    limit=PAGE,
                )
            if rows:
                made += self._settle_rows(rows, {}, is_suspect=False)
            if len(rows) < PAGE:
                return made

    def settle(self, ids: Sequence[str], reasons: Mapping[str, str] | None = None) -> int:
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
                made += self._settle_rows(waiting, reasons or {}, is_suspect=True)
        return made

    def current_epoch(self) -> int:
        """The number of this Redis' epoch; a new one where Redis has none, or another than the ledger.

        Raises:
            BrokerUnavailableError: Redis cannot be asked.
        """
        with self._runtime.database.read() as session:
            known = store.get_fact(session, EPOCH_FACT)
        token, _ = self._runtime.dispatcher.probe([])
        if known is not None and token == known:
            return epoch_number(known)
        return self._begin_epoch(known)

    def _begin_epoch(self, known: str | None) -> int:
        """Begin a new epoch, unless somebody else did so since `known` was read.

        The ledger is written first: a crash before Redis has the epoch only means one more epoch.
        """
        database = self._runtime.database
        with database.write() as session:
            token = store.lock_fact(session, EPOCH_FACT, insert_ignore=database.insert_ignore)
            is_first = token == (known or "")
            if is_first:
                token = f"{epoch_number(token) + 1}:{uuid.uuid4().hex[:12]}"
                store.put_fact(session, EPOCH_FACT, token)
        self._runtime.dispatcher.set_epoch(token)
        if is_first:
            log.warning("redis_epoch_began", epoch=epoch_number(token))
        return epoch_number(token)

    def _settle_rows(
        self, rows: Sequence[Message], reasons: Mapping[str, str], *, is_suspect: bool
    ) -> int:
        token, facts = self._runtime.dispatcher.probe(
            [(row.id, row.queue) for row in rows], exact=is_suspect
        )
        now = datetime.now(UTC)
        jobs: list[JobSpec] = []
        live: list[str] = []
        for row, fact in zip(rows, facts, strict=True):
            if fact.is_live:
                live.append(row.id)
            elif fact.status in STARTED_STATUSES and fact.attempt == row.tries:
                jobs += self._after_lost_try(row, fact, reasons, now)
            else:
                jobs.append(self._job(row, row.tries, seconds_until(row.run_at, now)))
        made = self._runtime.dispatcher.dispatch(jobs, exact=is_suspect) if jobs else 0
        confirmed = live + [job.id for job in jobs]
        if confirmed and token:
            with self._runtime.database.write() as session:
                store.confirm_dispatched(session, confirmed, epoch=epoch_number(token))
        if made:
            log.info("messages_relayed", count=made, suspects=is_suspect)
        return made

    def _after_lost_try(
        self, row: Message, fact: JobFact, reasons: Mapping[str, str], now: datetime
    ) -> list[JobSpec]:
        reason = reasons.get(row.id) or fact.note or "lost"
        outcome = record_lost_try(self._runtime, row, reason=reason, now=now)
        if outcome.delay_s is None:
            self._runtime.dispatcher.forget([(row.id, row.queue)])
            return []
        return [self._job(row, outcome.attempt, outcome.delay_s)]

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


def epoch_number(token: str | None) -> int:
    number = (token or "0").partition(":")[0]
    return int(number) if number.isdigit() else 0
