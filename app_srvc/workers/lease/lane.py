"""A lane: one child of a worker as its parent sees it, from one process to the next.

To RQ's tools each lane is a worker: it has a key, a state, a current job, counters and a channel.
"""

import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from rq import Worker

from app_srvc.forking import ForkedProcess, end_with_parent, fork
from app_srvc.workers.lease.inheritance import DIED, KILLED, OVERTIME, STOPPED, Inheritance
from app_srvc.workers.lease.progress import Progress
from app_srvc.workers.lease.runner import EXIT_RECYCLED
from app_srvc.workers.lease.signals import leave_to_no_child

HARD_KILL_AFTER_S = 5.0
WAITED_TOO_LONG_S = 0.1
# A child without a job has ended long before, unless it waits for a Redis that hangs.
STUCK_AFTER_S = 8.0
# With these the job in hand has ended too; otherwise it runs again.
ENDED = (OVERTIME, STOPPED, KILLED)
FIRST_RESTART_S, LONGEST_RESTART_S, SETTLED_AFTER_S = 0.05, 2.0, 5.0
# One bad job ends so many children in a row before it is failed; the good ones are not to wait for that.
DEATHS_OF_A_POISON = 4


class Lane:
    """One child after the other. `start(inheritance, wake, others)` forks the next one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.progress = Progress()
        self.process: ForkedProcess | None = None
        self.is_done = False
        # Whether RQ's tools were told that it is gone.
        self.is_unregistered = False
        self.link: socket.socket | None = None
        self._life = -1
        self._jobs_before = 0
        # The claim and the place behind which waiting jobs were taken back already.
        self.taken: tuple[str, int] = ("", -1)
        self._inheritance: Inheritance | None = None
        self._given: Inheritance | None = None
        self._fate: tuple[str, str] | None = None
        self._restart_at = 0.0
        self._started_at = 0.0
        self._quick_deaths = 0
        self._stopped_at = 0.0

    @property
    def key(self) -> str:
        """What RQ's tools know of it."""
        return f"{Worker.redis_worker_namespace_prefix}{self.name}"

    @property
    def jobs(self) -> int:
        """How many jobs its children have run."""
        return self._jobs_before + self.progress.jobs

    def left_of(self, jobs: int | None) -> int | None:
        """How many the child may run that starts now, if all together may run so many; None is any."""
        return None if jobs is None else max(0, jobs - self._jobs_before)

    @property
    def is_alive(self) -> bool:
        return self.process is not None

    @property
    def is_due(self) -> bool:
        """Whether a child is to be started now."""
        return not self.is_done and self.process is None and time.monotonic() >= self._restart_at

    def start(
        self, run: Callable[["Lane", int, Inheritance | None], int], close: Sequence[int]
    ) -> None:
        """Fork the next child; it closes what is the parent's."""
        ours, theirs = socket.socketpair()
        life_read, life_write = os.pipe()
        nothing = os.open(os.devnull, os.O_RDONLY)
        inheritance, self._inheritance = self._inheritance, None
        self._given = inheritance
        self._jobs_before += self.progress.jobs
        self.progress.reset()
        try:
            self.process = fork(
                lambda: _be_a_child(lambda: run(self, theirs.fileno(), inheritance), life_read),
                stdin=nothing,
                close=[ours.fileno(), life_write, *close],
            )
        except OSError:
            ours.close()
            os.close(life_write)
            raise
        finally:
            theirs.close()
            os.close(life_read)
            os.close(nothing)
        self.link, self._life, self._started_at = ours, life_write, time.monotonic()

    @property
    def descriptors(self) -> list[int]:
        """What is the parent's, and no child's."""
        return [] if self.link is None else [self.link.fileno(), self._life]

    def stop(self) -> None:
        """Ask the child to end after the job in hand."""
        self.progress.stop()
        self._stopped_at = self._stopped_at or time.monotonic()
        if self.link is not None:
            with suppress(OSError):
                self.link.send(b".")

    def kill(self, fate: str, text: str = "") -> None:
        """End the child at once; the next one settles its job accordingly."""
        if self.process is None:
            return
        self._fate = self._fate or (fate, text)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.kill()

    def reap(self) -> int | None:
        """The exit status, when the child has ended; what it left is kept for the next one."""
        if self.process is None:
            return None
        status = self.process.poll()
        if status is None:
            return None
        # Whatever its jobs have started goes with it, as with RQ's horses.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process = None
        if self.link is not None:
            self.link.close()
            os.close(self._life)
            self.link = None
        # What it wrote, as a job may have spoilt how the process ends.
        if self.progress.end_status is None:
            self._leave()
        elif self.progress.end_status != EXIT_RECYCLED:
            self.is_done = True
        self._fate = None
        return status

    def _leave(self) -> None:
        """Keep what the child has in hand, or what it was given and has not settled, for the next."""
        fate, text = self._fate or (DIED, "")
        place, _, _ = self.progress.running
        self._inheritance = Inheritance(self.progress.tokens, place, fate, text)
        if self._given is not None and not self.progress.has_taken_over:
            self._inheritance = self._given
        elif fate in ENDED:
            # Those before it in its batch were reported while it ran.
            self._jobs_before += place + 1
        lived_s = time.monotonic() - self._started_at
        quick = lived_s < SETTLED_AFTER_S and fate not in ENDED
        self._quick_deaths = self._quick_deaths + 1 if quick else 0
        more = self._quick_deaths - DEATHS_OF_A_POISON
        wait_s = FIRST_RESTART_S * 2**more if more > 0 else 0.0
        self._restart_at = time.monotonic() + min(LONGEST_RESTART_S, wait_s)

    # --- what the parent looks after --------------------------------------------------------------

    def overdue_s(self) -> float:
        """The limit that the job in hand has passed without obeying; 0 if there is none."""
        place, began, limit_s = self.progress.running
        if place < 0 or limit_s <= 0 or self._fate is not None or self.process is None:
            return 0.0
        return limit_s if time.monotonic() - began > limit_s + HARD_KILL_AFTER_S else 0.0

    @property
    def is_stuck(self) -> bool:
        """Whether the child was told to stop and has no job to run, but waits for Redis."""
        if not self._stopped_at or self.process is None or self.place_and_time[0] >= 0:
            return False
        _, idle_since, _ = self.progress.running
        return time.monotonic() - max(self._stopped_at, idle_since) > STUCK_AFTER_S

    @property
    def has_left_jobs(self) -> bool:
        """Whether a child died, and the next one is to settle what it had in hand."""
        return self._inheritance is not None

    def slow_place(self) -> int | None:
        """The place of a job that runs for so long that others must not wait behind it."""
        place, worked_s = self.place_and_time
        return place if place >= 0 and worked_s >= WAITED_TOO_LONG_S else None

    @property
    def place_and_time(self) -> tuple[int, float]:
        """The place of the job that runs, -1 for none, and for how many seconds it has."""
        place, began, _ = self.progress.running
        return place, round(time.monotonic() - began, 3) if place >= 0 else 0.0


def _be_a_child(run: Callable[[], int], life: int) -> int:
    """In a process group of its own: what is pressed at a terminal is for the parent to obey."""
    with suppress(OSError):
        os.setpgid(0, 0)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    leave_to_no_child(signal.SIGTERM, signal.SIGALRM)
    # An orphan would go on with jobs that have been given to somebody else.
    end_with_parent(life)
    return run()
