"""The tables of todos."""

from datetime import datetime

from sqlalchemy import BigInteger, Boolean, Index, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app_srvc.database import Base


class Todo(Base):
    """A todo as its source last showed it.

    `message_seq` is the place in the ledger of the message that wrote it: an older message that is
    handled later does not overwrite a newer one.
    """

    __tablename__ = "todos"
    __table_args__ = (Index("ix_todos_user_id", "user_id"),)

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    user_id: Mapped[int] = mapped_column(BigInteger)
    title: Mapped[str] = mapped_column(Text)
    due_on: Mapped[datetime | None]
    status: Mapped[str] = mapped_column(String(16))
    message_seq: Mapped[int] = mapped_column(BigInteger)
    updated_at: Mapped[datetime]


class TodoChange(Base):
    """The effect of one message: which todo it was about, and whether it was the newest word on it."""

    __tablename__ = "todo_changes"
    __table_args__ = (Index("ix_todo_changes_todo_id", "todo_id"),)

    message_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    todo_id: Mapped[int] = mapped_column(BigInteger)
    was_newest: Mapped[bool] = mapped_column(Boolean)
    created_at: Mapped[datetime]
