"""Arrivals: wait, without polling, until one of some queues has a job."""

import select
import time
from collections.abc import Sequence, Set
from typing import Any

from redis import Redis
from redis.connection import Connection
from redis.exceptions import ResponseError

# Asked anew so often; a connection that died in silence is noticed then.
WAIT_S = 4
SILENT_S = 2.0


class Arrivals:
    """Waits on a connection for each queue, as a blocking command watches one list.

    `BLMOVE q q LEFT LEFT` moves the head of a list to its head: nothing changes, everybody who waits is
    woken. `wake` is a file descriptor that ends the wait when it can be read.
    """

    def __init__(self, client: Redis, keys: Sequence[str], wake: int) -> None:
        self._pool = client.connection_pool
        self._keys = keys
        self._wake = wake
        self._waiting: dict[str, Connection] = {}
        self._asked_at: dict[str, float] = {}

    def wait(self, timeout_s: float, but: Set[str] = frozenset()) -> bool:
        """Whether a queue may have a job by now; False after the time, or when woken.

        The keys in `but` are not waited for.

        Raises:
            RedisError: A link is lost. All are closed; the next wait opens them again.
        """
        try:
            self._close_silent()
            keys = [key for key in self._keys if key not in but]
            sockets: dict[Any, str] = {self._ask(key)._sock: key for key in keys}
            readable, _, _ = select.select([*sockets, self._wake], [], [], timeout_s)
            heard = [self._hear(sockets[each]) for each in readable if each in sockets]
            return any(heard)
        except ResponseError:
            # Not a list, or Redis refuses to block: wait for the time.
            self.close()
            select.select([self._wake], [], [], min(timeout_s, 0.25))
            return True
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        for key in list(self._waiting):
            self._drop(key)

    def _close_silent(self) -> None:
        """Redis has answered by now, or the link is dead without anybody having said so."""
        oldest = time.monotonic() - WAIT_S - SILENT_S
        late = [key for key, at in self._asked_at.items() if at < oldest]
        sockets: dict[Any, str] = {self._waiting[key]._sock: key for key in late}
        answered, _, _ = select.select(list(sockets), [], [], 0)
        for silent in sockets.keys() - set(answered):
            self._drop(sockets[silent])

    def _drop(self, key: str) -> None:
        connection = self._waiting.pop(key)
        del self._asked_at[key]
        connection.disconnect()
        self._pool.release(connection)

    def _ask(self, key: str) -> Connection:
        connection = self._waiting.get(key)
        if connection is None:
            connection = self._pool.get_connection()
            try:
                connection.send_command("BLMOVE", key, key, "LEFT", "LEFT", WAIT_S)
            except BaseException:
                connection.disconnect()
                self._pool.release(connection)
                raise
            self._waiting[key] = connection
            self._asked_at[key] = time.monotonic()
        return connection

    def _hear(self, key: str) -> bool:
        connection = self._waiting[key]
        moved = connection.read_response()
        del self._waiting[key], self._asked_at[key]
        self._pool.release(connection)
        return moved is not None
