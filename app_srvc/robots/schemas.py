"""What the API says about robots and cycles, field by field."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from app_srvc.messages.model import ACCEPTED, CANCELLED, DONE, FAILED
from app_srvc.robots.control import RobotStatus
from app_srvc.robots.model import CYCLE_RUNNING, Cycle
from app_srvc.times import rfc3339

# What a running robot waits for; nothing, while a cycle runs.
WAITS_FOR_TIME = "time"
WAITS_FOR_WORKER = "worker"


def cycle_fields(cycle: Cycle, items: Mapping[str, int]) -> dict[str, Any]:
    """A cycle as it is shown. `items` says how many of its messages are in which state."""
    done, failed, cancelled = items.get(DONE, 0), items.get(FAILED, 0), items.get(CANCELLED, 0)
    in_flight = items.get(ACCEPTED, 0)
    return {
        "robot": cycle.robot,
        "generation": cycle.generation,
        "number": cycle.number,
        "state": cycle.state,
        "started_at": rfc3339(cycle.started_at),
        "ended_at": rfc3339(cycle.ended_at),
        "fetched": cycle.fetched,
        "new": cycle.new,
        "duplicate": cycle.duplicate,
        "rejected": cycle.rejected,
        "done": done,
        "failed": failed,
        "cancelled": cancelled,
        "in_flight": in_flight,
        "watermark_before": cycle.watermark_before,
        "watermark_after": cycle.watermark_after,
        "error": cycle.error,
        "balanced": (
            cycle.fetched == cycle.new + cycle.duplicate + cycle.rejected
            and cycle.new == done + failed + cancelled + in_flight
        ),
    }


def robot_fields(
    status: RobotStatus, last_cycle: dict[str, Any] | None, *, now: datetime
) -> dict[str, Any]:
    """A robot as it is shown. `last_cycle` is the newest cycle's fields, also while it runs."""
    return {
        "name": status.name,
        "state": status.state,
        "generation": status.generation,
        "next_cycle": status.next_cycle,
        "next_due_at": rfc3339(status.next_due_at),
        "watermark": status.watermark,
        "policy": status.policy,
        "waiting_for": waiting_for(status, last_cycle, now=now),
        "last_cycle": last_cycle,
    }


def waiting_for(
    status: RobotStatus, last_cycle: Mapping[str, Any] | None, *, now: datetime
) -> str | None:
    """What a robot waits for: `time`, or a `worker` when its next cycle is due; None for nothing."""
    if not status.is_running or status.next_due_at is None:
        return None
    if status.next_due_at > now:
        return WAITS_FOR_TIME
    is_in_cycle = (
        last_cycle is not None
        and last_cycle["state"] == CYCLE_RUNNING
        and last_cycle["generation"] == status.generation
    )
    return None if is_in_cycle else WAITS_FOR_WORKER
