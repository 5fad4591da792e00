"""Convert `Responses` to requests to irt.R, and the values that it returns to arrays. The engines' adapters interpret
the arrays."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from irt_assets.common.arrays import Floats
from irt_assets.engines.child import EngineFailure
from irt_psychometrics import Responses
from irt_psychometrics.estimation import Estimates
from irt_psychometrics.items import Model

Call = Callable[[str, dict[str, Any]], dict[str, Any]]
"""Calls a function of irt.R by name, with its argument, in a child process or by HTTP. Returns the function's value."""

log = logging.getLogger(__name__)


def request(responses: Responses, *, engine: str, model: Model, **options: Any) -> dict[str, Any]:
    """The argument of `irt_calibrate`. `options`: its optional members."""
    return {
        "engine": engine,
        "model": model,
        "item_ids": list(responses.item_ids),
        "n_persons": responses.n_persons,
        "person": responses.person.tolist(),
        "item": responses.item.tolist(),
        "score": responses.score.tolist(),
        **options,
    }


def anchor_columns(item_ids: npt.ArrayLike, **columns: npt.ArrayLike) -> dict[str, Any]:
    """The member `anchors` of a request: the columns a, d, c and optionally a_se, b_se of these items."""
    return {"item_ids": np.asarray(item_ids).tolist()} | {
        name: np.asarray(values, dtype=float).tolist() for name, values in columns.items()
    }


@dataclass(frozen=True)
class Answer:
    """The value of `irt_calibrate`: estimates, diagnostics of the sampler, and versions of R and its packages."""

    estimates: Estimates
    diagnostics: dict[str, Any]
    versions: dict[str, str]

    @classmethod
    def from_result(cls, result: Mapping[str, Any], n_items: int) -> Self:
        """Parse an answer, and log R's warnings. Raises EngineFailure unless it is an answer for `n_items` items."""
        try:
            for warning in result["warnings"] or ():
                log.warning("R: %s", warning)
            size = len(result["cov_of"])
            estimates = Estimates(
                **{name: _numbers(result[name], (n_items,)) for name in ("a", "d", "c")},
                cov=_numbers(result["cov"], (n_items, size, size)),
                latent_mean=float(result["latent"]["mean"]),
                latent_sd=float(result["latent"]["sd"]),
                loglik=float(_numbers(result["loglik"], ())),
                n_parameters=int(result["n_parameters"]),
                converged=bool(result["converged"]),
                reason=str(result["reason"]),
                iterations=int(result["iterations"]),
                log_odds=None if (odds := result.get("log_odds")) is None else _numbers(odds, (n_items, size - 1)),
            )
            versions = {name: version for name, version in result["versions"].items() if version}
            return cls(estimates, dict(result["diagnostics"] or {}), versions)
        except (KeyError, TypeError, ValueError) as error:
            raise EngineFailure(f"R's answer does not fit {n_items} items: {error!r}") from error

    def software_versions(self, *packages: str) -> tuple[str, dict[str, str]]:
        """The versions of these packages and of R: as text, and as a mapping for `Calibration.software`."""
        software = {name: self.versions[name] for name in (*packages, "R") if name in self.versions}
        return ", ".join(f"{name} {version}" for name, version in software.items()), software


def _numbers(values: Any, shape: tuple[int, ...]) -> Floats:
    """JSON numbers and nulls as floats and NaN. Raises ValueError unless they have this shape."""
    found = np.array(values, dtype=float)
    if found.shape != shape:
        raise ValueError(f"shape {found.shape}, expected {shape}")
    return found
