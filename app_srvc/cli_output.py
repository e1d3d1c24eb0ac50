"""What the command line prints: JSON for single things, a line each for lists."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any

import click

from app_srvc.messages.audit import Line
from app_srvc.messages.dispatch import QueueSizes
from app_srvc.messages.model import Message, MessageTry
from app_srvc.robots.control import RobotStatus
from app_srvc.workers.legacy_jobs import LegacyJob


def show_robot(status: RobotStatus) -> None:
    print_json(
        {
            "name": status.name,
            "state": status.state,
            "generation": status.generation,
            "next_cycle": status.next_cycle,
            "next_due_at": _time(status.next_due_at),
            "watermark": status.watermark,
            "policy": status.policy,
            "job_id": status.job_id,
        }
    )


def message_fields(row: Message) -> dict[str, Any]:
    return {
        "id": row.id,
        "kind": row.kind,
        "key": row.key,
        "state": row.state,
        "reason": row.reason,
        "queue": row.queue,
        "tries": row.tries,
        "max_tries": row.max_tries,
        "accepted_at": _time(row.accepted_at),
        "run_at": _time(row.run_at),
        "ended_at": _time(row.ended_at),
        "error_type": row.error_type,
        "robot": row.robot,
        "cycle": row.cycle,
        "replay_of": row.replay_of,
    }


def show_line(line: Line, as_json: bool) -> None:
    if as_json:
        click.echo(
            json.dumps(
                {
                    "subject": line.subject,
                    "balanced": line.is_balanced,
                    "checked": line.is_checked,
                    **line.figures,
                    "problems": line.problems,
                }
            )
        )
        return
    mark = ("ok " if line.is_checked else "-- ") if line.is_balanced else "BAD"
    figures = "  ".join(f"{name} {value}" for name, value in line.figures.items())
    click.echo(f"{mark} {line.subject}: {figures}")
    for problem in line.problems:
        click.echo(f"    {problem}")


def print_json(value: dict[str, Any]) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def show_message(row: Message, tries: list[MessageTry]) -> None:
    print_json(message_fields(row))
    for attempt in tries:
        click.echo(f"try {attempt.number}: {attempt.reason}, {attempt.error_type}")


def show_message_line(row: Message) -> None:
    accepted_at = row.accepted_at.isoformat(timespec="seconds")
    click.echo(f"{row.id}  {row.kind:<14} {row.state:<10} {accepted_at}  {row.reason or ''}")


def show_queue(name: str, sizes: QueueSizes, *, is_paused: bool) -> None:
    click.echo(
        f"{name:<14} waiting {sizes.waiting:>7}  running {sizes.running:>4}  planned {sizes.planned:>6}"
        + ("  paused" if is_paused else "")
    )


def show_pause(what: str, *, obeyed: bool) -> None:
    click.echo(what if obeyed else f"{what}; workers obey once Redis is back")


def show_legacy_jobs(jobs: Iterable[LegacyJob], queues: Sequence[str], *, as_json: bool) -> int:
    """Each job as it is found, and their number; returns it."""
    count = 0
    for job in jobs:
        count += 1
        if as_json:
            click.echo(json.dumps({**asdict(job), "advice": job.advice}))
            continue
        when = job.enqueued_at or "at a time unknown"
        click.echo(f"{job.queue}  {job.place}  {job.id}  {job.function}  {when}")
        click.echo(f"    {job.advice}")
    if not as_json:
        found = f"Pickled jobs, which workers refuse: {count}." if count else "No pickled jobs."
        click.echo(f"{found} Looked at: {', '.join(queues)}.")
    return count


def show_robot_keys(keys: Mapping[str, str], *, as_json: bool) -> None:
    """What the prototype kept about its robot; the new one does not look at it."""
    if as_json or not keys:
        return
    values = "  ".join(f"{name} {value}" for name, value in keys.items())
    click.echo(f"The prototype's robot: {values}")
    click.echo("    nobody reads these keys after the change; the new robot is started anew")


def show_books(lines: list[Line], *, as_json: bool) -> None:
    """Every line of the books, and the verdict for people."""
    for line in lines:
        show_line(line, as_json)
    if as_json:
        return
    is_balanced = all(line.is_balanced for line in lines)
    click.secho(
        "The books balance." if is_balanced else "The books do NOT balance.",
        fg="green" if is_balanced else "red",
    )
