"""The score test of normal abilities: against brute force, and in simulations with known distributions."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from scipy.special import expit, log_expit

from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.item_models import item_model
from irt_psychometrics.core.models import Floats
from irt_psychometrics.core.priors import Priors
from irt_psychometrics.core.responses import Responses
from irt_psychometrics.estimation.em import fit_em
from irt_psychometrics.estimation.normality_test import normality
from psychometrics_testbed.made_anchors import anchor_set_of
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

NODES = np.linspace(-6, 6, 61)
SCORES = np.stack([(NODES**3 - 3 * NODES) / 6, (NODES**4 - 6 * NODES**2 + 3) / 24])


def answers(theta: Floats, items: int, rng: np.random.Generator, guessing: float = 0.0) -> Floats:
    a, b = np.exp(rng.normal(0.1, 0.3, items)), rng.normal(0, 1, items)
    p = guessing + (1 - guessing) * expit(a * (theta[:, None] - b))
    return (rng.random(p.shape) < p).astype(float)


def posterior(x: Floats, parameters: Floats) -> tuple[float, Floats]:
    """Log-likelihood of 2PL items with weights φ·exp(γ·H), and each person's posterior; parameters: a, d, γ."""
    J = x.shape[1]
    a, d, gamma = parameters[:J], parameters[J : 2 * J], parameters[2 * J :]
    eta = np.outer(NODES, a) + d
    log_weights = -0.5 * NODES**2 + gamma @ SCORES
    log_weights = log_weights - np.log(np.exp(log_weights).sum())
    joint = x @ log_expit(eta).T + (1 - x) @ log_expit(-eta).T + log_weights
    top = joint.max(axis=1, keepdims=True)
    each = np.exp(joint - top)
    return float((np.log(each.sum(axis=1)) + top[:, 0]).sum()), each / each.sum(axis=1, keepdims=True)


def test_score_test_of_normality_matches_brute_force() -> None:
    """Persons' scores come from their posteriors, the information from second differences of the log-likelihood (a step
    of 1e-3 leaves relative errors of about 1e-6)."""
    rng, J, step = np.random.default_rng(5), 5, 1e-3
    x = answers((rng.chisquare(8, 800) - 8) / 4, J, rng)
    fit = fit_em(Responses.from_wide(x), tolerance=1e-8)
    at = np.concatenate([fit.a, fit.d, np.zeros(2)])
    moves = step * np.eye(len(at))

    def second(i: int, j: int) -> float:
        signs = product((1, -1), repeat=2)
        return sum(s * t * posterior(x, at + s * moves[i] + t * moves[j])[0] for s, t in signs) / (4 * step**2)

    information = -np.array([[second(i, j) for j in range(len(at))] for i in range(len(at))])
    centred = SCORES - (SCORES @ np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum())[:, None]
    scores = posterior(x, at)[1] @ centred.T
    items, shared = information[:-2, :-2], information[:-2, -2:]
    left = scores.T @ scores - shared.T @ np.linalg.solve(items, shared)
    expected = np.linalg.solve(left, scores.sum(axis=0))

    found = normality(Responses.from_wide(x), fit)
    z = expected / np.sqrt(np.diag(np.linalg.inv(left)))
    assert (found.skewness_z, found.kurtosis_z) == pytest.approx(tuple(z), rel=1e-3)
    assert found.statistic == pytest.approx(float(scores.sum(axis=0) @ expected), rel=1e-3)


def scored_answers(theta: Floats, models: tuple[str, ...], rng: np.random.Generator) -> Responses:
    """Answers to items of these models, scored 0 … 2 unless the model has two scores."""
    of, J = item_model(models), len(models)
    categories = np.array([2 if item_model(name).two_categories else 3 for name in models])
    parameters = of.start(np.full((J, 3), 1 / 3), categories, Priors())
    parameters[0], parameters[1] = np.exp(rng.normal(0.2, 0.3, J)), rng.normal(0, 0.8, J)
    p = of.probabilities(theta, parameters, categories)
    x = (rng.random((J, len(theta), 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
    return Responses.from_wide(np.minimum(x, categories - 1).astype(float), categories=categories)


@pytest.mark.parametrize("models", [("grm",) * 4, ("3pl", "3pl", "grm", "gpcm")], ids=["graded", "mixed"])
def test_score_test_of_other_models_matches_brute_force(models: tuple[str, ...]) -> None:
    """As above, with log P by the models' formulas. The prior on logit c counts as a part of the items' information."""
    rng, step = np.random.default_rng(6), 1e-3
    x = scored_answers((rng.chisquare(8, 800) - 8) / 4, models, rng)
    fit = fit_em(x, model=models, tolerance=1e-8)
    of, categories, prior = fit.item_model, fit.n_categories, fit.item_model.default_priors.c
    free, scores = of.free(categories), x.score.reshape(x.n_persons, -1)
    place = np.arange(len(models))
    at = np.concatenate([fit.parameters[free], np.zeros(2)])
    moves = step * np.eye(len(at))

    def posterior(values: Floats) -> tuple[float, Floats]:
        parameters = fit.parameters.copy()
        parameters[free] = values[:-2]
        logs = of.log_probabilities(NODES, parameters, categories)
        log_weights = -0.5 * NODES**2 + values[-2:] @ SCORES
        joint = sum(logs[j, :, scores[:, j]] for j in place) + log_weights - np.log(np.exp(log_weights).sum())
        top = joint.max(axis=1, keepdims=True)
        each = np.exp(joint - top)
        value = float((np.log(each.sum(axis=1)) + top[:, 0]).sum())
        if prior is not None:
            value -= float((((parameters[2, of.guessed(len(models))] - prior.mean) / prior.sd) ** 2).sum() / 2)
        return value, each / each.sum(axis=1, keepdims=True)

    def second(i: int, j: int) -> float:
        signs = product((1, -1), repeat=2)
        return sum(s * t * posterior(at + s * moves[i] + t * moves[j])[0] for s, t in signs) / (4 * step**2)

    information = np.zeros((len(at), len(at)))
    for i in range(len(at)):
        for j in range(i + 1):
            information[i, j] = information[j, i] = -second(i, j)
    centred = SCORES - (SCORES @ np.exp(-0.5 * NODES**2) / np.exp(-0.5 * NODES**2).sum())[:, None]
    of_persons = posterior(at)[1] @ centred.T
    shared = information[:-2, -2:]
    left = of_persons.T @ of_persons - shared.T @ np.linalg.solve(information[:-2, :-2], shared)
    expected = of_persons.sum(axis=0) @ np.linalg.solve(left, of_persons.sum(axis=0))
    assert normality(x, fit).statistic == pytest.approx(float(expected), rel=1e-3)


@pytest.mark.ci
def test_normality_of_normal_abilities_is_rejected_at_the_nominal_rate() -> None:
    """200 data sets: the mean of χ²(2) is 2 with a standard error of .14; at most 18 of 200 beyond the 5 % point, which
    a binomial exceeds once in 200 times."""
    found = []
    for seed in range(200):
        rng = np.random.default_rng(seed)
        responses = Responses.from_wide(answers(rng.normal(size=1000), 20, rng))
        found.append(normality(responses, fit_em(responses)))
    assert abs(np.mean([each.statistic for each in found]) - 2) < 3 * 0.14
    assert sum(each.p < 0.05 for each in found) <= 18


@pytest.mark.parametrize("sign", [1, -1])
def test_skewed_abilities_are_detected_with_their_direction(sign: int) -> None:
    """χ²₂₀ has a skewness of .63: it is detected in all of 20 data sets of 2000 learners."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        responses = Responses.from_wide(answers(sign * (rng.chisquare(20, 2000) - 20) / np.sqrt(40), 40, rng))
        found = normality(responses, fit_em(responses))
        assert found.p < 0.01
        assert found.skewness_z * sign > 0


def test_guessing_is_detected_as_skewness_unless_the_model_includes_guessing() -> None:
    rng = np.random.default_rng(3)
    responses = Responses.from_wide(answers(rng.normal(size=4000), 30, rng, guessing=0.2))
    assert normality(responses, fit_em(responses)).p < 1e-6
    assert normality(responses, fit_em(responses, model="3pl")).p > 0.01


def test_an_item_that_all_learners_got_right_does_not_change_the_normality_test() -> None:
    """The design is random: learners answered different halves of the items."""
    rng = np.random.default_rng(4)
    x = answers(rng.normal(size=3000), 30, rng)
    x[rng.random(x.shape) < 0.5] = np.nan
    whole = normality(Responses.from_wide(x), fit_em(Responses.from_wide(x)))
    easy = Responses.from_wide(np.column_stack([x, np.ones(len(x))]))
    assert normality(easy, fit_em(easy)).statistic == pytest.approx(whole.statistic, rel=1e-3)
    assert whole.p > 0.01


def test_normality_test_is_refused_for_fits_without_a_standard_normal_population() -> None:
    rng = np.random.default_rng(6)
    responses = Responses.from_wide(answers(rng.normal(size=500), 10, rng))
    groups = ["x", "y"] * 250
    fits = [fit_em(responses, groups=groups), fit_em(responses, model="rasch")]
    ids = responses.item_ids[:5]
    free = fits[0]
    none, no = np.zeros(5), np.zeros(5, dtype=bool)
    anchors = anchor_set_of("s", "v", ids, free.a[:5], free.b[:5], none, none + 0.1, none + 0.1, none, (None,) * 5, no)
    fits.append(fit_em(responses, anchors=anchors))
    for fit in fits:
        with pytest.raises(PsychometricsError, match="one population"):
            normality(responses, fit)
    with pytest.raises(PsychometricsError, match="too many items"):
        normality(responses, replace(fit_em(responses), joint_cov=None))
