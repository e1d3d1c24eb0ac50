"""A stand-in for `oc`: processes templates truly, and acts on the stand-in for a cluster.

It refuses what `oc` refuses (an object that is there already, a parameter that the template does not
have or that was given twice, a flag or a kind that it does not know), so a script that passes here
makes calls that mean something.
"""

import base64
import copy
import json
import re
from pathlib import Path

import yaml

from tests.support.oc_process import Object, TemplateError, process
from tests.support.stand_in_cluster import REVISION, Cluster, RefusedError


def run(words: list[str], stdin: str, cluster: Cluster, folder: Path) -> str:
    """Do what a call asks in a folder, and return what it writes.

    Raises:
        RefusedError: `oc`, or the cluster, would not do it.
    """
    has_command = "--" in words
    command = words[words.index("--") + 1 :] if has_command else []
    options, rest = _split(words[: len(words) - len(command) - has_command])
    match rest:
        case ["project"] if "-q" in options:
            return "the-current-project"
        case ["new-project", name]:
            return f'Now using project "{name}"'
        case ["process"]:
            return _process(options, stdin, folder)
        case ["apply" | "create" as verb]:
            items = _read_items(folder / options["-f"][0], stdin)
            return "\n".join(cluster.put(item, is_new=verb == "create") for item in items)
        case ["create", "secret", "generic", name]:
            item = {
                "kind": "Secret",
                "metadata": {"name": name},
                "stringData": _data(options, folder),
            }
            return cluster.put(item, is_new=True)
        case ["create", "configmap", name]:
            item = {"kind": "ConfigMap", "metadata": {"name": name}, "data": _data(options, folder)}
            return cluster.put(item, is_new=True)
        case ["set", "data", target]:
            cluster.the(target)["stringData"] |= _data(options, folder)
            return f"{target} data updated"
        case ["exec", target] if has_command:
            cluster.the(target)
            return f"ran {' '.join(command)}"
        case ["get", *what]:
            return _get(cluster, options, what)
        case ["delete", *what]:
            return _delete(cluster, options, what, folder)
        case ["start-build", name]:
            cluster.the(f"buildconfig/{name}")
            cluster.build(name)
            return f"build {name} complete"
        case ["rollout", *what]:
            return _rollout(cluster, options, what)
        case ["scale", target]:
            cluster.the(target)["spec"]["replicas"] = int(options["--replicas"][0])
            cluster.settle()
            return f"{target} scaled"
        case ["annotate", target, *assignments]:
            return _annotate(cluster, options, target, assignments)
        case ["logs", *what]:
            return _logs(cluster, options, what)
    raise RefusedError(f"error: unknown command {' '.join(words)!r}")


def _process(options: dict[str, list[str]], stdin: str, folder: Path) -> str:
    pairs = [value.split("=", 1) for flag in ("-p", "--param") for value in options.get(flag, [])]
    given = dict(pairs)
    if len(given) < len(pairs):
        raise RefusedError("error: The following parameters were provided more than once")
    if options.get("--param-file") == ["-"]:
        given = {**dict(line.split("=", 1) for line in stdin.splitlines()), **given}
    file = folder / options["-f"][0]
    if "--parameters" in options:
        return "\n".join(one["name"] for one in yaml.safe_load(file.read_text())["parameters"])
    try:
        items = process(file, given)
    except TemplateError as error:
        raise RefusedError(f"error: {error}") from error
    made = {"apiVersion": "v1", "kind": "List", "items": items}
    return yaml.safe_dump(made) if options.get("-o") == ["yaml"] else json.dumps(made)


def _data(options: dict[str, list[str]], folder: Path) -> dict[str, str]:
    literal = dict(value.split("=", 1) for value in options.get("--from-literal", []))
    for value in options.get("--from-file", []):
        name, _, file = value.partition("=")
        literal[name] = (folder / (file or name)).read_text()
    return literal


def _read_items(file: Path, stdin: str) -> list[Object]:
    text = stdin if file.name == "-" else file.read_text()
    load = json.loads if text.lstrip().startswith("{") else yaml.safe_load
    items = load(text)["items"] if text.strip() else []
    if not items:
        raise RefusedError("error: no objects passed")
    return list(items)


def _found(cluster: Cluster, options: dict[str, list[str]], what: list[str]) -> dict[str, Object]:
    """The objects that `get` or `delete` means: `kinds`, `kind name` or `kind/name kind/name`."""
    selector = options.get("-l", [None])[0]  # type: ignore[list-item]
    if "/" in what[0]:
        wanted = [tuple(one.split("/", 1)) for one in what]
    else:
        wanted = [(what[0], name) for name in what[1:]]
    if not wanted:
        return cluster.find(what[0], None, selector)
    found: dict[str, Object] = {}
    for kind, name in wanted:
        one = cluster.find(kind, name, None)
        if not one and "--ignore-not-found" not in options:
            raise RefusedError(f"Error from server (NotFound): {kind} {name!r} not found")
        found |= one
    return found


def _get(cluster: Cluster, options: dict[str, list[str]], what: list[str]) -> str:
    found = _found(cluster, options, what)
    is_one = len(what) == 2 and "/" not in what[0]
    output = options.get("-o", [""])[0]
    if output == "json":
        if is_one:
            return "".join(json.dumps(item) for item in found.values())
        return json.dumps({"kind": "List", "items": list(found.values())})
    if output == "name":
        return "\n".join(_with_group(key, item) for key, item in found.items())
    if match := re.fullmatch(r"jsonpath=\{\.(\w+)\.([\w-]+)\}", output):
        return "".join(_field(item, match[1], match[2]) for item in found.values())
    if output:
        raise RefusedError(
            f"error: unable to match a printer suitable for the output format {output!r}"
        )
    return "\n".join(found)


def _field(item: Object, area: str, name: str) -> str:
    if area == "data" and "stringData" in item:
        # The cluster keeps it so.
        return base64.b64encode(item["stringData"][name].encode()).decode()
    return str(item[area][name])


def _with_group(key: str, item: Object) -> str:
    kind, _, name = key.partition("/")
    group, slash, _ = item.get("apiVersion", "v1").partition("/")
    return f"{kind}.{group}/{name}" if slash else key


def _delete(cluster: Cluster, options: dict[str, list[str]], what: list[str], folder: Path) -> str:
    if "-f" in options:
        items = _read_items(folder / options["-f"][0], "")
        keys = [f"{cluster.kind_of(item['kind'])}/{item['metadata']['name']}" for item in items]
        if any(key not in cluster.objects for key in keys) and "--ignore-not-found" not in options:
            raise RefusedError("Error from server (NotFound)")
    else:
        keys = list(_found(cluster, options, what))
    for key in keys:
        cluster.delete(key)
    return "\n".join(f"{key} deleted" for key in keys)


def _rollout(cluster: Cluster, options: dict[str, list[str]], what: list[str]) -> str:
    verb, target = what
    item = cluster.the(target)
    if verb == "status":
        if item["metadata"]["name"] in cluster.stuck:
            raise RefusedError("error: timed out waiting for the condition")
        return f"{target} successfully rolled out"
    if verb == "undo":
        name, wanted = item["metadata"]["name"], options["--to-revision"][0]
        for key, one in cluster.objects.items():
            if (
                key.startswith(f"replicaset/{name}-")
                and one["metadata"]["annotations"][REVISION] == wanted
            ):
                item["spec"]["template"] = copy.deepcopy(one["spec"]["template"])
                cluster.settle()
                return f"{target} rolled back"
        raise RefusedError(f"error: unable to find specified revision {wanted} in history")
    raise RefusedError(f"error: unknown command rollout {verb}")


def _annotate(
    cluster: Cluster, options: dict[str, list[str]], target: str, assignments: list[str]
) -> str:
    annotations = cluster.the(target)["metadata"].setdefault("annotations", {})
    for assignment in assignments:
        name, has_value, value = assignment.partition("=")
        if not has_value and name.endswith("-"):
            annotations.pop(name[:-1], None)
        elif not has_value:
            raise RefusedError(f"error: expected an annotation in the form key=value, got {name}")
        elif name in annotations and "--overwrite" not in options:
            raise RefusedError(
                f"error: --overwrite is false but found the declared annotation {name}"
            )
        else:
            annotations[name] = value
    cluster.settle()
    return f"{target} annotated"


def _logs(cluster: Cluster, options: dict[str, list[str]], what: list[str]) -> str:
    if not what:
        return "\n".join(f"[{key}] a line" for key in cluster.find("pod", None, options["-l"][0]))
    (target,) = what
    (container,) = cluster.the(target)["status"]["containerStatuses"]
    if "--previous" in options and not container["restartCount"]:
        raise RefusedError(
            'Error from server (BadRequest): previous terminated container "app" not found'
        )
    if container["state"].get("waiting", {}).get("reason") == "ContainerCreating":
        raise RefusedError('Error from server (BadRequest): container "app" is waiting to start')
    return f"the last line of {target}" + (" before" if "--previous" in options else "")


WITH_VALUE = {
    *("-f", "-p", "-l", "-o", "-n", "--namespace", "--timeout", "--from-literal", "--param-file"),
    *("--to-revision", "--replicas", "--tail", "--since", "--max-log-requests", "--field-selector"),
    *("--type", "--param", "--from-file"),
}
WITHOUT_VALUE = {
    *(
        "-q",
        "--local",
        "--ignore-not-found",
        "--wait",
        "--follow",
        "--all-containers",
        "--overwrite",
    ),
    *("--previous", "--prefix", "--ignore-errors", "--parameters"),
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
        elif word in WITHOUT_VALUE:
            options.setdefault(name, [])
        elif word.startswith("-") and word != "-":
            raise RefusedError(f"error: unknown flag: {word}")
        else:
            rest.append(word)
    return options, rest


def changes(words: list[str]) -> bool:
    """Whether a call changes the cluster if it succeeds."""
    _, rest = _split(words)
    return rest[0] in (
        "apply",
        "create",
        "delete",
        "start-build",
        "scale",
        "annotate",
        "new-project",
    ) or (rest[0] == "rollout" and rest[1] != "status")
