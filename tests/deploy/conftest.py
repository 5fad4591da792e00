"""What tests on a machine or a cluster of their file's may leave there."""

import pytest


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """Pods and servers that a test starts live on: who made the machine or the cluster ends it all."""
