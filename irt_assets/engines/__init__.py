"""Engines estimate item parameters. This package contains the `Calibrator` protocol, the list of engines (`registry`),
and for each engine its `SPEC` and its adapter. What does not belong here: numerics.

A module with a `SPEC` imports nothing heavy. An engine's packages, and our own numerical modules, are imported when the
engine is built or fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from irt_psychometrics import Calibration, Responses
    from irt_psychometrics.items import Model
    from irt_psychometrics.linking import AnchorSet


class Calibrator(Protocol):
    """An engine that turns responses into a `Calibration`."""

    name: str

    def calibrate(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration:
        """Calibrate on the fit's own scale or, if there are anchors, on the scale of the anchors.

        Raises PsychometricsError if the data allow no calibration, and PermanentFailure if the engine itself failed. A
        fit that did not converge is returned with `convergence.converged = False` and a reason.
        """


class SampledCalibration(NamedTuple):
    """A calibration with the posterior draws that it summarises.

    Attributes:
        parquet: the draws, as the bytes of a Parquet file.
        sampling: quality of the draws: `max_rhat`, `min_ess` (the smaller of bulk and tail ESS) and `divergences`.
    """

    calibration: Calibration
    parquet: bytes
    sampling: dict[str, Any]


@runtime_checkable
class Sampler(Protocol):
    """A Calibrator that also returns posterior draws."""

    def draw(self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str) -> SampledCalibration:
        """Calibrate, and return the draws, too. Raises the same errors as `Calibrator.calibrate`."""
