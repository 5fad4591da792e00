"""Scores on several dimensions: integration on the full product grid, maximisation, R mirt."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import minimize

import irt_psychometrics as irt
from irt_psychometrics.dimensions.scores import dimensions_scores
from irt_psychometrics.dimensions.structure import Dimensions
from psychometrics_testbed.dimension_worlds import MirtFit, draw_dimensions, known_dimensions

MIRT = json.loads(Path(__file__).with_name("mirt_dimensions.json").read_text("utf-8"))
"""Made by dimensions_reference.R."""
MODELS = ("2pl", "gpcm", "2pl", "grm", "2pl", "3pl", "2pl")
CATEGORIES = (2, 3, 2, 3, 2, 2, 2)
FURTHER = np.array([[0, 0, 0], [0, 0.4, 0], [0, 0, 0], [0, 0.3, 0], [0, 0, 0], [-1.4, 0, 0], [0, 0, 0]], dtype=float)
BIFACTOR = Dimensions.bifactor({"q1": "a", "q2": "a", "q3": "a", "q4": "b", "q5": "b", "q6": "b", "q7": None})
TWO_TIER = Dimensions.from_frame(
    {
        "item": ["q1", "q2", "q3", "q4", "q5", "q6", "q7", "q7", "q1", "q2", "q4"],
        "dimension": ["x", "x", "x", "y", "y", "y", "x", "y", "s", "s", "s"],
    },
    specific=["s"],
)


def world(dimensions, *, correlation=0.0, persons=40, seed=1):
    rng = np.random.default_rng(seed)
    slopes, intercepts = rng.uniform(0.6, 1.8, (7, 3)), rng.normal(0, 0.6, 7)
    known = known_dimensions(
        dimensions,
        slopes,
        intercepts,
        models=MODELS,
        categories=CATEGORIES,
        further=FURTHER,
        correlation=correlation,
    )
    return known, draw_dimensions(known, persons, rng, missing=0.3)[0]


def twenty_items():
    rng = np.random.default_rng(3)
    topics = Dimensions.bifactor({f"q{j}": f"topic {j % 2}" for j in range(20)})
    return known_dimensions(topics, rng.uniform(0.8, 1.6, (20, 3)), rng.normal(0, 1, 20)), rng


def log_posterior(known, responses, person, theta):
    """Log density of `theta` (T, 3) and the person's answers, up to a constant."""
    mine = responses.person == person
    logs = known.log_probabilities(theta)
    prior = -0.5 * np.einsum("td,de,te->t", theta, np.linalg.inv(known.correlations), theta)
    return prior + sum(logs[j, :, k] for j, k in zip(responses.item[mine], responses.score[mine], strict=True))


@pytest.mark.parametrize(("dimensions", "correlation"), [(BIFACTOR, 0.0), (TWO_TIER, 0.5)])
def test_eap_and_covariance_equal_those_of_the_full_product_grid(dimensions, correlation):
    """The library's grid ends at 5.5 SDs, where the variance lacks 2·5.5·φ(5.5) = 1e-6 of the prior's."""
    known, responses = world(dimensions, correlation=correlation)
    scores = dimensions_scores(responses, known)
    axis = np.linspace(-6, 6, 49)
    theta = np.stack(np.meshgrid(axis, axis, axis, indexing="ij"), axis=-1).reshape(-1, 3)
    prior = -0.5 * np.einsum("td,de,te->t", theta, np.linalg.inv(known.correlations), theta)
    for person in range(5):
        logs = log_posterior(known, responses, person, theta)
        p = np.exp(logs - logs.max())
        loglik = np.log(p.sum()) + logs.max() - np.log(np.exp(prior).sum())
        p /= p.sum()
        mean = p @ theta
        assert scores.loglik[person] == pytest.approx(loglik, abs=5e-6)
        np.testing.assert_allclose(scores.theta[person], mean, atol=5e-6)
        np.testing.assert_allclose(scores.cov[person], (theta.T * p) @ theta - np.outer(mean, mean), atol=5e-6)


@pytest.mark.parametrize(("dimensions", "correlation"), [(BIFACTOR, 0.0), (TWO_TIER, 0.5)])
def test_map_maximises_the_posterior_density_with_its_curvature(dimensions, correlation):
    """The derivatives of the density here are differences, whose error is about 1e-6."""
    known, responses = world(dimensions, correlation=correlation)
    scores = dimensions_scores(responses, known, "map")

    for person in range(5):

        def cost(theta, person=person):
            return -float(log_posterior(known, responses, person, theta[None])[0])

        best = minimize(cost, np.zeros(3), method="BFGS", options={"gtol": 1e-7})
        np.testing.assert_allclose(scores.theta[person], best.x, atol=1e-5)
        step = 1e-3 * np.eye(3)
        hessian = [
            [
                (cost(best.x + a + b) - cost(best.x + a - b) - cost(best.x - a + b) + cost(best.x - a - b)) / 4e-6
                for b in step
            ]
            for a in step
        ]
        np.testing.assert_allclose(scores.cov[person], np.linalg.inv(hessian), atol=1e-5)


def test_persons_without_answers_to_a_dimension_get_its_prior():
    known, _ = world(BIFACTOR)
    table = np.full((3, 7), np.nan)
    table[1, 6] = table[2, 0] = 1
    responses = irt.Responses.from_wide(table, known.item_ids, categories=CATEGORIES)
    for method in ("eap", "map"):
        scores = dimensions_scores(responses, known, method)
        assert scores.n.tolist() == [[0, 0, 0], [1, 0, 0], [1, 1, 0]]
        np.testing.assert_allclose(scores.theta[0], 0.0, atol=1e-9)
        np.testing.assert_allclose(scores.cov[0], np.eye(3), atol=5e-6)  # the grid ends at 5.5 SDs
        np.testing.assert_allclose(scores.theta[1:, 2], 0.0, atol=1e-9)
        np.testing.assert_allclose(scores.cov[1:, 2, 2], 1.0, atol=5e-6)
        assert (scores.theta[1:, 0] > 0.1).all()
    assert scores.loglik[0] == pytest.approx(0.0, abs=1e-12)


def test_scores_do_not_depend_on_the_number_of_threads():
    """Answers of 3,000 persons are two parts."""
    known, rng = twenty_items()
    responses, _ = draw_dimensions(known, 3000, rng)
    for method in ("eap", "map"):
        one, three = (dimensions_scores(responses, known, method, threads=n) for n in (1, 3))
        for x, y in zip(one, three, strict=True):
            np.testing.assert_array_equal(x, y)


def test_reliability_of_eap_is_the_squared_correlation_with_ability():
    """The standard error of a squared correlation from 5,000 persons is below .014."""
    known, rng = twenty_items()
    responses, theta = draw_dimensions(known, 5000, rng)
    scores = dimensions_scores(responses, known)
    squared = [np.corrcoef(x, y)[0, 1] ** 2 for x, y in zip(scores.theta.T, theta.T, strict=True)]
    np.testing.assert_allclose(scores.reliability, squared, atol=0.04)


def test_unknown_method_or_item_is_refused_by_name():
    known, responses = world(BIFACTOR)
    with pytest.raises(irt.PsychometricsError, match="method must be one of eap, map; got 'ml'"):
        dimensions_scores(responses, known, "ml")
    other = irt.Responses.from_wide({"strange": [0, 1]})
    with pytest.raises(irt.PsychometricsError, match="strange"):
        dimensions_scores(other, known)


@pytest.mark.parametrize("name", ["bifactor", "between"])
@pytest.mark.parametrize("method", ["EAP", "MAP"])
def test_scores_equal_those_of_mirt(shared, name, method):
    """SAT12 with three topics, and verbal aggression (0, 1, 2) with wanting and doing, with mirt's own estimates.

    mirt's bifactor grid has only 25 nodes a dimension, and its search for the mode stops at changes of 1e-4.
    The library's nodes are .275 apart and end at 5.5; a person's log-likelihood then has an error of some 5e-6.
    """
    fit = MirtFit.from_json(MIRT[name], shared)
    scores, reference = dimensions_scores(fit.answers, fit.calibration, method.lower()), fit.scores[method]
    error = np.sqrt(np.diagonal(scores.cov, axis1=1, axis2=2))
    np.testing.assert_allclose(scores.theta[fit.persons], np.array(reference["theta"])[:, fit.order], atol=2e-4)
    np.testing.assert_allclose(error[fit.persons], np.array(reference["se"])[:, fit.order], atol=2e-4)
    assert scores.loglik.sum() == pytest.approx(MIRT[name]["loglik"], abs=3e-3)
