"""What a month's information comes to where something is missing, or cannot be trusted."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from irt_assets.charts.chart import Chart, Line
from irt_assets.charts.svg import drawing
from irt_assets.drift.assets import flagged_table, sentence_on_information
from irt_assets.drift.compared import Compared
from irt_assets.drift.information import MonthInformation, ScaleInformation, inform, item_rows, rows_of, test_row
from irt_assets.drift.plots import item_curves, test_curves
from irt_assets.drift.rows import InformationRow
from irt_assets.drift.unestimated import Unestimated
from irt_assets.ledger.values_with_errors import InForce, LinkedWindow
from irt_assets.psychometrics.core.errors import PsychometricsError
from irt_assets.psychometrics.core.models import Calibration
from irt_assets.psychometrics.drift.errors import Fitted, Published, compare
from irt_assets.psychometrics.drift.items import judge
from irt_assets.psychometrics.linking.linking import link
from irt_assets.responses.scales import Scale
from tests.helpers.drift_worlds import ANCHOR_BLOCKS, ANCHORS, IDS, ITEMS, A, B, anchor_set, estimated

FROZEN = anchor_set(A[:ANCHORS], B[:ANCHORS], ANCHOR_BLOCKS)
ANCHORS_IN_FORCE = FROZEN
SINCE = datetime(2026, 1, 1, tzinfo=UTC)


def month(raw: Calibration | None = None, published: Published | None = None) -> Compared:
    """A fit of all items; in force are the anchors alone unless told otherwise."""
    raw = raw or estimated(np.random.default_rng(8))
    published = published or Published.of_anchors(ANCHORS_IN_FORCE)
    linking = link(raw, FROZEN, purify=False)
    drift = judge(compare(raw, linking, ANCHORS_IN_FORCE, published))
    at = InForce(published, (SINCE,) * len(published.item_ids))
    return Compared(LinkedWindow("fit", raw, linking), ANCHORS_IN_FORCE, at, drift)


def names(chart: Chart) -> list[str]:
    return [part.name for part in chart.parts if isinstance(part, Line)]


def informed(compared: Compared, unestimated: Unestimated | None = None) -> MonthInformation:
    return inform(Scale("math"), compared, unestimated or Unestimated())


def test_a_sound_month_retires_nothing_and_keeps_all() -> None:
    found = informed(month())
    assert found.retiring == ()
    assert found.efficiency[:2] == pytest.approx((1.0, 1.0), rel=1e-12), "the same sums, in another order"
    row = test_row(found)
    assert (row["flagged"], row["details"]["trusted"]) == (False, True)
    assert row["curve"]["in_force"] == row["curve"]["without_flagged"]
    assert row["details"]["retiring"]["se_above_before"] == row["details"]["retiring"]["se_above_after"] != []
    assert "without" not in sentence_on_information(ScaleInformation("math", found))
    assert flagged_table({"math": rows_of(found)}).rows == ()
    charts = test_curves(InformationRow(**row))
    curves = [f"{ANCHORS} items, as published", "the same items in this month"]
    assert [names(chart) for chart in charts] == [curves] * 2
    assert all(ElementTree.fromstring(drawing(chart)) is not None for chart in charts)


def test_items_that_might_be_retired_have_a_panel_each_with_the_curves_that_are_known() -> None:
    rows = rows_of(informed(month()))
    picture = item_curves([rows[IDS[0]], rows[IDS[ANCHORS]]])
    assert [chart.heading for chart in picture.charts] == [IDS[0], IDS[ANCHORS]]
    assert [len(names(chart)) for chart in picture.charts] == [2, 1], "a new item has no published curve"


def test_new_items_have_a_row_and_no_part_in_the_test() -> None:
    found = informed(month())
    rows = {row["item_id"]: row for row in item_rows(found)}
    assert {item for item, row in rows.items() if row["details"]["status"] == "new"} == set(IDS[ANCHORS:ITEMS])
    assert test_row(found)["details"]["items"]["new"] == ITEMS - ANCHORS
    shares = [row["details"]["share_of_test"] for row in rows.values() if row["details"]["share_of_test"]]
    assert sum(shares) == pytest.approx(1.0, abs=1e-4), "five digits each"


@pytest.mark.parametrize(("learners", "trusted"), [(1000, False), (1999, False), (2000, True)])
def test_the_flag_of_a_3pl_test_is_trusted_from_2000_learners_on(learners: int, trusted: bool) -> None:
    raw = replace(estimated(np.random.default_rng(8)), models=("3pl",) * ITEMS, n_persons=learners)
    found = informed(month(raw))
    assert found.trusted is trusted
    caution = test_row(found)["details"]["caution"]
    assert (caution is None) is trusted
    if caution:
        assert f"{learners} learners" in caution


def test_a_test_of_which_nothing_was_estimated_has_curves_and_no_verdict() -> None:
    """Everything in force is on other items than the month's."""
    two = replace(Published.of_anchors(ANCHORS_IN_FORCE).select(IDS[:2]), item_ids=("gone1", "gone2"))
    found = informed(month(published=two), Unestimated(dict.fromkeys(two.item_ids, "it is no longer in the bank")))
    row = test_row(found)
    assert row["details"]["worst"] is None
    assert row["details"]["why"] == "no item in force was estimated by the month"
    assert row["details"]["items"]["not_estimated"]["gone1"] == "it is no longer in the bank"
    assert max(row["curve"]["in_force"]) > 0 == max(row["curve"]["now"])
    assert row["curve"]["se_now"] == [None] * 81
    assert "0 of 0 items" in sentence_on_information(ScaleInformation("math", found))
    assert all(ElementTree.fromstring(drawing(chart)) is not None for chart in test_curves(InformationRow(**row)))


def test_a_published_value_that_gives_no_information_is_named() -> None:
    broken = Published.of_anchors(ANCHORS_IN_FORCE)
    broken = replace(broken, a=np.where(np.arange(ANCHORS) == 2, -1.0, broken.a))
    with pytest.raises(PsychometricsError, match=f"1 published items have no information .*{IDS[2]}"):
        informed(month(published=broken))


def test_items_published_as_another_model_are_named_and_not_judged() -> None:
    """Two models tell different information of one item; those of the window's model are judged among themselves."""
    published = Published.of_anchors(ANCHORS_IN_FORCE)
    fitted = tuple(Fitted("3pl" if j < 4 else "2pl", 0.0, 1.0) for j in range(ANCHORS))
    compared = month(published=replace(published, fitted=fitted))
    found = informed(compared)
    assert set(found.losses.item_ids) == set(IDS[4:ANCHORS])
    rows = {row["item_id"]: row["details"] for row in item_rows(found)}
    assert rows[IDS[0]]["status"] == "of another model"
    assert rows[IDS[0]]["why"].startswith("published as 3PL, fitted as 2PL")
    assert rows[IDS[0]]["now"] is not None
    assert "ratio" not in rows[IDS[0]]
    assert rows[IDS[4]]["status"] == "compared"
    details = test_row(found)["details"]
    assert (details["items"]["compared"], details["items"]["of_another_model"]) == (ANCHORS - 4, 4)
    assert "4 are not judged: published as 3PL, fitted as 2PL" in sentence_on_information(
        ScaleInformation("math", found)
    )


def test_where_all_is_published_as_another_model_there_is_no_test() -> None:
    published = replace(Published.of_anchors(ANCHORS_IN_FORCE), fitted=(Fitted("3pl"),) * ANCHORS)
    found = informed(month(published=published))
    assert found.test is None
    assert "published as 3PL, fitted as 2PL" in test_row(found)["details"]["why"]
    assert all(ElementTree.fromstring(drawing(chart)) is not None for chart in test_curves(rows_of(found)[""]))
    assert flagged_table({"math": rows_of(found)}).rows == ()
