"""Every command of kubernetes/README.md, in its order, against a stand-in for `kubectl`."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.kustomize import KUBERNETES, OVERLAYS
from tests.support.manifests import APPLICATION, ROOT, container_of

README = (KUBERNETES / "README.md").read_text()
STAND_IN = ROOT / "tests" / "support" / "stand_in_kubectl.py"
# Some file stands in for that of the authorities.
AUTHORITIES = KUBERNETES / "README.md"
BUILD, TRIAL, TOKEN, PRODUCTION, RELEASE = re.findall(r"^```sh\n(.*?)^```$", README, re.S | re.M)


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """A folder with the stand-in and what it keeps."""
    (tmp_path / "cluster").mkdir()
    (tmp_path / "bin").mkdir()
    kubectl = tmp_path / "bin" / "kubectl"
    kubectl.write_text(f'#!/bin/sh\nexec {sys.executable} {STAND_IN} {tmp_path}/cluster "$@"\n')
    kubectl.chmod(0o755)
    return tmp_path


def run(programs: Path, commands: str) -> str:
    """What the commands print, or the reason why one of them failed."""
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands.replace("=ca.crt", f"={AUTHORITIES}")],
        cwd=ROOT,
        env={"PATH": f"{programs / 'bin'}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_trial_comes_up_and_its_token_can_be_read(programs: Path) -> None:
    run(programs, TRIAL)
    assert len(run(programs, TOKEN.replace(" | base64 --decode", "")).strip()) == 64
    assert (programs / "cluster" / "deployment.postgresql.json").exists()


def test_secrets_are_made_once(programs: Path) -> None:
    run(programs, TRIAL)
    with pytest.raises(AssertionError, match=r"secret\.app-srvc is there already"):
        run(programs, TRIAL)


def test_production_comes_up_and_takes_a_new_release(programs: Path) -> None:
    run(programs, PRODUCTION)
    migration = programs / "cluster" / "job.migrate.json"
    old = migration.read_text().replace("app-srvc:0.1.0", "app-srvc:0.0.9")
    migration.write_text(old)
    run(programs, RELEASE)
    assert migration.read_text() != old


def test_the_last_migration_stands_in_the_way_of_the_next_until_it_is_deleted(
    programs: Path,
) -> None:
    run(programs, PRODUCTION)
    migration = programs / "cluster" / "job.migrate.json"
    migration.write_text(migration.read_text().replace("app-srvc:0.1.0", "app-srvc:0.0.9"))
    without_delete = "\n".join(RELEASE.splitlines()[1:])
    with pytest.raises(AssertionError, match="a Job cannot be changed"):
        run(programs, without_delete)


def test_every_overlay_is_described() -> None:
    assert set(re.findall(r"^\| `(small|production[\w-]*)`", README, re.M)) == set(OVERLAYS)


@pytest.mark.parametrize("part", [*APPLICATION, "redis", "postgresql"])
def test_the_table_of_sizes_says_what_the_manifests_say(part: str) -> None:
    cells = re.search(rf"^\| `?{part}`? \|(.*)\|$", README, re.M)
    assert cells is not None
    _, idle, loaded, memory, idle_m, loaded_m, cpu = [cell.strip() for cell in cells[1].split("|")]
    resources = container_of(part)["resources"]
    in_mib = [mebibytes(resources[which]["memory"]) for which in ("requests", "limits")]
    in_millicores = [millicores(resources[which]["cpu"]) for which in ("requests", "limits")]
    assert memory == ", ".join(map(str, in_mib))
    assert cpu == ", ".join(map(str, in_millicores))
    # What was measured fits, with room for what a minute's measuring does not show.
    assert int(idle) <= int(loaded) < in_mib[0]
    assert int(idle_m) < in_millicores[0] and int(loaded_m) < in_millicores[1]


def mebibytes(quantity: str) -> int:
    return int(quantity[:-2]) * (1024 if quantity.endswith("Gi") else 1)


def millicores(quantity: str) -> int:
    return int(quantity[:-1]) if quantity.endswith("m") else 1000 * int(quantity)
