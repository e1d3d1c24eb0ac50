"""A stand-in for `kubectl`: says no to what a cluster would refuse, as far as that shows without one.

Run as `python stand_in_kubectl.py FOLDER ARGUMENT…`. What was created or applied is kept in FOLDER, an
object a file, so that a command about something that is not there fails as it would.
"""

import argparse
import json
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from tests.support.kustomize import build  # noqa: E402
from tests.support.oc_process import Object  # noqa: E402
from tests.support.validity import assert_valid  # noqa: E402


class Cluster:
    """Objects by kind and name."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def file(self, kind: str, name: str) -> Path:
        return self._folder / f"{kind.lower()}.{name}.json"

    def find(self, kind: str, name: str) -> Object:
        found: Object = json.loads(self.file(kind, name).read_text())
        return found

    def find_all(self, kind: str) -> list[Object]:
        return [json.loads(file.read_text()) for file in self._folder.glob(f"{kind.lower()}.*")]

    def put(self, item: Object, namespace: str | None, *, is_new: bool = False) -> None:
        of = item["metadata"].get("namespace", namespace)
        if item["kind"] != "Namespace":
            assert self.file("Namespace", of or "").exists(), f"no namespace {of}"
        file = self.file(item["kind"], item["metadata"]["name"])
        assert not (is_new and file.exists()), f"{file.stem} is there already"
        if item["kind"] == "Job" and file.exists():
            was = json.loads(file.read_text())["spec"]["template"]
            assert was == item["spec"]["template"], "a Job cannot be changed"
        file.write_text(json.dumps(item))


def main(folder: Path, words: list[str]) -> None:
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("-n", "--namespace")
    parser.add_argument("-f", "--filename")
    parser.add_argument("-k", "--kustomize")
    parser.add_argument("-l", "--selector", default="")
    parser.add_argument("-o", "--output")
    parser.add_argument("--for", dest="condition")
    parser.add_argument("--timeout")
    parser.add_argument("--from-file")
    parser.add_argument("--ignore-not-found", action="store_true")
    parser.add_argument("words", nargs="+")
    given = parser.parse_intermixed_args(words)
    cluster = Cluster(folder)
    wanted = dict(pair.split("=") for pair in given.selector.split(",") if pair)
    match given.words:
        case ["apply"]:
            for item in _objects(given):
                if wanted.items() <= item["metadata"]["labels"].items():
                    cluster.put(item, given.namespace)
        case ["create"]:
            for item in _objects(given):
                cluster.put(item, given.namespace, is_new=True)
        case ["create", "configmap", name]:
            assert Path(given.from_file).exists()
            cluster.put(
                {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}},
                given.namespace,
            )
        case ["delete", kind, name]:
            cluster.file(kind, name).unlink(missing_ok=given.ignore_not_found)
        case ["wait", what]:
            assert given.condition == "condition=complete" and what.startswith("job/")
            cluster.find(*what.split("/"))
        case ["rollout", "status", kind]:
            labels = [item["metadata"]["labels"] for item in cluster.find_all(kind)]
            assert any(wanted.items() <= of_one.items() for of_one in labels)
        case ["port-forward", what, port]:
            ports = cluster.find(*what.split("/"))["spec"]["ports"]
            assert int(port) in {one["port"] for one in ports}
        case ["get", kind, name]:
            path = given.output.removeprefix("jsonpath='").removeprefix("jsonpath=")
            key = path.strip("{}").removeprefix(".data.")
            print(cluster.find(kind, name)["stringData"][key])
        case _:
            raise AssertionError(f"the stand-in does not know {given.words}")


def _objects(given: argparse.Namespace) -> list[Object]:
    if given.kustomize:
        return build(Path(given.kustomize).name)
    text = sys.stdin.read() if given.filename == "-" else Path(given.filename).read_text()
    objects = list(yaml.safe_load_all(text))
    # Those of the overlays are looked at by tests of their own.
    for item in objects:
        assert_valid(item)
    return objects


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2:])
