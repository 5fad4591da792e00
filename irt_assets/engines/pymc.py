"""The engine pymc: `pymc_engine.PymcEngine` in a child process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from irt_assets.engines.spec import PYMC_MODELS, EngineSpec, PythonPackage
from resources.version import way_to_install

if TYPE_CHECKING:
    from irt_assets.engines import Calibrator
    from resources.settings import Settings

ENGINE = "pymc"


def _build(settings: Settings) -> Calibrator:
    from irt_assets.engines.pymc_child import PymcInChild  # imports NumPy

    return PymcInChild(timeout_s=settings.engine_timeout_s)


SPEC = EngineSpec(
    name=ENGINE,
    method="posterior means and SDs by NUTS, abilities integrated out",
    models=PYMC_MODELS,
    build=_build,
    runs_in="child process",
    kind="pymc",
    has_draws=True,
    python_packages=tuple(PythonPackage(name, way_to_install("bayes")) for name in ("pymc", "nutpie")),
)
