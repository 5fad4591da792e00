"""Item analysis in words, of SAT12's item 32."""

from __future__ import annotations

from dataclasses import replace

from irt_assets.blocks import Badge, plain
from irt_assets.item_analysis.key_evidence import key_warning
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
