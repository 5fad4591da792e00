"""Adapter of our own marginal maximum likelihood engine. The numerics are in `psychometrics.em`."""

from __future__ import annotations

from dataclasses import dataclass

from irt_assets.psychometrics.em import ENGINE, fit_em
from irt_assets.psychometrics.models import Calibration, Model, Responses


@dataclass
class EmEngine:
    """The default engine. `threads`: None for all processors; results do not depend on it."""

    threads: int | None = None
    name: str = ENGINE

    def calibrate(self, responses: Responses, *, model: Model, data_hash: str) -> Calibration:
        return fit_em(responses, model=model, threads=self.threads, data_hash=data_hash)
