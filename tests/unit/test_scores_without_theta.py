"""Score tables of scales whose scores are lines in the raw score, per cent or percentile rank."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest

from irt_assets.item_analysis.stored import FormRow
from irt_assets.ledger.publications import PublishedSet
from irt_assets.scales.scale import Scale, rules_from_settings
from irt_assets.scores.form_tables import FormTable, _make
from irt_assets.scores.reported import report_thetas
from irt_psychometrics import PsychometricsError
from resources.failures import PermanentFailure

ITEMS = {f"item_{k}": 1 for k in range(1, 66)}


def make(
    settings: Mapping[str, Any],
    mark: float | None = None,
    scores: Sequence[int] = (),
    sem: float | None = None,
    items: Mapping[str, int] = ITEMS,
) -> FormTable:
    """Make the table of a form whose items have no published values."""
    rules = rules_from_settings(settings)
    scale = Scale("default", rules=rules, marks={} if mark is None else {rules.scores.unit: mark})
    statistics = {"sem": sem} if sem else {}
    form = FormRow(form_id="F", n=sum(scores), n_items=1, max_score=1, scores=tuple(scores), statistics=statistics)
    return _make(scale, "2026-06", PublishedSet({}, "hash"), "F", items, form, None)


def test_line_through_two_points_gives_both_exactly() -> None:
    found = make({"score_by": "raw", "score_points": "44:700,65:1000"}, 44).table
    assert (found.raw_cut, found.scaled[44], found.scaled[65]) == (44, 700, 1000)
    assert found.scaled[[43, 45]].tolist() == [686, 714]  # 300 / 21 a point
    assert found.unrounded[44] == pytest.approx(700, abs=1e-9)


def test_line_from_100_to_1000_passes_from_44_of_65_on() -> None:
    """Scores from 100 to 1000 with the pass mark 700: 43 of 65 is 695, and 44 is 709."""
    found = make({"score_by": "raw", "score_points": "0:100,65:1000"}, (700 - 100) * 65 / 900)
    assert found.table.raw_cut == 44
    assert found.table.scaled[[0, 43, 44, 65]].tolist() == [100, 695, 709, 1000]
    assert found.spec["mark"] == pytest.approx(700)
    assert found.set_hash == ""
    assert np.isnan(found.table.theta).all()


def test_percent_counts_in_the_forms_own_maximum() -> None:
    settings = {"score_by": "percent", "score_slope": 1.0, "score_step": 0.5}
    long, short = make(settings, 60.0).table, make(settings, 60.0, items={"a": 3, "b": 7}).table
    assert (long.raw_cut, short.raw_cut) == (39, 6)
    assert (long.scaled[39], short.scaled[6], short.scaled[-1]) == (60, 60, 100)


def test_percentile_is_the_rank_in_the_months_learners() -> None:
    settings = {"score_by": "percentile", "score_slope": 1.0, "score_step": 0.1}
    found = make(settings, 50.0, [1, 2, 4, 2, 1], items={"a": 4}).table
    assert found.scaled.tolist() == pytest.approx([5, 20, 50, 80, 95])
    assert found.raw_cut == 2
    with pytest.raises(PsychometricsError, match="norm group has no persons"):
        make(settings, items={"a": 4})


@pytest.mark.parametrize(
    ("rounding", "shown"),
    [("half-up", [67, 67, 69, 70]), ("half-even", [66, 67, 68, 70]), ("not-up-to-pass", [67, 67, 69, 69])],
)
def test_rounding_rule_decides_on_halves_and_on_the_mark(rounding: str, shown: list[float]) -> None:
    """The raw scores 66 to 69 … give 66.5, 67.25, 68.5 and 69.75, and 70 passes."""
    settings = {"score_by": "raw", "score_slope": 0.25, "score_intercept": 0.0, "score_rounding": rounding}
    found = make(settings, 280.0, items={"a": 400})
    assert found.table.scaled[[266, 269, 274, 279]].tolist() == shown
    assert found.table.raw_cut == 280
    assert found.table.scaled[280] == 70


def test_scale_by_theta_shows_no_failed_theta_as_the_mark() -> None:
    rules = rules_from_settings({"score_points": "0:500,1:600", "score_rounding": "not-up-to-pass"})
    found = report_thetas(Scale("default", rules=rules, pass_theta=0.0), np.array([-0.004, 0.0]), np.ones(2))
    assert found.scaled.tolist() == [499, 500]


def test_errors_are_of_measurement_or_the_largest_binomial_ones() -> None:
    settings = {"score_by": "percent", "score_slope": 2.0}
    known = make(settings, 50.0, [5, 2, 3, 2, 1], 0.8, {"a": 4})
    assert known.table.scaled_se.tolist() == pytest.approx([2 * 25 * 0.8] * 5)
    assert known.pass_probability is not None
    assert known.pass_probability[2] == pytest.approx(0.5)
    unknown = make(settings, items={"a": 4})
    assert unknown.table.scaled_se.tolist() == pytest.approx([2 * 25 * 4**0.5 / 2] * 5)
    assert "largest binomial" in unknown.remarks[0]
    assert unknown.pass_probability is None


@pytest.mark.parametrize("points", ["44:700", "44:700,44:800", "a:b,c:d", 7, "1:2:3,4:5"])
def test_points_that_give_no_line_are_rejected(points: object) -> None:
    with pytest.raises(PsychometricsError, match="44:700,65:1000"):
        rules_from_settings({"score_points": points})


def test_missing_values_name_both_ways_to_a_table() -> None:
    with pytest.raises(PsychometricsError, match=r"item_1, .*`irt scores leave-out`.*`irt scale set score_by=raw`"):
        make({"score_slope": 100.0})


def test_mark_of_another_unit_is_no_mark() -> None:
    rules = rules_from_settings({"score_by": "percent", "score_slope": 1.0})
    assert Scale("default", rules=rules, pass_theta=0.3, marks={"raw": 44.0}).pass_mark is None


def test_theta_gives_no_score_on_a_scale_by_raw_scores() -> None:
    rules = rules_from_settings({"score_by": "raw", "score_slope": 1.0})
    with pytest.raises(PermanentFailure, match="score_by=raw"):
        report_thetas(Scale("default", rules=rules), np.zeros(1), np.ones(1))
