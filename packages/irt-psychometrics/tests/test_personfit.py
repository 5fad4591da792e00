"""lz*: the published formula, learners who answer at random, and extreme patterns."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.itemfit.measure import Measure
from irt_psychometrics.itemfit.person_patterns import person_fit, person_mean_squares
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


def test_person_fit_of_a_fit_has_a_row_per_person_with_its_label():
    """p0 … p9 answer the hard half of the items correctly and the easy half wrongly."""
    rng = np.random.default_rng(9)
    J, b = 20, np.linspace(-2, 2, 20)
    x = (rng.random((500, J)) < 1 / (1 + np.exp(-(rng.normal(size=(500, 1)) - b)))).astype(float)
    x[:10] = np.arange(J) >= J // 2
    x[10, 4:] = np.nan
    columns = {"who": [f"p{k}" for k in range(500)]} | {f"q{j}": x[:, j] for j in range(J)}
    responses = irt.Responses.from_wide(pd.DataFrame(columns), person="who")
    f = irt.fit(responses, "rasch")
    found = f.person_fit(responses)
    assert set(found.unlikely) >= {f"p{k}" for k in range(10)}
    assert found.outfit[:10].min() > 1.5
    assert 0.9 < np.nanmean(found.infit[11:]) < 1.1
    assert found.n[10] == 4
    assert np.isnan([found.p[10], found.infit[10]]).all()
    np.testing.assert_array_equal(found.theta, f.score(responses, "wle").theta)
    np.testing.assert_array_equal(found.se, f.score(responses, "wle").se)
    frame = found.to_frame()
    assert frame["person"].tolist() == columns["who"]
    assert "1 of 500 persons have fewer than 5 answers" in found._repr_html_()


def test_person_fit_needs_a_converged_fit_and_items_of_the_fit():
    x = irt.datasets.two_forms()[0].responses
    with pytest.warns(irt.NotConvergedWarning):
        stopped = irt.fit(x, max_iterations=3)
    with pytest.raises(irt.PsychometricsError, match="Fit again first"):
        stopped.person_fit(x)
    other = irt.Responses.from_wide({"z": [0, 1]})
    with pytest.raises(irt.PsychometricsError, match="the fit has no item z"):
        irt.fit(x, "rasch").person_fit(other)


def test_mean_squares_of_scored_items_match_their_definition():
    """Expected scores and variances are summed over the scores of each item."""
    data = irt.datasets.rating_scale()
    x, theta = data.responses, np.round(data.theta, 1)
    infit, outfit = person_mean_squares(x, data.truth.curves, theta)
    scores = np.arange(4)
    for i in range(5):
        p = np.array([row[:, 0] for row in data.truth.curves.score_probabilities(theta[[i]])])
        mean = p @ scores
        variance = p @ scores**2 - mean**2
        square = (x.score[x.person == i] - mean) ** 2
        assert infit[i] == pytest.approx(square.sum() / variance.sum())
        assert outfit[i] == pytest.approx((square / variance).mean())


def test_person_fit_of_item_parameters_equals_the_fits():
    x = irt.datasets.two_forms()[0].responses
    fit = irt.fit(x, "2pl")
    of_fit, of_items = fit.person_fit(x), person_fit(x, fit.items)
    for name in ("n", "theta", "se", "lz", "p", "infit", "outfit"):
        np.testing.assert_allclose(getattr(of_items, name), getattr(of_fit, name), atol=1e-6)


def test_person_fit_leaves_out_items_without_parameters():
    x = irt.datasets.two_forms()[0].responses
    items = irt.fit(x, "2pl").items.parameters
    some = items.select(items.item_ids[:20])
    found, alone = person_fit(x, some), person_fit(x.of_items(np.arange(20)), some)
    np.testing.assert_array_equal(found.lz, alone.lz)
    assert found.n.max() == 20
    with pytest.raises(irt.PsychometricsError, match="needs parameters of the items in the responses"):
        person_fit(x, irt.ItemParameters.from_frame({"item": ["other"], "a": [1.0], "b": [0.0]}))
