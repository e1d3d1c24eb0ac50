"""The Job that brings the tables to what the new image needs, before anything runs that image."""

from __future__ import annotations

from errors import StoppedError
from oc import Object, Oc, as_list, say, warn
from options import Options
from rollout import ending_of, explain, wait_for_job
from table import Part


def run(oc: Oc, part: Part, items: list[Object], options: Options) -> None:
    """Run the migration, and return when it is done.

    Jobs of former releases are deleted first. One that still runs may finish, since two at once would
    be in each other's way.

    Raises:
        StoppedError: It failed or did not end in time. Its log was shown.
    """
    (job,) = [item["metadata"]["name"] for item in items if item["kind"] == "Job"]
    labels = part.labels(options.app_name)
    for former in oc.read_objects(
        f"{part.name}: looking for a former one", "get", "job", "-l", labels
    ):
        _finish(oc, part, former, options.timeout)
    oc.change(f"{part.name}: applying", "apply", "-f", "-", stdin=as_list(items))
    ending = wait_for_job(oc, job, options.timeout)
    if ending == "Complete":
        say(f"{part.name}: done")
        return
    warn(f"{part.name}: {'failed' if ending else f'did not end within {options.timeout}'}.")
    explain(oc, job, labels)
    raise StoppedError(
        "The migration did not succeed. What runs was left as it was, with its image."
    )


def _finish(oc: Oc, part: Part, former: Object, timeout: str) -> None:
    name = former["metadata"]["name"]
    if not ending_of(former):
        say(f"{part.name}: {name} still runs, and may finish")
        if not wait_for_job(oc, name, timeout):
            raise StoppedError(f"{name} still runs after {timeout}. Nothing was started beside it.")
    step = f"{part.name}: deleting the Job of the former release"
    oc.change(step, "delete", "job", name, "--ignore-not-found", "--wait")
