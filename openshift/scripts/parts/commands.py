"""Which command does what. It ends with 0 when done, 1 when a step failed, 2 when not understood."""

from __future__ import annotations

import argparse
import re
import sys
from typing import NoReturn

import delete
import deploy
import logs
import rollback
import scale
import status
from errors import StoppedError, UsageError
from oc import Oc
from table import PARTS

COMMANDS = {
    "deploy": deploy,
    "status": status,
    "logs": logs,
    "scale": scale,
    "rollback": rollback,
    "delete": delete,
}
INTERRUPTED = 130


class Parser(argparse.ArgumentParser):
    """Says in one sentence what it did not understand."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message[:1].upper()}{message[1:]}. See --help.")


def main(words: list[str]) -> int:
    parser = Parser(prog="parts", allow_abbrev=False)
    subparsers = parser.add_subparsers(dest="command", required=True, parser_class=Parser)
    for name, command in COMMANDS.items():
        one = subparsers.add_parser(
            name,
            prog=name,
            allow_abbrev=False,
            description=command.__doc__,
            epilog=_epilog(),
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        _add_common(one)
        command.add_arguments(one)
    try:
        _refuse_empty(words)
        arguments = parser.parse_args(words)
        oc = Oc(arguments.namespace)
        return int(COMMANDS[arguments.command].run(arguments, oc))
    except UsageError as error:
        print(error, file=sys.stderr)
        return 2
    except StoppedError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrupted. The same command can be run again.", file=sys.stderr)
        return INTERRUPTED


def _refuse_empty(words: list[str]) -> None:
    """The value of a variable that is not set must not count as an option that was not given."""
    for before, word in zip(["", *words], words):
        if not word or re.fullmatch(r"--[a-z-]+=", word):
            raise UsageError(f"There is an empty value{f' after {before}' if before else ''}.")


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("parts", nargs="*", metavar="PART", help="the parts; none means all")
    parser.add_argument(
        "-n",
        "--namespace",
        metavar="PROJECT",
        default="",
        help="the project (default: the one that oc is in)",
    )
    parser.add_argument(
        "--app-name",
        metavar="NAME",
        default="",
        help="the installation's name, which groups its parts (default: app-srvc)",
    )


def _epilog() -> str:
    always = " ".join(part.name for part in PARTS if not part.on_request)
    named = " ".join(part.name for part in PARTS if part.on_request)
    return f"Parts: {always}" + (f"\nOnly when they are named: {named}" if named else "")
