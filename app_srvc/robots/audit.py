"""The books of robots: each cycle's own count, against the receipts of its pages and the rows it made."""

from sqlalchemy import select

from app_srvc.messages.audit import Line, cycle_accounts
from app_srvc.messages.model import ACCEPTED
from app_srvc.robots.model import Cycle, Robot
from app_srvc.runtime import Runtime


def audit_robots(runtime: Runtime) -> list[Line]:
    """A line for each robot, with a problem for each of its cycles that does not balance."""
    lines: list[Line] = []
    with runtime.database.snapshot() as session:
        for robot in session.execute(select(Robot).order_by(Robot.name)).scalars():
            accounts = cycle_accounts(session, robot.name)
            cycles = list(
                session.execute(
                    select(Cycle).where(Cycle.robot == robot.name).order_by(Cycle.number)
                ).scalars()
            )
            lines.append(_robot_line(robot, cycles, accounts))
    return lines


def _robot_line(
    robot: Robot, cycles: list[Cycle], accounts: dict[int, tuple[int, dict[str, int]]]
) -> Line:
    problems: list[str] = []
    numbers = [cycle.number for cycle in cycles]
    if len(set(numbers)) != len(numbers):
        problems.append("a cycle number was given twice")
    for cycle in cycles:
        problems += _cycle_problems(cycle, *accounts.pop(cycle.number, (0, {})))
    problems += [f"cycle {number} has messages but no row" for number in sorted(accounts)]
    running = [cycle.number for cycle in cycles if cycle.state == "running"]
    if len(running) > 1:
        problems.append(f"cycles {running} run at once")
    figures = {
        "state": robot.state,
        "generation": robot.generation,
        "cycles": len(cycles),
        "fetched": sum(cycle.fetched for cycle in cycles),
        "new": sum(cycle.new for cycle in cycles),
        "duplicate": sum(cycle.duplicate for cycle in cycles),
        "rejected": sum(cycle.rejected for cycle in cycles),
    }
    return Line(f"robot {robot.name}", figures, tuple(problems))


def _cycle_problems(cycle: Cycle, receipts: int, states: dict[str, int]) -> list[str]:
    problems = []
    parts = cycle.new + cycle.duplicate + cycle.rejected
    rows = sum(states.values())
    subject = f"cycle {cycle.number}"
    if cycle.fetched != parts:
        problems.append(
            f"{subject}: fetched {cycle.fetched}, but new, duplicate and rejected are {parts}"
        )
    if cycle.new != receipts:
        problems.append(f"{subject}: new {cycle.new}, but its receipts say {receipts}")
    if cycle.new != rows:
        to_do = states.get(ACCEPTED, 0)
        problems.append(f"{subject}: new {cycle.new}, but {rows} messages ({to_do} to do)")
    return problems
