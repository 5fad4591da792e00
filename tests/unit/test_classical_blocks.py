"""Item analysis in words, of SAT12's item 32."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import pytest

from irt_assets.blocks import Badge, plain
from irt_assets.item_analysis.analysis import Analysis
from irt_assets.item_analysis.key_evidence import key_warning
from irt_assets.item_analysis.option_curves import add_curves
from irt_assets.item_analysis.stored import OptionCurve, OptionInformation
from irt_assets.reports import classical_blocks
from psychometrics_testbed.chart_parts import lines, points
from tests.helpers.sat12 import ITEM_32, OPTIONS


def test_option_that_beats_the_key_is_named_with_shares_and_correlations() -> None:
    assert key_warning(ITEM_32) == (
        "Option 3 (chosen by 44 %, r = 0.20) beats the key 5 (chosen by 16 %, r = 0.04): the key may be wrong."
    )


def test_key_without_a_flagged_option_has_no_warning() -> None:
    unflagged = tuple(replace(option, flags=()) for option in OPTIONS)
    assert key_warning(replace(ITEM_32, options=unflagged)) == ""


def test_all_options_are_traced_on_one_chart_whose_wide_line_is_the_key() -> None:
    chart = classical_blocks.trace_lines(ITEM_32).chart
    options = points(chart)
    assert [part.name for part in options] == [f"option {name}{' (key)' * (name == '5')}" for name in "12345"]
    assert all(part.low and part.high for part in options)
    (key,) = lines(chart)
    assert key.colour == options[-1].colour


def test_options_by_model_are_softmax_curves_in_the_colours_of_the_traces() -> None:
    """Logits of option 1 and of the key 5 are −θ and θ, so P(5) is 1 / (1 + exp(−2θ))."""
    known = {"intercept": 0.0, "intercept_se": 0.1, "slope_se": 0.1}
    curves = tuple(
        OptionCurve(option=name, is_key=name == "5", slope=slope, **known) for name, slope in (("1", -1.0), ("5", 1.0))
    )
    information = (OptionInformation(-1.0, 0.25, 0.125), OptionInformation(0.0, 0.5, 0.0))
    (figure,) = classical_blocks.option_curves(replace(ITEM_32, curves=curves, information=information))
    other, key = lines(figure.chart)
    assert (key.name, key.ys[0], key.ys[30], key.ys[-1]) == pytest.approx(
        ("option 5 (key)", 1 / (1 + 403.4288), 0.5, 403.4288 / 404.4288)
    )  # exp(6) = 403.4288
    assert list(other.ys) == pytest.approx([1 - p for p in key.ys])
    traces = {part.name: part.colour for part in points(classical_blocks.trace_lines(ITEM_32).chart)}
    assert {line.name: line.colour for line in (other, key)}.items() <= traces.items()
    assert figure.caption == (
        "Choices by the nominal model. At −1 and 0 SD, which wrong option was chosen adds 0.12 and 0.00 to the "
        "information in right and wrong, 0.25 and 0.50."
    )


def test_item_without_curves_has_no_chart_but_the_reason() -> None:
    answers = pd.DataFrame({"learner": range(199)})
    of_form = replace(ITEM_32, form_id="SAT12")
    items = add_curves(Analysis([], [of_form, ITEM_32, replace(ITEM_32, item_id="essay", key=None)], answers)).items
    assert [item.no_curves for item in items] == ["", "they need 200 learners, got 199", ""]
    assert [classical_blocks.option_curves(item) for item in items] == [(), (), ()]


def test_table_of_options_marks_the_key_and_the_option_above_it() -> None:
    rows = list(classical_blocks.options_table(ITEM_32).body())
    assert [plain(row[-1]) for row in rows] == ["–", "–", "above the key", "–", "–"]
    assert Badge("key", "good") in rows[4][0]
    assert rows[2][1:4] == ["266", "44.3%", "0.203"]


def test_statistics_of_an_item_are_shares_of_the_learners_to_whom_it_was_presented() -> None:
    known = dict(classical_blocks.statistics(ITEM_32).rows)
    assert known["omitted"] == "7 (1.2 %)"
    assert known["presented"] == "600 learners, 593 answered"
    assert known["D (upper − lower 27 %)"] == "0.07: 0.22 − 0.15"
    assert "response time" not in known
