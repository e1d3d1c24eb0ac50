"""Certificates of a test, and servers that speak TLS with them: Debian's Redis and PostgreSQL."""

import fcntl
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import PostgresServer, ValkeyServer, free_port, spawn
from tests.support.service import ROOT

INSTALL = ROOT / "tests" / "support" / "install_tls_servers.sh"


def install_tls_servers() -> None:
    """Have both there. Several processes of one test run may ask for it."""
    with INSTALL.open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        subprocess.run([str(INSTALL)], check=True)


@dataclass(frozen=True)
class Certificate:
    """A certificate and its key, as files."""

    file: Path
    key: Path


class Authority:
    """Signs certificates, all of them in one folder."""

    def __init__(self, folder: Path, name: str) -> None:
        folder.mkdir(parents=True)
        self._folder = folder
        self.file, self._key = folder / "ca.pem", folder / "ca.key"
        _openssl(
            *("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-keyout", self._key, "-out", self.file, "-subj", f"/CN={name}"),
        )

    def sign(self, host: str, *, days: int = 2) -> Certificate:
        """A certificate for a host; with days below 0 it has run out already."""
        stem = f"{host}{days}"
        made = Certificate(self._folder / f"{stem}.pem", self._folder / f"{stem}.key")
        request, extension = self._folder / f"{stem}.csr", self._folder / f"{stem}.ext"
        extension.write_text(f"subjectAltName=DNS:{host}\n")
        _openssl(
            *("req", "-newkey", "rsa:2048", "-nodes", "-keyout", made.key, "-out", request),
            *("-subj", f"/CN={host}"),
        )
        _openssl(
            *("x509", "-req", "-in", request, "-CA", self.file, "-CAkey", self._key),
            *("-CAcreateserial", "-days", str(days), "-extfile", extension, "-out", made.file),
        )
        made.key.chmod(0o600)
        return made


def _openssl(*words: str | Path) -> None:
    subprocess.run(["openssl", *map(str, words)], check=True, capture_output=True)


class TlsRedis(ValkeyServer):
    """A real Redis that speaks TLS on `tls_port`; the test's own client needs none on `port`."""

    name = "Redis with TLS"

    def __init__(
        self, folder: Path, authority: Authority, certificate: Certificate, *, asks_client: bool
    ) -> None:
        super().__init__(folder)
        self.tls_port = free_port()
        self._options = {
            "tls-port": str(self.tls_port),
            "tls-cert-file": str(certificate.file),
            "tls-key-file": str(certificate.key),
            "tls-ca-cert-file": str(authority.file),
            "tls-auth-clients": "yes" if asks_client else "no",
        }

    def _launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        return spawn(
            self._words("redis-server"), self.folder / "server.log", program=redis_program()
        )


def redis_program() -> str:
    """Debian's server; the program tells by the first word of its arguments what it is to be."""
    found = shutil.which("redis-server") or shutil.which("redis-check-rdb")
    assert found is not None
    return found


class TlsPostgres(PostgresServer):
    """A real PostgreSQL whose port takes TLS only, and with `asks_client` only known clients."""

    name = "PostgreSQL with TLS"

    def __init__(
        self, authority: Authority, certificate: Certificate, *, asks_client: bool
    ) -> None:
        super().__init__()
        self._authority = authority
        self._certificate = certificate
        self._asks_client = asks_client

    def _programs(self) -> Path:
        return sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))[-1].parent

    def _initialise(self, programs: Path, data: Path) -> None:
        super()._initialise(programs, data)
        for name, source in (
            ("server.crt", self._certificate.file),
            ("server.key", self._certificate.key),
            ("root.crt", self._authority.file),
        ):
            shutil.copy(source, data / name)
            (data / name).chmod(0o600)
            if self._run_as:
                shutil.chown(data / name, self._run_as)
        with (data / "postgresql.conf").open("a") as file:
            file.write("ssl = on\nssl_ca_file = 'root.crt'\n")
        also = " clientcert=verify-ca" if self._asks_client else ""
        (data / "pg_hba.conf").write_text(
            f"local all all trust\nhostssl all all 127.0.0.1/32 scram-sha-256{also}\n"
        )


class TlsSentinel(TlsRedis):
    """A real Sentinel that speaks TLS, also with the master, and names it as its certificate does."""

    name = "Sentinel with TLS"
    service = "app"

    def __init__(
        self, folder: Path, master: TlsRedis, authority: Authority, certificate: Certificate
    ) -> None:
        super().__init__(folder, authority, certificate, asks_client=False)
        self._master = master

    def _launch(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = [
            f"port {self.port}",
            "bind 127.0.0.1",
            *(f"{name} {value}" for name, value in self._options.items()),
            "tls-replication yes",
            "sentinel resolve-hostnames yes",
            "sentinel announce-hostnames yes",
            f"sentinel monitor {self.service} localhost {self._master.tls_port} 1",
        ]
        configuration = self.folder / "sentinel.conf"
        configuration.write_text("\n".join(lines) + "\n")
        words = ["redis-server", str(configuration), "--sentinel"]
        return spawn(words, self.folder / "server.log", program=redis_program())
