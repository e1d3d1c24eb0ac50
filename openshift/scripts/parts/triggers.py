"""The image trigger of a Deployment: whether it takes each new image of the stream by itself.

`oc set triggers --manual` would do more than that: it also halts the roll-outs of the Deployment.
"""

from __future__ import annotations

import json

from oc import Object

ANNOTATION = "image.openshift.io/triggers"
# Its trigger is paused until the migration to the new image's tables has run.
HELD = "app-srvc/held"


def follows(item: Object) -> bool:
    """Whether a Deployment takes the next image of its stream."""
    return any(not trigger.get("paused") for trigger in _triggers(item))


def is_held(item: Object) -> bool:
    return HELD in item["metadata"].get("annotations", {})


def paused(item: Object, is_paused: bool) -> str | None:
    """Return the assignment for `oc annotate`, or None for a Deployment that follows no image."""
    triggers = [{**trigger, "paused": is_paused} for trigger in _triggers(item)]
    return f"{ANNOTATION}={json.dumps(triggers, separators=(',', ':'))}" if triggers else None


def _triggers(item: Object) -> list[Object]:
    return list(json.loads(item["metadata"].get("annotations", {}).get(ANNOTATION) or "[]"))
