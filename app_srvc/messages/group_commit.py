"""Group commit: requests that arrive together share a transaction.

A commit with `synchronous=FULL` costs the same for one row as for fifty. While one batch is being
committed the next one gathers; nobody waits for a timer.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence

from app_srvc.errors import AppError, LedgerUnavailableError
from app_srvc.logs import get_logger
from app_srvc.messages.accept import Accepted, Draft

Answer = Accepted | AppError

MAX_BATCH = 200

log = get_logger(__name__)


class GroupCommit:
    """Commits the drafts of many callers in few transactions.

    `commit` takes drafts, and the moment (of `time.monotonic`) after which it must not commit them.
    It returns an answer for each, after the transaction has ended; it raises
    `LedgerUnavailableError` if nothing was committed. `follow_up` is given the answers once the
    callers have them: what is done there makes no caller wait. Both are called by one thread (a
    greenlet under gevent), which starts with the first draft, so it is safe to make this before a
    fork.
    """

    def __init__(
        self,
        commit: Callable[[Sequence[Draft], float], Sequence[Answer]],
        follow_up: Callable[[Sequence[Answer]], None] = lambda _: None,
    ) -> None:
        self._commit = commit
        self._follow_up = follow_up
        self._waiting: deque[_Ticket] = deque()
        self._has_work = threading.Event()
        self._start_lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def submit(self, item: Draft, *, timeout_s: float) -> Accepted:
        """Commit a draft together with what others submit now, and return the ledger's answer.

        Raises:
            LedgerUnavailableError: Nothing was promised. If the time-out came while the commit was
                on its way, the row may still come to be; a caller that tries again with the same
                idempotency key gets that one.
            AppError: The ledger refused this draft (`IdempotencyConflictError`).
        """
        ticket = _Ticket(item, time.monotonic() + timeout_s)
        self._start_if_needed()
        self._waiting.append(ticket)
        self._has_work.set()
        if not ticket.is_answered.wait(timeout_s):
            ticket.is_abandoned = True
            raise LedgerUnavailableError("The database did not answer in time.")
        if isinstance(ticket.answer, Accepted):
            return ticket.answer
        raise ticket.answer

    @property
    def waiting_count(self) -> int:
        """Drafts that wait for the next batch."""
        return len(self._waiting)

    def close(self, timeout_s: float = 5.0) -> None:
        """End the thread once what was submitted is answered and followed up."""
        self._is_closing = True
        self._has_work.set()
        if self._thread is not None:
            self._thread.join(timeout_s)

    def _start_if_needed(self) -> None:
        if self._thread is not None:
            return
        with self._start_lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="group-commit", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while not self._is_closing:
            self._has_work.wait()
            self._has_work.clear()
            while batch := self._next_batch():
                self._answer(batch)

    def _next_batch(self) -> list["_Ticket"]:
        """Those who still wait. Whoever has left was told 503: a row of theirs would be a surprise."""
        batch: list[_Ticket] = []
        now = time.monotonic()
        while self._waiting and len(batch) < MAX_BATCH:
            ticket = self._waiting.popleft()
            if not ticket.is_abandoned and ticket.deadline > now:
                batch.append(ticket)
        return batch

    def _answer(self, batch: list["_Ticket"]) -> None:
        answers: Sequence[Answer]
        try:
            # Whoever leaves first decides: nobody may be told 503 and then find his row.
            deadline = min(ticket.deadline for ticket in batch)
            answers = self._commit([ticket.draft for ticket in batch], deadline)
        except AppError as error:
            answers = [error] * len(batch)
        except Exception as error:
            # The committer must live on; the callers see an internal error, and its cause is chained.
            answers = [_unexpected(error) for _ in batch]
        for ticket, answer in zip(batch, answers, strict=True):
            ticket.answer = answer
            ticket.is_answered.set()
        try:
            self._follow_up(answers)
        except Exception:
            # The thread must outlive this: it is the only one, and everybody waits for it.
            log.exception("follow_up_failed", count=len(answers))


class _Ticket:
    __slots__ = ("answer", "deadline", "draft", "is_abandoned", "is_answered")

    def __init__(self, item: Draft, deadline: float) -> None:
        self.draft = item
        self.deadline = deadline
        self.is_abandoned = False
        self.is_answered = threading.Event()
        self.answer: Answer = LedgerUnavailableError()


def _unexpected(error: Exception) -> AppError:
    wrapped = AppError("The messages could not be written.")
    wrapped.__cause__ = error
    return wrapped
