"""A proxy between a worker and Redis that knows what is asked, and cuts or halts at one request.

It speaks enough of the protocol to tell requests and replies apart. A request is known by its command,
a script of lease workers by its name; `RQ` is any request of RQ's own code, a transaction being one.
"""

import asyncio
import threading
from collections import Counter, deque
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from app_srvc.workers.lease.link import SCRIPTS
from tests.support.streams import StreamServer

SCRIPT_NAMES = {script.sha.encode(): script.name for script in SCRIPTS}
BEFORE, AFTER = "before", "after"
RQ = "RQ"
NOT_OF_RQ = {*SCRIPT_NAMES.values(), "SCRIPT LOAD", "HELLO", "CLIENT", "BLMOVE", "SUBSCRIBE"}


@dataclass
class Point:
    """The n-th request of a kind, counted from when it was set; `is_reached` when it has come."""

    kind: str
    number: int
    when: str
    halts: bool = False
    is_reached: threading.Event = field(default_factory=threading.Event)


class CuttingProxy:
    """Listens on `port`; whatever is not cut is passed on."""

    def __init__(self, server_port: int) -> None:
        self._server_port = server_port
        self._server = StreamServer(self._serve)
        self._point: Point | None = None
        self._is_shut = False
        self.seen: Counter[str] = Counter()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self._server.port}/0"

    def cut(self, kind: str, number: int, when: str) -> Point:
        """Cut a connection before its request has come through, or after that and before its reply."""
        return self._set(Point(kind, number, when))

    def halt(self, kind: str, number: int, when: str) -> Point:
        """Let a connection hang at that point, for ever."""
        return self._set(Point(kind, number, when, halts=True))

    def shut(self, is_shut: bool) -> None:
        """Cut every connection and refuse new ones, until opened again."""

        def change() -> None:
            self._is_shut = is_shut
            if is_shut:
                self._server.cut_all()

        self._server.loop.call_soon_threadsafe(change)

    def _set(self, point: Point) -> Point:
        async def change() -> None:
            self.seen.clear()
            self._point = point

        asyncio.run_coroutine_threadsafe(change(), self._server.loop).result(5)
        return point

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._server.__exit__(kind, error, traceback)

    # --- one connection ---------------------------------------------------------------------------

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._is_shut:
            return
        inner_reader, inner_writer = await self._server.connect(self._server_port)
        waiting: deque[Point | None] = deque()
        ways = [
            asyncio.ensure_future(self._pass_requests(reader, inner_writer, waiting)),
            asyncio.ensure_future(self._pass_replies(inner_reader, writer, waiting)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            inner_writer.close()

    async def _pass_requests(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waiting: "deque[Point | None]",
    ) -> None:
        is_in_transaction = False
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                words, raw = await _request(reader)
                kind = _kind(words)
                is_in_transaction = kind == "MULTI" or (is_in_transaction and kind != "EXEC")
                is_of_rq = kind not in NOT_OF_RQ and not is_in_transaction
                point = self._point_at([kind, RQ] if is_of_rq else [kind])
                if point is not None and point.when == BEFORE:
                    await self._reach(point)
                    return
                # A pipeline arrives in one piece: what follows in it must not run before the cut.
                waiting.append(point)
                writer.write(raw)
                await writer.drain()
                if point is not None:
                    await asyncio.sleep(3600)

    async def _pass_replies(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        waiting: "deque[Point | None]",
    ) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                raw = await _reply(reader)
                point = waiting.popleft() if waiting else None
                if point is not None:
                    await self._reach(point)
                    return
                writer.write(raw)
                await writer.drain()

    def _point_at(self, kinds: list[str]) -> Point | None:
        self.seen.update(kinds)
        point = self._point
        if point is None or point.kind not in kinds or self.seen[point.kind] != point.number:
            return None
        return point

    async def _reach(self, point: Point) -> None:
        point.is_reached.set()
        if point.halts:
            await asyncio.sleep(3600)


def _kind(words: list[bytes]) -> str:
    command = words[0].decode().upper()
    if command == "EVALSHA":
        return SCRIPT_NAMES[words[1]]
    if command == "SCRIPT":
        return "SCRIPT LOAD"
    return command


async def _request(reader: asyncio.StreamReader) -> tuple[list[bytes], bytes]:
    """The words of a request, and all of its bytes."""
    head = await reader.readuntil(b"\r\n")
    raw, words = [head], []
    for _ in range(int(head[1:])):
        length = await reader.readuntil(b"\r\n")
        body = await reader.readexactly(int(length[1:]) + 2)
        raw += [length, body]
        words.append(body[:-2])
    return words, b"".join(raw)


async def _reply(reader: asyncio.StreamReader) -> bytes:
    """All bytes of one reply, of either version of the protocol."""
    head = await reader.readuntil(b"\r\n")
    kind, rest = head[:1], head[1:-2]
    if kind in b"$=!" and rest != b"-1":
        return head + await reader.readexactly(int(rest) + 2)
    if kind in b"*~>%|" and rest != b"-1":
        parts = int(rest) * (2 if kind in b"%|" else 1)
        return head + b"".join([await _reply(reader) for _ in range(parts)])
    return head
