"""The engines in R: mirt, brms, and `remote`, which is mirt in the R IRT service under a name of its own.

If the settings name that service, mirt and brms also run there, otherwise in a child process. `mirt_fit` and `brms_fit`
write the requests and interpret the results. Imports nothing heavy.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from irt_assets.engines.child import Limits
from irt_assets.engines.r_process import call_r
from irt_assets.engines.spec import BRMS_MODELS, MIRT_MODELS, EngineSpec, RPackage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from irt_assets.engines.r_calibration import Call
    from irt_psychometrics import Calibration, Responses
    from irt_psychometrics.items import Model
    from irt_psychometrics.linking import AnchorSet
    from resources.settings import Settings

QUEUE_S = 15 * 60.0
"""Seconds added to the time limit of a fit in the service, because the request may have to queue there."""


@dataclass(frozen=True)
class Sampling:
    """Stan's sampling options.

    Four chains of 1500 draws usually meet the criteria of convergence (R-hat at most 1.01, ESS at least 1000).

    Attributes:
        draws: draws per chain that are kept.
        tune: draws per chain for tuning.
        chains: number of chains.
        cores: number of chains that run at once.
        seed: seed of the random numbers.
        cache: folder of the compiled models; compiling takes a minute and 2.6 GB. None: compile for every fit, except
            in the service, which has a cache of its own.
    """

    draws: int = 1500
    tune: int = 500
    chains: int = 4
    cores: int = 1
    seed: int = 61
    cache: Path | None = None

    def as_options(self) -> dict[str, int | str]:
        stated = {name: value for name, value in vars(self).items() if value is not None}
        return {name: str(value) if name == "cache" else value for name, value in stated.items()}


@dataclass
class REngine:
    """mirt or, if `sampling` is set, brms. `call` runs R in a child process or in the service."""

    name: str
    call: Call = call_r
    sampling: Sampling | None = None

    def calibrate(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """Fit with `fit_mirt` or `fit_brms`. Also raises the errors of `call`."""
        from irt_assets.engines import brms_fit, mirt_fit  # import NumPy

        if self.sampling is None:
            return mirt_fit.fit_mirt(responses, call=self.call, model=model, data_hash=data_hash, anchors=anchors)
        return brms_fit.fit_brms(
            responses,
            call=self.call,
            model=model,
            options=self.sampling.as_options(),
            data_hash=data_hash,
            anchors=anchors,
        )


def _call(settings: Settings) -> Call:
    if settings.r_irt_base_url is None:
        return partial(call_r, limits=Limits(settings.engine_timeout_s))
    from irt_assets.engines.r_service import Service  # imports requests

    assert settings.r_irt_internal_token is not None
    token = settings.r_irt_internal_token.get_secret_value()
    return Service(settings.r_irt_base_url, token, seconds=settings.engine_timeout_s + QUEUE_S).call


def _brms(settings: Settings) -> REngine:
    if BRMS.in_r_service(settings):
        sampling = Sampling(cores=settings.irt_threads or 1)
    else:
        cores = settings.irt_threads or os.cpu_count() or 1
        sampling = Sampling(cores=cores, cache=settings.irt_home / "compiled")
    return REngine("brms", _call(settings), sampling)


MIRT = EngineSpec(
    name="mirt",
    method="marginal maximum likelihood, errors by Oakes' identity",
    models=MIRT_MODELS,
    build=lambda settings: REngine("mirt", _call(settings)),
    runs_in="child process",
    kind="r",
    r_packages=(RPackage("mirt"),),
)
BRMS = EngineSpec(
    name="brms",
    method="posterior means and SDs by Stan",
    models=BRMS_MODELS,
    build=_brms,
    runs_in="child process",
    kind="r",
    r_packages=(RPackage("brms", "r-cran-brms"), RPackage("rstan", "r-cran-rstan")),
)
REMOTE = EngineSpec(
    name="remote",
    method="the same as mirt, in the R IRT service",
    models=MIRT_MODELS,
    build=lambda settings: REngine("remote", _call(settings)),
    runs_in="R IRT service",
    kind="r",
    for_comparison=False,
)
