"""What estimates item parameters: the `Calibrator` protocol, which engines there are, and an adapter module for each.

No numerics here. Adapters are imported when one is built, because their packages take seconds to import.
"""

from __future__ import annotations

import os
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

from irt_assets.engines.child import Limits
from resources.failures import PermanentFailure
from resources.r_runtime import R_PACKAGES, why_absent

if TYPE_CHECKING:
    from irt_assets.psychometrics.linking import AnchorSet
    from irt_assets.psychometrics.models import Calibration, Model, Responses

NAMES = ("em", "pymc", "mirt", "brms")
TIMEOUT_S = 2 * 3600.0
"""After which a fit in a child process is given up."""


class Calibrator(Protocol):
    """Responses in, a `Calibration` on the fit's own scale (on that of the anchors, where there are any) out.

    Raises `psychometrics.errors.PsychometricsError` where the data cannot give one, and PermanentFailure where the
    engine itself failed; a fit that did not converge is returned with `convergence.converged = False` and a reason.
    """

    name: str

    def calibrate(
        self, responses: Responses, *, model: Model, data_hash: str, anchors: AnchorSet | None = None
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

    def draw(self, responses: Responses, *, model: Model, data_hash: str) -> Drawn: ...


def installed(name: str) -> str | None:
    """None where the engine can run here; else why it cannot, and how to install what is missing.

    Raises PermanentFailure for a name that is no engine's.
    """
    if name not in NAMES:
        raise PermanentFailure(f"there is no engine {name!r}; there are {', '.join(NAMES)}")
    if name == "pymc" and find_spec("pymc") is None:
        return "engine pymc needs the package pymc: pip install 'irt-assets[bayes]'"
    if name in R_PACKAGES:
        return why_absent(name)
    return None


def build(name: str, *, threads: int | None = None, timeout_s: float = TIMEOUT_S) -> Calibrator:
    """The engine of that name. `threads`: None for all processors. `timeout_s`: of those that run in a child process.

    Raises PermanentFailure where it is not `installed`.
    """
    absence = installed(name)
    if absence is not None:
        raise PermanentFailure(absence)
    if name == "pymc":
        from irt_assets.engines.pymc_child import PymcInChild

        return PymcInChild(timeout_s=timeout_s)
    if name == "mirt":
        from irt_assets.engines.mirt import MirtEngine

        return MirtEngine(Limits(timeout_s))
    if name == "brms":
        from irt_assets.engines.brms import BrmsEngine, Sampling
        from resources.settings import get_settings

        cores = threads or os.cpu_count() or 1
        return BrmsEngine(Sampling(cores=cores, cache=get_settings().irt_home / "compiled"), Limits(timeout_s))
    from irt_assets.engines.em import EmEngine

    return EmEngine(threads)
