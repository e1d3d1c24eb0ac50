"""What a person sees who runs `app-srvc up` in a terminal."""

import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

COLOURS = (36, 33, 32, 35, 34, 31)

GREETING = """
app-srvc is ready:  {url}

  Register somebody   {url}/userreg/
  See who is there    {url}/userlist/
  Watch the queues    {url}/admin/task
  Start the robot     curl -H 'Content-Type: application/json' -d '{call}' {url}/api/wstart
  Stop the robot      curl -X DELETE {url}/api/wstop

All that it keeps is in {folder}. Ctrl-C stops it in order.

"""
START_CALL = '{"timedelta": 15, "records": 20, "msg": "start regular job", "rplstatus": "START"}'


class LinePrinter:
    """Writes the lines of several processes, each with the name of its process in front."""

    def __init__(self, names: Sequence[str]) -> None:
        width = max(map(len, names))
        self._prefixes = {
            name: self._prefix(name.ljust(width), COLOURS[at % len(COLOURS)])
            for at, name in enumerate(names)
        }

    def __call__(self, name: str, line: str) -> None:
        write(f"{self._prefixes[name]} {line}\n")

    def _prefix(self, text: str, colour: int) -> str:
        return f"\x1b[{colour}m{text} |\x1b[0m" if sys.stdout.isatty() else f"{text} |"


def show_greeting(url: str, folder: Path) -> None:
    write(GREETING.format(url=url, call=START_CALL, folder=folder))


def write(text: str) -> None:
    """Write to standard output; a reader that went away must not end the service."""
    with suppress(OSError):
        sys.stdout.write(text)
        sys.stdout.flush()
