"""The logs: one line for each event, readable by programs, and without secrets."""

import json
import os
import pty
import re
import subprocess
import sys
from typing import Any

import pytest

from app_srvc.logs import MASK, mask_secrets, mask_text

SETUP = """
import logging, sys, threading
from app_srvc.logs import configure_logs, get_logger, log_context
from app_srvc.settings import Settings

log = get_logger("app_srvc.tests")
configure_logs(Settings(**{settings!r}))
"""


def run(program: str, **settings: str) -> str:
    """Run a program that logs, and return what it wrote to standard error."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", SETUP.format(settings=settings) + program],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == "", "standard output is for the answers of commands"
    return done.stderr


def events_of(program: str, **settings: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in run(program, **settings).splitlines()]


# --- form ---------------------------------------------------------------------------------------


def test_an_event_is_one_json_line_with_its_fields_time_level_and_logger() -> None:
    (event,) = events_of("log.info('job_finished', job_id='7', duration_s=0.5, note='a\\nb')")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", event.pop("timestamp"))
    assert event == {
        "level": "info",
        "event": "job_finished",
        "logger": "app_srvc.tests",
        "job_id": "7",
        "duration_s": 0.5,
        "note": "a\nb",
    }


def test_values_that_json_does_not_know_are_written_as_text() -> None:
    (event,) = events_of("log.info('x', cause=ValueError('bad'), when={1: {2}}, raw=b'y')")
    assert (event["cause"], event["when"], event["raw"]) == ("bad", {"1": "{2}"}, "b'y'")


def test_console_format_is_for_reading_and_has_no_colours_where_it_is_no_terminal() -> None:
    text = run("log.warning('job_failed', job_id='7')", log_format="console")
    assert re.search(r"warning.*job_failed.*job_id=7", text)
    assert "\x1b" not in text


def test_auto_is_json_in_a_pipe_and_coloured_text_on_a_terminal() -> None:
    program = "log.info('job_finished', job_id='7')"
    assert events_of(program, log_format="auto")
    terminal, other_end = pty.openpty()
    try:
        subprocess.run(
            [sys.executable, "-c", SETUP.format(settings={"log_format": "auto"}) + program],
            stderr=other_end,
            check=True,
            timeout=30,
        )
        shown = os.read(terminal, 10_000).decode()
    finally:
        os.close(terminal)
        os.close(other_end)
    assert "job_finished" in shown and "\x1b[" in shown


def test_only_events_from_the_chosen_level_on_are_written() -> None:
    program = "[getattr(log, level)(level) for level in ('debug', 'info', 'warning', 'error')]"
    written = {
        level: [event["level"] for event in events_of(program, log_level=level)]
        for level in ("debug", "info", "warning", "error")
    }
    assert written == {
        "debug": ["debug", "info", "warning", "error"],
        "info": ["info", "warning", "error"],
        "warning": ["warning", "error"],
        "error": ["error"],
    }


def test_an_exception_is_part_of_its_event_s_line() -> None:
    (event,) = events_of("try: 1 / 0\nexcept ZeroDivisionError: log.exception('job_failed')")
    assert event["level"] == "error"
    assert event["exception"].endswith("ZeroDivisionError: division by zero")


def test_lines_of_many_threads_do_not_mix() -> None:
    program = """
def write(n):
    for _ in range(200): log.info('x', thread=n, filler='y' * 500)
threads = [threading.Thread(target=write, args=(n,)) for n in range(8)]
[t.start() for t in threads]; [t.join() for t in threads]
"""
    assert len(events_of(program)) == 1600


# --- context ------------------------------------------------------------------------------------


def test_what_is_bound_once_stands_in_every_line_inside_and_in_none_after() -> None:
    inside, library, after = events_of(
        "with log_context(job_id='7'):\n"
        "    log.info('inside')\n"
        "    logging.getLogger('rq.worker').warning('of a library')\n"
        "log.info('after')"
    )
    assert inside["job_id"] == library["job_id"] == "7"
    assert "job_id" not in after


# --- libraries ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["rq", "rq.worker", "gunicorn.error", "alembic", "sqlalchemy.pool"]
)
def test_libraries_are_heard_from_warning_on_and_in_the_same_form(name: str) -> None:
    (event,) = events_of(
        f"library = logging.getLogger({name!r})\n"
        "library.info('chatter'); library.warning('%s of %s', 1, 2)"
    )
    assert (event["event"], event["level"], event["logger"]) == ("1 of 2", "warning", name)


def test_a_library_that_has_set_up_a_handler_of_its_own_is_not_heard_twice() -> None:
    program = (
        "logging.getLogger('rq.worker').addHandler(logging.StreamHandler())\n"
        "configure_logs(Settings())\n"
        "logging.getLogger('rq.worker').warning('once')"
    )
    assert [event["event"] for event in events_of(program)] == ["once"]


# --- secrets ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "fields",
    [
        {"password": "hush"},
        {"rds_psw": "hush"},
        {"API_TOKEN": "hush"},
        {"secret_key": b"hush"},
        {"headers": {"Authorization": "Bearer hush", "Cookie": "s=hush"}},
        {"rows": [{"inner": {"token": "hush"}}]},
        {"url": "redis://:hush@host:6379/0"},
        {"url": "postgresql://user:hu/sh@hush@host/db"},
        {"url": "unix:///run/x.sock?password=hush"},
        {"url": "https://host/x?a=1&access-token=hush&b=2"},
        {"text": "said Authorization: Bearer hush"},
        {"text": "Basic hush"},
        {"cause": ValueError("cannot connect to redis://u:hush@host")},
        {"urls": ("redis://u:hush@host",)},
    ],
)
def test_a_secret_is_masked_wherever_it_stands(fields: dict[str, Any]) -> None:
    masked = mask_secrets(None, "info", {"event": "x", **fields})
    assert "hush" not in str(masked) and MASK in str(masked)
    assert masked["event"] == "x"


def test_what_is_no_secret_stays_as_it_is() -> None:
    fields = {"url": "https://host/a?b=c", "text": "Bear with me", "n": 1, "f": 0.5, "none": None}
    assert mask_secrets(None, "info", dict(fields)) == fields
    assert mask_text("redis://u:p@host:1/0 is away") == f"redis://{MASK}@host:1/0 is away"


def test_secrets_in_tracebacks_and_in_messages_of_libraries_are_masked() -> None:
    text = run(
        "try: raise ValueError('redis://u:hush@host')\n"
        "except ValueError: log.exception('x'); logging.getLogger('rq').exception('y')\n"
        "logging.getLogger('rq').warning('at %s', 'redis://u:hush@host')"
    )
    assert len(text.splitlines()) == 3 and "hush" not in text and text.count(MASK) == 3
