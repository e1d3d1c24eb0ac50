"""Waiting until something runs, and saying why it does not."""

from __future__ import annotations

import json
import re
import time

from errors import UsageError
from oc import Object, Oc, warn

UNITS_S = {"h": 3600, "m": 60, "s": 1}
POLL_INTERVAL_S = 2
PODS_EXPLAINED = 3
EVENTS_SHOWN = 10
LINES_SHOWN = 20


def seconds(duration: str) -> float:
    """Return the length of a duration such as `5m` or `1h30m`.

    Raises:
        UsageError: It has another form.
    """
    pieces = re.findall(r"(\d+)([hms])", duration)
    if not pieces or "".join(number + unit for number, unit in pieces) != duration:
        raise UsageError(f"--timeout needs a time such as 90s, 5m or 1h30m, got '{duration}'.")
    return sum(int(number) * UNITS_S[unit] for number, unit in pieces)


def wait_for_deployment(oc: Oc, name: str, labels: str, timeout: str) -> bool:
    """Return whether a Deployment runs as it was asked to; if not, what is known of it was shown."""
    if oc.succeeds("rollout", "status", f"deployment/{name}", "--timeout", timeout):
        return True
    warn(f"{name}: did not come up within {timeout}.")
    explain(oc, name, labels)
    return False


def ending_of(job: Object) -> str:
    """Return `Complete`, `Failed`, or nothing while a Job runs."""
    for condition in job.get("status", {}).get("conditions", []):
        if condition["type"] in ("Complete", "Failed") and condition["status"] == "True":
            return str(condition["type"])
    return ""


def wait_for_job(oc: Oc, name: str, timeout: str) -> str:
    """Return how a Job ended, or nothing if it still runs after that time."""
    deadline = time.monotonic() + seconds(timeout)
    while True:
        job = oc.read_object(f"{name}: asking how far it is", "get", "job", name)
        ending = ending_of(job or {})
        if ending or time.monotonic() >= deadline:
            return ending
        time.sleep(min(POLL_INTERVAL_S, max(0.0, deadline - time.monotonic())))


def explain(oc: Oc, name: str, labels: str) -> None:
    """Show the pods of a workload, their last lines, and the cluster's warnings about them."""
    pods = _look(oc, "get", "pods", "-l", labels)
    if pods is not None:
        warn(f"{name}: its pods:" if pods else f"{name}: it has no pods.")
        for pod in pods:
            warn(f"  {pod['metadata']['name']}  {state_of(pod)}")
        for pod in [pod for pod in pods if not is_ready(pod)][:PODS_EXPLAINED]:
            _show_last_lines(oc, pod)
    _show_events(oc, name)


def has_started(pod: Object) -> bool:
    """Whether any container of a pod has written, or could have."""
    return any(
        container.get("restartCount") or not container.get("state", {}).get("waiting")
        for container in _containers(pod)
    )


def is_ready(pod: Object) -> bool:
    containers = _containers(pod)
    return bool(containers) and all(container.get("ready") for container in containers)


def state_of(pod: Object) -> str:
    """Return a pod's phase, and for each container why it waits or ended, and how often it did."""
    found = [str(pod.get("status", {}).get("phase", "Unknown"))]
    for container in _containers(pod):
        restarts = container.get("restartCount", 0)
        for state in ("waiting", "terminated"):
            reason = container.get("state", {}).get(state, {}).get("reason")
            if reason:
                found.append(f"{container['name']}: {reason}")
        if restarts:
            found.append(f"{container['name']}: started again {restarts} times")
    return ", ".join(found)


def _containers(pod: Object) -> list[Object]:
    return list(pod.get("status", {}).get("containerStatuses", []))


def _show_last_lines(oc: Oc, pod: Object) -> None:
    name = pod["metadata"]["name"]
    call = ["logs", f"pod/{name}", "--all-containers", f"--tail={LINES_SHOWN}"]
    if any(container.get("restartCount") for container in _containers(pod)):
        warn(f"{name}: the last lines before it was started again:")
        oc.tell(*call, "--previous")
    if has_started(pod):
        warn(f"{name}: the last lines:")
        oc.tell(*call)


def _show_events(oc: Oc, name: str) -> None:
    events = _look(oc, "get", "events", "--field-selector", "type=Warning")
    mine = [
        event
        for event in events or []
        if (event["involvedObject"]["name"] + "-").startswith(name + "-")
    ]
    for event in sorted(mine, key=_time_of)[-EVENTS_SHOWN:]:
        what = event["involvedObject"]
        warn(
            f"{_time_of(event)} {what['kind'].lower()}/{what['name']}"
            f" {event.get('reason', '')}: {event.get('message', '')}"
        )


def _time_of(event: Object) -> str:
    return str(event.get("lastTimestamp") or event.get("eventTime") or "")


def _look(oc: Oc, *words: str) -> list[Object] | None:
    """Return what helps to understand a failure, or None: that failure is told in any case."""
    text = oc.attempt(*words, "-o", "json")
    return None if text is None else list(json.loads(text)["items"])
