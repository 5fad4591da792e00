"""What estimates item parameters: the `Calibrator` protocol and one adapter module per engine. No numerics here."""

from __future__ import annotations

from typing import Protocol

from irt_assets.psychometrics.models import Calibration, Model, Responses


class Calibrator(Protocol):
    """Responses in, a `Calibration` on the fit's own scale out.

    Raises `psychometrics.errors.PsychometricsError` where the data cannot give one; a fit that did not converge is
    returned with `convergence.converged = False` and a reason.
    """

    name: str

    def calibrate(self, responses: Responses, *, model: Model, data_hash: str) -> Calibration: ...
