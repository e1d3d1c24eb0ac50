"""Set the number of pods of all parts that may have any number (web and workers), or of those named."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from errors import StoppedError, UsageError
from oc import Oc, say, warn
from rollout import seconds, wait_for_deployment
from table import APPLICATION, DEFAULT_APP_NAME, PARTS, choose_parts, component_of

RUNNING = [part for part in PARTS if part.workload == "Deployment"]

# KEDA makes one for each ScaledObject, and names it so.
KEDA = "keda-hpa-"


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--replicas", metavar="N", required=True, help="how many pods each part is to have")
    add(
        "--timeout",
        metavar="TIME",
        default="5m",
        help="how long each part may take to come up (default: 5m)",
    )


def run(arguments: Namespace, oc: Oc) -> int:
    if not arguments.replicas.isascii() or not arguments.replicas.isdigit():
        raise UsageError(f"--replicas needs a number from 0 up, got '{arguments.replicas}'.")
    seconds(arguments.timeout)
    replicas = int(arguments.replicas)
    parts = choose_parts(arguments.parts, RUNNING)
    if not arguments.parts:
        parts = [part for part in parts if part.stage == APPLICATION]
    for part in parts:
        if replicas > 1 and "REPLICAS" not in part.parameters:
            raise UsageError(
                f"{part.name} has its data on one volume, and cannot have {replicas} pods."
            )
    app_name = arguments.app_name or DEFAULT_APP_NAME
    step = "Asking the cluster what runs"
    installation = f"app.kubernetes.io/instance={app_name}"
    live = {
        component_of(item): item["metadata"]["name"]
        for item in oc.read_objects(step, "get", "deployment", "-l", installation)
    }
    missing = [part.name for part in parts if part.name not in live]
    if missing:
        raise StoppedError(f"Not deployed: {' '.join(missing)}. Nothing was scaled.")
    scalers = {
        scaler["spec"]["scaleTargetRef"]["name"]: scaler["metadata"]["name"]
        for scaler in oc.read_objects(step, "get", "horizontalpodautoscaler")
    }
    for part in parts:
        name = live[part.name]
        if name in scalers:
            warn(f"{name}: {_of_scaler(scalers[name])}")
        oc.change(f"{part.name}: scaling", "scale", f"deployment/{name}", f"--replicas={replicas}")
    failed = [
        part.name
        for part in parts
        if not wait_for_deployment(oc, live[part.name], part.labels(app_name), arguments.timeout)
    ]
    if failed:
        raise StoppedError(f"Not running: {' '.join(failed)}.")
    say(f"{replicas} pods each: {' '.join(part.name for part in parts)}.")
    return 0


def _of_scaler(name: str) -> str:
    if name.startswith(KEDA):
        scaled = name[len(KEDA) :]
        return (
            "KEDA also sets its number of pods, and starts them again where that is 0. To stop it for"
            f" longer: oc annotate scaledobject {scaled} autoscaling.keda.sh/paused-replicas=0"
        )
    return f"the HorizontalPodAutoscaler {name} also sets its number of pods, unless that is 0."
