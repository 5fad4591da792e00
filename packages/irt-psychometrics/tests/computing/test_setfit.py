"""M₂: enumeration of patterns, misfit, forms of a planned design; and the summary of all statistics of a fit."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.curves import probability
from irt_psychometrics.estimation import fit_em
from irt_psychometrics.itemfit import FitSummary, fit_summary, item_fit
from irt_psychometrics.itemfit.m2 import form_fit
from irt_psychometrics.responses import Responses
from psychometrics_testbed.fit_worlds import known, planned

THETA = np.linspace(-6, 6, 61)
WEIGHTS = np.exp(-0.5 * THETA**2) / np.exp(-0.5 * THETA**2).sum()
PATTERNS = np.array(list(product([0, 1], repeat=5)), dtype=float)
MARGINS = np.column_stack([PATTERNS, *(PATTERNS[:, i] * PATTERNS[:, j] for i, j in combinations(range(5), 2))])
"""Patterns × 15: the five items and their ten pairs, each 0 or 1."""


def pattern_probabilities(fit):
    p = probability(THETA * fit.latent_sd, fit.a, fit.d, fit.c)
    return np.prod(np.where(PATTERNS[:, None, :] == 1, p, 1 - p), axis=2) @ WEIGHTS


def move_parameter(fit, name, j, step):
    if name == "latent_sd":
        return replace(fit, latent_sd=fit.latent_sd + step)
    values = getattr(fit, name).copy()
    values[j if name == "d" or fit.model != "1pl" else slice(None)] += step
    return replace(fit, **{name: values})


@pytest.mark.parametrize(
    ("model", "parameters"),
    [
        ("rasch", [("d", j) for j in range(5)] + [("latent_sd", 0)]),
        ("1pl", [("d", j) for j in range(5)] + [("a", 0)]),
        ("2pl", [("d", j) for j in range(5)] + [("a", j) for j in range(5)]),
    ],
)
def test_m2_matches_the_quadratic_form_over_all_patterns(model, parameters):
    """The covariance of margins is summed over the 32 patterns; derivatives are differences."""
    a = np.array([1.2, 0.7, 1.0, 1.6, 0.9]) if model == "2pl" else np.full(5, 1.0 if model == "rasch" else 1.3)
    fit = known(a, [1.0, 0.2, -0.5, 0.4, -1.0], model=model, sd=1.2 if model == "rasch" else 1.0)
    x = np.random.default_rng(3).integers(0, 2, (400, 5)).astype(float)
    probabilities = pattern_probabilities(fit)
    expected = probabilities @ MARGINS
    covariance = MARGINS.T @ (probabilities[:, None] * MARGINS) - np.outer(expected, expected)
    h = 1e-5
    delta = np.column_stack(
        [
            (pattern_probabilities(move_parameter(fit, *q, h)) - pattern_probabilities(move_parameter(fit, *q, -h)))
            @ MARGINS
            / (2 * h)
            for q in parameters
        ]
    )
    observed = np.concatenate([x.mean(0), [(x[:, i] * x[:, j]).mean() for i, j in combinations(range(5), 2)]])
    inverse = np.linalg.inv(covariance)
    weight = inverse - inverse @ delta @ np.linalg.inv(delta.T @ inverse @ delta) @ delta.T @ inverse
    (found,) = form_fit(Responses.from_wide(x), fit)
    assert found.m2 == pytest.approx(400 * (observed - expected) @ weight @ (observed - expected), rel=1e-6)
    assert found.df == 15 - len(parameters)
    assert found.rmsea.value == pytest.approx(np.sqrt(max(0, found.m2 - found.df) / (found.df * 399)))


def test_m2_rejects_a_rasch_model_if_slopes_differ():
    x = planned(np.random.default_rng(4), persons=3000)
    responses = Responses.from_wide(x)
    wrong, right = (form_fit(responses, fit_em(responses, model=m)) for m in ("rasch", "2pl"))
    assert max(form.p for form in wrong) < 1e-4
    assert min(form.p for form in right) > 1e-3
    assert min(form.rmsea.low for form in wrong) > max(form.rmsea.high for form in right)


def test_m2_is_computed_for_every_form_of_a_planned_design_with_its_items():
    x = planned(np.random.default_rng(5), persons=900, length=8)[150:]
    responses = Responses.from_wide(np.column_stack([np.ones(len(x)), x]))
    forms = form_fit(responses, fit_em(responses))
    assert [form.n for form in forms] == [250, 250, 250]
    assert {form.items for form in forms} == {tuple(range(k, k + 8)) for k in (1, 5, 9)}


def test_m2_leaves_out_small_forms_short_forms_and_scattered_answers():
    rng = np.random.default_rng(6)
    few = Responses.from_wide(rng.integers(0, 2, (199, 6)).astype(float))
    assert form_fit(few, known(np.ones(6), np.zeros(6))) == []
    three = Responses.from_wide(rng.integers(0, 2, (300, 3)).astype(float))
    assert form_fit(three, known(np.ones(3), np.zeros(3))) == []  # 6 margins, 6 parameters
    scattered = rng.integers(0, 2, (300, 20)).astype(float)
    scattered[rng.random(scattered.shape) < 0.5] = np.nan
    assert form_fit(Responses.from_wide(scattered), known(np.ones(20), np.zeros(20))) == []


# -- summaries ---------------------------------------------------------------------------------------
# All statistics of a fit at once: sound sets, planted misfit, reproducible numbers, and samples of learners.


def answers(rng, persons=1500, items=24, *, second=0.0):
    """2PL answers; `second`: loading of the last third of the items on a second ability."""
    a, b = np.exp(rng.normal(0, 0.25, items)), rng.normal(0, 1, items)
    theta, other = rng.normal(size=(2, persons, 1))
    extra = second * other * (np.arange(items) >= 2 * items // 3)
    return (rng.random((persons, items)) < 1 / (1 + np.exp(-a * (theta - b) - extra))).astype(float)


@pytest.mark.ci
def test_summary_of_a_sound_set_has_no_misfit_and_matches_single_statistics() -> None:
    responses = Responses.from_wide(answers(np.random.default_rng(1)))
    fit = fit_em(responses)
    found = FitSummary.from_fit(responses, fit)
    assert found.whole["parallel"]["p"] > 0.001
    assert found.whole["q3"] == {
        "pairs": 276,
        "mean": found.whole["q3"]["mean"],
        "flagged": 0,
        "clusters": [],
        "largest": [],
    }
    assert 0.03 < found.whole["lz"]["unlikely"] < 0.07  # 5 % of 1500: 0.006 is one standard error
    assert (found.whole["lz"]["learners"], found.whole["m2"][0]["items"]) == (1500, 24)
    assert found.whole["m2"][0]["p"] > 0.001
    assert 0.7 < found.whole["reliability"] < 0.9
    assert np.nanmin(found.items["rmsd_p"]) > 1e-4
    np.testing.assert_array_equal(found.items["infit"], item_fit(responses, fit).infit)


@pytest.mark.ci
def test_second_ability_in_a_third_of_the_items_is_detected() -> None:
    responses = Responses.from_wide(answers(np.random.default_rng(2), second=1.0))
    found = FitSummary.from_fit(responses, fit_em(responses)).whole
    assert found["parallel"]["p"] < 1e-6
    assert found["m2"][0]["rmsea"] > 0.02


@pytest.mark.ci
def test_copied_item_is_listed_as_a_dependent_pair() -> None:
    x = answers(np.random.default_rng(3))
    copied = np.where(np.random.default_rng(4).random(1500) < 0.8, x[:, 0], x[:, 1])
    responses = Responses.from_wide(np.column_stack([x, copied]))
    found = FitSummary.from_fit(responses, fit_em(responses)).whole["q3"]
    assert found["largest"][0]["items"] == ["i1", "i25"]
    assert all("i25" in pair["items"] for pair in found["largest"])


@pytest.mark.ci
def test_learners_of_a_large_set_are_sampled_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit_summary, "SET_RESPONSES", 12_000)
    monkeypatch.setattr(fit_summary, "PARALLEL_RESPONSES", 6_000)
    responses = Responses.from_wide(answers(np.random.default_rng(6)))
    fit = fit_em(responses)
    first, again = FitSummary.from_fit(responses, fit), FitSummary.from_fit(responses, fit)
    assert (first.whole["learners"], first.whole) == ({"items": 1500, "set": 500, "parallel": 250}, again.whole)


@pytest.mark.ci
def test_parallel_analysis_is_missing_if_too_few_learners_saw_pairs_of_items() -> None:
    x = answers(np.random.default_rng(7), persons=150)
    responses = Responses.from_wide(x)
    found = FitSummary.from_fit(responses, fit_em(responses)).whole
    assert (found["parallel"], found["m2"]) == (None, [])


@pytest.mark.ci
def test_statistics_use_the_distribution_of_each_learners_group() -> None:
    """Under a common normal distribution the two groups' items would misfit."""
    rng = np.random.default_rng(8)
    a, b = np.exp(rng.normal(0, 0.2, 20)), rng.normal(0, 1.2, 20)
    groups = ["low"] * 1000 + ["top"] * 1000
    theta = rng.normal(size=2000) * 0.5 + np.where(np.array(groups) == "top", 1.5, -1.5)
    x = (rng.random((2000, 20)) < 1 / (1 + np.exp(-a * (theta[:, None] - b)))).astype(float)
    responses = Responses.from_wide(x)
    found = FitSummary.from_fit(responses, fit_em(responses, groups=groups), groups=groups)
    assert np.nanmin(found.items["rmsd_p"]) > 1e-4
    assert found.whole["parallel"]["p"] > 0.001


# -- the public results ------------------------------------------------------------------------------


def test_reliability_of_wles_is_the_squared_correlation_with_true_theta() -> None:
    """Under a Rasch model with 40 items WLEs are nearly unbiased, so Var(θ)/Var(WLE) is that share."""
    rng = np.random.default_rng(21)
    theta = rng.normal(0, 1.2, 4000)
    x = (rng.random((4000, 40)) < 1 / (1 + np.exp(-(theta[:, None] - np.linspace(-2, 2, 40))))).astype(float)
    responses = Responses.from_wide(x)
    f = irt.fit(responses, "rasch")
    persons = f.person_fit(responses)
    assert persons.reliability == pytest.approx(np.corrcoef(persons.theta, theta)[0, 1] ** 2, abs=0.01)
    found = f.fit_statistics(responses)
    assert found.wle_reliability == persons.reliability
    true_sd = np.sqrt(persons.theta.var(ddof=1) - np.mean(persons.se**2))
    assert found.separation == pytest.approx(true_sd / np.sqrt(np.mean(persons.se**2)))
    assert found.strata == pytest.approx((4 * found.separation + 1) / 3)


def test_separation_is_0_if_errors_exceed_the_spread_of_theta() -> None:
    x = irt.datasets.two_forms()[0].responses
    found = replace(irt.fit(x).fit_statistics(x), wle_reliability=-0.2)
    assert (found.separation, found.strata) == (0, 1 / 3)


def test_m2_of_planned_forms_has_a_row_per_form_and_q3_only_common_persons() -> None:
    x = Responses.from_wide(planned(np.random.default_rng(23), persons=900))
    found = irt.fit(x).fit_statistics(x)
    assert (found.m2.n.tolist(), [len(form) for form in found.m2.forms]) == ([300] * 3, [20] * 3)
    assert found.m2.p.min() > 1e-3
    frame = found.q3.to_frame("pandas")
    assert set(frame["n"]) == {0, 300, 600, 900} - set(range(901)).difference(np.unique(found.q3.n))
    assert frame["q3"].isna().equals(frame["n"] < 2)
    assert not frame["flagged"].any()


def test_scattered_responses_have_no_m2_and_a_note_that_explains_this() -> None:
    rng = np.random.default_rng(24)
    matrix = answers(rng, 600, 12)
    matrix[rng.random(matrix.shape) < 0.3] = np.nan
    x = Responses.from_wide(matrix)
    found = irt.fit(x).fit_statistics(x)
    assert (found.m2.forms, len(found.m2.to_frame())) == ((), 0)
    assert "No form can be tested: M₂ and C₂ need 200 or more persons" in found._repr_html_()
    assert np.isfinite(found.q3.mean)


def test_copied_items_are_a_flagged_pair_of_q3_and_raise_srmsr() -> None:
    x = answers(np.random.default_rng(3))
    copied = np.where(np.random.default_rng(4).random(1500) < 0.8, x[:, 0], x[:, 1])
    sets = [Responses.from_wide(matrix) for matrix in (x, np.column_stack([x, copied]))]
    sound, found = (irt.fit(one).fit_statistics(one) for one in sets)
    assert found.q3.flagged[0] == ("i1", "i25")
    assert found.q3.adjusted[0, 24] == found.q3.to_frame("pandas")["q3_adjusted"][0] > 0.2
    assert found.m2.rmsea_low[0] > 0.02
    assert found.m2.srmsr[0] > sound.m2.srmsr[0]
    assert found.m2.cfi[0] < sound.m2.cfi[0]
    assert found.m2.tli[0] < 0.95 < sound.m2.tli[0]


def test_independent_items_have_no_cfi() -> None:
    """All 32 patterns occur equally often, so all correlations are 0."""
    x = Responses.from_wide(np.repeat(PATTERNS, 10, axis=0))
    found = form_fit(x, known(np.full(5, 0.01), np.zeros(5)))[0]
    assert np.isnan((found.cfi, found.tli)).all()
