"""The PyMC model of one calibration, its compiled log-density, and the mode and curvature of its posterior.

The model is written with readable priors in the usual parameters, and can be used for predictive checks as it is.
Samplers work in z with parameters = mode + L·z, where L·Lᵀ is the inverse curvature at the mode. In z the posterior is
nearly N(0, I) for any number of items, so a trajectory of a few steps crosses it from one end to the other.
"""

import ctypes
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numba
import numpy as np
import pymc as pm
import pytensor
import pytensor.tensor as pt
from numba.core import cgutils
from numba.extending import intrinsic
from numba.np.numpy_support import carray
from pymc.distributions.transforms import logodds
from pymc.pytensorf import join_nonshared_inputs
from scipy.linalg import LinAlgError, block_diag, cholesky, solve_triangular
from scipy.optimize import minimize
from scipy.special import expit, logit

from irt_assets.common.arrays import Floats, Ints
from irt_assets.engines.pymc_likelihood import Likelihood
from irt_psychometrics import PsychometricsError, Responses
from irt_psychometrics.items import Beta, LogitNormal, Model, item_model

_TO_FREE: dict[str, Callable[[Any], Any]] = {"a": np.log, "latent_sd": np.log, "c": logit}
_FROM_FREE: dict[str, Callable[[Any], Any]] = {"a": np.exp, "latent_sd": np.exp, "c": expit}
"""Transformations of the variables that the sampler moves on an unconstrained scale, the same as PyMC's."""
_DIFFERENCE = 1e-4


@dataclass(frozen=True)
class ModelPriors:
    """The priors of J items and of the latent distribution.

    Attributes:
        log_a_mean, log_a_sd: mean and SD of the normal prior of log a, shape (J,).
        b_mean, b_sd, b_by_log_a: shape (J,). b given a is N(b_mean + b_by_log_a·(log a − log_a_mean), b_sd²). The slope
            b_by_log_a is 0 if the two are independent.
        c: prior of c for the items with a free c, or None for models without guessing.
        c_given: fixed values of c, shape (J,), NaN for items with a free c.
        latent_mean, latent_log_sd: mean and SD of the normal priors of the latent mean and log SD. None if the mean is
            fixed at 0 or the SD at 1, respectively.
    """

    log_a_mean: Floats
    log_a_sd: Floats
    b_mean: Floats
    b_sd: Floats
    b_by_log_a: Floats
    c: LogitNormal | Beta | None
    c_given: Floats
    latent_mean: tuple[float, float] | None
    latent_log_sd: tuple[float, float] | None

    @property
    def guessing(self) -> bool:
        """Whether any item may have a c above 0."""
        return bool(np.any(self.c_given != 0))


def build(responses: Responses, model: Model, priors: ModelPriors, likelihood: Likelihood) -> pm.Model:
    """Write the PyMC model.

    Free variables: `a` ~ LogNormal (one per item; one in all for a 1PL; none for Rasch), `b` ~ Normal, `c` ~
    LogitNormal or Beta (in a 3PL, unless given), `w` ~ Normal(0, 1), the logarithms of distances between a graded
    item's thresholds on the scale of a·θ, item by item, and, if they have a prior, `latent_mean` ~ Normal and
    `latent_sd` ~ LogNormal. Observed variable: `scores` (R,), in the order of `responses`. Its density is the marginal
    likelihood; draws from it are answers of new learners to the same items.
    """
    guessed = np.flatnonzero(np.isnan(priors.c_given))
    inner = responses.n_categories - 2
    coords = {"item": list(responses.item_ids), "guessed": [responses.item_ids[j] for j in guessed]}
    coords["inner"] = [f"{item} {k + 1}" for item, n in zip(responses.item_ids, inner, strict=True) for k in range(n)]
    with pm.Model(coords=coords) as written:
        log_a_mean, expected_b = priors.log_a_mean, priors.b_mean
        a: Any = pt.ones(responses.n_items)
        if item_model(model).common_slope:
            a = pm.LogNormal("a", mu=log_a_mean[0], sigma=priors.log_a_sd[0]) * a
        elif item_model(model).own_slopes:
            a = pm.LogNormal("a", mu=log_a_mean, sigma=priors.log_a_sd, dims="item")
            expected_b = expected_b + priors.b_by_log_a * (pt.log(a) - log_a_mean)
        b = pm.Normal("b", mu=expected_b, sigma=priors.b_sd, dims="item")
        mean = pt.zeros(()) if priors.latent_mean is None else pm.Normal("latent_mean", *priors.latent_mean)
        sd = pt.ones(()) if priors.latent_log_sd is None else pm.LogNormal("latent_sd", *priors.latent_log_sd)
        parameters = [a, b, mean, sd]
        if priors.guessing:
            c = pt.constant(priors.c_given)
            parameters.append(pt.set_subtensor(c[guessed], _guessing(priors.c)) if guessed.size else c)
        if inner.any():
            parameters.append(pm.Normal("w", 0.0, 1.0, dims="inner"))
        pm.CustomDist(
            "scores",
            *parameters,
            dist=_graded_answers(responses) if inner.any() else _answers(responses),
            logp=_density(likelihood),
            observed=responses.score.astype(np.int64),
        )
    return written


def _guessing(prior: LogitNormal | Beta | None) -> Any:
    if isinstance(prior, Beta):
        # PyTensor would make a Python number that fits into single precision a single-precision constant
        return pm.Beta("c", alpha=np.float64(prior.alpha), beta=np.float64(prior.beta), dims="guessed")
    assert prior is not None
    # unlike Beta, LogitNormal has no default transform
    return pm.LogitNormal("c", mu=prior.mean, sigma=prior.sd, dims="guessed", default_transform=logodds)


def _answers(responses: Responses) -> Callable[..., Any]:
    person, item = responses.person.astype(np.int64), responses.item.astype(np.int64)

    def dist(a: Any, b: Any, mean: Any, sd: Any, *rest: Any) -> Any:
        """Random answers. `rest`: c, if there is guessing, and the size that PyMC requests."""
        theta = pm.Normal.dist(mean, sd, shape=responses.n_persons)
        p = pt.sigmoid(a[item] * (theta[person] - b[item]))
        for c in rest[:-1]:
            p = c[item] + (1 - c[item]) * p
        return pm.Bernoulli.dist(p=p)

    return dist


def by_distances(categories: Ints) -> Floats:
    """Return B with B·exp(w) = the thresholds of graded items, item by item; the mean of an item's is 0."""
    return block_diag(*(np.tri(n - 1, n - 2, -1) - np.arange(n - 2, 0, -1) / (n - 1) for n in categories.tolist()))


def _graded_answers(responses: Responses) -> Callable[..., Any]:
    person, item = responses.person.astype(np.int64), responses.item.astype(np.int64)
    categories = responses.n_categories
    by, has = by_distances(categories), np.arange(categories.max() - 1) < categories[:, None] - 1

    def dist(a: Any, b: Any, mean: Any, sd: Any, w: Any, _size: Any) -> Any:
        """Random answers: the number of thresholds below a·(θ − b) plus a logistic error."""
        theta = pm.Normal.dist(mean, sd, shape=responses.n_persons)
        u = pt.set_subtensor(pt.constant(np.full(has.shape, np.inf))[np.nonzero(has)], by @ pt.exp(w))
        drawn = pm.Logistic.dist(a[item] * (theta[person] - b[item]), 1.0)
        return pt.sum(drawn[:, None] > u[item], axis=1)

    return dist


def _density(likelihood: Likelihood) -> Callable[..., Any]:
    def logp(scores: Any, a: Any, b: Any, mean: Any, sd: Any, *c: Any) -> Any:  # noqa: ARG001
        """Log-likelihood. `likelihood` already contains the scores, sorted as its kernels need them."""
        return likelihood(a * sd, a * (mean - b), *c)

    return logp


class Density:
    """The log-density of a model in z, with x = at + factor·z.

    x are the P unconstrained parameters: a and the latent SD as logarithms, c as logit. Before `whiten`, z equals x.

    `c_function` has the signature of the functions that nutpie compiles: (P, z, gradient, value, unused), by address.
    It returns 0 if value and gradient are finite. It does not call Python and holds no lock, so chains run in parallel
    threads.
    """

    def __init__(self, model: pm.Model) -> None:
        point = model.initial_point()
        self.names = tuple(rv.name for rv in model.free_RVs)
        self.shapes = tuple(np.shape(point[value.name]) for value in model.value_vars)
        [logp], joined = join_nonshared_inputs(point, [model.logp()], model.value_vars)
        function = pytensor.function([joined], [logp, pytensor.grad(logp, joined)], mode="NUMBA")
        self.at, self.factor = np.zeros(self.size), np.eye(self.size)
        self._data = [shared.get_value(borrow=True) for shared in function.get_shared()]
        self.c_function = _c_function(function.vm.jit_fn, (self.at, self.factor), self._data)

    @property
    def size(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes)

    def __call__(self, z: Floats) -> tuple[float, Floats]:
        """Value and gradient (P,) at z (P,). Both are NaN if one of them is not finite."""
        z, gradient, value = np.ascontiguousarray(z, dtype=float), np.empty(self.size), np.empty(1)
        at, by, into = (x.ctypes.data_as(ctypes.POINTER(ctypes.c_double)) for x in (z, gradient, value))
        if self.c_function.ctypes(self.size, at, by, into, None):
            return np.nan, np.full(self.size, np.nan)
        return float(value[0]), gradient

    def whiten(self, mode: "Mode") -> None:
        """Rescale z, so that it is 0 at the mode and the density in z equals N(0, I) to second order there."""
        self.at[:], self.factor[:] = mode.at, mode.factor

    def flatten(self, values: dict[str, Any]) -> Floats:
        """The unconstrained parameters x, shape (P,), from the variables by name, on their natural scales."""
        parts = [_TO_FREE.get(name, np.asarray)(values[name]) for name in self.names]
        return np.concatenate([np.ravel(part) for part in parts]).astype(float)

    def expand(self, x: Floats) -> dict[str, Floats]:
        """The variables by name, on their natural scales, from x (…, P). Each has the leading axes of x."""
        ends = np.cumsum([int(np.prod(shape)) for shape in self.shapes])
        parts = np.split(x, ends[:-1], axis=-1)
        natural = (_FROM_FREE.get(name, np.asarray)(part) for name, part in zip(self.names, parts, strict=True))
        return {
            name: part.reshape((*x.shape[:-1], *shape))
            for name, part, shape in zip(self.names, natural, self.shapes, strict=True)
        }


NOT_FINITE = 4
"""Error code that nutpie counts as a divergence."""


def _c_function(inner: Any, whitening: tuple[Floats, Floats], data: Sequence[np.ndarray]) -> Any:
    P = len(whitening[0])
    coordinates, answers = _views(whitening), _views(data)
    double = numba.types.CPointer(numba.types.double)

    @numba.cfunc(numba.types.int64(numba.types.uint64, double, double, double, numba.types.voidptr))
    def c_function(_size, z, gradient, value, _data):  # type: ignore[no-untyped-def]
        at, factor = coordinates()
        found, slope = inner(at + factor @ carray(z, (P,)), *answers())
        carray(value, (1,))[0] = found[()]
        carray(gradient, (P,))[:] = slope @ factor
        return 0 if np.isfinite(found[()]) and np.all(np.isfinite(slope)) else NOT_FINITE

    return c_function


def _views(arrays: Sequence[np.ndarray]) -> Any:
    """A compiled function without arguments that returns the arrays as a tuple. The code contains their addresses and
    not their values, so the arrays must live as long as the function."""
    if not arrays:
        return numba.njit(lambda: ())
    address, shape, dtype = arrays[0].ctypes.data, arrays[0].shape, arrays[0].dtype
    assert arrays[0].flags.c_contiguous
    rest = _views(arrays[1:])

    @numba.njit
    def compiled():  # type: ignore[no-untyped-def]
        return (carray(_pointer(address), shape, dtype), *rest())

    return compiled


def _typed_pointer(typing_context: Any, address: Any) -> Any:  # noqa: ARG001
    def code(_context: Any, builder: Any, _signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], cgutils.voidptr_t)

    return numba.types.voidptr(address), code


_pointer: Any = intrinsic(_typed_pointer)


@dataclass(frozen=True)
class Mode:
    """The mode of the log-density.

    Attributes:
        at: the point, shape (P,).
        factor: L with L·Lᵀ = (minus the Hessian at the mode)⁻¹, shape (P, P).
    """

    at: Floats
    factor: Floats


def find_mode(density: Density, x: Floats) -> Mode:
    """Find the mode by L-BFGS from x (P,), and the Hessian by central differences of the gradient.

    Call this before `density` is whitened. Raises PsychometricsError if the curvature is not positive definite.
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
            "the priors, or look at the fit of the em engine to these responses"
        ) from error
    return Mode(found.x, solve_triangular(upper, np.eye(len(x))))
