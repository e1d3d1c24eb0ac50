"""The bill of materials names everything that is installed or vendored, with version, hash and licence."""

import json
import re
import subprocess
import sysconfig
from pathlib import Path
from typing import Any

import pytest

from app_srvc import __version__
from tests.support.rq_tools import make_environment
from tests.support.service import ROOT, clean_environment

PYTHON = ROOT / ".venv-release" / "bin" / "python"
COMMIT = "0123456789abcdef0123456789abcdef01234567"

# Licences that ask for no more than to be named. Whatever else comes in needs a line in the docs.
PERMISSIVE = {
    "Apache-2.0",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "ISC",
    "MIT",
    "MIT-0",
    "PSF-2.0",
    "Unlicense",
    "ZPL-2.1",
}


def write_sbom(*, root: Path = ROOT, **variables: str) -> subprocess.CompletedProcess[str]:
    make_environment(".venv-release")
    return subprocess.run(
        [
            str(PYTHON),
            str(root / "release" / "sbom.py"),
            "--site-packages",
            sysconfig.get_path("purelib"),
            "--revision",
            COMMIT,
        ],
        env={**clean_environment(**variables), "PYTHONPATH": ""},
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.fixture(scope="module")
def sbom() -> dict[str, Any]:
    done = write_sbom(SOURCE_DATE_EPOCH="1780000000")
    assert done.returncode == 0, done.stderr
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer


def pins() -> dict[str, tuple[str, set[str]]]:
    """What requirements.txt pins: version and hashes, by name; read in another way than the script's."""
    found: dict[str, tuple[str, set[str]]] = {}
    name = ""
    for line in (ROOT / "requirements.txt").read_text().splitlines():
        if "==" in line and not line.startswith(" "):
            name, _, rest = line.partition("==")
            found[name] = (rest.split()[0], set())
        elif "--hash=sha256:" in line:
            found[name][1].add(line.split("sha256:")[1].split()[0])
    return found


def test_every_pinned_package_is_named_with_its_version_and_every_hash(
    sbom: dict[str, Any],
) -> None:
    libraries = {
        one["name"]: one for one in sbom["components"] if one["purl"].startswith("pkg:pypi")
    }
    named = {
        name: (
            one["version"],
            {item["content"] for item in one["externalReferences"][0]["hashes"]},
        )
        for name, one in libraries.items()
    }
    assert named == pins()
    assert len(named) > 40
    assert all(
        one["purl"] == f"pkg:pypi/{name}@{one['version']}" for name, one in libraries.items()
    )
    (windows_only,) = libraries["cffi"]["properties"]
    assert "sys_platform == 'win32'" in windows_only["value"]


def test_everything_that_is_vendored_is_named(sbom: dict[str, Any]) -> None:
    folders = {path.name for path in (ROOT / "app_srvc/static/vendor").iterdir() if path.is_dir()}
    others = [one for one in sbom["components"] if not one["purl"].startswith("pkg:pypi")]
    assert {f"{one['name'].rpartition('/')[2]}-{one['version']}" for one in others} == folders
    assert all(one["hashes"] for one in others)


def test_licences_are_permissive_or_explained(sbom: dict[str, Any]) -> None:
    explained = (ROOT / "docs" / "dependencies.md").read_text()
    for one in sbom["components"]:
        (licence,) = one["licenses"]
        words = licence.get("expression") or licence["license"]["id"]
        others = set(re.split(r" AND | OR ", words.strip("()"))) - PERMISSIVE
        for other in others:
            row = re.compile(
                rf"^\| .*\b{re.escape(one['name'])}\b.* \| {re.escape(other)} \|", re.M
            )
            assert row.search(explained), f"{one['name']} is under {words}"


def test_it_is_of_this_version_and_commit_and_the_same_each_time(sbom: dict[str, Any]) -> None:
    assert (sbom["bomFormat"], sbom["specVersion"]) == ("CycloneDX", "1.6")
    product = sbom["metadata"]["component"]
    assert (product["name"], product["version"]) == ("app-srvc", __version__)
    assert COMMIT in {one["value"] for one in product["properties"]}
    names = {one["bom-ref"] for one in sbom["components"]}
    (depends_on,) = [
        set(one["dependsOn"]) for one in sbom["dependencies"] if one["ref"] == product["bom-ref"]
    ]
    assert depends_on == names
    again = write_sbom(SOURCE_DATE_EPOCH="1780000000")
    assert json.loads(again.stdout) == sbom


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("mystery==1.0 --hash=sha256:" + "0" * 64, "mystery 1.0"),
        ("flask==9.9.9 --hash=sha256:" + "0" * 64, "flask 9.9.9"),
        ("unpinned>=1.0", "no pin"),
        ("without-hash==1.0", "no pin"),
    ],
)
def test_what_it_cannot_answer_for_is_an_error(tmp_path: Path, line: str, words: str) -> None:
    for name in ("release/sbom.py", "release/licences.toml", "app_srvc/__init__.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes((ROOT / name).read_bytes())
    (tmp_path / "requirements.txt").write_text(f"{line}\n")
    done = write_sbom(root=tmp_path)
    assert done.returncode == 1 and words in done.stderr and not done.stdout
    assert "Traceback" not in done.stderr
