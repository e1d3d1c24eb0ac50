"""A stand-in for `oc`, run as a program: processes templates truly, and keeps a cluster in a file.

It refuses what `oc` refuses (an object that is there already, a parameter that the template does not
have, a command that it does not know), so a script that passes here makes calls that mean something.

Environment: `OC_FOLDER` has the cluster and the record of all calls. `OC_FAIL` is a regular
expression; a call whose arguments match it fails as if the cluster had refused it.
"""

import fcntl
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

KINDS = {
    "pvc": "persistentvolumeclaim",
    "istag": "imagestreamtag",
    "bc": "buildconfig",
}


class RefusedError(Exception):
    """What `oc` would write to its error output before it exits with 1."""


class Cluster:
    """The objects of one project, by kind and name."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self.objects: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}

    def save(self) -> None:
        self._file.write_text(json.dumps(self.objects))

    def put(self, item: dict[str, Any], *, is_new: bool) -> str:
        key = f"{item['kind'].lower()}/{item['metadata']['name']}"
        if key in self.objects and is_new:
            raise RefusedError(f"Error from server (AlreadyExists): {key} already exists")
        before = self.objects.get(key)
        self.objects[key] = item
        return f"{key} {'created' if before is None else 'unchanged' if before == item else 'configured'}"

    def build(self, name: str) -> None:
        """Put a new image under the tag `latest`."""
        metadata = {"name": f"{name}:latest"}
        before = self.objects.get(f"imagestreamtag/{name}:latest", {}).get("number", 0)
        self.put(
            {"kind": "ImageStreamTag", "metadata": metadata, "number": before + 1}, is_new=False
        )

    def follow_images(self) -> None:
        """What the cluster's image triggers do: put the stream's image into the Deployments."""
        for item in self.objects.values():
            annotation = item["metadata"].get("annotations", {}).get("image.openshift.io/triggers")
            if annotation is None:
                continue
            (trigger,) = json.loads(annotation)
            tag = self.objects.get(f"imagestreamtag/{trigger['from']['name']}")
            if tag is not None and not trigger["paused"]:
                (container,) = item["spec"]["template"]["spec"]["containers"]
                container["image"] = f"registry/{trigger['from']['name']}@{tag['number']}"

    def find(self, kinds: str, name: str | None, selector: str | None) -> list[str]:
        wanted = dict(pair.split("=") for pair in selector.split(",")) if selector else {}
        names = [KINDS.get(kind.rstrip("s"), kind.rstrip("s")) for kind in kinds.lower().split(",")]
        return [
            key
            for key, item in self.objects.items()
            if key.partition("/")[0] in names
            and (name is None or key.partition("/")[2] == name)
            and wanted.items() <= item["metadata"].get("labels", {}).items()
        ]


def run(words: list[str], stdin: str, cluster: Cluster) -> str:
    options, rest = _split(words)
    match rest:
        case ["project"] if "-q" in options:
            return "the-current-project"
        case ["process"]:
            return _process(options)
        case ["apply" | "create" as verb]:
            if not stdin.strip():
                raise RefusedError(f"error: no objects passed to {verb}")
            items = json.loads(stdin)["items"]
            lines = [cluster.put(item, is_new=verb == "create") for item in items]
            cluster.follow_images()
            return "\n".join(lines)
        case ["create", "secret", "generic", name]:
            data = dict(value.split("=", 1) for value in options["--from-literal"])
            item = {"kind": "Secret", "metadata": {"name": name}, "stringData": data}
            return cluster.put(item, is_new=True)
        case ["get", kinds, *names]:
            return _get(cluster, options, kinds, names)
        case ["delete", kinds]:
            keys = cluster.find(kinds, None, options["-l"][0])
            for key in keys:
                del cluster.objects[key]
            return "\n".join(f"{key} deleted" for key in keys)
        case ["start-build", name]:
            _must_exist(cluster, "buildconfig", name)
            cluster.build(name)
            cluster.follow_images()
            return f"build {name} complete"
        case ["rollout", "status", target]:
            _must_exist(cluster, *target.split("/"))
            return f"{target} successfully rolled out"
        case ["logs", target]:
            _must_exist(cluster, *target.split("/"))
            return f"the last line of {target}"
    raise RefusedError(f"error: unknown command {' '.join(words)!r}")


def _process(options: dict[str, list[str]]) -> str:
    # Here, since YAML takes longer to import than every other call to run.
    from tests.support.oc_process import TemplateError, process

    given = dict(value.split("=", 1) for value in options.get("-p", []))
    try:
        items = process(Path(options["-f"][0]), given)
    except TemplateError as error:
        raise RefusedError(f"error: {error}") from error
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


def _get(cluster: Cluster, options: dict[str, list[str]], kinds: str, names: list[str]) -> str:
    keys = cluster.find(kinds, names[0] if names else None, options.get("-l", [None])[0])
    if names and not keys and "--ignore-not-found" not in options:
        raise RefusedError(f"Error from server (NotFound): {kinds} {names[0]!r} not found")
    output = options.get("-o", [""])[0]
    if output.startswith("jsonpath="):
        return "".join(_jsonpath(cluster.objects[key], output) for key in keys)
    return "\n".join(keys)


def _jsonpath(item: dict[str, Any], path: str) -> str:
    """The few paths that the scripts ask for; every Deployment here is ready."""
    spec = item.get("spec", {})
    match path:
        case "jsonpath={.spec.template.spec.containers[0].image}":
            return str(spec["template"]["spec"]["containers"][0]["image"])
        case "jsonpath={.spec.host}":
            return str(spec.get("host") or "chosen.by.the.cluster")
        case "jsonpath={range .items[*]}{.status.readyReplicas}/{.spec.replicas}{end}":
            ready = item.get("status", {}).get("readyReplicas", spec["replicas"])
            return f"{ready or ''}/{spec['replicas']}"
    raise RefusedError(f"error: unknown path {path}")


def _must_exist(cluster: Cluster, kind: str, name: str) -> None:
    if not cluster.find(kind, name, None):
        raise RefusedError(f'Error from server (NotFound): {kind} "{name}" not found')


WITH_VALUE = {"-f", "-p", "-l", "-o", "-n", "--namespace", "--timeout", "--from-literal"}
WITHOUT_VALUE = {
    "-q",
    "--local",
    "--ignore-not-found",
    "--wait",
    "--follow",
    "--all-containers",
    "--tail",
}


def _split(words: list[str]) -> tuple[dict[str, list[str]], list[str]]:
    options: dict[str, list[str]] = {}
    rest = []
    remaining = iter(words)
    for word in remaining:
        name, has_value, value = word.partition("=")
        if word in WITH_VALUE:
            options.setdefault(word, []).append(next(remaining))
        elif name in WITH_VALUE and has_value:
            options.setdefault(name, []).append(value)
        elif name in WITHOUT_VALUE:
            options.setdefault(name, [])
        elif word.startswith("-") and word != "-":
            raise RefusedError(f"error: unknown flag: {word}")
        else:
            rest.append(word)
    return options, rest


def main() -> int:
    folder = Path(os.environ["OC_FOLDER"])
    words = sys.argv[1:]
    stdin = sys.stdin.read() if words[-2:] == ["-f", "-"] else ""
    with (folder / "lock").open("w") as lock:
        # A pipe runs two of these at once.
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (folder / "calls").open("a") as calls:
            calls.write(json.dumps(words) + "\n")
        failure = os.environ.get("OC_FAIL")
        if failure and re.search(failure, " ".join(words)):
            sys.stderr.write("error: the cluster refused\n")
            return 1
        cluster = Cluster(folder / "cluster.json")
        try:
            output = run(words, stdin, cluster)
        except RefusedError as error:
            sys.stderr.write(f"{error}\n")
            return 1
        cluster.save()
    if output:
        print(output)
    return 0


if __name__ == "__main__":
    sys.exit(main())
