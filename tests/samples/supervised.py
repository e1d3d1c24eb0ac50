"""A parent with two children: `python -m tests.samples.supervised HOW FILE`.

The first ends when the parent is gone, the second does not care. Both write their process ids into
files, FILE.first and FILE.second. HOW is `fresh` or `forked`.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

from app_srvc.supervisor import ChildSpec, ParentLink, Supervisor


def live(file: str) -> int:
    link = ParentLink()
    with Path(file).open("w") as pids:
        pids.write(f"{os.getpid()}\n")
    while file.endswith("second") or not link.is_broken():
        time.sleep(0.05)
    return 0


def spec(how: str, file: str) -> ChildSpec:
    argv = (sys.executable, "-m", "tests.samples.supervised", "child", file)
    run = partial(live, file) if how == "forked" else None
    return ChildSpec(file, argv, dict(os.environ), run=run)


if __name__ == "__main__":
    how, file = sys.argv[1:]
    if how == "child":
        sys.exit(live(file))
    specs = [spec(how, f"{file}.{name}") for name in ("first", "second")]
    supervisor = Supervisor(specs, own_groups=False)
    supervisor.start()
    while True:
        supervisor.turn(1.0)
