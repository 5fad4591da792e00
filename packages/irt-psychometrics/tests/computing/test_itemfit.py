"""Infit, outfit, RMSD, S-X² and classical statistics: plain definitions, sound and misfitting items, edge cases."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from irt_psychometrics.core.classical import item_rest_correlation, proportion_correct
from irt_psychometrics.core.curves import probability
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.core.significance import normal_score
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.response_layout import ResponseLayout
from irt_psychometrics.itemfit.item_statistics import item_fit
from irt_psychometrics.itemfit.item_sums import ItemSums
from irt_psychometrics.itemfit.sum_score_fit import sum_score_fit
from psychometrics_testbed.fit_worlds import planned, two_sided
from psychometrics_testbed.linked_months import anchor_set
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE


@pytest.fixture(autouse=True)
def quick(simulate_about):
    simulate_about(150_000)


@pytest.fixture(scope="module")
def sound():
    x = planned(np.random.default_rng(12))
    responses = Responses.from_wide(x)
    return x, responses, fit_em(responses)


def test_fit_statistics_match_their_definitions_as_posterior_expectations(sound):
    x, responses, fit = sound
    theta = np.linspace(-6, 6, 61)
    p = probability(theta, fit.a, fit.d, fit.c)
    seen = ~np.isnan(x)
    right = np.where(seen, x, 0)
    log_post = right @ np.log(p).T + (seen - right) @ np.log(1 - p).T - 0.5 * theta**2
    post = np.exp(log_post - log_post.max(1, keepdims=True))
    post /= post.sum(1, keepdims=True)
    found = item_fit(responses, fit)
    for j in (0, 17, 39):
        who = seen[:, j]
        squared = (x[who, j][:, None] - p[:, j]) ** 2
        variance = p[:, j] * (1 - p[:, j])
        n_q = post[who].sum(0)
        observed = (post[who] * x[who, j][:, None]).sum(0) / n_q
        infit = (post[who] * squared).sum() / (post[who] @ variance).sum()
        outfit = (post[who] * squared / variance).sum(1).mean()
        rmsd = np.sqrt((n_q * (observed - p[:, j]) ** 2).sum() / n_q.sum())
        assert (found.infit[j], found.outfit[j], found.rmsd[j]) == pytest.approx((infit, outfit, rmsd), abs=1e-8)


def _guessed(rng):
    x = planned(rng, persons=3000)
    return np.where((x == 0) & (rng.random(x.shape) < 0.2), 1.0, x)


def _grouped(rng):
    x = planned(rng)
    return np.concatenate([x, planned(rng)[:700]]), ["one"] * len(x) + ["two"] * 700


@pytest.mark.parametrize("shape", ["2pl", "rasch", "3pl", "histogram", "groups", "anchored", "all right", "one thread"])
def test_fit_statistics_from_sums_over_shards_match_a_pass_over_responses(shape):
    """Executors sum over shards; the direct way is a pass over the responses."""
    rng, options, groups = np.random.default_rng(4), {}, None
    x = _guessed(rng) if shape == "3pl" else planned(rng)
    if shape == "groups":
        x, groups = _grouped(rng)
        options = {"groups": groups}
    elif shape == "histogram":
        options = {"latent": "histogram"}
    elif shape in ("rasch", "3pl"):
        options = {"model": shape}
    elif shape == "all right":
        x[:, 3] = np.where(np.isnan(x[:, 3]), np.nan, 1)
    responses = Responses.from_wide(x)
    if shape == "anchored":
        fit = fit_em(responses)
        known = anchor_set(1.1 * fit.a[:4], 0.2 - fit.d[:4] / fit.a[:4], np.tile(0.01 * np.eye(2), (4, 1, 1)))
        options = {"anchors": replace(known, item_ids=fit.item_ids[:4])}
    fit = fit_em(responses, **options)
    keep = fit.estimated
    group_index = np.array([["one", "two"].index(group) for group in groups or ["one"] * len(x)])
    layout = ResponseLayout.from_responses(responses.of_items(keep), group=group_index, rarer=shape == "3pl", shards=5)
    assert layout.flipped.any() == (shape == "3pl")
    sums = ItemSums.from_answers(layout, fit, threads=1 if shape == "one thread" else 2)
    direct, by_sums = (item_fit(responses, fit, groups=groups, everybody=some) for some in (None, sums))
    for name in ("infit", "outfit", "infit_z", "outfit_z", "rmsd", "rmsd_cutoff", "rmsd_p"):
        # 2,000 terms of about 1 are added in a different order; exponentials are accurate to 2e-14
        np.testing.assert_allclose(getattr(by_sums, name), getattr(direct, name), rtol=1e-8, atol=1e-9)
    expected = item_rest_correlation(responses.of_items(keep))
    np.testing.assert_allclose(sums.item_rest[keep], expected, atol=1e-11)
    assert np.isnan(sums.item_rest[~keep]).all()


def test_a_seed_gives_the_same_numbers_on_any_number_of_threads(sound):
    _, responses, fit = sound
    one, two = (item_fit(responses, fit, random_state=5, threads=t) for t in (1, 2))
    for name in ("infit_z", "outfit_z", "rmsd", "rmsd_cutoff", "rmsd_p"):
        np.testing.assert_array_equal(getattr(one, name), getattr(two, name))


def test_only_the_item_answered_correctly_by_middling_learners_is_flagged():
    x = planned(np.random.default_rng(3), persons=3000)
    middling = np.abs(np.nanmean(x, axis=1) - 0.55) < 0.12
    x[:, 11] = np.where(np.isnan(x[:, 11]), np.nan, middling)
    responses = Responses.from_wide(x)
    fit = fit_em(responses)
    found, s_x2 = item_fit(responses, fit), sum_score_fit(responses, fit)
    assert found.rmsd[11] > 0.05
    assert found.rmsd[11] > found.rmsd_cutoff[11]
    assert s_x2.p[11] < 1e-6
    others = np.delete(np.arange(40), 11)
    assert (found.rmsd[others] > found.rmsd_cutoff[others]).sum() == 0


def test_only_items_without_parameters_or_answers_lack_fit_statistics(sound):
    x, _, _ = sound
    wider = np.column_stack([np.ones(len(x)), x, np.full(len(x), np.nan)])
    responses = Responses.from_wide(wider)
    fit = fit_em(responses)
    found, s_x2 = item_fit(responses, fit), sum_score_fit(responses, fit)
    for values in (found.infit, found.rmsd, found.rmsd_cutoff, s_x2.statistic, s_x2.p):
        assert np.isnan(values[[0, -1]]).all()
        assert np.isfinite(values[1:-1]).all()
    assert (s_x2.df[[0, -1]].tolist(), s_x2.n[1:-1].min()) == ([0, 0], 500)


def test_responses_to_items_outside_the_fit_are_refused_with_the_item(sound):
    _, responses, fit = sound
    other = replace(responses, item_ids=("strange", *responses.item_ids[1:]))
    with pytest.raises(PsychometricsError, match="strange"):
        item_fit(other, fit)
    with pytest.raises(PsychometricsError, match="another order"):
        item_fit(replace(responses, item_ids=responses.item_ids[::-1]), fit)


def test_s_x2_of_small_forms_is_not_computed():
    rng = np.random.default_rng(5)
    x = rng.integers(0, 2, (90, 6)).astype(float)
    responses = Responses.from_wide(x)
    found = sum_score_fit(responses, fit_em(responses, model="rasch"))
    assert found.df.tolist() == [0] * 6
    assert np.isnan(found.p).all()


def test_item_rest_correlation_on_complete_data_matches_the_textbook_formula():
    rng = np.random.default_rng(9)
    x = (rng.random((300, 6)) < 1 / (1 + np.exp(-rng.normal(size=(300, 1))))).astype(float)
    expected = [np.corrcoef(x[:, j], np.delete(x, j, 1).sum(1))[0, 1] for j in range(6)]
    np.testing.assert_allclose(item_rest_correlation(Responses.from_wide(x)), expected, atol=1e-12)
    np.testing.assert_allclose(proportion_correct(Responses.from_wide(x)), x.mean(0))


def test_item_rest_correlation_ignores_differences_of_difficulty_between_forms():
    """Two forms of very different difficulty share an item, so unadjusted rest scores would correlate with the form."""
    rng = np.random.default_rng(10)
    theta = rng.normal(size=4000)
    easy = np.arange(4000) % 2 == 0
    difficulty = np.concatenate([np.full(10, -2.0), np.full(10, 2.0), [0.0]])
    x = (rng.random((4000, 21)) < 1 / (1 + np.exp(difficulty - theta[:, None]))).astype(float)
    x[np.ix_(easy, np.arange(10, 20))] = np.nan
    x[np.ix_(~easy, np.arange(10))] = np.nan
    within = [np.corrcoef(x[form, 20], np.nansum(x[form, :20], 1))[0, 1] for form in (easy, ~easy)]
    # standard error of a correlation at n = 4000 is 0.016
    assert item_rest_correlation(Responses.from_wide(x))[20] == pytest.approx(np.mean(within), abs=0.03)


def test_constant_or_unanswered_items_have_no_item_rest_correlation():
    x = np.array([[1.0, 1, 0, np.nan], [1, 0, 1, np.nan], [1, 1, 1, np.nan], [1, 0, 0, np.nan]])
    found = item_rest_correlation(Responses.from_wide(x))
    assert np.isnan(found[[0, 3]]).all()
    assert np.isfinite(found[[1, 2]]).all()


def test_the_cube_root_makes_a_skewed_sum_normal():
    """A standardised χ² with 20 degrees of freedom has the skewness √(8/20)."""
    draws = (np.random.default_rng(2).chisquare(20, 200_000) - 20) / np.sqrt(40)
    for level in (0.05, 0.01):
        rate = (two_sided(normal_score(draws, np.sqrt(8 / 20))) < level).mean()
        # four binomial errors at 200,000 draws
        assert rate == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 200_000) + 0.02 * level)
    np.testing.assert_allclose(normal_score(draws[:10], np.zeros(10)), draws[:10], atol=1e-5)
