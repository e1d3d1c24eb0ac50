"""The Job that brings the tables to what the new image needs, before anything runs that image."""

from __future__ import annotations

from errors import StoppedError
from oc import Object, Oc, as_list, say, warn
from options import Options
from rollout import ending_of, explain, wait_for_job
from table import Part


def run(oc: Oc, part: Part, items: list[Object], options: Options) -> None:
    """Run the Job once more, from its beginning, and return when it is done.

    A Job cannot be changed, so that of the former release is deleted first; one that still runs may
    finish, since half a migration is worse than a second one.

    Raises:
        StoppedError: It failed or did not end in time. Its log was shown.
    """
    (name,) = [item["metadata"]["name"] for item in items if item["kind"] == "Job"]
    former = oc.read_object(
        f"{part.name}: looking for a former one", "get", "job", name, "--ignore-not-found"
    )
    if former and not ending_of(former):
        say(f"{part.name}: one still runs, and may finish")
        if not wait_for_job(oc, name, options.timeout):
            raise StoppedError(
                f"The {part.name} that was there still runs after {options.timeout}."
            )
    if former:
        step = f"{part.name}: deleting the Job of the former release"
        oc.change(step, "delete", "job", name, "--ignore-not-found", "--wait")
    oc.change(f"{part.name}: applying", "apply", "-f", "-", stdin=as_list(items))
    ending = wait_for_job(oc, name, options.timeout)
    if ending == "Complete":
        say(f"{part.name}: done")
        return
    warn(f"{part.name}: {'failed' if ending else f'did not end within {options.timeout}'}.")
    explain(oc, name, part.labels(options.app_name))
    raise StoppedError(
        f"The {part.name} did not succeed. What runs was left as it was, with its image."
    )
