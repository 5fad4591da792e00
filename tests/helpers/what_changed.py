"""Markers of tests that CI runs only if files they depend on have changed. One test of each kind always runs."""

from __future__ import annotations

import pytest

from psychometrics_testbed.what_changed import FIXTURES

WHERE_SPARK_CHANGES = pytest.mark.on_change(
    "resources/cluster/**",
    "irt_assets/spark/**",
    "irt_assets/responses/lake*",
    "irt_assets/responses/snapshot*",
    "irt_assets/responses/window.py",
    "packages/irt-psychometrics/irt_psychometrics/estimation/**",
    "requirements-spark.lock",
    "tests/testbed/*spark*",
    "tests/helpers/*spark*",
    "tests/spark/**",
)
WHERE_ENGINES_CHANGE = pytest.mark.on_change(
    "irt_assets/engines/**",
    "services/r_irt/**",
    "requirements*.lock",
    *FIXTURES,
    "tests/engines/r/**",
    "tests/engines/r_service.py",
    imports=True,
)
