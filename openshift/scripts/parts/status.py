"""Say of each part whether it runs, of all parts or of those named; exit 1 if one does not."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

import triggers
from names import names_of, present_among
from oc import Object, Oc, say
from rollout import ending_of
from table import DEFAULT_APP_NAME, Part, choose_parts, component_of


def add_arguments(parser: ArgumentParser) -> None:
    """The options that every command has are enough."""


def run(arguments: Namespace, oc: Oc) -> int:
    parts = choose_parts(arguments.parts)
    app_name = arguments.app_name or DEFAULT_APP_NAME
    step = "Asking the cluster what runs"
    installation = f"app.kubernetes.io/instance={app_name}"
    workloads = oc.read_objects(step, "get", "deployment,job", "-l", installation)
    are_well = []
    for part in parts:
        if part.workload:
            mine = [
                item
                for item in workloads
                if component_of(item) == part.name and item["kind"] == part.workload
            ]
            is_well, state = _state(part, mine)
        elif part.on_request:
            wanted = names_of(oc, part, app_name)
            found = present_among(oc, wanted)
            is_well, state = found == wanted, f"{len(found)} of {len(wanted)} objects"
        else:
            kinds = ",".join(sorted(part.kinds)).lower()
            found = oc.read(step, "get", kinds, "-l", part.labels(app_name), "-o", "name").split()
            is_well, state = bool(found), "there" if found else "missing"
        say(f"{part.name:<16} {state}")
        are_well.append(is_well)
    return 0 if all(are_well) else 1


def _state(part: Part, items: list[Object]) -> tuple[bool, str]:
    if part.workload == "Job":
        # A finished Job may have been cleaned up since.
        endings = [ending_of(item) for item in items]
        if "Failed" in endings:
            return False, "failed"
        return True, "not there" if not items else "done" if all(endings) else "running"
    if not items:
        return False, "missing"
    (item,) = items
    wanted, ready = item["spec"]["replicas"], item.get("status", {}).get("readyReplicas", 0)
    notes = ""
    if triggers.is_held(item):
        notes = "; keeps its image until the migration has run"
    elif triggers.paused(item, True) and not triggers.follows(item):
        notes = "; keeps its image"
    if ready != wanted:
        return False, f"not ready, {ready} of {wanted} ready{notes}"
    return True, f"running, {ready} of {wanted} ready{notes}"
