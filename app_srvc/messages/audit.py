"""The books: two independent records that must agree, read in one snapshot.

What was accepted is written twice: as message rows, and as receipts by the transaction that accepted.
What was done is written twice: as states, and as effects that carry the message's id. What is to be
done must have a live job, or be waiting for the relay. Retention moves purged rows into totals, so no
side ever goes down.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app_srvc.errors import BrokerUnavailableError
from app_srvc.kinds import load
from app_srvc.messages import store
from app_srvc.messages.model import ACCEPTED, CANCELLED, DONE, FAILED, BookTotal, Message, Receipt
from app_srvc.messages.relay import EPOCH_FACT, epoch_number, is_of_epoch
from app_srvc.runtime import Runtime

PAGE = 2_000
BookKey = tuple[str, str, int]


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the books: a subject, its figures, and the sentences that say what does not agree.

    `is_checked` is False where the other side could not be asked.
    """

    subject: str
    figures: Mapping[str, Any]
    problems: tuple[str, ...] = ()
    is_checked: bool = True

    @property
    def is_balanced(self) -> bool:
        return not self.problems


@dataclass(slots=True)
class _Account:
    """Figures of one kind, or of one kind in one cycle."""

    accepted: int = 0
    purged: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    rows: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    def add(self, other: "_Account") -> None:
        self.accepted += other.accepted
        for state, count in other.purged.items():
            self.purged[state] += count
        for state, count in other.rows.items():
            self.rows[state] += count


def audit_messages(runtime: Runtime) -> list[Line]:
    """The books of every kind, and of the jobs behind what is to be done.

    Raises:
        LedgerUnavailableError: The ledger cannot be read.
    """
    with runtime.database.snapshot() as session:
        accounts = _accounts(session)
        kinds: dict[str, _Account] = defaultdict(_Account)
        for (kind, _, _), account in accounts.items():
            kinds[kind].add(account)
        lines = [
            _kind_line(kind, account, _count_effects(runtime, session, kind))
            for kind, account in sorted(kinds.items())
        ]
    return [*lines, _jobs_line(runtime)]


def cycle_accounts(session: Session, robot: str) -> dict[int, tuple[int, dict[str, int]]]:
    """For each cycle number of a robot: what its pages' receipts say, and its rows and purged by state."""
    answer: dict[int, tuple[int, dict[str, int]]] = {}
    for (_, owner, cycle), account in _accounts(session, robot).items():
        if owner == robot:
            states = {
                state: account.rows[state] + account.purged[state]
                for state in (ACCEPTED, DONE, FAILED, CANCELLED)
            }
            answer[cycle] = (account.accepted, states)
    return answer


def _accounts(session: Session, robot: str | None = None) -> dict[BookKey, _Account]:
    accounts: dict[BookKey, _Account] = defaultdict(_Account)
    receipts = select(Receipt.kind, Receipt.robot, Receipt.cycle, func.sum(Receipt.accepted))
    totals = select(BookTotal)
    rows = select(Message.kind, Message.robot, Message.cycle, Message.state, func.count())
    if robot is not None:
        receipts = receipts.where(Receipt.robot == robot)
        totals = totals.where(BookTotal.robot == robot)
        rows = rows.where(Message.robot == robot)
    for kind, owner, cycle, count in session.execute(
        receipts.group_by(Receipt.kind, Receipt.robot, Receipt.cycle)
    ):
        accounts[(kind, owner, cycle)].accepted += int(count)
    for total in session.execute(totals).scalars():
        account = accounts[(total.kind, total.robot, total.cycle)]
        account.accepted += total.accepted
        account.purged[DONE] += total.purged_done
        account.purged[FAILED] += total.purged_failed
        account.purged[CANCELLED] += total.purged_cancelled
    for kind, fetched_by, number, state, count in session.execute(
        rows.group_by(Message.kind, Message.robot, Message.cycle, Message.state)
    ):
        accounts[(kind, fetched_by or "", number or 0)].rows[state] += count
    return accounts


def _count_effects(runtime: Runtime, session: Session, kind: str) -> int | None:
    """Effects of a kind; None for a kind that this process does not know."""
    row = runtime.kinds.get(kind)
    return None if row is None else int(load(row.effects)(session))


def _kind_line(kind: str, account: _Account, effects: int | None) -> Line:
    rows, purged = sum(account.rows.values()), sum(account.purged.values())
    done = account.rows[DONE] + account.purged[DONE]
    problems = []
    if account.accepted != rows + purged:
        problems.append(
            f"receipts say {account.accepted} were accepted, but there are {rows} rows and {purged} purged"
        )
    if effects is not None and effects != done:
        problems.append(f"{done} are done, but there are {effects} effects")
    figures = {
        "accepted": account.accepted,
        "done": done,
        "failed": account.rows[FAILED] + account.purged[FAILED],
        "cancelled": account.rows[CANCELLED] + account.purged[CANCELLED],
        "to_do": account.rows[ACCEPTED],
        "effects": effects,
        "purged": purged,
    }
    return Line(f"kind {kind}", figures, tuple(problems))


def _jobs_line(runtime: Runtime) -> Line:
    """Each message to be done has a live job, or somebody is about to give it one.

    The ledger and Redis can't be read at one moment, so whatever seems to have no job is looked at
    again, and counts only if the ledger still says that it is to be done.
    """
    try:
        counts = _count_jobs(runtime)
    except BrokerUnavailableError:
        with runtime.database.read() as session:
            to_do = store.count_by_state(session).get(ACCEPTED, 0)
        return Line("jobs", {"to_do": to_do, "redis": "cannot be asked"}, is_checked=False)
    lost = counts["without_job"]
    return Line(
        "jobs", counts, (f"{lost} messages are to be done and have no job",) if lost else ()
    )


def _count_jobs(runtime: Runtime) -> dict[str, int]:
    counts = {"with_job": 0, "awaiting_rescue": 0, "waiting_for_relay": 0, "without_job": 0}
    server = runtime.dispatcher.server_id()
    token, _ = runtime.dispatcher.probe([])
    with runtime.database.read() as session:
        known = store.get_fact(session, EPOCH_FACT)
    epoch, is_same_redis = epoch_number(known), is_of_epoch(known, token=token, server=server)
    lists: dict[str, set[int]] = {}
    suspects: list[str] = []
    for page in _pages_to_do(runtime):
        _, facts = runtime.dispatcher.probe([(id, queue) for id, queue, _ in page])
        for (id, queue, seen_in), fact in zip(page, facts, strict=True):
            if fact.is_live and (fact.status != "queued" or _is_listed(runtime, lists, queue, id)):
                counts["with_job"] += 1
            elif fact.awaits_rescue:
                counts["awaiting_rescue"] += 1
            elif not is_same_redis or seen_in < epoch:
                counts["waiting_for_relay"] += 1
            else:
                suspects.append(id)
    counts["without_job"] = _still_without_job(runtime, suspects)
    counts["with_job"] += len(suspects) - counts["without_job"]
    return counts


def _is_listed(runtime: Runtime, lists: dict[str, set[int]], queue: str, id: str) -> bool:
    """Whether an id is in its list. Each list is read once, in pieces."""
    if queue not in lists:
        lists[queue] = runtime.dispatcher.waiting_ids(queue)
    return hash(id) in lists[queue]


def _pages_to_do(runtime: Runtime) -> Any:
    after = 0
    while True:
        with runtime.database.read() as session:
            page = session.execute(
                select(Message.seq, Message.id, Message.queue, Message.dispatched_epoch)
                .where(Message.state == ACCEPTED, Message.seq > after)
                .order_by(Message.seq)
                .limit(PAGE)
            ).all()
        if not page:
            return
        after = page[-1].seq
        yield [(row.id, row.queue, row.dispatched_epoch) for row in page]


def _still_without_job(runtime: Runtime, suspects: list[str]) -> int:
    """How many of them have no job at a second look, and are still to be done after it."""
    lost = 0
    for start in range(0, len(suspects), PAGE):
        ids = suspects[start : start + PAGE]
        with runtime.database.read() as session:
            queues = {row.id: row.queue for row in store.find_messages(session, ids).values()}
        lists: dict[str, set[int]] = {}
        _, facts = runtime.dispatcher.probe(list(queues.items()))
        missing = [
            id
            for (id, queue), fact in zip(queues.items(), facts, strict=True)
            if not fact.awaits_rescue
            and not (
                fact.is_live and (fact.status != "queued" or _is_listed(runtime, lists, queue, id))
            )
        ]
        with runtime.database.read() as session:
            rows = store.find_messages(session, missing).values()
        lost += sum(1 for row in rows if row.state == ACCEPTED)
    return lost
