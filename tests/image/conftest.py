"""The image that was built, and one installation of it with its servers."""

import os
import random
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests

from tests.image.containers import Container, Image
from tests.image.servers import ClusterValkey, source_of_todos
from tests.support.manifests import APPLICATION, environment_in_cluster, secret_values
from tests.support.servers import PostgresServer
from tests.support.waiting import wait_until

# Of the range that OpenShift gives user ids from; the image knows none of them.
USER_IDS = range(1_000_000_000, 1_000_999_999)
FIRST_HEALTH_PORT = 8081


@dataclass(frozen=True)
class Installation:
    """Every part of the image, running, and how to speak to it."""

    image: Image
    containers: dict[str, Container]
    health: dict[str, str]
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

    def is_ready(self, part: str) -> bool:
        container = self.containers[part]
        assert container.is_running, f"{part} has ended:\n{container.log}"
        try:
            return requests.get(f"{self.health[part]}/health/ready", timeout=5).ok
        except (requests.ConnectionError, requests.Timeout):
            return False


@pytest.fixture(scope="session")
def image() -> Image:
    """The image that `build_and_run.sh` built and mounted; it says where in these variables."""
    return Image.from_description(
        Path(os.environ["IMAGE_ROOT"]), Path(os.environ["IMAGE_DESCRIPTION"])
    )


@pytest.fixture(scope="session")
def installation(image: Image, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """All parts, each with the environment that the templates give it, under one random user id."""
    folder = tmp_path_factory.mktemp("image")
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
        user = random.choice(USER_IDS)
        containers, health = {}, {}
        for number, part in enumerate(APPLICATION):
            variables = environment_in_cluster(part, secrets, **given)
            port = variables.get("PORT")
            if port is None:
                # All share one network here, so each needs a port of its own.
                port = variables["HEALTH_PORT"] = str(FIRST_HEALTH_PORT + number)
            health[part] = f"http://127.0.0.1:{port}"
            containers[part] = Container(
                image, folder, name=part, user=user, hosts=hosts, environment=variables
            )
            stack.callback(containers[part].kill)
        running = Installation(image, containers, health, secrets["api-token"])
        for part in APPLICATION:
            # Seconds on an idle machine; a busy one reads the fresh image from a cold disk.
            wait_until(lambda part=part: running.is_ready(part), 150, what=f"{part} is ready")
        yield running
