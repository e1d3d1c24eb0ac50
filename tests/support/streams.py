"""A TCP server of a test, on a loop and a thread of its own, that leaves no connection behind."""

import asyncio
import ssl
import threading
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class StreamServer:
    """Runs `serve` for each connection to `port`; what is open when it ends is cut.

    asyncio's own server forgets a connection whose task is cancelled before or while it begins. So
    every writer is kept here from the moment it exists.
    """

    def __init__(self, serve: Serve, *, context: ssl.SSLContext | None = None) -> None:
        self._serve = serve
        self._context = context
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Future[None]] = set()
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever)
        self.port = 0

    async def connect(self, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection to a port of this machine, which ends with the server at the latest."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        self._writers.add(writer)
        return reader, writer

    def cut_all(self) -> None:
        """Close every connection; to be called on the loop."""
        for writer in list(self._writers):
            writer.close()

    def __enter__(self) -> Self:
        self._thread.start()

        async def listen() -> asyncio.Server:
            return await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)

        self._server = asyncio.run_coroutine_threadsafe(listen(), self.loop).result(5)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self.loop).result(10)
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        task = asyncio.ensure_future(self._serve_one(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._serve(reader, writer)
        finally:
            writer.close()
            self._writers = {each for each in self._writers if not each.is_closing()}

    async def _end(self) -> None:
        self._server.close()
        # A connection that was accepted a moment ago may get its task only now.
        while others := asyncio.all_tasks() - {asyncio.current_task()}:
            for task in others:
                task.cancel()
            await asyncio.wait(others)
            await asyncio.sleep(0)
        for writer in self._writers:
            writer.transport.abort()
        await asyncio.sleep(0)
