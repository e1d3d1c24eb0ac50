"""The link of one process to Redis: scripts, sent together and answered one by one.

It never retries by itself. What is sent may be sent again, so whoever uses it is the retry.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from redis import ConnectionPool, Redis
from redis.backoff import NoBackoff
from redis.connection import Connection
from redis.exceptions import NoScriptError, ReadOnlyError, ResponseError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import SentinelConnectionPool

FOLDER = Path(__file__).parent / "lua"
# In `rq:wip:Q` the second at which a lease ends is written so much later, some 34 years: RQ's tools fail a
# job whose second has passed.
FAR_S = 2**30
CONNECT_TIMEOUT_S = 1.0
ANSWER_TIMEOUT_S = 5.0


class ScriptText:
    """One script of ours, and the name under which Redis knows it."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.text = (FOLDER / f"{name}.lua").read_bytes()
        self.sha = hashlib.sha1(self.text, usedforsecurity=False).hexdigest()


SCRIPTS = CLAIM, FINISH, RENEW, HAND_BACK, RESCUE, PROMOTE, TRIM, FORGET, UNSTICK = tuple(
    map(
        ScriptText,
        (
            *("claim", "finish", "renew", "hand_back", "rescue", "promote"),
            *("trim", "forget", "unstick"),
        ),
    )
)


def own_client(client: Redis, *, answer_timeout_s: float = ANSWER_TIMEOUT_S) -> Redis:
    """A client to the same Redis that fails fast, with connections of its own."""
    pool = client.connection_pool
    options = {
        **pool.connection_kwargs,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_timeout": answer_timeout_s,
        "retry": Retry(NoBackoff(), 0),
        "health_check_interval": 0,
        "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    }
    if isinstance(pool, SentinelConnectionPool):
        options |= {"connection_class": pool.connection_class, "is_master": pool.is_master}
        options.pop("connection_pool", None)  # the other pool, which its connections ask
        return Redis(
            connection_pool=SentinelConnectionPool(
                pool.service_name, pool.sentinel_manager, **options
            )
        )
    return Redis(connection_pool=ConnectionPool(connection_class=pool.connection_class, **options))


class Call:
    """One call of a script, to be sent."""

    __slots__ = ("arguments", "script")

    def __init__(self, script: ScriptText, keys: Sequence[Any], arguments: Sequence[Any]) -> None:
        self.script = script
        self.arguments = (len(keys), *keys, *arguments)


class ScriptLink:
    """One connection. `send` and `answer` are apart, so that a process can work while Redis does."""

    def __init__(self, client: Redis) -> None:
        self._pool = client.connection_pool
        self._connection: Connection | None = None
        self._sent = 0

    def send(self, *calls: Call) -> None:
        """Send calls; each is answered by one `answer`, in their order."""
        connection = self._open()
        packed: list[Any] = []
        for call in calls:
            packed += connection.pack_command("EVALSHA", call.script.sha, *call.arguments)
        try:
            connection.send_packed_command(packed, check_health=False)
        except BaseException:
            self.drop()
            raise
        self._sent += len(calls)

    def answer(self) -> Any:
        """The answer to the call that was sent first and not answered yet.

        Raises:
            RedisError: Redis refused it, or the link is lost: then nobody knows whether it was done.
        """
        self._sent -= 1
        try:
            return self._open().read_response()
        except ResponseError as error:
            # What else was sent has its answer coming. A new connection knows the scripts, and after a
            # fail-over it leads to the new master.
            if self._sent or isinstance(error, NoScriptError | ReadOnlyError):
                self.drop()
            raise
        except BaseException:
            self.drop()
            raise

    def answers(self) -> list[Any]:
        """The answers to all that was sent; in place of one, the error with which Redis refused it.

        Raises:
            RedisError: The link is lost, or a new one is needed.
        """
        found: list[Any] = []
        while self._sent:
            try:
                found.append(self._open().read_response())
                self._sent -= 1
            except (NoScriptError, ReadOnlyError):
                self.drop()
                raise
            except ResponseError as error:
                found.append(error)
                self._sent -= 1
            except BaseException:
                self.drop()
                raise
        return found

    @property
    def unanswered(self) -> int:
        """How many calls were sent whose answers were not read."""
        return self._sent

    def drop_unanswered(self) -> None:
        """Give up answers that are still on their way: what was asked will be asked again."""
        if self._sent:
            self.drop()

    def call(self, call: Call) -> Any:
        self.send(call)
        return self.answer()

    def drop(self) -> None:
        """Forget the connection, and whatever is on its way."""
        self._sent = 0
        if self._connection is not None:
            self._connection.disconnect()
            self._pool.release(self._connection)
            self._connection = None

    def _open(self) -> Connection:
        if self._connection is None:
            connection = self._pool.get_connection()
            try:
                for script in SCRIPTS:
                    connection.send_command("SCRIPT", "LOAD", script.text, check_health=False)
                for _ in SCRIPTS:
                    connection.read_response()
            except BaseException:
                connection.disconnect()
                self._pool.release(connection)
                raise
            self._connection = connection
        return self._connection
