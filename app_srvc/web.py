"""What every view works with: the ledger and Redis under deadlines, and the intake of messages."""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TypeVar

import redis
from flask import current_app
from sqlalchemy.orm import Session

from app_srvc.auth import Credentials
from app_srvc.deadlines import BROKER_S, LEDGER_S, BrokerCalls, LedgerCalls, within_budget
from app_srvc.errors import BrokerUnavailableError
from app_srvc.messages.deferred import DeferredDispatch
from app_srvc.messages.intake import Intake
from app_srvc.runtime import Runtime

EXTENSION = "app_srvc"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Web:
    """The parts of one application. All that a request waits for comes out of one budget of time."""

    runtime: Runtime
    ledger: LedgerCalls
    broker: BrokerCalls
    intake: Intake
    credentials: Credentials

    def read(self, query: Callable[[Session], T]) -> T:
        """Run queries that all see the same moment.

        Raises:
            LedgerUnavailableError: The database did not answer in time.
        """

        def run() -> T:
            with self.runtime.database.snapshot() as session:
                return query(session)

        return self.call_ledger(run)

    def call_ledger(self, call: Callable[[], T]) -> T:
        """Run a call to the database.

        Raises:
            LedgerUnavailableError: The database did not answer in time.
        """
        return self.ledger.run(call, timeout_s=within_budget(LEDGER_S))

    def act(self, action: Callable[[Runtime], T]) -> T:
        """Run an action on the ledger, then what it wants done in Redis, as far as Redis is there.

        Raises:
            LedgerUnavailableError: The database did not answer in time.
        """
        deferred = DeferredDispatch(self.runtime.dispatcher)
        runtime = replace(self.runtime, dispatcher=deferred)
        answer = self.call_ledger(lambda: action(runtime))
        with suppress(BrokerUnavailableError):
            self.broker.run(deferred.carry_out, timeout_s=within_budget(BROKER_S))
        return answer

    def ask_redis(self, question: Callable[[redis.Redis], T]) -> T | None:
        """Ask Redis something; None if it can't be asked now, so that pages go on without it."""
        try:
            return self.broker.run(
                lambda: question(self.runtime.redis), timeout_s=within_budget(BROKER_S)
            )
        except BrokerUnavailableError:
            return None


def current_web() -> Web:
    """The parts of the application that handles the present request."""
    web: Web = current_app.extensions[EXTENSION]
    return web
