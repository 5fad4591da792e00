"""M₂: its covariance and derivatives against enumeration, misfit found, forms of a planned design, edges."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations, product

import numpy as np
import pytest

from irt_assets.psychometrics.core.curves import probability
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.estimation.em import fit_em
from irt_assets.psychometrics.fit.m2 import form_fit
from tests.engines.fit_worlds import known, planned

THETA = np.linspace(-6, 6, 61)
WEIGHTS = np.exp(-0.5 * THETA**2) / np.exp(-0.5 * THETA**2).sum()
PATTERNS = np.array(list(product([0, 1], repeat=5)), dtype=float)
MARGINS = np.column_stack([PATTERNS, *(PATTERNS[:, i] * PATTERNS[:, j] for i, j in combinations(range(5), 2))])
"""Patterns × 15: the five items and their ten pairs, each 0 or 1."""


def pattern_probabilities(fit):
    p = probability(THETA * fit.latent_sd, fit.a, fit.d, fit.c)
    return np.prod(np.where(PATTERNS[:, None, :] == 1, p, 1 - p), axis=2) @ WEIGHTS


def moved(fit, name, j, step):
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
def test_m2_is_the_quadratic_form_of_all_patterns(model, parameters):
    """Covariance of the margins summed over the 32 patterns, derivatives by differences, projection by pinv."""
    a = np.array([1.2, 0.7, 1.0, 1.6, 0.9]) if model == "2pl" else np.full(5, 1.0 if model == "rasch" else 1.3)
    fit = known(a, [1.0, 0.2, -0.5, 0.4, -1.0], model=model, sd=1.2 if model == "rasch" else 1.0)
    x = np.random.default_rng(3).integers(0, 2, (400, 5)).astype(float)
    probabilities = pattern_probabilities(fit)
    expected = probabilities @ MARGINS
    covariance = MARGINS.T @ (probabilities[:, None] * MARGINS) - np.outer(expected, expected)
    h = 1e-5
    delta = np.column_stack(
        [
            (pattern_probabilities(moved(fit, *q, h)) - pattern_probabilities(moved(fit, *q, -h))) @ MARGINS / (2 * h)
            for q in parameters
        ]
    )
    observed = np.concatenate([x.mean(0), [(x[:, i] * x[:, j]).mean() for i, j in combinations(range(5), 2)]])
    inverse = np.linalg.inv(covariance)
    weight = inverse - inverse @ delta @ np.linalg.inv(delta.T @ inverse @ delta) @ delta.T @ inverse
    (found,) = form_fit(Responses.from_wide(x), fit)
    assert found.m2 == pytest.approx(400 * (observed - expected) @ weight @ (observed - expected), rel=1e-6)
    assert found.df == 15 - len(parameters)
    assert found.rmsea == pytest.approx(np.sqrt(max(0, found.m2 - found.df) / (found.df * 399)))


def test_a_rasch_model_for_items_of_many_slopes_does_not_fit():
    x = planned(np.random.default_rng(4), persons=3000)
    responses = Responses.from_wide(x)
    wrong, right = (form_fit(responses, fit_em(responses, model=m)) for m in ("rasch", "2pl"))
    assert max(form.p for form in wrong) < 1e-4
    assert min(form.p for form in right) > 1e-3
    assert min(form.rmsea for form in wrong) > max(form.rmsea for form in right)


def test_every_form_of_a_planned_design_is_tested_and_its_items_named():
    x = planned(np.random.default_rng(5), persons=900, length=8)[150:]
    responses = Responses.from_wide(np.column_stack([np.ones(len(x)), x]))
    forms = form_fit(responses, fit_em(responses))
    assert [form.n for form in forms] == [250, 250, 250]
    assert {form.items for form in forms} == {tuple(range(k, k + 8)) for k in (1, 5, 9)}


def test_small_forms_short_forms_and_scattered_answers_are_left_out():
    rng = np.random.default_rng(6)
    few = Responses.from_wide(rng.integers(0, 2, (199, 6)).astype(float))
    assert form_fit(few, known(np.ones(6), np.zeros(6))) == []
    three = Responses.from_wide(rng.integers(0, 2, (300, 3)).astype(float))
    assert form_fit(three, known(np.ones(3), np.zeros(3))) == []  # 6 margins, 6 parameters
    scattered = rng.integers(0, 2, (300, 20)).astype(float)
    scattered[rng.random(scattered.shape) < 0.5] = np.nan
    assert form_fit(Responses.from_wide(scattered), known(np.ones(20), np.zeros(20))) == []
