"""Limits of the gate on new misfit in simulated months, and the parallel analysis that is stored with a fit."""

from __future__ import annotations

import json

import numpy as np
import pytest

from irt_assets.gates.misfit import window_of
from irt_assets.gates.model_gates import LIMITS
from irt_assets.ledger.fit_spec import SetStatistics
from irt_psychometrics import Calibration
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.itemfit import FitSummary, Window
from irt_psychometrics.responses import Responses
from psychometrics_testbed.misfit import CHOOSING, GUESS, INTERCEPT, ITEMS, SLOPE, Bank, Row, World, simulate
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE
from tests.helpers.fit_specs import PARALLEL, SET

pytestmark = WHERE_STATISTICS_CHANGE


ROWS = {row.name: row for row in CHOOSING}


def failed_measures(row: Row, seed: int) -> set[str]:
    growth = simulate(row, [seed, 0]).change.growth
    return {name for name, measure in growth.items() if measure is not None and measure.low > LIMITS[name]}


@pytest.mark.ci
@pytest.mark.parametrize("row", [name for name in ROWS if name.endswith("as before")])
def test_month_is_not_held_if_the_origin_had_the_same_misfit(row: str) -> None:
    """Under 1 % of 200 such months are held; with probability 0.98 neither of two is held, and seeds are fixed."""
    assert [failed_measures(ROWS[row], seed) for seed in range(2)] == [set()] * 2


@pytest.mark.ci
@pytest.mark.parametrize(
    ("row", "measure"),
    [
        ("sound: 10 % at random", "random"),
        ("testlets, SD .7: 10 % at random", "random"),
        ("sound: 20 % not reached", "ratio"),
        ("χ²₄: 20 % not reached", "ratio"),
    ],
)
def test_month_is_held_if_its_misfit_is_new(row: str, measure: str) -> None:
    """Two of three months without new misfit are held with probability 0.0003."""
    found = [failed_measures(ROWS[row], seed) for seed in range(3)]
    assert sum(measure in names for names in found) >= 2


@pytest.mark.parametrize("forms", [False, True])
def test_random_answers_are_detected_if_all_learners_guess(forms: bool) -> None:
    """In bench_misfit all months' lower limits are above .02 with such learners, and below 0 without them."""
    bank, growth = Bank.draw(rng := np.random.default_rng(10)), {}
    items = np.arange(ITEMS)
    before = GUESS.answers(bank, items, 2000, 1.0, 0.0, forms, rng)
    reference = Window(before, fit_em(before, threads=1))
    for random in (0.0, 0.1):
        now = World(guessing=0.2, random=random).answers(bank, items, 2000, SLOPE, INTERCEPT, forms, rng)
        change = Window(now, fit_em(now, threads=1)).compare_with(reference, guessing=True)
        growth[random] = change.growth["chance"]
    assert growth[0.0].low < 0 < LIMITS["chance"] < growth[0.1].low
    assert growth[0.1].low < 0.1 < growth[0.1].high


WITHOUT_ERROR = PARALLEL | {"under_model": [], "se": None, "learners": 0, "together": []}


def fit_of_six_items() -> tuple[Responses, Calibration]:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(500, 1)) - np.linspace(-1, 1, 6)
    responses = Responses.from_wide((rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float))
    return responses, fit_em(responses, threads=1)


def test_stored_parallel_analysis_is_read_back_unchanged() -> None:
    responses, fit = fit_of_six_items()
    whole = FitSummary.from_fit(responses, fit, threads=1).whole
    statistics = SetStatistics.from_json(json.loads(json.dumps(whole)), "fit")
    found = window_of(responses, fit, statistics).dimensions
    expected = Window.with_summary(responses, fit, whole["parallel"]).dimensions
    np.testing.assert_array_equal(found.under_model, expected.under_model)
    assert (found.ratio, found.ratio_se, found.p) == (expected.ratio, expected.ratio_se, expected.p)
    assert (found.loading_items, found.learners) == (expected.loading_items, 500)


@pytest.mark.parametrize("kept", [None, WITHOUT_ERROR])
def test_stored_parallel_analysis_is_missing_if_the_fit_was_stored_without(kept: dict[str, object] | None) -> None:
    responses, fit = fit_of_six_items()
    assert window_of(responses, fit, SetStatistics.from_json(SET | {"parallel": kept}, "fit")).dimensions is None
    assert window_of(responses, fit, None).dimensions is None
