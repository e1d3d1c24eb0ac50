"""What a deployment was given once holds until something else is given."""

import json
from typing import Any

import pytest

from tests.support.manifests import PROJECT
from tests.support.openshift_scripts import StandIn

ELSEWHERE = (
    *("-p", "DATABASE_SERVICE_NAME=db.example.org", "-p", "PG_DB=ledger"),
    *("-p", "BACKEND_CIDR=10.20.0.0/16", "-p", "SOURCE_URL=https://source.example.org/todos"),
)
PARTS_HERE = ("secrets", "redis", "migrate", "web", "usrregworker", "dbworker", "todoworker")


def environment(oc: StandIn, part: str) -> dict[str, Any]:
    (container,) = oc.objects[f"deployment/{part}"]["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value") for each in container["env"]}


def reaches(oc: StandIn, part: str) -> str:
    return json.dumps(oc.objects[f"networkpolicy/{part}"]["spec"]["egress"])


def test_a_run_that_names_less_moves_nothing_elsewhere(oc: StandIn) -> None:
    assert oc.deploy(*PARTS_HERE, *ELSEWHERE, "-p", "TODO_PROCESSES=7").status == 0
    done = oc.deploy("--build")
    assert done.status == 0, done.errors
    assert "deployment/postgresql" not in oc.objects
    assert "postgresql: left out" in done.output
    # taskworker was not there before, and takes from the others what all have.
    for part in ("web", "todoworker", "taskworker"):
        assert environment(oc, part)["PG_HOST"] == "db.example.org"
        assert environment(oc, part)["PG_DB"] == "ledger"
        assert "10.20.0.0/16" in reaches(oc, part)
    assert environment(oc, "dbworker")["SOURCE_URL"] == "https://source.example.org/todos"
    assert environment(oc, "todoworker")["TODO_PROCESSES"] == "7"
    assert environment(oc, "taskworker")["TODO_PROCESSES"] == "2"


def test_what_is_given_again_wins_and_the_rest_holds(oc: StandIn) -> None:
    oc.deploy(*PARTS_HERE, *ELSEWHERE)
    again = oc.deploy("dbworker", "-p", "SOURCE_URL=https://other.example.org/")
    assert again.status == 0, again.errors
    assert environment(oc, "dbworker")["SOURCE_URL"] == "https://other.example.org/"
    assert environment(oc, "dbworker")["PG_HOST"] == "db.example.org"
    assert "10.20.0.0/16" in reaches(oc, "dbworker")


def test_no_secret_is_written_beside_a_deployment(oc: StandIn) -> None:
    oc.deploy("-p", "PG_PSW=very-secret", "-p", "PG_USER=owner", "-p", "LOG_LEVEL=debug")
    text = json.dumps([each for name, each in oc.objects.items() if "secret" not in name])
    assert "very-secret" not in text
    kept = oc.objects["deployment/web"]["metadata"]["annotations"]["app-srvc/parameters"]
    assert json.loads(kept)["LOG_LEVEL"] == "debug"


def test_a_new_image_for_one_part_brings_its_tables_first(deployed: StandIn) -> None:
    before = {part: deployed.image_of(part) for part in ("web", "dbworker")}
    done = deployed.deploy("web", "--build")
    assert done.status == 0, done.errors
    assert "migrate: applying" in done.output
    assert deployed.image_of("web") != before["web"]


@pytest.mark.parametrize(
    "words",
    [
        ("deploy", "-n", "", "web"),
        ("deploy", "-n", PROJECT, "--image", "", "web"),
        ("deploy", "-n", PROJECT, "--git-url=", "web"),
        ("delete", "--data", "-n", ""),
        ("delete", "--data", "-n", PROJECT, "--app-name", ""),
        ("scale", "-n", PROJECT, "--replicas", "", "web"),
        ("logs", "-n", PROJECT, ""),
    ],
)
def test_the_value_of_a_variable_that_is_not_set_is_refused(
    deployed: StandIn, words: tuple[str, ...]
) -> None:
    before = dict(deployed.objects)
    done = deployed.run(*words)
    assert done.status == 2
    assert "There is an empty value" in done.errors
    assert deployed.objects == before
    assert deployed.matching("delete|apply|create") == []
