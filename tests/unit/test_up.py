"""`app-srvc up`: what it does before it starts anything."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from app_srvc.errors import DataDirInUseError, PortInUseError
from app_srvc.settings import Settings
from app_srvc.up import base_url, check_port, child_specs, free_port, kept_secret, owned_folder

HOLD_FOLDER = (
    "import sys, time; from pathlib import Path; from app_srvc.up import owned_folder;"
    "folder = owned_folder(Path(sys.argv[1])); folder.__enter__();"
    "print('held', flush=True); time.sleep(60)"
)


def test_a_folder_is_held_by_one_process_and_freed_by_its_death(tmp_path: Path) -> None:
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_FOLDER, str(tmp_path)], stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        with (
            pytest.raises(DataDirInUseError, match=rf"{tmp_path} \(process {holder.pid}\)"),
            owned_folder(tmp_path),
        ):
            pytest.fail("two processes hold the folder")
    finally:
        holder.kill()
        holder.communicate()
    with owned_folder(tmp_path):
        assert (tmp_path / "up.lock").read_text() == f"{os.getpid()}\n"


def test_a_port_that_somebody_uses_is_found_out_early() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"Port {port} of 127.0.0.1 cannot be used"):
            check_port("127.0.0.1", port)
    check_port("127.0.0.1", free_port())


def test_the_secret_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    path = tmp_path / "secret-key"
    secret = kept_secret(path)
    assert len(secret) == 64
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert kept_secret(path) == secret
    assert kept_secret(tmp_path / "other") != secret


def test_children_get_secrets_by_their_environment_and_never_by_arguments(tmp_path: Path) -> None:
    secrets = {
        "SECRET_KEY": "key-of-sessions",
        "API_TOKEN": "token-of-callers",
        "REDIS_URL": "redis://:word-of-redis@127.0.0.1:6379/0",
        "DATABASE_URL": "postgresql://user:word-of-pg@127.0.0.1/db",
    }
    variables = {**secrets, "DATA_DIR": str(tmp_path), "HOST": "0.0.0.0"}
    settings = Settings.from_env(variables, part="web")
    specs = child_specs(settings, variables)
    assert [spec.name for spec in specs] == ["usrreg", "robot", "todo", "tasks", "web"]
    for spec in specs:
        assert spec.env["API_TOKEN"] == "token-of-callers"
        arguments = " ".join(spec.argv)
        assert not [value for value in secrets.values() if value in arguments]
        assert "word-of" not in arguments


def test_probes_of_workers_are_for_this_machine_only(tmp_path: Path) -> None:
    variables = {"SECRET_KEY": "k", "API_TOKEN": "t", "DATA_DIR": str(tmp_path), "HOST": "0.0.0.0"}
    settings = Settings.from_env(variables, part="web")
    *pools, web = child_specs(settings, variables)
    assert {pool.env["HOST"] for pool in pools} == {"127.0.0.1"}
    assert len({pool.env["HEALTH_PORT"] for pool in pools}) == len(pools)
    assert web.env["HOST"] == "0.0.0.0"


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:81"),
        ("0.0.0.0", "http://127.0.0.1:81"),
        ("::1", "http://[::1]:81"),
    ],
)
def test_the_address_that_is_shown_can_be_opened(host: str, url: str) -> None:
    variables = {"HOST": host, "PORT": "81", "SECRET_KEY": "k", "API_TOKEN": "t"}
    assert base_url(Settings.from_env(variables, part="web")) == url
