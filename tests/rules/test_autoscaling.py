"""Every part is scaled by one thing, on numbers that it gives, and scaled in no faster than it drains."""

from typing import get_type_hints
from urllib.parse import urlsplit

import pytest

from app_srvc.app import create_app
from app_srvc.console.queues import QueueLoad
from app_srvc.settings import Settings
from tests.support.kustomize import build
from tests.support.manifests import (
    APPLICATION,
    PROJECT,
    WORKERS,
    environment_of,
    pods_in,
    render_all,
    secret_values,
)
from tests.support.oc_process import Object

SCALERS = ("HorizontalPodAutoscaler", "ScaledObject")
# The way, the installation with its autoscaling, and its namespace.
WAYS = {
    "templates, by CPU": (lambda: render_all("autoscaling-hpa"), PROJECT),
    "templates, by queues": (lambda: render_all("autoscaling-keda"), PROJECT),
    "production": (lambda: build("production"), "app-srvc"),
    "production-keda": (lambda: build("production-keda"), "app-srvc"),
}
each_way = pytest.mark.parametrize("way", WAYS)
by_queues = pytest.mark.parametrize("way", ["templates, by queues", "production-keda"])
PROCESSES = {
    "usrregworker": "USRREG_PROCESSES",
    "dbworker": "ROBOT_PROCESSES",
    "todoworker": "TODO_PROCESSES",
    "taskworker": "TASK_PROCESSES",
}
QUEUES = {
    "usrregworker": "RDSQ_USRREG",
    "dbworker": "RDSQ_ROBOT",
    "todoworker": "RDSQ_OUTMSG",
    "taskworker": "RDSQ_TASKS",
}
JOBS_PER_PROCESS = 4


def installation(way: str) -> list[Object]:
    return WAYS[way][0]()


def scalers(way: str, *kinds: str) -> dict[str, Object]:
    """The scalers, by the part that each scales."""
    found: dict[str, Object] = {}
    for item in installation(way):
        if item["kind"] in (kinds or SCALERS):
            part = item["spec"]["scaleTargetRef"]["name"]
            assert part not in found, f"two scalers would pull at {part}"
            found[part] = item
    return found


def behaviour_of(scaler: Object) -> Object:
    spec = scaler["spec"]
    if scaler["kind"] == "ScaledObject":
        spec = spec["advanced"]["horizontalPodAutoscalerConfig"]
    behaviour: Object = spec["behavior"]
    return behaviour


def environment(way: str, part: str) -> dict[str, str]:
    (container,) = pods_in(installation(way))[part]["spec"]["containers"]
    secrets = {**secret_values(), "redis-url": "redis://r", "database-url": "postgresql://d/x"}
    return environment_of(container, secrets)


@each_way
def test_every_part_of_the_application_is_scaled_by_one_thing(way: str) -> None:
    assert set(scalers(way)) == set(APPLICATION)
    deployments = {
        item["metadata"]["name"]: item for item in installation(way) if item["kind"] == "Deployment"
    }
    for part, scaler in scalers(way).items():
        assert scaler["metadata"]["namespace"] == deployments[part]["metadata"]["namespace"]
        # Applied again, a number of pods that stands there would undo the scaler's.
        assert way.startswith("templates") or "replicas" not in deployments[part]["spec"]


@each_way
def test_pods_are_taken_away_one_at_a_time_and_each_may_finish_first(way: str) -> None:
    pods = pods_in(installation(way))
    for part, scaler in scalers(way).items():
        grace_s = pods[part]["spec"]["terminationGracePeriodSeconds"]
        scale_in = behaviour_of(scaler)["scaleDown"]
        assert scale_in["stabilizationWindowSeconds"] >= grace_s
        (policy,) = scale_in["policies"]
        assert (policy["type"], policy["value"]) == ("Pods", 1)
        assert policy["periodSeconds"] >= grace_s
        assert behaviour_of(scaler)["scaleUp"]["stabilizationWindowSeconds"] == 0


@each_way
def test_there_is_always_a_pod_and_in_production_two(way: str) -> None:
    for part, scaler in scalers(way).items():
        spec = scaler["spec"]
        least = spec.get("minReplicas", spec.get("minReplicaCount"))
        most = spec.get("maxReplicas", spec.get("maxReplicaCount"))
        assert least >= (1 if way.startswith("templates") and part in WORKERS else 2)
        assert most > least


@each_way
def test_what_is_scaled_by_cpu_says_how_much_it_needs(way: str) -> None:
    pods = pods_in(installation(way))
    for part, scaler in scalers(way, "HorizontalPodAutoscaler").items():
        (metric,) = scaler["spec"]["metrics"]
        resources = pods[part]["spec"]["containers"][0]["resources"]
        requested_m = millicores(resources["requests"]["cpu"])
        wanted_m = requested_m * metric["resource"]["target"]["averageUtilization"] / 100
        # Above the limit a pod would never come, and at it the old ones are slow already.
        assert requested_m < wanted_m <= millicores(resources["limits"]["cpu"]) * 0.6


def millicores(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)


@by_queues
def test_workers_are_scaled_by_their_own_queue_as_the_web_part_tells_it(way: str) -> None:
    namespace = WAYS[way][1]
    assert set(scalers(way, "ScaledObject")) == set(WORKERS)
    for part, scaler in scalers(way, "ScaledObject").items():
        variables = environment(way, part)
        backlog, oldest = scaler["spec"]["triggers"]
        path = f"/api/v1/queues/{variables[QUEUES[part]]}/load"
        for trigger in (backlog, oldest):
            assert trigger["metadata"]["url"] == f"http://web.{namespace}.svc:8080{path}"
        assert (backlog["metricType"], backlog["metadata"]["valueLocation"]) == (
            "AverageValue",
            "backlog",
        )
        assert (oldest["metricType"], oldest["metadata"]["valueLocation"]) == (
            "Value",
            "oldest_age_s",
        )
        wanted = JOBS_PER_PROCESS * int(variables[PROCESSES[part]])
        assert int(backlog["metadata"]["targetValue"]) == wanted
        assert int(oldest["metadata"]["targetValue"]) == 30


@by_queues
def test_what_the_scalers_ask_for_is_what_the_web_part_answers(way: str) -> None:
    variables = environment("production-keda", "web")
    routes = create_app(Settings.from_env(variables, "web")).url_map.bind("web")
    numbers = {name for name, type_ in get_type_hints(QueueLoad).items() if type_ in (int, float)}
    for scaler in scalers(way, "ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            endpoint, _ = routes.match(urlsplit(trigger["metadata"]["url"]).path, "GET")
            assert endpoint.endswith(".show_load")
            assert trigger["metadata"]["valueLocation"] in numbers


@by_queues
def test_the_numbers_are_asked_for_with_the_token_of_the_secret(way: str) -> None:
    (login,) = [one for one in installation(way) if one["kind"] == "TriggerAuthentication"]
    (reference,) = login["spec"]["secretTargetRef"]
    assert reference == {"parameter": "token", "name": "app-srvc", "key": "api-token"}
    for scaler in scalers(way, "ScaledObject").values():
        for trigger in scaler["spec"]["triggers"]:
            assert trigger["authenticationRef"]["name"] == login["metadata"]["name"]
            assert trigger["metadata"]["authMode"] == "bearer"


@by_queues
def test_numbers_that_are_not_known_take_no_pod_away(way: str) -> None:
    for scaler in scalers(way, "ScaledObject").values():
        fallback = scaler["spec"]["fallback"]
        assert fallback["behavior"] == "currentReplicasIfHigher"
        assert fallback["replicas"] == scaler["spec"]["minReplicaCount"]
