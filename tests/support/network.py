"""Networks that misbehave, and one that is encrypted, between a test and a server."""

import asyncio
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.streams import StreamServer


@dataclass(frozen=True)
class Certificate:
    """A server's certificate, which is its own authority, for `localhost` only."""

    file: Path
    key: Path


def make_certificate(folder: Path) -> Certificate:
    certificate = Certificate(folder / "cert.pem", folder / "key.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", str(certificate.key), "-out", str(certificate.file)),
            *("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"),
        ],
        check=True,
        capture_output=True,
    )
    return certificate


@contextmanager
def relay_to(
    port: int, *, certificate: Certificate | None = None, cut_first: int = 0
) -> Iterator[int]:
    """Listen on another port, pass everything on, and give that port.

    With a certificate, speak TLS there. The first `cut_first` connections are cut off as soon as
    the client says something.
    """
    context = None
    if certificate is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate.file, certificate.key)
    to_cut = cut_first

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal to_cut
        if to_cut > 0:
            to_cut -= 1
            await reader.read(1)
            return
        inner_reader, inner_writer = await server.connect(port)
        await asyncio.gather(_pass_on(reader, inner_writer), _pass_on(inner_reader, writer))

    with StreamServer(serve, context=context) as server:
        yield server.port


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError, ssl.SSLError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()


class SilentServer:
    """Takes connections and never says a word; counts them."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[socket.socket] = []
        self._thread = threading.Thread(target=self._accept)
        self._thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                self.connections.append(self._listener.accept()[0])

    def close(self) -> None:
        # A listener that is only closed would leave accept() waiting on Linux.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)
        for connection in self.connections:
            connection.close()

    def __enter__(self) -> "SilentServer":
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()


@contextmanager
def address_that_swallows_connections() -> Iterator[int]:
    """A port where connecting neither succeeds nor fails, as behind a firewall that drops."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        try:
            for _ in range(4):  # until the queue of connections that nobody accepts is full
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex(listener.getsockname())
                fillers.append(filler)
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()
