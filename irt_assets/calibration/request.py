"""What is asked of an engine for one scale of a window, and what is kept beside its answer.

Belongs here: the parts of a fit that the scale's rules decide. Does not belong here: where answers come from (see
`responses.window`), which engines run and where fits are stored (see `month`, `fits`).
"""

from __future__ import annotations

from typing import Any

from irt_assets.calibration.fits import statistics_spec
from irt_assets.psychometrics.fitsummary import summarise
from irt_assets.psychometrics.models import Calibration, Responses


def fit_statistics(responses: Responses, calibration: Calibration) -> dict[str, Any]:
    """For a fit's spec: its statistics, None for one that did not converge, which is no result."""
    if not calibration.convergence.converged:
        return {"fit_statistics": None}
    return {"fit_statistics": statistics_spec(summarise(responses, calibration))}
