"""The marginal likelihood for compiled samplers, compared with a textbook's likelihood for several designs."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import expit

from irt_psychometrics.core.model_families import GRM
from irt_psychometrics.estimation import MarginalLikelihood
from irt_psychometrics.responses import Responses
from psychometrics_testbed.plain_likelihood import plain_log_likelihood

NODES = 41


def design(kind, rng):
    """Persons × items, NaN for unseen items. `forms` has more learners per form than its table of f has rows, `own
    sets` has a set of items for each learner, and `long` has enough items that the product of exp(a·θ) overflows."""
    persons, items = {"forms": (900, 21), "own sets": (60, 19), "long": (40, 700)}[kind]
    a, b = np.exp(rng.normal(0.1, 0.4, items)), rng.normal(size=items)
    x = (rng.random((persons, items)) < expit(a * (rng.normal(size=(persons, 1)) - b))).astype(float)
    if kind == "forms":
        x[:450, 13:] = x[450:, :8] = np.nan
    if kind == "own sets":
        x[rng.random(x.shape) < 0.4] = np.nan
    x[0, np.isfinite(x[0])], x[1, np.isfinite(x[1])] = 1.0, 0.0
    return x


def textbook(x, a, d, c):
    return plain_log_likelihood(Responses.from_wide(x), a, d, c, nodes=NODES)


def likelihood_of(x, guessing):
    return MarginalLikelihood.from_responses(Responses.from_wide(x), NODES, guessing=guessing)


@pytest.mark.parametrize("guessing", [False, True])
@pytest.mark.parametrize("kind", ["forms", "own sets", "long"])
def test_value_and_gradient_match_the_textbook(kind, guessing):
    rng = np.random.default_rng(5)
    x = design(kind, rng)
    J = x.shape[1]
    point = [np.exp(rng.normal(0, 0.4, J)), rng.normal(size=J)] + [rng.uniform(0.02, 0.4, J)] * guessing
    value, *gradient = likelihood_of(x, guessing)(*point)

    def plain(at):
        return textbook(x, *at, *([] if guessing else [np.zeros(J)]))

    # the table of f is accurate to 1e-8 per learner and better in sum; sums of 2e4 logs round to 1e-10
    assert value == pytest.approx(plain(point), abs=1e-7)
    for k, by in enumerate(gradient):
        for j in rng.choice(J, 5, replace=False):
            up, down = ([p.copy() for p in point] for _ in range(2))
            up[k][j] += 1e-5
            down[k][j] -= 1e-5
            # a central difference of a number of size 1e4, rounded at 1e-12 of it, over 2e-5; if c is small, third
            # derivatives are 1e5 times the first
            expected = (plain(up) - plain(down)) / 2e-5
            assert by[j] == pytest.approx(expected, rel=2e-8, abs=1e-4 if kind == "long" else 5e-6)


def test_value_and_gradient_of_graded_items_match_the_model():
    """Items of two to five scores. Nodes of 41 and equal spacing as in the kernel."""
    rng, categories = np.random.default_rng(7), np.array([5, 2, 3, 4])
    parameters = np.vstack([np.exp(rng.normal(0, 0.3, 4)), rng.normal(size=4), rng.normal(0, 0.4, (5, 4))])
    inner = (np.arange(5)[:, None] > 0) & (np.arange(5)[:, None] < categories - 1)
    parameters[2:][~inner] = 0.0
    nodes = np.linspace(-6, 6, NODES)
    weights = np.exp(-(nodes**2) / 2) / np.exp(-(nodes**2) / 2).sum()
    scores = np.column_stack([np.append(np.arange(n), rng.integers(0, n, 200 - n)) for n in categories]).astype(float)
    scores[rng.random(scores.shape) < 0.2] = np.nan
    likelihood = MarginalLikelihood.from_responses(
        Responses.from_wide(scores, categories=categories), NODES, guessing=False
    )

    def plain(at):
        own = parameters.copy()
        own[0], own[1], own.T[:, 2:][inner.T] = at
        p = GRM.probabilities(nodes, own, categories)
        seen = [
            np.where(np.isnan(x)[:, None], 1.0, p[j][:, np.nan_to_num(x).astype(int)].T) for j, x in enumerate(scores.T)
        ]
        return float(np.log(np.prod(seen, axis=0) @ weights).sum())

    point = [parameters[0], parameters[1], parameters.T[:, 2:][inner.T]]
    value, *gradient = likelihood(*point)
    assert value == pytest.approx(plain(point), abs=1e-9)
    for k, by in enumerate(gradient):
        for j in range(by.size):
            up, down = ([p.copy() for p in point] for _ in range(2))
            up[k][j] += 1e-5
            down[k][j] -= 1e-5
            assert by[j] == pytest.approx(
                (plain(up) - plain(down)) / 2e-5, abs=1e-6
            )  # 1e3 in double precision, over 2e-5


def test_likelihood_with_c_of_0_matches_the_likelihood_without_c():
    rng = np.random.default_rng(6)
    x = design("forms", rng)
    a, d = np.exp(rng.normal(0, 0.4, 21)), rng.normal(size=21)
    without, with_c = likelihood_of(x, False)(a, d), likelihood_of(x, True)(a, d, np.zeros(21))
    for one, other in zip(without, with_c, strict=False):
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-7)  # the table's error, as above


def test_likelihood_of_extreme_parameters_is_finite_and_needs_little_memory():
    """A sampler tries such values while it adapts its step: a slope of e³⁰ would need a table of 10¹³ rows."""
    x = design("forms", np.random.default_rng(7))
    for a in (np.full(21, np.exp(30.0)), np.full(21, np.exp(-30.0))):
        value, by_slope, _ = likelihood_of(x, False)(a, np.zeros(21))
        assert not value > 0
        assert by_slope.shape == (21,)


def test_likelihood_of_negative_slopes_matches_the_textbook():
    rng = np.random.default_rng(8)
    x = design("forms", rng)
    a, d = rng.normal(size=21), rng.normal(size=21)
    assert likelihood_of(x, False)(a, d)[0] == pytest.approx(textbook(x, a, d, np.zeros(21)), abs=1e-7)
