"""The engine brms: R's brms in a child process, or in the R IRT service where that is set. See `brms_fit`."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

from irt_assets.engines.spec import EngineSpec, RPackage

if TYPE_CHECKING:
    from pathlib import Path

    from irt_assets.engines import Calibrator
    from irt_assets.engines.child import Limits
    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.models import Calibration, Responses
    from irt_assets.psychometrics.core.options import Model
    from resources.settings import Settings

ENGINE = "brms"


@dataclass(frozen=True)
class Sampling:
    """How long Stan samples, and where the compiled models are kept: a compilation takes a minute and 2.6 GB.

    `draws` and `tune` are per chain; `cores` chains run at once; `cache` None compiles again for every fit. The limits
    below which a fit has not converged (R-hat 1.01, ESS 1000) are met by four chains of 1500 draws as a rule.
    """

    draws: int = 1500
    tune: int = 500
    chains: int = 4
    cores: int = 1
    seed: int = 61
    cache: Path | None = None

    def as_options(self) -> dict[str, int | str]:
        numbers = {name: getattr(self, name) for name in ("draws", "tune", "chains", "cores", "seed")}
        return numbers | ({} if self.cache is None else {"cache": str(self.cache)})


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
        from irt_assets.engines.brms_fit import fit_brms
        from irt_assets.engines.r_process import call_r

        call = partial(call_r, limits=self.limits)
        return fit_brms(responses, call=call, model=model, data_hash=data_hash, anchors=anchors, sampling=self.sampling)


def _build(settings: Settings) -> Calibrator:
    from irt_assets.engines.child import Limits
    from irt_assets.engines.remote import engine_in_service

    if SPEC.in_r_service(settings):
        return engine_in_service(ENGINE, settings)
    cores = settings.irt_threads or os.cpu_count() or 1
    return BrmsEngine(Sampling(cores=cores, cache=settings.irt_home / "compiled"), Limits(settings.engine_timeout_s))


SPEC = EngineSpec(
    name=ENGINE,
    method="posterior means and SDs by Stan",
    models=("rasch", "1pl", "2pl"),
    build=_build,
    runs_in="child process",
    kind="r",
    r_packages=(RPackage("brms", "r-cran-brms"), RPackage("rstan", "r-cran-rstan")),
)
