"""Markers of tests that the platform's CI runs only if a file they depend on changed (tests/helpers/selection.py)."""

from __future__ import annotations

import pytest

FIXTURES = ("conftest.py", "psychometrics_testbed/fixtures.py")
WHERE_STATISTICS_CHANGE = pytest.mark.on_change("requirements.lock", *FIXTURES, imports=True)
"""Marker of tests that only compute, and use nothing of the platform besides the library."""
