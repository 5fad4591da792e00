"""Drift: the items that are compared, trends over months, severity by certainty and size, and a month's information."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime
from itertools import product

import numpy as np
import pytest
from scipy.stats import chi2, norm

from irt_assets.drift.assets import flagged_table, information_sentence
from irt_assets.drift.information import (
    MonthInformation,
    ScaleInformation,
    compute_information,
    item_rows,
    rows_of,
    test_row,
)
from irt_assets.drift.month_comparison import ComparedMonth
from irt_assets.drift.plots import test_curves
from irt_assets.drift.rows import InformationRow
from irt_assets.drift.unestimated_items import UnestimatedItems
from irt_assets.ledger.values_with_errors import LinkedWindow, SetInForce, compare_with_published
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.drift.errors import FitPopulation
from irt_psychometrics.drift.item_trends import trends
from irt_psychometrics.items import ItemParameters, LogNormal, Priors
from irt_psychometrics.linking import link
from irt_psychometrics.plots import Chart
from irt_psychometrics.plots.axes import Line
from psychometrics_testbed.drift_worlds import (
    ANCHOR_BLOCKS,
    ANCHORS,
    FIT_COVARIANCE,
    IDS,
    ITEMS,
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
    linking = replace(link(now, frozen), anchors_used=("item00", "item01", "elsewhere"))
    with pytest.raises(PsychometricsError, match="not the linking of this fit"):
        Comparison.from_linked_fit(now, linking, frozen, Published.from_anchors(frozen))


def test_item_without_estimates_or_published_values_is_not_compared() -> None:
    now = estimated(np.random.default_rng(2))
    a, cov, joint = now.a.copy(), now.cov.copy(), now.joint_cov.copy()
    a[1], cov[1], joint[2:4], joint[:, 2:4] = np.nan, np.nan, np.nan, np.nan
    now = replace(now, a=a, cov=cov, joint_cov=joint)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    anchors = frozen
    found = Comparison.from_linked_fit(now, link(now, frozen), anchors, Published.from_anchors(anchors))
    assert found.item_ids == tuple(item for item in IDS[:ANCHORS] if item != "item01")
    assert np.isfinite(found.cov).all()


def test_estimate_under_its_own_prior_is_not_compared_with_the_published_value() -> None:
    """The item is then tested by its proportion correct."""
    start = datetime(2026, 7, 1, tzinfo=UTC)
    frozen = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
    anchors = frozen
    at = SetInForce(Published.from_anchors(anchors), (start,) * ANCHORS)
    for priors, compared_items in (
        (Priors(a=LogNormal(0.0, 0.5), only=(IDS[1],)), ANCHORS - 1),
        (Priors(a=LogNormal(0.0, 0.5)), ANCHORS),  # the scale's prior, under which values were published too
    ):
        now = replace(estimated(np.random.default_rng(2)), priors=priors.as_dict())
        found = compare_with_published(LinkedWindow("fit", now, link(now, frozen)), anchors, at, start)
        assert len(found.item_ids) == compared_items
        assert (IDS[1] in found.item_ids) == (compared_items == ANCHORS)


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
        linking = link(raw, frozen, symmetric=symmetric, purify=False)
        stored = replace(linking, cov=np.full((2, 2), np.nan), with_items=None)
        again = Comparison.from_linked_fit(raw, stored, frozen, Published.from_anchors(frozen)).linking
        np.testing.assert_allclose(again.cov, linking.cov, rtol=1e-9)
        assert again.with_items is not None
        np.testing.assert_allclose(again.with_items, linking.with_items, rtol=1e-9, atol=1e-15)


# -- information of a month --------------------------------------------------------------------------
# A month's information if items are missing, or if its flag cannot be trusted.

FROZEN = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
ANCHORS_IN_FORCE = FROZEN
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def month(raw: Calibration | None = None, published: Published | None = None) -> ComparedMonth:
    """Compare a fit of all items with the published values (by default: of the anchors)."""
    raw = raw or estimated(np.random.default_rng(8))
    published = published or Published.from_anchors(ANCHORS_IN_FORCE)
    linking = link(raw, FROZEN, purify=False)
    drift = Drift.from_comparison(Comparison.from_linked_fit(raw, linking, ANCHORS_IN_FORCE, published))
    at = SetInForce(published, (SINCE,) * len(published.item_ids))
    return ComparedMonth(LinkedWindow("fit", raw, linking), ANCHORS_IN_FORCE, at, drift)


def names(chart: Chart) -> list[str]:
    return [part.name for part in chart.parts if isinstance(part, Line)]


def inform_month(compared: ComparedMonth, unestimated: UnestimatedItems | None = None) -> MonthInformation:
    return compute_information(Scale("math"), compared, unestimated or UnestimatedItems())


def test_month_without_drift_retires_no_item_and_keeps_its_information() -> None:
    found = inform_month(month())
    assert found.retiring == ()
    assert found.efficiency[:2] == pytest.approx((1.0, 1.0), rel=1e-12), "the same sums, in another order"
    row = test_row(found)
    assert (row["flagged"], row["details"]["trusted"]) == (False, True)
    assert row["curve"]["in_force"] == row["curve"]["without_flagged"]
    assert row["details"]["retiring"]["se_above_before"] == row["details"]["retiring"]["se_above_after"] != []
    assert "without" not in information_sentence(ScaleInformation("math", found))
    assert flagged_table({"math": rows_of(found)}).rows == ()
    charts = test_curves(InformationRow(**row))
    curves = [f"{ANCHORS} items, as published", "the same items in this month"]
    assert [names(chart) for chart in charts] == [curves] * 2
    assert all(ElementTree.fromstring(chart.to_svg(bare=True)) is not None for chart in charts)


def test_new_items_have_a_row_and_no_share_of_the_tests_information() -> None:
    found = inform_month(month())
    rows = {row["item_id"]: row for row in item_rows(found)}
    assert {item for item, row in rows.items() if row["details"]["status"] == "new"} == set(IDS[ANCHORS:ITEMS])
    assert test_row(found)["details"]["items"]["new"] == ITEMS - ANCHORS
    shares = [row["details"]["share_of_test"] for row in rows.values() if row["details"]["share_of_test"]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-4), "five digits each"


@pytest.mark.parametrize(("learners", "trusted"), [(1000, False), (1999, False), (2000, True)])
def test_the_flag_of_a_3pl_test_is_trusted_from_2000_learners_on(learners: int, trusted: bool) -> None:
    raw = replace(estimated(np.random.default_rng(8)), models=("3pl",) * ITEMS, n_persons=learners)
    found = inform_month(month(raw))
    assert found.trusted is trusted
    caution = test_row(found)["details"]["caution"]
    assert (caution is None) is trusted
    if caution:
        assert f"{learners} learners" in caution


def test_information_has_curves_and_no_verdict_if_no_published_item_was_estimated() -> None:
    """The published items do not occur in the month."""
    two = replace(Published.from_anchors(ANCHORS_IN_FORCE).select(IDS[:2]), item_ids=("gone1", "gone2"))
    found = inform_month(
        month(published=two), UnestimatedItems(dict.fromkeys(two.item_ids, "it is no longer in the bank"))
    )
    row = test_row(found)
    curve, details = row["curve"], row["details"]
    assert (details["worst"], details["why"]) == (None, "no item in force was estimated by the month")
    assert details["items"]["not_estimated"]["gone1"] == "it is no longer in the bank"
    assert (max(curve["in_force"]) > 0, max(curve["now"]), curve["se_now"]) == (True, 0, [None] * 81)
    assert "0 of 0 items" in information_sentence(ScaleInformation("math", found))
    assert all(
        ElementTree.fromstring(chart.to_svg(bare=True)) is not None for chart in test_curves(InformationRow(**row))
    )


def test_error_names_a_published_item_whose_values_give_no_information() -> None:
    broken = Published.from_anchors(ANCHORS_IN_FORCE)
    broken = replace(broken, a=np.where(np.arange(ANCHORS) == 2, -1.0, broken.a))
    with pytest.raises(PsychometricsError, match=f"1 published item has no information .*{IDS[2]}"):
        inform_month(month(published=broken))


def test_items_published_as_a_different_model_are_listed_and_not_compared() -> None:
    """Two models give different information for the same item. Only items published as the window's model are
    compared."""
    published = Published.from_anchors(ANCHORS_IN_FORCE)
    fitted = tuple(FitPopulation("3pl" if j < 4 else "2pl", 0.0, 1.0) for j in range(ANCHORS))
    compared = month(published=replace(published, fitted=fitted))
    found = inform_month(compared)
    assert set(found.loss.items.item_ids) == set(IDS[4:ANCHORS])
    rows = {row["item_id"]: row["details"] for row in item_rows(found)}
    assert (rows[IDS[0]]["status"], rows[IDS[4]]["status"]) == ("of another model", "compared")
    assert rows[IDS[0]]["why"].startswith("published as 3PL, fitted as 2PL")
    assert (rows[IDS[0]]["now"] is not None, "ratio" in rows[IDS[0]]) == (True, False)
    details = test_row(found)["details"]
    assert (details["items"]["compared"], details["items"]["of_another_model"]) == (ANCHORS - 4, 4)
    assert "4 are not judged: published as 3PL, fitted as 2PL" in information_sentence(ScaleInformation("math", found))


def test_information_is_not_compared_if_all_items_were_published_as_a_different_model() -> None:
    published = replace(Published.from_anchors(ANCHORS_IN_FORCE), fitted=(FitPopulation("3pl"),) * ANCHORS)
    found = inform_month(month(published=published))
    assert found.loss.test is None
    assert "published as 3PL, fitted as 2PL" in test_row(found)["details"]["why"]
    assert all(ElementTree.fromstring(chart.to_svg(bare=True)) is not None for chart in test_curves(rows_of(found)[""]))
    assert flagged_table({"math": rows_of(found)}).rows == ()
