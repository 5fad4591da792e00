"""Adapter for our own marginal maximum likelihood engine. The numerics are in `irt_psychometrics.estimation`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Unpack, get_args

from irt_assets.engines.spec import LIGHT_POOL, EngineSpec
from irt_psychometrics.items import Model

if TYPE_CHECKING:
    from irt_psychometrics import Calibration, Responses
    from irt_psychometrics.estimation import FitRequest
    from irt_psychometrics.itemfit import ItemSums

ENGINE = "em"


@dataclass
class EmEngine:
    """The default engine.

    Attributes:
        threads: number of threads, or None for one per processor. Results do not depend on it.
        summed: for a fit on Spark, a sentence about the layout of the answers; otherwise empty.
    """

    threads: int | None = None
    name: str = ENGINE
    summed: str = field(default="", init=False)

    def calibrate(
        self,
        responses: Responses,
        *,
        groups: Sequence[str] | None = None,
        reference: str | None = None,
        **options: Unpack[FitRequest],
    ) -> Calibration:
        """See `fit_em`."""
        from irt_psychometrics.estimation import fit_em

        options["threads"] = self.threads
        return fit_em(responses, groups=groups, reference=reference, **options)

    def item_sums(self, calibration: Calibration) -> ItemSums | None:  # noqa: ARG002
        """Sums over all learners for one of the engine's fits, if its responses were a sample; otherwise None."""
        return None


SPEC = EngineSpec(
    name=ENGINE,
    method="marginal maximum likelihood, errors from the information matrix",
    models=get_args(Model),
    build=lambda settings: EmEngine(settings.irt_threads),
    runs_in="this process",
    kind="numba",
    pool=LIGHT_POOL,
    for_comparison=False,
)
