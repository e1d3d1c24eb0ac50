"""Is Redis there, new enough, and set up to keep what it is given?"""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from redis import Redis
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.sentinel import MasterNotFoundError

from app_srvc.broker import Sentinels, make_redis
from app_srvc.doctor.check import Check, place_of
from app_srvc.embedded import EmbeddedValkey, bundled_server
from app_srvc.errors import BrokerUnavailableError
from app_srvc.settings import Settings
from app_srvc.workers.legacy_jobs import list_legacy_jobs

MIN_REDIS = (6, 2)
OWN_CERTIFICATE = (
    "If the server asks for a certificate of its clients, name it with ssl_certfile and "
    "ssl_keyfile."
)
# Of each list and registry: jobs that were left over are the oldest, and those come first.
JOBS_LOOKED_AT = 1_000


def check_redis(settings: Settings) -> Iterator[Check]:
    secret = settings.effective_redis_url
    if secret is not None:
        yield from _redis_at(secret.get_secret_value(), settings.queue_names)
    elif (embedded := EmbeddedValkey(settings.data_dir)).is_served:
        yield from _redis_at(embedded.url, settings.queue_names)
    else:
        yield Check(
            "redis",
            bundled_server() is not None,
            "embedded, and not running now",
            "`app-srvc up` starts it."
            if bundled_server()
            else "There is no embedded Valkey for this machine: set REDIS_URL or RDS_HOST.",
        )


def _redis_at(url: str, queues: Sequence[str]) -> Iterator[Check]:
    with make_redis(url, caller="web") as client:
        try:
            # Reached first: some providers refuse parts of INFO.
            client.ping()
            info: dict[str, Any] = client.info()
        except RedisError as error:
            words = f"{error}{_of_sentinels(client)}"
            yield Check(
                "redis", False, f"{place_of(url)}: {words}", _redis_remedy(url, error, words)
            )
            return
        pickled = _pickled_jobs(client, queues)
    yield _redis_version(url, info)
    yield _redis_writes(info)
    yield _redis_persistence(info)
    yield _redis_eviction(info)
    yield from pickled


def _of_sentinels(client: Redis) -> str:
    sentinels = getattr(client.connection_pool, "sentinel_manager", None)
    reason = sentinels.why_not() if isinstance(sentinels, Sentinels) else ""
    return reason and f". A Sentinel: {reason}"


def _redis_remedy(url: str, error: RedisError, words: str) -> str:
    words = words.lower()
    if isinstance(error, NoPermissionError):
        return (
            "Give the user of Redis the commands and keys of its role, as deploy/redis/users.acl has "
            "them, or name another in RDS_USER or REDIS_URL."
        )
    if isinstance(error, AuthenticationError) or "auth" in words or "password" in words:
        return "Check the user and password in RDS_PSW or REDIS_URL."
    if "certificate" in words:
        return (
            "Name the authority's file with ssl_ca_certs in REDIS_URL, and the host as the "
            "certificate has it; one that has expired must be made anew. " + OWN_CERTIFICATE
        )
    if "name or service" in words or "resolution" in words or "nodename" in words:
        return "Check the host's name in RDS_HOST or REDIS_URL, and the DNS of this machine."
    if isinstance(error, MasterNotFoundError):
        return (
            "Check in REDIS_URL the addresses of the Sentinels and the name that they know the master "
            "by, and look at what they say of it: `SENTINEL MASTERS`."
        )
    # A server that misses a client's certificate may just hang up.
    also = f"{OWN_CERTIFICATE} " if url.startswith("rediss") else ""
    return (
        "Start Redis, or check RDS_HOST, RDS_PORT or REDIS_URL (rediss:// if that port speaks TLS, "
        f"redis:// if not), and that no firewall or network policy is between. {also}Until it is "
        "back, messages are accepted and wait in the database."
    )


def _redis_version(url: str, info: dict[str, Any]) -> Check:
    version = str(info.get("redis_version", "0"))
    shown = f"Valkey {info['valkey_version']}" if "valkey_version" in info else f"Redis {version}"
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    return Check(
        "redis",
        numbers >= MIN_REDIS,
        f"{shown} at {place_of(url)}",
        "" if numbers >= MIN_REDIS else "Redis 6.2 or newer is needed, or any Valkey.",
    )


def _redis_writes(info: dict[str, Any]) -> Check:
    if info.get("role") not in (None, "master"):
        return Check(
            "redis writes",
            False,
            "this is a replica, which takes no writes",
            "Name the master, or the Sentinels that know it: redis+sentinel://host:port/service.",
        )
    failing = [
        name
        for name in ("rdb_last_bgsave_status", "aof_last_write_status", "aof_last_bgrewrite_status")
        if info.get(name, "ok") != "ok"
    ]
    return Check(
        "redis writes",
        not failing,
        f"{', '.join(failing)} failed" if failing else "taken",
        "Look at the disk of Redis: it refuses writes until saving works again." if failing else "",
    )


def _redis_persistence(info: dict[str, Any]) -> Check:
    if info.get("aof_enabled"):
        return Check("redis persistence", True, "append-only file")
    return Check(
        "redis persistence",
        True,
        "no append-only file",
        "With `appendonly yes` work goes on at once after a restart of Redis. Without it the queues "
        "are rebuilt from the database, which takes some seconds; nothing is lost either way.",
    )


def _redis_eviction(info: dict[str, Any]) -> Check:
    policy, limit = str(info.get("maxmemory_policy", "noeviction")), int(info.get("maxmemory", 0))
    ok = policy == "noeviction" or limit == 0
    return Check(
        "redis eviction",
        ok,
        f"maxmemory-policy {policy}, maxmemory {limit or 'not set'}",
        ""
        if ok
        else "Set maxmemory-policy to noeviction: others delete queued jobs when memory is short.",
    )


def _pickled_jobs(client: Redis, queues: Sequence[str]) -> list[Check]:
    """Nothing where they cannot be read: whatever keeps us from it has been reported."""
    places: Counter[str] = Counter()
    try:
        for job in list_legacy_jobs(client, queues, most_of_a_place=JOBS_LOOKED_AT):
            places[job.place] += 1
    except BrokerUnavailableError:
        return []
    found = ", ".join(f"{count} {place}" for place, count in places.items())
    to_do = places.total() - places["failed"]
    remedy = "`app-srvc queue legacy` lists them, and says what to do with each." if found else ""
    return [Check("redis pickled jobs", not to_do, found or "none", remedy)]
