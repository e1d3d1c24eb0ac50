"""The tables of robots and their cycles."""

from datetime import datetime
from typing import Final

from sqlalchemy import BigInteger, Index, Integer, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from app_srvc.database import Base

RUNNING: Final = "running"
STOPPED: Final = "stopped"

CYCLE_RUNNING: Final = "running"
CYCLE_DONE: Final = "done"
CYCLE_FAILED: Final = "failed"
CYCLE_STOPPED: Final = "stopped"


class Robot(Base):
    """What a robot should be doing.

    `generation` is raised by every start and stop: a cycle of another generation writes nothing.
    `next_cycle` never goes down, not even over generations. `watermark` is shown, and for sources
    that can be asked "after X" it is X.
    """

    __tablename__ = "robots"

    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    generation: Mapped[int] = mapped_column(BigInteger)
    next_cycle: Mapped[int] = mapped_column(BigInteger)
    next_due_at: Mapped[datetime | None]
    watermark: Mapped[str | None] = mapped_column(Text)
    policy: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime]
    updated_at: Mapped[datetime]


class Cycle(Base):
    """One run of a robot.

    `owner` and `lease_until` say who may write; `cursor` is where the next page begins, kept with
    the page that was committed before it, so that another process can go on from there.
    """

    __tablename__ = "cycles"
    __table_args__ = (
        Index("ix_cycles_robot_number", "robot", "number"),
        Index("ix_cycles_state", "state"),
    )

    robot: Mapped[str] = mapped_column(String(40), primary_key=True)
    generation: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    state: Mapped[str] = mapped_column(String(16))
    owner: Mapped[str] = mapped_column(String(64))
    lease_until: Mapped[datetime]
    cursor: Mapped[str | None] = mapped_column(Text)
    pages: Mapped[int] = mapped_column(Integer, default=0)
    fetched: Mapped[int] = mapped_column(Integer, default=0)
    new: Mapped[int] = mapped_column(Integer, default=0)
    duplicate: Mapped[int] = mapped_column(Integer, default=0)
    rejected: Mapped[int] = mapped_column(Integer, default=0)
    watermark_before: Mapped[str | None] = mapped_column(Text)
    watermark_after: Mapped[str | None] = mapped_column(Text)
    started_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    error: Mapped[str | None] = mapped_column(Text)


class RejectedRecord(Base):
    """A record that does not parse, kept once however often the source shows it. `raw` is cut at 64 kB."""

    __tablename__ = "rejected_records"

    robot: Mapped[str] = mapped_column(String(40), primary_key=True)
    digest: Mapped[str] = mapped_column(String(64), primary_key=True)
    reason: Mapped[str] = mapped_column(Text)
    raw: Mapped[str] = mapped_column(Text)
    first_cycle: Mapped[int] = mapped_column(BigInteger)
    last_cycle: Mapped[int] = mapped_column(BigInteger)
    first_seen_at: Mapped[datetime]
    last_seen_at: Mapped[datetime]
