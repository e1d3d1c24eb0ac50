"""The `.cmd` files do what the `.sh` files do, under the command interpreter that Wine has.

Python itself is not run by Wine: a small program in its place sends its arguments here, where the same
files are run. So what is tested is what the `.cmd` files add: finding Python, and passing every argument
and the exit status on as they are.
"""

import copy
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.manifests import PROJECT, REPOSITORY
from tests.support.openshift_scripts import COMMANDS, SCRIPTS, StandIn
from tests.support.relay import Done, Relay
from tests.support.stand_in_cluster import Cluster

pytestmark = pytest.mark.xdist_group("wine")
DRIVE = "Z:"
TOO_OLD = 1
JOB = "migrate-[a-z0-9]{8}"
# A call that every command makes, and needs.
FAILS_AT = {"status": 2, "delete": 8}


class Windows:
    """Runs `.cmd` files; `python` and `py` are there if their names are in `programs`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.programs = ["python"]
        self.calls: list[list[str]] = []
        self.oc: StandIn | None = None
        self.is_old = False
        self._output, self._errors = folder / "output", folder / "errors"
        self._relay = Relay(self._answer)
        self._environment = {
            **{name: value for name, value in os.environ.items() if name != "PYTHON"},
            "WINEPREFIX": str(folder / "prefix"),
            "WINEDEBUG": "-all",
            # No questions about further parts of Wine, which nothing here needs.
            "WINEDLLOVERRIDES": "mscoree,mshtml=",
        }
        for name in ("python", "py", "none", "with a space"):
            (folder / name).mkdir()
        self._relay.write_windows_program(folder / "python" / "python.exe")
        for file in ("py/py.exe", "with a space/python.exe"):
            (folder / file).write_bytes((folder / "python" / "python.exe").read_bytes())
        (folder / "prefix").mkdir()
        # What Wine keeps running in the background is started once, and not for each call.
        self._start("wineserver", "--persistent")
        assert self._start("wine", "wineboot", "--init") == 0

    def _start(self, *words: str, **more: str) -> int:
        """Start a program and wait for it, but not for what it leaves behind with the same output."""
        environment = {**self._environment, **more}
        with self._output.open("wb") as output, self._errors.open("wb") as errors:
            return subprocess.run(
                words,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
                timeout=110,
            ).returncode

    def _answer(self, words: list[str], stdin: str) -> Done:
        """What Python does when it is called so."""
        self.calls.append(words)
        words = words[1:] if words[0] == "-3" else words
        if words[0] == "-c":
            return Done(TOO_OLD if self.is_old else 0)
        assert self.oc is not None
        file = words[0].removeprefix(DRIVE).replace("\\", "/")
        return self.oc.start(sys.executable, file, *words[1:])

    def run(self, oc: StandIn, command: str, *arguments: str, python: str = "") -> Done:
        self.oc = oc
        self.calls.clear()
        paths = [self.windows(self.folder / name) for name in self.programs] or [
            self.windows(self.folder / "none")
        ]
        more = {"WINEPATH": ";".join(paths), **({"PYTHON": python} if python else {})}
        file = self.windows(SCRIPTS / f"{command}.cmd")
        status = self._start("wine", "cmd", "/c", file, *arguments, **more)
        return Done(status, _text(self._output), _text(self._errors))

    @staticmethod
    def windows(file: Path) -> str:
        return DRIVE + str(file).replace("/", "\\")

    def stop(self) -> None:
        self._relay.stop()
        self._start("wineserver", "--kill")


def _text(file: Path) -> str:
    return file.read_bytes().decode().replace("\r", "")


def _without_job(calls: list[list[str]]) -> list[list[str]]:
    return [[re.sub(JOB, "a job", word) for word in call] for call in calls]


def _comparable(done: Done) -> Done:
    """The same without the name that a Job is given, anew each time."""
    output, errors = (re.sub(JOB, "a job", text) for text in (done.output, done.errors))
    return Done(done.status, output, errors)


@pytest.fixture(scope="module")
def one_windows(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Windows]:
    windows = Windows(tmp_path_factory.mktemp("windows"))
    yield windows
    windows.stop()


@pytest.fixture
def windows(one_windows: Windows) -> Windows:
    one_windows.programs, one_windows.is_old = ["python"], False
    return one_windows


CASES: list[tuple[str, ...]] = [
    *((command, "--help") for command in COMMANDS),
    *((command, "--nonsense") for command in COMMANDS),
    ("deploy", "-n", PROJECT, "--git-url", REPOSITORY),
    (
        "deploy",
        "-n",
        PROJECT,
        "--git-url",
        REPOSITORY,
        "--build",
        "--timeout",
        "90s",
        "--hostname",
        "a.example.org",
    ),
    (
        "deploy",
        "--git-url",
        REPOSITORY,
        "--git-branch",
        "v2",
        "--source-secret",
        "git",
        "--build",
        "web",
    ),
    ("deploy", "--git-url", REPOSITORY, "--image", "registry.example.org/app:1", "web"),
    (
        "deploy",
        "--git-url",
        REPOSITORY,
        "-p",
        "TODO_PROCESSES=5",
        "--param=REPLICAS=3",
        "todoworker",
    ),
    (
        "deploy",
        "--git-url",
        REPOSITORY,
        "-p",
        "GUNICORN_CMD_ARGS=--workers=2 --bind (all) & more",
        "web",
    ),
    (
        "deploy",
        "--git-url",
        REPOSITORY,
        "-p",
        "SOURCE_URL=https://a.example.org/x?b=1,2;c=^3 !",
        "dbworker",
    ),
    ("deploy", "--git-url", REPOSITORY, "--param-file", "database.env", "secrets"),
    ("deploy", "--git-url", REPOSITORY, "-p", "NO_SUCH=1"),
    ("status", "-n", PROJECT),
    ("status", "--app-name", "another", "web"),
    ("logs", "--tail", "5", "--since", "15m", "web", "redis"),
    ("logs", "--previous", "dbworker"),
    ("logs", "--follow"),
    ("scale", "--replicas", "4", "--timeout", "1h", "todoworker"),
    ("scale", "--replicas", "4", "redis"),
    ("rollback", "-n", PROJECT),
    ("rollback", "--to-revision", "1", "web"),
    ("rollback", "--list"),
    ("delete", "todoworker"),
    ("delete", "--data"),
]


@pytest.fixture(scope="module")
def two_releases(a_deployed_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    stand_in = StandIn(tmp_path_factory.mktemp("released"))
    stand_in.cluster = copy.deepcopy(a_deployed_cluster)
    assert stand_in.deploy("--build").status == 0
    stand_in.stop()
    return stand_in.cluster


@pytest.mark.parametrize("case", CASES, ids=lambda case: " ".join(case))
def test_both_systems_make_the_same_calls_and_say_the_same(
    oc: StandIn, windows: Windows, two_releases: Cluster, case: tuple[str, ...]
) -> None:
    (oc.folder / "database.env").write_text("PG_USER=somebody\n")
    oc.cluster = copy.deepcopy(two_releases)
    shell = oc.run(*case)
    shell_calls = oc.calls
    oc.restart(copy.deepcopy(two_releases))
    assert _comparable(windows.run(oc, *case)) == _comparable(shell)
    assert _without_job(oc.calls) == _without_job(shell_calls)


@pytest.mark.parametrize("command", COMMANDS)
def test_both_systems_end_alike_when_the_cluster_refuses(
    oc: StandIn, windows: Windows, two_releases: Cluster, command: str
) -> None:
    needed = {"scale": ["--replicas", "4"], "deploy": ["--git-url", REPOSITORY]}.get(command, [])
    ends = []
    for run in (oc.run, lambda *words: windows.run(oc, *words)):
        oc.restart(copy.deepcopy(two_releases), fail_at=FAILS_AT.get(command, 3))
        done = run(command, *needed)
        assert done.status == 1
        ends.append((_comparable(done), _without_job(oc.calls)))
    assert ends[0] == ends[1]


# --- which Python -------------------------------------------------------------------------------


def test_the_launcher_of_windows_is_asked_before_a_python_on_the_path(
    oc: StandIn, windows: Windows
) -> None:
    windows.programs = ["python", "py"]
    assert windows.run(oc, "status", "--help").status == 0
    assert [call[0] for call in windows.calls] == ["-3", "-3"]


def test_a_python_that_is_too_old_or_none_is_said(oc: StandIn, windows: Windows) -> None:
    windows.is_old = True
    old = windows.run(oc, "status")
    windows.programs = []
    none = windows.run(oc, "status")
    assert old.status == none.status == 1
    assert "Python 3.8 or newer is needed" in old.errors
    assert none.errors == old.errors
    assert oc.calls == []


def test_a_python_that_is_named_is_taken_unasked(oc: StandIn, windows: Windows) -> None:
    windows.programs = []
    python = windows.windows(windows.folder / "with a space" / "python.exe")
    assert windows.run(oc, "status", "--help", python=python).status == 0
    assert [call[1:] for call in windows.calls] == [["status", "--help"]]


@pytest.mark.parametrize("has_old", [True, False])
def test_the_shell_takes_the_first_python_that_is_new_enough(
    oc: StandIn, tmp_path: Path, has_old: bool
) -> None:
    bin_folder = tmp_path / "only"
    bin_folder.mkdir()
    (bin_folder / "dirname").symlink_to("/usr/bin/dirname")
    (bin_folder / "sh").symlink_to("/bin/sh")
    if has_old:
        (bin_folder / "python3").write_text("#!/bin/sh\nexit 1\n")
        (bin_folder / "python3").chmod(0o755)
    command = [
        "/usr/bin/env",
        "-u",
        "PYTHON",
        f"PATH={bin_folder}",
        "sh",
        str(SCRIPTS / "status.sh"),
        "--help",
    ]
    done = oc.start(*command)
    assert done.status == 1
    assert "Python 3.8 or newer is needed" in done.errors
    (bin_folder / "python").symlink_to(sys.executable)
    assert oc.start(*command).status == 0
