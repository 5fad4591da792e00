"""The engine remote: mirt in the R IRT service; and how mirt and brms under their own names run there, too."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Literal

from irt_assets.engines.brms_sampling import Sampling
from irt_assets.engines.spec import EngineSpec
from irt_assets.psychometrics.core.options import MODELS

if TYPE_CHECKING:
    from irt_assets.engines.r_service import Service
    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.models import Calibration, Responses
    from irt_assets.psychometrics.core.options import Model
    from resources.settings import Settings

ENGINE = "remote"
QUEUE_S = 15 * 60.0
"""Seconds to wait for an answer beyond the time of the fit, where it may have to queue behind others."""


@dataclass
class RemoteEngine:
    """mirt or brms, in the R of the service. `sampling` is brms's; the service knows where compiled models are kept."""

    service: Service
    engine: Literal["mirt", "brms"] = "mirt"
    sampling: Sampling = field(default_factory=Sampling)
    name: str = ENGINE

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """As `fit_mirt` and `fit_brms`; also raises what `Service.call` raises."""
        from irt_assets.engines import brms_fit, mirt_fit  # import NumPy

        fit = mirt_fit.fit_mirt if self.engine == "mirt" else partial(brms_fit.fit_brms, sampling=self.sampling)
        return fit(responses, call=self.service.call, model=model, data_hash=data_hash, anchors=anchors)


def engine_in_service(name: str, settings: Settings) -> RemoteEngine:
    """The engine of that name in the R IRT service, which the settings name."""
    from irt_assets.engines.r_service import Service  # imports requests

    assert settings.r_irt_base_url is not None
    assert settings.r_irt_internal_token is not None
    service = Service(
        settings.r_irt_base_url,
        settings.r_irt_internal_token.get_secret_value(),
        seconds=settings.engine_timeout_s + QUEUE_S,
    )
    return RemoteEngine(service, "brms" if name == "brms" else "mirt", Sampling(cores=settings.irt_threads or 1), name)


SPEC = EngineSpec(
    name=ENGINE,
    method="as mirt, under another name",
    models=MODELS,
    build=lambda settings: engine_in_service(ENGINE, settings),
    runs_in="R IRT service",
    kind="r",
    for_comparison=False,
)
