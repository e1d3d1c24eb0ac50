"""Pages keep to the content security policy, and ask no other host for anything."""

import re
from pathlib import Path

import pytest

from app_srvc.presentation import STATIC

TEMPLATES = STATIC.parent / "templates"
OWN_FILES = sorted(
    [*TEMPLATES.rglob("*.html"), *(path for path in STATIC.glob("*") if path.is_file())]
)
FORBIDDEN = {
    "a style in the page": re.compile(r"<style|\sstyle\s*=", re.IGNORECASE),
    "a script in the page": re.compile(r"<script(?![^>]*\bsrc=)", re.IGNORECASE),
    "a handler in an attribute": re.compile(r"\son[a-z]+\s*=\s*[\"']", re.IGNORECASE),
    "a javascript: address": re.compile(r"javascript:", re.IGNORECASE),
    "text that is not escaped": re.compile(r"\|\s*safe\b|autoescape\s+false"),
    "another host": re.compile(r"(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}", re.IGNORECASE),
    "code made from text": re.compile(r"\beval\(|innerHTML|document\.write"),
}
NAMESPACE = 'xmlns="http://www.w3.org/2000/svg"'


def test_there_are_files_to_look_at() -> None:
    assert {"layout.html", "live.js", "app.css"} <= {path.name for path in OWN_FILES}


@pytest.mark.parametrize("path", OWN_FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_file_has_what_the_policy_forbids(path: Path, what: str) -> None:
    text = path.read_text().replace(NAMESPACE, "")
    found = FORBIDDEN[what].search(text)
    assert found is None, f"{path.name}: {what}: {found}"


def test_every_vendored_folder_has_its_version_and_licence() -> None:
    folders = [path for path in (STATIC / "vendor").iterdir() if path.is_dir()]
    assert folders
    for folder in folders:
        name, _, version = folder.name.rpartition("-")
        assert name
        assert re.fullmatch(r"\d+(\.\d+)+", version), folder.name
        assert (folder / "LICENSE.md").stat().st_size > 500
        assert any(version in path.read_text() for path in folder.glob("*.css"))
        assert folder.name in (STATIC / "vendor" / "README.md").read_text()
