"""Put all parts that run the built image, or those named, back to the revision before the present one.

Running it again goes neither further back nor forth: a part that is back already is only waited for.
A part that was put back takes no new image by itself until it is deployed again. Tables stay as the
last migration left them.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from dataclasses import dataclass

import triggers
from errors import StoppedError, UsageError
from oc import Object, Oc, say
from rollout import seconds, wait_for_deployment
from table import APPLICATION, DEFAULT_APP_NAME, PARTS, Part, choose_parts, component_of

REVISION = "deployment.kubernetes.io/revision"
# "5 to 4" on a Deployment: revision 5 was left for what was then revision 4, and became 6 by that.
ROLLED_BACK = "app-srvc/rolled-back"
RUNNING = [part for part in PARTS if part.workload == "Deployment"]


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--to-revision", metavar="N", default="", help="one that --list shows, of one part")
    add("--list", action="store_true", help="only show the revisions that there are")
    add(
        "--timeout",
        metavar="TIME",
        default="5m",
        help="how long each part may take to come up (default: 5m)",
    )


@dataclass
class History:
    """What a Deployment runs, and what it has run."""

    deployment: Object
    revisions: dict[int, Object]

    @property
    def name(self) -> str:
        return str(self.deployment["metadata"]["name"])

    @property
    def present(self) -> int:
        return _revision_of(self.deployment)

    def is_back(self, wanted: str) -> bool:
        """Whether the present revision is the one that a rollback, and nothing since, has brought."""
        mark = self.deployment["metadata"].get("annotations", {}).get(ROLLED_BACK, "")
        left, _, target = mark.partition(" to ")
        return left.isdigit() and self.present == int(left) + 1 and wanted in ("", target)

    def former(self) -> int:
        """Return the newest revision before the present one, 0 if there is none."""
        return max((number for number in self.revisions if number < self.present), default=0)


def run(arguments: Namespace, oc: Oc) -> int:
    parts = choose_parts(arguments.parts, RUNNING)
    seconds(arguments.timeout)
    if not arguments.parts:
        parts = [part for part in parts if part.stage == APPLICATION]
    wanted = arguments.to_revision
    if wanted and (len(parts) != 1 or not wanted.isdigit()):
        raise UsageError("--to-revision needs a number, and one part that is named.")
    app_name = arguments.app_name or DEFAULT_APP_NAME
    histories = _read_histories(oc, parts, app_name)
    if arguments.list:
        for part in parts:
            _show(histories[part])
        return 0
    targets = _targets(histories, wanted, are_named=bool(arguments.parts))
    for part, target in targets.items():
        if target:
            _roll_back(oc, histories[part], target)
        else:
            say(f"{part.name}: is back already")
    failed = [
        part.name
        for part in targets
        if not wait_for_deployment(
            oc, histories[part].name, part.labels(app_name), arguments.timeout
        )
    ]
    if failed:
        raise StoppedError(f"Not running: {' '.join(failed)}.")
    return 0


def _read_histories(oc: Oc, parts: list[Part], app_name: str) -> dict[Part, History]:
    step = "Asking the cluster for the revisions"
    installation = f"app.kubernetes.io/instance={app_name}"
    items = oc.read_objects(step, "get", "deployment,replicaset", "-l", installation)
    histories = {}
    for part in parts:
        mine = [item for item in items if component_of(item) == part.name]
        deployments = [item for item in mine if item["kind"] == "Deployment"]
        if not deployments:
            raise StoppedError(f"Not deployed: {part.name}. Nothing was changed.")
        sets = [item for item in mine if item["kind"] == "ReplicaSet"]
        histories[part] = History(deployments[0], {_revision_of(item): item for item in sets})
    return histories


def _targets(histories: dict[Part, History], wanted: str, *, are_named: bool) -> dict[Part, int]:
    """Return for each part the revision to go back to, 0 where it is back already.

    All are found before the first part is touched. Where all parts are meant, one without a former
    revision, being new, is left out.
    """
    targets = {}
    for part, history in histories.items():
        if history.is_back(wanted):
            targets[part] = 0
        elif wanted and int(wanted) not in history.revisions:
            raise StoppedError(f"{part.name}: there is no revision {wanted}; --list shows them.")
        elif wanted or history.former():
            targets[part] = int(wanted) if wanted else history.former()
        elif are_named:
            raise StoppedError(f"{part.name}: there is no former revision. Nothing was changed.")
        else:
            say(f"{part.name}: there is no former revision; left as it is")
    if not targets:
        raise StoppedError("No part has a former revision. Nothing was changed.")
    return targets


def _roll_back(oc: Oc, history: History, target: int) -> None:
    name = history.name
    step = f"{name}: rolling back to revision {target}"
    # With the trigger still on, the cluster would put the newest image back at once.
    assignments = [f"{ROLLED_BACK}={history.present} to {target}"]
    keeps_image = triggers.paused(history.deployment, True)
    if keeps_image:
        assignments.append(keeps_image)
    oc.change(step, "annotate", f"deployment/{name}", *assignments, "--overwrite")
    oc.change(step, "rollout", "undo", f"deployment/{name}", f"--to-revision={target}")


def _show(history: History) -> None:
    say(f"{history.name}:")
    for number, item in sorted(history.revisions.items()):
        (image, *_) = [
            container["image"] for container in item["spec"]["template"]["spec"]["containers"]
        ]
        created = item["metadata"].get("creationTimestamp", "")
        mark = "  (present)" if number == history.present else ""
        say(f"  {number}  {created}  {image}{mark}")


def _revision_of(item: Object) -> int:
    return int(item["metadata"].get("annotations", {}).get(REVISION, 0))
