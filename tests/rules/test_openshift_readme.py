"""Every command of openshift/README.md, in its order, against the stand-in for `oc`."""

import re
from pathlib import Path

import pytest

from tests.support.manifests import APPLICATION, ROOT, TEMPLATES
from tests.support.openshift_scripts import COMMANDS, PARTS, SCRIPTS, StandIn

README = (ROOT / "openshift" / "README.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", README, re.S | re.M)
# What the texts say is in the files that commands name.
FILES = {
    "git-password.txt": "a-password",
    "database.env": "PG_USER=somebody\nPG_PSW=a-password\n",
    "ca.crt": "a certificate",
    "redis-url.txt": "rediss://redis.example.org",
    "database-url.txt": "postgresql://db.example.org/tododb",
}
# Where the text begins anew with an empty project.
BEGIN_ANEW = ("openshift/scripts/deploy.sh --param-file database.env", "oc process --parameters")
BY_THE_ORIGINAL = (
    *(
        "NAMESPACE",
        "DATABASE_SERVICE_NAME",
        "APP_SERVICE_NAME",
        "APP_NAME",
        "GIT_BRANCH",
        "GIT_URL",
    ),
    *("DOCKER_PTH", "WORKER_RUNNER", "ROUTENAME", "HOSTNAME", "PORTNUMBER"),
)


@pytest.fixture
def reader(oc: StandIn) -> StandIn:
    """Somebody who reads from the beginning, in a clone that has an origin."""
    (oc.folder / "openshift").symlink_to(ROOT / "openshift")
    git = oc.folder / "bin" / "git"
    git.write_text("#!/bin/sh\necho https://git.example.org/team/app-srvc.git\n")
    git.chmod(0o755)
    for name, text in FILES.items():
        (oc.folder / name).write_text(text)
    return oc


def test_every_command_works_in_the_order_of_the_text(reader: StandIn) -> None:
    assert len(BLOCKS) > 10
    for block in BLOCKS:
        if block.startswith(BEGIN_ANEW):
            reader.in_project("delete", "--data")
            assert not [key for key in reader.objects if key.startswith("deployment/")]
            for key in [*reader.cluster.objects]:
                reader.cluster.delete(key)
        done = reader.start("bash", "-euo", "pipefail", "-c", block)
        assert done.status == 0, f"{block}\n{done.errors}"
        if "--source-secret" in block:
            source = reader.objects["buildconfig/app-srvc"]["spec"]["source"]
            assert source["sourceSecret"] == {"name": "app-srvc-git"}
    assert "deployment/web" in reader.objects


def test_the_token_is_shown(reader: StandIn) -> None:
    reader.start("bash", "-c", BLOCKS[0])
    (token,) = [block for block in BLOCKS if "api-token" in block]
    done = reader.start("bash", "-c", token)
    assert done.output == reader.objects["secret/app-srvc"]["stringData"]["api-token"]


def test_by_hand_the_words_of_the_original_make_what_the_scripts_make(reader: StandIn) -> None:
    by_hand = [block for block in BLOCKS if "--param=" in block]
    given = set(re.findall(r"--param=(\w+)=", "".join(by_hand)))
    assert given == set(BY_THE_ORIGINAL)
    for block in by_hand:
        done = reader.start("bash", "-euo", "pipefail", "-c", block.partition("oc delete")[0])
        assert done.status == 0, done.errors
    assert reader.variables_of("todoworker")["APP_FILE"] == "todoworker.py"
    assert reader.image_of("todoworker") == reader.image_of("web") == "registry/app-srvc@sha256:1"
    assert reader.objects["route/web"]["spec"]["host"] == "app.example.org"
    deployment = reader.deployment("web")
    assert reader.deploy("--hostname", "app.example.org").status == 0
    theirs = reader.deployment("web")["spec"]["template"]["spec"]
    ours = deployment["spec"]["template"]["spec"]
    differing = {name for name in theirs if theirs[name] != ours[name]}
    assert differing <= {"containers"}
    assert {one["name"] for one in theirs["containers"][0]["env"]} == {
        one["name"] for one in ours["containers"][0]["env"]
    }


def test_the_text_names_every_script_part_and_exit_code() -> None:
    table = dict(re.findall(r"^\| `(\w+)` \| (.+) \|$", README, re.M))
    assert set(COMMANDS) <= set(table)
    assert f"`{' '.join(PARTS)}`" in README
    for part in (*APPLICATION, "redis", "postgresql"):
        assert (TEMPLATES / f"{part}.yaml").exists() or part.endswith("worker")


def test_the_lines_for_windows_are_those_for_the_shell() -> None:
    (block,) = re.findall(r"^```bat\n(.*?)^```$", README, re.S | re.M)
    shell = [line for block in BLOCKS for line in block.splitlines()]
    for line in block.splitlines():
        program, _, arguments = line.partition(" ")
        name = Path(program.replace("\\", "/"))
        assert (SCRIPTS / name.name).exists()
        assert f"{name.with_suffix('.sh')} {arguments}".strip() in shell
