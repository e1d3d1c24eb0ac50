"""The OpenShift scripts, run as their users run them, against the stand-in for `oc`."""

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

from tests.support.manifests import APPLICATION, PROJECT, REPOSITORY, ROOT
from tests.support.oc_process import Object
from tests.support.relay import Done, Relay
from tests.support.stand_in_cluster import Cluster, RefusedError
from tests.support.stand_in_oc import run

SCRIPTS = ROOT / "openshift" / "scripts"
PARTS = ("secrets", "redis", "postgresql", "migrate", *APPLICATION)
DEPLOYMENTS = ("redis", "postgresql", *APPLICATION)
COMMANDS = ("deploy", "status", "logs", "scale", "rollback", "delete")


class StandIn:
    """A cluster in this process, behind an `oc` that stands first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cluster = Cluster()
        self.fail = ""
        self.fail_at = 0
        self._calls: list[list[str]] = []
        self._relay = Relay(self._answer)
        (folder / "bin").mkdir()
        self._relay.write_program(folder / "bin" / "oc")

    def stop(self) -> None:
        self._relay.stop()

    def _answer(self, words: list[str], stdin: str) -> Done:
        self._calls.append(words)
        if len(self._calls) == self.fail_at or (
            self.fail and re.search(self.fail, " ".join(words))
        ):
            return Done(1, errors="error: the cluster refused\n")
        try:
            output = run(words, stdin, self.cluster, self.folder)
        except RefusedError as error:
            return Done(1, errors=f"{error}\n")
        return Done(0, output=f"{output}\n" if output else "")

    @property
    def environment(self) -> dict[str, str]:
        return {
            "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.folder),
            # Without the search for one that is new enough, which takes as long as the rest.
            "PYTHON": getattr(sys, "_base_executable", sys.executable),
        }

    def start(self, *command: str, cwd: Path | None = None) -> Done:
        """Run any program with `oc` on its path."""
        done = subprocess.run(
            command,
            env=self.environment,
            cwd=cwd or self.folder,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Done(done.returncode, done.stdout, done.stderr)

    def run(self, script: str, *arguments: str, fail: str = "", fail_at: int = 0) -> Done:
        """Run a script; calls of `oc` that match `fail`, and the one of that number, are refused."""
        self.fail, self.fail_at = fail, fail_at or self.fail_at
        self._calls.clear()
        try:
            return self.start(str(SCRIPTS / f"{script}.sh"), *arguments)
        finally:
            self.fail, self.fail_at = "", 0

    def restart(self, cluster: Cluster, *, fail_at: int = 0) -> None:
        """Forget the calls, and go on with another cluster; the call of that number is refused."""
        self.cluster = cluster
        self.fail_at = fail_at
        self._calls.clear()

    def deploy(self, *arguments: str, fail: str = "") -> Done:
        return self.run("deploy", "-n", PROJECT, "--git-url", REPOSITORY, *arguments, fail=fail)

    def in_project(self, script: str, *arguments: str, fail: str = "") -> Done:
        return self.run(script, "-n", PROJECT, *arguments, fail=fail)

    @property
    def calls(self) -> list[list[str]]:
        """Every call of the last run."""
        return list(self._calls)

    @property
    def lines(self) -> list[str]:
        """Every call of the last run, as text."""
        return [" ".join(call) for call in self._calls]

    def matching(self, pattern: str) -> list[str]:
        return [line for line in self.lines if re.search(pattern, line)]

    @property
    def objects(self) -> dict[str, Object]:
        return copy.deepcopy(self.cluster.objects)

    def deployment(self, name: str) -> Object:
        return self.cluster.objects[f"deployment/{name}"]

    def replicas_of(self, name: str) -> int:
        return int(self.deployment(name)["spec"]["replicas"])

    def annotations_of(self, name: str) -> dict[str, str]:
        return dict(self.deployment(name)["metadata"]["annotations"])

    def variables_of(self, part: str) -> dict[str, str]:
        (container,) = self.deployment(part)["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry.get("value", "") for entry in container["env"]}

    def image_of(self, part: str) -> str:
        (container,) = self.deployment(part)["spec"]["template"]["spec"]["containers"]
        return str(container["image"])
