"""Show what the pods of all parts or of some have written, each line with its pod's name."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace

from errors import StoppedError, UsageError
from oc import Oc, warn
from rollout import has_started, state_of
from table import DEFAULT_APP_NAME, PARTS, choose_parts, component_of

WITH_PODS = [part for part in PARTS if part.workload]
MAX_FOLLOWED = 100


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--tail",
        metavar="N",
        default="100",
        help="how many of the last lines of each container; -1 is all (default: 100)",
    )
    add("--since", metavar="TIME", default="", help="only what is not older than this, such as 15m")
    add(
        "--previous", action="store_true", help="of the containers that ran before the present ones"
    )
    add("-f", "--follow", action="store_true", help="go on showing what comes, until interrupted")


def run(arguments: Namespace, oc: Oc) -> int:
    if arguments.follow and arguments.previous:
        raise UsageError("--previous shows what has ended, and there is nothing to --follow.")
    try:
        int(arguments.tail)
    except ValueError:
        raise UsageError(f"--tail needs a number, got '{arguments.tail}'.") from None
    parts = choose_parts(arguments.parts, WITH_PODS)
    app_name = arguments.app_name or DEFAULT_APP_NAME
    wanted = ",".join(part.name for part in parts)
    selector = f"app.kubernetes.io/instance={app_name},app.kubernetes.io/component in ({wanted})"
    pods = oc.read_objects("Asking the cluster for the pods", "get", "pods", "-l", selector)
    missing = [
        part.name
        for part in parts
        if arguments.parts and not any(component_of(pod) == part.name for pod in pods)
    ]
    if missing or not pods:
        raise StoppedError(f"No pods: {' '.join(missing) or wanted.replace(',', ' ')}.")
    call = ["--all-containers", "--prefix", f"--tail={arguments.tail}"]
    if arguments.since:
        call.append(f"--since={arguments.since}")
    if arguments.follow:
        call += ["--follow", "--ignore-errors", f"--max-log-requests={MAX_FOLLOWED}"]
        oc.change("Following the logs", "logs", "-l", selector, *call)
        return 0
    if arguments.previous:
        call.append("--previous")
    failed: list[str] = []
    for pod in sorted(pods, key=component_of):
        name = pod["metadata"]["name"]
        if not has_started(pod):
            warn(f"{name}: has not started: {state_of(pod)}")
        elif not oc.succeeds("logs", f"pod/{name}", *call):
            failed.append(name)
    if failed:
        raise StoppedError(f"No logs could be had of: {' '.join(failed)}.")
    return 0
