"""Metadata of assets on a month: tables, numbers whose trend Dagster draws, and charts of scored items."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import dagster as dg
import numpy as np
import pytest

from irt_assets.abilities.batch import ScaleAbilities
from irt_assets.abilities.blocks import ability_metadata
from irt_assets.blocks.markdown import markdown
from irt_assets.calibration import blocks, plots
from irt_assets.calibration.month import FitOutcome
from irt_assets.common.metadata import decide_in, metadata
from irt_assets.kpis.assets import kpi_table
from irt_assets.kpis.kpi_definitions import MEANINGS, RANGES
from irt_assets.kpis.summary import Summary
from irt_assets.ledger.fit_spec import StagedSpec
from irt_assets.reports.drift_facts import ItemFindings
from irt_assets.reports.item_blocks import category_curves, curves, information, parameters
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import Convergence, Flag
from irt_psychometrics.itemfit import Observed
from irt_psychometrics.items import ItemParameters, ItemRow
from irt_psychometrics.responses import Responses
from psychometrics_testbed.chart_parts import lines, points
from resources.dagster_schema import row_table, rows_of


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def fit() -> Calibration:
    a, d = np.array([1.0, 0.5, np.nan]), np.array([1.0, -0.5, np.nan])
    cov = np.tile(np.eye(2) * 0.01, (3, 1, 1))
    return Calibration(
        ("easy", "hard", "gone"), ("2pl",) * 3, "em", "1", a, d, 0 * np.ones(3), cov, None, np.array([900, 800, 3]),
        np.array([600, 300, 3]), ((), (), (Flag.ALL_CORRECT,)), 0.0, 1.0, 900,
        Convergence(True, 12, 1e-7, 1e-5, -851.5, 4),
    )  # fmt: skip


def outcome_of(calibration: Calibration) -> FitOutcome:
    return FitOutcome(
        scale_id="math",
        engine="em",
        own=True,
        fit_id="f",
        spec=StagedSpec(),
        calibration=calibration,
        error=None,
        seconds=1.5,
    )


def test_table_of_a_fit_lists_flagged_items_first_then_all_items_by_difficulty() -> None:
    found = blocks.fit_metadata([outcome_of(fit())])
    lines = str(found["items (math, em)"].value).splitlines()
    assert [cells(line)[0] for line in lines[2:]] == ["gone", "easy", "hard"]
    assert cells(lines[2]) == ["gone", "–", "–", "3", "all_correct"]
    assert cells(lines[3])[:2] == ["easy", "1.00 ± 0.10"]
    assert cells(lines[3])[2].startswith("−1.00 ± ")
    assert {len(cells(line)) for line in lines} == {5}
    numbers = {name: value.value for name, value in found.items() if isinstance(value.value, int | float)}
    assert (numbers["responses (math, em)"], numbers["items fitted (math, em)"]) == (1703, 2)
    assert numbers["log-likelihood a response (math, em)"] == pytest.approx(-0.5)


def test_table_of_a_fit_multiplies_only_slopes_of_one_point_by_the_maximum_score() -> None:
    """The a of a graded item compares to the a of a 0/1 item; the a of a partial credit item belongs to one point."""
    nan = np.nan
    mixed = replace(
        fit(),
        models=("2pl", "grm", "gpcm"),
        a=np.array([1.0, 1.8, 0.6]),
        d=np.array([0.3, 0.2, 0.1]),
        cov=np.tile(np.eye(5) * 0.01, (3, 1, 1)),
        further=np.array([[nan, nan, nan], [0.0, 0.4, 0.0], [0.0, 0.4, 0.0]]),
        categories=np.array([2, 3, 3]),
        score_sums=np.array([600, 700, 4]),
        flags=((), (), ()),
    )
    table = str(blocks.fit_metadata([outcome_of(mixed)])["items (math, em)"].value).splitlines()
    slopes = {cells(line)[0]: cells(line)[1:3] for line in table[2:]}
    assert slopes == {
        "easy": ["1.00 ± 0.10", "1.00 ± 0.10"],
        "hard": ["1.80 ± 0.10", "1.80 ± 0.10"],
        "gone": ["0.60 ± 0.10", "1.20 ± 0.20"],
    }
    charts = plots.item_curves(mixed, mixed.item_ids).charts
    assert [("a·m" in chart.notes[0], chart.notes[0][:8]) for chart in charts] == [
        (False, "a = 1.00"),
        (False, "a = 1.80"),
        (True, "a = 0.60"),
    ]


def test_metadata_of_abilities_includes_distribution_and_reliability() -> None:
    """Empirical reliability is var θ̂ / (var θ̂ + mean SE²), here 1 / (1 + 0.25)."""
    theta = np.array([-1.0, 1.0] * 500)
    measured = [
        ScaleAbilities("math", theta, np.full(1000, 0.5), 30),
        ScaleAbilities("none", *[np.empty(0)] * 2, 0, "why"),
    ]
    found = ability_metadata(measured)
    assert found["reliability (math)"].value == pytest.approx(0.8, abs=0.001)
    assert found["SD θ (math)"].value == 1.0
    assert str(found["plot: θ (math)"].value).startswith("![distribution of θ](data:image/svg+xml")
    lines = str(found["abilities"].value).splitlines()
    assert len({len(line.split("|")) for line in lines}) == 1
    assert cells(lines[2])[6:11] == ["-1.00", "-1.00", "+0.00", "+1.00", "+1.00"]
    assert "why" in lines[3]


def test_metadata_omits_numbers_that_are_nan() -> None:
    assert metadata({}, [("math", [("slope", 1.0), ("p of Q", float("nan"))])]) == {
        "slope (math)": dg.MetadataValue.float(1.0)
    }


def test_rows_of_a_metadata_table_are_read_back() -> None:
    table = row_table(("item", "n"), [("A", 1), ("B", None)])
    assert rows_of({"items": table}, "items") == [{"item": "A", "n": 1}, {"item": "B", "n": ""}]
    assert rows_of({"items": row_table(("item",), [])}, "items") == []
    assert rows_of({}, "items") == []


def test_table_of_kpis_explains_every_kpi() -> None:
    assert MEANINGS.keys() == RANGES.keys()
    written = Summary()
    written.add([{"E_t": 0.2, "S": None, "why": {"S": "no answer"}}, {"E_t": 0.4, "why": {}}])
    assert written.missing == {("S", "no answer"): 1}
    lines = markdown(kpi_table(written)).splitlines()
    assert [cells(line)[0] for line in lines[2:]] == list(RANGES)
    (efficiency,) = [cells(line) for line in lines if line.startswith("| E_t ")]
    assert efficiency == ["E_t", MEANINGS["E_t"], "0 to 1", "2", "0.30"]
    assert [cells(line)[3:] for line in lines if line.startswith("| S ")] == [["0", "–"]]


def test_held_month_links_to_its_page_in_the_dashboard() -> None:
    linked = decide_in("https://irt.example.org/admin", "2026-08")["decide in"]
    assert linked == dg.MetadataValue.url("https://irt.example.org/admin/?view=month&month=2026-08")
    assert decide_in(None, "2026-08")["decide in"].value == "the dashboard, or `irt release`"


# -- scored items ------------------------------------------------------------------------------------
# Charts and tables of a scored item: a curve and a row for each of its scores.

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
    """The ability of learners is known from 60 answers to 0/1 items."""
    rng = np.random.default_rng(1)
    theta, others = rng.normal(size=2000), np.linspace(-2, 2, 60)
    score = (rng.random(2000) > values.score_probabilities(theta).cumsum(axis=0)[:-1]).sum(axis=0)
    right = rng.random((2000, 60)) < 1 / (1 + np.exp(2 * (others - theta[:, None])))
    names = ("essay", *(f"i{j}" for j in range(60)))
    responses = Responses.from_wide(np.column_stack([score, right]), names, np.array([1 + values.max_score] + [2] * 60))
    items = ItemParameters.from_rows(names, [values, *(ItemRow(2.0, b) for b in others)])
    observed = Observed.by_ability(responses, items, ["essay"], mean=0.0, sd=1.0)["essay"]
    return ItemFindings(
        item_id="essay", topic=None, is_anchor=False, published=published, since=datetime(2026, 6, 1, tzinfo=UTC),
        values=values, n=2000, statistics={}, flags=(), drift=None, observed=observed,
    )  # fmt: skip


def test_all_scores_are_on_one_chart_with_published_and_current_curves_and_observed_shares() -> None:
    item = findings(PUBLISHED, NOW)
    figure, table = category_curves(item, SCALE, "2026-08")
    shown = lines(figure.chart)
    assert [line.name for line in shown] == ["", "score 0", "", "score 1", "", "score 2"]
    for published, now, seen in zip(shown[::2], shown[1::2], points(figure.chart), strict=True):
        assert published.ys != now.ys
        assert published.colour == now.colour == seen.colour
        expected = np.interp(seen.xs, now.xs, now.ys)
        assert np.mean((expected >= seen.low) & (expected <= seen.high)) >= 0.75
    assert [row[0] for row in table.rows] == [0, 1, 2]
    assert sum(row[1] for row in table.rows) == 2000
    (whole,) = points(curves("A", item.published, item.values, SCALE, "2026-08", item.observed).chart)
    assert max(whole.ys) <= 1


def test_score_that_is_impossible_has_no_curve() -> None:
    gap = replace(NOW, further={"max_score": 2, "t0": 0.0, "t2": 0.0})
    figure, table = category_curves(findings(gap, gap), SCALE, "2026-08")
    assert {line.name for line in lines(figure.chart)} == {"", "score 0", "score 2"}
    assert gap.steps == {}
    assert [column.name for column in table.columns][4:] == ["t, published", "t, estimate", "t, change"]
    assert [row[5] for row in table.rows] == ["0.00", "–", "0.00"]


def test_parameters_of_a_scored_item_include_its_steps() -> None:
    assert PUBLISHED.steps == {
        1: (pytest.approx(-0.2 - 0.8 / 0.9), 0.12),
        2: (pytest.approx(-0.2 + 0.8 / 0.9), 0.13),
    }
    assert parameters(PUBLISHED) == "a 0.90 ± 0.05, a·m 1.80 ± 0.10, b −0.20 ± 0.06, steps −1.09 ± 0.12, 0.69 ± 0.13"
    _, table = category_curves(findings(PUBLISHED, NOW), SCALE, "2026-08")
    assert [column.name for column in table.columns][4:] == ["step, published", "step, estimate", "step, change"]
    assert [row[4] for row in table.rows] == ["–", "−1.09 ± 0.12", "0.69 ± 0.13"]
    assert [row[6] for row in table.rows] == ["–", "+0.30", "+0.30"]
    assert "A step is where a score and the one below it are equally likely." in str(table.caption)


def test_graded_item_has_thresholds_where_half_of_the_learners_reach_a_score() -> None:
    """Widths of e^0 = 1 and e^ln 2 = 2 put the thresholds of aθ + d at −4/3, −1/3 and 5/3, so b_k is b plus a half."""
    widths = {"w0": 0.0, "w1": 0.0, "w2": float(np.log(2.0)), "w3": 0.0, "b1_se": 0.2, "b2_se": 0.1, "b3_se": 0.3}
    graded = ItemRow(2.0, 0.1, 0.0, 0.05, 0.06, 0.0, further={"max_score": 3} | widths)
    expected = [0.1 - 2 / 3, 0.1 - 1 / 6, 0.1 + 5 / 6]
    assert [step for step, _ in graded.steps.values()] == pytest.approx(expected)
    reached = 1 - graded.score_probabilities(np.array(expected)).cumsum(axis=0)[:-1]
    assert reached.diagonal() == pytest.approx([0.5] * 3)
    assert parameters(graded) == "a 2.00 ± 0.05, b 0.10 ± 0.06, thresholds −0.57 ± 0.20, −0.07 ± 0.10, 0.93 ± 0.30"
    figure, table = category_curves(findings(graded, replace(graded, b=0.3)), SCALE, "2026-08")
    assert [row[4:] for row in table.rows][1:3] == [
        ("−0.57 ± 0.20", "−0.37 ± 0.20", "+0.20"),
        ("−0.07 ± 0.10", "0.13 ± 0.10", "+0.20"),
    ]
    assert "A threshold is where the score or a higher one has probability 1/2." in str(table.caption)
    assert {line.name for line in lines(figure.chart)} == {"", *(f"score {k}" for k in range(4))}


def test_item_published_with_steps_and_estimated_with_thresholds_has_both_and_no_change() -> None:
    graded = ItemRow(1.8, 0.1, further={"max_score": 2, "w0": 0.0, "w1": 0.5, "w2": 0.0})
    _, table = category_curves(findings(PUBLISHED, graded), SCALE, "2026-08")
    assert [column.name for column in table.columns][4:] == ["step, published", "threshold, estimate"]
    assert "A step is" in str(table.caption)
    assert "A threshold is" in str(table.caption)


def test_information_of_an_item_is_greatest_at_its_difficulty_and_compared_with_the_test_at_the_pass_mark() -> None:
    """A 2PL item's information is at most a²/4, at θ = b; two equal items share the information of their test."""
    row = {"a": 1.2, "b": 0.5, "in_force": True}
    test = ItemParameters.from_rows(["A", "B"], [ItemRow(1.2, 0.5)] * 2)
    scale = SimpleNamespace(mu=0.0, sigma=1.0, pass_theta=-0.3)
    facts: Any = SimpleNamespace(item_id="A", publication=row, scale=scale, test=test)
    figure = information(facts, None, "2026-08")
    assert figure.caption == (
        "Information: at most 0.360, at θ = 0.5; at the pass mark θ = −0.30 it is 50.0 % of the information of "
        "the test."
    )
    (line,) = figure.chart.parts
    assert max(line.ys) == pytest.approx(1.2**2 / 4)
    facts.publication = None
    assert information(facts, None, "2026-08") is None


def test_dichotomous_items_have_no_charts_by_score_and_no_steps() -> None:
    plain = ItemRow(0.9, -0.2, 0.0, 0.05, 0.06, 0.0)
    item = replace(findings(PUBLISHED, NOW), published=plain, values=plain, observed=None)
    assert category_curves(item, SCALE, "2026-08") == ()
    assert parameters(plain) == "a 0.90 ± 0.05, b −0.20 ± 0.06"


@pytest.mark.usefixtures("trial_model")
def test_item_of_a_registered_model_has_its_parameters_curves_and_information() -> None:
    """The 4PL is in the testbed alone."""
    values = ItemRow(2.0, 0.3, 0.2, 0.1, 0.08, 0.0, 0.03, further={"u": 0.95, "u_se": 0.02})
    assert parameters(values) == "a 2.00 ± 0.10, b 0.30 ± 0.08, c 0.20 ± 0.03, u 0.95 ± 0.02"
    item = replace(findings(PUBLISHED, NOW), published=values, values=values, observed=None)
    assert category_curves(item, SCALE, "2026-08") == ()
    shown = lines(curves("A", values, values, SCALE, "2026-08").chart)
    assert len(shown) == 2
    for line in shown:
        logistic = 1 / (1 + np.exp(-2 * (np.array(line.xs) - 0.3)))
        np.testing.assert_allclose(line.ys, 0.2 + 0.75 * logistic, atol=1e-9)
    facts: Any = SimpleNamespace(item_id="A", publication=None, scale=SCALE, test=None)
    (of_information,) = information(facts, values, "2026-08").chart.parts
    p = 0.2 + 0.75 * logistic
    expected = (2 * 0.75 * logistic * (1 - logistic)) ** 2 / (p * (1 - p))
    np.testing.assert_allclose(of_information.ys, expected, atol=1e-9)
