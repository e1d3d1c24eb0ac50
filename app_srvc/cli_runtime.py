"""The configured world in which a command of the terminal runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pydantic import SecretStr
from sqlalchemy import make_url

from app_srvc.embedded import EmbeddedValkey
from app_srvc.errors import ConfigurationError
from app_srvc.logs import configure_logs
from app_srvc.runtime import Runtime, open_runtime
from app_srvc.settings import Settings


def cli_settings() -> Settings:
    """The settings; without a Redis among them, that of an `app-srvc up` on the same data folder."""
    settings = Settings.from_env(part="cli")
    configure_logs(settings)
    if not settings.uses_embedded_redis:
        return settings
    url = EmbeddedValkey(settings.data_dir).url
    return settings.model_copy(update={"redis_url": SecretStr(url)})


@contextmanager
def cli_runtime(*, may_make_ledger: bool = False) -> Iterator[Runtime]:
    settings = cli_settings()
    ledger = make_url(settings.effective_database_url.get_secret_value())
    if ledger.get_backend_name() == "sqlite" and not may_make_ledger:
        _check_ledger(Path(ledger.database or ""))
    # A person waits for the answer: with Redis away they are told so at once.
    runtime = open_runtime(settings, caller="loop")
    try:
        yield runtime
    finally:
        runtime.close()


def _check_ledger(path: Path) -> None:
    """To look at a ledger that is not there would make an empty one in a place that nobody meant."""
    if not path.exists():
        raise ConfigurationError(
            [f"there is no ledger at {path}: is DATA_DIR right? The service makes it at its start."]
        )
