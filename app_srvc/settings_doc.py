"""Makes docs/configuration.md from the table of settings: `python -m app_srvc.settings_doc`."""

import sys
from typing import Any, cast

from pydantic.fields import FieldInfo

from app_srvc import settings_values
from app_srvc.settings import EnvironmentSource, Settings

HEAD = """\
<!-- Made by `python -m app_srvc.settings_doc > docs/configuration.md`: change app_srvc/settings.py. -->

# Configuration

Every setting is an environment variable, and none has to be set: with an empty environment the
service keeps its data under `.data` and is reached from this machine only. A variable that is set
but empty counts as unset. Whatever is wrong is named at the start, all of it at once;
`app-srvc doctor` checks the connections too.
"""

RULES = """\
## Rules between settings

- `REDIS_URL` is stronger than `RDS_*`, and `DATABASE_URL` stronger than `PG_*`, where both are given.
- With a Redis set, a database must be set too, or `DATA_DIR`: parts on several machines that each
  kept a file of their own would not see each other's messages.
- The web part on an address that others can reach, by `HOST` or by `--bind` in `GUNICORN_CMD_ARGS`,
  needs `SECRET_KEY` and `API_TOKEN`. A deployment of the original system therefore needs two
  additions to its web part: `PG_*` as its workers have them, and these two.
- `RDS_PORT`, `RDS_USER` and `RDS_PSW` need `RDS_HOST`, and `RDS_USER` needs `RDS_PSW`; the other
  `PG_*` need `PG_HOST`, and `SOURCE_TOKEN` needs `SOURCE_URL`. The four queues have four names, and no
  smallest value is above its largest.
"""


def configuration_page() -> str:
    """Return the whole page."""
    sections: dict[str, list[str]] = {}
    for name, field in Settings.model_fields.items():
        sections.setdefault(_extra(field)["section"], []).append(_row(name, field))
    tables = [
        f"## {section}\n\n| variable | default | takes | what it is |\n|---|---|---|---|\n"
        + "\n".join(rows)
        + "\n"
        for section, rows in sections.items()
    ]
    return "\n".join([HEAD, *tables, RULES])


def _row(name: str, field: FieldInfo) -> str:
    names = "<br>".join(f"`{one}`" for one in (name.upper(), *EnvironmentSource.aliases(name)))
    return f"| {names} | {_default(field)} | {_takes(field)} | {field.description} |"


def _default(field: FieldInfo) -> str:
    return "" if field.default in (None, "") else f"`{settings_values.plain(field.default)}`"


def _takes(field: FieldInfo) -> str:
    if settings_values.is_secret(field):
        return "secret"
    expected = settings_values.expectation(field)
    if expected == "text":
        return ""
    unit = _extra(field)["unit"]
    return f"{expected.removeprefix('a number ')} {unit}".strip()


def _extra(field: FieldInfo) -> dict[str, Any]:
    return cast(dict[str, Any], field.json_schema_extra)


if __name__ == "__main__":
    sys.stdout.write(configuration_page())
