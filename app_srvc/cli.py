"""The command line: `app-srvc`. Acts through the same functions as the API and the pages."""

import sys
from pathlib import Path

import click

from app_srvc import __version__
from app_srvc.cli_db import EXIT_WITH_FINDINGS, db
from app_srvc.cli_output import (
    show_books,
    show_legacy_jobs,
    show_message,
    show_pause,
    show_queue,
    show_robot,
    show_robot_keys,
)
from app_srvc.cli_runtime import cli_runtime, cli_settings
from app_srvc.errors import AppError, ConfigurationError
from app_srvc.logs import configure_logs
from app_srvc.messages import control, pauses, store
from app_srvc.messages.audit import audit_messages
from app_srvc.messages.model import STATES
from app_srvc.robots.audit import audit_robots
from app_srvc.robots.control import robot_status, start_robot, stop_robot
from app_srvc.robots.policy import check_policy
from app_srvc.settings import Settings


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="app-srvc")
def cli() -> None:
    """Asynchronous processing without a message bus."""


def main() -> None:
    """The console script: errors of ours are one clear message and exit status 1, not a traceback."""
    try:
        cli()
    except ConfigurationError as error:
        for problem in error.problems:
            click.echo(f"app-srvc: {problem}", err=True)
        sys.exit(1)
    except AppError as error:
        click.echo(f"app-srvc: {error.message}", err=True)
        sys.exit(1)


@cli.command()
@click.option("--port", type=click.IntRange(0, 65535), help="Port of the web part.")
@click.option("--data-dir", type=click.Path(path_type=Path), help="Folder for everything it keeps.")
def up(port: int | None, data_dir: Path | None) -> None:
    """Run the whole service on this machine: its own Valkey, SQLite, web and workers."""
    from app_srvc.up import run_up

    sys.exit(run_up(port=port, data_dir=data_dir))


@cli.command()
def web() -> None:
    """Run the web part (gunicorn)."""
    from app_srvc.container import run_web

    run_web()


@cli.command()
@click.argument("queues", nargs=-1, required=True)
@click.option("--processes", type=click.IntRange(1, 64), default=1, show_default=True)
def worker(queues: tuple[str, ...], processes: int) -> None:
    """Run workers that drain QUEUES, PROCESSES of them for each queue."""
    from app_srvc.workers.pool import run_pools

    settings = Settings.from_env(part="worker")
    configure_logs(settings)
    sys.exit(run_pools(settings, queues, processes))


@cli.group()
def robot() -> None:
    """Start, stop and look at robots."""


@robot.command("start")
@click.argument("name")
@click.option(
    "--timedelta", type=int, default=15, show_default=True, help="Seconds between cycles."
)
@click.option(
    "--records", type=int, default=20, show_default=True, help="Most messages of a cycle."
)
@click.option("--msg", default="started from the command line", show_default=True)
def robot_start(name: str, timedelta: int, records: int, msg: str) -> None:
    """Start robot NAME; its first cycle is TIMEDELTA seconds from now."""
    with cli_runtime() as runtime:
        fields = {"timedelta": timedelta, "records": records, "msg": msg}
        show_robot(start_robot(runtime, name, check_policy(fields, runtime.settings)))


@robot.command("stop")
@click.argument("name")
def robot_stop(name: str) -> None:
    """Stop robot NAME. No cycle starts afterwards."""
    with cli_runtime() as runtime:
        show_robot(stop_robot(runtime, name))


@robot.command("status")
@click.argument("name")
def robot_status_command(name: str) -> None:
    """Show what robot NAME does."""
    with cli_runtime() as runtime:
        show_robot(robot_status(runtime, name))


@cli.group()
def message() -> None:
    """Look at messages, replay and cancel them."""


@message.command("show")
@click.argument("message_id")
def message_show(message_id: str) -> None:
    """Show one message, without its payload."""
    with cli_runtime() as runtime:
        with runtime.database.read() as session:
            row = store.find_message(session, message_id)
            tries = store.list_tries(session, message_id)
        if row is None:
            raise click.ClickException(f"There is no message {message_id}.")
        show_message(row, tries)


@message.command("list")
@click.option("--state", type=click.Choice(STATES))
@click.option("--kind")
@click.option("--key", help="The business key, exactly.")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True)
def message_list(state: str | None, kind: str | None, key: str | None, limit: int) -> None:
    """List messages, the newest first."""
    with cli_runtime() as runtime:
        with runtime.database.read() as session:
            rows = store.list_messages(session, state=state, kind=kind, key=key, limit=limit)
        for row in rows:
            accepted_at = row.accepted_at.isoformat(timespec="seconds")
            click.echo(
                f"{row.id}  {row.kind:<14} {row.state:<10} {accepted_at}  {row.reason or ''}"
            )


@message.command("replay")
@click.argument("message_id")
def message_replay(message_id: str) -> None:
    """Have a failed or done message done again."""
    with cli_runtime() as runtime:
        click.echo(control.replay_message(runtime, message_id).message_id)


@message.command("cancel")
@click.argument("message_id")
def message_cancel(message_id: str) -> None:
    """Cancel a message that is to be done."""
    with cli_runtime() as runtime:
        control.cancel_message(runtime, message_id)
        click.echo("cancelled")


@cli.group()
def queue() -> None:
    """Look at queues, pause and resume them."""


@queue.command("list")
def queue_list() -> None:
    """Show each queue and how many jobs wait, run and are planned in it."""
    with cli_runtime() as runtime:
        with runtime.database.read() as session:
            paused = pauses.list_paused_queues(session)
        for name in runtime.settings.queue_names:
            sizes = runtime.dispatcher.queue_sizes(name)
            show_queue(name, sizes, is_paused=name in paused)


@queue.command("pause")
@click.argument("name")
def queue_pause(name: str) -> None:
    """Have no worker take jobs from queue NAME. What runs goes on to its end."""
    with cli_runtime() as runtime:
        show_pause("paused", obeyed=pauses.pause_queue(runtime, name))


@queue.command("resume")
@click.argument("name")
def queue_resume(name: str) -> None:
    """Have workers take jobs from queue NAME again."""
    with cli_runtime() as runtime:
        show_pause("resumed", obeyed=pauses.resume_queue(runtime, name))


@queue.command("legacy")
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def queue_legacy(as_json: bool) -> None:
    """List pickled jobs in our queues, such as the prototype's, and what to do with each.

    Workers refuse such jobs. Nothing is changed. Exit status 3 says that there are some.
    """
    from app_srvc.workers.legacy_jobs import list_legacy_jobs, robot_keys

    with cli_runtime() as runtime:
        found = show_legacy_jobs(
            list_legacy_jobs(runtime.redis, runtime.settings.queue_names),
            runtime.settings.queue_names,
            as_json=as_json,
        )
        show_robot_keys(robot_keys(runtime.redis), as_json=as_json)
    sys.exit(EXIT_WITH_FINDINGS if found else 0)


cli.add_command(db)


@cli.command()
@click.option("--json", "as_json", is_flag=True, help="Print JSON lines.")
def audit(as_json: bool) -> None:
    """Compare the books; exit with 1 if they do not balance."""
    with cli_runtime() as runtime:
        lines = [*audit_messages(runtime), *audit_robots(runtime)]
    show_books(lines, as_json=as_json)
    sys.exit(0 if all(line.is_balanced for line in lines) else 1)


@cli.command()
def doctor() -> None:
    """Check every setting and connection, and say what to do about each that fails."""
    from app_srvc.doctor import render_checks, run_checks

    checks = run_checks(cli_settings())
    click.echo(render_checks(checks))
    sys.exit(0 if all(check.ok for check in checks) else 1)


if __name__ == "__main__":
    main()
