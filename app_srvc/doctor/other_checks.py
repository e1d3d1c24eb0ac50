"""The web part's address, the data folder and the robot's source."""

import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from shutil import disk_usage

from app_srvc.doctor.check import Check, is_sqlite
from app_srvc.errors import AppError
from app_srvc.robots.sources.choose import make_source
from app_srvc.settings import Settings

MIN_SECRET_CHARACTERS = 16
MIN_FREE_BYTES = 200 * 1024 * 1024


def check_web(settings: Settings) -> Iterator[Check]:
    where = ", ".join(dict.fromkeys(settings.bind_hosts))
    if settings.is_loopback:
        yield Check("web address", True, f"{where}: this machine only")
        return
    secrets = {"SECRET_KEY": settings.secret_key, "API_TOKEN": settings.api_token}
    weak = [
        name
        for name, secret in secrets.items()
        if secret is None or len(secret.get_secret_value()) < MIN_SECRET_CHARACTERS
    ]
    remedy = (
        f"Set {' and '.join(weak)} to {MIN_SECRET_CHARACTERS} random characters or more; "
        "`python -c 'import secrets; print(secrets.token_hex(32))'` makes some."
    )
    yield Check(
        "web address",
        not weak,
        f"{where}: others can connect; {', '.join(weak) or 'none'} missing or short",
        remedy if weak else "",
    )


def check_data_folder(settings: Settings) -> Iterator[Check]:
    has_sqlite = is_sqlite(settings)
    if not settings.uses_embedded_redis and not has_sqlite:
        yield Check("data folder", True, "not used: Redis and the database are elsewhere")
        return
    folder = settings.data_dir
    try:
        with tempfile.TemporaryFile(dir=_first_that_exists(folder)):
            free = disk_usage(_first_that_exists(folder)).free
    except OSError as error:
        yield Check(
            "data folder",
            False,
            f"{folder}: {error.strerror}",
            "Let the user that runs the service write there, or set DATA_DIR to another folder.",
        )
        return
    yield Check(
        "data folder",
        free >= MIN_FREE_BYTES,
        f"{folder}: writable, {free // 1024**2:,} MiB free",
        "" if free >= MIN_FREE_BYTES else "Free some space: a full disk refuses new messages.",
    )


def _first_that_exists(folder: Path) -> Path:
    return next(path for path in (folder, *folder.parents) if path.exists())


def check_source(settings: Settings) -> Iterator[Check]:
    if settings.source_url is None:
        advice = "Set SOURCE_URL for the robot `todos`; `app-srvc up` has a demo source."
        yield Check("source", True, "not set", advice)
        return
    now = datetime.now(UTC)
    source = make_source(settings, anchor=now)
    try:
        page = source.fetch_page(None, now=now)
        yield Check("source", True, f"{source.name}: {len(page.records)} records on the first page")
    except AppError as error:
        yield Check(
            "source",
            False,
            error.message,
            "Check SOURCE_URL, SOURCE_TOKEN and the way to that host. A robot that runs goes on "
            "trying.",
        )
    finally:
        source.close()
