"""Progress: what a parent reads of a child while the child writes."""

import subprocess
import sys

# In a process of its own, since it forks: the page is shared with nobody else.
WRITER_AND_READER = """
import os, signal, sys, time
from app_srvc.workers.lease.progress import Progress

progress = Progress()
writer = os.fork()
while writer == 0:
    for place in range(50):
        progress.begin(place)
        progress.limit(180.0)
        progress.limit(0.0)
    progress.idle()
until, wrong = time.monotonic() + 0.5, set()
while time.monotonic() < until:
    place, began, limit_s = progress.running
    if place >= 0 and time.monotonic() - began > 60:
        wrong.add((place, began, limit_s))
os.kill(writer, signal.SIGKILL)
sys.exit(f"read halves: {sorted(wrong)[:5]}" if wrong else 0)
"""


def test_what_is_half_written_is_not_read() -> None:
    """A beginning of 0 would be a job that has run since the machine started, and cost its child."""
    done = subprocess.run(
        [sys.executable, "-c", WRITER_AND_READER],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr
