"""Which source a robot reads, by the settings."""

from datetime import datetime

from app_srvc.errors import ConfigurationError
from app_srvc.robots.sources.base import Source
from app_srvc.robots.sources.demo import DemoSource
from app_srvc.robots.sources.json_service import JsonService
from app_srvc.settings import Settings
from app_srvc.settings_values import DEMO_SOURCE


def make_source(settings: Settings, *, anchor: datetime) -> Source:
    """Return the source that `SOURCE_URL` names; the caller closes it.

    `anchor` is when the demo source began to exist.

    Raises:
        ConfigurationError: `SOURCE_URL` is not set, or is not one that can be read.
    """
    if settings.source_url is None:
        raise ConfigurationError(
            [
                "SOURCE_URL must be set for the robot to read something, got nothing. "
                f"Set it to the address of a web service, or to {DEMO_SOURCE} for the demo source."
            ]
        )
    if settings.source_url == DEMO_SOURCE:
        return DemoSource(anchor, settings.source_page_size)
    token = settings.source_token
    return JsonService(
        settings.source_url,
        token=token.get_secret_value() if token else None,
        timeout_s=settings.source_timeout_s,
        page_size=settings.source_page_size,
        max_bytes=settings.source_max_bytes,
    )
