"""Criteria of curves in one direction and in both: published constants, and another program's way to the minimum."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize

from irt_assets.psychometrics.core.anchors import AnchorSet
from irt_assets.psychometrics.core.covariances import block_diagonal
from irt_assets.psychometrics.core.items import ItemParameters
from irt_assets.psychometrics.core.models import Calibration, Convergence, Population
from irt_assets.psychometrics.core.options import Method, Model
from irt_assets.psychometrics.linking.criteria import Pairs, q_test, solve
from irt_assets.psychometrics.linking.linking import link
from tests.testbed.made_anchors import anchor_set_of

METHODS = ("stocking-lord", "haebara")

FORM_X = """
    0.4551 -0.7101 0.2087   0.5839 -0.8567 0.2038   0.7544  0.0212 0.1600   0.6633  0.0506 0.1240
    1.0690  0.9610 0.2986   0.9672  0.1950 0.0535   0.3479  2.2768 0.1489   1.4579  1.0241 0.2453
    1.8811  1.4062 0.1992   0.7020  2.2401 0.0853   1.4080  1.5556 0.0789   1.2993  2.1589 0.1075"""
FORM_Y = """
    0.4416 -1.3349 0.1559   0.5730 -1.3210 0.1913   0.5987 -0.7098 0.1177   0.6041 -0.3539 0.0818
    0.9902  0.5320 0.3024   0.8081 -0.1156 0.0648   0.4140  2.5538 0.2410   1.3554  0.5811 0.2243
    1.0417  0.9392 0.1651   0.6336  1.8960 0.0794   1.1347  1.0790 0.0630   0.9255  2.1337 0.1259"""
"""a, b, c of the 12 common items of Kolen & Brennan (2004), Table 6.5."""


def columns(form: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    a, b, c = np.array(form.split(), dtype=float).reshape(-1, 3).T
    return a, b, c


def pairs_of(new: tuple[np.ndarray, ...], old: tuple[np.ndarray, ...], theta: np.ndarray, weights: np.ndarray) -> Pairs:
    """In one direction, over these nodes of the old scale."""
    k, no_errors = len(new[0]), np.zeros((len(new[0]), 2, 2))
    weights = weights / weights.sum()
    ids = tuple(f"i{j}" for j in range(k))
    return Pairs(
        ItemParameters(ids, *new, no_errors), ItemParameters(ids, *old, no_errors), ("3pl",) * k, theta, weights
    )  # fmt: skip


UNIFORM = np.linspace(-4, 4, 40), np.ones(40)
NORMAL = np.linspace(-4, 4, 30), np.exp(-(np.linspace(-4, 4, 30) ** 2) / 2)


@pytest.mark.parametrize(
    ("method", "symmetric", "new", "old", "slope", "intercept"),
    [
        ("haebara", False, FORM_X, FORM_Y, 1.112133, -0.465667),
        ("stocking-lord", False, FORM_X, FORM_Y, 1.119231, -0.485545),
        ("haebara", False, FORM_Y, FORM_X, 0.907748, 0.408260),
        ("stocking-lord", False, FORM_Y, FORM_X, 0.900655, 0.425961),
        ("haebara", True, FORM_X, FORM_Y, 1.088233, -0.504619),
        ("stocking-lord", True, FORM_X, FORM_Y, 1.109529, -0.519901),
    ],
)
def test_constants_are_the_published_ones(
    method: Method, symmetric: bool, new: str, old: str, slope: float, intercept: float
) -> None:
    """Weeks (2010), plink, J. Statistical Software 35(12), section 4.1: with D = 1, over 40 nodes of equal weight, and,
    symmetric, over 30 with normal weights on both scales."""
    theta, weights = NORMAL if symmetric else UNIFORM
    pairs = pairs_of(columns(new), columns(old), theta, weights)
    if symmetric:
        pairs = replace(pairs, nodes_new=pairs.nodes, weights_new=pairs.weights)
    found = solve(pairs, method, weighted=False)
    assert found is not None
    # published to six decimals, and found there by a general optimiser
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=2e-6)


# --- an independent minimiser ------------------------------------------------------------------------------------


def criterion(constants, new, old, method, over_old, over_new) -> float:
    """As Kim & Kolen (2007) define it. new, old: a, b, c of items; over_old, over_new: θ and weight of nodes."""

    def probability(theta: np.ndarray, a: float, b: float, c: float) -> np.ndarray:
        return c + (1 - c) / (1 + np.exp(-a * (theta - b)))

    def squares(nodes, weights, these, those) -> float:
        off = [probability(nodes, *x) - probability(nodes, *y) for x, y in zip(these, those, strict=True)]
        squared = sum(off) ** 2 if method == "stocking-lord" else sum(d * d for d in off)
        return (weights / weights.sum()) @ squared if weights.size else 0.0

    slope, intercept = constants
    new, old = list(zip(*new, strict=True)), list(zip(*old, strict=True))
    new_moved = [(a / slope, slope * b + intercept, c) for a, b, c in new]
    old_moved = [(a * slope, (b - intercept) / slope, c) for a, b, c in old]
    return squares(*over_old, old, new_moved) + squares(*over_new, new, old_moved)


def brute_force(*args, fixed_slope: bool = False) -> tuple[float, float]:
    """The best of a grid, and from there downhill without derivatives until nothing moves by 1e-9."""
    slopes = [1.0] if fixed_slope else np.linspace(0.5, 2.0, 7)
    start = min(((s, i) for s in slopes for i in np.linspace(-1.5, 1.5, 7)), key=lambda x: criterion(x, *args))
    if fixed_slope:
        fine = minimize(lambda x: criterion((1.0, x[0]), *args), start[1:], method="Nelder-Mead", options=FINE)
        return 1.0, float(fine.x[0])
    fine = minimize(criterion, start, args=args, method="Nelder-Mead", options=FINE)
    return float(fine.x[0]), float(fine.x[1])


FINE = {"xatol": 1e-9, "fatol": 0.0, "maxiter": 300}
NODES = np.linspace(-6, 6, 61)
DENSITIES = np.exp(-(NODES**2) / 2)
NOWHERE = np.empty(0), np.empty(0)


def world(model: Model, seed: int, populations: tuple[Population, ...] = ()) -> tuple[Calibration, AnchorSet]:
    """Nine anchors that differ by slope 1.2 (Rasch: 1), intercept 0.5 and errors as of a few hundred learners; learners
    of the window N(0.3, 1.3²)."""
    rng = np.random.default_rng(seed)
    k, slope = 9, 1.0 if model == "rasch" else 1.2
    ids = tuple(f"i{j}" for j in range(k))
    a = np.ones(k) if model == "rasch" else rng.lognormal(0, 0.3, k)
    a_new = np.ones(k) if model == "rasch" else a * slope * rng.lognormal(0, 0.15, k)
    b = rng.normal(0, 1, k)
    b_new = (b - 0.5) / slope + rng.normal(0, 0.15, k)
    c, c_new = rng.uniform(0.1, 0.3, (2, k)) if model == "3pl" else np.zeros((2, k))
    se = np.full(k, 0.1)
    cov = np.tile(np.diag([0.0 if model == "rasch" else 0.01, 0.01]), (k, 1, 1))
    fit = Calibration(
        item_ids=ids, models=(model,) * k, engine="em", engine_version="test", a=a_new, d=-a_new * b_new, c=c_new,
        cov=cov, joint_cov=None, n=np.full(k, 999), n_correct=np.full(k, 500), flags=((),) * k, latent_mean=0.3,
        latent_sd=1.3, n_persons=999, convergence=Convergence(True, 9, 0.0, 0.0, -1.0, 2 * k), populations=populations,
    )  # fmt: skip
    a_se = np.zeros(k) if model == "rasch" else se
    anchors = anchor_set_of(
        "math", "1", ids, a, b, c, a_se, se, np.zeros(k), (None,) * k, errors_assumed=np.ones(k, dtype=bool)
    )
    return fit, anchors


@pytest.mark.parametrize("model", ["rasch", "2pl", "3pl"])
@pytest.mark.parametrize("symmetric", [False, True])
@pytest.mark.parametrize("method", METHODS)
def test_constants_are_where_an_independent_minimiser_finds_them(model: Model, symmetric: bool, method: Method) -> None:
    fit, anchors = world(model, seed=3)
    found = link(fit, anchors, method=method, symmetric=symmetric, purify=False)
    over_new = (0.3 + 1.3 * NODES, DENSITIES) if symmetric else NOWHERE
    new, old = (fit.a, fit.b, fit.c), (anchors.a, anchors.b, anchors.c)
    expected = brute_force(new, old, method, (NODES, DENSITIES), over_new, fixed_slope=model == "rasch")
    # a search by values alone stops at about the root of machine precision, 1e-8
    assert (found.slope, found.intercept) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_a_symmetric_criterion_is_over_the_windows_histogram_on_the_windows_scale(method: Method) -> None:
    nodes, weights = np.linspace(-3, 4, 15), np.linspace(1, 3, 15)
    weights /= weights.sum()
    histogram = Population("all", 999, 0.3, 1.3, 0.0, 0.0, tuple(nodes), tuple(weights))
    fit, anchors = world("2pl", seed=4, populations=(histogram,))
    found = link(fit, anchors, method=method, symmetric=True, purify=False)
    new, old = (fit.a, fit.b, fit.c), (anchors.a, anchors.b, anchors.c)
    expected = brute_force(new, old, method, (NODES, DENSITIES), (nodes, weights))
    assert (found.slope, found.intercept) == pytest.approx(expected, abs=1e-5)  # as above


# --- Q, and a second ability -------------------------------------------------------------------------------------


def disagreeing(model: Model, seed: int = 3) -> tuple[Pairs, np.ndarray]:
    """Nine anchors with correlated errors of a and b, and loadings."""
    rng = np.random.default_rng(seed)
    k = 9
    a_old, b_old = np.ones(k) if model == "rasch" else rng.lognormal(0, 0.3, k), rng.normal(0, 1, k)
    a_new, b_new = a_old * (1 if model == "rasch" else rng.lognormal(0.1, 0.2, k)), b_old + rng.normal(0.3, 0.3, k)
    cov_new, cov_old = (np.tile([[0.01, s], [s, 0.02]], (k, 1, 1)) for s in (0.004, -0.003))
    ids = tuple(f"i{j}" for j in range(k))
    new, old = ((a_new, b_new, np.zeros(k), cov_new), (a_old, b_old, np.zeros(k), cov_old))
    return Pairs(ItemParameters(ids, *new), ItemParameters(ids, *old), (model,) * k), rng.normal(0, 0.3, k)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
@pytest.mark.parametrize("with_loadings", [False, True])
def test_q_is_the_least_that_its_constants_leave(model: Model, with_loadings: bool) -> None:
    """Against a minimiser over the differences as they are, V and the slope's derivative held where Q takes them. It
    stops where nothing moves by 1e-9; Q is flat there."""
    pairs, loadings = disagreeing(model)
    slope, intercept = (1.0 if model == "rasch" else 0.95), 0.1
    use = pairs.tested
    v = np.linalg.inv(block_diagonal(pairs.errors_of_tested(slope)))
    at = pairs.differences(slope, intercept)

    def left(x: np.ndarray) -> float:
        log_slope, more, shift = x
        log_slope *= pairs.free_slope
        moved = np.stack([at[:, 0] - log_slope, at[:, 1] + slope * log_slope * pairs.new.b + more], axis=1)
        moved[:, 1] += with_loadings * shift * loadings / pairs.old.a
        return float(moved.ravel()[use] @ v @ moved.ravel()[use])

    found = q_test(pairs, slope, intercept, loadings if with_loadings else None)
    least = minimize(left, np.zeros(3), method="Nelder-Mead", options=FINE | {"maxiter": 2000})
    assert found.q == pytest.approx(least.fun, rel=1e-6)
    assert found.df == use.sum() - (1 if model == "rasch" else 2) - with_loadings
    if with_loadings:
        # its standard error leads to where Q is higher by 1
        assert found.shift == pytest.approx(least.x[2], abs=1e-5)
        beyond = minimize(
            lambda x: left(np.append(x, found.shift + found.shift_se)), np.zeros(2), method="Nelder-Mead", options=FINE
        )
        assert beyond.fun == pytest.approx(found.q + 1, rel=1e-5)


def test_a_shift_along_the_loadings_leaves_no_disagreement() -> None:
    """d is higher by λ·0.4, that is b lower by λ·0.4/a."""
    pairs, loadings = disagreeing("2pl")
    shifted = replace(pairs.new, a=pairs.old.a, b=pairs.old.b - 0.4 * loadings / pairs.old.a)
    exact = replace(pairs, new=shifted)
    assert q_test(exact, 1.0, 0.0).q > 1
    found = q_test(exact, 1.0, 0.0, loadings)
    assert (found.q, found.shift) == (pytest.approx(0, abs=1e-9), pytest.approx(0.4))


@pytest.mark.parametrize("none", [np.zeros(9), np.ones(9)])
def test_loadings_that_say_nothing_beside_the_constants_cost_no_degree_of_freedom(none: np.ndarray) -> None:
    """Equal loadings in a Rasch fit are the intercept."""
    pairs, _ = disagreeing("rasch")
    assert q_test(pairs, 1.0, 0.0, none) == q_test(pairs, 1.0, 0.0)
