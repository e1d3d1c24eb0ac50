"""The embedded Valkey: private, one for each data folder, and back after every kind of death."""

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from redis import Redis

from app_srvc import embedded
from app_srvc.broker import make_redis
from app_srvc.embedded import EmbeddedValkey, bundled_server
from app_srvc.errors import DataDirInUseError, EmbeddedServerError
from tests.support.waiting import wait_until

Make = Callable[..., EmbeddedValkey]


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Make]:
    """Make servers for the test's folder (or another) that are stopped at its end."""
    made: list[EmbeddedValkey] = []

    def one(data_dir: Path = tmp_path, server: str | None = None) -> EmbeddedValkey:
        made.append(EmbeddedValkey(data_dir, server))
        return made[-1]

    yield one
    for valkey in made:
        valkey.stop()


def client_of(valkey: EmbeddedValkey) -> Redis:
    return make_redis(valkey.url, caller="web")


def set_key(valkey: EmbeddedValkey, value: str) -> None:
    with client_of(valkey) as client:
        client.set("key", value)


def key_of(valkey: EmbeddedValkey) -> bytes | None:
    with client_of(valkey) as client:
        value: bytes | None = client.get("key")
        return value


# --- alive --------------------------------------------------------------------------------------


def test_it_answers_once_it_is_started_and_no_more_once_it_is_stopped(make: Make) -> None:
    valkey = make()
    assert not valkey.is_alive
    valkey.start()
    set_key(valkey, "value")
    assert valkey.is_alive and valkey.pid is not None
    pid = valkey.pid
    valkey.stop()
    assert not valkey.is_alive and valkey.pid is None and not psutil.pid_exists(pid)
    valkey.stop()


def test_what_it_stored_is_there_after_a_stop_and_a_start(make: Make) -> None:
    valkey = make()
    valkey.start()
    set_key(valkey, "value")
    valkey.stop()
    valkey.start()
    assert key_of(valkey) == b"value"


def test_starting_it_again_while_it_lives_changes_nothing(make: Make) -> None:
    valkey = make()
    valkey.start()
    pid = valkey.pid
    valkey.start()
    assert valkey.pid == pid


def test_it_is_set_up_to_keep_what_it_is_given(make: Make) -> None:
    valkey = make()
    valkey.start()
    with client_of(valkey) as client:
        for name, value in (
            ("appendonly", "yes"),
            ("appendfsync", "everysec"),
            ("maxmemory-policy", "noeviction"),
        ):
            assert client.config_get(name) == {name: value}


def test_only_its_owner_reaches_it_and_only_over_the_socket(make: Make, tmp_path: Path) -> None:
    valkey = make()
    valkey.start()
    assert stat.S_IMODE((tmp_path / "valkey").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "valkey" / "valkey.sock").stat().st_mode) == 0o700
    process = psutil.Process(valkey.pid)
    assert process.net_connections("inet") == []


def test_ctrl_c_in_the_terminal_does_not_reach_it(make: Make) -> None:
    valkey = make()
    valkey.start()
    assert valkey.pid is not None
    assert os.getpgid(valkey.pid) != os.getpgid(0)


def test_a_folder_whose_path_is_too_long_for_a_socket_or_has_odd_names_works(
    make: Make, tmp_path: Path
) -> None:
    folder = tmp_path / ("a folder with 100 % #? " * 8)
    valkey = make(folder)
    valkey.start()
    set_key(valkey, "value")
    shortcut = Path(valkey.url.removeprefix("unix://")).parent
    assert shortcut.is_symlink() and len(valkey.url) < 104
    valkey.stop()
    assert not os.path.lexists(shortcut)
    valkey.start()
    assert key_of(valkey) == b"value"


def test_a_shortcut_that_leads_to_another_folder_is_not_followed(
    make: Make, tmp_path: Path
) -> None:
    valkey = make(tmp_path / ("long" * 40))
    shortcut = Path(valkey.url.removeprefix("unix://")).parent
    (tmp_path / "elsewhere").mkdir()
    shortcut.symlink_to(tmp_path / "elsewhere")
    try:
        with pytest.raises(EmbeddedServerError, match="in the way"):
            valkey.start()
    finally:
        shortcut.unlink(missing_ok=True)


# --- which program ------------------------------------------------------------------------------


def test_a_named_program_is_used(make: Make, tmp_path: Path) -> None:
    program = tmp_path / "my-server"
    program.write_text(f'#!/bin/sh\nexec "{bundled_server()}" "$@" --databases 3\n')
    program.chmod(0o755)
    valkey = make(server=str(program))
    valkey.start()
    with client_of(valkey) as client:
        assert client.config_get("databases") == {"databases": "3"}


def test_a_program_that_is_not_there_is_named(make: Make, tmp_path: Path) -> None:
    with pytest.raises(EmbeddedServerError, match="no-such-server"):
        make(server="no-such-server").start()
    make().start()


def test_a_program_that_does_not_answer_is_ended(
    make: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "START_TIMEOUT_S", 0.5)
    program = tmp_path / "dumb-server"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec sleep 60\n")
    program.chmod(0o755)
    with pytest.raises(EmbeddedServerError, match="did not answer"):
        make(server=str(program)).start()
    assert not psutil.pid_exists(int((tmp_path / "pid").read_text()))


# --- one for each folder ------------------------------------------------------------------------


def test_a_second_start_on_a_folder_in_use_says_so_and_leaves_the_first_alone(
    make: Make, tmp_path: Path
) -> None:
    first = make()
    first.start()
    set_key(first, "value")
    with pytest.raises(DataDirInUseError, match=str(tmp_path)):
        make().start()
    assert key_of(first) == b"value"
    assert make().is_served
    first.stop()
    assert not make().is_served
    make().start()


def test_two_folders_have_two_servers(make: Make, tmp_path: Path) -> None:
    one, other = make(tmp_path / "one"), make(tmp_path / "other")
    one.start()
    other.start()
    set_key(one, "value")
    assert key_of(other) is None


# --- deaths -------------------------------------------------------------------------------------


def test_after_a_kill_of_the_server_the_same_owner_starts_it_again(make: Make) -> None:
    valkey = make()
    valkey.start()
    set_key(valkey, "value")
    assert valkey.pid is not None
    os.kill(valkey.pid, signal.SIGKILL)
    wait_until(lambda: valkey.has_died)
    valkey.start()
    assert not valkey.has_died and key_of(valkey) == b"value"


def test_a_server_that_hangs_is_replaced_when_its_owner_starts_it_again(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.5)
    valkey = make()
    valkey.start()
    set_key(valkey, "value")
    hung = valkey.pid
    assert hung is not None
    os.kill(hung, signal.SIGSTOP)
    assert not valkey.is_alive and not valkey.has_died
    valkey.start()
    assert valkey.pid != hung and not psutil.pid_exists(hung)
    assert key_of(valkey) == b"value"


OWNER = """
import os, sys
from pathlib import Path
from app_srvc.broker import make_redis
from app_srvc.embedded import EmbeddedValkey

valkey = EmbeddedValkey(Path(sys.argv[1]))
valkey.start()
make_redis(valkey.url, caller="web").set("key", "of the dead owner")
print(valkey.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator[int]:
    """A server whose owner was killed with kill -9."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert owner.stdout is not None
    pid = int(owner.stdout.readline())
    owner.kill()
    owner.communicate()
    assert psutil.pid_exists(pid)
    yield pid
    if psutil.pid_exists(pid):
        os.kill(pid, signal.SIGKILL)


def test_a_server_whose_owner_was_killed_is_replaced_and_its_data_kept(
    make: Make, orphan: int
) -> None:
    valkey = make()
    valkey.start()
    assert valkey.pid != orphan and has_ended(orphan)
    assert key_of(valkey) == b"of the dead owner"


def test_a_hung_server_whose_owner_was_killed_is_killed_and_its_data_kept(
    make: Make, orphan: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.5)
    os.kill(orphan, signal.SIGSTOP)
    valkey = make()
    valkey.start()
    assert has_ended(orphan)
    assert key_of(valkey) == b"of the dead owner"


def has_ended(pid: int) -> bool:
    """An orphan's new parent may take a moment to collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_server_that_hangs_is_killed_at_the_stop(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded, "STOP_TIMEOUT_S", 0.5)
    valkey = make()
    valkey.start()
    pid = valkey.pid
    assert pid is not None
    os.kill(pid, signal.SIGSTOP)
    began = time.monotonic()
    valkey.stop()
    assert not psutil.pid_exists(pid) and time.monotonic() - began < 3


def test_damaged_data_is_reported_with_what_to_do_and_the_folder_is_free_again(
    make: Make, tmp_path: Path
) -> None:
    valkey = make()
    valkey.start()
    set_key(valkey, "value")
    valkey.stop()
    (file,) = (tmp_path / "valkey" / "appendonlydir").glob("*.incr.aof")
    file.write_bytes(b"*3\r\n$3\r\nnot a command of Valkey\r\n" + file.read_bytes())
    with pytest.raises(EmbeddedServerError, match=r"Bad file format.*move .*valkey away"):
        valkey.start()
    (tmp_path / "valkey").rename(tmp_path / "damaged")
    valkey.start()
    assert valkey.is_alive
