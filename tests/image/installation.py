"""One installation of the image: every part of it, running beside its servers."""

import os
import random
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import requests

from tests.image.containers import Container, Image
from tests.image.servers import ClusterValkey, source_of_todos
from tests.support.manifests import APPLICATION, environment_in_cluster, secret_values
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

# Of the range that OpenShift gives user ids from; the image knows none of them.
USER_IDS = range(1_000_000_000, 1_000_999_999)
FIRST_HEALTH_PORT = 8081
# Seconds on an idle machine; a busy one reads the fresh image from a cold disk.
READY_S = 150.0


def image_that_was_built() -> Image:
    """The image that `build_and_run.sh` built and mounted; it says where in these variables."""
    return Image.from_description(
        Path(os.environ["IMAGE_ROOT"]), Path(os.environ["IMAGE_DESCRIPTION"])
    )


@dataclass(frozen=True)
class Installation:
    """Every part of the image, running, and how to speak to it."""

    image: Image
    folder: Path
    hosts: Path
    user: int
    variables: Mapping[str, Mapping[str, str]]
    containers: dict[str, Container]
    health: Mapping[str, str]
    token: str
    address: str = "http://127.0.0.1:8080"

    def get(self, path: str, *, is_authorised: bool = True) -> requests.Response:
        headers = {"Authorization": f"Bearer {self.token}"} if is_authorised else {}
        return requests.get(self.address + path, headers=headers, timeout=10)

    def post(self, path: str, body: object, *, is_authorised: bool = True) -> requests.Response:
        headers = {"Accept": "application/json"}
        if is_authorised:
            headers["Authorization"] = f"Bearer {self.token}"
        return requests.post(self.address + path, json=body, headers=headers, timeout=10)

    def start(self, part: str) -> None:
        self.containers[part] = Container(
            self.image,
            self.folder,
            name=part,
            user=self.user,
            hosts=self.hosts,
            environment=self.variables[part],
        )

    def wait_until_ready(self, part: str) -> float:
        """When it was seen to be ready, as a monotonic second."""
        wait_until(lambda: self.is_ready(part), READY_S, what=f"{part} is ready", every_s=0.01)
        return time.monotonic()

    def is_ready(self, part: str) -> bool:
        container = self.containers[part]
        assert container.is_running, f"{part} has ended:\n{container.log}"
        try:
            return requests.get(f"{self.health[part]}/health/ready", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False

    def kill(self) -> None:
        for container in self.containers.values():
            container.kill()


@contextmanager
def installed(image: Image, folder: Path) -> Iterator[Installation]:
    """All parts, each with the environment that the templates give it, under one random user id."""
    hosts = folder / "hosts"
    hosts.write_text("127.0.0.1 localhost redis postgresql\n")
    with ExitStack() as stack:
        postgresql = PostgresServer()
        postgresql.port = 5432
        stack.callback(postgresql.remove)
        postgresql.start()
        secrets = secret_values(PG_USER=postgresql.user, PG_PSW=postgresql.password)
        stack.enter_context(ClusterValkey(folder / "redis", secrets))
        source = stack.enter_context(source_of_todos())
        given = {
            "PG_DB": postgresql.new_database(),
            "SOURCE_URL": f"http://127.0.0.1:{source}/public/v2/todos",
        }
        variables, health = {}, {}
        for number, part in enumerate(APPLICATION):
            of_part = environment_in_cluster(part, secrets, **given)
            port = of_part.get("PORT")
            if port is None:
                # All share one network here, so each needs a port of its own.
                port = of_part["HEALTH_PORT"] = str(FIRST_HEALTH_PORT + number)
            variables[part] = of_part
            health[part] = f"http://127.0.0.1:{port}"
        user = random.choice(USER_IDS)
        running = Installation(
            image, folder, hosts, user, variables, {}, health, secrets["api-token"]
        )
        stack.callback(running.kill)
        for part in APPLICATION:
            running.start(part)
        for part in APPLICATION:
            running.wait_until_ready(part)
        yield running
