"""The parts of an installation, in the order in which they come up. A new part is one line here.

What a part consists of, and what it can be given, is read from its template.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Sequence

from errors import UsageError

TEMPLATES = Path(__file__).resolve().parents[2] / "templates"
DEFAULT_APP_NAME = "app-srvc"

# All parts of a stage are applied, and then waited for, before the next stage begins.
GROUND, MIGRATION, APPLICATION, AFTERWARDS = range(4)

# What holds data, or takes long to make again. It goes only when that is asked for.
KEPT = frozenset({"Secret", "PersistentVolumeClaim", "ImageStream", "BuildConfig"})


@dataclass(frozen=True)
class Part:
    """One template with the values that make it this part.

    A part `on_request` is taken only when it is named, since not every cluster can have it, or not
    everybody wants it. Its objects are known by name: their labels say which part they serve.
    """

    name: str
    stage: int
    file: str = ""
    on_request: bool = False

    @property
    def template(self) -> Path:
        return TEMPLATES / (self.file or f"{self.name}.yaml")

    @property
    def parameters(self) -> frozenset[str]:
        return frozenset(re.findall(r"^  - name: (\w+)\s*$", _text(self.template), re.MULTILINE))

    @property
    def kinds(self) -> frozenset[str]:
        return frozenset(re.findall(r"^    kind: (\w+)\s*$", _text(self.template), re.MULTILINE))

    @property
    def workload(self) -> str:
        """What the part runs as: `Deployment`, `Job`, or nothing."""
        return next((kind for kind in ("Deployment", "Job") if kind in self.kinds), "")

    @property
    def runs_image(self) -> bool:
        """Whether the part runs the image that is built here."""
        return "IMAGE" in self.parameters

    def labels(self, app_name: str) -> str:
        return labels(app_name, self.name)


PARTS = (
    Part("secrets", GROUND),
    Part("redis", GROUND),
    Part("postgresql", GROUND),
    Part("migrate", MIGRATION),
    Part("web", APPLICATION),
    Part("usrregworker", APPLICATION, "worker.yaml"),
    Part("dbworker", APPLICATION, "worker.yaml"),
    Part("todoworker", APPLICATION, "worker.yaml"),
    Part("taskworker", APPLICATION, "worker.yaml"),
    Part("autoscaling-hpa", AFTERWARDS, on_request=True),
    Part("autoscaling-keda", AFTERWARDS, on_request=True),
)


def choose_parts(names: Sequence[str], among: Sequence[Part] = PARTS) -> list[Part]:
    """Return the parts that are named, in the order in which they come up; no name means all.

    Raises:
        UsageError: There is no such part, or it is not one that this command can handle.
    """
    known = {part.name for part in among}
    for name in names:
        if name not in known:
            raise UsageError(
                f"There is no part '{name}' here. The parts are: "
                f"{' '.join(part.name for part in among)}."
            )
    if names:
        return [part for part in among if part.name in names]
    return [part for part in among if not part.on_request]


def labels(app_name: str, component: str) -> str:
    return f"app.kubernetes.io/instance={app_name},app.kubernetes.io/component={component}"


def component_of(item: dict[str, Any]) -> str:
    return str(item["metadata"].get("labels", {}).get("app.kubernetes.io/component", ""))


@lru_cache(maxsize=None)
def _text(file: Path) -> str:
    return file.read_text(encoding="utf-8")
