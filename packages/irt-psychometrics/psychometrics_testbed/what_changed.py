"""Tests that the platform's CI runs only if a file changed on which they depend (tests/helpers/selection.py)."""

from __future__ import annotations

import pytest

FIXTURES = ("conftest.py", "psychometrics_testbed/fixtures.py")
WHERE_STATISTICS_CHANGE = pytest.mark.on_change("requirements.lock", *FIXTURES, imports=True)
"""For tests that compute and use nothing else of the platform."""
