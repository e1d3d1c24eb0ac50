"""Short ways to do with messages what the parts of the service do."""

from datetime import UTC, datetime
from typing import Any

from app_srvc.errors import AppError
from app_srvc.messages import store
from app_srvc.messages.accept import Accepted, Draft, draft, insert_drafts, job_specs
from app_srvc.messages.model import Message
from app_srvc.runtime import Runtime


def draft_note(runtime: Runtime, text: str, *, kind: str = "keep_note", **more: Any) -> Draft:
    row = runtime.kinds[kind]
    return draft(row, runtime.queue_of(row), {"text": text}, **more)


def insert(runtime: Runtime, *drafts: Draft) -> list[Accepted | AppError]:
    """Accept drafts in one transaction, without dispatching them."""
    with runtime.database.write() as session:
        return insert_drafts(
            runtime.database,
            session,
            drafts,
            now=datetime.now(UTC),
        )


def accept_note(
    runtime: Runtime, text: str = "hello", *, kind: str = "keep_note", is_dispatched: bool = True
) -> Accepted:
    """Accept one note, and put its job on the queue unless told otherwise."""
    (answer,) = insert(runtime, draft_note(runtime, text, kind=kind))
    assert isinstance(answer, Accepted)
    if is_dispatched:
        assert runtime.dispatcher.dispatch(job_specs([answer], datetime.now(UTC))) == 1
    return answer


def read_message(runtime: Runtime, message_id: str) -> Message:
    with runtime.database.read() as session:
        row = store.find_message(session, message_id)
    assert row is not None
    return row
