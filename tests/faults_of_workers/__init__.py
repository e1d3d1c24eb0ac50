"""Faults of lease workers: what is killed, cut, stopped, poisoned or refused, one thing at a time."""

import pytest

# What these check for every test says, when it fails, what it found.
pytest.register_assert_rewrite("tests.support.lease_workers")
