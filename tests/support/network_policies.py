"""What NetworkPolicies let through, by the rules of Kubernetes: nothing that no policy allows."""

import ipaddress
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tests.support.oc_process import Object

NAME = "kubernetes.io/metadata.name"


@dataclass(frozen=True)
class End:
    """One end of a connection: a pod of the installation, one of elsewhere, or an address outside.

    `labels` are the pod's, `namespace` those of another namespace than the installation's.
    """

    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] | None = None
    address: str | None = None

    @property
    def is_ours(self) -> bool:
        return self.namespace is None and self.address is None


def lets_through(
    objects: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether a connection may be made. What happens at ends that are not ours is not asked."""
    objects = list(objects)
    number_of = _named_ports(objects, target)
    policies = [item["spec"] for item in objects if item["kind"] == "NetworkPolicy"]
    out = not source.is_ours or _allows(
        policies, "Egress", source, target, port, protocol, number_of
    )
    into = not target.is_ours or _allows(
        policies, "Ingress", target, source, port, protocol, number_of
    )
    return out and into


def is_isolated(objects: Iterable[Object], pod: End) -> bool:
    """Whether some policy denies to a pod, in both directions, what none allows."""
    directions = {
        direction
        for item in objects
        if item["kind"] == "NetworkPolicy" and selects(item["spec"]["podSelector"], pod.labels)
        for direction in item["spec"]["policyTypes"]
    }
    return directions == {"Ingress", "Egress"}


def selects(selector: Object, labels: Mapping[str, str]) -> bool:
    """Whether a label selector finds something with these labels."""
    if not selector.get("matchLabels", {}).items() <= labels.items():
        return False
    for expression in selector.get("matchExpressions", []):
        assert expression["operator"] == "In", "no other is used here"
        if labels.get(expression["key"]) not in expression["values"]:
            return False
    return True


def _named_ports(objects: Iterable[Object], pod: End) -> dict[str, int]:
    named = {}
    for item in objects:
        if item["kind"] != "Deployment":
            continue
        template = item["spec"]["template"]
        if template["metadata"]["labels"] == dict(pod.labels):
            for container in template["spec"]["containers"]:
                named |= {one["name"]: one["containerPort"] for one in container["ports"]}
    return named


def _allows(
    policies: list[Object],
    direction: str,
    pod: End,
    other: End,
    port: int,
    protocol: str,
    number_of: Mapping[str, int],
) -> bool:
    ours = [
        policy
        for policy in policies
        if direction in policy["policyTypes"] and selects(policy["podSelector"], pod.labels)
    ]
    if not ours:
        return True
    key, peers = ("ingress", "from") if direction == "Ingress" else ("egress", "to")
    return any(
        _fits_peer(rule, peers, other) and _fits_port(rule, port, protocol, number_of)
        for policy in ours
        for rule in policy.get(key, [])
    )


def _fits_port(rule: Object, port: int, protocol: str, number_of: Mapping[str, int]) -> bool:
    return "ports" not in rule or any(
        number_of.get(one["port"], one["port"]) == port and one["protocol"] == protocol
        for one in rule["ports"]
    )


def _fits_peer(rule: Object, peers: str, other: End) -> bool:
    return peers not in rule or any(_is_peer(peer, other) for peer in rule[peers])


def _is_peer(peer: Object, other: End) -> bool:
    if "ipBlock" in peer:
        network = ipaddress.ip_network(peer["ipBlock"]["cidr"])
        return other.address is not None and ipaddress.ip_address(other.address) in network
    if other.address is not None:
        return False
    if "namespaceSelector" in peer:
        if other.namespace is None or not selects(peer["namespaceSelector"], other.namespace):
            return False
    elif other.namespace is not None:
        return False
    return "podSelector" not in peer or selects(peer["podSelector"], other.labels)
