"""A parent with two children that end when it is gone: `python -m tests.samples.supervised HOW FILE`.

The children write their process ids into the file. HOW is `fresh` or `forked`.
"""

import os
import sys
import time
from functools import partial
from pathlib import Path

from app_srvc.supervisor import ChildSpec, ParentLink, Supervisor


def live(file: str) -> int:
    link = ParentLink()
    with Path(file).open("a") as pids:
        pids.write(f"{os.getpid()}\n")
    while not link.is_broken():
        time.sleep(0.05)
    return 0


if __name__ == "__main__":
    how, file = sys.argv[1:]
    if how == "child":
        sys.exit(live(file))
    argv = (sys.executable, "-m", "tests.samples.supervised", "child", file)
    run = partial(live, file) if how == "forked" else None
    specs = [ChildSpec(name, argv, dict(os.environ), run=run) for name in ("a", "b")]
    supervisor = Supervisor(specs, own_groups=False)
    supervisor.start()
    while True:
        supervisor.turn(1.0)
