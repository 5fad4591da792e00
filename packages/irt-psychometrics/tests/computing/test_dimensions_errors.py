"""Errors on several dimensions: second differences of the likelihood, R mirt, and fits without errors."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import irt_psychometrics as irt
from irt_psychometrics.dimensions import scores
from irt_psychometrics.dimensions.errors import _fitted_layout, dimensions_errors, observed_information
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.scores import dimensions_scores
from irt_psychometrics.dimensions.structure import Dimensions
from psychometrics_testbed.dimension_worlds import MirtFit, at_parameters, draw_dimensions, known_dimensions

MIRT = json.loads(Path(__file__).with_name("mirt_dimensions.json").read_text("utf-8"))
"""Made by dimensions_reference.R."""
MODELS = ("2pl", "gpcm", "2pl", "grm", "2pl", "3pl", "2pl")
CATEGORIES = (2, 3, 2, 3, 2, 2, 2)
FURTHER = np.array([[0, 0, 0], [0, 0.4, 0], [0, 0, 0], [0, 0.3, 0], [0, 0, 0], [-1.4, 0, 0], [0, 0, 0]], dtype=float)
BIFACTOR = Dimensions.bifactor({"q1": "a", "q2": "a", "q3": "a", "q4": "b", "q5": "b", "q6": "b", "q7": None})
TIED = Dimensions.from_frame(
    {
        "item": ["q1", "q2", "q3", "q4", "q5", "q6", "q7", "q7", "q1", "q2", "q4", "q6"],
        "dimension": ["x", "x", "x", "y", "y", "y", "x", "y", "s", "s", "s", "s"],
        "slope": ["free", "same", "same", "free", "free", "free", "free", 0.8, "free", "own", "own", "own"],
    },
    specific=["s"],
)
"""Two correlated dimensions, equal and fixed slopes, and a specific dimension."""


def world(dimensions, *, correlation=0.0, persons=60, seed=1):
    rng = np.random.default_rng(seed)
    slopes, intercepts = rng.uniform(0.6, 1.8, (7, 3)), rng.normal(0, 0.6, 7)
    known = known_dimensions(
        dimensions,
        np.where(dimensions.free, slopes, dimensions.fixed),
        intercepts,
        models=MODELS,
        categories=CATEGORIES,
        further=FURTHER,
        correlation=correlation,
    )
    known = at_parameters(known, known.vector)  # equal slopes
    return known, draw_dimensions(known, persons, rng, missing=0.3)[0], rng


@pytest.mark.parametrize(("dimensions", "correlation"), [(BIFACTOR, 0.0), (TIED, 0.5)])
def test_observed_information_equals_second_differences_of_the_likelihood(monkeypatch, dimensions, correlation):
    """Directions are all parameters and 20 mixtures. The error of a second difference with a step of .005 is below 2e-4
    of the largest information."""
    known, responses, rng = world(dimensions, correlation=correlation)
    known = replace(known, nodes=(21, 15))
    monkeypatch.setattr(scores, "SCORING_NODES", {1: 21, 2: 21})
    monkeypatch.setattr(scores, "SPECIFIC_NODES", 15)
    weights, prior = rng.uniform(0.5, 2.0, responses.n_persons), irt.LogitNormal(-1.4, 0.7)
    layout = _fitted_layout(responses, known, weights, irt.Priors(c=prior))
    observed, complete = observed_information(responses, known, layout, weights)
    place = known.places.further[5, 0]

    def objective(x):
        density = float(prior.terms(x[place : place + 1]).density[0])
        return weights @ dimensions_scores(responses, at_parameters(known, x)).loglik + density

    x, step, p = known.vector, 5e-3, known.places.n_free
    mixtures = rng.normal(size=(20, p))
    mixtures /= np.linalg.norm(mixtures, axis=1)[:, None]
    middle = objective(x)
    for direction in [*np.eye(p), *mixtures]:
        bend = (2 * middle - objective(x + step * direction) - objective(x - step * direction)) / step**2
        assert direction @ observed @ direction == pytest.approx(bend, abs=2e-4 * np.abs(observed).max())
    assert (np.linalg.eigvalsh(complete - observed) > -1e-8).all()


def test_a_weight_of_two_counts_as_two_persons():
    known, responses, _ = world(BIFACTOR)
    twice = irt.Responses.from_wide(np.repeat(wide(responses), 2, axis=0), known.item_ids, categories=CATEGORIES)
    one, other = dimensions_errors(responses, known, np.full(responses.n_persons, 2.0)), dimensions_errors(twice, known)
    np.testing.assert_allclose(one.cov, other.cov, rtol=1e-5)  # nodes with weights below 1e-12 are left out


def wide(responses):
    table = np.full((responses.n_persons, responses.n_items), np.nan)
    table[responses.person, responses.item] = responses.score
    return table


def two_topics(slopes_of_second=1.0):
    rng = np.random.default_rng(2)
    topics = Dimensions.bifactor({f"q{j}": f"topic {j % 2}" for j in range(20)})
    slopes = rng.uniform(0.8, 1.6, (20, 3)) * [1, 1, slopes_of_second]
    known = known_dimensions(topics, slopes, rng.normal(0, 1, 20), nodes=(31, 21))
    return known, draw_dimensions(known, 3000, rng)[0]


def test_errors_do_not_depend_on_the_number_of_threads():
    """Answers of 3,000 persons are two parts."""
    known, responses = two_topics()
    one, three = (dimensions_errors(responses, known, threads=n).cov for n in (1, 3))
    np.testing.assert_array_equal(one, three)


def test_parameters_that_answers_do_not_determine_have_no_errors_and_are_named():
    """If the slopes of a specific dimension are 0, the likelihood is flat or a saddle in them."""
    known, responses = two_topics(slopes_of_second=0.0)
    fit = dimensions_errors(responses, known)
    error = np.sqrt(fit.cov.diagonal())
    of_general, of_first, of_second = (known.places.slopes[known.dimensions.free[:, d], d] for d in range(3))
    assert np.isnan(error[of_second]).any()
    assert (error[of_general] < 0.3).all()
    assert (error[of_first] < 0.5).all()
    assert re.match(r"the answers do not determine slopes of q1, .* on topic 1: drop a dimension", fit.missing_errors)


def test_items_without_parameters_have_no_errors_and_do_not_change_others():
    """Everybody answered the last item correctly. Nobody has a score of 2 on the first item, few on the second, whose
    step has a prior."""
    rng = np.random.default_rng(4)
    ids = [f"q{j}" for j in range(13)]
    topics = Dimensions.bifactor({item: f"topic {j % 2}" for j, item in enumerate(ids)})
    further = np.zeros((13, 4))
    further[0] = [0, 0.5, -np.inf, 0]
    further[1] = [0, 0.5, -4.5, 0]
    known = known_dimensions(
        topics,
        rng.uniform(0.8, 1.6, (13, 3)),
        rng.normal(0, 1, 13),
        models=["gpcm"] * 2 + ["2pl"] * 11,
        categories=[4] * 2 + [2] * 11,
        further=further,
        nodes=(31, 21),
    )
    table = wide(draw_dimensions(known, 2000, rng)[0])
    table[:, 12] = 1
    responses = irt.Responses.from_wide(table, ids, categories=known.categories)
    fit = dimensions_errors(responses, fit_dimensions(responses, topics, known.models))
    others = responses.of_items(np.arange(12))
    alone = dimensions_errors(others, fit_dimensions(others, topics.among(ids[:12]), known.models[:12]))
    assert fit.missing_errors == ""
    assert np.isnan(fit.slopes[12]).all()
    assert np.isfinite(fit.cov).all()
    np.testing.assert_allclose(fit.cov, alone.cov, rtol=1e-6)
    loglik = dimensions_scores(responses, fit).loglik
    np.testing.assert_allclose(loglik, dimensions_scores(others, alone).loglik, atol=1e-9)


def test_slope_at_its_bound_has_no_error():
    rng = np.random.default_rng(2)
    slopes = rng.uniform(0.8, 1.6, (6, 2))
    pair = Dimensions.between({f"q{j}": f"dimension {j % 2}" for j in range(6)})
    known = known_dimensions(pair, slopes, rng.normal(0, 1, 6), correlation=0.4, nodes=(31, 1))
    known.slopes[0, 0] = 10.0
    fit = dimensions_errors(draw_dimensions(known, 500, rng)[0], known)
    assert fit.missing_errors == "slopes of q0 on dimension 0 stopped at a bound"
    assert np.isfinite(np.delete(fit.cov.diagonal(), known.places.slopes[0, 0])).all()


@pytest.mark.parametrize("name", ["bifactor", "between"])
def test_errors_equal_those_of_mirt(shared, name):
    """Oakes' errors at mirt's own estimates. mirt's grid ends at 6 SDs, the library's at 5.5. With the same grid, they
    differ by 1e-6."""
    fit = MirtFit.from_json(MIRT[name], shared)
    errors = dimensions_errors(fit.answers, fit.calibration)
    cov, places = errors.cov, fit.calibration.places
    for (j, parameter), se in fit.errors.items():
        by = np.zeros(places.n_free)
        if parameter.startswith("a"):
            by[places.slopes[j, fit.order.index(int(parameter[1:]) - 1)]] = 1.0
        else:
            by[places.intercepts[j]] = 1.0
        if parameter in ("d1", "d2"):  # d ± exp(w)/2
            width = np.exp(fit.calibration.further[j, 1])
            by[places.further[j, 1]] = width / 2 if parameter == "d1" else -width / 2
        assert np.sqrt(by @ cov @ by) == pytest.approx(se, rel=3e-4)
    if name == "between":
        assert np.sqrt(cov[places.correlations[0, 1], places.correlations[0, 1]]) == pytest.approx(
            MIRT[name]["correlation"][1], rel=1e-4
        )
    assert errors.missing_errors == ""
