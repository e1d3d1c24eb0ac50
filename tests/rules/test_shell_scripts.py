"""Every shell script is well-formed and free of what shellcheck knows as a mistake."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SHELLCHECK = ROOT / ".venv-manifests/bin/shellcheck"
BEGINNINGS = (b"#!/bin/sh", b"#!/bin/bash", b"#!/usr/bin/env bash")
FOLDERS = ("openshift", "kubernetes", "tests", ".ci")
SCRIPTS = sorted(
    file
    for folder in FOLDERS
    for file in (ROOT / folder).rglob("*")
    if file.is_file() and file.read_bytes().startswith(BEGINNINGS)
)


def test_there_are_scripts_to_look_at() -> None:
    assert {"deploy.sh", "run.sh", "install_browser.sh", "run"} <= {file.name for file in SCRIPTS}


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_shellcheck_finds_nothing(file: Path) -> None:
    command = [str(SHELLCHECK), "--external-sources", "--source-path=SCRIPTDIR", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("file", SCRIPTS, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_script_can_be_started_and_stops_at_its_first_error(file: Path) -> None:
    text = file.read_text()
    assert file.stat().st_mode & 0o111
    assert "\nset -eu" in text or text.count("\n") <= 2, "one command needs no such care"
