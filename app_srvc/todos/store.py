"""Queries about todos."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app_srvc.todos.model import Todo, TodoChange


def list_todos(session: Session, *, before_id: int | None = None, limit: int = 50) -> list[Todo]:
    """Todos from the highest id of the source on."""
    query = select(Todo).order_by(Todo.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(Todo.id < before_id)
    return list(session.execute(query).scalars())


def find_todo_for_update(session: Session, todo_id: int) -> Todo | None:
    return session.execute(
        select(Todo).where(Todo.id == todo_id).with_for_update()
    ).scalar_one_or_none()


def count_effects(session: Session) -> int:
    return session.execute(select(func.count()).select_from(TodoChange)).scalar_one()
