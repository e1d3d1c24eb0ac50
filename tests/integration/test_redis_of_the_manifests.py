"""Redis as the manifests start it: it wants its password, writes its file, and gets its signals itself."""

import os
from pathlib import Path
from subprocess import DEVNULL, Popen

import pytest
import redis

from app_srvc.embedded import bundled_server
from tests.support.manifests import interpolate, read_compose, render, secret_values, the
from tests.support.servers import ValkeyServer

PASSWORD = "p" * 40


class ManifestValkey(ValkeyServer):
    """A Valkey that is started as a manifest says, but for its folder, its address and its port."""

    def moved(self, text: str) -> str:
        """The lines of a configuration, for this server's own folder and port."""
        assert "dir /data" in text
        kept = [line for line in text.splitlines() if line.split()[:1] not in (["bind"], ["port"])]
        own = f"dir {self.folder}\nbind 127.0.0.1\nport {self.port}"
        return "\n".join(kept).replace("dir /data", own) + "\n"


class ComposeValkey(ManifestValkey):
    """By the command of compose.yaml, in a shell that finds our server as `valkey-server`."""

    def _launch(self) -> Popen[bytes]:
        programs = self.folder / "bin"
        programs.mkdir(parents=True, exist_ok=True)
        program = programs / "valkey-server"
        program.unlink(missing_ok=True)
        program.symlink_to(bundled_server())
        service = read_compose()["services"]["redis"]
        shell, option, script = service["command"]
        variables = {"RDS_PSW": PASSWORD}
        return Popen(
            [shell, option, self.moved(interpolate(script, variables))],
            env={
                "PATH": f"{programs}:{os.environ['PATH']}",
                "REDISCLI_AUTH": interpolate(service["environment"]["REDISCLI_AUTH"], variables),
            },
            stdin=DEVNULL,
            stdout=DEVNULL,
        )


class TemplateValkey(ManifestValkey):
    """By the command and the configuration of templates/redis.yaml, as its volumes would hold it."""

    def _launch(self) -> Popen[bytes]:
        self.folder.mkdir(parents=True, exist_ok=True)
        objects = render("redis")
        (container,) = the("Deployment", objects)["spec"]["template"]["spec"]["containers"]
        _, configuration = container["command"]
        (self.folder / "redis.conf").write_text(
            secret_values(REDIS_PASSWORD=PASSWORD)["redis.conf"]
        )
        text = the("ConfigMap", objects)["data"][Path(configuration).name]
        file = self.folder / "valkey.conf"
        file.write_text(self.moved(text).replace("/etc/valkey-secret", str(self.folder)))
        return Popen([str(bundled_server()), str(file)], stdin=DEVNULL, stdout=DEVNULL)


@pytest.mark.parametrize("server_class", [ComposeValkey, TemplateValkey])
def test_redis_wants_its_password_keeps_its_file_and_ends_when_told(
    server_class: type[ManifestValkey], tmp_path: Path
) -> None:
    with server_class(tmp_path / "data", password=PASSWORD) as server:
        stranger = redis.Redis(port=server.port)
        with pytest.raises(redis.AuthenticationError):
            stranger.ping()
        stranger.close()
        assert server.client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        server.client.set("kept", "yes")
        server.stop()
        assert list((tmp_path / "data").glob("appendonlydir/*.aof"))
        server.start()
        assert server.client.get("kept") == b"yes"
        # The password is in no list of processes.
        assert PASSWORD not in Path(f"/proc/{server.pid}/cmdline").read_text()
        server.stop()
