"""What a user asks of a deployment, checked before the cluster is asked anything."""

from __future__ import annotations

import re
import subprocess
from argparse import ArgumentParser, Namespace
from dataclasses import dataclass, field
from pathlib import Path

from errors import UsageError
from rollout import seconds
from table import DEFAULT_APP_NAME, PARTS, TEMPLATES, Part, choose_parts

OF_THE_SCRIPTS = {
    "NAMESPACE": "Name the project with --namespace, not as a parameter.",
    "IMAGE": "Name the image with --image, not as a parameter.",
    **{
        name: f"The scripts set {name} themselves, for each part."
        for name in ("APP_SERVICE_NAME", "WORKER_RUNNER", "TRIGGER_PAUSED")
    },
}
# The scripts must know these, and what stands in a file goes from it to `oc` unread.
NOT_IN_A_FILE = frozenset(
    {"APP_NAME", "SECRET_NAME", "SOURCE_SECRET", "IMAGE_NAME", "GIT_URL", "REPLICAS"}
)
KNOWN = frozenset(name for part in PARTS for name in part.parameters)


@dataclass
class Options:
    parts: list[Part]
    given: dict[str, str]
    lines: dict[str, str] = field(repr=False)
    image: str = ""
    always_build: bool = False
    timeout: str = ""
    are_named: bool = False

    @property
    def app_name(self) -> str:
        return self.given.get("APP_NAME", DEFAULT_APP_NAME)

    @property
    def secret_name(self) -> str:
        return self.given.get("SECRET_NAME", "app-srvc")

    @property
    def source_secret(self) -> str:
        return self.given.get("SOURCE_SECRET", "app-srvc-source")

    @property
    def image_name(self) -> str:
        return self.given.get("IMAGE_NAME", "app-srvc")

    def has(self, name: str) -> bool:
        return any(part.name == name for part in self.parts)


def add_arguments(parser: ArgumentParser) -> None:
    add = parser.add_argument
    add("--git-url", metavar="URL", help="repository to build from (default: this clone's origin)")
    add("--git-branch", metavar="NAME", help="branch, tag or commit to build (default: main)")
    add(
        "--source-secret",
        metavar="NAME",
        help="Secret for cloning a private repository (default: an empty one is made)",
    )
    add("--hostname", metavar="NAME", help="public host name (default: the cluster chooses)")
    add("--image", metavar="IMAGE", default="", help="run this image; build and follow none")
    add("--build", action="store_true", help="build a new image even if there is one")
    add(
        "-p",
        "--param",
        metavar="NAME=VALUE",
        action="append",
        default=[],
        help="any parameter of the templates; may be repeated",
    )
    add(
        "--param-file",
        metavar="FILE",
        default="",
        help="file with lines NAME=VALUE, as oc process takes it; for what is secret",
    )
    add(
        "--timeout",
        metavar="TIME",
        default="5m",
        help="how long each part may take to come up (default: 5m)",
    )


def read_options(arguments: Namespace) -> Options:
    """Return what was asked for.

    Raises:
        UsageError: Something would go nowhere, or contradicts something else.
    """
    options = Options(
        parts=choose_parts(arguments.parts),
        given=_given(arguments),
        lines=_lines(arguments.param_file),
        image=arguments.image,
        always_build=arguments.build,
        timeout=arguments.timeout,
        are_named=bool(arguments.parts),
    )
    if options.image and options.always_build:
        raise UsageError(
            "--image runs an image from elsewhere, --build makes one. Give one of them."
        )
    if options.always_build and not any(part.workload == "Job" for part in options.parts):
        # A new image runs in every part, and its tables come first.
        before = [part.name for part in PARTS if part.workload == "Job"]
        options.parts = choose_parts([*before, *(part.name for part in options.parts)])
    seconds(options.timeout)
    _find_git_url(options)
    return options


def _given(arguments: Namespace) -> dict[str, str]:
    by_option = {
        "APP_NAME": arguments.app_name,
        "GIT_URL": arguments.git_url,
        "GIT_BRANCH": arguments.git_branch,
        "SOURCE_SECRET": arguments.source_secret,
        "HOSTNAME": arguments.hostname,
    }
    given = {name: value for name, value in by_option.items() if value}
    for assignment in arguments.param:
        name, has_value, value = assignment.partition("=")
        if not has_value:
            raise UsageError(f"--param needs NAME=VALUE, got '{assignment}'.")
        _check_name(name)
        given[name] = value
    return given


def _lines(file: str) -> dict[str, str]:
    """Return the lines of a file of parameters by the names that they begin with."""
    if not file:
        return {}
    try:
        text = Path(file).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--param-file: cannot read '{file}': {error}.") from error
    lines = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        match = re.match(r"(\w+)=", line)
        if match is None:
            raise UsageError(f"--param-file: line {number} of '{file}' is not NAME=VALUE.")
        name = match[1]
        _check_name(name)
        if name in NOT_IN_A_FILE:
            raise UsageError(f"{name} is given with --param, not in a file.")
        lines[name] = line
    return lines


def _check_name(name: str) -> None:
    if name in OF_THE_SCRIPTS:
        raise UsageError(OF_THE_SCRIPTS[name])
    if name not in KNOWN:
        raise UsageError(f"No template has a parameter '{name}'.")


def _find_git_url(options: Options) -> None:
    """The repository's address: needed for the web part, a link in the console for the others."""
    if "GIT_URL" in options.given:
        return
    try:
        done = subprocess.run(
            ["git", "-C", str(TEMPLATES), "remote", "get-url", "origin"],  # noqa: S607
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        origin = done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else ""
    except OSError:
        origin = ""
    if origin:
        options.given["GIT_URL"] = origin
    elif options.has("web"):
        raise UsageError(
            "Name the repository to build from with --git-url, since this clone has no origin."
        )
