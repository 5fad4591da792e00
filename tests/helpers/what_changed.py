"""What CI runs only where something changed that it concerns; one of each kind runs always."""

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
WHERE_STATISTICS_CHANGE = pytest.mark.on_change(
    "irt_assets/psychometrics/**",
    "requirements.lock",
    "testbed/misfit.py",
)
WHERE_ENGINES_CHANGE = pytest.mark.on_change(
    "irt_assets/engines/**",
    "irt_assets/psychometrics/core/**",
    "irt_assets/psychometrics/estimation/**",
    "requirements-bayes.lock",
    "requirements-r.lock",
    "services/r_irt/**",
    "tests/engines/conftest.py",
    "tests/engines/r_service.py",
)
