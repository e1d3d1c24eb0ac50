"""The work of one fetched todo: insert it, or update it unless something newer is known."""

from datetime import datetime

from sqlalchemy.orm import Session

from app_srvc.messages.handling import Effect, HandlerContext
from app_srvc.todos import store
from app_srvc.todos.model import Todo as TodoRow
from app_srvc.todos.model import TodoChange
from app_srvc.todos.schemas import Todo


def handle(todo: Todo, context: HandlerContext) -> Effect:
    def write_todo(session: Session, now: datetime) -> None:
        row = store.find_todo_for_update(session, todo.id)
        was_newest = row is None or row.message_seq < context.seq
        if row is None:
            row = TodoRow(id=todo.id)
            session.add(row)
        if was_newest:
            row.user_id = todo.user_id
            row.title = todo.title
            row.due_on = todo.due_on
            row.status = todo.status
            row.message_seq = context.seq
            row.updated_at = now
        session.add(
            TodoChange(
                message_id=context.message_id,
                todo_id=todo.id,
                was_newest=was_newest,
                created_at=now,
            )
        )

    return Effect(apply=write_todo, result={"todo": todo.id})
