"""Drift: the items that are compared, trends over months, and severity by certainty and size."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.stats import chi2, norm

from irt_psychometrics import PsychometricsError
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.drift.item_trends import trends
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.linking import link_to_anchors
from psychometrics_testbed.drift_worlds import (
    ANCHOR_BLOCKS,
    ANCHORS,
    FIT_COVARIANCE,
    IDS,
    A,
    B,
    anchor_set,
    compared,
    estimated,
    fit,
)
from psychometrics_testbed.made_anchors import with_errors_of

# --- comparison ----------------------------------------------------------------------------------------------------


def test_anchor_set_made_from_a_fit_has_the_fits_joint_covariance() -> None:
    origin = fit(A, B, FIT_COVARIANCE)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], origin.cov_ab[:ANCHORS])
    joint = with_errors_of(frozen, origin).joint_cov
    alone = frozen.joint_cov
    np.testing.assert_allclose(np.diag(joint), np.diag(alone), rtol=1e-12)
    assert np.abs(joint - alone).max() > 0
    without = with_errors_of(frozen, replace(origin, joint_cov=None))
    np.testing.assert_allclose(without.joint_cov, alone)


def test_later_publication_of_an_item_replaces_the_earlier_values() -> None:
    anchors = anchor_set(A[:3], B[:3], ANCHOR_BLOCKS[:3])
    first = Published.from_anchors(anchors)
    decided = Published.from_values(
        ItemParameters(("item01",), np.array([2.0]), np.array([0.3]), np.zeros(1), 0.01 * np.eye(2)[None]), anchors
    )
    both = first.then(decided).select(["item00", "item01", "item02"])
    assert both.a.tolist() == [A[0], 2.0, A[2]]
    assert not both.with_anchors[1].any()


def test_comparison_is_refused_if_the_linking_belongs_to_a_different_fit() -> None:
    generator = np.random.default_rng(1)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    now = estimated(generator)
    linking = replace(link_to_anchors(now, frozen), anchors_used=("item00", "item01", "elsewhere"))
    with pytest.raises(PsychometricsError, match="not the linking of this fit"):
        Comparison.from_linked_fit(now, linking, frozen, Published.from_anchors(frozen))


def test_item_without_estimates_or_published_values_is_not_compared() -> None:
    now = estimated(np.random.default_rng(2))
    a, cov, joint = now.a.copy(), now.cov.copy(), now.joint_cov.copy()
    a[1], cov[1], joint[2:4], joint[:, 2:4] = np.nan, np.nan, np.nan, np.nan
    now = replace(now, a=a, cov=cov, joint_cov=joint)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    anchors = frozen
    found = Comparison.from_linked_fit(now, link_to_anchors(now, frozen), anchors, Published.from_anchors(anchors))
    assert found.item_ids == tuple(item for item in IDS[:ANCHORS] if item != "item01")
    assert np.isfinite(found.cov).all()


# --- trends ------------------------------------------------------------------------------------------------------


def test_trend_is_the_slope_of_the_least_squares_line_through_the_published_value() -> None:
    """V = v·I + p·11ᵀ has the inverse (I − 11ᵀ p/(v + 3p))/v, so generalised least squares can be done by hand."""
    v, p, t = 0.02, 0.01, np.array([1.0, 2.0, 4.0])
    delta = np.array([0.1, 0.15, 0.5])
    months = []
    for d in delta:
        month = compared(np.zeros(1), np.array([d]), se=np.sqrt(v + p))
        old = replace(month.published, cov=np.array([[[p, 0], [0, p]]]))
        now = replace(month.window, cov=np.array([[[v, 0], [0, v]]]))
        months.append(replace(month, window=now, published=old, by_anchors=np.zeros((1, 2, 2))))
    found = trends(months, t.tolist(), anchor_set(A[:1], B[:1], ANCHOR_BLOCKS[:1]))
    inverse = (np.eye(3) - p / (v + 3 * p)) / v
    assert found.slope[0] == pytest.approx((t @ inverse @ delta) / (t @ inverse @ t), rel=1e-9)
    assert found.slope_se[0] == pytest.approx(1 / np.sqrt(t @ inverse @ t), rel=1e-9)


def test_trend_requires_two_months_and_an_unchanged_published_value() -> None:
    anchors = anchor_set(A[:1], B[:1], ANCHOR_BLOCKS[:1])
    first, second = (compared(np.zeros(1), np.array([d]), se=0.1) for d in (0.1, 0.2))
    assert trends([first], [1], anchors).item_ids == ()
    decided = replace(second, published=replace(second.published, b=np.ones(1)))
    with pytest.raises(PsychometricsError, match="i0 was published again"):
        trends([first, decided], [1, 2], anchors)
    with pytest.raises(PsychometricsError, match="above 0"):
        trends([first, second], [0, 1], anchors)


# --- the verdict -------------------------------------------------------------------------------------------------


def verdict(delta_b: list[float], se: float = 0.02, **options: bool) -> Drift:
    changes = np.array(delta_b + [0.0] * 20)
    return Drift.from_comparison(compared(np.zeros_like(changes), changes, se, **options))


def test_shifts_of_a_quarter_and_half_a_theta_unit_have_medium_and_high_severity() -> None:
    """The area is computed by the trapezoid rule with 200,001 nodes."""
    drift = verdict([0.26, 0.52, 0.2])
    assert drift.severity[:3] == ("medium", "high", "none")
    theta = np.linspace(-8, 8, 200_001)
    gap = np.abs(1 / (1 + np.exp(-(theta - 0.26))) - 1 / (1 + np.exp(-theta)))
    assert drift.wabc[0] == pytest.approx(np.trapezoid(gap * norm.pdf(theta), theta), rel=1e-6)


def test_large_change_is_not_flagged_if_the_test_is_not_significant() -> None:
    assert verdict([0.5], se=0.4).flagged == ()


def test_significant_change_is_not_flagged_if_its_effect_is_small() -> None:
    drift = verdict([0.15])
    assert drift.q[0] < 1e-6
    assert drift.flagged == ()


def test_severity_of_a_change_depends_on_the_population() -> None:
    comparison = compared(np.zeros(30), np.array([0.4] + [0.0] * 29), 0.02)
    assert (Drift.from_comparison(comparison).severity[0], Drift.from_comparison(comparison, mean=4.0).severity[0]) == (
        "medium",
        "none",
    )


def test_limits_of_the_documents_are_applied_regardless_of_standard_errors() -> None:
    drift = Drift.from_comparison(compared(np.array([0.25, -0.5, 0.1]), np.array([0.3, -0.6, 0.1]), se=2.0))
    assert [drift.beyond_limits(name) for name in "ab"] == [("medium", "high", "none")] * 2
    assert drift.flagged == ()


def test_variation_of_all_items_is_added_to_each_items_error_up_to_a_limit() -> None:
    generator = np.random.default_rng(8)
    changes = generator.normal(0, 0.2, (2, 200))
    drift = Drift.from_comparison(compared(changes[0], changes[1], se=0.1))
    assert drift.tau == pytest.approx(np.sqrt(0.2**2 - 0.1**2), abs=0.03)
    assert drift.at_the_limit
    np.testing.assert_allclose(drift.se[:, 1], np.sqrt(0.1**2 + 0.1**2))
    allowed = Drift.from_comparison(drift.comparison, max_item_variation=0.3)
    assert not allowed.at_the_limit
    assert len(allowed.flagged) < len(drift.flagged)
    calm = Drift.from_comparison(compared(changes[0] / 2, changes[1] / 2, se=0.1))
    assert calm.tau < 0.05
    np.testing.assert_allclose(calm.se[:, 1], np.sqrt(0.1**2 + calm.tau**2))
    accepted = Drift.from_comparison(calm.comparison, misfit_accepted=True)
    assert accepted.tau < 0.05
    np.testing.assert_allclose(accepted.comparison.cov[:, 1, 1] - calm.comparison.cov[:, 1, 1], 0.05**2)
    assert (accepted.p > calm.p).all()


def test_item_variation_is_the_default_for_two_items_and_infinite_without_a_common_line() -> None:
    two = Drift.from_comparison(compared(np.zeros(2), np.array([0.3, 0.0]), se=0.1))
    assert (two.tau, two.at_the_limit) == (0.1, False)
    assert two.p[0] == pytest.approx(chi2.sf(0.3**2 / (0.1**2 + 0.1**2), 2))
    scattered = Drift.from_comparison(compared(np.zeros(4), np.array([-4.0, 0.0, 3.0, 9.0]), se=0.01))
    assert (scattered.tau, scattered.at_the_limit, scattered.severity) == (
        np.inf,
        True,
        ("high", "none", "high", "high"),
    )


def test_items_are_tested_on_b_alone_if_the_model_has_no_slopes() -> None:
    """The item is compared with the mean of twenty items. A Rasch fit has no errors of a; here they change p by a
    thousandth."""
    drift = verdict([0.06], tests_slopes=False)
    assert drift.p[0] == pytest.approx(2 * norm.sf(3.0 / np.sqrt(1 + 1 / 20)), rel=0.01)


def test_bayes_factor_is_the_ratio_of_marginal_likelihoods() -> None:
    """The likelihood is N(d; 0, v) without drift, and with drift the integral over Δb ~ N(0, 0.5²) by the trapezoid
    rule."""
    drift = verdict([0.3], se=0.1)
    x = np.linspace(-6, 6, 20_001)
    marginal = np.trapezoid(norm.pdf(0.3, x, 0.1) * norm.pdf(x, 0, 0.5), x)
    assert drift.log_bayes_factor[0] == pytest.approx(np.log(marginal / norm.pdf(0.3, 0, 0.1)), rel=1e-6)
    assert drift.chance_b_large[0] == pytest.approx(0.5, abs=1e-6)


def test_a_month_without_comparable_items_has_an_empty_verdict() -> None:
    assert Drift.from_comparison(compared(np.zeros(0), np.zeros(0), 0.1)).severity == ()


def test_errors_of_linking_constants_are_recomputed_if_missing() -> None:
    """The recomputed errors equal the errors of `link` up to rounding: both use the same first-order expansion."""
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    whole = estimated(np.random.default_rng(21))
    for raw, symmetric in product((whole, replace(whole, joint_cov=None)), (False, True)):
        linking = link_to_anchors(raw, frozen, symmetric=symmetric, purify=False)
        stored = replace(linking, cov=np.full((2, 2), np.nan), with_items=None)
        again = Comparison.from_linked_fit(raw, stored, frozen, Published.from_anchors(frozen)).linking
        np.testing.assert_allclose(again.cov, linking.cov, rtol=1e-9)
        assert again.with_items is not None
        np.testing.assert_allclose(again.with_items, linking.with_items, rtol=1e-9, atol=1e-15)
