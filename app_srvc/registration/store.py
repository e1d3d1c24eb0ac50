"""Queries about users."""

from sqlalchemy import func, or_, select
from sqlalchemy.orm import Session

from app_srvc.registration.model import User


def find_by_login(session: Session, login: str) -> User | None:
    return session.execute(select(User).where(User.login == login)).scalar_one_or_none()


def list_users(
    session: Session, *, search: str = "", before_id: int | None = None, limit: int = 50
) -> list[User]:
    """Users from the newest on. `search` is the beginning of a login, a last name or an e-mail."""
    query = select(User).order_by(User.id.desc()).limit(limit)
    if before_id is not None:
        query = query.where(User.id < before_id)
    if search:
        pattern = _prefix_pattern(search)
        query = query.where(
            or_(
                User.login.like(pattern, escape="\\"),
                User.last_name.like(pattern, escape="\\"),
                User.email.like(pattern, escape="\\"),
            )
        )
    return list(session.execute(query).scalars())


def count_effects(session: Session) -> int:
    return session.execute(select(func.count()).select_from(User)).scalar_one()


def _prefix_pattern(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"{escaped}%"
