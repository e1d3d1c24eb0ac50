"""Progress: what a parent and one of its children tell each other without a system call.

A page of memory that both have. The child writes which claim it has in hand and which job of it runs; the
parent reads it to renew leases and to see to time limits. The parent may ask for the jobs that wait
behind a slow one: it sets a limit, looks again whether the child has gone on, and then either takes
them or withdraws.
"""

import mmap
import struct
import time

NOT_ASKED, ASKED, TAKEN = 0, 1, 2
TOKEN_CHARS = 32
READS = 1000

_ASK = 0
_STOP = 1
_WORN_OUT = 2
_HAS_ENDED = 3
_HAS_TAKEN_OVER = 48
_SECOND = struct.Struct("<d")
_RENEWED_AT = 56
_LIMIT = struct.Struct("<i")
_LIMIT_AT = 4
# place of the running job in its claim, from 0 (-1: none), when it began (monotonic seconds), and the
# seconds that it may take (0: for ever)
_RUN = struct.Struct("<qdd")
_RUN_AT = 8
_JOBS = struct.Struct("<q")
_JOBS_AT = 40
_LIFT = struct.Struct("<d")
_LIFT_AT = _RUN_AT + 16
_CURRENT_AT = 64
_ENDING_AT = _CURRENT_AT + TOKEN_CHARS
_ASKED_AT = _ENDING_AT + TOKEN_CHARS
_SIZE = 4096


class Progress:
    """One child's page. Each field is written by one side only, but for the request for waiting jobs."""

    def __init__(self) -> None:
        self._page = mmap.mmap(-1, _SIZE)
        self.reset()

    def reset(self) -> None:
        """As a child finds it at its start."""
        self._page[:_SIZE] = bytes(_SIZE)
        self.idle()

    # --- the child writes -------------------------------------------------------------------------

    def begin(self, place: int) -> None:
        """A job of the claim in hand is about to start."""
        _RUN.pack_into(self._page, _RUN_AT, place, time.monotonic(), 0.0)

    def limit(self, seconds: float) -> None:
        """The job that runs may take so long; 0 for ever, or once it has run."""
        _LIFT.pack_into(self._page, _LIFT_AT, seconds)

    def idle(self) -> None:
        """No job runs from now on."""
        _RUN.pack_into(self._page, _RUN_AT, -1, time.monotonic(), 0.0)

    def claimed(self, token: str) -> None:
        """The claim that is being made, or is in hand; "" for none."""
        self._page[_CURRENT_AT : _CURRENT_AT + TOKEN_CHARS] = token.ljust(TOKEN_CHARS).encode()

    def ending(self, token: str) -> None:
        """The claim whose results are on their way; "" for none."""
        self._page[_ENDING_AT : _ENDING_AT + TOKEN_CHARS] = token.ljust(TOKEN_CHARS).encode()

    def count(self, jobs: int) -> None:
        """So many jobs have ended in all."""
        _JOBS.pack_into(self._page, _JOBS_AT, jobs)

    def taken_over(self) -> None:
        """What the child before left is settled."""
        self._page[_HAS_TAKEN_OVER] = 1

    def end(self, status: int) -> None:
        """The last act of a child that ends by itself; a job could end the process as well."""
        self._page[_HAS_ENDED] = 1 + status

    @property
    def renewed_at(self) -> float:
        """The monotonic second at which the lease in hand was last renewed; 0 if it never was."""
        value: float = _SECOND.unpack_from(self._page, _RENEWED_AT)[0]
        return value

    @property
    def is_asked(self) -> int:
        """Whether the parent wants the jobs that wait, or has taken them."""
        return self._page[_ASK]

    def limit_of(self, token: str) -> int | None:
        """The place from which on jobs of a claim are asked for, or were taken; None for another claim."""
        if self._page[_ASKED_AT : _ASKED_AT + TOKEN_CHARS].decode().strip("\0 ") != token:
            return None
        limit: int = _LIMIT.unpack_from(self._page, _LIMIT_AT)[0]
        return limit

    def answer(self) -> None:
        """The child has understood which jobs it no longer has."""
        self._page[_ASK] = NOT_ASKED

    # --- the parent writes ------------------------------------------------------------------------

    def ask(self, token: str, limit: int) -> None:
        self._page[_ASKED_AT : _ASKED_AT + TOKEN_CHARS] = token.ljust(TOKEN_CHARS).encode()
        _LIMIT.pack_into(self._page, _LIMIT_AT, limit)
        self._page[_ASK] = ASKED

    def take(self, is_taken: bool) -> None:
        self._page[_ASK] = TAKEN if is_taken else NOT_ASKED

    def renewed(self, at: float) -> None:
        """The lease in hand was renewed at a monotonic second."""
        _SECOND.pack_into(self._page, _RENEWED_AT, at)

    def stop(self) -> None:
        """Ask the child to end after the job in hand."""
        self._page[_STOP] = 1

    def wear_out(self) -> None:
        """Ask the child to end after the job in hand, and to make room for another."""
        self._page[_WORN_OUT] = 1

    @property
    def must_stop(self) -> bool:
        return self._page[_STOP] == 1

    @property
    def is_worn_out(self) -> bool:
        return self._page[_WORN_OUT] == 1

    # --- the parent reads -------------------------------------------------------------------------

    @property
    def running(self) -> tuple[int, float, float]:
        """Place, beginning and limit of the job that runs; read twice, since it may change meanwhile.

        The place is -1 when none runs; the second is then when the last one ended.

        A place without a beginning is half written. A child that died in between leaves it so.
        """
        for _ in range(READS):
            first: tuple[int, float, float] = _RUN.unpack_from(self._page, _RUN_AT)
            is_whole = first[0] < 0 or first[1] > 0
            if is_whole and first == _RUN.unpack_from(self._page, _RUN_AT):
                return first
        return first[0], time.monotonic(), 0.0

    @property
    def tokens(self) -> tuple[str, str]:
        """The claim in hand, and the one whose results are on their way; each "" if there is none."""
        current = self._page[_CURRENT_AT : _CURRENT_AT + TOKEN_CHARS]
        ending = self._page[_ENDING_AT : _ENDING_AT + TOKEN_CHARS]
        return current.decode().strip("\0 "), ending.decode().strip("\0 ")

    @property
    def end_status(self) -> int | None:
        """The status with which the child has ended by itself; None if it has not."""
        written = self._page[_HAS_ENDED]
        return written - 1 if written else None

    @property
    def has_taken_over(self) -> bool:
        return self._page[_HAS_TAKEN_OVER] == 1

    @property
    def jobs(self) -> int:
        value: int = _JOBS.unpack_from(self._page, _JOBS_AT)[0]
        return value
