"""What a deployment was given before: each Deployment carries it, so that nobody has to say it again.

A template fills what it is not given with its defaults: without this, a second run that names less than the
first would move the parts to another database, or cut them off from it.
"""

from __future__ import annotations

import json
from typing import Iterable

from oc import Object, say
from options import Options
from table import APPLICATION, GROUND, PARTS, Part, component_of

ANNOTATION = "app-srvc/parameters"
# Found anew each time, or nobody else's business: what stands in the Secret is in no annotation.
NEVER = frozenset({"APP_NAME", "GIT_URL", "REPLICAS"}).union(
    *(part.parameters - {"SECRET_NAME"} for part in PARTS if part.name == "secrets")
)
# The same for all parts: one that was not there before takes it from the others.
OF_ALL = frozenset(
    {
        *("DATABASE_SERVICE_NAME", "REDIS_SERVICE_NAME", "PG_DB", "SECRET_NAME", "CA_CONFIGMAP"),
        *("BACKEND_CIDR", "SOURCE_CIDR", "SOURCE_PORT", "SOURCE_URL", "MONITORING_NAMESPACE"),
        *("IMAGE_NAME", "SOURCE_SECRET", "DB_UPGRADE_AT_START", "GIT_BRANCH"),
    }
)


def take_up(options: Options, live: Iterable[Object]) -> None:
    """Add to what was given now what all parts were given before."""
    records = [_record(item) for item in live]
    for name in sorted(OF_ALL - set(options.given) - set(options.lines)):
        values = {record[name] for record in records if name in record}
        if len(values) == 1:
            options.given[name] = values.pop()
            say(f"{name} stays {options.given[name]}")


def of_part(part: Part, live: dict[str, Object]) -> dict[str, str]:
    """What a part was given before."""
    return _record(live[part.name]) if part.name in live else {}


def write(items: Iterable[Object], part: Part, given: dict[str, str]) -> None:
    """Have the Deployments among these objects carry what they were given."""
    record = {
        name: value
        for name, value in given.items()
        if name in part.parameters and name not in NEVER
    }
    for item in items:
        if item["kind"] == "Deployment" and record:
            annotations = item["metadata"].setdefault("annotations", {})
            annotations[ANNOTATION] = json.dumps(record, sort_keys=True)


def leave_out_what_is_elsewhere(options: Options, live: Iterable[Object]) -> None:
    """An installation that runs without a Redis or PostgreSQL of its own has others."""
    components = {component_of(item) for item in live}
    runs = any(part.name in components for part in PARTS if part.stage == APPLICATION)
    if options.are_named or not runs:
        return
    for part in list(options.parts):
        if part.stage == GROUND and part.workload and part.name not in components:
            options.parts.remove(part)
            say(f"{part.name}: left out, as this installation runs without it; name it to add it")


def _record(item: Object) -> dict[str, str]:
    text = (item["metadata"].get("annotations") or {}).get(ANNOTATION)
    return dict(json.loads(text)) if text else {}
