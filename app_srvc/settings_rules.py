"""What two settings must agree on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Literal

from app_srvc.settings_values import is_loopback_host

if TYPE_CHECKING:
    from app_srvc.settings import Settings

Part = Literal["web", "worker", "cli"]
Given = set[str]

REDIS = ("redis_url", "rds_host")
DATABASE = ("database_url", "pg_host", "data_dir")


def problems(settings: Settings, given: Given, part: Part) -> list[str]:
    """Return a sentence for each rule that the settings break.

    `given` has the names of the settings that were given at all, good or bad: a bad DATABASE_URL
    is reported once, not also as a missing database.
    """
    found = [sentence for rule in RULES for sentence in rule(settings, given)]
    if part == "web":
        found += _key_and_token_are_there_if_others_can_connect(settings, given)
    return found


def _a_redis_of_our_own_has_a_database(settings: Settings, given: Given) -> Iterator[str]:
    redis = [name for name in REDIS if name in given]
    if redis and not any(name in given for name in DATABASE):
        yield (
            f"{redis[0].upper()} is set, and no database is. Set DATABASE_URL, or PG_HOST, PG_USER, "
            "PG_PSW and PG_DB, to the same values in the web part and in every worker; or set "
            "DATA_DIR to keep the ledger in a SQLite file that all parts on this machine share."
        )


def _credentials_have_a_host(settings: Settings, given: Given) -> Iterator[str]:
    for host, url, parts in (
        ("rds_host", "redis_url", ("rds_port", "rds_user", "rds_psw")),
        ("pg_host", "database_url", ("pg_port", "pg_user", "pg_psw", "pg_db")),
    ):
        orphans = [name.upper() for name in parts if name in given]
        if orphans and host not in given and url not in given:
            verb = "is" if len(orphans) == 1 else "are"
            yield (
                f"{_and(orphans)} {verb} set, and {host.upper()} is not. Set {host.upper()}, "
                f"or remove {_and(orphans)}."
            )


def _a_redis_user_has_a_password(settings: Settings, given: Given) -> Iterator[str]:
    if "rds_user" in given and "rds_psw" not in given and "redis_url" not in given:
        yield "RDS_USER is set, and RDS_PSW is not. Set RDS_PSW, or remove RDS_USER."


def _postgresql_has_a_user(settings: Settings, given: Given) -> Iterator[str]:
    if "pg_host" in given and "pg_user" not in given and "database_url" not in given:
        yield "PG_HOST is set, and PG_USER is not. Set PG_USER, and PG_PSW if it has a password."


def _ranges_are_not_empty(settings: Settings, given: Given) -> Iterator[str]:
    for low, high in (
        ("robot_min_timedelta_s", "robot_max_timedelta_s"),
        ("robot_min_records", "robot_max_records"),
    ):
        lowest, highest = getattr(settings, low), getattr(settings, high)
        if lowest > highest:
            yield (
                f"{low.upper()} is {lowest} and {high.upper()} is {highest}, so no value is allowed. "
                "Lower the first or raise the second."
            )


def _queues_have_different_names(settings: Settings, given: Given) -> Iterator[str]:
    names = {name: getattr(settings, name) for name in given | set(QUEUES) if name in QUEUES}
    for queue in sorted(set(names.values())):
        same = [name.upper() for name in QUEUES if names[name] == queue]
        if len(same) > 1:
            yield f"{_and(same)} name the same queue, {queue!r}. Give each its own name."


def _token_has_a_source(settings: Settings, given: Given) -> Iterator[str]:
    if "source_token" in given and "source_url" not in given:
        yield "SOURCE_TOKEN is set, and SOURCE_URL is not. Set SOURCE_URL, or remove SOURCE_TOKEN."


def _key_and_token_are_there_if_others_can_connect(
    settings: Settings, given: Given
) -> Iterator[str]:
    missing = [name.upper() for name in ("secret_key", "api_token") if name not in given]
    if missing and not settings.is_loopback:
        where = "HOST" if settings.bind_hosts[0] in _open_hosts(settings) else "GUNICORN_CMD_ARGS"
        yield (
            f"{where} binds the web part to {_and(_open_hosts(settings))}, which others can reach, "
            f"and {_and(missing)} {'is' if len(missing) == 1 else 'are'} not set. "
            f"Set {_and(missing)}, or bind it to 127.0.0.1."
        )


def _open_hosts(settings: Settings) -> list[str]:
    return [host for host in settings.bind_hosts if not is_loopback_host(host)]


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


QUEUES = ("rdsq_usrreg", "rdsq_robot", "rdsq_outmsg", "rdsq_tasks")

RULES: tuple[Callable[[Settings, Given], Iterator[str]], ...] = (
    _a_redis_of_our_own_has_a_database,
    _credentials_have_a_host,
    _a_redis_user_has_a_password,
    _postgresql_has_a_user,
    _ranges_are_not_empty,
    _queues_have_different_names,
    _token_has_a_source,
)
