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
from resources.settings import get_settings

if TYPE_CHECKING:
    from irt_assets.psychometrics.linking import AnchorSet
    from irt_assets.psychometrics.models import Calibration, Model, Responses

NAMES = ("em", "pymc", "mirt", "brms", "remote")
"""`remote` is mirt in the R IRT service; where that is set, mirt and brms run there, too, and not on this machine."""
TIMEOUT_S = 2 * 3600.0
"""After which a fit in a child process is given up."""
QUEUE_S = 15 * 60.0
"""So much longer an answer of the R IRT service is waited for, where a fit may have to wait for others."""


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

    Raises PermanentFailure for a name that is not an engine's.
    """
    if name not in NAMES:
        raise PermanentFailure(f"there is no engine {name!r}; there are {', '.join(NAMES)}")
    if name == "pymc" and find_spec("pymc") is None:
        return "engine pymc needs the package pymc: make venv EXTRAS=bayes"
    if _in_service(name):
        return _why_no_service(name)
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
    if _in_service(name):
        return _remote(name, threads, timeout_s)
    if name == "mirt":
        from irt_assets.engines.mirt import MirtEngine

        return MirtEngine(Limits(timeout_s))
    if name == "brms":
        from irt_assets.engines.brms import BrmsEngine, Sampling

        cores = threads or os.cpu_count() or 1
        return BrmsEngine(Sampling(cores=cores, cache=get_settings().irt_home / "compiled"), Limits(timeout_s))
    from irt_assets.engines.em import EmEngine

    return EmEngine(threads)


def _in_service(name: str) -> bool:
    return name == "remote" or (name in R_PACKAGES and get_settings().r_irt_base_url is not None)


def _why_no_service(name: str) -> str | None:
    settings = get_settings()
    needed = {"R_IRT_BASE_URL": settings.r_irt_base_url, "R_IRT_INTERNAL_TOKEN": settings.r_irt_internal_token}
    missing = " and ".join(setting for setting, value in needed.items() if value is None)
    return f"engine {name} calls the R IRT service: set {missing} (docs/how-to/r-service.md)" if missing else None


def _remote(name: str, threads: int | None, timeout_s: float) -> Calibrator:
    from irt_assets.engines.brms import Sampling
    from irt_assets.engines.remote import RemoteEngine, Service

    settings = get_settings()
    assert settings.r_irt_base_url is not None
    assert settings.r_irt_internal_token is not None
    service = Service(
        settings.r_irt_base_url, settings.r_irt_internal_token.get_secret_value(), seconds=timeout_s + QUEUE_S
    )
    return RemoteEngine(service, "brms" if name == "brms" else "mirt", Sampling(cores=threads or 1), name)
