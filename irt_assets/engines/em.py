"""Adapter of our own marginal maximum likelihood engine. The numerics are in `psychometrics.estimation`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from irt_assets.engines.spec import LIGHT_POOL, EngineSpec
from irt_assets.psychometrics.core.options import MODELS

if TYPE_CHECKING:
    from irt_assets.psychometrics.core.anchors import AnchorSet
    from irt_assets.psychometrics.core.models import Calibration, Responses
    from irt_assets.psychometrics.core.options import Latent, Model
    from irt_assets.psychometrics.core.priors import Priors
    from irt_assets.psychometrics.fit.item_sums import ItemSums

ENGINE = "em"


@dataclass
class EmEngine:
    """The default engine. `threads`: None for all processors; results do not depend on it. `summed`: where the answers
    of its last fit were added up, if they were laid out on Spark."""

    threads: int | None = None
    name: str = ENGINE
    summed: str = field(default="", init=False)

    def calibrate(
        self,
        responses: Responses,
        *,
        model: Model,
        data_hash: str,
        priors: Priors | None = None,
        anchors: AnchorSet | None = None,
        groups: Sequence[str] | None = None,
        reference: str | None = None,
        latent: Latent = "normal",
        testlets: Mapping[str, str] | None = None,
        start: Calibration | None = None,
        likelihood_only: bool = False,
    ) -> Calibration:
        """See `fit_em`."""
        from irt_assets.psychometrics.estimation.em import fit_em

        return fit_em(
            responses,
            model=model,
            priors=priors,
            anchors=anchors,
            groups=groups,
            reference=reference,
            latent=latent,
            testlets=testlets,
            threads=self.threads,
            data_hash=data_hash,
            start=start,
            likelihood_only=likelihood_only,
        )

    def item_sums(self, calibration: Calibration) -> ItemSums | None:  # noqa: ARG002
        """Sums over all learners of one of its fits, where `responses` were those of a sample; else None."""
        return None


SPEC = EngineSpec(
    name=ENGINE,
    method="marginal maximum likelihood, errors from the information matrix",
    models=MODELS,
    build=lambda settings: EmEngine(settings.irt_threads),
    runs_in="this process",
    kind="numba",
    pool=LIGHT_POOL,
    for_comparison=False,
)
