"""Rows of a month's drift and information if items are missing, moved or of another model."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.drift.assets import flagged_table, information_sentence
from irt_assets.drift.information import (
    MonthInformation,
    ScaleInformation,
    compute_information,
    item_rows,
    rows_of,
    test_row,
)
from irt_assets.drift.month import across_models_in_words, curve_tests
from irt_assets.drift.month_comparison import ComparedMonth
from irt_assets.drift.plots import test_curves
from irt_assets.drift.rows import InformationRow
from irt_assets.drift.unestimated_items import UnestimatedItems
from irt_assets.ledger.values_with_errors import LinkedWindow, SetInForce, compare_with_published
from irt_assets.scales.scale import Scale
from irt_psychometrics import Calibration, PsychometricsError
from irt_psychometrics.drift import Comparison, Drift, Published
from irt_psychometrics.items import LogNormal, Model, Priors
from irt_psychometrics.linking import link_to_anchors
from psychometrics_testbed.chart_parts import lines
from psychometrics_testbed.drift_worlds import (
    ANCHOR_BLOCKS,
    ANCHORS,
    IDS,
    ITEMS,
    A,
    B,
    anchor_set,
    estimated,
)


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
        found = compare_with_published(LinkedWindow("fit", now, link_to_anchors(now, frozen)), anchors, at, start)
        assert len(found.item_ids) == compared_items
        assert (IDS[1] in found.item_ids) == (compared_items == ANCHORS)


FROZEN = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def month(raw: Calibration | None = None, published: Published | None = None) -> ComparedMonth:
    """Compare a fit of all items with the published values (by default: of the anchors)."""
    raw = raw or estimated(np.random.default_rng(8))
    published = published or Published.from_anchors(FROZEN)
    linking = link_to_anchors(raw, FROZEN, purify=False)
    drift = Drift.from_comparison(Comparison.from_linked_fit(raw, linking, FROZEN, published))
    at = SetInForce(published, (SINCE,) * len(published.item_ids))
    return ComparedMonth(LinkedWindow("fit", raw, linking), FROZEN, at, drift)


def published_as(model: Model, items: int) -> Published:
    """Return the anchors' values, the first `items` of which were published as this model, and the rest as a 2PL."""
    published = Published.from_anchors(FROZEN)
    fits = [(model if j < items else "2pl", 0.0, 1.0) for j in range(ANCHORS)]
    return published.with_fits(fits, published.further_cov)


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
    assert [[line.name for line in lines(chart)] for chart in charts] == [curves] * 2
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
    two = replace(Published.from_anchors(FROZEN).select(IDS[:2]), item_ids=("gone1", "gone2"))
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
    broken = Published.from_anchors(FROZEN)
    broken = replace(broken, a=np.where(np.arange(ANCHORS) == 2, -1.0, broken.a))
    with pytest.raises(PsychometricsError, match=f"1 published item has no information .*{IDS[2]}"):
        inform_month(month(published=broken))


def test_items_published_as_a_different_model_are_listed_and_not_compared() -> None:
    """Two models give different information for the same item. Only items published as the window's model are
    compared."""
    found = inform_month(month(published=published_as("3pl", 4)))
    assert set(found.loss.items.item_ids) == set(IDS[4:ANCHORS])
    rows = {row["item_id"]: row["details"] for row in item_rows(found)}
    assert (rows[IDS[0]]["status"], rows[IDS[4]]["status"]) == ("of another model", "compared")
    assert rows[IDS[0]]["why"].startswith("published as 3PL, fitted as 2PL")
    assert (rows[IDS[0]]["now"] is not None, "ratio" in rows[IDS[0]]) == (True, False)
    details = test_row(found)["details"]
    assert (details["items"]["compared"], details["items"]["of_another_model"]) == (ANCHORS - 4, 4)
    assert "4 are not judged: published as 3PL, fitted as 2PL" in information_sentence(ScaleInformation("math", found))


def test_information_is_not_compared_if_all_items_were_published_as_a_different_model() -> None:
    found = inform_month(month(published=published_as("3pl", ANCHORS)))
    assert found.loss.test is None
    assert "published as 3PL, fitted as 2PL" in test_row(found)["details"]["why"]
    assert all(ElementTree.fromstring(chart.to_svg(bare=True)) is not None for chart in test_curves(rows_of(found)[""]))
    assert flagged_table({"math": rows_of(found)}).rows == ()


def test_moved_item_published_as_a_different_model_is_described_by_its_curve() -> None:
    raw = estimated(np.random.default_rng(8))
    harder = replace(raw, d=raw.d - raw.a * (np.arange(ITEMS) == 2))
    drift = month(harder, published_as("3pl", 4)).drift
    assert IDS[2] in drift.flagged
    assert across_models_in_words(*drift.across_models[IDS[2]]) == "compared by curves: published as 3PL, fitted as 2PL"
    description = curve_tests(drift, 2)
    assert description["right"] < -3 * description["right_se"], "harder: fewer are right"
