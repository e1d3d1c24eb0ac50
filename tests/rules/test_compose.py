"""The Compose file runs the same processes as the templates, in the same way."""

import re
from typing import Any

import pytest

from app_srvc.container import choose_start
from app_srvc.settings import Settings
from tests.support.manifests import (
    APPLICATION,
    COMPOSE,
    PARTS,
    ROOT,
    VARIABLE,
    container_of,
    environment_in_cluster,
    environment_in_compose,
    interpolate,
    pod_of,
    read_compose,
    secret_values,
)

# What someone has to put into .env.
MUST_BE_SET = {
    "RDS_PSW": "r" * 32,
    "PG_PSW": "p" * 32,
    "SECRET_KEY": "k" * 32,
    "API_TOKEN": "t" * 32,
}
# Keys of a service, of those that the Compose specification has, that this file uses.
KEYS = {
    "build",
    "cap_drop",
    "command",
    "depends_on",
    "deploy",
    "environment",
    "healthcheck",
    "image",
    "ports",
    "read_only",
    "restart",
    "security_opt",
    "shm_size",
    "stop_grace_period",
    "stop_signal",
    "tmpfs",
    "user",
    "volumes",
}
# In Compose Redis and PostgreSQL are beside the parts, and one machine needs no Job for migrations.
OF_A_CLUSTER = {"REDIS_URL", "DATABASE_URL", "DB_UPGRADE_AT_START"}
application_part = pytest.mark.parametrize("part", APPLICATION)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return read_compose()


def test_there_is_a_service_for_every_part_of_the_templates(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == set(PARTS) - {"secrets"}
    assert {key for key in compose if not key.startswith("x-")} == {"name", "services", "volumes"}
    for service in compose["services"].values():
        assert set(service) <= KEYS


@application_part
def test_a_process_has_the_same_variables_as_in_the_cluster(part: str) -> None:
    in_cluster = environment_in_cluster(part, secret_values())
    in_compose = environment_in_compose(part, MUST_BE_SET)
    assert set(in_compose) == set(in_cluster) - OF_A_CLUSTER
    defaults = Settings.from_env({}, "cli")
    assert in_cluster["DB_UPGRADE_AT_START"] == str(defaults.db_upgrade_at_start).lower()
    # In the cluster a router stands in front, whose word gunicorn takes.
    of_one_place = set(MUST_BE_SET) | {"GUNICORN_CMD_ARGS"}
    for name in set(in_compose) - of_one_place:
        assert in_compose[name] == in_cluster[name], name


@application_part
def test_the_service_accepts_the_environment_that_it_would_get(part: str) -> None:
    variables = environment_in_compose(part, MUST_BE_SET)
    settings = Settings.from_env(variables, "web" if part == "web" else "worker")
    assert settings.rds_host == "redis" and settings.pg_host == "postgresql"
    assert choose_start(variables, ROOT).arguments


@pytest.mark.parametrize("name", MUST_BE_SET)
def test_a_secret_that_is_not_set_stops_the_start_with_a_word_about_it(name: str) -> None:
    with pytest.raises(AssertionError, match=f"{name}: Copy .env.example to .env and set {name}"):
        interpolate(COMPOSE.read_text(), {**MUST_BE_SET, name: ""})


def test_the_example_of_the_environment_file_names_every_variable_and_its_default() -> None:
    example = (ROOT / ".env.example").read_text()
    described = dict(re.findall(r"^#?([A-Z_]+)=(.*)$", example, re.MULTILINE))
    used = {name: default for name, _, default in VARIABLE.findall(COMPOSE.read_text())}
    assert set(described) == set(used)
    for name, default in used.items():
        assert described[name] == ("" if name in MUST_BE_SET else default), name


def test_what_is_depended_on_says_whether_it_is_healthy(compose: dict[str, Any]) -> None:
    services = compose["services"]
    for part in APPLICATION:
        waited_for = services[part]["depends_on"]
        assert set(waited_for) == {"redis", "postgresql"}
        for name, how in waited_for.items():
            assert how == {"condition": "service_healthy"}
            assert services[name]["healthcheck"]["test"][0] in ("CMD", "CMD-SHELL")


@application_part
def test_containers_have_no_rights_that_they_do_not_need(
    part: str, compose: dict[str, Any]
) -> None:
    service = compose["services"][part]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    volumes = {volume["name"]: volume for volume in pod_of(part)["spec"]["volumes"]}
    assert service["tmpfs"] == [
        mount["mountPath"]
        for mount in container_of(part)["volumeMounts"]
        if "emptyDir" in volumes[mount["name"]]
    ]


@pytest.mark.parametrize("part", [*APPLICATION, "redis", "postgresql"])
def test_a_part_may_use_as_much_as_in_the_cluster(part: str, compose: dict[str, Any]) -> None:
    in_cluster = container_of(part)["resources"]["limits"]
    in_compose = compose["services"][part]["deploy"]["resources"]["limits"]
    assert in_compose["cpus"] == in_cluster["cpu"]
    assert f"{in_compose['memory']}i" == in_cluster["memory"]


@application_part
def test_a_part_is_asked_for_its_health_at_the_path_that_makes_a_pod_ready(
    part: str, compose: dict[str, Any]
) -> None:
    test = compose["services"][part]["healthcheck"]["test"]
    assert test[-2:] == ["app_srvc.container", "--health"]
    path = container_of(part)["readinessProbe"]["httpGet"]["path"]
    assert f'"{path}"' in (ROOT / "app_srvc" / "container.py").read_text()


@pytest.mark.parametrize("part", [*APPLICATION, "postgresql"])
def test_a_part_gets_as_long_to_stop_as_in_the_cluster(part: str, compose: dict[str, Any]) -> None:
    in_cluster = pod_of(part)["spec"]["terminationGracePeriodSeconds"]
    assert compose["services"][part]["stop_grace_period"] == f"{in_cluster}s"


def test_only_this_machine_reaches_the_web_part_and_nothing_reaches_the_rest(
    compose: dict[str, Any],
) -> None:
    published = {name: s["ports"] for name, s in compose["services"].items() if "ports" in s}
    assert published == {"web": ["127.0.0.1:${PORT:-8080}:8080"]}


def test_data_is_kept_on_volumes(compose: dict[str, Any]) -> None:
    assert set(compose["volumes"]) == {"redis-data", "postgresql-data"}
    for name in ("redis", "postgresql"):
        (volume,) = compose["services"][name]["volumes"]
        assert volume.partition(":")[0] in compose["volumes"]
