"""Testlets: recovery of σ, likelihood and SE(θ) by brute force, robust errors, and dependence of items."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics import Calibration
from irt_psychometrics.core.curves import information, probability
from irt_psychometrics.core.item_models import ItemCurves
from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.testlets import number_testlets, share_testlets
from irt_psychometrics.estimation import Effects, estimate_effect_sd, fit_em, testlets
from irt_psychometrics.estimation.testlets import EffectSd
from irt_psychometrics.information import Information
from irt_psychometrics.itemfit import FitSummary, Measure, Window
from irt_psychometrics.itemfit.dependence import local_dependence, parallel_analysis
from irt_psychometrics.items import ItemParameters
from irt_psychometrics.responses import Responses
from irt_psychometrics.scoring import Curves, estimate_abilities
from irt_psychometrics.scoring.abilities import eap, eap_by
from psychometrics_testbed.fit_worlds import known, planned
from psychometrics_testbed.testlets import IDS, Row, answers, bank, pseudo_true, simulate
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

SEED = 1


def fit_month(row: Row, seed: int = 3) -> tuple[Responses, Calibration, EffectSd]:
    _, responses = answers(row, row.learners, *bank(SEED), np.random.default_rng(seed))
    fit = fit_em(responses, threads=1)
    return responses, fit, estimate_effect_sd(responses, fit, row.testlets, threads=1)


# -- σ -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", [Row(0.4), Row(0.7), Row(1.0), Row(0.7, inside=20), Row(0.7, design="testlets")])
def test_the_sd_of_effects_is_recovered(row: Row) -> None:
    """Limits are four standard errors, plus 5 % because an average of logistic curves is only nearly logistic (see
    docs/explanation/testlets.md for 200 months)."""
    _, _, found = fit_month(row)
    assert (found.why, found.n_testlets, found.n_items, found.learners) == ("", row.inside // 5, row.inside, 2000)
    assert 0.01 < found.se < 0.06
    assert abs(found.sd - row.sd) < 4 * found.se + 0.05 * row.sd


def test_sd_of_effects_is_small_if_answers_are_independent() -> None:
    """σ of .15 would widen errors of θ by 1 %; an estimate this large has a chance of a few per thousand."""
    _, _, found = fit_month(Row(0.0))
    assert found.sd < 0.15
    assert 0.02 < found.se < 0.12


def test_sd_of_effects_is_recovered_under_guessing() -> None:
    """A 3PL month; the tolerance is four errors and 10 %, because c is uncertain."""
    a, b = bank(SEED)
    rng = np.random.default_rng(5)
    row = Row(0.7, learners=3000)
    _, responses = answers(row, row.learners, a, b, rng)
    lucky = (rng.random(responses.n_responses) < 0.2).astype(np.int8)
    guessed = replace(responses, score=np.maximum(responses.score, lucky))
    fit = fit_em(guessed, model="3pl", threads=1)
    found = estimate_effect_sd(guessed, fit, row.testlets, threads=1)
    assert abs(found.sd - 0.7) < 4 * found.se + 0.07


def test_sd_of_effects_is_recovered_if_groups_differ_in_ability() -> None:
    """Two groups, one SD apart, answered the same items; the tolerance is the same as for a single group."""
    a, b = bank(SEED)
    rng = np.random.default_rng(6)
    row = Row(0.7, learners=1500)
    _, low = answers(row, row.learners, a, b, rng)
    _, high = answers(row, row.learners, a, b - 1, rng)
    both = Responses(
        np.concatenate([low.person, high.person + row.learners]),
        np.concatenate([low.item, high.item]),
        np.concatenate([low.score, high.score]),
        2 * row.learners,
        low.item_ids,
    )
    groups = ["low"] * row.learners + ["other"] * row.learners
    fit = fit_em(both, groups=groups, reference="low", testlets=row.testlets, threads=1)
    found = estimate_effect_sd(both, fit, row.testlets, groups=groups, threads=1)
    assert abs(found.sd - 0.7) < 4 * found.se + 0.035
    histogram = fit_em(both, groups=groups, latent="histogram", testlets=row.testlets, threads=1)
    again = estimate_effect_sd(both, histogram, row.testlets, groups=groups, threads=1)
    assert abs(again.sd - found.sd) < 0.03  # the same answers, and a nearly normal histogram


def test_effects_are_in_units_of_theta() -> None:
    """On a scale with twice the unit the SD doubles, up to the precision of the optimiser."""
    row = Row(0.7)
    responses, fit, found = fit_month(row)
    doubled = estimate_effect_sd(responses, fit.rescaled(2.0, 1.0), row.testlets, threads=1)
    assert doubled.sd == pytest.approx(2 * found.sd, rel=1e-2)


def test_likelihood_of_testlet_effects_matches_brute_force() -> None:
    """Four learners, two testlets of two items, and an item without testlet. γ has 9 nodes, which err by 1e-5 per
    learner, compared with 201 nodes; the nodes of θ are the same."""
    rng = np.random.default_rng(7)
    a, b = np.array([0.8, 1.5, 1.0, 2.0, 1.2]), np.array([-1.0, 0.0, 0.5, 1.0, -0.5])
    x = np.array([[1, 0, 1, 0, 1], [0, 0, 1, 1, np.nan], [1, 1, np.nan, 0, 0], [1, 1, 1, 1, 1]])
    items = [f"i{j}" for j in range(5)]
    fit = replace(fit_em(Responses.from_wide(rng.integers(0, 2, (300, 5)), items), threads=1), a=a, d=-a * b)
    testlet_of = {"i0": "x", "i1": "y", "i2": "x", "i3": "y"}
    some, abilities = testlets._draw_learners(Responses.from_wide(x, items), fit, np.arange(5), None)
    likelihood = testlets._Likelihood.from_responses(
        some, fit, np.arange(5), number_testlets(items, testlet_of), abilities
    )
    sd = 0.6
    with testlets.kernels.runner(1) as run:
        found = likelihood.value(run, sd, 1.0, 1.0)
    k2 = testlets.FLATTENED
    within = np.array([True, True, True, True, False])
    slope = np.where(within, a / np.sqrt(1 - k2 * (sd * a) ** 2), a)
    marginal_b = b * a / slope * np.sqrt((1 + k2 * slope**2 * (1 + within * sd**2)) / (1 + k2 * a**2))
    nodes, weight = abilities.nodes, np.exp(abilities.log_weights[0])
    gamma = np.linspace(-6, 6, 201)
    chance = np.exp(-(gamma**2) / 2) / np.exp(-(gamma**2) / 2).sum()
    expected = 0.0
    for answered in x:
        total = np.zeros(len(nodes))
        for q, theta in enumerate(nodes):
            given = 1.0
            for group in ([0, 2], [1, 3], [4]):
                p = expit(slope[group] * (theta + sd * within[group] * gamma[:, None] - marginal_b[group]))
                right = answered[group]
                given *= chance @ np.where(np.isnan(right), 1.0, np.where(right == 1, p, 1 - p)).prod(axis=1)
            total[q] = weight[q] * given
        expected += np.log(total.sum())
    assert found == pytest.approx(expected, abs=1e-4)


# -- missing estimates -------------------------------------------------------------------------------


def test_testlets_of_a_single_item_do_not_count_as_shared() -> None:
    assert not share_testlets(["a", "b", "c"], {"a": "one", "b": "two"})
    assert share_testlets(["a", "b", "c"], {"a": "one", "c": "one", "d": "two"})
    odd = {"a": "T'1; --", "b": 'T"1 \\ π', "c": "T'1; --", "d": " "}
    np.testing.assert_array_equal(number_testlets(["a", "b", "c", "d"], odd), [0, -1, 0, -1])


@pytest.mark.parametrize(
    ("row", "testlet_of", "reason"),
    [
        (Row(0.7), dict.fromkeys(IDS, "all"), "1 testlets with at least 2 fitted items are too few"),
        (Row(0.7), {i: i for i in IDS}, "0 testlets"),
        (Row(0.7, size=20), Row(0.7, size=20).testlets, "2 testlets"),
        (Row(0.7, learners=200), Row(0.7).testlets, "200 learners are too few: 300 are needed"),
    ],
)
def test_sd_of_effects_is_missing_with_a_reason_if_data_are_few(
    row: Row, testlet_of: dict[str, str], reason: str
) -> None:
    _, responses = answers(row, row.learners, *bank(SEED), np.random.default_rng(8))
    found = estimate_effect_sd(responses, fit_em(responses, threads=1), testlet_of, threads=1)
    assert (np.isnan(found.sd), found.as_dict()["sd"]) == (True, None)
    assert reason in found.why


def test_sd_of_effects_is_missing_if_learners_see_single_items_of_testlets() -> None:
    """Learners see one item of every testlet, except ten, who see two or three."""
    rng = np.random.default_rng(14)
    a, b = bank(SEED)
    x = (rng.random((1000, 40)) < expit(a * (rng.normal(size=(1000, 1)) - b))).astype(float)
    seen = np.zeros((1000, 8, 5), dtype=bool)
    np.put_along_axis(seen, rng.integers(0, 5, (1000, 8, 1)), True, axis=2)
    seen[:10, :, :2] = True
    x[~seen.reshape(1000, 40)] = np.nan
    responses = Responses.from_wide(x, IDS)
    found = estimate_effect_sd(responses, fit_em(responses, threads=1), Row(0.7).testlets, threads=1)
    assert np.isnan(found.sd)
    assert "too few learners answered several items of a testlet" in found.why


def test_sd_of_effects_is_missing_if_answers_follow_from_each_other() -> None:
    """Every testlet repeats the same answer four times: σ would be infinite."""
    rng = np.random.default_rng(9)
    theta = rng.normal(size=1000)
    once = (rng.random((1000, 10)) < expit(theta[:, None] - rng.normal(size=10))).astype(float)
    noise = rng.random((1000, 40)) < 0.001
    responses = Responses.from_wide(np.abs(np.repeat(once, 4, axis=1) - noise), IDS)
    found = estimate_effect_sd(responses, fit_em(responses, threads=1), Row(0, size=4).testlets, threads=1)
    assert np.isnan(found.sd)
    assert "follow from each other" in found.why


# -- robust errors -------------------------------------------------------------------------------------


def dense_scores(fit: Calibration, x: Floats) -> Floats:
    """Scores of the learners in a_1, d_1, a_2, … by their definition, shape (N, 2J)."""
    nodes = np.linspace(-6, 6, 61)
    p = expit(nodes[:, None] * fit.a + fit.d)
    loglik = np.where(x[:, None] == 1, np.log(p), np.log1p(-p)).sum(axis=2) - nodes**2 / 2
    post = np.exp(loglik - loglik.max(axis=1, keepdims=True))
    post /= post.sum(axis=1, keepdims=True)
    by_d = x - post @ p
    by_a = x * (post @ nodes)[:, None] - post @ (nodes[:, None] * p)
    return np.stack([by_a, by_d], axis=2).reshape(len(x), -1)


def test_robust_errors_match_the_sandwich() -> None:
    """Compares with scores computed learner by learner, up to rounding in sums of 1000."""
    rng = np.random.default_rng(10)
    a, b = np.exp(rng.normal(0.1, 0.3, 12)), rng.normal(size=12)
    x = (rng.random((1000, 12)) < expit(a * (rng.normal(size=(1000, 1)) - b))).astype(float)
    responses = Responses.from_wide(x)
    plain = fit_em(responses, threads=1)
    robust = fit_em(responses, threads=1, testlets={"i1": "t", "i2": "t"})
    scores = dense_scores(plain, x)
    np.testing.assert_allclose(robust.joint_cov, plain.joint_cov @ scores.T @ scores @ plain.joint_cov, rtol=1e-6)
    np.testing.assert_array_equal(robust.a, plain.a)
    alone = fit_em(responses, threads=1, testlets={"i1": "t", "i2": "u", "elsewhere": "t"})
    np.testing.assert_array_equal(alone.joint_cov, plain.joint_cov)


@pytest.mark.parametrize("model", ["rasch", "1pl", "2pl", "3pl"])
@pytest.mark.parametrize("latent", ["normal", "histogram"])
def test_robust_errors_match_the_usual_errors_if_the_model_is_true(model: str, latent: str) -> None:
    """Both estimate the same variance. They differ by the noise of 4000 learners' squares, a few per cent of an error,
    or a third for very easy items of a 3PL. On average over items there is no difference."""
    rng = np.random.default_rng(11)
    a = np.exp(rng.normal(0.1, 0.3, 16)) if model in ("2pl", "3pl") else np.ones(16)
    b = rng.normal(size=16)
    c = 0.2 if model == "3pl" else 0.0
    x = (rng.random((4000, 16)) < c + (1 - c) * expit(a * (rng.normal(size=(4000, 1)) - b))).astype(float)
    responses = Responses.from_wide(x)
    groups = ["x", "y"] * 2000
    plain = fit_em(responses, model=model, latent=latent, groups=groups, threads=1)  # type: ignore[arg-type]
    robust = fit_em(
        responses,
        model=model,  # type: ignore[arg-type]
        latent=latent,  # type: ignore[arg-type]
        groups=groups,
        threads=1,
        testlets={"i1": "t", "i2": "t"},
    )
    tolerance = 0.35 if model == "3pl" else 0.1
    for found, usual in ((robust.d_se, plain.d_se), (robust.a_se, plain.a_se), (robust.c_se, plain.c_se)):
        ratio = found[usual > 0] / usual[usual > 0]
        if ratio.size:
            assert np.abs(ratio - 1).max() < tolerance
            assert abs(np.median(ratio) - 1) < 0.05


# -- the standard error of θ ---------------------------------------------------------------------------


def test_error_of_theta_matches_the_formula_over_pairs_of_answers() -> None:
    """The expected error is a loop over pairs at θ̂. Information is linear between nodes 0.26 apart, which changes the
    pairs' part by 1 % and the error by a third of that."""
    row = Row(0.8, inside=20, design="items", learners=300)
    a, b = bank(SEED)
    _, responses = answers(row, row.learners, a, b, np.random.default_rng(12))
    places = number_testlets(IDS, row.testlets)
    plain = eap(responses, a, -a * b, 0 * a, mean=0.2, sd=1.3)
    curves = Curves.from_items(ItemCurves(a, -a * b, 0 * a), mean=0.2, sd=1.3, effects=Effects(places, 0.8))
    found = eap_by(responses, curves)
    np.testing.assert_array_equal(found.theta, plain.theta)
    for i in range(responses.n_persons):
        items = responses.item[responses.person == i]
        item_information = information(plain.theta[i : i + 1], a, -a * b, 0 * a)[0]
        pairs = sum(
            item_information[j] * item_information[k]
            for j, k in product(items, items)
            if j != k and places[j] == places[k] and places[j] >= 0
        )
        expected = np.sqrt(plain.se[i] ** 2 + plain.se[i] ** 4 * 0.8**2 * pairs)
        assert found.se[i] == pytest.approx(expected, rel=5e-3)


def test_error_of_theta_is_unchanged_without_two_answers_in_a_testlet() -> None:
    a, b = bank(SEED)
    x = np.full((2, 40), np.nan)
    x[0, ::5] = 1
    responses = Responses.from_wide(x, IDS)
    effects = Effects(number_testlets(IDS, Row(0.7).testlets), 0.7)
    plain = eap(responses, a, -a * b, 0 * a)
    found = eap_by(responses, Curves.from_items(ItemCurves(a, -a * b, 0 * a), effects=effects))
    np.testing.assert_array_equal(found.se, plain.se)
    assert found.se[1] == 1.0


@pytest.mark.parametrize("row", [Row(0.7), Row(0.7, inside=20, design="testlets")])
def test_intervals_of_theta_and_of_items_contain_the_truth_at_the_stated_rate(row: Row) -> None:
    """Eight months of 2000 learners, after bench_testlets.py, which has 200. The share of θ in its interval has a
    Monte-Carlo error of .25 %, the share of a and b (320 each, items of a month alike) about 1.5 %: three of these
    below the aim of 93 % are allowed for items, and zero for θ. Without testlets in the model, θ has 91 % and 93 %."""
    truth = pseudo_true(row, SEED, 100_000)
    months = [simulate(row, truth, SEED, month) for month in range(8)]
    before, after = np.mean([month.theta for month in months], axis=0)
    assert after > 0.93
    assert after > before + 0.01
    for name in ("a", "b"):
        assert np.mean([getattr(month, name)[1] for month in months]) > 0.93 - 0.045


def test_pairs_within_a_testlet_are_not_flagged_as_dependent() -> None:
    responses, fit, _ = fit_month(Row(1.0))
    without, found = (
        FitSummary.from_fit(responses, fit),
        FitSummary.from_fit(responses, fit, testlets=Row(1.0).testlets),
    )
    assert without.whole["q3"]["flagged"] > 0
    assert (found.whole["q3"]["flagged"], found.whole["q3"]["mean"]) == (0, without.whole["q3"]["mean"])


def test_information_with_effects_matches_the_variance_of_simulated_estimates() -> None:
    """Estimates at θ = 0 of 4000 learners who answered 20 items in testlets of 5: their variance has a relative error
    of 2 %, and 1/information, which is valid for long tests, errs by about 5 % with 20 items."""
    rng = np.random.default_rng(13)
    a, b, sd = np.full(20, 1.0), np.tile([-0.5, -0.2, 0.0, 0.2, 0.5], 4), 0.7
    effects = Effects(np.repeat(np.arange(4), 5), sd)
    shared = np.repeat(sd * rng.normal(size=(4000, 4)), 5, axis=1)
    slope = 1 / np.sqrt(1 - testlets.FLATTENED * sd**2)
    x = (rng.random((4000, 20)) < expit(slope * (shared - b))).astype(float)
    found = estimate_abilities(Responses.from_wide(x), a, -a * b, 0 * a, method="wle").theta
    items = ItemParameters(tuple(f"i{j}" for j in range(20)), a, b, 0 * a, np.zeros((20, 2, 2)))
    with_effects, without_effects = (
        Information.from_parameters(items, 0.0, effects),
        Information.from_parameters(items, 0.0),
    )
    expected, alone = 1 / with_effects.test[0], 1 / without_effects.test[0]
    assert alone == pytest.approx(1 / without_effects.items.sum())
    assert found.var() == pytest.approx(expected, rel=0.08)
    assert expected > 1.3 * alone


# -- dependence --------------------------------------------------------------------------------------
# Q3 and parallel analysis: pairwise definition, dependent pairs, second dimensions, and edge cases.


def test_q3_matches_the_correlation_of_residuals_over_common_learners(monkeypatch):
    rng = np.random.default_rng(1)
    x = planned(rng, persons=700, length=6)
    x[rng.random(x.shape) < 0.1] = np.nan
    responses = Responses.from_wide(x)
    fit = known(rng.uniform(0.5, 2, 12), rng.normal(0, 1, 12), rng.uniform(0, 0.2, 12))
    monkeypatch.setattr("irt_psychometrics.itemfit.dependence._CELLS", 1000)  # several pieces
    found = local_dependence(responses, fit)
    residual = x - probability(eap(responses, fit.a, fit.d, fit.c).theta, fit.a, fit.d, fit.c)
    for i, j in ((0, 1), (4, 7), (5, 8), (10, 11)):
        both = ~np.isnan(x[:, i]) & ~np.isnan(x[:, j])
        assert found.n[i, j] == both.sum()
        assert found.q3[i, j] == pytest.approx(np.corrcoef(residual[both, i], residual[both, j])[0, 1], abs=1e-12)
    np.testing.assert_array_equal(found.q3, found.q3.T)
    assert found.n[0, 11] == 0
    assert np.isnan([found.q3[0, 11], *np.diag(found.q3)]).all()


def test_only_the_dependent_pair_is_flagged():
    rng = np.random.default_rng(2)
    x = planned(rng)
    same = rng.random(len(x)) < 0.5
    x[same, 9] = np.where(np.isnan(x[same, 9]), np.nan, x[same, 8])
    responses = Responses.from_wide(x)
    found = local_dependence(responses, fit_em(responses))
    assert found.flagged == ((8, 9),)
    assert -0.1 < found.mean < 0  # about −1/19


def test_pairs_of_few_learners_are_not_flagged():
    rng = np.random.default_rng(3)
    x = rng.integers(0, 2, (Measure.MIN_PERSONS_OF_PAIR - 1, 6)).astype(float)
    x[:, 1] = x[:, 0]
    found = local_dependence(Responses.from_wide(x), known(np.ones(6), np.zeros(6)))
    assert found.q3[0, 1] > 0.9
    assert found.flagged == ()
    assert np.isnan(found.mean)


def test_items_without_parameters_keep_their_position():
    x = planned(np.random.default_rng(4), persons=600, length=4)
    wider = np.column_stack([np.ones(len(x)), x])
    fit = fit_em(Responses.from_wide(wider), model="rasch")
    found = local_dependence(Responses.from_wide(wider), fit)
    assert np.isnan(found.q3[0]).all()
    assert np.isfinite(found.q3[1, 2])


def test_parallel_analysis_detects_a_second_ability_only_if_present():
    rng = np.random.default_rng(5)
    theta = rng.multivariate_normal([0, 0], [[1, 0.6], [0.6, 1]], 1500)
    d = rng.normal(0, 1, 20)
    p = 1 / (1 + np.exp(-(1.3 * np.repeat(theta, 10, axis=1) + d)))
    two = Responses.from_wide((rng.random(p.shape) < p).astype(float))
    found = parallel_analysis(two, fit_em(two), replications=39, random_state=1)
    assert found.p == 1 / 40
    assert found.eigenvalue > 1.2 * found.under_model.max()
    one = Responses.from_wide(planned(rng))
    assert parallel_analysis(one, fit_em(one), replications=39, random_state=1).p > 0.05


def test_a_seed_gives_the_same_parallel_analysis():
    responses = Responses.from_wide(planned(np.random.default_rng(6), persons=600, length=6))
    fit = fit_em(responses)
    first, again, other = (parallel_analysis(responses, fit, replications=5, random_state=s) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.under_model, again.under_model)
    assert not np.array_equal(first.under_model, other.under_model)


def test_parallel_analysis_of_a_large_set_uses_a_sample():
    responses = Responses.from_wide(planned(np.random.default_rng(7), persons=1200, length=6))
    fit = fit_em(responses)
    some, whole = (
        parallel_analysis(responses, fit, replications=1, random_state=1, most_persons=n) for n in (400, 1200)
    )
    assert some.eigenvalue != whole.eigenvalue


def test_parallel_analysis_in_a_summary_equals_the_analysis_of_the_window() -> None:
    rng = np.random.default_rng(1)
    z = rng.normal(size=(500, 1)) - np.linspace(-1, 1, 6)
    responses = Responses.from_wide((rng.random(z.shape) < 1 / (1 + np.exp(-z))).astype(float))
    fit = fit_em(responses, threads=1)
    stored = FitSummary.from_fit(responses, fit, threads=1).whole["parallel"]
    found = Window.with_summary(responses, fit, stored).dimensions
    again = parallel_analysis(responses, fit, threads=1)
    np.testing.assert_array_equal(found.under_model, again.under_model)
    assert (found.ratio, found.ratio_se, found.p) == (again.ratio, again.ratio_se, again.p)
    assert (found.loading_items, found.learners) == (again.loading_items, 500)
    places = np.setdiff1d(np.arange(6), found.loading_items)
    without = Window.with_summary(responses.of_items(places), fit.select(places), stored)
    assert without.dimensions is None, "its items have left the scale"
