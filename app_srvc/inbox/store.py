"""Queries about the inbox."""

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from app_srvc.inbox.model import InboxItem


def count_effects(session: Session) -> int:
    return session.execute(select(func.count()).select_from(InboxItem)).scalar_one()
