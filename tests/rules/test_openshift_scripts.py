"""The scripts make the calls that a cluster needs, run again without harm, and say what went wrong."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.manifests import APPLICATION, PARTS, PROJECT, REPOSITORY, ROOT, WORKERS

SCRIPTS = ROOT / "openshift" / "scripts"
PROGRAMS = ("deploy.sh", "delete.sh", "status.sh")


@dataclass(frozen=True)
class Answer:
    status: int
    output: str
    errors: str


class StandIn:
    """A cluster that is a file, behind an `oc` that stands first on the path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        program = folder / "bin" / "oc"
        program.parent.mkdir()
        # Without `site`, whose imports would take most of the time of each call.
        path = f"{ROOT}:{sysconfig.get_path('platlib')}"
        program.write_text(
            f'#!/bin/sh\nPYTHONPATH="{path}" exec "{sys.executable}" -S -m tests.support.stand_in_oc "$@"\n'
        )
        program.chmod(0o755)

    def run(self, script: str, *arguments: str, fail: str = "") -> Answer:
        """Run a script; calls of `oc` that match `fail` are refused."""
        done = subprocess.run(
            [str(SCRIPTS / script), *arguments],
            env={
                "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}",
                "OC_FOLDER": str(self.folder),
                "OC_FAIL": fail,
            },
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=100,
        )
        return Answer(done.returncode, done.stdout, done.stderr)

    def deploy(self, *arguments: str, fail: str = "") -> Answer:
        return self.run("deploy.sh", "-n", PROJECT, "--git-url", REPOSITORY, *arguments, fail=fail)

    @property
    def calls(self) -> list[str]:
        """Every call since the last look, as text."""
        file = self.folder / "calls"
        lines = file.read_text().splitlines() if file.exists() else []
        file.unlink(missing_ok=True)
        return [" ".join(json.loads(line)) for line in lines]

    @property
    def objects(self) -> dict[str, Any]:
        file = self.folder / "cluster.json"
        return dict(json.loads(file.read_text())) if file.exists() else {}

    def change(self, key: str, **fields: Any) -> None:
        objects = self.objects
        objects[key].update(fields)
        (self.folder / "cluster.json").write_text(json.dumps(objects))

    def variables_of(self, part: str) -> dict[str, str]:
        (container,) = self.objects[f"deployment/{part}"]["spec"]["template"]["spec"]["containers"]
        return {entry["name"]: entry.get("value", "") for entry in container["env"]}

    def image_of(self, part: str) -> str:
        (container,) = self.objects[f"deployment/{part}"]["spec"]["template"]["spec"]["containers"]
        return str(container["image"])


@pytest.fixture
def oc(tmp_path: Path) -> StandIn:
    return StandIn(tmp_path)


@pytest.fixture(scope="module")
def a_deployed_cluster(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    stand_in = StandIn(tmp_path_factory.mktemp("deployed"))
    assert stand_in.deploy().status == 0
    return stand_in.objects


@pytest.fixture
def deployed(oc: StandIn, a_deployed_cluster: dict[str, Any]) -> StandIn:
    """A cluster on which everything has been deployed."""
    (oc.folder / "cluster.json").write_text(json.dumps(a_deployed_cluster))
    return oc


def matching(calls: list[str], pattern: str) -> list[str]:
    return [call for call in calls if re.search(pattern, call)]


# --- all scripts --------------------------------------------------------------------------------


@pytest.mark.parametrize("file", sorted(SCRIPTS.glob("*.sh")), ids=lambda file: file.name)
def test_a_script_is_well_formed_and_stops_at_its_first_error(file: Path) -> None:
    assert subprocess.run(["bash", "-n", str(file)], capture_output=True).returncode == 0
    if file.name in PROGRAMS:
        assert file.stat().st_mode & 0o111
        assert "\nset -euo pipefail\n" in file.read_text()


@pytest.mark.parametrize("script", PROGRAMS)
def test_help_names_every_option_and_part_and_asks_the_cluster_nothing(
    oc: StandIn, script: str
) -> None:
    answer = oc.run(script, "--help")
    assert (answer.status, answer.errors, oc.calls) == (0, "", [])
    assert " ".join(PARTS) in answer.output
    for option in re.findall(
        r"^    .*?(--[a-z-]+)\)", (SCRIPTS / script).read_text(), re.MULTILINE
    ):
        assert option in answer.output


@pytest.mark.parametrize("script", PROGRAMS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "There is no option '--nonsense'"),
        (["nosuchworker"], "There is no part 'nosuchworker'"),
        (["--namespace"], "--namespace needs a value"),
    ],
)
def test_what_is_not_understood_is_named_and_nothing_is_done(
    oc: StandIn, script: str, arguments: list[str], message: str
) -> None:
    answer = oc.run(script, *arguments)
    assert answer.status == 1
    assert message in answer.errors
    assert oc.calls == []


@pytest.mark.parametrize("script", PROGRAMS)
def test_without_a_project_a_script_says_how_to_choose_one(oc: StandIn, script: str) -> None:
    answer = oc.run(script, fail="^project")
    assert answer.status == 1
    assert "--namespace" in answer.errors
    assert oc.objects == {}


# --- deploy -------------------------------------------------------------------------------------


def test_deploying_everything_brings_up_every_part_in_order(oc: StandIn) -> None:
    answer = oc.deploy()
    assert answer.status == 0, answer.errors
    assert "web: https://chosen.by.the.cluster" in answer.output
    order = re.findall(r"^(\w+): applying$", answer.output, re.MULTILINE)
    assert order == list(PARTS)
    deployments = [key.partition("/")[2] for key in oc.objects if key.startswith("deployment/")]
    assert deployments == [part for part in PARTS if part != "secrets"]
    for worker in WORKERS:
        assert oc.variables_of(worker)["APP_FILE"] == f"{worker}.py"


def test_every_part_is_waited_for_and_the_databases_before_those_who_need_them(
    oc: StandIn,
) -> None:
    oc.deploy("--timeout", "7m")
    calls = oc.calls
    waits = matching(calls, "rollout status")
    assert [re.findall(r"deployment/(\w+) --timeout 7m", call) for call in waits] == [
        [part] for part in PARTS if part != "secrets"
    ]
    first_application = calls.index(matching(calls, "APP_SERVICE_NAME=web")[0])
    assert calls.index(waits[1]) < first_application


def test_everything_is_done_in_the_chosen_project(oc: StandIn) -> None:
    oc.run("deploy.sh", "--git-url", REPOSITORY)
    for call in oc.calls:
        if call != "project -q":
            assert re.search("--namespace the-current-project|NAMESPACE=the-current-project", call)


def test_deploying_again_changes_nothing(deployed: StandIn) -> None:
    before = deployed.objects
    answer = deployed.deploy()
    assert answer.status == 0, answer.errors
    assert deployed.objects == before
    assert "configured" not in answer.output and "created" not in answer.output
    assert matching(deployed.calls, "start-build") == []


def test_passwords_are_made_once(deployed: StandIn) -> None:
    secret = deployed.objects["secret/app-srvc"]
    deployed.deploy("secrets", "-p", "PG_PSW=another")
    assert deployed.objects["secret/app-srvc"] == secret


def test_a_cluster_that_does_not_answer_is_not_taken_for_an_empty_one(deployed: StandIn) -> None:
    before = deployed.objects
    answer = deployed.deploy(fail="get secret")
    assert answer.status == 1
    assert "Cannot ask the cluster for secret app-srvc" in answer.errors
    assert deployed.objects == before


def test_the_image_is_built_once_unless_a_new_one_is_wanted(deployed: StandIn) -> None:
    assert {deployed.image_of(part) for part in APPLICATION} == {"registry/app-srvc:latest@1"}
    answer = deployed.deploy("--build", "web", "todoworker")
    assert answer.status == 0, answer.errors
    assert len(matching(deployed.calls, "start-build app-srvc --wait")) == 1
    assert deployed.image_of("usrregworker") == "registry/app-srvc:latest@2"


def test_an_image_from_elsewhere_needs_no_build_and_no_later_one_replaces_it(
    deployed: StandIn,
) -> None:
    answer = deployed.deploy("--image", "registry.example.org/app-srvc:1", *APPLICATION)
    assert answer.status == 0, answer.errors
    assert matching(deployed.calls, "start-build") == []
    assert {deployed.image_of(part) for part in APPLICATION} == {"registry.example.org/app-srvc:1"}


def test_a_worker_alone_says_that_the_image_is_missing(oc: StandIn) -> None:
    answer = oc.deploy("todoworker")
    assert answer.status == 1
    assert "Deploy the part web first" in answer.errors


def test_a_failed_build_is_said_and_nothing_is_waited_for(oc: StandIn) -> None:
    answer = oc.deploy("secrets", "web", fail="start-build")
    assert answer.status == 1
    assert "The build failed" in answer.errors
    assert matching(oc.calls, "rollout status deployment/web") == []


def test_a_part_that_does_not_come_up_is_explained_and_the_others_are_still_waited_for(
    oc: StandIn,
) -> None:
    answer = oc.deploy(fail="rollout status deployment/(web|dbworker)")
    assert answer.status == 1
    assert "Not running: web dbworker." in answer.errors
    assert "the last line of deployment/dbworker" in answer.errors
    assert len(matching(oc.calls, "rollout status deployment/taskworker")) == 1


def test_without_redis_nothing_that_needs_it_is_started(oc: StandIn) -> None:
    answer = oc.deploy(fail="rollout status deployment/redis")
    assert answer.status == 1
    assert "Not running: redis." in answer.errors
    assert "deployment/web" not in oc.objects


@pytest.mark.parametrize("step", ["process", "apply", "create -f", "get deployment", "get istag"])
def test_a_step_that_fails_ends_the_script(oc: StandIn, step: str) -> None:
    answer = oc.deploy(fail=step)
    assert answer.status == 1
    assert "the cluster refused" in answer.errors
    assert "https://" not in answer.output


def test_parameters_reach_the_templates_that_have_them(deployed: StandIn) -> None:
    answer = deployed.deploy("todoworker", "-p", "TODO_PROCESSES=5", "-p", "REPLICAS=3")
    assert answer.status == 0, answer.errors
    assert deployed.variables_of("todoworker")["TODO_PROCESSES"] == "5"
    assert deployed.objects["deployment/todoworker"]["spec"]["replicas"] == 3
    assert deployed.objects["deployment/web"]["spec"]["replicas"] == 2


@pytest.mark.parametrize(
    ("parameter", "message"),
    [
        ("TODO_PROCESES=5", "No template has a parameter 'TODO_PROCESES'"),
        ("REPLICAS", "--param needs NAME=VALUE, got 'REPLICAS'"),
        ("NAMESPACE=x", "Name the project with --namespace"),
        ("WORKER_RUNNER=x", "The scripts set WORKER_RUNNER themselves"),
        ("IMAGE=x", "Name the image with --image"),
    ],
)
def test_a_parameter_that_would_go_nowhere_is_refused(
    oc: StandIn, parameter: str, message: str
) -> None:
    answer = oc.deploy("-p", parameter)
    assert answer.status == 1
    assert message in answer.errors
    assert oc.calls == []


def test_a_private_repository_is_cloned_with_the_secret_that_is_named(oc: StandIn) -> None:
    oc.deploy("--source-secret", "git-login", "--git-branch", "v2", "secrets", "web")
    source = oc.objects["buildconfig/app-srvc"]["spec"]["source"]
    assert source["sourceSecret"] == {"name": "git-login"}
    assert source["git"] == {"uri": REPOSITORY, "ref": "v2"}


def test_a_secret_for_git_that_is_there_is_not_touched(deployed: StandIn) -> None:
    deployed.deploy("web")
    assert matching(deployed.calls, "create secret generic") == []
    (name,) = deployed.objects["secret/app-srvc-source"]["stringData"]
    assert name == ".gitconfig"


def test_a_database_of_ones_own_takes_the_place_of_the_part(oc: StandIn) -> None:
    parts = ("secrets", "redis", *APPLICATION)
    answer = oc.deploy("-p", "DATABASE_SERVICE_NAME=db.example.org", *parts)
    assert answer.status == 0, answer.errors
    assert "deployment/postgresql" not in oc.objects
    assert oc.variables_of("dbworker")["PG_HOST"] == "db.example.org"


# --- delete and status --------------------------------------------------------------------------


def test_deleting_keeps_what_would_be_lost(deployed: StandIn) -> None:
    answer = deployed.run("delete.sh", "-n", PROJECT)
    assert answer.status == 0, answer.errors
    left = {key.partition("/")[0] for key in deployed.objects}
    assert left == {
        "secret",
        "persistentvolumeclaim",
        "buildconfig",
        "imagestream",
        "imagestreamtag",
    }
    assert "--data deletes them too" in answer.output


def test_deleting_the_data_too_leaves_nothing_of_ours(deployed: StandIn) -> None:
    deployed.run("delete.sh", "-n", PROJECT, "--data")
    # The tag goes with its stream; the Secret for Git may be the user's own.
    assert set(deployed.objects) == {"imagestreamtag/app-srvc:latest", "secret/app-srvc-source"}


def test_deleting_one_part_leaves_the_others(deployed: StandIn) -> None:
    before = set(deployed.objects)
    deployed.run("delete.sh", "-n", PROJECT, "todoworker")
    assert before - set(deployed.objects) == {"deployment/todoworker"}


def test_deleting_what_is_not_there_is_no_error(oc: StandIn) -> None:
    assert oc.run("delete.sh", "-n", PROJECT, "--data").status == 0


def test_what_was_deleted_comes_back_with_its_data_and_passwords(deployed: StandIn) -> None:
    before = deployed.objects
    deployed.run("delete.sh", "-n", PROJECT)
    assert deployed.deploy().status == 0
    assert deployed.objects == before


def test_status_is_good_when_every_part_runs(deployed: StandIn) -> None:
    answer = deployed.run("status.sh", "-n", PROJECT)
    assert answer.status == 0, answer.errors
    lines = dict(line.split(maxsplit=1) for line in answer.output.splitlines())
    assert list(lines) == list(PARTS)
    assert lines["web"] == "running, 2 of 2 ready"
    assert lines["secrets"] == "there"


def test_status_names_what_is_missing_and_what_is_not_ready(deployed: StandIn) -> None:
    deployed.change("deployment/web", status={"readyReplicas": 0})
    deployed.run("delete.sh", "-n", PROJECT, "dbworker")
    answer = deployed.run("status.sh", "-n", PROJECT)
    assert answer.status == 1
    assert re.search(r"^web +not ready, 0 of 2 ready$", answer.output, re.MULTILINE)
    assert re.search(r"^dbworker +missing$", answer.output, re.MULTILINE)
    assert deployed.run("status.sh", "-n", PROJECT, "redis").status == 0


def test_status_of_a_cluster_that_does_not_answer_is_an_error(deployed: StandIn) -> None:
    answer = deployed.run("status.sh", "-n", PROJECT, fail="get deployment")
    assert answer.status == 1
    assert "Cannot ask the cluster" in answer.errors
