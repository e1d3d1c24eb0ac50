"""Worlds: a runtime on real servers, with the service's own kinds and a few that tests need."""

from collections.abc import Mapping
from types import MappingProxyType

from app_srvc.kinds import KINDS, Kind, RetryPolicy
from app_srvc.migrations import migrate
from app_srvc.runtime import Runtime, open_runtime
from app_srvc.settings import Settings

QUICK = RetryPolicy(max_tries=3, base_delay_s=0.001, max_delay_s=0.002)

SAMPLE_KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        **KINDS,
        **{
            name: Kind(
                name=name,
                version=1,
                queue="rdsq_tasks",
                schema="tests.samples.handlers:Note",
                handler=f"tests.samples.handlers:{name}",
                effects="tests.samples.handlers:count_notes",
                key_field="text",
                timeout_s=5,
                retry=QUICK,
            )
            for name in (
                "keep_note",
                "fail_always",
                "fail_for_good",
                "exit_the_process",
                "sleep_long",
            )
        },
    }
)


def settings_for(redis_url: str, database_url: str, **more: str) -> Settings:
    return Settings.from_env({"REDIS_URL": redis_url, "DATABASE_URL": database_url, **more})


def open_world(
    redis_url: str,
    database_url: str,
    *,
    kinds: Mapping[str, Kind] = SAMPLE_KINDS,
    **more: str,
) -> Runtime:
    """A runtime on an empty database that has been brought up to date."""
    runtime = open_runtime(settings_for(redis_url, database_url, **more), kinds=kinds)
    migrate(runtime.database)
    return runtime
