"""What tests of several engines share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from irt_assets.engines.registry import installed
from resources.r_runtime import missing_r, r_runtime
from resources.settings import Settings
from tests.testbed.kept import kept


@pytest.fixture(scope="session")
def compiled() -> Path:
    """Where Stan models are kept, as a compilation takes a minute: named by the hash of their code and versions."""
    return kept("stan", "programs", lambda _: None)


@pytest.fixture(scope="session")
def require_r(require: Callable[[bool, str], None]) -> Callable[[str], None]:
    """`require_r(engine)`: R and its packages. mirt alone may be absent where everything else is meant to be there,
    because Debian has no package of it."""

    def check(engine: str) -> None:
        require(missing_r(r_runtime()) is None, "R and rpy2 (apt install r-base-dev, make venv)")
        absence = installed(engine, Settings(_env_file=None))
        if engine == "mirt" and absence:
            pytest.skip(f"R's mirt: {absence}")
        require(absence is None, str(absence))

    return check
