"""The doctor: what it finds wrong with real servers, and what it says to do."""

from pathlib import Path

import pytest
from redis import Redis

from app_srvc.database import open_database
from app_srvc.doctor import Check, render_checks, run_checks
from app_srvc.embedded import EmbeddedValkey
from app_srvc.migrations import migrate
from app_srvc.settings import Settings
from tests.support.network import SilentServer
from tests.support.servers import PostgresServer, ValkeyServer, free_port
from tests.support.source_server import Fault, SourceServer


def checks_of(**environ: str) -> dict[str, Check]:
    return {check.name: check for check in run_checks(Settings.from_env(environ))}


def names_of_failed(checks: dict[str, Check]) -> set[str]:
    return {name for name, check in checks.items() if not check.ok}


def make_schema(url: str) -> None:
    database = open_database(url)
    migrate(database)
    database.close()


# --- nothing wrong ------------------------------------------------------------------------------


def test_a_fresh_laptop_is_well_and_looking_at_it_makes_no_files(tmp_path: Path) -> None:
    checks = checks_of(DATA_DIR=str(tmp_path / "data"))
    assert names_of_failed(checks) == set()
    assert "app-srvc up" in checks["redis"].remedy
    assert list(tmp_path.iterdir()) == []


def test_an_embedded_valkey_that_runs_is_checked(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    valkey.start()
    try:
        checks = checks_of(DATA_DIR=str(tmp_path))
    finally:
        valkey.stop()
    assert checks["redis"].detail.startswith("Valkey ")
    assert checks["redis persistence"].detail == "append-only file"


def test_a_deployment_that_is_well_passes_every_check(
    valkey: ValkeyServer, database_url: str, tmp_path: Path
) -> None:
    make_schema(database_url)
    with SourceServer() as source:
        checks = checks_of(
            REDIS_URL=valkey.url, DATABASE_URL=database_url, SOURCE_URL=source.url, HOST="::1"
        )
    durability = "PostgreSQL" in checks["database"].detail
    assert names_of_failed(checks) == ({"database durability"} if durability else set())
    assert checks["database schema"].ok and checks["source"].ok
    if durability:
        assert "fsync" in checks["database durability"].detail, "the tests' own server has it off"


# --- Redis --------------------------------------------------------------------------------------


def test_a_redis_that_is_away_is_reported_with_where_it_was_looked_for(tmp_path: Path) -> None:
    port = str(free_port())
    check = checks_of(RDS_HOST="127.0.0.1", RDS_PORT=port, DATA_DIR=str(tmp_path))["redis"]
    assert not check.ok and port in check.detail and "Start Redis" in check.remedy


def test_a_redis_that_hangs_is_reported_within_seconds(tmp_path: Path) -> None:
    with SilentServer() as silent:
        url = f"redis://127.0.0.1:{silent.port}"
        assert names_of_failed(checks_of(REDIS_URL=url, DATA_DIR=str(tmp_path))) == {"redis"}


def test_a_wrong_redis_password_is_named_as_such_and_not_shown(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "v", password="right") as server:
        for password in ({}, {"RDS_PSW": "hush-hush"}):
            checks = checks_of(
                RDS_HOST="127.0.0.1", RDS_PORT=str(server.port), DATA_DIR=str(tmp_path), **password
            )
            assert not checks["redis"].ok and "RDS_PSW" in checks["redis"].remedy
            assert "hush" not in render_checks(list(checks.values()))


def test_a_redis_that_deletes_keys_when_memory_is_short_is_reported(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    def eviction() -> Check:
        return checks_of(REDIS_URL=valkey.url, DATA_DIR=str(tmp_path))["redis eviction"]

    assert eviction().ok
    valkey.client.config_set("maxmemory-policy", "allkeys-lru")
    valkey.client.config_set("maxmemory", "100mb")
    try:
        assert not eviction().ok and "noeviction" in eviction().remedy
    finally:
        valkey.client.config_set("maxmemory-policy", "noeviction")
        valkey.client.config_set("maxmemory", "0")


def test_a_replica_is_reported_as_one_that_takes_no_writes(
    valkey: ValkeyServer, tmp_path: Path
) -> None:
    options = {"replicaof": f"127.0.0.1 {valkey.port}"}
    with ValkeyServer(tmp_path / "v", options=options) as replica:
        checks = checks_of(REDIS_URL=replica.url, DATA_DIR=str(tmp_path))
    assert names_of_failed(checks) == {"redis writes"}


def test_a_redis_that_cannot_save_is_reported(tmp_path: Path) -> None:
    with ValkeyServer(tmp_path / "v", options={"dbfilename": "dump.rdb"}) as server:
        (tmp_path / "v" / "dump.rdb").mkdir()  # where the file should go
        with Redis.from_url(server.url) as client:
            client.bgsave()
            while client.info("persistence")["rdb_bgsave_in_progress"]:
                client.ping()
        checks = checks_of(REDIS_URL=server.url, DATA_DIR=str(tmp_path))
    assert names_of_failed(checks) == {"redis writes"}


# --- the database -------------------------------------------------------------------------------


def test_a_database_without_our_tables_is_reported_with_the_command_that_makes_them(
    valkey: ValkeyServer, database_url: str
) -> None:
    if database_url.startswith("sqlite"):
        open_database(database_url).ping()
    check = checks_of(REDIS_URL=valkey.url, DATABASE_URL=database_url)["database schema"]
    assert not check.ok and "app-srvc db upgrade" in check.remedy


def test_a_postgresql_that_is_away_or_lacks_the_database_or_refuses_the_password_is_reported(
    postgres: PostgresServer,
) -> None:
    def database_check(**changed: str) -> Check:
        environ = {
            "PG_HOST": "127.0.0.1",
            "PG_PORT": str(postgres.port),
            "PG_USER": postgres.user,
            "PG_PSW": postgres.password,
            "PG_DB": "postgres",
            **changed,
        }
        checks = checks_of(**environ)
        assert "hush" not in render_checks(list(checks.values()))
        return checks["database"]

    assert database_check().ok
    assert "PG_PSW" in database_check(PG_PSW="hush-hush").remedy
    assert "PG_DB" in database_check(PG_DB="no_such_database").remedy
    assert "PG_PORT" in database_check(PG_PORT=str(free_port())).remedy


def test_a_database_url_with_several_hosts_reaches_the_one_that_is_there(
    postgres: PostgresServer,
) -> None:
    hosts = f"127.0.0.1:{free_port()},127.0.0.1:{postgres.port}"
    check = checks_of(DATABASE_URL=postgres.tcp_url(hosts=hosts))["database"]
    assert check.ok and str(postgres.port) in check.detail


def test_a_postgresql_that_may_lose_commits_is_reported(
    valkey: ValkeyServer, postgres_url: str
) -> None:
    url = f"{postgres_url}&options=-c%20synchronous_commit%3Doff"
    check = checks_of(REDIS_URL=valkey.url, DATABASE_URL=url)["database durability"]
    assert not check.ok and "accepted" in check.remedy


# --- the rest -----------------------------------------------------------------------------------


def test_a_data_folder_that_cannot_be_written_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    check = checks_of(DATA_DIR=str(tmp_path / "file"))["data folder"]
    assert not check.ok and "DATA_DIR" in check.remedy


def test_a_source_that_fails_is_reported_without_what_its_address_keeps_secret() -> None:
    with SourceServer() as source:
        source.set_faults(Fault("status", status=401))
        checks = checks_of(SOURCE_URL=f"{source.url}?access-token=hush", SOURCE_TOKEN="hush")
    assert not checks["source"].ok and "SOURCE_TOKEN" in checks["source"].remedy
    assert "hush" not in render_checks(list(checks.values()))


@pytest.mark.parametrize(
    ("key", "token", "ok"),
    [("", "", False), ("k" * 32, "short", False), ("k" * 32, "t" * 32, True)],
)
def test_an_address_that_others_reach_needs_secrets_that_cannot_be_guessed(
    key: str, token: str, ok: bool
) -> None:
    check = checks_of(HOST="0.0.0.0", SECRET_KEY=key, API_TOKEN=token)["web address"]
    assert check.ok == ok
    assert ("API_TOKEN" in check.remedy) == (not ok)


def test_the_rendering_has_a_line_for_each_check_and_what_to_do() -> None:
    text = render_checks([Check("one", True, "fine"), Check("other", False, "bad", "Mend it.")])
    assert text.splitlines() == [
        "ok    one    fine",
        "FAIL  other  bad",
        "             to do: Mend it.",
        "1 of 2 checks failed.",
    ]
