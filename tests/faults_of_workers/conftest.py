"""What the fault tests of lease workers share."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from random import Random, SystemRandom
from typing import Any

import pytest

from tests.support.cutting_proxy import CuttingProxy
from tests.support.lease_workers import Diary, LeaseWorkerProcess
from tests.support.servers import ValkeyServer
from tests.support.workers import Nursery

StartWorker = Callable[..., LeaseWorkerProcess]


@pytest.fixture(scope="session")
def lease_nursery() -> Iterator[Nursery]:
    """Where tests get lease workers that start at once."""
    nursery = Nursery("tests.samples.lease_worker_nursery")
    yield nursery
    nursery.end()


@pytest.fixture
def kills(request: pytest.FixtureRequest) -> int:
    count: int = request.config.getoption("--kills")
    return count


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> Random:
    """Random numbers, whose seed is printed when the test fails; `--seed` gives it again."""
    given: int | None = request.config.getoption("--seed")
    seed = SystemRandom().randrange(10**9) if given is None else given
    print(f"--seed {seed}")
    return Random(seed)


@pytest.fixture
def diary(tmp_path: Path) -> Diary:
    return Diary(tmp_path / "diary")


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[CuttingProxy]:
    with CuttingProxy(valkey.port) as running:
        yield running


@pytest.fixture
def start_worker(lease_nursery: Nursery, valkey: ValkeyServer, tmp_path: Path) -> Iterator[Any]:
    """Start a worker with a child; at the end of the test whatever lives of it is killed."""
    with ExitStack() as stack:

        def start(name: str = "w", url: str | None = None, **more: Any) -> LeaseWorkerProcess:
            worker = LeaseWorkerProcess(
                lease_nursery, url or valkey.url, tmp_path / f"{name}.log", name=name, **more
            )
            return stack.enter_context(worker)

        yield start
