"""Accepting: rows, receipts, and what makes a message one."""

import threading
from datetime import UTC, datetime

import pytest
from sqlalchemy import func, select

from app_srvc.errors import AppError, IdempotencyConflictError, LedgerUnavailableError
from app_srvc.messages.accept import Accepted, insert_drafts
from app_srvc.messages.group_commit import GroupCommit
from app_srvc.messages.model import Message, Receipt
from app_srvc.runtime import Runtime
from tests.support.messages import draft_note, insert, read_message
from tests.support.waiting import wait_until


def test_an_accepted_message_is_a_row_and_a_receipt(world: Runtime) -> None:
    (answer,) = insert(world, draft_note(world, "hello"))
    assert isinstance(answer, Accepted)
    row = read_message(world, answer.message_id)
    assert (row.kind, row.state, row.key, row.tries) == ("keep_note", "accepted", "hello", 0)
    with world.database.read() as session:
        assert session.execute(select(func.sum(Receipt.accepted))).scalar_one() == 1


def test_the_same_key_and_body_give_the_same_message(world: Runtime) -> None:
    first, second = insert(
        world,
        draft_note(world, "hello", idempotency_key="k1"),
        draft_note(world, "hello", idempotency_key="k1"),
    )
    (third,) = insert(world, draft_note(world, "hello", idempotency_key="k1"))
    assert isinstance(first, Accepted)
    assert isinstance(second, Accepted)
    assert isinstance(third, Accepted)
    assert first.message_id == second.message_id == third.message_id
    assert [first.is_duplicate, second.is_duplicate, third.is_duplicate] == [False, True, True]
    assert _count_messages(world) == 1


def test_the_same_key_with_another_body_is_refused_alone(world: Runtime) -> None:
    insert(world, draft_note(world, "hello", idempotency_key="k1"))
    other, fresh = insert(
        world,
        draft_note(world, "goodbye", idempotency_key="k1"),
        draft_note(world, "fresh", idempotency_key="k2"),
    )
    assert isinstance(other, IdempotencyConflictError)
    assert isinstance(fresh, Accepted)
    assert _count_messages(world) == 2


def test_the_same_key_from_many_threads_at_once_gives_one_message(world: Runtime) -> None:
    answers: list[Accepted | AppError] = []
    barrier = threading.Barrier(8)

    def submit() -> None:
        barrier.wait()
        answers.extend(insert(world, draft_note(world, "hello", idempotency_key="k1")))

    _run_in_threads(submit, 8)
    ids = {answer.message_id for answer in answers if isinstance(answer, Accepted)}
    assert len(answers) == 8
    assert len(ids) == 1
    assert _count_messages(world) == 1


def test_drafts_that_arrive_together_share_a_commit(world: Runtime) -> None:
    sizes: list[int] = []
    is_first_in = threading.Event()
    may_go_on = threading.Event()

    def commit(drafts, deadline):  # type: ignore[no-untyped-def]
        sizes.append(len(drafts))
        is_first_in.set()
        may_go_on.wait(10)
        with world.database.write() as session:
            return insert_drafts(
                world.database,
                session,
                drafts,
                now=datetime.now(UTC),
            )

    group = GroupCommit(commit)
    first = threading.Thread(
        target=group.submit, args=(draft_note(world, "0"),), kwargs={"timeout_s": 10}
    )
    first.start()
    assert is_first_in.wait(10)
    others = [
        threading.Thread(
            target=group.submit, args=(draft_note(world, str(n)),), kwargs={"timeout_s": 10}
        )
        for n in range(1, 11)
    ]
    for thread in others:
        thread.start()
    wait_until(lambda: group.waiting_count == 10, 10)
    may_go_on.set()
    for thread in [first, *others]:
        thread.join(10)
    assert sizes == [1, 10]
    assert _count_messages(world) == 11


def test_a_draft_whose_caller_has_left_is_not_written(world: Runtime) -> None:
    is_busy, may_go_on = threading.Event(), threading.Event()
    written: list[str] = []

    def commit(drafts, deadline):  # type: ignore[no-untyped-def]
        is_busy.set()
        may_go_on.wait(10)
        written.extend(item.key for item in drafts)
        return [LedgerUnavailableError() for _ in drafts]

    group = GroupCommit(commit)
    blocker = threading.Thread(
        target=_submit_quietly, args=(group, draft_note(world, "blocker"), 10.0)
    )
    blocker.start()
    assert is_busy.wait(10)
    with pytest.raises(LedgerUnavailableError):
        group.submit(draft_note(world, "impatient"), timeout_s=0.2)
    may_go_on.set()
    blocker.join(10)
    _submit_quietly(group, draft_note(world, "last"), 10.0)
    assert written == ["blocker", "last"]


def test_an_unexpected_error_reaches_the_callers_and_the_committer_lives_on(world: Runtime) -> None:
    calls: list[int] = []

    def commit(drafts, deadline):  # type: ignore[no-untyped-def]
        calls.append(len(drafts))
        raise RuntimeError("boom")

    group = GroupCommit(commit)
    for _ in range(2):
        with pytest.raises(AppError) as caught:
            group.submit(draft_note(world, "x"), timeout_s=5)
        assert isinstance(caught.value.__cause__, RuntimeError)
    assert calls == [1, 1]


def _submit_quietly(group: GroupCommit, item, timeout_s: float) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(LedgerUnavailableError):
        group.submit(item, timeout_s=timeout_s)


def _run_in_threads(target, count: int) -> None:  # type: ignore[no-untyped-def]
    threads = [threading.Thread(target=target) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)


def _count_messages(world: Runtime) -> int:
    with world.database.read() as session:
        return session.execute(select(func.count()).select_from(Message)).scalar_one()
