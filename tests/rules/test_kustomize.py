"""The overlays build, a cluster would take them, and they run what the templates run."""

import subprocess
from copy import deepcopy
from typing import Any

import pytest
import yaml

from app_srvc import __version__
from app_srvc.container import choose_start
from app_srvc.settings import Settings
from tests.support.kustomize import KUBERNETES, OVERLAYS, build
from tests.support.manifests import (
    APPLICATION,
    COMPONENT,
    ROOT,
    container_of,
    environment_of,
    pod_of,
    pods_in,
    render,
    secret_values,
    the,
)
from tests.support.oc_process import Object
from tests.support.validity import assert_valid

PRODUCTION = [name for name in OVERLAYS if name != "small"]
RUNS_IN_SMALL = {*APPLICATION, "redis", "postgresql", "migrate"}
OF_OUR_REDIS_AND_POSTGRESQL = {
    *("RDS_HOST", "RDS_PORT", "RDS_PSW"),
    *("PG_HOST", "PG_PORT", "PG_USER", "PG_PSW", "PG_DB"),
}
# What OpenShift gives a pod by itself, and elsewhere the manifest must say.
GIVEN_BY_OPENSHIFT = {"runAsUser", "runAsGroup", "fsGroup"}
each_overlay = pytest.mark.parametrize("overlay", OVERLAYS)
in_production = pytest.mark.parametrize("overlay", PRODUCTION)
application_part = pytest.mark.parametrize("part", APPLICATION)


def make_secret(**variables: str) -> Object:
    made = subprocess.run(
        [KUBERNETES / "make-secret.sh"],
        env={"PATH": "/usr/bin:/bin", **variables},
        capture_output=True,
        text=True,
        check=True,
    )
    secret = yaml.safe_load(made.stdout)
    assert isinstance(secret, dict)
    return secret


def of_kind(kind: str, overlay: str) -> dict[str, Object]:
    return {item["metadata"]["name"]: item for item in build(overlay) if item["kind"] == kind}


def container_in(overlay: str, part: str) -> Object:
    (container,) = pods_in(build(overlay))[part]["spec"]["containers"]
    assert isinstance(container, dict)
    return container


# --- what a cluster would say -------------------------------------------------------------------


@each_overlay
def test_every_object_is_one_that_a_cluster_would_take(overlay: str) -> None:
    for item in build(overlay):
        assert_valid(item)


@each_overlay
def test_everything_is_in_one_namespace_where_only_restricted_pods_may_run(overlay: str) -> None:
    objects = build(overlay)
    namespace = the("Namespace", objects)
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for item in objects:
        if item is not namespace:
            assert item["metadata"]["namespace"] == namespace["metadata"]["name"]


@each_overlay
def test_every_pod_fits_the_restricted_profile(overlay: str) -> None:
    for pod in pods_in(build(overlay)).values():
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] > 0
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in spec["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}


@each_overlay
def test_labels_are_the_recommended_ones(overlay: str) -> None:
    for item in build(overlay):
        labels = item["metadata"]["labels"]
        assert labels["app.kubernetes.io/instance"] == "app-srvc"
        if item["kind"] in ("Deployment", "Job", "Service", "Ingress", "PodDisruptionBudget"):
            assert COMPONENT in labels
            if labels["app.kubernetes.io/name"] == "app-srvc":
                assert labels["app.kubernetes.io/part-of"] == "app-srvc"
                assert labels["app.kubernetes.io/managed-by"] == "kustomize"
                assert labels["app.kubernetes.io/version"] == __version__


@each_overlay
def test_selectors_find_the_pods_of_their_own_part_only(overlay: str) -> None:
    objects = build(overlay)
    pods = {part: pod["metadata"]["labels"] for part, pod in pods_in(objects).items()}
    for item in objects:
        if item["kind"] in ("Deployment", "Service", "PodDisruptionBudget"):
            selector = item["spec"]["selector"]
            labels = selector.get("matchLabels", selector)
            found = {part for part, of_pod in pods.items() if labels.items() <= of_pod.items()}
            assert found == {item["metadata"]["labels"][COMPONENT]}, item["metadata"]["name"]


@each_overlay
def test_the_ingress_has_tls_and_leads_to_the_web_part(overlay: str) -> None:
    objects = build(overlay)
    ingress = the("Ingress", objects)["spec"]
    (rule,) = ingress["rules"]
    assert ingress["tls"] == [{"hosts": [rule["host"]], "secretName": "app-srvc-tls"}]
    (path,) = rule["http"]["paths"]
    assert (path["path"], path["pathType"]) == ("/", "Prefix")
    service = of_kind("Service", overlay)[path["backend"]["service"]["name"]]
    names = {port["name"]: port["targetPort"] for port in service["spec"]["ports"]}
    target = names[path["backend"]["service"]["port"]["name"]]
    assert target in {port["name"] for port in container_in(overlay, "web")["ports"]}


# --- beside the templates -----------------------------------------------------------------------


def without_differences(pod: Object) -> Object:
    """A pod without what the two ways of deploying rightly give it differently."""
    spec: dict[str, Any] = deepcopy(pod["spec"])
    for name in GIVEN_BY_OPENSHIFT:
        spec["securityContext"].pop(name, None)
    (container,) = spec["containers"]
    del container["image"]
    container["env"] = sorted(container["env"], key=lambda entry: str(entry["name"]))
    for entry in container["env"]:
        if entry["name"] == "DB_UPGRADE_AT_START":
            entry["value"] = "as it is done there"
    return {"labels": pod["metadata"]["labels"], "spec": spec}


def test_the_small_overlay_runs_every_part_that_the_templates_have() -> None:
    assert set(pods_in(build("small"))) == RUNS_IN_SMALL


@pytest.mark.parametrize("part", sorted(RUNS_IN_SMALL))
def test_a_pod_is_the_same_as_by_the_template(part: str) -> None:
    by_kustomize = without_differences(pods_in(build("small"))[part])
    assert by_kustomize == without_differences(pod_of(part))


@application_part
def test_deployments_are_rolled_out_and_drained_as_by_the_templates(part: str) -> None:
    by_template = render(part)
    deployment, budget = of_kind("Deployment", "small"), of_kind("PodDisruptionBudget", "small")
    assert (
        deployment[part]["spec"]["strategy"] == the("Deployment", by_template)["spec"]["strategy"]
    )
    assert budget[part]["spec"] == the("PodDisruptionBudget", by_template)["spec"]


@pytest.mark.parametrize("part", ["redis", "postgresql"])
def test_servers_listen_and_store_as_by_the_templates(part: str) -> None:
    by_template = render(part)
    kinds = {"Service", "PersistentVolumeClaim", "ConfigMap"} & {one["kind"] for one in by_template}
    for kind in kinds:
        ours, theirs = of_kind(kind, "small")[part], the(kind, by_template)
        assert ours.get("spec") == theirs.get("spec")
        assert ours.get("data") == theirs.get("data")


# --- the Secret ---------------------------------------------------------------------------------


def test_the_script_makes_the_secret_that_the_template_makes() -> None:
    first, second = make_secret(), make_secret()
    assert_valid(first)
    values, of_the_template = first["stringData"], secret_values()
    assert set(values) == set(of_the_template)
    for key in ("redis-password", "database-password", "secret-key", "api-token"):
        assert len(values[key]) >= 32
        assert values[key] != second["stringData"][key]
    assert values["redis.conf"] == f"requirepass {values['redis-password']}\n"
    assert values["database-user"] == of_the_template["database-user"]


def test_addresses_reach_the_secret_whatever_characters_they_have() -> None:
    address = """postgresql://app:it's#a%20"pass\\word@db1,db2/tododb?sslmode=verify-full"""
    values = make_secret(DATABASE_URL=address, REDIS_URL="rediss://:p@r/0")["stringData"]
    assert values["database-url"] == address
    assert values["redis-url"] == "rediss://:p@r/0"


def test_a_misspelt_word_makes_no_secret() -> None:
    made = subprocess.run(
        [KUBERNETES / "make-secret.sh", "--redis-url"], capture_output=True, text=True
    )
    assert made.returncode == 2
    assert not made.stdout and "--redis-url" in made.stderr


@each_overlay
def test_secrets_are_by_reference_to_the_one_that_the_script_makes(overlay: str) -> None:
    secret = make_secret()
    objects = build(overlay)
    assert not [item for item in objects if item["kind"] == "Secret"]
    for pod in pods_in(objects).values():
        (container,) = pod["spec"]["containers"]
        references = [
            entry["valueFrom"]["secretKeyRef"] for entry in container["env"] if "valueFrom" in entry
        ]
        for volume in pod["spec"]["volumes"]:
            if "secret" in volume:
                assert volume["secret"]["secretName"] == secret["metadata"]["name"]
                references += [
                    {"name": volume["secret"]["secretName"], **item}
                    for item in volume["secret"]["items"]
                ]
        for reference in references:
            assert reference["name"] == secret["metadata"]["name"]
            assert reference["key"] in secret["stringData"]


@each_overlay
@application_part
def test_the_service_accepts_the_environment_that_it_would_get(overlay: str, part: str) -> None:
    secret = make_secret(
        REDIS_URL="rediss://:secret@redis.example.org/0",
        DATABASE_URL="postgresql://app:secret@db1.example.org,db2.example.org/tododb",
    )
    variables = environment_of(container_in(overlay, part), secret["stringData"])
    settings = Settings.from_env(variables, "web" if part == "web" else "worker")
    assert not settings.db_upgrade_at_start, "the Job does it"
    assert choose_start(variables, ROOT).arguments


# --- production ---------------------------------------------------------------------------------


@in_production
def test_production_takes_redis_and_postgresql_from_outside(overlay: str) -> None:
    pods = pods_in(build(overlay))
    assert set(pods) == {*APPLICATION, "migrate"}
    for part in pods:
        entries = {entry["name"]: entry for entry in container_in(overlay, part)["env"]}
        assert not OF_OUR_REDIS_AND_POSTGRESQL & set(entries)
        for name in ("REDIS_URL", "DATABASE_URL"):
            # A Secret without the address stops the start, with a word about the key.
            assert entries[name]["valueFrom"]["secretKeyRef"].get("optional", False) is False


@in_production
@application_part
def test_production_pods_are_the_same_processes_with_more_room(overlay: str, part: str) -> None:
    ours, usual = container_in(overlay, part), container_of(part)
    same = ("ports", "startupProbe", "livenessProbe", "readinessProbe", "lifecycle")
    assert {key: ours.get(key) for key in same} == {key: usual.get(key) for key in same}
    assert ours["securityContext"] == usual["securityContext"]
    assert ours["volumeMounts"] == usual["volumeMounts"]
    names = {entry["name"] for entry in usual["env"]} - OF_OUR_REDIS_AND_POSTGRESQL
    assert {entry["name"] for entry in ours["env"]} == names


def test_what_scales_by_queues_differs_from_what_scales_by_cpu_in_nothing_else() -> None:
    scaled_by_cpu, scaled_by_queues = build("production"), build("production-keda")
    scalers = ("HorizontalPodAutoscaler", "ScaledObject", "TriggerAuthentication")
    assert [item for item in scaled_by_cpu if item["kind"] not in scalers] == [
        item
        for item in scaled_by_queues
        if item["kind"] not in scalers and item["metadata"]["name"] != "web-autoscaling"
    ]
