"""The `.cmd` scripts run on the stand-in cluster of the tests of the scripts."""

from tests.rules.conftest import a_deployed_cluster, deployed, oc

__all__ = ["a_deployed_cluster", "deployed", "oc"]
