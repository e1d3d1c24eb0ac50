"""What the doctor's checks share."""

from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from app_srvc.settings import Settings


@dataclass(frozen=True)
class Check:
    """What was looked at, and what to do about it. A good one may carry advice as its remedy."""

    name: str
    ok: bool
    detail: str
    remedy: str = ""


def place_of(url: str) -> str:
    """Return where a URL leads, without who may go there."""
    parts = urlsplit(url)
    hosts = parts.netloc.rpartition("@")[2] or ",".join(parse_qs(parts.query).get("host", []))
    return f"{parts.scheme}://{hosts}{parts.path}"


def is_sqlite(settings: Settings) -> bool:
    return settings.effective_database_url.get_secret_value().startswith("sqlite:")
