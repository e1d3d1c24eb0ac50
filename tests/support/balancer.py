"""A balancer of TCP connections, as a Service of a cluster is one."""

import asyncio
import itertools
from contextlib import suppress
from typing import Self

from tests.support.streams import StreamServer


class Balancer:
    """Gives each new connection to the next backend in turn; what is open stays where it is.

    One that refuses the connection is passed over. That is all: nothing is sent twice.
    """

    def __init__(self, *ports: int) -> None:
        self._ports = list(ports)
        self._turns = itertools.count()
        self._server = StreamServer(self._serve)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.port}"

    def take_out(self, port: int) -> None:
        """From now on the backend gets no new connections."""
        self._ports = [each for each in self._ports if each != port]

    def put_in(self, port: int) -> None:
        self._ports = [*self._ports, port]

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ports = self._ports
        first = next(self._turns)
        for number in range(len(ports)):
            with suppress(ConnectionRefusedError):
                inner = await self._server.connect(ports[(first + number) % len(ports)])
                await self._carry((reader, writer), inner)
                return

    async def _carry(
        self,
        outer: tuple[asyncio.StreamReader, asyncio.StreamWriter],
        inner: tuple[asyncio.StreamReader, asyncio.StreamWriter],
    ) -> None:
        await asyncio.gather(_pass_on(outer[0], inner[1]), _pass_on(inner[0], outer[1]))

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
