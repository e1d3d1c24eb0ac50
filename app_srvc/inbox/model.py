"""The table of what other systems handed over."""

from datetime import datetime

from sqlalchemy import String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app_srvc.database import Base


class InboxItem(Base):
    """One document as it came: `content_type` and the very text of the body."""

    __tablename__ = "inbox_items"

    message_id: Mapped[str] = mapped_column(String(36), primary_key=True)
    content_type: Mapped[str] = mapped_column(String(64))
    body: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
