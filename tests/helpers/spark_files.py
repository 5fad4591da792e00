"""What concerns the tests on Spark that CI leaves out otherwise: one of each kind runs always."""

from __future__ import annotations

import pytest

WHERE_SPARK_CHANGES = pytest.mark.on_change(
    "resources/*spark*",
    "resources/lake.py",
    "resources/relational.py",
    "irt_assets/*/*spark*",
    "irt_assets/responses/lake*",
    "irt_assets/responses/snapshot*",
    "irt_assets/responses/window.py",
    "irt_assets/psychometrics/estimation/**",
    "requirements-spark.lock",
    "testbed/*spark*",
    "tests/helpers/*spark*",
    "tests/spark/**",
)
