"""The whole service over TLS, with certificates of its own as a client: web under gevent, and workers."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.load import Ledger
from tests.support.service import Parts, assert_balanced, run_command
from tests.support.tls_servers import (
    Authority,
    TlsPostgres,
    TlsRedis,
    install_tls_servers,
)
from tests.support.waiting import wait_until


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    install_tls_servers()
    return Authority(tmp_path / "tls", "the authority of this test")


@pytest.fixture
def redis(authority: Authority, tmp_path: Path) -> Iterator[TlsRedis]:
    certificate = authority.sign("localhost")
    with TlsRedis(tmp_path / "redis", authority, certificate, asks_client=True) as server:
        yield server


@pytest.fixture
def postgres(authority: Authority) -> Iterator[TlsPostgres]:
    server = TlsPostgres(authority, authority.sign("localhost"), asks_client=True)
    try:
        yield server.start()
    finally:
        server.remove()


def test_everything_works_over_tls_and_nothing_without_our_certificate(
    redis: TlsRedis, postgres: TlsPostgres, authority: Authority, tmp_path: Path
) -> None:
    client = authority.sign("client-of-this-test")
    redis_url = f"rediss://localhost:{redis.tls_port}/0?ssl_ca_certs={authority.file}"
    place = postgres.tcp_url(postgres.new_database(), hosts=f"localhost:{postgres.port}")
    database_url = f"{place}?sslmode=verify-full&sslrootcert={authority.file}"
    ours = (
        f"{redis_url}&ssl_certfile={client.file}&ssl_keyfile={client.key}",
        f"{database_url}&sslcert={client.file}&sslkey={client.key}",
    )
    with Parts(tmp_path, *ours) as parts, Ledger(ours[1]) as ledger:
        assert parts.start_robot(timedelta=1).status_code == 200
        logins = {f"user{number}" for number in range(20)}
        assert {parts.register(login).status_code for login in logins} == {202}
        wait_until(lambda: set(ledger.logins()) == logins, 30, what="all are registered")
        wait_until(lambda: len(parts.cycles()) >= 2, 30, what="the robot runs")
        assert parts.get("/health/ready").json() == {"ok": True, "missing": []}
        assert_balanced(parts)
        doctor = parts.command("doctor").stdout
        assert "ok    redis " in doctor and "ok    database " in doctor, doctor
    refused = run_command("doctor", REDIS_URL=redis_url, DATABASE_URL=database_url)
    assert refused.returncode == 1
    for words in ("FAIL  redis ", "FAIL  database ", "ssl_certfile", "sslcert"):
        assert words in refused.stdout, refused.stdout
