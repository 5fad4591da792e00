"""Calibration of months whose items were all chosen by an adaptive test, over a simulated year with known parameters.

The tests start at the population, so the items depend on the answers of the same session alone, and a fit with one
normal distribution of θ is right (Rubin 1976, Mislevy & Chang 2000).
"""

from __future__ import annotations

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.adaptive import AdaptiveTest, simulate_tests

MONTHS, LEARNERS, ITEMS, LENGTH, MIN_ANSWERS = 12, 4_000, 120, 20, 500


@pytest.mark.ci
@pytest.mark.filterwarnings("ignore::irt_psychometrics.ItemWarning")
def test_year_of_adaptive_months_gives_unbiased_items_and_honest_errors() -> None:
    """Items are chosen by the estimates of the month before. The first estimates have errors of .12.

    The truth is standardised by the month's learners, in whose unit a month is fitted. Items have 500 answers or more.
    The standard error of a mean over the 780 items and months is below .008, and a
    coverage has one of 0.9 points.
    """
    rng = np.random.default_rng(1)
    a, b = np.exp(rng.normal(0.2, 0.3, ITEMS)), rng.normal(0, 1, ITEMS)
    ids = np.array([f"i{k}" for k in range(ITEMS)])
    truth = irt.ItemParameters.from_frame({"item": ids, "a": a, "b": b})
    known_a, known_b = a * np.exp(rng.normal(0, 0.12, ITEMS)), b + rng.normal(0, 0.12, ITEMS)
    errors = []
    for month in range(MONTHS):
        theta = rng.standard_normal(LEARNERS)
        known = irt.ItemParameters.from_frame({"item": ids, "a": known_a, "b": known_b})
        tests = simulate_tests(
            known,
            AdaptiveTest(max_items=LENGTH, max_exposure=0.3),
            theta,
            truth=truth,
            random_state=month,
            threads=1,
            mean=0,
            sd=1,
        )
        person = np.repeat(np.arange(LEARNERS), LENGTH)
        answers = {"person": person, "item": ids[tests.item.ravel()], "score": tests.score.ravel()}
        found = irt.fit(irt.Responses.from_long(answers)).items
        n = np.bincount(tests.item.ravel(), minlength=ITEMS)
        places = np.array([truth.item_ids.index(item) for item in found.item_ids])
        enough = n[places] >= MIN_ANSWERS
        place, mean, sd = places[enough], theta.mean(), theta.std()
        a_hat, b_hat, a_se, b_se = (own[enough] for own in (found.a, found.b, found.a_se, found.b_se))
        errors.append([np.log(a_hat / (a[place] * sd)), a_se / a_hat, b_hat - (b[place] - mean) / sd, b_se])
        known_a[place], known_b[place] = a_hat / sd, b_hat * sd + mean
    log_a, log_a_se, b_error, b_error_se = np.concatenate(errors, axis=1)
    assert log_a.size > MONTHS * ITEMS / 2
    assert np.abs([log_a.mean(), b_error.mean()]).max() < 0.02
    for error, se in ((log_a, log_a_se), (b_error, b_error_se)):
        assert 0.93 <= np.mean(np.abs(error) <= 1.96 * se) <= 0.97
