"""The configured world in which a request, a job or a command runs. The app and the workers share it."""

from collections.abc import Mapping
from dataclasses import dataclass

import redis

from app_srvc.broker import Caller, make_redis
from app_srvc.database import POOL_SIZE, Database, open_database
from app_srvc.errors import ConfigurationError
from app_srvc.kinds import KINDS, Kind
from app_srvc.messages.dispatch import Dispatcher
from app_srvc.robots.table import ROBOTS, RobotDefinition
from app_srvc.settings import Settings

WEB_STATEMENT_TIMEOUT_S = 1.0
WORKER_STATEMENT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Runtime:
    """Everything that state is kept in, and the tables of what may be done. Passed, never global."""

    settings: Settings
    database: Database
    redis: redis.Redis
    dispatcher: Dispatcher
    kinds: Mapping[str, Kind]
    robots: Mapping[str, RobotDefinition]

    def queue_of(self, kind: Kind) -> str:
        """The name of the queue that carries a kind here."""
        name: str = getattr(self.settings, kind.queue)
        return name

    def close(self) -> None:
        self.redis.close()
        self.database.close()


def open_redis(settings: Settings, *, caller: Caller) -> redis.Redis:
    """Make a link to Redis; nothing is connected yet.

    Raises:
        ConfigurationError: No Redis is set. `app-srvc up` brings its own and sets it for the parts.
    """
    if settings.effective_redis_url is None:
        raise ConfigurationError(
            ["REDIS_URL is not set. Set it, or start the whole service with `app-srvc up`."]
        )
    return make_redis(settings.effective_redis_url.get_secret_value(), caller=caller)


def open_runtime(
    settings: Settings,
    *,
    caller: Caller = "worker",
    kinds: Mapping[str, Kind] = KINDS,
    robots: Mapping[str, RobotDefinition] = ROBOTS,
    database_connections: int = POOL_SIZE,
) -> Runtime:
    """Make the links; nothing is connected yet.

    `database_connections` are kept when nobody needs them; more are made while more are needed.

    Raises:
        ConfigurationError: No Redis is set.
    """
    client = open_redis(settings, caller=caller)
    return Runtime(
        settings=settings,
        database=open_database(
            settings.effective_database_url.get_secret_value(),
            statement_timeout_s=WEB_STATEMENT_TIMEOUT_S
            if caller == "web"
            else WORKER_STATEMENT_TIMEOUT_S,
            pool_size=database_connections,
        ),
        redis=client,
        dispatcher=Dispatcher(
            client,
            result_ttl_s=settings.job_result_ttl_s,
            failure_ttl_s=settings.job_failure_ttl_s,
        ),
        kinds=kinds,
        robots=robots,
    )
