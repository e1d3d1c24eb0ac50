"""The table of users."""

from datetime import datetime

from sqlalchemy import Index, String
from sqlalchemy.orm import Mapped, mapped_column

from app_srvc.database import Base
from app_srvc.messages.model import Sequence


class User(Base):
    """A registered user. `message_id` is the message whose effect the row is, so it can exist once."""

    __tablename__ = "users"
    __table_args__ = (
        Index("uq_users_login", "login", unique=True),
        Index("uq_users_message_id", "message_id", unique=True),
        Index("ix_users_email", "email"),
        Index("ix_users_last_name", "last_name"),
        {"sqlite_autoincrement": True},
    )

    id: Mapped[int] = mapped_column(Sequence, primary_key=True, autoincrement=True)
    first_name: Mapped[str] = mapped_column(String(35))
    last_name: Mapped[str] = mapped_column(String(35))
    login: Mapped[str] = mapped_column(String(35))
    email: Mapped[str] = mapped_column(String(254))
    phone: Mapped[str] = mapped_column(String(20))
    status: Mapped[str] = mapped_column(String(1), default="O")
    created_at: Mapped[datetime]
    message_id: Mapped[str] = mapped_column(String(36))
