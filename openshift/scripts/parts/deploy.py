"""Process and apply the templates of all parts or of some, and wait until they run.

May be run again at any time: what is already as it should be is left alone, parameters stay as they were
given, the number of pods as it was scaled, and passwords are made once. A migration runs before the parts
that need it.
"""

from __future__ import annotations

from argparse import Namespace
from itertools import groupby

import kept
import migration
import triggers
from errors import StoppedError
from oc import Object, Oc, as_list, say
from options import Options, add_arguments, read_options
from rollout import wait_for_deployment
from table import APPLICATION, Part

__all__ = ["add_arguments", "run"]


def run(arguments: Namespace, oc: Oc) -> int:
    options = read_options(arguments)
    Deployer(oc, options).deploy()
    return 0


class Deployer:
    def __init__(self, oc: Oc, options: Options) -> None:
        self._oc = oc
        self._options = options
        self._image = options.image
        installation = f"app.kubernetes.io/instance={options.app_name}"
        self._live: dict[str, Object] = {
            item["metadata"]["name"]: item
            for item in oc.read_objects(
                "Looking what runs", "get", "deployment", "-l", installation
            )
        }
        kept.take_up(options, self._live.values())
        kept.leave_out_what_is_elsewhere(options, self._live.values())
        self._held = [item for item in self._live.values() if triggers.is_held(item)]

    def deploy(self) -> None:
        for stage, group in groupby(self._options.parts, key=lambda part: part.stage):
            parts = list(group)
            if not self._image and any(part.runs_image for part in parts):
                self._image = self._make_image()
            deployed = {part: self._deploy(part) for part in parts}
            if stage == APPLICATION:
                self._release()
            self._wait_for(deployed)
        if not any(part.stage == APPLICATION for part in self._options.parts):
            self._release()
        self._show_address()

    # --- one part -------------------------------------------------------------------------------

    def _deploy(self, part: Part) -> list[Object]:
        say(f"{part.name}: applying")
        if part.name == "secrets" and self._has_secret():
            return []
        items = self._process(part)
        step = f"{part.name}: applying"
        if part.workload == "Job":
            migration.run(self._oc, part, items, self._options)
        elif part.name == "secrets":
            self._oc.change(step, "create", "-f", "-", stdin=as_list(items))
        else:
            self._oc.change(step, "apply", "-f", "-", stdin=as_list(items))
        return items

    def _has_secret(self) -> bool:
        """Only made, never changed: new passwords would lock the parts out of Redis and PostgreSQL."""
        name = self._options.secret_name
        if not self._exists("secret", name):
            return False
        say(f"secrets: {name} is there and stays as it is")
        return True

    def _process(self, part: Part) -> list[Object]:
        options = self._options
        given = {**kept.of_part(part, self._live), **options.given}
        wanted = {
            "NAMESPACE": self._oc.namespace,
            # The migration does it, before the others start.
            "DB_UPGRADE_AT_START": "false",
            **given,
            "APP_SERVICE_NAME": part.name,
            "WORKER_RUNNER": f"{part.name}.py",
            "IMAGE": self._image or f"{options.image_name}:latest",
            "TRIGGER_PAUSED": "true" if options.image else "false",
        }
        if "REPLICAS" not in options.given and part.name in self._live:
            # As it was scaled, by hand or by an autoscaler.
            wanted["REPLICAS"] = str(self._live[part.name]["spec"]["replicas"])
        parameters = {
            name: value
            for name, value in wanted.items()
            if name in part.parameters and name not in options.lines
        }
        lines = "".join(
            f"{line}\n" for name, line in options.lines.items() if name in part.parameters
        )
        step = f"{part.name}: processing its template"
        items = self._oc.process(step, str(part.template), parameters, lines)
        kept.write(items, part, given)
        return items

    def _wait_for(self, deployed: dict[Part, list[Object]]) -> None:
        failed = []
        for part, items in deployed.items():
            for item in items:
                name = item["metadata"]["name"]
                if item["kind"] != "Deployment":
                    continue
                if not item["spec"].get("replicas", 1):
                    say(f"{name}: scaled to no pods; scale starts them")
                labels = part.labels(self._options.app_name)
                if not wait_for_deployment(self._oc, name, labels, self._options.timeout):
                    failed.append(name)
        if failed:
            raise StoppedError(f"Not running: {' '.join(failed)}.")

    # --- the image ------------------------------------------------------------------------------

    def _make_image(self) -> str:
        """Return the image that the stream has, after a build if it has none or a new one is wanted."""
        options = self._options
        web = next((part for part in options.parts if part.name == "web"), None)
        if web is not None:
            self._ensure_source_secret()
            # The rest of the part comes after the migration, which needs the image.
            items = [
                item
                for item in self._process(web)
                if item["kind"] in ("ImageStream", "BuildConfig")
            ]
            self._oc.change("image: applying", "apply", "-f", "-", stdin=as_list(items))
        found = self._newest_image()
        if found and not options.always_build:
            return found
        if web is None and not self._exists("buildconfig", options.image_name):
            raise StoppedError("There is no image yet. Deploy the part web first: it builds it.")
        if any(part.workload == "Job" for part in options.parts):
            self._hold()
        say(f"image: building {options.image_name} from Git")
        call = ["start-build", options.image_name, "--wait", "--follow"]
        self._oc.change("image: building", *call)
        found = self._newest_image()
        if not found:
            raise StoppedError(f"The build ended, and {options.image_name}:latest is not there.")
        return found

    def _newest_image(self) -> str:
        """Return by digest what the stream's trigger would put into a Deployment.

        A tag would start each pod twice: once as it stands, and once more as the trigger writes it.
        """
        tag = self._oc.read_object(
            "image: looking for it",
            "get",
            "istag",
            f"{self._options.image_name}:latest",
            "--ignore-not-found",
        )
        return str(tag["image"]["dockerImageReference"]) if tag else ""

    def _ensure_source_secret(self) -> None:
        """A build always names a Secret. For a public repository it holds an empty configuration."""
        name = self._options.source_secret
        if not self._exists("secret", name):
            self._oc.change(
                "image: making the Secret for Git",
                "create",
                "secret",
                "generic",
                name,
                "--from-literal=.gitconfig=# No credentials: the repository is public.",
            )

    def _exists(self, kind: str, name: str) -> bool:
        step = f"Looking for the {kind} {name}"
        return bool(
            self._oc.read(step, "get", kind, name, "--ignore-not-found", "-o", "name").strip()
        )

    # --- the new image waits for the migration --------------------------------------------------

    def _hold(self) -> None:
        """Let no Deployment take the image that is built now: its tables are not there yet."""
        for name, item in self._live.items():
            assignment = triggers.paused(item, True)
            if assignment and triggers.follows(item):
                self._annotate(name, assignment, f"{triggers.HELD}=until-migrated")
                self._held.append(item)

    def _release(self) -> None:
        """Let go of what this run or one before it has held, now that its tables are there."""
        for item in self._held:
            name = item["metadata"]["name"]
            if self._options.has(name):
                self._annotate(name, f"{triggers.HELD}-")
            elif self._has_migrated():
                assignment = triggers.paused(item, False)
                self._annotate(name, *filter(None, [assignment]), f"{triggers.HELD}-")

    def _has_migrated(self) -> bool:
        return any(part.workload == "Job" for part in self._options.parts)

    def _annotate(self, name: str, *assignments: str) -> None:
        step = f"{name}: changing which image it follows"
        self._oc.change(step, "annotate", f"deployment/{name}", *assignments, "--overwrite")

    def _show_address(self) -> None:
        if not self._options.has("web"):
            return
        name = self._options.given.get("ROUTENAME", "web")
        call = ["get", "route", name, "--ignore-not-found"]
        route = self._oc.read_object("web: asking for its address", *call)
        if route and route["spec"].get("host"):
            say(f"web: https://{route['spec']['host']}")
