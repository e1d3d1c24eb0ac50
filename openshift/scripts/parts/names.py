"""The objects of a part that is brought up on request, by name."""

from __future__ import annotations

from oc import Oc
from table import Part


def names_of(oc: Oc, part: Part, app_name: str) -> list[str]:
    """Return its objects as `kind/name`, as its template names them."""
    parameters = {"NAMESPACE": oc.namespace, "APP_NAME": app_name}
    step = f"{part.name}: processing its template"
    items = oc.process(step, str(part.template), parameters, "")
    return [f"{item['kind'].lower()}/{item['metadata']['name']}" for item in items]


def present_among(oc: Oc, names: list[str]) -> list[str]:
    """Return those of the objects that are there; none where the cluster does not know their kinds."""
    found = (oc.attempt("get", *names, "--ignore-not-found", "-o", "name") or "").split()
    # It answers `scaledobject.keda.sh/web` for `scaledobject/web`.
    there = {
        (kind.partition(".")[0], name) for kind, _, name in (one.partition("/") for one in found)
    }
    return [one for one in names if tuple(one.split("/")) in there]
