"""What estimates item parameters: the `Calibrator` protocol, which engines there are, and an adapter module for each.

No numerics here. Adapters are imported when one is built, because their packages take seconds to import.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol

from resources.failures import PermanentFailure

if TYPE_CHECKING:
    from irt_assets.psychometrics.linking import AnchorSet
    from irt_assets.psychometrics.models import Calibration, Model, Responses

NAMES = ("em", "pymc", "mirt", "brms")


class Calibrator(Protocol):
    """Responses in, a `Calibration` on the fit's own scale (on that of the anchors, where there are any) out.

    Raises `psychometrics.errors.PsychometricsError` where the data cannot give one, and PermanentFailure where the
    engine itself failed; a fit that did not converge is returned with `convergence.converged = False` and a reason.
    """

    name: str

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
    ) -> Calibration: ...


def installed(name: str) -> str | None:
    """None where the engine can run here; else why it cannot, and how to install what is missing.

    Raises PermanentFailure for a name that is no engine's.
    """
    if name not in NAMES:
        raise PermanentFailure(f"there is no engine {name!r}; there are {', '.join(NAMES)}")
    if name == "pymc" and find_spec("pymc") is None:
        return "engine pymc needs the package pymc: pip install 'irt-assets[bayes]'"
    if name in ("mirt", "brms"):
        return f"engine {name} runs in R and is not part of this version; em fits the same models"
    return None


def build(name: str, *, threads: int | None = None) -> Calibrator:
    """The engine of that name. `threads`: None for all processors.

    Raises PermanentFailure where it is not `installed`.
    """
    absence = installed(name)
    if absence is not None:
        raise PermanentFailure(absence)
    if name == "pymc":
        from irt_assets.engines.pymc import PymcEngine

        return PymcEngine()
    from irt_assets.engines.em import EmEngine

    return EmEngine(threads)
