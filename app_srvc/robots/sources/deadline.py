"""A deadline for a whole HTTP exchange, which requests itself does not have.

The time-outs of requests start again with every byte, so a server that sends one byte now and then
can hold a reader for days, in its headers as well as in its body. Here every socket of a session is
known, and when the time is over all are shut: whoever reads from one wakes up at once.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakSet

from requests.adapters import HTTPAdapter


class Deadline:
    """One exchange's time. `is_over` stays true once it has run out."""

    def __init__(self) -> None:
        self.is_over = False


class DeadlineAdapter(HTTPAdapter):
    """A transport whose sockets can be given a deadline. For one thread at a time."""

    def __init__(self) -> None:
        # Before super().__init__, which makes the first pool.
        self._sockets: WeakSet[socket.socket] = WeakSet()
        self._lock = threading.Lock()
        self._current: Deadline | None = None
        super().__init__(pool_connections=2, pool_maxsize=1)

    @contextmanager
    def deadline(self, timeout_s: float) -> Iterator[Deadline]:
        """Shut every socket if the block is not left within the time."""
        deadline = Deadline()
        timer = threading.Timer(timeout_s, self._end, [deadline])
        timer.daemon = True
        with self._lock:
            self._current = deadline
        timer.start()
        try:
            yield deadline
        finally:
            timer.cancel()
            with self._lock:
                self._current = None

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        super().init_poolmanager(*args, **kwargs)
        self._watch_pools(self.poolmanager)

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        is_new = proxy not in self.proxy_manager
        manager = super().proxy_manager_for(proxy, **kwargs)
        if is_new:
            self._watch_pools(manager)
        return manager

    def _watch_pools(self, manager: Any) -> None:
        manager.pool_classes_by_scheme = {
            scheme: _watched(pool_class, self._watch)
            for scheme, pool_class in manager.pool_classes_by_scheme.items()
        }

    def _watch(self, sock: socket.socket) -> None:
        with self._lock:
            self._sockets.add(sock)
            if self._current is not None and self._current.is_over:
                _shut(sock)

    def _end(self, deadline: Deadline) -> None:
        """A timer that fires late must not end the exchange after its own."""
        with self._lock:
            if self._current is deadline:
                deadline.is_over = True
                for sock in self._sockets:
                    _shut(sock)


def _watched(pool_class: Any, watch: Any) -> Any:
    """The pool class, with connections that tell of the socket that they open."""

    class WatchedConnection(pool_class.ConnectionCls):  # type: ignore[misc]
        def connect(self) -> None:
            super().connect()
            watch(self.sock)

    return type(pool_class.__name__, (pool_class,), {"ConnectionCls": WatchedConnection})


def _shut(sock: socket.socket) -> None:
    with suppress(OSError):
        # The plain socket's shutdown: the TLS one would take the session from under its reader.
        socket.socket.shutdown(sock, socket.SHUT_RDWR)
