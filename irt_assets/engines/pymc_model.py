"""The PyMC model of one calibration, its compiled log-density, and where and how wide its posterior is. No sampling.

The model is written in its own terms, with readable priors, and serves predictive checks as it stands. Samplers work in
z with parameters = mode + L·z, where L·Lᵀ is the inverse curvature at the mode: there the posterior is nearly N(0, I)
whatever the number of items, so that a trajectory of a few steps goes from one end of it to the other.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from pymc.pytensorf import join_nonshared_inputs
from scipy.linalg import LinAlgError, cholesky, solve_triangular
from scipy.optimize import minimize

from irt_assets.engines.pymc_likelihood import Likelihood
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.models import Floats, Model, Responses

POSITIVE = ("a", "latent_sd")
"""The variables whose logarithm the sampler moves."""
_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class ModelPriors:
    """Means and SDs of the normal priors of log a (J,), of b (J,), and of the latent mean and log SD.

    `latent_mean` is None where the mean is fixed at 0, `latent_log_sd` where the SD is fixed at 1.
    """

    log_a_mean: Floats
    log_a_sd: Floats
    b_mean: Floats
    b_sd: Floats
    latent_mean: tuple[float, float] | None
    latent_log_sd: tuple[float, float] | None


def build(responses: Responses, model: Model, priors: ModelPriors, likelihood: Likelihood) -> pm.Model:
    """Free: `a` ~ LogNormal (per item; one for a 1PL; none for Rasch), `b` ~ Normal, and, where they have a prior,
    `latent_mean` ~ Normal and `latent_sd` ~ LogNormal. Observed: `scores` (R,), in the order of `responses`. Their
    density is the marginal one; drawn from, they are the answers of new learners to the same items.
    """
    with pm.Model(coords={"item": list(responses.item_ids)}) as written:
        a: Any = pt.ones(responses.n_items)
        if model == "1pl":
            a = pm.LogNormal("a", mu=priors.log_a_mean[0], sigma=priors.log_a_sd[0]) * a
        elif model == "2pl":
            a = pm.LogNormal("a", mu=priors.log_a_mean, sigma=priors.log_a_sd, dims="item")
        b = pm.Normal("b", mu=priors.b_mean, sigma=priors.b_sd, dims="item")
        mean = pt.zeros(()) if priors.latent_mean is None else pm.Normal("latent_mean", *priors.latent_mean)
        sd = pt.ones(()) if priors.latent_log_sd is None else pm.LogNormal("latent_sd", *priors.latent_log_sd)
        pm.CustomDist(
            "scores",
            a,
            b,
            mean,
            sd,
            dist=_answers(responses),
            logp=_density(likelihood),
            observed=responses.score.astype(np.int64),
        )
    return written


def _answers(responses: Responses) -> Callable[..., Any]:
    person, item = responses.person.astype(np.int64), responses.item.astype(np.int64)

    def dist(a: Any, b: Any, mean: Any, sd: Any, size: Any) -> Any:  # noqa: ARG001
        theta = pm.Normal.dist(mean, sd, shape=responses.n_persons)
        return pm.Bernoulli.dist(logit_p=a[item] * (theta[person] - b[item]))

    return dist


def _density(likelihood: Likelihood) -> Callable[..., Any]:
    def logp(scores: Any, a: Any, b: Any, mean: Any, sd: Any) -> Any:  # noqa: ARG001
        """`likelihood` holds the scores, sorted as its kernels want them."""
        return likelihood(a * sd, a * (mean - b))

    return logp


class Density:
    """The log-density of a model in its P unconstrained parameters (a and the latent SD as logarithms), compiled.

    A call releases the interpreter, so that chains run side by side in threads.
    """

    def __init__(self, model: pm.Model) -> None:
        point = model.initial_point()
        self.names = tuple(rv.name for rv in model.free_RVs)
        self.shapes = tuple(np.shape(point[value.name]) for value in model.value_vars)
        [logp], joined = join_nonshared_inputs(point, [model.logp()], model.value_vars)
        function = pytensor.function([joined], [logp, pytensor.grad(logp, joined)], mode="NUMBA")
        inner = function.vm.jit_fn

        @numba.njit(nogil=True)
        def entry(x, data):  # type: ignore[no-untyped-def]
            return inner(x, *data)

        self._entry = entry
        self._data = tuple(shared.get_value(borrow=True) for shared in function.get_shared())

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def __call__(self, x: Floats) -> tuple[float, Floats]:
        """Value and gradient (P,) at x (P,)."""
        value, gradient = self._entry(x, self._data)
        return float(value), gradient

    def flatten(self, values: dict[str, Any]) -> Floats:
        """Shape (P,), from the variables by name on their own scales."""
        parts = [np.log(values[name]) if name in POSITIVE else values[name] for name in self.names]
        return np.concatenate([np.ravel(part) for part in parts]).astype(float)

    def expand(self, x: Floats) -> dict[str, Floats]:
        """The variables by name, on their own scales, from x (…, P); each has the leading axes of x."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = np.split(x, ends[:-1], axis=-1)
        natural = (np.exp(part) if name in POSITIVE else part for name, part in zip(self.names, parts, strict=True))
        return {
            name: part.reshape((*x.shape[:-1], *shape))
            for name, part, shape in zip(self.names, natural, self.shapes, strict=True)
        }


@dataclass(frozen=True)
class Mode:
    """Where the log-density is largest, `at` (P,), and `factor` (P, P): L with L·Lᵀ = (minus the Hessian there)⁻¹."""

    at: Floats
    factor: Floats

    @property
    def covariance(self) -> Floats:
        return self.factor @ self.factor.T


def find_mode(density: Density, x: Floats) -> Mode:
    """L-BFGS from x (P,), then the Hessian by central differences of the gradient.

    Raises PsychometricsError where the curvature is not that of a maximum.
    """

    def minus(at: Floats) -> tuple[float, Floats]:
        value, gradient = density(at)
        return -value, -gradient

    found = minimize(minus, x, jac=True, method="L-BFGS-B", options={"maxiter": 1000, "ftol": 1e-13, "gtol": 1e-4})
    curvature = np.empty((len(x), len(x)))
    for k in range(len(x)):
        step = np.zeros(len(x))
        step[k] = _DIFFERENCE
        curvature[k] = (minus(found.x + step)[1] - minus(found.x - step)[1]) / (2 * _DIFFERENCE)
    try:
        upper = cholesky((curvature + curvature.T) / 2)
    except LinAlgError as error:
        raise PsychometricsError(
            "no maximum of the posterior was found to start the sampler from: the curvature is not positive. Tighten "
            "the priors, or see what the em engine says of these responses"
        ) from error
    return Mode(found.x, solve_triangular(upper, np.eye(len(x))))
