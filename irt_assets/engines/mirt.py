"""The engine mirt: R's mirt in a child process, or in the R IRT service where that is set. See `mirt_fit`."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from irt_assets.engines.child import Limits
from irt_assets.engines.r_process import call_r
from irt_assets.engines.remote import engine_in_service
from irt_assets.engines.spec import EngineSpec, RPackage
from irt_assets.psychometrics.core.options import MODELS

if TYPE_CHECKING:
    from irt_assets.engines import Calibrator
    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.models import Calibration, Responses
    from irt_assets.psychometrics.core.options import Model
    from irt_assets.psychometrics.core.priors import Priors
    from resources.settings import Settings

ENGINE = "mirt"


@dataclass
class MirtEngine:
    """R's mirt in a child process, within `limits` of time and memory; None for those of `Limits`."""

    limits: Limits | None = None
    name: str = ENGINE

    def calibrate(
        self,
        responses: Responses,
        *,
        model: Model,
        data_hash: str,
        anchors: AnchorSet | None = None,
        priors: Priors | None = None,
    ) -> Calibration:
        """As `fit_mirt`; also raises what `call_r` raises."""
        from irt_assets.engines.mirt_fit import fit_mirt  # imports NumPy

        call = partial(call_r, limits=self.limits)
        return fit_mirt(responses, call=call, model=model, data_hash=data_hash, anchors=anchors, priors=priors)


def _build(settings: Settings) -> Calibrator:
    if SPEC.in_r_service(settings):
        return engine_in_service(ENGINE, settings)
    return MirtEngine(Limits(settings.engine_timeout_s))


SPEC = EngineSpec(
    name=ENGINE,
    method="marginal maximum likelihood, errors by Oakes' identity",
    models=MODELS,
    build=_build,
    runs_in="child process",
    kind="r",
    r_packages=(RPackage("mirt"),),
)
