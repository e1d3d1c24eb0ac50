"""What a release consists of agrees: version, changelog, labels, and what the docs tell to do."""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from app_srvc import __version__
from tests.support.service import ROOT

DOCS = sorted((ROOT / "docs").glob("*.md"))
HEADING = re.compile(r"^## \[(.+?)\](?: - (\d{4}-\d{2}-\d{2}))?$", re.MULTILINE)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def test_the_version_stands_in_one_place() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", __version__)
    project = tomllib.loads(read("pyproject.toml"))
    assert "version" not in project["project"] and "version" in project["project"]["dynamic"]
    attribute = project["tool"]["setuptools"]["dynamic"]["version"]["attr"]
    assert attribute == "app_srvc.__version__"
    others = [
        path
        for path in (ROOT / "app_srvc").rglob("*.py")
        if path.name != "__init__.py"
        and re.search(r"\b(__)?version(__)? = [\"']\d", path.read_text())
    ]
    assert others == []
    shown = subprocess.run(
        [sys.executable, "-m", "app_srvc.cli", "--version"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert __version__ in shown.stdout


def test_the_changelog_has_what_is_unreleased_first_and_then_this_version() -> None:
    """A version that was released has a heading with its date; this one may still be to come."""
    (first, date), *released = HEADING.findall(read("CHANGELOG.md"))
    assert (first, date) == ("Unreleased", "")
    assert all(when for _, when in released)
    numbers = [[int(part) for part in name.split(".")] for name, _ in released]
    assert numbers == sorted(numbers, reverse=True)
    assert all(number <= [int(part) for part in __version__.split(".")] for number in numbers)


def test_the_image_is_labelled_with_what_the_docs_give_to_its_build() -> None:
    dockerfile = read("Dockerfile")
    for argument, label in (("VERSION", "version"), ("REVISION", "revision")):
        assert re.search(rf"^ARG {argument}=unknown$", dockerfile, re.MULTILINE)
        assert f'org.opencontainers.image.{label}="${{{argument}}}"' in dockerfile
        assert f"--build-arg {argument}=" in read("docs/releasing.md")
        assert f"org.opencontainers.image.{label}" in read("docs/releasing.md")


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.stem)
def test_every_page_is_named_in_the_readme(page: Path) -> None:
    assert f"(docs/{page.name})" in read("README.md")


@pytest.mark.parametrize(
    "page", [*DOCS, ROOT / "README.md", ROOT / "CHANGELOG.md"], ids=lambda path: path.name
)
def test_links_between_pages_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_targets_that_the_docs_name_are_in_the_makefile() -> None:
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.MULTILINE))
    for page in DOCS:
        named = set(re.findall(r"`make ([a-z-]+)[^`]*`", page.read_text(encoding="utf-8")))
        assert named <= targets, page.name


@pytest.mark.parametrize("page", DOCS, ids=lambda path: path.stem)
def test_no_page_is_a_form_that_nobody_has_filled_in(page: Path) -> None:
    assert re.findall(r"@[A-Z_]+@", page.read_text()) == []
