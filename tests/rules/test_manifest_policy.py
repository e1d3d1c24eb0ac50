"""checkov finds nothing in the manifests and the Dockerfile but what is listed with a reason."""

import fnmatch
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.kustomize import OVERLAYS, TOOLS, build, install_tools
from tests.support.manifests import BESIDES, ROOT, render_all
from tests.support.oc_process import Object

EXCEPTIONS = ROOT / "tests" / "support" / "policy_exceptions.yaml"
# One run for all tests of this file.
pytestmark = pytest.mark.xdist_group("checkov")


def run_checkov(folder: Path) -> list[dict[str, Any]]:
    """The checks that something in a folder does not pass. Needs no network."""
    install_tools()
    words = [TOOLS / "checkov", "--directory", folder, "--framework", "kubernetes", "dockerfile"]
    words += ["--skip-download", "--compact", "--quiet", "--output", "json"]
    done = subprocess.run(
        words, capture_output=True, text=True, timeout=110, env={"PATH": "/usr/bin:/bin"}
    )
    assert done.returncode in (0, 1), done.stderr
    reports = json.loads(done.stdout)
    reports = reports if isinstance(reports, list) else [reports]
    for report in reports:
        assert report["summary"]["parsing_errors"] == 0
        assert report["summary"]["passed"] > 0
    assert {report["check_type"] for report in reports} == {"kubernetes", "dockerfile"}
    return [check for report in reports for check in report["results"]["failed_checks"]]


def write_all(folder: Path, way: str, objects: list[Object]) -> None:
    (folder / way).mkdir()
    for item in objects:
        name = f"{item['kind']}.{item['metadata']['name']}"
        (folder / way / f"{name}.json").write_text(json.dumps(item))


@pytest.fixture(scope="module")
def findings(tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, str]]:
    """Check and place of everything that was found."""
    folder = tmp_path_factory.mktemp("manifests")
    write_all(folder, "templates", render_all(*BESIDES))
    for overlay in OVERLAYS:
        write_all(folder, overlay, build(overlay))
    (folder / "Dockerfile").write_text((ROOT / "Dockerfile").read_text())
    return {
        (check["check_id"], check["file_path"].removeprefix("/").removesuffix(".json"))
        for check in run_checkov(folder)
    }


@pytest.fixture(scope="module")
def exceptions() -> list[dict[str, str]]:
    entries = yaml.safe_load(EXCEPTIONS.read_text())
    assert all(set(entry) == {"check", "where", "reason"} for entry in entries)
    return list(entries)


def covers(entry: dict[str, str], finding: tuple[str, str]) -> bool:
    check, place = finding
    return entry["check"] == check and fnmatch.fnmatchcase(place, entry["where"])


def test_every_finding_is_mended_or_listed_with_a_reason(
    findings: set[tuple[str, str]], exceptions: list[dict[str, str]]
) -> None:
    left = {one for one in findings if not any(covers(entry, one) for entry in exceptions)}
    assert not left


def test_every_reason_is_still_needed(
    findings: set[tuple[str, str]], exceptions: list[dict[str, str]]
) -> None:
    stale = [entry for entry in exceptions if not any(covers(entry, one) for one in findings)]
    assert not stale


def test_a_container_with_rights_would_be_found(tmp_path: Path) -> None:
    deployment = next(item for item in build("small") if item["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    container["securityContext"] = {"privileged": True}
    del container["resources"]
    write_all(tmp_path, "small", [deployment])
    (tmp_path / "Dockerfile").write_text("FROM scratch:1\nUSER root\nEXPOSE 22\n")
    found = {check["check_id"] for check in run_checkov(tmp_path)}
    assert {"CKV_K8S_16", "CKV_K8S_20", "CKV_K8S_13", "CKV_K8S_28", "CKV_DOCKER_1"} <= found
