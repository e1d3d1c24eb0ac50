"""What tests of one component with real servers share."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from app_srvc.runtime import Runtime
from tests.support.rq_trial import Trial
from tests.support.servers import ValkeyServer
from tests.support.web import WebWorld
from tests.support.workers import Nursery
from tests.support.worlds import open_world


@pytest.fixture
def world(valkey: ValkeyServer, ledger_url: str) -> Iterator[Runtime]:
    """A runtime on an empty Valkey and an empty database, once for each kind of database."""
    runtime = open_world(valkey.url, ledger_url)
    yield runtime
    runtime.close()


@pytest.fixture
def web(valkey: ValkeyServer, ledger_url: str) -> Iterator[WebWorld]:
    """The application on an empty Valkey and an empty ledger, once for each kind of database."""
    world = WebWorld(valkey.url, ledger_url)
    yield world
    world.close()


@pytest.fixture
def plain_web(valkey: ValkeyServer, sqlite_ledger_url: str) -> Iterator[WebWorld]:
    """The application on SQLite, for what does not depend on the kind of database."""
    world = WebWorld(valkey.url, sqlite_ledger_url)
    yield world
    world.close()


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """Where tests get worker processes that start at once."""
    nursery = Nursery()
    yield nursery
    nursery.end()


@pytest.fixture(scope="session")
def rq_nursery() -> Iterator[Nursery]:
    """Where tests get workers of RQ, and ours beside them."""
    nursery = Nursery("tests.samples.rq_nursery")
    yield nursery
    nursery.end()


@pytest.fixture
def trial(rq_nursery: Nursery, valkey: ValkeyServer, tmp_path: Path) -> Iterator[Trial]:
    """The same jobs for two of RQ's workers and for ours, each on a Redis of its own."""
    trial = Trial(rq_nursery, valkey, tmp_path)
    yield trial
    trial.close()
