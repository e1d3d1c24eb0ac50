"""How values look on pages: the filters and names that all templates share."""

import hashlib
from datetime import UTC, datetime
from functools import cache
from pathlib import Path

from flask import Flask, url_for
from flask_wtf.csrf import generate_csrf
from markupsafe import Markup

from app_srvc.times import rfc3339

STATIC = Path(__file__).parent / "static"


def prepare_templates(app: Flask, *, title: str, version: str) -> None:
    """Give templates what all of them need."""
    environment = app.jinja_env
    environment.trim_blocks = True
    environment.lstrip_blocks = True
    environment.filters.update(moment=_moment, rfc3339=rfc3339, number=_number)
    environment.globals.update(
        app_title=title,
        app_version=version,
        asset=_asset_url,
        csrf_field=_csrf_field if app.secret_key else Markup,
        now=lambda: datetime.now(UTC),
    )


def _moment(value: datetime | None) -> str | Markup:
    """A time for people: UTC as it is served, and in the reader's own zone where scripts run."""
    if value is None:
        return "–"
    value = value.astimezone(UTC)
    return Markup('<time datetime="{}" data-local>{} UTC</time>').format(
        rfc3339(value), value.strftime("%Y-%m-%d %H:%M:%S")
    )


def _number(value: int | None) -> str:
    """A number with thin spaces between thousands; None is what could not be asked."""
    return "unknown" if value is None else f"{value:,}".replace(",", "\u202f")


def _csrf_field() -> Markup:
    return Markup('<input type="hidden" name="csrf_token" value="{}">').format(generate_csrf())


def _asset_url(name: str) -> str:
    """The address of a static file, with its content's digest: it may be kept for ever."""
    return url_for("static", filename=name, v=_digest(name))


@cache
def _digest(name: str) -> str:
    return hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
