"""`python -m benchmarks [NAME…] [--json]`: run benchmarks and print a table, or JSON lines."""

import argparse
import json
from collections.abc import Iterable
from typing import Any

from benchmarks import capacity, depth, drain, fan_out, footprint, latency, poison, post

BENCHMARKS = {
    "post": post.run,
    "fan_out": fan_out.run,
    "drain": drain.run,
    "capacity": capacity.run,
    "latency": latency.run,
    "depth": depth.run,
    "poison": poison.run,
    "footprint": footprint.run,
}
TEXT_WIDTH = 22


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(BENCHMARKS))
    parser.add_argument("--json", action="store_true", help="print JSON lines")
    arguments = parser.parse_args()
    unknown = set(arguments.names) - set(BENCHMARKS)
    if unknown:
        parser.error(f"there is no benchmark {', '.join(sorted(unknown))}")
    for name in arguments.names or BENCHMARKS:
        header: list[str] = []
        for row in BENCHMARKS[name]():
            if arguments.json:
                print(json.dumps(row), flush=True)
                continue
            if header != list(row):
                header = list(row)
                print(f"\n{as_line(row, header)}")
            print(as_line(row, row.values()), flush=True)


def as_line(row: dict[str, Any], cells: Iterable[Any]) -> str:
    """A line of the table: text to the left, numbers to the right, under their names."""
    return "  ".join(
        f"{cell!s:<{max(len(name), TEXT_WIDTH)}}"
        if isinstance(value, str)
        else f"{cell!s:>{max(len(name), 7)}}"
        for (name, value), cell in zip(row.items(), cells, strict=True)
    ).rstrip()


if __name__ == "__main__":
    main()
