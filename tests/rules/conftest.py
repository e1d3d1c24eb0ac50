"""A cluster behind a stand-in for `oc`, for the tests of the scripts that call it."""

import copy
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.openshift_scripts import StandIn
from tests.support.stand_in_cluster import Cluster


@pytest.fixture
def oc(tmp_path: Path) -> Iterator[StandIn]:
    stand_in = StandIn(tmp_path)
    yield stand_in
    stand_in.stop()


@pytest.fixture(scope="session")
def a_deployed_cluster(tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    stand_in = StandIn(tmp_path_factory.mktemp("deployed"))
    done = stand_in.deploy()
    stand_in.stop()
    assert done.status == 0, done.errors
    return stand_in.cluster


@pytest.fixture
def deployed(oc: StandIn, a_deployed_cluster: Cluster) -> StandIn:
    """A cluster on which everything has been deployed."""
    oc.cluster = copy.deepcopy(a_deployed_cluster)
    return oc
