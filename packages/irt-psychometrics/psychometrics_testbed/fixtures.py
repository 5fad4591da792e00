"""Fixtures for every test of the library's numbers, and the examples that hypothesis tries.

This is a pytest plugin, loaded by the `conftest.py` files of the library and the platform.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hypothesis
import numpy as np
import pytest

from irt_psychometrics.core.item_models import ITEM_MODELS
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation import standard_errors
from irt_psychometrics.itemfit import item_statistics
from psychometrics_testbed.trial_item_model import MODEL

# Examples are the same each time; `--hypothesis-profile=new` searches for new ones. They have no deadline, because
# their time depends on how busy the machine is.
untimed = hypothesis.settings(deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.register_profile("new", untimed, derandomize=False)
hypothesis.settings.register_profile("same", untimed, derandomize=True, database=None)
hypothesis.settings.load_profile("same")


@pytest.fixture(scope="session")
def require() -> Callable[[bool, str], None]:
    """`require(present, what)` skips the test if `what` is absent, or fails it if IRT_REQUIRE_ALL=1."""

    def check(present: bool, what: str) -> None:
        if present:
            return
        if os.environ.get("IRT_REQUIRE_ALL") == "1":
            pytest.fail(f"{what}: absent, and IRT_REQUIRE_ALL=1")
        pytest.skip(f"{what}: absent")

    return check


@pytest.fixture(scope="session")
def shared(require: Callable[[bool, str], None]) -> Path:
    """Folder of reference data and real logs: $IRT_SHARED, else `shared` next to the repository."""
    folder = Path(os.environ.get("IRT_SHARED", Path(__file__).parents[4] / "shared")).absolute()
    require(folder.is_dir(), f"shared folder {folder}")
    return folder


@pytest.fixture(scope="session")
def reference_answers(shared: Path) -> Callable[[str], Responses]:
    """`reference_answers(name)` reads a data set of shared/reference."""

    def read(name: str) -> Responses:
        path = shared / "reference" / f"{name}.csv"
        ids = [item.strip('"') for item in path.read_text().splitlines()[0].split(",")]
        return Responses.from_wide(np.genfromtxt(path, delimiter=",", skip_header=1), ids)

    return read


@pytest.fixture
def simulate_about(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`simulate_about(n)` computes the distribution of item fit statistics under the model from about n responses, for
    tests that do not need its third digit."""
    return partial(monkeypatch.setattr, item_statistics, "SIMULATED_RESPONSES")


@pytest.fixture
def full_covariance_up_to(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """`full_covariance_up_to(n)` computes covariances between items only in fits of at most n items."""
    return partial(monkeypatch.setattr, standard_errors, "FULL_COVARIANCE_ITEMS")


@pytest.fixture
def trial_model(monkeypatch: pytest.MonkeyPatch) -> str:
    """Register a new item model for the time of a test, and return the model's name."""
    monkeypatch.setitem(ITEM_MODELS, MODEL.name, MODEL)
    return MODEL.name
