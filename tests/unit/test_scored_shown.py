"""What pages and reports show of a scored item: a curve and a row for each score that it has."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from irt_assets.charts.chart import Line, Points
from irt_assets.psychometrics.core.items import ItemRow
from irt_assets.psychometrics.fit.observed import observed
from irt_assets.reports.drift_facts import ItemFindings
from irt_assets.reports.item_shown import category_curves, curves, parameters

SCALE: Any = SimpleNamespace(mu=0.0, sigma=1.0)
PUBLISHED = ItemRow(
    0.9,
    -0.2,
    0.0,
    0.05,
    0.06,
    0.0,
    further={"max_score": 2, "t0": 0.0, "t1": 0.8, "t1_se": 0.1, "t2": 0.0} | {"b1_se": 0.12, "b2_se": 0.13},
)
NOW = replace(PUBLISHED, b=0.1)


def findings(published: ItemRow, values: ItemRow) -> ItemFindings:
    rng = np.random.default_rng(1)
    theta = rng.normal(size=2000)
    score = (rng.random(2000) > values.of_each_score(theta).cumsum(axis=0)[:-1]).sum(axis=0)
    return ItemFindings(
        item_id="essay", topic=None, is_anchor=False, published=published, since=datetime(2026, 6, 1, tzinfo=UTC),
        values=values, n=2000, statistics={}, flags=(), drift=None, observed=observed(theta, score, max_score=2),
    )  # fmt: skip


def test_each_score_has_a_chart_of_both_curves_and_of_what_was_observed() -> None:
    item = findings(PUBLISHED, NOW)
    figures, table = category_curves(item, SCALE, "2026-08")
    assert [figure.caption for figure in figures.figures] == [f"Score {k} of 2" for k in range(3)]
    for figure in figures.figures:
        published, now = (part for part in figure.chart.parts if isinstance(part, Line))
        (seen,) = (part for part in figure.chart.parts if isinstance(part, Points))
        assert published.ys != now.ys
        expected = np.interp(seen.xs, now.xs, now.ys)
        assert np.mean((expected >= seen.low) & (expected <= seen.high)) >= 0.75
    assert [row[0] for row in table.rows] == [0, 1, 2]
    assert sum(row[1] for row in table.rows) == 2000
    (whole,) = (part for part in curves(item, SCALE, "2026-08").chart.parts if isinstance(part, Points))
    assert max(whole.ys) <= 1


def test_a_score_that_nobody_can_have_has_no_chart() -> None:
    gap = replace(NOW, further={"max_score": 2, "t0": 0.0, "t2": 0.0})
    figures, _ = category_curves(findings(gap, gap), SCALE, "2026-08")
    assert [figure.caption for figure in figures.figures] == ["Score 0 of 2", "Score 2 of 2"]
    assert gap.steps == {}


def test_of_a_scored_item_steps_are_shown_and_not_t() -> None:
    assert PUBLISHED.steps == {
        1: (pytest.approx(-0.2 - 0.8 / 0.9), 0.12),
        2: (pytest.approx(-0.2 + 0.8 / 0.9), 0.13),
    }
    assert parameters(PUBLISHED) == "a 0.90 ± 0.05, a·m 1.80 ± 0.10, b −0.20 ± 0.06, steps −1.09 ± 0.12, 0.69 ± 0.13"
    _, table = category_curves(findings(PUBLISHED, NOW), SCALE, "2026-08")
    assert [row[5] for row in table.rows] == ["–", "−1.09 ± 0.12", "0.69 ± 0.13"]


def test_items_scored_0_and_1_are_shown_as_before() -> None:
    plain = ItemRow(0.9, -0.2, 0.0, 0.05, 0.06, 0.0)
    item = replace(findings(PUBLISHED, NOW), published=plain, values=plain, observed=None)
    assert category_curves(item, SCALE, "2026-08") == ()
    assert parameters(plain) == "a 0.90 ± 0.05, b −0.20 ± 0.06"
