"""Links to Redis: the one place, besides the embedded server, where a client is made.

Retries and time-outs are set here in full. redis-py gives a client made from a URL no retry at
all, and one made from a host ten retries that nest (each of a command's retries may run all of
those for connecting), so neither suits a request that may wait a second, nor a worker that
must outlive a restart of Redis.
"""

import time
from collections.abc import Callable
from typing import Any, Literal, TypeVar
from urllib.parse import parse_qs, unquote, urlsplit

from redis import BlockingConnectionPool, ConnectionPool, Redis
from redis.backoff import AbstractBackoff, EqualJitterBackoff, NoBackoff
from redis.connection import SSLConnection, parse_url
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError
from redis.maint_notifications import MaintNotificationsConfig
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from app_srvc.settings_values import SENTINEL_SCHEMES, TLS_OPTIONS, host_list

Caller = Literal["web", "worker", "loop"]
T = TypeVar("T")

WEB_CONNECT_TIMEOUT_S = 0.5
WEB_SOCKET_TIMEOUT_S = 1.0
WEB_POOL_WAIT_S = 0.5
LOOP_CONNECT_TIMEOUT_S = 1.0
LOOP_SOCKET_TIMEOUT_S = 5.0
WORKER_CONNECT_TIMEOUT_S = 5.0
WORKER_RETRY_FOR_S = 20.0

# A blocking command of a worker must wait for less than this, or the silence of an empty queue
# looks like a dead link. RQ's own worker raises it when its worker_ttl asks for more.
WORKER_SOCKET_TIMEOUT_S = 20.0

MAX_CONNECTIONS = 64

# No question to another product than Redis, and no introduction, which costs each connection two answers
# and a user of Redis one more right.
SAME_FOR_ALL: dict[str, Any] = {
    "maint_notifications_config": MaintNotificationsConfig(enabled=False),
    "driver_info": None,
}

# Stronger than anything that an address says.
VERIFIED = {"ssl_cert_reqs": "required", "ssl_check_hostname": True}


def make_redis(url: str, *, caller: Caller) -> Redis:
    """Return a client for a URL that `Settings` has checked; nothing is connected yet.

    A `web` client answers or fails within about a second: one retry when a link turns out to be
    broken or refused, none after a time-out. A `worker` client goes on for 20 seconds with capped
    back-off, which covers a restart or a failover; for longer outages the loop around it goes on.
    A `loop` client is for such a loop itself, which must go on noticing signals: it never retries,
    and waits 5 seconds at most for an answer, so a blocking command has to be shorter than that.
    A command that fails may have been carried out: send only what may be sent twice.

    The client owns one pool. Keep it and share it between threads; a process that forks may go on
    using it on both sides. Answers are bytes, as RQ needs them.
    """
    scheme = urlsplit(url).scheme
    if scheme in SENTINEL_SCHEMES:
        return _sentinel_client(url, _link_options(caller))
    options = {**_link_options(caller), **parse_url(url)}
    if scheme == "rediss":
        options |= {"connection_class": SSLConnection, **VERIFIED}
    return Redis.from_pool(_pool(caller, options))


def _pool(caller: Caller, options: dict[str, Any]) -> ConnectionPool:
    if caller != "web":
        return ConnectionPool(max_connections=MAX_CONNECTIONS, **options)
    # Hundreds of greenlets may ask at once: they take turns, and none opens a link of its own.
    return BlockingConnectionPool(
        max_connections=MAX_CONNECTIONS, timeout=WEB_POOL_WAIT_S, **options
    )


def _link_options(caller: Caller) -> dict[str, Any]:
    return {**SAME_FOR_ALL, **_patience(caller)}


def _patience(caller: Caller) -> dict[str, Any]:
    if caller == "web":
        return {
            "socket_connect_timeout": WEB_CONNECT_TIMEOUT_S,
            "socket_timeout": WEB_SOCKET_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            "health_check_interval": 15,
        }
    if caller == "loop":
        return {
            "socket_connect_timeout": LOOP_CONNECT_TIMEOUT_S,
            "socket_timeout": LOOP_SOCKET_TIMEOUT_S,
            "retry": Retry(NoBackoff(), 0),
        }
    return {
        "socket_connect_timeout": WORKER_CONNECT_TIMEOUT_S,
        "socket_timeout": WORKER_SOCKET_TIMEOUT_S,
        "retry": RetryFor(WORKER_RETRY_FOR_S, EqualJitterBackoff(cap=1.0, base=0.05)),
        "health_check_interval": 15,
    }


def _sentinel_client(url: str, options: dict[str, Any]) -> Redis:
    """Ask the Sentinels for the master before each new connection, so a failover is followed.

    With TLS, both the Sentinels and what they name are spoken to over it, and verified alike: the
    Sentinels must announce names that the certificates have.
    """
    parts = urlsplit(url)
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    service, _, database = parts.path.strip("/").partition("/")
    tls: dict[str, Any] = {}
    if parts.scheme == "rediss+sentinel":
        named = {name: query[name] for name in TLS_OPTIONS if name in query}
        tls = {"ssl": True, **VERIFIED, **named}
    sentinel = Sentinels(  # type: ignore[no-untyped-call]
        [(host, port or 26379) for host, port in host_list(parts)],
        sentinel_kwargs={
            # Without a retry of its own: the next Sentinel is the retry.
            "retry": Retry(NoBackoff(), 0),
            "socket_connect_timeout": WEB_CONNECT_TIMEOUT_S,
            "socket_timeout": WEB_SOCKET_TIMEOUT_S,
            "username": query.get("sentinel_username"),
            "password": query.get("sentinel_password"),
            **tls,
        },
    )
    client: Redis = sentinel.master_for(  # type: ignore[no-untyped-call]
        unquote(service),
        db=int(query.get("db") or database or 0),
        username=_unquoted(parts.username),
        password=_unquoted(parts.password),
        max_connections=MAX_CONNECTIONS,
        **options,
        **tls,
    )
    return client


class Sentinels(Sentinel):
    """Asks the one first that answered last, and says in a few words that none names a master.

    The library reorders its list while it asks, and threads that do so at once lose entries of it. And it
    does not learn from an attempt that a deadline has broken off, so a web request would never get past a
    first Sentinel whose machine is gone without a word.
    """

    _first = 0

    def discover_master(self, service_name: str) -> tuple[str, int]:
        first, count = self._first, len(self.sentinels)
        try:
            for place in ((first + number) % count for number in range(count)):
                state = self._ask(place, service_name)
                if state is not None:
                    self._first = place
                    return state["ip"], state["port"]
        except BaseException:
            # Also a request's deadline, which is no Exception.
            self._first = (first + 1) % count
            raise
        raise MasterNotFoundError(
            f"None of {count} Sentinels names a master for {service_name!r} now"
        )

    def _ask(self, place: int, service_name: str) -> dict[str, Any] | None:
        try:
            masters: Any = self.sentinels[place].sentinel_masters()
        except (RedisConnectionError, RedisTimeoutError):
            return None
        state = masters.get(service_name)
        is_good = state and self.check_master_state(state, service_name)  # type: ignore[no-untyped-call]
        return state if is_good else None

    def why_not(self) -> str:
        """What the first Sentinel that cannot be asked says of it; empty if all can be."""
        for sentinel in self.sentinels:
            try:
                sentinel.ping()
            except RedisError as error:
                return str(error)
        return ""


def _unquoted(value: str | None) -> str | None:
    return unquote(value) if value else None


class RetryFor(Retry):
    """Retry with back-off until a time is over, counted from the first try.

    Counting seconds and not tries keeps the whole bounded: redis-py retries the connecting inside
    each retry of a command, which multiplies tries but not a deadline.
    """

    def __init__(self, total_s: float, backoff: AbstractBackoff) -> None:
        super().__init__(backoff, retries=-1)
        self._total_s = total_s

    def call_with_retry(
        self,
        do: Callable[[], T],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        give_up_at = time.monotonic() + self._total_s
        failures = 0
        while True:
            try:
                return do()
            except self._supported_errors as error:
                if is_retryable is not None and not is_retryable(error):
                    raise
                failures += 1
                # Always, also the last time: this is what takes the broken link out of use.
                fail(error, failures) if with_failure_count else fail(error)
                pause_s = self._backoff.compute(failures)
                if time.monotonic() + pause_s >= give_up_at:
                    raise
                time.sleep(pause_s)

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, RetryFor)
            and self._total_s == other._total_s
            and super().__eq__(other)
        )

    def __hash__(self) -> int:
        return hash((self._total_s, super().__hash__()))
