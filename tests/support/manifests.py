"""The manifests as tests see them: rendered, with each container's environment worked out."""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tests.support.oc_process import LOADER, Object, process

ROOT = Path(__file__).parents[2]
TEMPLATES = ROOT / "openshift" / "templates"
COMPOSE = ROOT / "compose.yaml"
WORKERS = ("usrregworker", "dbworker", "todoworker", "taskworker")
APPLICATION = ("web", *WORKERS)
PARTS = ("secrets", "redis", "postgresql", *APPLICATION)
# Templates for what is there beside the parts, or for a moment only.
BESIDES = ("migrate", "autoscaling-hpa", "autoscaling-keda")
PROJECT = "a-project"
COMPONENT = "app.kubernetes.io/component"
REPOSITORY = "https://git.example.org/team/app-srvc.git"


def template_of(part: str) -> Path:
    return TEMPLATES / ("worker.yaml" if part in WORKERS else f"{part}.yaml")


def required_of(part: str) -> dict[str, str]:
    """What must be given for a part, and no more."""
    given = {"NAMESPACE": PROJECT}
    if part == "web":
        given["GIT_URL"] = REPOSITORY
    if part in WORKERS:
        given |= {"APP_SERVICE_NAME": part, "WORKER_RUNNER": f"{part}.py"}
    return given


def render(part: str, **given: str) -> list[Object]:
    return process(template_of(part), {**required_of(part), **given})


def the(kind: str, objects: list[Object]) -> Object:
    (found,) = [item for item in objects if item["kind"] == kind]
    return found


def render_all(*besides: str) -> list[Object]:
    """All objects of an installation by the templates, each once, and those of some other templates."""
    return [item for part in (*PARTS, *besides) for item in render(part)]


def pod_of(part: str, **given: str) -> Object:
    kind = "Job" if part == "migrate" else "Deployment"
    pod: Object = the(kind, render(part, **given))["spec"]["template"]
    return pod


def pods_in(objects: list[Object]) -> dict[str, Object]:
    """The pods that some objects start, by their part."""
    pods = [item["spec"]["template"] for item in objects if item["kind"] in ("Deployment", "Job")]
    return {pod["metadata"]["labels"][COMPONENT]: pod for pod in pods}


def container_of(part: str, **given: str) -> Object:
    (container,) = pod_of(part, **given)["spec"]["containers"]
    assert isinstance(container, dict)
    return container


def secret_values(**given: str) -> dict[str, str]:
    """The values of the Secret that all parts read."""
    secret = the("Secret", render("secrets", **given))
    data = {k: base64.b64decode(v).decode() for k, v in secret.get("data", {}).items()}
    return {**data, **secret.get("stringData", {})}


def environment_in_cluster(part: str, secrets: Mapping[str, str], **given: str) -> dict[str, str]:
    """The variables that a part's container has, references followed."""
    return environment_of(container_of(part, **given), secrets)


def environment_of(container: Object, secrets: Mapping[str, str]) -> dict[str, str]:
    variables = {}
    for entry in container["env"]:
        if "value" in entry:
            variables[entry["name"]] = entry["value"]
            continue
        reference = entry["valueFrom"]["secretKeyRef"]
        if reference["key"] in secrets or not reference.get("optional", False):
            variables[entry["name"]] = secrets[reference["key"]]
    return variables


def read_compose() -> dict[str, Any]:
    compose = yaml.load(COMPOSE.read_text(), LOADER)
    assert isinstance(compose, dict)
    return compose


VARIABLE = re.compile(r"(?<!\$)\$\{(\w+)(?::([-?])([^}]*))?\}")


def interpolate(text: str, variables: Mapping[str, str]) -> str:
    """What Compose makes of a value: `${NAME:-default}`, `${NAME:?message}`, and `$$` for `$`."""

    def value(match: re.Match[str]) -> str:
        name, operator, rest = match.groups()
        if variables.get(name):
            return variables[name]
        assert operator != "?", f"{name}: {rest}"
        return rest or ""

    return VARIABLE.sub(value, text).replace("$$", "$")


def environment_in_compose(service: str, variables: Mapping[str, str]) -> dict[str, str]:
    entries = read_compose()["services"][service]["environment"]
    return {name: interpolate(str(value), variables) for name, value in entries.items()}
