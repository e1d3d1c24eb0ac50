"""TLS to real servers: whom the service believes, whom it does not, and what the doctor then says."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from redis.exceptions import RedisError

from app_srvc.broker import Caller, make_redis
from app_srvc.database import open_database
from app_srvc.doctor import Check, run_checks
from app_srvc.errors import LedgerUnavailableError
from app_srvc.settings import Settings
from app_srvc.settings_values import sqlalchemy_url
from app_srvc.workers.lease.link import own_client
from tests.support.tls_servers import (
    Authority,
    Certificate,
    TlsPostgres,
    TlsRedis,
    TlsSentinel,
    install_tls_servers,
)

BOTH: pytest.MarkDecorator = pytest.mark.parametrize("caller", ["web", "worker"])
Serve = Callable[[Certificate], TlsRedis]


@pytest.fixture(scope="module", autouse=True)
def installed() -> None:
    install_tls_servers()


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "ours", "the authority of this test")


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("tls") / "theirs", "another authority")


@pytest.fixture(scope="module")
def redis(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsRedis]:
    folder = tmp_path_factory.mktemp("redis")
    with TlsRedis(folder, authority, authority.sign("localhost"), asks_client=False) as server:
        yield server


@pytest.fixture(scope="module")
def expired_redis(
    authority: Authority, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TlsRedis]:
    certificate = authority.sign("localhost", days=-1)
    with TlsRedis(
        tmp_path_factory.mktemp("redis"), authority, certificate, asks_client=False
    ) as server:
        yield server


@pytest.fixture(scope="module")
def postgres(authority: Authority) -> Iterator[TlsPostgres]:
    server = TlsPostgres(authority, authority.sign("localhost"), asks_client=False)
    try:
        yield server.start()
    finally:
        server.remove()


@pytest.fixture(scope="module")
def expired_postgres(authority: Authority) -> Iterator[TlsPostgres]:
    server = TlsPostgres(authority, authority.sign("localhost", days=-1), asks_client=False)
    try:
        yield server.start()
    finally:
        server.remove()


# --- Redis --------------------------------------------------------------------------------------


def redis_check(url: str, tmp_path: Path) -> Check:
    settings = Settings.from_env({"REDIS_URL": url, "DATA_DIR": str(tmp_path)})
    return next(check for check in run_checks(settings) if check.name == "redis")


@BOTH
def test_a_redis_of_the_named_authority_is_believed(
    redis: TlsRedis, authority: Authority, caller: Caller, tmp_path: Path
) -> None:
    url = f"rediss://localhost:{redis.tls_port}/0?ssl_ca_certs={authority.file}"
    with make_redis(url, caller=caller) as client, own_client(client) as own:
        assert client.set("key", caller) and own.get("key") == caller.encode()
    assert redis_check(url, tmp_path).ok


def test_a_redis_of_another_name_authority_or_time_is_refused(
    redis: TlsRedis,
    expired_redis: TlsRedis,
    authority: Authority,
    stranger: Authority,
    tmp_path: Path,
) -> None:
    for url, reason in (
        (f"127.0.0.1:{redis.tls_port}/0?ssl_ca_certs={authority.file}", "IP address mismatch"),
        (f"localhost:{redis.tls_port}/0?ssl_ca_certs={stranger.file}", "verify failed"),
        (f"localhost:{redis.tls_port}/0", "verify failed"),
        (f"localhost:{expired_redis.tls_port}/0?ssl_ca_certs={authority.file}", "has expired"),
    ):
        client = make_redis(f"rediss://{url}", caller="web")
        with client, pytest.raises(RedisError, match=reason):
            client.ping()
        check = redis_check(f"rediss://{url}", tmp_path)
        assert not check.ok and "ssl_ca_certs" in check.remedy and "host" in check.remedy


def test_tls_to_a_port_without_it_and_none_to_one_with_it_are_reported(
    redis: TlsRedis, tmp_path: Path
) -> None:
    for url in (f"rediss://localhost:{redis.port}/0", f"redis://localhost:{redis.tls_port}/0"):
        check = redis_check(url, tmp_path)
        assert not check.ok and "rediss://" in check.remedy


def test_sentinels_and_the_master_that_they_name_are_spoken_to_over_tls(
    redis: TlsRedis, authority: Authority, stranger: Authority, tmp_path: Path
) -> None:
    certificate = authority.sign("localhost")
    with TlsSentinel(tmp_path / "s", redis, authority, certificate) as sentinel:
        place = f"rediss+sentinel://localhost:{sentinel.tls_port}/{sentinel.service}"
        url = f"{place}?ssl_ca_certs={authority.file}"
        with make_redis(url, caller="worker") as client, own_client(client) as own:
            assert client.set("key", "by a Sentinel") and own.get("key") == b"by a Sentinel"
        assert redis_check(url, tmp_path).ok
        check = redis_check(f"{place}?ssl_ca_certs={stranger.file}", tmp_path)
        assert not check.ok and "certificate verify failed" in check.detail
        assert "ssl_ca_certs" in check.remedy


# --- PostgreSQL ---------------------------------------------------------------------------------


def postgres_url(server: TlsPostgres, options: str, host: str = "localhost") -> str:
    return f"{server.tcp_url(hosts=f'{host}:{server.port}')}?sslmode=verify-full{options}"


def database_check(url: str) -> Check:
    settings = Settings.from_env({"DATABASE_URL": url})
    return next(check for check in run_checks(settings) if check.name == "database")


def test_a_postgresql_of_the_named_authority_is_believed(
    postgres: TlsPostgres, authority: Authority
) -> None:
    url = postgres_url(postgres, f"&sslrootcert={authority.file}")
    assert database_check(url).ok
    several = url.replace("@localhost", "@127.0.0.1:1,localhost") + "&target_session_attrs=any"
    assert database_check(several).ok, "several hosts, and a certificate for the one that is there"


def test_a_postgresql_of_another_name_authority_or_time_is_refused(
    postgres: TlsPostgres, expired_postgres: TlsPostgres, authority: Authority, stranger: Authority
) -> None:
    ours, theirs = f"&sslrootcert={authority.file}", f"&sslrootcert={stranger.file}"
    for url in (
        postgres_url(postgres, ours, host="127.0.0.1"),
        postgres_url(postgres, theirs),
        postgres_url(postgres, "&sslrootcert=/nowhere/ca.pem"),
        postgres_url(expired_postgres, ours),
    ):
        database = open_database(sqlalchemy_url(url))
        with pytest.raises(LedgerUnavailableError, match="certificate"):
            database.ping()
        database.close()
        check = database_check(url)
        assert not check.ok and "sslrootcert" in check.remedy and "host" in check.remedy
