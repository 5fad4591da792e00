"""Engines estimate item parameters. Here: the `Calibrator` protocol; which engines exist (`registry`); and a module
for each, with its `SPEC` and what calls it. No numerics.

A module with a `SPEC` imports nothing heavy: the engine's packages, and ours that compute, when one is built or fits.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from irt_psychometrics import Calibration, Responses
    from irt_psychometrics.items import Model
    from irt_psychometrics.linking import AnchorSet


class Calibrator(Protocol):
    """Responses in, a `Calibration` on the fit's own scale (on that of the anchors, where there are any) out.

    Raises PsychometricsError where the data cannot give one, and PermanentFailure where the
    engine itself failed; a fit that did not converge is returned with `convergence.converged = False` and a reason.
    """

    name: str

    def calibrate(
        self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration: ...


class Drawn(NamedTuple):
    """A calibration with the posterior draws that it summarises, as a Parquet file, and how good they are: `max_rhat`,
    `min_ess` (the smaller of bulk and tail) and `divergences`."""

    calibration: Calibration
    parquet: bytes
    sampling: dict[str, Any]


@runtime_checkable
class Sampler(Protocol):
    """A Calibrator whose draws can be kept. Raises as `Calibrator.calibrate` does."""

    def draw(self, responses: Responses, *, model: Model | Sequence[Model], data_hash: str) -> Drawn: ...
