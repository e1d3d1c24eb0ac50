"""The scripts make the calls that a cluster needs, run again without harm, and say what went wrong."""

import re
from pathlib import Path

import pytest

from tests.support.manifests import APPLICATION, PROJECT, REPOSITORY, TEMPLATES, WORKERS
from tests.support.openshift_scripts import COMMANDS, DEPLOYMENTS, PARTS, SCRIPTS, StandIn
from tests.support.stand_in_oc import changes

# What a command cannot do without.
NEEDED = {"scale": ["--replicas", "2"]}


# --- all scripts --------------------------------------------------------------------------------


def test_every_command_has_a_file_for_each_system_and_no_file_is_left_over() -> None:
    names = {*COMMANDS, "run"}
    assert {file.stem for file in SCRIPTS.glob("*.sh")} == names
    assert {file.stem for file in SCRIPTS.glob("*.cmd")} == names
    assert all(file.stat().st_mode & 0o111 for file in SCRIPTS.glob("*.sh"))
    assert all(file.read_bytes().count(b"\r\n") for file in SCRIPTS.glob("*.cmd"))


def test_every_template_is_a_part(oc: StandIn) -> None:
    listed = oc.run("deploy", "--help").output.partition("Parts: ")[2]
    files = {file.stem for file in TEMPLATES.glob("*.yaml")} - {"worker"}
    assert files | set(WORKERS) == set(listed.replace("Only when they are named:", "").split())


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option_and_part_and_asks_the_cluster_nothing(
    oc: StandIn, command: str
) -> None:
    done = oc.run(command, "--help")
    assert (done.status, done.errors, oc.calls) == (0, "", [])
    assert " ".join(PARTS) in done.output
    source = (SCRIPTS / "parts" / f"{command}.py").read_text()
    if command == "deploy":
        source = (SCRIPTS / "parts" / "options.py").read_text()
    own = re.findall(r'add(?:_argument)?\(\s*(?:"-\w",\s*)?"(--[a-z-]+)"', source)
    assert own or command == "status"
    for option in (*own, "--namespace", "--app-name"):
        assert option in done.output


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--nonsense"], "nrecognized arguments: --nonsense"),
        (["nosuchworker"], "There is no part 'nosuchworker'"),
        (["--namespace"], "rgument -n/--namespace: expected one argument"),
    ],
)
def test_what_is_not_understood_is_named_and_nothing_is_done(
    oc: StandIn, command: str, arguments: list[str], message: str
) -> None:
    done = oc.run(command, *NEEDED.get(command, []), "--app-name", "x", *arguments)
    assert done.status == 2
    assert message in done.errors
    assert "Traceback" not in done.errors
    assert oc.calls == []


@pytest.mark.parametrize("command", COMMANDS)
def test_without_a_project_a_command_says_how_to_choose_one(oc: StandIn, command: str) -> None:
    arguments = ["--git-url", REPOSITORY] if command == "deploy" else NEEDED.get(command, [])
    done = oc.run(command, *arguments, fail="^project")
    assert done.status == 1
    assert "--namespace" in done.errors
    assert oc.lines == ["project -q"]


@pytest.mark.parametrize("command", COMMANDS)
def test_without_oc_a_command_says_so(oc: StandIn, command: str, tmp_path: Path) -> None:
    (oc.folder / "bin" / "oc").unlink()
    arguments = ["--git-url", REPOSITORY] if command == "deploy" else NEEDED.get(command, [])
    done = oc.run(command, "-n", PROJECT, *arguments)
    assert done.status == 1
    assert done.errors == "The program oc is needed. Install it, and log in with 'oc login'.\n"


# --- deploy -------------------------------------------------------------------------------------


def test_deploying_everything_brings_up_every_part_in_order(oc: StandIn) -> None:
    done = oc.deploy()
    assert done.status == 0, done.errors
    order = re.findall(r"^(\w+): applying$", done.output, re.MULTILINE)
    assert order == list(PARTS)
    made = [key.partition("/")[2] for key in oc.objects if key.startswith("deployment/")]
    assert made == list(DEPLOYMENTS)
    for worker in WORKERS:
        assert oc.variables_of(worker)["APP_FILE"] == f"{worker}.py"


def test_the_address_is_shown_at_the_end(deployed: StandIn) -> None:
    deployed.cluster.objects["route/web"]["spec"]["host"] = "app.example.org"
    done = deployed.deploy("--hostname", "app.example.org", "web")
    assert done.output.endswith("web: https://app.example.org\n")


def test_every_part_is_waited_for_and_the_databases_before_those_who_need_them(
    oc: StandIn,
) -> None:
    oc.deploy("--timeout", "7m")
    waits = oc.matching("rollout status")
    assert [re.findall(r"deployment/(\w+) --timeout 7m", call) for call in waits] == [
        [name] for name in DEPLOYMENTS
    ]
    migration = oc.lines.index(oc.matching("migrate.yaml")[0])
    assert oc.lines.index(waits[1]) < migration < oc.lines.index(waits[2])


def test_everything_is_done_in_the_chosen_project(oc: StandIn) -> None:
    assert oc.run("deploy", "--git-url", REPOSITORY).status == 0
    for call in oc.lines:
        if call != "project -q":
            assert re.search("--namespace the-current-project|NAMESPACE=the-current-project", call)


def test_deploying_again_changes_nothing_but_runs_the_migration_once_more(
    deployed: StandIn,
) -> None:
    before = deployed.objects
    done = deployed.deploy()
    assert done.status == 0, done.errors
    after = deployed.objects
    (old,) = [key for key in before if key.startswith("job/")]
    (new,) = [key for key in after if key.startswith("job/")]
    assert old != new
    assert after.pop(new)["spec"] == before.pop(old)["spec"]
    assert after == before
    assert "configured" not in done.output
    assert done.output.count("created") == 1
    assert deployed.matching("start-build") == []


def test_passwords_are_made_once(deployed: StandIn) -> None:
    secret = deployed.objects["secret/app-srvc"]
    deployed.deploy("secrets", "-p", "PG_PSW=another")
    assert deployed.objects["secret/app-srvc"] == secret


def test_a_cluster_that_does_not_answer_is_not_taken_for_an_empty_one(deployed: StandIn) -> None:
    before = deployed.objects
    done = deployed.deploy(fail="get secret")
    assert done.status == 1
    assert "Looking for the secret app-srvc failed" in done.errors
    assert deployed.objects == before


def test_the_image_is_built_once_unless_a_new_one_is_wanted(deployed: StandIn) -> None:
    assert {deployed.image_of(part) for part in APPLICATION} == {"registry/app-srvc@sha256:1"}
    done = deployed.deploy("--build", "web", "todoworker")
    assert done.status == 0, done.errors
    assert len(deployed.matching("start-build app-srvc --wait")) == 1
    assert deployed.image_of("usrregworker") == "registry/app-srvc@sha256:2"


def test_a_new_image_starts_each_pod_once(oc: StandIn) -> None:
    oc.deploy()
    oc.deploy("--build")
    for part in APPLICATION:
        sets = [key for key in oc.objects if key.startswith(f"replicaset/{part}-")]
        assert len(sets) == 2, "one for each of the two images"


def test_an_image_from_elsewhere_needs_no_build_and_no_later_one_replaces_it(
    deployed: StandIn,
) -> None:
    done = deployed.deploy("--image", "registry.example.org/app-srvc:1")
    assert done.status == 0, done.errors
    assert deployed.matching("start-build") == []
    deployed.cluster.build("app-srvc")
    assert {deployed.image_of(part) for part in APPLICATION} == {"registry.example.org/app-srvc:1"}


def test_a_worker_alone_says_that_the_image_is_missing(oc: StandIn) -> None:
    done = oc.deploy("todoworker")
    assert done.status == 1
    assert "Deploy the part web first" in done.errors
    assert oc.objects == {}


def test_a_failed_build_is_said_and_nothing_that_needs_it_is_started(oc: StandIn) -> None:
    done = oc.deploy("secrets", "web", fail="start-build")
    assert done.status == 1
    assert "image: building failed" in done.errors
    assert "deployment/web" not in oc.objects


def test_a_part_that_does_not_come_up_is_explained_and_the_others_are_still_waited_for(
    oc: StandIn,
) -> None:
    oc.cluster.stuck = {"web", "dbworker"}
    done = oc.deploy("--timeout", "2m")
    assert done.status == 1
    assert "Not running: web dbworker." in done.errors
    assert "dbworker: did not come up within 2m." in done.errors
    assert (
        "dbworker-pod0  Running, app: CrashLoopBackOff, app: started again 3 times" in done.errors
    )
    assert "the last line of pod/dbworker-pod0 before" in done.errors
    assert "BackOff: Back-off restarting failed container" in done.errors
    assert len(oc.matching("rollout status deployment/taskworker")) == 1


def test_without_redis_nothing_that_needs_it_is_started(oc: StandIn) -> None:
    oc.cluster.stuck = {"redis"}
    done = oc.deploy()
    assert done.status == 1
    assert "Not running: redis." in done.errors
    assert "deployment/web" not in oc.objects
    assert oc.matching("migrate.yaml") == []


def test_parameters_reach_the_templates_that_have_them(deployed: StandIn) -> None:
    done = deployed.deploy("todoworker", "-p", "TODO_PROCESSES=5", "-p", "REPLICAS=3")
    assert done.status == 0, done.errors
    assert deployed.variables_of("todoworker")["TODO_PROCESSES"] == "5"
    assert deployed.replicas_of("todoworker") == 3
    assert deployed.replicas_of("web") == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-p", "TODO_PROCESES=5"], "No template has a parameter 'TODO_PROCESES'"),
        (["-p", "REPLICAS"], "--param needs NAME=VALUE, got 'REPLICAS'"),
        (["-p", "NAMESPACE=x"], "Name the project with --namespace"),
        (["-p", "WORKER_RUNNER=x"], "The scripts set WORKER_RUNNER themselves"),
        (["-p", "IMAGE=x"], "Name the image with --image"),
        (["--timeout", "soon"], "--timeout needs a time such as 90s, 5m or 1h30m, got 'soon'"),
        (["--image", "x", "--build"], "Give one of them"),
        (["--param-file", "nosuchfile"], "cannot read 'nosuchfile'"),
    ],
)
def test_an_option_that_would_go_nowhere_is_refused(
    oc: StandIn, arguments: list[str], message: str
) -> None:
    done = oc.deploy(*arguments)
    assert done.status == 2
    assert message in done.errors
    assert oc.calls == []


def test_what_is_secret_goes_by_a_file_and_is_on_no_command_line(oc: StandIn) -> None:
    file = oc.folder / "secrets.env"
    file.write_text("# of the database\nPG_USER=somebody\n\nPG_PSW=a=b $c\n")
    done = oc.deploy("--param-file", str(file), "secrets")
    assert done.status == 0, done.errors
    assert oc.objects["secret/app-srvc"]["stringData"]["database-password"] == "a=b $c"
    assert "a=b $c" not in done.output + done.errors + "".join(oc.lines)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("PG_PSW", "line 1 of 'file.env' is not NAME=VALUE"),
        ("NOSUCH=secret", "No template has a parameter 'NOSUCH'"),
        ("APP_NAME=x", "APP_NAME is given with --param, not in a file"),
    ],
)
def test_a_wrong_line_in_a_file_is_refused_without_its_value(
    oc: StandIn, line: str, message: str
) -> None:
    (oc.folder / "file.env").write_text(line)
    done = oc.deploy("--param-file", "file.env")
    assert done.status == 2
    assert message in done.errors
    assert "secret" not in done.errors
    assert oc.calls == []


def test_a_private_repository_is_cloned_with_the_secret_that_is_named(oc: StandIn) -> None:
    oc.deploy("--source-secret", "git-login", "--git-branch", "v2", "secrets", "web")
    source = oc.objects["buildconfig/app-srvc"]["spec"]["source"]
    assert source["sourceSecret"] == {"name": "git-login"}
    assert source["git"] == {"uri": REPOSITORY, "ref": "v2"}


def test_a_secret_for_git_that_is_there_is_not_touched(deployed: StandIn) -> None:
    deployed.deploy("web")
    assert deployed.matching("create secret generic") == []
    (name,) = deployed.objects["secret/app-srvc-source"]["stringData"]
    assert name == ".gitconfig"


def test_without_an_origin_the_repository_must_be_named_for_the_part_that_builds(
    oc: StandIn, tmp_path: Path
) -> None:
    # A clone without an origin is one that Git does not know.
    git = oc.folder / "bin" / "git"
    git.write_text("#!/bin/sh\nexit 1\n")
    git.chmod(0o755)
    done = oc.in_project("deploy")
    assert done.status == 2
    assert "--git-url" in done.errors
    assert oc.in_project("deploy", "redis").status == 0


def test_a_database_of_ones_own_takes_the_place_of_the_part(oc: StandIn) -> None:
    parts = ("secrets", "redis", "migrate", *APPLICATION)
    done = oc.deploy("-p", "DATABASE_SERVICE_NAME=db.example.org", *parts)
    assert done.status == 0, done.errors
    assert "deployment/postgresql" not in oc.objects
    assert oc.variables_of("dbworker")["PG_HOST"] == "db.example.org"


def test_a_part_on_request_comes_only_when_it_is_named(deployed: StandIn) -> None:
    assert "scaledobject/todoworker" not in deployed.objects
    done = deployed.deploy("autoscaling-keda")
    assert done.status == 0, done.errors
    assert "scaledobject/todoworker" in deployed.objects
    assert deployed.in_project("status", "autoscaling-keda").status == 0
    deployed.in_project("delete", "autoscaling-keda")
    assert "scaledobject/todoworker" not in deployed.objects
    assert deployed.in_project("status", "autoscaling-keda").status == 1


# --- delete and status --------------------------------------------------------------------------


def test_deleting_keeps_what_would_be_lost(deployed: StandIn) -> None:
    done = deployed.in_project("delete")
    assert done.status == 0, done.errors
    left = {key.partition("/")[0] for key in deployed.objects}
    assert left == {
        "secret",
        "persistentvolumeclaim",
        "buildconfig",
        "imagestream",
        "imagestreamtag",
    }
    assert "--data deletes them too" in done.output


@pytest.mark.parametrize("has_keda", [True, False])
def test_deleting_the_data_too_leaves_nothing_of_ours(deployed: StandIn, has_keda: bool) -> None:
    deployed.cluster.has_keda = has_keda
    assert deployed.deploy("autoscaling-keda" if has_keda else "autoscaling-hpa").status == 0
    done = deployed.in_project("delete", "--data")
    assert done.status == 0, done.errors
    # The tag goes with its stream; the Secret for Git may be the user's own.
    assert set(deployed.objects) == {"imagestreamtag/app-srvc:latest", "secret/app-srvc-source"}


def test_deleting_one_part_leaves_the_others(deployed: StandIn) -> None:
    before = set(deployed.objects)
    deployed.in_project("delete", "todoworker")
    gone = before - set(deployed.objects)
    assert "deployment/todoworker" in gone
    assert {re.split("[/-]", key)[1] for key in gone} == {"todoworker"}


def test_deleting_what_is_not_there_is_no_error(oc: StandIn) -> None:
    assert oc.in_project("delete", "--data").status == 0


def test_what_was_deleted_comes_back_with_its_data_and_passwords(deployed: StandIn) -> None:
    before = deployed.objects
    deployed.in_project("delete")
    assert deployed.deploy().status == 0
    after = deployed.objects
    assert {k for k in after if not k.startswith("job/")} == {
        k for k in before if not k.startswith("job/")
    }
    assert after["secret/app-srvc"] == before["secret/app-srvc"]


def test_status_is_good_when_every_part_runs(deployed: StandIn) -> None:
    done = deployed.in_project("status")
    assert done.status == 0, done.errors
    lines = dict(line.split(maxsplit=1) for line in done.output.splitlines())
    assert list(lines) == list(PARTS)
    assert lines["web"] == "running, 2 of 2 ready"
    assert lines["secrets"] == "there"
    assert lines["migrate"] == "done"
    assert not any(changes(call) for call in deployed.calls)


def test_status_names_what_is_missing_and_what_is_not_ready(deployed: StandIn) -> None:
    deployed.cluster.stuck = {"web"}
    deployed.cluster.settle()
    deployed.in_project("delete", "dbworker")
    done = deployed.in_project("status")
    assert done.status == 1
    assert re.search(r"^web +not ready, 0 of 2 ready$", done.output, re.MULTILINE)
    assert re.search(r"^dbworker +missing$", done.output, re.MULTILINE)
    assert deployed.in_project("status", "redis").status == 0


def test_status_says_which_parts_take_no_new_image(deployed: StandIn) -> None:
    deployed.deploy("--image", "registry.example.org/app-srvc:1", "dbworker")
    done = deployed.in_project("status", "dbworker", "todoworker")
    assert "dbworker         running, 1 of 1 ready; keeps its image\n" in done.output
    assert re.search(r"^todoworker +running, 1 of 1 ready$", done.output, re.MULTILINE)


def test_two_installations_in_one_project_are_told_apart(deployed: StandIn) -> None:
    done = deployed.in_project("status", "--app-name", "another", "web")
    assert done.status == 1
    assert "missing" in done.output
    before = deployed.objects
    assert deployed.in_project("delete", "--app-name", "another").status == 0
    assert deployed.objects == before
