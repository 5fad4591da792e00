"""Fixtures for tests of several engines."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from irt_assets.engines.registry import obstacle
from resources.r_runtime import missing_r, r_runtime
from resources.settings import Settings
from tests.testbed.kept import kept


@pytest.fixture(scope="session")
def compiled() -> Path:
    """Folder of compiled Stan models, named by the hash of code and versions. A compilation takes a minute."""
    return kept("stan", "programs", lambda _: None)


@pytest.fixture(scope="session")
def require_r(require: Callable[[bool, str], None]) -> Callable[[str], None]:
    """`require_r(engine)`: require R and the engine's packages. Only mirt may be absent on machines that must have
    everything, because Debian has no package of mirt."""

    def check(engine: str) -> None:
        require(missing_r(r_runtime()) is None, "R and rpy2 (apt install r-base-dev, make venv)")
        absence = obstacle(engine, Settings(_env_file=None))
        if engine == "mirt" and absence:
            pytest.skip(f"R's mirt: {absence}")
        require(absence is None, str(absence))

    return check
