"""What the todo service of the tests shows, how it is told to fail, and what it was asked."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

FaultKind = Literal[
    "status",  # answer `status`, with `retry_after` if given
    "body",  # 200 and `body` as it is, JSON or not
    "truncated",  # a true length, half of the body
    "hang_up",  # close without an answer
    "slow",  # say nothing for `seconds`, then answer
    "drip_headers",  # one header byte now and then, without end
    "drip_body",  # a true page, one byte now and then
    "endless",  # a list that never ends
    "zip_bomb",  # `size` spaces, compressed
    "bad_zip",  # said to be compressed, and is not
    "redirect",  # 302 to `location`
    "redirect_loop",  # 302 to itself
    "no_paging",  # all records on every page
    "small_pages",  # never more than `size` records on a page, with a Link to the next
    "no_headers",  # a true page without X-Pagination headers
]


@dataclass(frozen=True)
class Fault:
    """What goes wrong: on `page` only if given, and `times` times if given."""

    kind: FaultKind
    page: int | None = None
    times: int | None = None
    status: int = 500
    retry_after: str | None = None
    body: str = ""
    seconds: float = 0.0
    size: int = 0
    location: str = ""


@dataclass(frozen=True)
class SeenRequest:
    """What was asked: `authorization` is the header as it came."""

    path: str
    page: str
    per_page: str
    authorization: str | None
    host: str


def todos(count: int, *, first: int = 1, status: str = "pending") -> list[dict[str, Any]]:
    """Records that parse, with ids from `first` on."""
    return [
        {
            "id": number,
            "user_id": 1 + number % 7,
            "title": f"Todo number {number}",
            "due_on": "2026-05-01T00:00:00.000+05:30",
            "status": status,
        }
        for number in range(first, first + count)
    ]


class SourceState:
    """What the server shows, how it fails, and what it was asked. Safe between threads."""

    def __init__(self, records: Sequence[Any], token: str | None) -> None:
        self._lock = threading.Lock()
        self._records = list(records)
        self._faults: list[tuple[Fault, list[int]]] = []
        self._requests: list[SeenRequest] = []
        self.token = token
        self.stopping = threading.Event()

    def set_records(self, records: Sequence[Any]) -> None:
        with self._lock:
            self._records = list(records)

    def set_faults(self, *faults: Fault) -> None:
        """Fail like this from now on, the first that fits; none heals."""
        with self._lock:
            self._faults = [(fault, [0]) for fault in faults]

    @property
    def records(self) -> list[Any]:
        with self._lock:
            return self._records

    @property
    def requests(self) -> list[SeenRequest]:
        with self._lock:
            return list(self._requests)

    def note(self, request: SeenRequest) -> None:
        with self._lock:
            self._requests.append(request)

    def take_fault(self, page: int) -> Fault | None:
        with self._lock:
            for fault, used in self._faults:
                fits = fault.page in (None, page)
                if fits and (fault.times is None or used[0] < fault.times):
                    used[0] += 1
                    return fault
            return None
