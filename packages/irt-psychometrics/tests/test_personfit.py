"""lz*: the published formula, learners who answer at random, and extreme patterns."""

from __future__ import annotations

import numpy as np
import pytest

from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.person_fit import person_fit
from psychometrics_testbed.fit_worlds import known


@pytest.mark.parametrize("guessing", [0.0, 0.2])
def test_lz_star_matches_the_published_formula(guessing):
    """Magis, Raîche & Béland (2012), eqs. 5-11, with derivatives of the curve by differences."""
    rng = np.random.default_rng(4)
    J, h = 12, 1e-4
    a, d, c = rng.uniform(0.6, 1.8, J), rng.normal(0, 1, J), np.full(J, guessing)
    x = rng.integers(0, 2, (6, J)).astype(float)
    x[0, :4] = np.nan
    found = person_fit(Responses.from_wide(x), known(a, d, c))
    for row, theta, lz in zip(x, found.theta, found.lz, strict=True):
        seen = ~np.isnan(row)
        below, p, above = probability(theta + h * np.array([-1, 0, 1]), a[seen], d[seen], c[seen])
        slope, bend, q = (above - below) / (2 * h), (above - 2 * p + below) / h**2, 1 - p
        r, w = slope / (p * q), np.log(p / q)
        r0 = (slope * bend / (p * q)).sum() / (2 * (slope**2 / (p * q)).sum())
        k = (slope * w).sum() / (slope * r).sum()
        expected = (((row[seen] - p) * w).sum() + k * r0) / np.sqrt(((w - k * r) ** 2 * p * q).sum())
        assert lz == pytest.approx(expected, abs=1e-5)  # second differences of step 1e-4


def test_random_answers_are_flagged_and_sound_learners_are_not():
    rng = np.random.default_rng(5)
    a, d = rng.uniform(0.8, 1.8, 40), rng.normal(0, 1.5, 40)
    x = (rng.random((2000, 40)) < probability(rng.normal(size=2000), a, d, np.zeros(40))).astype(float)
    x[:100] = rng.integers(0, 2, (100, 40))
    responses = Responses.from_wide(x)
    p = person_fit(responses, fit_em(responses)).p
    assert (p[:100] < 0.05).mean() > 0.9
    # 1900 sound learners: binomial error 0.005; the 100 random ones slightly distort the parameters
    assert (p[100:] < 0.05).mean() < 0.06


def test_perfect_patterns_are_likely_and_short_tests_have_no_p():
    x = np.full((4, 8), np.nan)
    x[0], x[1], x[2, : Measure.MIN_ITEMS], x[3, : Measure.MIN_ITEMS - 1] = 1, 0, [1, 0, 1, 1, 0], 1
    found = person_fit(Responses.from_wide(x), known(np.linspace(0.8, 1.5, 8), np.linspace(-2, 1, 8)))
    assert np.isfinite(found.p[:3]).all()
    assert found.p[:2].min() > 0.05  # very able learners have perfect patterns
    assert np.isnan(found.p[3])
    assert np.isnan(found.lz[3])


@pytest.mark.parametrize("a", [np.ones(8), np.linspace(0.8, 1.5, 8)])
def test_lz_star_is_missing_if_the_score_determines_the_log_likelihood(a):
    """If all difficulties are equal, the log-odds are proportional to the weights of the score: no variance is left."""
    x = np.random.default_rng(8).integers(0, 2, (20, 8)).astype(float)
    assert np.isnan(person_fit(Responses.from_wide(x), known(a, np.zeros(8))).p).all()


def test_lz_star_does_not_depend_on_the_number_of_threads():
    rng = np.random.default_rng(6)
    x = rng.integers(0, 2, (4000, 30)).astype(float)
    fit = known(rng.uniform(0.5, 2, 30), rng.normal(0, 1, 30))
    one, three = (person_fit(Responses.from_wide(x), fit, threads=t) for t in (1, 3))
    np.testing.assert_array_equal(one.lz, three.lz)
