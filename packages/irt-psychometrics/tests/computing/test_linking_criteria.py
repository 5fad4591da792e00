"""Criteria of curves in one direction and in both: published constants, an independent minimiser, simulated months."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.special import expit, logit

from irt_psychometrics import Calibration
from irt_psychometrics.core.covariances import block_diagonal
from irt_psychometrics.estimation import Convergence, Population
from irt_psychometrics.items import ItemParameters, Model
from irt_psychometrics.linking import AnchorSet, Method, link_to_anchors
from irt_psychometrics.linking.criteria import AnchorPairs, solve
from psychometrics_testbed.linked_months import CRITERIA, INTERCEPT, SLOPE, calibration, month
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

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


def pairs_of(
    new: tuple[np.ndarray, ...], old: tuple[np.ndarray, ...], theta: np.ndarray, weights: np.ndarray
) -> AnchorPairs:
    """Anchor pairs for a criterion in one direction, over these nodes of the old scale."""
    k, no_errors = len(new[0]), np.zeros((len(new[0]), 2, 2))
    weights = weights / weights.sum()
    ids = tuple(f"i{j}" for j in range(k))
    return AnchorPairs(
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
def test_constants_match_the_published_values(
    method: Method, symmetric: bool, new: str, old: str, slope: float, intercept: float
) -> None:
    """Weeks (2010), plink, J. Statistical Software 35(12), section 4.1: with D = 1, over 40 nodes of equal weight, or
    symmetric over 30 nodes with normal weights on both scales."""
    theta, weights = NORMAL if symmetric else UNIFORM
    pairs = pairs_of(columns(new), columns(old), theta, weights)
    if symmetric:
        pairs = replace(pairs, nodes_new=pairs.nodes, weights_new=pairs.weights)
    found = solve(pairs, method, weighted=False)
    # published with six decimals, from a general optimiser
    assert (found.slope, found.intercept) == pytest.approx((slope, intercept), abs=2e-6)


# --- an independent minimiser ------------------------------------------------------------------------------------


def criterion(constants, new, old, method, over_old, over_new) -> float:
    """Kim & Kolen's (2007) criterion. new, old: a, b, c of items; over_old, over_new: θ and weight of nodes."""

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
    """Minimum by a grid, and from there by Nelder-Mead until no parameter moves by 1e-9."""
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
    """Nine anchors that differ by slope 1.2 (Rasch: 1), intercept 0.5 and errors of a few hundred learners. Learners of
    the window are N(0.3, 1.3²)."""
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
def test_constants_match_an_independent_minimiser(model: Model, symmetric: bool, method: Method) -> None:
    fit, anchors = world(model, seed=3)
    found = link_to_anchors(fit, anchors, method=method, symmetric=symmetric, purify=False)
    over_new = (0.3 + 1.3 * NODES, DENSITIES) if symmetric else NOWHERE
    new, old = (fit.a, fit.b, fit.c), (anchors.a, anchors.b, anchors.c)
    expected = brute_force(new, old, method, (NODES, DENSITIES), over_new, fixed_slope=model == "rasch")
    # a search without derivatives stops at about the root of machine precision, 1e-8
    assert (found.slope, found.intercept) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_symmetric_criterion_uses_the_windows_histogram_on_the_windows_scale(method: Method) -> None:
    nodes, weights = np.linspace(-3, 4, 15), np.linspace(1, 3, 15)
    weights /= weights.sum()
    histogram = Population("all", 999, 0.3, 1.3, 0.0, 0.0, tuple(nodes), tuple(weights))
    fit, anchors = world("2pl", seed=4, populations=(histogram,))
    found = link_to_anchors(fit, anchors, method=method, symmetric=True, purify=False)
    new, old = (fit.a, fit.b, fit.c), (anchors.a, anchors.b, anchors.c)
    expected = brute_force(new, old, method, (NODES, DENSITIES), (nodes, weights))
    assert (found.slope, found.intercept) == pytest.approx(expected, abs=1e-5)  # as above


# --- Q ------------------------------------------------------------------------------------------------------------


def disagreeing(model: Model, seed: int = 3) -> AnchorPairs:
    """Nine anchors with correlated errors of a and b."""
    rng = np.random.default_rng(seed)
    k = 9
    a_old, b_old = np.ones(k) if model == "rasch" else rng.lognormal(0, 0.3, k), rng.normal(0, 1, k)
    a_new, b_new = a_old * (1 if model == "rasch" else rng.lognormal(0.1, 0.2, k)), b_old + rng.normal(0.3, 0.3, k)
    cov_new, cov_old = (np.tile([[0.01, s], [s, 0.02]], (k, 1, 1)) for s in (0.004, -0.003))
    ids = tuple(f"i{j}" for j in range(k))
    new, old = ((a_new, b_new, np.zeros(k), cov_new), (a_old, b_old, np.zeros(k), cov_old))
    return AnchorPairs(ItemParameters(ids, *new), ItemParameters(ids, *old), (model,) * k)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl"])
@pytest.mark.parametrize("tau", [0.0, 0.2])
def test_q_matches_an_independent_minimiser(model: Model, tau: float) -> None:
    """Minimises over the differences, with V and the slope's derivative fixed at the constants of Q, with and without
    an offset of some items. Errors that items share are given separately, or in one matrix with each item's own."""
    pairs = disagreeing(model)
    slope, intercept = (1.0 if model == "rasch" else 0.95), 0.1
    own = pairs.differences(slope, intercept).with_variation(np.array([0.0, tau**2]))
    rng = np.random.default_rng(8)
    at = replace(own, common=rng.normal(0, 0.1, (pairs.size, 2, 3)), common_cov=np.diag([1.0, 0.5, 2.0]))
    by_common = at.common.reshape(-1, 3)
    v = block_diagonal(own.cov) + by_common @ at.common_cov @ by_common.T
    used, others = at.used.ravel(), np.arange(pairs.size) % 3 == 0
    weight = np.linalg.inv(v[np.ix_(used, used)])
    d1 = np.log(pairs.new.a) - np.log(slope) - np.log(pairs.old.a)
    d2 = slope * pairs.new.b + intercept - pairs.old.b

    def left(x: np.ndarray) -> float:
        log_slope, more, offset = x[0] * pairs.free_slope, x[1], (x[2] if len(x) > 2 else 0.0) * others
        moved = np.stack([d1 - log_slope, d2 + slope * log_slope * pairs.new.b + more + offset], axis=1)
        return float(moved.ravel()[used] @ weight @ moved.ravel()[used])

    df = used.sum() - (1 if model == "rasch" else 2)
    for found, constants in ((at, 2), (at.shift_b(others, 0.0), 3)):
        least = minimize(left, np.zeros(constants), method="Nelder-Mead", options=FINE | {"maxiter": 2000})
        in_one = replace(found, cov=v[None], common=None)
        for by in (found.q_statistic(at.used), in_one.q_statistic(at.used)):
            # the search stops when nothing moves by 1e-9; Q is flat there
            assert by.q == pytest.approx(least.fun, rel=1e-6)
            assert by.df == df - (constants - 2)
        np.testing.assert_allclose(found.cov_of_each, in_one.cov_of_each, rtol=1e-12)
        np.testing.assert_allclose(found.times_cov(by_common.T), in_one.times_cov(by_common.T), rtol=1e-12, atol=1e-15)


# --- curves of a 3PL ----------------------------------------------------------------------------------------------


def test_differences_of_3pl_anchors_match_the_shift_of_their_curves() -> None:
    """Curves that the constants transform into each other have no difference. To first order, an anchor whose b moved
    by .01 differs by .01 in b and by 0 in ln a."""
    rng, k = np.random.default_rng(5), 6
    a, b, c = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k), rng.uniform(0.1, 0.3, k)
    cov = np.tile(np.diag([0.01, 0.01]), (k, 1, 1))
    ids = tuple(f"i{j}" for j in range(k))
    a[4], b[4] = 3000.0, 0.1  # a step between two nodes: ln a and b are compared
    harder = b.copy()
    harder[2] += 0.01
    new = ItemParameters(ids, a * 1.2, (harder - 0.5) / 1.2, c, cov)
    pairs = AnchorPairs(new, ItemParameters(ids, a, b, c, cov), ("3pl",) * k)
    d = pairs.differences(1.2, 0.5).d
    others = np.arange(k) != 2
    np.testing.assert_allclose(d[others], 0, atol=1e-12)
    np.testing.assert_allclose(d[2], [0, 0.01], atol=3e-4)


@pytest.mark.parametrize("model", ["2pl", "3pl"])
def test_derivatives_and_errors_of_differences_match_finite_differences(model: Model) -> None:
    """Compares with central differences at anchors that agree, so that terms of the order of the errors are 0."""
    rng, k = np.random.default_rng(6), 3
    a, b = rng.lognormal(0, 0.3, k), rng.normal(0, 1, k)
    c = rng.uniform(0.1, 0.3, k) if model == "3pl" else np.zeros(k)
    ids, step = tuple(f"i{j}" for j in range(k)), 1e-5
    own = np.array([[0.02, 0.004, 0.01], [0.004, 0.03, -0.02], [0.01, -0.02, 0.3]])
    sides = []
    for side_a, side_b in ((a * 1.2, (b - 0.5) / 1.2), (a, b)):
        guessing = np.tile(own[2], (k, 1, 1)) if model == "3pl" else None
        sides.append(ItemParameters(ids, side_a, side_b, c, np.tile(own[:2, :2], (k, 1, 1)), guessing))
    pairs = AnchorPairs(*sides, (model,) * k)
    at = pairs.differences(1.2, 0.5)

    def derivative(of: Callable[[float], np.ndarray]) -> np.ndarray:
        return (of(step) - of(-step)) / (2 * step)

    by_slope = derivative(lambda h: pairs.differences(1.2 * np.exp(h), 0.5).d)
    by_intercept = derivative(lambda h: pairs.differences(1.2, 0.5 + h).d)
    np.testing.assert_allclose(at.by_constants, np.stack([by_slope, by_intercept], axis=2), atol=1e-6)
    cov = np.zeros((k, 2, 2))
    for side in ("new", "old"):
        items = getattr(pairs, side)

        def moved(h: float, name: str, side: str = side, items: ItemParameters = items) -> np.ndarray:
            values = getattr(items, name)
            to = expit(logit(values) + h) if name == "c" else values + h
            return replace(pairs, **{side: replace(items, **{name: to})}).differences(1.2, 0.5).d

        names = "abc" if model == "3pl" else "ab"
        by = np.stack([derivative(lambda h, name=name: moved(h, name)) for name in names], axis=2)
        cov += by @ own[: len(names), : len(names)] @ by.swapaxes(1, 2)
    np.testing.assert_allclose(at.cov, cov, rtol=1e-5, atol=1e-7)


# -- linked months -----------------------------------------------------------------------------------
# Linking over many simulated months: errors match the spread.


@pytest.mark.parametrize(
    ("method", "symmetric", "n_new", "n_old"),
    [
        *((*criterion, 1000, 1000) for criterion in CRITERIA[:-2]),
        *((*criterion, 3000, 400) for criterion in CRITERIA[-2:]),
    ],
)
def test_standard_errors_match_the_spread_over_simulated_months(
    method: Method, symmetric: bool, n_new: int, n_old: int
) -> None:
    rng = np.random.default_rng(11)
    n = 100
    options = {"method": method, "symmetric": symmetric, "purify": False}
    found = [link_to_anchors(*month(rng, k=20, n_new=n_new, n_old=n_old), **options) for _ in range(n)]
    for name, truth in (("slope", SLOPE), ("intercept", INTERCEPT)):
        values = np.array([getattr(f, name) for f in found])
        stated = np.mean([getattr(f, f"{name}_se") for f in found])
        # an SD over 100 months has a relative standard error of 1/√200 = 7.1 %; three of these are allowed
        assert values.std() == pytest.approx(stated, rel=0.21)
        # bias below a third of a standard error, tested with 3 standard errors of the mean on top
        assert abs(values.mean() - truth) < stated * (0.33 + 3 / np.sqrt(n))
    ends = np.array([-1.3, 1.3])
    placed = np.array([f.slope * (ends - INTERCEPT) / SLOPE + f.intercept for f in found])
    by_constants = np.stack([(ends - INTERCEPT) / SLOPE, np.ones(2)])
    errors_of_ends = [np.sqrt(np.einsum("ij,ik,kj->j", by_constants, f.cov, by_constants)) for f in found]
    assert placed.std(axis=0) == pytest.approx(np.mean(errors_of_ends, axis=0), rel=0.21)  # as above


def test_common_errors_of_all_items_are_part_of_the_intercepts_error() -> None:
    rng = np.random.default_rng(3)
    k, common_sd, n = 20, 0.08, 100
    intercepts, stated, blind, p_values = [], [], [], []
    for _ in range(n):
        new, anchors = month(rng, k=k)
        joint = block_diagonal(new.cov_ab)
        joint[1::2, 1::2] += common_sd**2
        b, blocks = new.b + rng.normal(0, common_sd), new.cov_ab + np.diag([0.0, common_sd**2])
        with_joint = link_to_anchors(calibration(new.a, b, blocks, joint_ab=joint), anchors, purify=False)
        intercepts.append(with_joint.intercept)
        stated.append(with_joint.intercept_se)
        p_values.append(with_joint.q_p)
        blind.append(link_to_anchors(calibration(new.a, b, blocks), anchors, purify=False).intercept_se)
    # 100 months: an SD has an error of 7 %; two of these are allowed
    assert np.std(intercepts) == pytest.approx(np.mean(stated), rel=0.15)
    assert np.mean(blind) < 0.5 * np.mean(stated)
    # the common error moves all anchors together, which is not a disagreement: p is uniform, its mean 0.5 ± 2·0.29/√100
    assert np.mean(p_values) == pytest.approx(0.5, abs=0.06)


def test_q_is_chi_square_if_only_errors_move_the_anchors() -> None:
    rng = np.random.default_rng(8)
    found = [link_to_anchors(*month(rng), purify=False) for _ in range(200)]
    q = np.array([f.q for f in found])
    df = found[0].q_df
    assert df == 58
    # mean df and variance 2·df of a χ², three standard errors of 200 draws, and 3 % below for the curvature of ln a
    assert 0.97 * df - 3 * np.sqrt(2 * df / 200) < q.mean() < df + 3 * np.sqrt(2 * df / 200)
    assert q.var() == pytest.approx(2 * df, rel=0.25)
    # false alarms 1 %: 2 of 200 expected, P(> 7) < 0.002
    assert sum(f.q_p < 0.01 for f in found) <= 7


def test_variation_of_slopes_is_estimated_only_if_slopes_of_anchors_vary() -> None:
    """ln a of all anchors varies by N(0, .08²) at 10,000 learners, whose answers give errors of .04."""
    rng = np.random.default_rng(13)
    sound, varied = [], []
    for _ in range(20):
        new, anchors = month(rng, n_new=10_000, n_old=10_000)
        sound.append(link_to_anchors(new, anchors))
        a = new.a * rng.lognormal(0, 0.08, new.n_items)
        varied.append(link_to_anchors(calibration(a, new.b, new.cov_ab), anchors))
    assert sum(f.tau_slope > 0 for f in sound) <= 3  # by a lower 97.5 % limit: .5 expected, P(> 3) < 0.002
    assert np.mean([f.tau_slope for f in varied]) == pytest.approx(0.08, abs=0.015)
    assert np.mean([f.slope_se for f in varied]) > 1.5 * np.mean([f.slope_se for f in sound])
