"""C₂ of forms with ordered scores: enumeration of all response patterns, R mirt, and models that do not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core.model_families import GPCM, GRM
from irt_psychometrics.itemfit import FitSummary
from irt_psychometrics.itemfit.m2 import form_fit
from psychometrics_testbed.fit_worlds import known
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

THETA = np.linspace(-6, 6, 61)
WEIGHTS = np.exp(-0.5 * THETA**2) / np.exp(-0.5 * THETA**2).sum()
PRIORS = irt.Priors(c=irt.LogitNormal(-1.386294, 0.5))
MIRT = json.loads(Path(__file__).with_name("mirt_c2.json").read_text())
"""C₂ and log L by models_reference.R, with the derivatives that its head explains."""


def known_items(models, further, *, c=(), sd=1.0) -> irt.Calibration:
    """A calibration with given parameters of scores, NaN for scores that an item cannot have."""
    J = len(models)
    table = np.full((J, 4), np.nan)
    for row, values in zip(table, further, strict=True):
        row[: len(values)] = values
    some = known(np.linspace(0.8, 1.4, J), np.linspace(0.6, -0.5, J), [*c, *[0.0] * (J - len(c))], sd=sd)
    if {"pcm", "rsm"} & set(models):
        some = replace(some, a=np.ones(J))
    if "1pl" in models:
        some = replace(some, a=np.full(J, 1.2))
    categories = np.array([max(2, len(x)) for x in further])
    return replace(some, models=tuple(models), categories=categories, further=table)


MIXED = known_items(
    ["3pl", "2pl", "gpcm", "grm", "gpcm"],
    [[], [], [0, 0.4, 0], [0, 0.2, -0.3, 0], [0, -np.inf, 0]],
    c=[0.2],
)
"""Items scored 0 … 1, 0 … 1, 0 … 2, 0 … 3, and 0 or 2."""
PARTIAL = known_items(["rasch", "pcm", "pcm", "pcm"], [[], [0, 0.4, 0], [0, -0.3, 0], [0, 0.5, 0.2, 0]], sd=1.2)
RATING = known_items(["rsm"] * 4, [[0, 0.4, 0]] * 4, sd=1.2)
ALIKE = known_items(["1pl", "1pl", "1pl", "grm"], [[], [], [], [0, 0.3, 0]])
A, D, LOGIT_C, T1, T2 = 0, 1, 2, 3, 4
EACH = [(D, [j]) for j in range(4)]
CASES = {
    "mixed": (
        MIXED,
        [*((row, [j]) for row in (A, D) for j in range(5)), (LOGIT_C, [0]), (T1, [2]), (T1, [3]), (T2, [3])],
    ),
    "partial credit": (PARTIAL, [*EACH, (T1, [1]), (T1, [2]), (T1, [3]), (T2, [3]), ("sd", [])]),
    "rating scale": (RATING, [*EACH, (T1, [0, 1, 2, 3]), ("sd", [])]),
    "common slope": (ALIKE, [*EACH, (A, [0, 1, 2]), (A, [3]), (T1, [3])]),
}
"""A fit, and the parameters that it estimates: their row, and the items that have it in common."""


def pattern_probabilities(fit: irt.Calibration, parameters: np.ndarray, sd: float) -> tuple[np.ndarray, np.ndarray]:
    patterns = np.array(list(product(*(range(n) for n in fit.n_categories))))
    p = fit.item_model.probabilities(THETA * sd, parameters, fit.n_categories)
    return patterns, np.prod([p[j][:, patterns[:, j]] for j in range(fit.n_items)], axis=0).T @ WEIGHTS


@pytest.mark.parametrize("name", CASES)
def test_c2_matches_the_quadratic_form_over_all_patterns(name):
    """The covariance of margins is summed over the patterns; derivatives are differences."""
    fit, moved = CASES[name]
    parameters, h = fit.parameters, 1e-5
    patterns, p = pattern_probabilities(fit, parameters, fit.latent_sd)
    has = [np.flatnonzero(np.isfinite(scores[:n])) for scores, n in zip(fit.further, fit.n_categories, strict=True)]
    scores = [(j, k) for j in range(fit.n_items) for k in (has[j][1:] if has[j].size else [1])]
    pairs = list(combinations(range(fit.n_items), 2))

    def margins(x: np.ndarray) -> np.ndarray:
        return np.column_stack([*(x[:, j] == k for j, k in scores), *(x[:, i] * x[:, j] for i, j in pairs)]).astype(
            float
        )

    columns = []
    for row, items in moved:
        step = np.zeros_like(parameters)
        if row != "sd":
            step[row, items] = h
        up, down = (
            pattern_probabilities(fit, parameters + sign * step, fit.latent_sd + sign * h * (row == "sd"))[1]
            for sign in (1, -1)
        )
        columns.append((up - down) @ margins(patterns) / (2 * h))
    delta, e = np.column_stack(columns), p @ margins(patterns)
    covariance = margins(patterns).T @ (p[:, None] * margins(patterns)) - np.outer(e, e)
    possible = np.flatnonzero(p > 0)
    x = patterns[np.random.default_rng(3).choice(possible, 400)]
    off = margins(x).mean(axis=0) - e
    inverse = np.linalg.inv(covariance)
    weight = inverse - inverse @ delta @ np.linalg.inv(delta.T @ inverse @ delta) @ delta.T @ inverse
    answers = irt.Responses.from_wide(
        x.astype(float), max_score=dict(zip(fit.item_ids, fit.n_categories - 1, strict=True))
    )
    (found,) = form_fit(answers, fit)
    assert found.df == len(e) - len(moved)
    assert found.m2 == pytest.approx(400 * off @ weight @ off, rel=1e-6)
    assert found.scored


def of_models(x: np.ndarray, names, models) -> tuple[irt.Responses, irt.Fit]:
    answers = irt.Responses.from_wide(x, names, max_score=dict(zip(names, x.max(axis=0).astype(int), strict=True)))
    priors = PRIORS if "3pl" in models else None
    return answers, irt.fit(answers, dict(zip(names, models, strict=True)), priors=priors, prior_on_rare_steps=False)


def published(shared, name: str, prefix: str) -> tuple[np.ndarray, list[str]]:
    frame = pd.read_csv(shared / "data" / name)
    names = [column for column in frame if column != "person" and column.startswith(prefix)]
    x = frame[names].to_numpy(float)
    return x - x.min(axis=0), names


def multiple_choice_beside(scored, model: str) -> tuple[np.ndarray, list[str]]:
    """Answers of 2,000 persons to 12 multiple-choice items and 6 items scored 0 … 3."""
    rng = np.random.default_rng(79)
    theta = rng.normal(size=2000)
    a, b = rng.uniform(1, 2, 12), rng.uniform(-1.5, 1.5, 12)
    right = rng.random((2000, 12)) < 0.2 + 0.8 / (1 + np.exp(-a * (theta[:, None] - b)))
    inner = rng.uniform(0, 0.4, (2, 6))
    parameters = np.vstack([rng.uniform(0.7, 1.4, 6), rng.uniform(-1, 1, 6), np.zeros(6), inner, np.zeros(6)])
    p = scored.probabilities(theta, parameters, np.full(6, 4))
    scores = (rng.random((6, 2000, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T
    return np.hstack([right, scores]).astype(float), [*(f"m{j}" for j in range(12)), *(f"s{j}" for j in range(6))]


@pytest.mark.parametrize("case", MIRT)
def test_c2_matches_mirt(shared, case):
    name, model = case.split(", ")
    if name == "mixed":
        x, names = multiple_choice_beside(GRM if model == "3pl+grm" else GPCM, model)
    else:
        x, names = published(
            shared, *{"Science": ("science_wide.csv", ""), "anger": ("verbal_aggression_poly_wide.csv", "S")}[name]
        )
    of_items = (
        [model.split("+")[0 if item[0] == "m" else -1] for item in names] if "+" in model else [model] * len(names)
    )
    answers, fit = of_models(x, names, of_items)
    reference = MIRT[case]
    # the simulated answers are the same as mirt had
    assert fit.calibration.convergence.loglik == pytest.approx(reference["loglik"], abs=1e-4)
    (form,) = form_fit(answers, fit.calibration)
    assert form.df == reference["df"]
    # mirt's derivatives are numerical, and Δ is nearly singular in c
    assert form.m2 == pytest.approx(reference["M2"], rel=1e-4 if "3pl" in model else 1e-5)
    found = form.rmsea.value, form.rmsea.low, form.rmsea.high, form.cfi, form.tli, form.srmsr
    assert found == pytest.approx(
        [reference[k] for k in ("RMSEA", "RMSEA_5", "RMSEA_95", "CFI", "TLI", "SRMSR")], abs=1e-3
    )  # mirt's search for the limits stops at 1e-4


def test_c2_rejects_partial_credit_items_with_equal_slopes_if_slopes_differ():
    rng = np.random.default_rng(5)
    parameters = np.vstack([rng.permutation(np.linspace(0.3, 2, 12)), rng.uniform(-1, 1, 12), *np.zeros((3, 12))])
    p = GPCM.probabilities(rng.normal(size=2000), parameters, np.full(12, 3))
    x = (rng.random((12, 2000, 1)) > np.cumsum(p, axis=2)).sum(axis=2).T.astype(float)
    names = [f"i{j}" for j in range(12)]
    wrong, right = (form_fit(*_calibrated(of_models(x, names, [model] * 12)))[0] for model in ("pcm", "gpcm"))
    assert wrong.p < 1e-6 < 0.01 < right.p
    assert right.rmsea.high < wrong.rmsea.low


def _calibrated(fitted):
    return fitted[0], fitted[1].calibration


def test_fit_statistics_name_c2_and_scores_without_order_are_refused(monkeypatch):
    x, names = multiple_choice_beside(GRM, "3pl+grm")
    answers, fit = of_models(x[:, 8:], names[8:], ["2pl"] * 4 + ["grm"] * 6)
    assert repr(fit.fit_statistics(answers).m2).startswith("<FormFits: fit of 1 form: C₂ ")
    monkeypatch.setattr(type(GRM), "ordered_scores", False)
    only = fit.calibration.select(np.arange(4, 10))
    scored = answers.of_items(np.arange(10) >= 4)
    with pytest.raises(irt.PsychometricsError, match="M₂ needs ordered scores, and the scores of a graded response"):
        form_fit(scored, only)
    assert FitSummary.from_fit(scored, only).forms is None
