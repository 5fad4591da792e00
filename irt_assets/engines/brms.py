"""The engine brms: R's brms in a child process, or in the R IRT service where that is set. See `brms_fit`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from irt_assets.engines.brms_sampling import ENGINE, MODELS, Sampling
from irt_assets.engines.child import Limits
from irt_assets.engines.r_process import call_r
from irt_assets.engines.remote import engine_in_service
from irt_assets.engines.spec import EngineSpec, RPackage

if TYPE_CHECKING:
    from irt_assets.engines import Calibrator
    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.models import Calibration, Responses
    from irt_assets.psychometrics.core.options import Model
    from resources.settings import Settings


@dataclass
class BrmsEngine:
    """R's brms in a child process, within `limits` of time and memory; None for those of `Limits`."""

    sampling: Sampling = field(default_factory=Sampling)
    limits: Limits | None = None
    name: str = ENGINE

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """As `fit_brms`; also raises what `call_r` raises."""
        from irt_assets.engines.brms_fit import fit_brms  # imports NumPy

        call = partial(call_r, limits=self.limits)
        return fit_brms(responses, call=call, model=model, data_hash=data_hash, anchors=anchors, sampling=self.sampling)


def _build(settings: Settings) -> Calibrator:
    if SPEC.in_r_service(settings):
        return engine_in_service(ENGINE, settings)
    cores = settings.irt_threads or os.cpu_count() or 1
    return BrmsEngine(Sampling(cores=cores, cache=settings.irt_home / "compiled"), Limits(settings.engine_timeout_s))


SPEC = EngineSpec(
    name=ENGINE,
    method="posterior means and SDs by Stan",
    models=MODELS,
    build=_build,
    runs_in="child process",
    kind="r",
    r_packages=(RPackage("brms", "r-cran-brms"), RPackage("rstan", "r-cran-rstan")),
)
