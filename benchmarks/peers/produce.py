"""`python -m benchmarks.peers.produce SYSTEM KIND (at-once|paced)`: send as many jobs as the ledger holds.

Paced, each is sent when the one before has begun, 10 ms after that was sent at the soonest, so that it
meets an idle worker.
"""

import sys
import time
from importlib import import_module

from benchmarks.peers.jobs import ledger

PACE_S = 0.01
LONGEST_WAIT_S = 30.0


def main() -> None:
    system, kind, how = sys.argv[1:]
    app = import_module(f"benchmarks.peers.{system}_app")
    if how == "paced":
        send_paced(app, kind)
    elif hasattr(app, "fill"):
        app.fill(kind, ledger.size)
    else:
        for number in range(ledger.size):
            app.send(kind, number)


def send_paced(app: object, kind: str) -> None:
    for number in range(ledger.size):
        ledger.sent[number] = time.monotonic()
        app.send(kind, number)
        deadline = time.monotonic() + LONGEST_WAIT_S
        time.sleep(max(0.0, ledger.sent[number] + PACE_S - time.monotonic()))
        while not ledger.begun[number]:
            if time.monotonic() > deadline:
                raise SystemExit(f"Job {number} has not begun after {LONGEST_WAIT_S:g} s")
            time.sleep(0.001)


if __name__ == "__main__":
    main()
