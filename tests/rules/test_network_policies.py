"""Who may speak with whom: the same by the templates and by kustomize, and nobody else."""

from itertools import product

import pytest

from tests.support.kustomize import OVERLAYS, build
from tests.support.manifests import APPLICATION, WORKERS, pods_in, render, render_all
from tests.support.network_policies import NAME, End, is_isolated, lets_through
from tests.support.oc_process import Object

# Where requests, questions for metrics and names come from in the two worlds.
OPENSHIFT = {
    "router": {"policy-group.network.openshift.io/ingress": ""},
    "monitoring": {NAME: "openshift-user-workload-monitoring"},
    "keda": {NAME: "openshift-keda"},
    "dns": {NAME: "openshift-dns"},
}
KUBERNETES = {
    "router": {NAME: "ingress-nginx"},
    "monitoring": {NAME: "monitoring"},
    "keda": {NAME: "keda"},
    "dns": {NAME: "kube-system"},
}
PORTS = (80, 443, 5353, 5432, 6379, 8080, 8081, 26379)
INTERNET, NETWORK_OF_SERVERS = End(address="203.0.113.7"), End(address="10.1.2.3")
WAYS = ("templates", *OVERLAYS)
each_way = pytest.mark.parametrize("way", WAYS)


def installation(way: str) -> list[Object]:
    if way == "templates":
        return render_all("migrate", "autoscaling-keda")
    return build(way)


def elsewhere(way: str) -> dict[str, End]:
    names = OPENSHIFT if way == "templates" else KUBERNETES
    return {who: End(namespace=labels) for who, labels in names.items()}


def ours(objects: list[Object]) -> dict[str, End]:
    return {part: End(labels=pod["metadata"]["labels"]) for part, pod in pods_in(objects).items()}


@each_way
def test_nothing_is_let_through_that_no_policy_allows(way: str) -> None:
    objects = installation(way)
    for part, pod in ours(objects).items():
        assert is_isolated(objects, pod), part


@each_way
def test_parts_reach_redis_and_postgresql_and_nothing_else_of_the_installation(way: str) -> None:
    objects = installation(way)
    pods = ours(objects)
    allowed = {
        (source, target, port)
        for (source, target), port in product(product(pods, pods), PORTS)
        if lets_through(objects, pods[source], pods[target], port)
    }
    expected = set()
    if "redis" in pods:
        expected |= {(part, "redis", 6379) for part in APPLICATION}
        expected |= {(part, "postgresql", 5432) for part in (*APPLICATION, "migrate")}
    assert allowed == expected


@each_way
def test_only_the_web_part_is_reached_from_elsewhere(way: str) -> None:
    objects = installation(way)
    callers = elsewhere(way) | {
        "a stranger": End(namespace={NAME: "another"}),
        "outside": INTERNET,
    }
    allowed = {
        (who, part, port)
        for (who, caller), (part, pod), port in product(
            callers.items(), ours(objects).items(), PORTS
        )
        if lets_through(objects, caller, pod, port)
    }
    may = {"router", "monitoring"}
    if way in ("templates", "production-keda"):
        may |= {"keda"}
    assert allowed == {(who, "web", 8080) for who in may}


@each_way
def test_only_the_worker_of_robots_reaches_the_world(way: str) -> None:
    objects = installation(way)
    reaching = {
        (part, port)
        for (part, pod), port in product(ours(objects).items(), PORTS)
        if lets_through(objects, pod, INTERNET, port)
    }
    assert reaching == {("dbworker", 443)}


@each_way
def test_the_parts_can_look_up_names_and_the_servers_need_not(way: str) -> None:
    objects = installation(way)
    server = elsewhere(way)["dns"]
    if way != "templates":
        server = End(labels={"k8s-app": "kube-dns"}, namespace=server.namespace)
    port = 5353 if way == "templates" else 53
    asking = {
        part
        for part, pod in ours(objects).items()
        if all(lets_through(objects, pod, server, port, kind) for kind in ("UDP", "TCP"))
    }
    assert asking == {*APPLICATION, "migrate"}


@pytest.mark.parametrize("way", [way for way in OVERLAYS if way != "small"])
def test_production_reaches_redis_and_postgresql_where_they_are(way: str) -> None:
    objects = installation(way)
    for part, pod in ours(objects).items():
        for port in (5432, 6379, 26379):
            assert lets_through(objects, pod, NETWORK_OF_SERVERS, port), part


@pytest.mark.parametrize("part", [*APPLICATION, "migrate"])
def test_a_template_lets_out_to_the_addresses_that_it_is_given(part: str) -> None:
    for given, is_let in ({"BACKEND_CIDR": "10.0.0.0/8"}, True), ({}, False):
        objects = render(part, **given)
        pod = ours(objects)[part]
        assert lets_through(objects, pod, NETWORK_OF_SERVERS, 5432) is is_let
        assert lets_through(objects, pod, NETWORK_OF_SERVERS, 22) is False


def test_the_network_and_the_port_of_the_sources_can_be_chosen() -> None:
    objects = render("dbworker", SOURCE_CIDR="198.51.100.0/24", SOURCE_PORT="8443")
    pod = ours(objects)["dbworker"]
    assert lets_through(objects, pod, End(address="198.51.100.9"), 8443)
    assert not lets_through(objects, pod, End(address="198.51.100.9"), 443)
    assert not lets_through(objects, pod, INTERNET, 8443)


@pytest.mark.parametrize("part", WORKERS)
def test_two_installations_in_one_project_do_not_reach_each_other(part: str) -> None:
    mine = render(part, APP_NAME="mine") + render("redis", APP_NAME="mine")
    theirs = render(part, APP_NAME="theirs") + render("redis", APP_NAME="theirs")
    both = mine + theirs
    assert lets_through(both, ours(mine)[part], ours(mine)["redis"], 6379)
    assert not lets_through(both, ours(mine)[part], ours(theirs)["redis"], 6379)
