"""Intake: how a web process hands messages over. Requests that arrive together share a commit."""

import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

from app_srvc.deadlines import BrokerCalls, LedgerCalls
from app_srvc.errors import BrokerUnavailableError, LedgerUnavailableError
from app_srvc.messages.accept import Accepted, Draft, insert_drafts, job_specs
from app_srvc.messages.group_commit import Answer, GroupCommit
from app_srvc.runtime import Runtime

# A request waits at most so long: for the commit that is on its way, and then for its own.
SUBMIT_S = 1.6
COMMIT_S = 1.2


class Intake:
    """Accepts drafts: commits them in groups, then puts their jobs on the queues.

    The commits have a thread of their own, so that slow reads can't hold up what people send.
    """

    def __init__(self, runtime: Runtime, broker: BrokerCalls) -> None:
        self._runtime = runtime
        self._ledger = LedgerCalls(is_sqlite=runtime.database.is_sqlite, threads=1)
        self._broker = broker
        self._group = GroupCommit(self._commit, self._dispatch)

    def accept(self, draft: Draft) -> Accepted:
        """Put a draft into the ledger and return its answer; the message is kept from then on.

        With Redis away the message is accepted all the same, and the relay dispatches it later.

        Raises:
            LedgerUnavailableError: Nothing was promised.
            IdempotencyConflictError: The idempotency key was used before, with another body.
        """
        return self._group.submit(draft, timeout_s=SUBMIT_S)

    def close(self) -> None:
        """End in order: what was accepted is dispatched, as far as Redis is there."""
        self._group.close()

    def _commit(self, drafts: Sequence[Draft], deadline: float) -> Sequence[Answer]:
        now = datetime.now(UTC)
        latest = min(deadline, time.monotonic() + COMMIT_S)
        return self._ledger.run(lambda: self._insert(drafts, now, latest), timeout_s=COMMIT_S)

    def _dispatch(self, answers: Sequence[Answer]) -> None:
        """Put the jobs on their queues; what fails here is left to the relay."""
        jobs = job_specs(answers, datetime.now(UTC))
        if jobs:
            with suppress(BrokerUnavailableError):
                self._broker.run(lambda: self._runtime.dispatcher.dispatch(jobs))

    def _insert(self, drafts: Sequence[Draft], now: datetime, latest: float) -> list[Answer]:
        database = self._runtime.database
        with database.write() as session:
            answers = insert_drafts(database, session, drafts, now=now)
            if time.monotonic() > latest:
                # The callers have been told that nothing was promised: keep it so.
                raise LedgerUnavailableError("The database did not answer in time.")
            return answers
