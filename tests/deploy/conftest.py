"""Tests of this folder may leave processes on their file's machine or cluster."""

import pytest


@pytest.fixture(autouse=True)
def no_leftovers() -> None:
    """Allow pods and servers to outlive a test. The fixture of the machine or cluster ends them."""
