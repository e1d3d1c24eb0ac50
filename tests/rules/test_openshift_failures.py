"""Whichever call of a script fails: it ends, says which step that was, and changes nothing more."""

import copy
import json
from collections.abc import Iterator

import pytest

from tests.support.manifests import PROJECT, REPOSITORY
from tests.support.oc_process import Object
from tests.support.openshift_scripts import StandIn
from tests.support.stand_in_cluster import REVISION, Cluster
from tests.support.stand_in_oc import changes

DEPLOY = ("deploy", "--git-url", REPOSITORY)
# What is run, and what the cluster is like before: empty, deployed, or with a second release.
SCENARIOS = {
    "a first deployment": ("empty", DEPLOY),
    "a deployment that changes nothing": ("deployed", DEPLOY),
    "a new release": ("deployed", (*DEPLOY, "--build")),
    "a new release by its migration alone": ("deployed", (*DEPLOY, "--build", "migrate")),
    "an image from elsewhere": ("deployed", (*DEPLOY, "--image", "registry.example.org/app:1")),
    "autoscaling": ("deployed", (*DEPLOY, "autoscaling-keda")),
    "status": ("deployed", ("status",)),
    "logs": ("deployed", ("logs",)),
    "logs that are followed": ("deployed", ("logs", "--follow")),
    "scaling": ("deployed", ("scale", "--replicas", "4")),
    "a rollback": ("released", ("rollback",)),
    "a rollback to a revision": ("released", ("rollback", "--to-revision", "1", "web")),
    "the list of revisions": ("released", ("rollback", "--list")),
    "deleting": ("deployed", ("delete",)),
    "deleting with the data": ("deployed", ("delete", "--data")),
}
# A test takes every third call of a scenario, so that none takes long.
SHARES = 3
# Calls whose answer is good to know, and not needed: whether there is something on request to delete.
NOT_NEEDED = ("get horizontalpodautoscaler/", "get scaledobject/")


@pytest.fixture(scope="session")
def clusters(
    a_deployed_cluster: Cluster, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Cluster]]:
    stand_in = StandIn(tmp_path_factory.mktemp("released"))
    stand_in.cluster = copy.deepcopy(a_deployed_cluster)
    assert stand_in.deploy("--build").status == 0
    yield {"empty": Cluster(), "deployed": a_deployed_cluster, "released": stand_in.cluster}
    stand_in.stop()


def settled(cluster: Cluster) -> dict[str, object]:
    """What a cluster has, but for what differs from run to run.

    That is a Job's name, passwords that are made up, and how many images and revisions there were
    before: a build that is asked for twice is done twice.
    """
    newest = cluster.objects.get("imagestreamtag/app-srvc:latest", {}).get("number")
    text = json.dumps(cluster.objects).replace(f"registry/app-srvc@sha256:{newest}", "the newest")
    found: dict[str, object] = {}
    for key, item in json.loads(text).items():
        if key.startswith("job/"):
            found["job"] = item["spec"]
        elif item["kind"] == "Secret":
            found[key] = sorted(item["stringData"])
        elif item["kind"] not in ("ReplicaSet", "ImageStreamTag"):
            item["metadata"].get("annotations", {}).pop(REVISION, None)
            found[key] = item
    return found


@pytest.mark.parametrize("remainder", range(SHARES))
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_each_call_may_fail(
    oc: StandIn, clusters: dict[str, Cluster], scenario: str, remainder: int
) -> None:
    before, (script, *arguments) = SCENARIOS[scenario]
    words = ["-n", PROJECT, *arguments]
    oc.cluster = copy.deepcopy(clusters[before])
    done = oc.run(script, *words)
    assert done.status == 0, done.errors
    wanted, calls = settled(oc.cluster), oc.calls
    assert calls
    left: list[dict[str, Object]] = []
    for number, call in enumerate(calls, start=1):
        if number % SHARES != remainder:
            continue
        line = " ".join(call)
        oc.cluster = copy.deepcopy(clusters[before])
        done = oc.run(script, *words, fail_at=number)
        if any(one in line for one in NOT_NEEDED):
            assert done.status == 0
            continue
        assert done.status == 1, f"{line} failed, and that was not told"
        assert "error: the cluster refused" in done.errors
        assert tells(done.errors, call), f"{line} failed, and what was told is {done.errors}"
        more = [one for one in oc.calls[number:] if changes(one)]
        assert more == [], f"{line} failed, and more was changed"
        if oc.cluster.objects in left:
            continue  # the next run would find what it has been shown to mend
        left.append(copy.deepcopy(oc.cluster.objects))
        again = oc.run(script, *words)
        assert again.status == 0, f"after {line} failed: {again.errors}"
        assert settled(oc.cluster) == wanted, (
            f"after {line} failed, the next run left something out"
        )


def tells(errors: str, call: list[str]) -> bool:
    """Whether a message names the step and the part of a call."""
    verb = call[2] if call[0] == "--namespace" else call[0]
    if verb == "rollout" and "status" in call:
        (target,) = [word for word in call if word.startswith("deployment/")]
        name = target.partition("/")[2]
        return f"{name}: did not come up within 5m." in errors and f"Not running: {name}." in errors
    if verb == "logs" and "-l" not in call:
        (target,) = [word for word in call if word.startswith("pod/")]
        return f"No logs could be had of: {target.partition('/')[2]}." in errors
    return f" failed: 'oc {verb}' ended with 1" in errors
