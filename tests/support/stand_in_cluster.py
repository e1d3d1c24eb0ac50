"""The cluster behind the stand-in for `oc`: it keeps objects, and does to them what a cluster would.

Image triggers, revisions, pods and Jobs follow from what was applied, at once.
"""

import copy
import json
import re
from collections.abc import Callable, Iterator

from tests.support.oc_process import Object

SHORT = {
    "pvc": "persistentvolumeclaim",
    "istag": "imagestreamtag",
    "bc": "buildconfig",
    "hpa": "horizontalpodautoscaler",
}
KINDS = {
    *(
        "secret",
        "configmap",
        "service",
        "persistentvolumeclaim",
        "deployment",
        "replicaset",
        "pod",
        "job",
    ),
    *("route", "buildconfig", "imagestream", "imagestreamtag", "event", "networkpolicy"),
    *("poddisruptionbudget", "horizontalpodautoscaler"),
}
KINDS_OF_KEDA = {"scaledobject", "triggerauthentication"}
REVISION = "deployment.kubernetes.io/revision"
TRIGGERS = "image.openshift.io/triggers"


class RefusedError(Exception):
    """What `oc` would write to its error output before it exits with 1."""


class Cluster:
    """The objects of one project, by kind and name.

    `stuck` are the Deployments whose pods never become ready, `failing_jobs` says whether Jobs fail.
    """

    def __init__(self) -> None:
        self.objects: dict[str, Object] = {}
        self.applied: dict[str, Object] = {}
        self.has_keda = True
        self.stuck: set[str] = set()
        self.job_ending: str | None = "Complete"

    def put(self, item: Object, *, is_new: bool) -> str:
        key = f"{self.kind_of(item['kind'])}/{item['metadata']['name']}"
        before = self.objects.get(key)
        if before is not None and is_new:
            raise RefusedError(f"Error from server (AlreadyExists): {key} already exists")
        if before is not None and item["kind"] == "Job" and item != self.applied.get(key):
            raise RefusedError(f'The Job "{key}" is invalid: spec.template: field is immutable')
        self.objects[key] = self._merge(key, before, item)
        self.applied[key] = copy.deepcopy(item)
        self.settle()
        verb = "created" if before is None else "unchanged"
        return f"{key} {verb if before in (None, self.objects[key]) else 'configured'}"

    def _merge(self, key: str, before: Object | None, item: Object) -> Object:
        """As `apply`: what the manifest never had stays."""
        after = copy.deepcopy(item)
        if before is not None:
            ours = self.applied.get(key, {}).get("metadata", {}).get("annotations", {})
            kept = {
                k: v for k, v in before["metadata"].get("annotations", {}).items() if k not in ours
            }
            annotations = {**kept, **after["metadata"].get("annotations", {})}
            if annotations:
                after["metadata"]["annotations"] = annotations
            if "status" in before:
                after["status"] = before["status"]
        return after

    def build(self, name: str) -> None:
        """Put a new image under the tag `latest`."""
        key = f"imagestreamtag/{name}:latest"
        number = self.objects.get(key, {}).get("number", 0) + 1
        image = {"dockerImageReference": f"registry/{name}@sha256:{number}"}
        metadata = {"name": f"{name}:latest"}
        self.objects[key] = {
            "kind": "ImageStreamTag",
            "metadata": metadata,
            "number": number,
            "image": image,
        }
        self.settle()

    def settle(self) -> None:
        """What the cluster's own controllers do after a change."""
        for item in [*self.objects.values()]:
            if item["kind"] == "Deployment":
                self._follow_image(item)
                self._roll_out(item)
            if item["kind"] == "Job" and self.job_ending and not item.get("status"):
                item["status"] = {"conditions": [{"type": self.job_ending, "status": "True"}]}

    def _follow_image(self, item: Object) -> None:
        for trigger in json.loads(item["metadata"].get("annotations", {}).get(TRIGGERS, "[]")):
            tag = self.objects.get(f"imagestreamtag/{trigger['from']['name']}")
            if tag is not None and not trigger["paused"]:
                (container,) = item["spec"]["template"]["spec"]["containers"]
                container["image"] = tag["image"]["dockerImageReference"]

    def _roll_out(self, item: Object) -> None:
        name = item["metadata"]["name"]
        annotations = item["metadata"].setdefault("annotations", {})
        sets = {
            key: one for key, one in self.objects.items() if key.startswith(f"replicaset/{name}-")
        }
        newest = max(
            [int(one["metadata"]["annotations"][REVISION]) for one in sets.values()], default=0
        )
        same = [one for one in sets.values() if one["spec"]["template"] == item["spec"]["template"]]
        if same:
            if same[0]["metadata"]["annotations"][REVISION] != str(newest):
                same[0]["metadata"]["annotations"][REVISION] = str(newest + 1)
        else:
            metadata = {
                "name": f"{name}-{newest + 1}",
                "labels": item["spec"]["template"]["metadata"]["labels"],
                "annotations": {REVISION: str(newest + 1)},
            }
            template = copy.deepcopy(item["spec"]["template"])
            one = {"kind": "ReplicaSet", "metadata": metadata, "spec": {"template": template}}
            self.objects[f"replicaset/{name}-{newest + 1}"] = one
            same = [one]
        annotations[REVISION] = same[0]["metadata"]["annotations"][REVISION]
        replicas = item["spec"].get("replicas", 1)
        item["status"] = {"readyReplicas": replicas} if replicas and name not in self.stuck else {}

    def pods(self) -> Iterator[Object]:
        for item in self.objects.values():
            if item["kind"] not in ("Deployment", "Job"):
                continue
            name = item["metadata"]["name"]
            for number in range(item["spec"].get("replicas", 1)):
                container: Object = {
                    "name": "app",
                    "ready": True,
                    "restartCount": 0,
                    "state": {"running": {}},
                }
                if name in self.stuck:
                    waiting = {"waiting": {"reason": "CrashLoopBackOff"}}
                    container |= {"ready": False, "restartCount": 3, "state": waiting}
                if item["kind"] == "Job":
                    ended = {
                        "terminated": {
                            "reason": "Error" if self.job_ending == "Failed" else "Completed"
                        }
                    }
                    container |= {"ready": False, "state": ended}
                metadata = {
                    "name": f"{name}-pod{number}",
                    "labels": item["spec"]["template"]["metadata"]["labels"],
                }
                status = {"phase": "Running", "containerStatuses": [container]}
                yield {"kind": "Pod", "metadata": metadata, "status": status}

    def events(self) -> Iterator[Object]:
        for name in sorted(self.stuck):
            what = {"kind": "Pod", "name": f"{name}-pod0"}
            yield {
                "kind": "Event",
                "metadata": {"name": f"{name}.1"},
                "type": "Warning",
                "involvedObject": what,
                "reason": "BackOff",
                "message": "Back-off restarting failed container",
                "lastTimestamp": "2026-01-01T00:00:00Z",
            }

    def kind_of(self, word: str) -> str:
        kind = word.lower().partition(".")[0]
        if kind not in (names := KINDS | (KINDS_OF_KEDA if self.has_keda else set())):
            kind = SHORT.get(
                kind.rstrip("s"), kind if kind in names else re.sub("(ie)?s$", "", kind)
            )
            kind = next((one for one in names if one in (kind, f"{kind}y")), kind)
        if kind not in names:
            raise RefusedError(f'error: the server doesn\'t have a resource type "{word}"')
        return kind

    def find(self, kinds: str, name: str | None, selector: str | None) -> dict[str, Object]:
        wanted = {self.kind_of(word) for word in kinds.split(",")}
        is_selected = _selection(selector or "")
        made = {f"pod/{one['metadata']['name']}": one for one in self.pods()}
        told = {f"event/{one['metadata']['name']}": one for one in self.events()}
        return {
            key: item
            for key, item in {**self.objects, **made, **told}.items()
            if key.partition("/")[0] in wanted
            and name in (None, key.partition("/")[2])
            and is_selected(item["metadata"].get("labels", {}))
        }

    def the(self, target: str) -> Object:
        kind, _, name = target.partition("/")
        found = self.find(kind, name, None)
        if not found:
            raise RefusedError(f'Error from server (NotFound): {kind} "{name}" not found')
        (item,) = found.values()
        return item

    def delete(self, key: str) -> None:
        item = self.objects.pop(key, None)
        self.applied.pop(key, None)
        if item is not None and item["kind"] == "Deployment":
            prefix = f"replicaset/{item['metadata']['name']}-"
            for owned in [one for one in self.objects if one.startswith(prefix)]:
                del self.objects[owned]


def _selection(selector: str) -> Callable[[dict[str, str]], bool]:
    """A label selector: `a=b` and `a in (b,c)`, with commas between."""
    conditions = []
    for piece in re.findall(r"[^,(]+(?:\([^)]*\))?", selector):
        match = re.fullmatch(r"(\S+) in \(([^)]*)\)", piece)
        if match:
            conditions.append((match[1], set(match[2].split(","))))
        else:
            name, _, value = piece.partition("=")
            conditions.append((name, {value}))
    return lambda labels: all(labels.get(name) in values for name, values in conditions)
