"""The Redis users of each role, as deploy/redis/users.acl has them, and what each really uses."""

import asyncio
import hashlib
import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from redis import Redis

from tests.support.service import ROOT
from tests.support.streams import StreamServer

USERS_FILE = ROOT / "deploy" / "redis" / "users.acl"
REPLICATION_FILE = ROOT / "deploy" / "redis" / "replication.acl"
# Every connection begins with them, and Redis asks for no right to them. The last is no command of
# Redis or Valkey: RQ's tools ask with it whether they speak with another product.
FREE = {"auth", "hello", "quit", "reset", "client|maint_notifications"}
# Commands whose parts are separate rights, as far as anybody here uses them.
HAVE_PARTS = {"client", "script", "acl", "config", "object", "pubsub", "memory", "command"}
IN_SCRIPT = re.compile(r"redis\.p?call\(\s*['\"](\w+)['\"]")


@dataclass(frozen=True)
class RedisUser:
    """One line of the file: a name and its rules."""

    name: str
    rules: str

    @property
    def password(self) -> str:
        return f"only-{self.name}-knows"

    @property
    def commands(self) -> set[str]:
        return set(re.findall(r"(?<=\+)[^ )]+", self.rules))

    def url(self, port: int) -> str:
        return f"redis://{self.name}:{self.password}@127.0.0.1:{port}/0"


def read_users(file: Path = USERS_FILE) -> dict[str, RedisUser]:
    """Every user of a file, but for the default one, who must be off."""
    lines = [line.split(" ", 2) for line in file.read_text().splitlines()]
    assert {line[0] for line in lines} == {"user"}
    users = {name: RedisUser(name, rules) for _, name, rules in lines}
    assert users.pop("default", RedisUser("default", "off")).rules == "off"
    return users


def acl_file(folder: Path, *sources: Path, default: str = "off") -> Path:
    """The users of some files with passwords in them, as a server takes it.

    `default` has the rules of the default user: a test may want to do everything.
    """
    lines = [f"user default {default}"]
    for user in [user for source in sources for user in read_users(source).values()]:
        rules = user.rules.replace(f">{user.name.upper()}_PASSWORD", f">{user.password}")
        lines.append(f"user {user.name} {rules}")
    folder.mkdir(parents=True, exist_ok=True)
    file = folder / "users.acl"
    file.write_text("\n".join(lines) + "\n")
    return file


@dataclass
class Recorder:
    """A way to Redis that notes the commands that go along it.

    Of a script that was called, or that a worker has made ready, it notes every command in its text: a
    branch that was not taken, and a step that no accident made necessary, are needed as well.
    """

    redis_port: int
    scripts: dict[str, str]
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._server = StreamServer(self._serve)

    @property
    def port(self) -> int:
        return self._server.port

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner_reader, inner_writer = await self._server.connect(self.redis_port)
        await asyncio.gather(self._ask(reader, inner_writer), _answer(inner_reader, writer))

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            with suppress(ConnectionError, asyncio.IncompleteReadError):
                while True:
                    raw, words = await _read_command(reader)
                    self._note(words)
                    writer.write(raw)
                    await writer.drain()
        finally:
            writer.close()

    def _note(self, words: list[bytes]) -> None:
        name = words[0].decode().lower()
        if name in HAVE_PARTS and len(words) > 1:
            name += "|" + words[1].decode().lower()
        if name in FREE:
            return
        self.used.add(name)
        if name == "script|load":
            digest = hashlib.sha1(words[2], usedforsecurity=False).hexdigest()
            self.scripts[digest] = words[2].decode()
            self.used |= commands_of(self.scripts[digest])
        elif name == "evalsha":
            # One that Redis does not know yet is loaded, by this role or another, and called again.
            self.used |= commands_of(self.scripts.get(words[1].decode(), ""))
        elif name == "eval":
            self.used |= commands_of(words[1].decode())

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.__exit__(None, None, None)


def commands_of(script: str) -> set[str]:
    """The commands that stand in the text of a script."""
    return {name.lower() for name in IN_SCRIPT.findall(script)}


def refusals(client: Redis) -> list[dict[str, str]]:
    """What this Redis has refused, and to whom."""
    return [
        {key: entry[key] for key in ("username", "reason", "object", "context")}
        for entry in client.acl_log()
    ]


async def _read_command(reader: asyncio.StreamReader) -> tuple[bytes, list[bytes]]:
    """One command as a client writes it: an array of strings, each with its length."""
    head = await reader.readuntil(b"\r\n")
    assert head[:1] == b"*", head
    raw, words = bytearray(head), []
    for _ in range(int(head[1:])):
        line = await reader.readuntil(b"\r\n")
        assert line[:1] == b"$", line
        body = await reader.readexactly(int(line[1:]) + 2)
        raw += line + body
        words.append(body[:-2])
    return bytes(raw), words


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        with suppress(ConnectionError):
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
    finally:
        writer.close()
