"""`python -m benchmarks [NAME…] [--json]`: run benchmarks and print a table, or JSON lines."""

import argparse
import json
from typing import Any

from benchmarks import fan_out, post

BENCHMARKS = {"post": post.run, "fan_out": fan_out.run}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    for name in arguments.names or BENCHMARKS:
        for row in BENCHMARKS[name]():
            print(json.dumps(row) if arguments.json else as_line(row), flush=True)


def as_line(row: dict[str, Any]) -> str:
    return "  ".join(f"{name}: {value}" for name, value in row.items())


if __name__ == "__main__":
    main()
