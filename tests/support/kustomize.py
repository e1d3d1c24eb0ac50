"""The kustomize overlays as tests see them: built by the real program."""

import fcntl
import subprocess
import sys
from copy import deepcopy
from functools import cache
from pathlib import Path

import yaml

from tests.support.manifests import ROOT
from tests.support.oc_process import LOADER, Object

KUBERNETES = ROOT / "kubernetes"
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
TOOLS = ROOT / ".venv-manifests" / "bin"


def install_tools() -> None:
    """Make the environment of kustomize and checkov, as `make test` does, if it is not there."""
    words = ["make", "--silent", ".venv-manifests/.stamp", f"PYTHON={sys.executable}"]
    # Several processes of one test run may ask for it.
    with (ROOT / "Makefile").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run(words, cwd=ROOT, check=True)


def build(overlay: str) -> list[Object]:
    """The objects of an overlay."""
    return deepcopy(_build(KUBERNETES / "overlays" / overlay))


@cache
def _build(folder: Path) -> list[Object]:
    install_tools()
    made = subprocess.run([TOOLS / "kustomize", "build", folder], capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    assert not made.stderr, made.stderr
    return list(yaml.load_all(made.stdout, LOADER))
