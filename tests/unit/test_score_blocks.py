"""Blocks on reported scores, with four raw scores whose figures are calculated by hand."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from irt_assets.blocks import Block, Section, Table, html
from irt_assets.item_analysis.stored import FormRow, SubscoreRow
from irt_assets.reports.form_facts import FormFacts, ReportedForm
from irt_assets.reports.score_blocks import reported_scores, subscores
from irt_assets.scales.scale import Scale
from irt_assets.scores.form_tables import FormTable
from irt_assets.scores.issued import IssuedScore
from irt_assets.scores.releases import ScoreChanges, TableRelease
from irt_psychometrics.items import ItemRow
from irt_psychometrics.scoring import ScoreScale, ScoreTable

ITEMS = ("i1", "i2", "i3")
THETA = np.array([-1.5, -0.5, 0.5, 1.5])
SE = np.full(4, 0.5)
COUNTS = (1, 1, 1, 1)


def score_table(table_id: int, *, intercept: float = 50.0, highest: float = 200.0) -> FormTable:
    """θ of the raw scores 0 to 3 × 10 + `intercept`; raw scores 2 and 3 reach the mark of 50 if it is 50."""
    line = ScoreScale(10.0, intercept, 1.0, 0.0, highest)
    rules = {"score_slope": 10.0, "score_intercept": intercept, "score_step": 1.0}
    rules |= {"score_lowest": 0.0, "score_highest": highest}
    spec: dict[str, Any] = {"items": dict.fromkeys(ITEMS, 1), "n": 4, "mark": 50.0, "pass_theta": 0.0, "rules": rules}
    table = ScoreTable.from_values(THETA, SE, line, norm_counts=COUNTS, mark=50.0)
    return FormTable(
        scale_id="default",
        form_id="F",
        month="2026-06",
        method="test-curve",
        set_hash="",
        spec=spec | {"notes": []},
        table=table,
        table_id=table_id,
    )


FORM = FormRow(form_id="F", n=4, n_items=3, max_score=3, statistics={"alpha": 0.7}, scores=COUNTS)
FACTS = FormFacts(
    scale=Scale("default", pass_theta=0.0),
    month="2026-06",
    form=FORM,
    items=(),
    values={name: ItemRow(1.0, b) for name, b in zip(ITEMS, (-1.0, 0.0, 1.0), strict=True)},
    fit=None,
)


def sections(reported: ReportedForm | None, form: FormRow = FORM) -> dict[str, Section]:
    found = reported_scores(replace(FACTS, reported=reported, form=form))
    return {block.title: block for block in found if isinstance(block, Section)}


def text(blocks: Iterable[Block]) -> str:
    return html.part(*blocks)


def rows(section: Section) -> list[list[Any]]:
    (table,) = (block for block in section.blocks if isinstance(block, Table))
    return list(table.body())


def test_score_table_gives_scores_and_the_pass_in_words() -> None:
    found = sections(ReportedForm(released=score_table(1)))
    assert list(found) == ["Scores", "Pass and fail"]
    # percentile ranks of one learner each: half of the own one, and all below
    assert rows(found["Scores"]) == [
        ["0", "−1.50", "0.50", "35.00", "35", "5.00", "12.5", "fail"],
        ["1", "−0.50", "0.50", "45.00", "45", "5.00", "37.5", "fail"],
        ["2", "0.50", "0.50", "55.00", "55", "5.00", "62.5", "pass"],
        ["3", "1.50", "0.50", "65.00", "65", "5.00", "87.5", "pass"],
    ]
    shown = text(found["Scores"].blocks)
    assert "Raw scores from 2 of 3 on pass." in shown
    assert "50 (θ = 0.00), for scores before rounding" in shown
    assert "Kolen" in shown
    assert "learners of 2026-06, n = 4" in shown
    assert "No raw score gives" not in shown


def test_raw_scores_with_one_scaled_score_are_named() -> None:
    found = sections(ReportedForm(released=score_table(1, highest=55.0)))
    assert "Raw scores with one scaled score: 2 to 3." in text(found["Scores"].blocks)


def test_rudners_accuracy_is_the_mean_probability_of_the_own_side_of_the_mark() -> None:
    lee, rudner, _ = rows(sections(ReportedForm(released=score_table(1)))["Pass and fail"])
    # Φ(3) = 0.99865 and Φ(1) = 0.84134, each for half of the learners
    assert rudner[:3] == ["Rudner", "4 of 2026-06", "θ from 0.00"]
    assert rudner[3].startswith("92.0% (")
    # consistency: the means of 0.99865² + 0.00135² and of 0.84134² + 0.15866²
    assert rudner[4:] == ["86.5%", "0.73", "4.0%", "4.0%"]
    assert lee[1:3] == ["θ ~ N(0, 1²)", "expected raw score from 2"]


def test_decisions_without_complete_scores_are_not_judged() -> None:
    incomplete = replace(FORM, scores=(), statistics={})
    found = sections(ReportedForm(released=score_table(1)), incomplete)["Pass and fail"]
    assert "not all learners have a score on all items" in text(found.blocks)


def test_form_scored_by_theta_is_judged_by_the_scores_that_were_handed_out() -> None:
    issued = [
        IssuedScore(
            user_id=f"u{k}",
            scale_id="default",
            form_id="F",
            session_id="",
            sat_at=datetime(2026, 6, 3, tzinfo=UTC),
            raw=None,
            theta=theta,
            theta_se=0.5,
            scaled=50.0,
            scaled_se=5.0,
            percentile=None,
            passes=theta >= 0,
            pass_probability=None,
            table_id=None,
            set_hash="",
            status="issued",
            decided_by="Ann",
            reason="June",
        )
        for k, theta in enumerate(THETA.tolist())
    ]
    (only,) = rows(sections(ReportedForm(by_theta=True, issued=tuple(issued)))["Pass and fail"])
    assert only[1] == "4 scores of 2026-06"
    assert only[3].startswith("92.0% (")
    assert "no score of the month is handed out" in text(sections(ReportedForm(by_theta=True))["Pass and fail"].blocks)


def test_newest_table_is_compared_with_the_released_table() -> None:
    old, new = score_table(1), score_table(2, intercept=43.0)
    release = TableRelease("F", new, old, ScoreChanges(4, 4, 0, 1))
    found = sections(ReportedForm(released=old, release=release))
    assert "Score table 1 of 2026-06 is released." in text(found["Scores"].blocks)
    assert rows(found["Changes by the newest table"]) == [
        ["0", "1", "35", "28", "−7.00", "fail"],
        ["1", "1", "45", "38", "−7.00", "fail"],
        ["2", "1", "55", "48", "−7.00", "pass → fail"],
        ["3", "1", "65", "58", "−7.00", "pass"],
    ]


def test_form_without_a_released_table_says_why_no_scores_can_be_handed_out() -> None:
    waiting = sections(ReportedForm(release=TableRelease("F", score_table(2), None)))
    assert "Score table 2 of 2026-06 is the newest. No table is released yet" in text(waiting["Scores"].blocks)
    assert "Changes by the newest table" not in waiting
    without = sections(ReportedForm(why="no values are published of i3"))
    assert list(without) == ["Scores"]
    assert "no score table: no values are published of i3." in text(without["Scores"].blocks)
    assert sections(None) == {}


def test_subscores_are_shown_only_if_one_says_more_than_the_total_score() -> None:
    algebra = SubscoreRow(topic="algebra", n_items=10, by_subscore=0.8, by_total=0.7)
    geometry = SubscoreRow(topic="geometry", n_items=5, by_subscore=0.5, by_total=0.6)
    (shown,) = subscores(replace(FORM, subscores=(algebra, geometry)))
    assert isinstance(shown, Section)
    assert rows(shown) == [["algebra", "10", "0.800", "0.700", "yes"], ["geometry", "5", "0.500", "0.600", "no"]]
    (none,) = subscores(replace(FORM, subscores=(geometry,)))
    assert "no subscores: the total score predicts" in text([none])
    assert rows(none) == [["geometry", "5", "0.500", "0.600", "no"]]
    (one,) = subscores(replace(FORM, no_subscores="all items have one topic"))
    assert "The form has no subscores: all items have one topic." in text([one])
    assert list(subscores(FORM)) == []
