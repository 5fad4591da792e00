"""Drift: differences are as uncertain as they say, and severity asks for certainty and for weight."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import kstest, norm

from irt_assets.psychometrics.drift import Drift, judge
from irt_assets.psychometrics.drift_errors import Anchors, Comparison, Published, compare
from irt_assets.psychometrics.errors import PsychometricsError
from irt_assets.psychometrics.linking import AnchorSet, assumed_errors, link
from irt_assets.psychometrics.linking_criteria import block_diagonal
from irt_assets.psychometrics.models import Calibration, Convergence, Model

ITEMS, ANCHORS = 14, 9
SLOPE, INTERCEPT = 1.2, 0.5
LEARNERS = 20_000
"""Errors so small that the first order, which the covariance is, is all there is."""

rng = np.random.default_rng(5)
A, B = rng.lognormal(0, 0.3, ITEMS), rng.permutation(np.linspace(-1.5, 1.5, ITEMS))
IDS = tuple(f"item{j:02d}" for j in range(ITEMS))


def blocks(a: np.ndarray, b: np.ndarray, n: int = LEARNERS) -> np.ndarray:
    """(K, 2, 2), errors of (a, b) that n learners leave."""
    a_se, b_se, cov = assumed_errors(a, b, np.zeros_like(a))
    return np.stack([[a_se**2, cov], [cov, b_se**2]]).transpose(2, 0, 1) * 500 / n


def fit(a: np.ndarray, b: np.ndarray, cov_ad: np.ndarray, model: Model = "2pl") -> Calibration:
    """`cov_ad`: (2J, 2J)."""
    k = len(a)
    own = cov_ad.reshape(k, 2, k, 2)[np.arange(k), :, np.arange(k), :]
    return Calibration(
        item_ids=IDS[:k], model=model, engine="em", engine_version="test", a=a, d=-a * b, c=np.zeros(k), cov=own,
        joint_cov=cov_ad, n=np.full(k, LEARNERS), n_correct=np.full(k, LEARNERS // 2), flags=((),) * k,
        latent_mean=0.0, latent_sd=1.0, n_persons=LEARNERS, convergence=Convergence(True, 9, 0.0, 0.0, -1.0, 2 * k),
    )  # fmt: skip


def anchor_set(a: np.ndarray, b: np.ndarray, cov_ab: np.ndarray) -> AnchorSet:
    k = len(a)
    return AnchorSet(
        "math", "1", IDS[:k], a, b, np.zeros(k), np.sqrt(cov_ab[:, 0, 0]), np.sqrt(cov_ab[:, 1, 1]), cov_ab[:, 0, 1],
        ("algebra",) * k, np.zeros(k, dtype=bool),
    )  # fmt: skip


def fit_covariance() -> np.ndarray:
    """(2J, 2J) of (a, d): each item's own errors, and what a sample of learners whose mean and SD are off by chance
    does to all of them alike."""
    a, b = A * SLOPE, (B - INTERCEPT) / SLOPE
    to_ad = np.zeros((ITEMS, 2, 2))
    to_ad[:, 0, 0], to_ad[:, 1, 0], to_ad[:, 1, 1] = 1.0, -b, -a
    own = block_diagonal(to_ad @ blocks(a, b) @ to_ad.transpose(0, 2, 1))
    by_mean, by_log_sd = np.zeros((ITEMS, 2)), np.zeros((ITEMS, 2))
    by_mean[:, 1], by_log_sd[:, 0] = a, a
    common = np.stack([by_mean.ravel(), by_log_sd.ravel()], axis=1)
    return own + common @ np.diag([4.0, 2.0]) @ common.T / LEARNERS


FIT_COVARIANCE = fit_covariance()
FIT_ROOT = np.linalg.cholesky(FIT_COVARIANCE)
ANCHOR_BLOCKS = blocks(A[:ANCHORS], B[:ANCHORS])


def estimated(generator: np.random.Generator) -> Calibration:
    a, b = A * SLOPE, (B - INTERCEPT) / SLOPE
    error = (FIT_ROOT @ generator.standard_normal(2 * ITEMS)).reshape(ITEMS, 2)
    a_hat, d_hat = a + error[:, 0], -a * b + error[:, 1]
    return fit(a_hat, -d_hat / a_hat, FIT_COVARIANCE)


def world(generator: np.random.Generator) -> Comparison:
    """Anchors frozen with errors; the other items published by a fit linked to them; another fit compared with all."""
    error = np.einsum("kij,kj->ki", np.linalg.cholesky(ANCHOR_BLOCKS), generator.standard_normal((ANCHORS, 2)))
    frozen = anchor_set(A[:ANCHORS] + error[:, 0], B[:ANCHORS] + error[:, 1], ANCHOR_BLOCKS)
    anchors = Anchors.of(frozen)
    earlier, now = estimated(generator), estimated(generator)
    published = Published.of_fit(earlier, link(earlier, frozen, purify=False), anchors)
    published = published.then(Published.of_anchors(anchors))
    return compare(now, link(now, frozen, purify=False), anchors, published)


@pytest.fixture(scope="module")
def worlds() -> list[Comparison]:
    generator = np.random.default_rng(11)
    return [world(generator) for _ in range(300)]


# --- the covariance ----------------------------------------------------------------------------------------------


def test_differences_of_sound_items_have_the_covariance_that_is_computed(worlds: list[Comparison]) -> None:
    """The empirical covariance over 300 worlds, whitened by the computed one, is the identity. An entry's standard
    error is √(2/300) = 0.082 on and 0.058 off the diagonal; limits are four of these."""
    for name, cov_name in (("delta", "cov"), ("delta_ad", "cov_ad")):
        for j in range(ITEMS):
            root = np.linalg.cholesky(np.mean([getattr(w, cov_name)[j] for w in worlds], axis=0))
            white = np.array([np.linalg.solve(root, getattr(w, name)[j]) for w in worlds])
            off = white.T @ white / len(worlds) - np.eye(2)
            assert np.abs(np.diag(off)).max() < 0.33, (name, worlds[0].item_ids[j], off)
            assert abs(off[0, 1]) < 0.23, (name, worlds[0].item_ids[j], off)


def test_p_is_uniform_where_nothing_moved(worlds: list[Comparison]) -> None:
    """Of an anchor, which pulls the constants itself, and of an item that was published by an earlier fit."""
    for item in (IDS[0], IDS[-1]):
        p = [judge(w).p[w.item_ids.index(item)] for w in worlds]
        assert kstest(p, "uniform").pvalue > 1e-3, item


def test_forgetting_what_an_anchor_did_to_the_constants_would_be_seen(worlds: list[Comparison]) -> None:
    """The mean of W is 2; with the two sides' errors added as if they were independent it is not. 300 worlds of 9
    anchors give it a standard error below 2/√300 = 0.12 even if the nine were one, and near 0.04 as they are."""
    w, naive = [], []
    for c in worlds:
        j = [c.item_ids.index(item) for item in IDS[:ANCHORS]]
        both = c.by_anchors[j] @ c.published.with_anchors[j].transpose(0, 2, 1)
        naive_cov = c.cov[j] + both + both.transpose(0, 2, 1)
        w.append(np.einsum("jk,jkl,jl->j", c.delta[j], np.linalg.inv(c.cov[j]), c.delta[j]))
        naive.append(np.einsum("jk,jkl,jl->j", c.delta[j], np.linalg.inv(naive_cov), c.delta[j]))
    assert np.mean(w) == pytest.approx(2.0, abs=0.12)
    assert np.mean(naive) < 1.88


def test_an_anchor_set_from_a_fit_knows_the_fits_covariance() -> None:
    origin = fit(A, B, FIT_COVARIANCE)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], origin.cov_ab[:ANCHORS])
    joint = Anchors.of_origin(frozen, origin).cov
    alone = Anchors.of(frozen).cov
    np.testing.assert_allclose(np.diag(joint), np.diag(alone), rtol=1e-12)
    assert np.abs(joint - alone).max() > 0
    without = Anchors.of_origin(frozen, replace(origin, joint_cov=None))
    np.testing.assert_allclose(without.cov, alone)


def test_a_later_publication_takes_the_place_of_an_earlier_one() -> None:
    anchors = Anchors.of(anchor_set(A[:3], B[:3], ANCHOR_BLOCKS[:3]))
    first = Published.of_anchors(anchors)
    decided = Published.of_values(
        ["item01"], np.array([2.0]), np.array([0.3]), np.zeros(1), 0.01 * np.eye(2)[None], anchors
    )
    both = first.then(decided).select(["item00", "item01", "item02"])
    assert both.a.tolist() == [A[0], 2.0, A[2]]
    assert not both.with_anchors[1].any()


def test_a_linking_of_another_fit_is_refused() -> None:
    generator = np.random.default_rng(1)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    now = estimated(generator)
    linking = replace(link(now, frozen), anchors_used=("item00", "item01", "elsewhere"))
    with pytest.raises(PsychometricsError, match="not the linking of this fit"):
        compare(now, linking, Anchors.of(frozen), Published.of_anchors(Anchors.of(frozen)))


def test_an_item_without_estimates_or_never_published_is_not_compared() -> None:
    now = estimated(np.random.default_rng(2))
    a, cov, joint = now.a.copy(), now.cov.copy(), now.joint_cov.copy()
    a[1], cov[1], joint[2:4], joint[:, 2:4] = np.nan, np.nan, np.nan, np.nan
    now = replace(now, a=a, cov=cov, joint_cov=joint)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    anchors = Anchors.of(frozen)
    found = compare(now, link(now, frozen), anchors, Published.of_anchors(anchors))
    assert found.item_ids == tuple(item for item in IDS[:ANCHORS] if item != "item01")
    assert np.isfinite(found.cov).all()


# --- the verdict -------------------------------------------------------------------------------------------------


def compared(delta_a: np.ndarray, delta_b: np.ndarray, se: float, tests_slopes: bool = True) -> Comparison:
    """Items with a = 1, b = 0 that changed by so much, errors of (a, b) independent."""
    k = len(delta_b)
    cov = np.broadcast_to(se**2 * np.eye(2), (k, 2, 2)).copy()
    old = Published(
        tuple(f"i{j}" for j in range(k)), np.ones(k), np.zeros(k), np.zeros(k), 0.5 * cov, np.zeros((k, 2, 2))
    )
    a, b = 1 + delta_a, delta_b
    delta_ad = np.stack([delta_a, -a * b], axis=1)
    return Comparison(
        old.item_ids, a, b, np.zeros(k), np.zeros(k), old, delta_ad, cov, cov, np.zeros((k, 2, 2)), tests_slopes
    )  # fmt: skip


def verdict(delta_b: list[float], se: float = 0.02, **options: bool) -> Drift:
    changes = np.array(delta_b + [0.0] * 20)
    return judge(compared(np.zeros_like(changes), changes, se, **options))


def test_a_quarter_and_half_a_theta_at_a_middling_item_are_medium_and_high() -> None:
    """Areas from 200,001 nodes by the trapezoid rule."""
    drift = verdict([0.26, 0.52, 0.2])
    assert drift.severity[:3] == ("medium", "high", "none")
    theta = np.linspace(-8, 8, 200_001)
    gap = np.abs(1 / (1 + np.exp(-(theta - 0.26))) - 1 / (1 + np.exp(-theta)))
    assert drift.wabc[0] == pytest.approx(np.trapezoid(gap * norm.pdf(theta), theta), rel=1e-6)


def test_a_change_that_matters_and_is_not_certain_is_no_flag() -> None:
    assert verdict([0.5], se=0.4).flagged == ()


def test_a_change_that_is_certain_and_does_not_matter_is_no_flag() -> None:
    drift = verdict([0.15])
    assert drift.q[0] < 1e-6
    assert drift.flagged == ()


def test_the_population_decides_how_much_a_change_matters() -> None:
    comparison = compared(np.zeros(30), np.array([0.4] + [0.0] * 29), 0.02)
    assert judge(comparison).severity[0] == "medium"
    assert judge(comparison, mean=4.0).severity[0] == "none"


def test_limits_of_the_documents_are_shown_whatever_the_error() -> None:
    drift = judge(compared(np.array([0.25, -0.5, 0.1]), np.array([0.3, -0.6, 0.1]), se=2.0))
    assert drift.beyond_limits("b") == ("medium", "high", "none")
    assert drift.beyond_limits("a") == ("medium", "high", "none")
    assert drift.flagged == ()


def test_a_month_in_which_everything_spreads_has_its_errors_inflated() -> None:
    generator = np.random.default_rng(8)
    changes = generator.normal(0, 0.2, (2, 200))
    drift = judge(compared(changes[0], changes[1], se=0.1))
    assert drift.inflation == pytest.approx(2.0, abs=0.25), "a robust SD from 400 values errs by a sixteenth"
    np.testing.assert_allclose(drift.se, 0.1 * drift.inflation)
    calm = judge(compared(changes[0] / 2, changes[1] / 2, se=0.1))
    assert calm.inflation == 1.0


def test_models_without_slopes_of_their_own_are_tested_on_b() -> None:
    drift = verdict([0.06], tests_slopes=False)
    assert drift.p[0] == pytest.approx(2 * norm.sf(3.0), rel=1e-9)


def test_bayes_factor_is_the_ratio_of_marginal_likelihoods() -> None:
    """N(d; 0, v) under no drift and the integral over Δb ~ N(0, 0.5²) otherwise, by the trapezoid rule."""
    drift = verdict([0.3], se=0.1)
    x = np.linspace(-6, 6, 20_001)
    marginal = np.trapezoid(norm.pdf(0.3, x, 0.1) * norm.pdf(x, 0, 0.5), x)
    assert drift.log_bayes_factor[0] == pytest.approx(np.log(marginal / norm.pdf(0.3, 0, 0.1)), rel=1e-6)
    assert drift.chance_b_large[0] == pytest.approx(0.5, abs=1e-6)


def test_a_month_without_comparable_items_has_an_empty_verdict() -> None:
    assert judge(compared(np.zeros(0), np.zeros(0), 0.1)).severity == ()
