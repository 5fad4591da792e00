"""Fits of items on several dimensions: against R mirt, one-dimensional fits, brute force, and finite differences."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

import irt_psychometrics as irt
from irt_psychometrics.core import kernels
from irt_psychometrics.core.errors import PsychometricsError
from irt_psychometrics.core.models import Flag
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.dimensions import curves, fitting
from irt_psychometrics.dimensions.fitting import fit_dimensions
from irt_psychometrics.dimensions.grid import TwoTierGrid
from irt_psychometrics.dimensions.likelihood import Answers, TwoTierProblem
from irt_psychometrics.dimensions.structure import Dimensions
from irt_psychometrics.estimation import estimate_effect_sd, fit_em
from irt_psychometrics.estimation.optimizer import maximise
from irt_psychometrics.estimation.response_layout import Counts
from psychometrics_testbed.what_changed import WHERE_STATISTICS_CHANGE

pytestmark = WHERE_STATISTICS_CHANGE

SAT12_SPECIFIC = "23233212111313121133113133132312"
"""The specific dimension of each item in the example of mirt's `bfactor`."""
VERBAL = [f"S{s}{how}{what}" for how in ("Want", "Do") for s in (1, 2, 3) for what in ("Curse", "Scold", "Shout")]
VERBAL = [item for item in VERBAL if item not in ("S3WantShout", "S3DoShout")]


def sat12(shared) -> irt.Responses:
    return irt.Responses.from_wide(pd.read_csv(shared / "data" / "sat12_scored_wide.csv"), person="person")


def science(shared) -> irt.Responses:
    frame = pd.read_csv(shared / "data" / "science_wide.csv").set_index("person") - 1
    return irt.Responses.from_wide(frame[["benefit", "future", "work", "comfort"]], max_score=3)


def verbal(shared) -> irt.Responses:
    return irt.Responses.from_wide(pd.read_csv(shared / "data" / "verbal_aggression_binary_wide.csv")[VERBAL])


def by_topic(x: irt.Responses, topics: str) -> Dimensions:
    return Dimensions.bifactor(dict(zip(x.item_ids, topics, strict=True)))


def simulated(
    slopes: np.ndarray, intercepts: np.ndarray, n: int, seed: int, correlation: float = 0.0, seen: float = 1.0
) -> irt.Responses:
    """Answers of n persons; the first two dimensions have this correlation."""
    rng = np.random.default_rng(seed)
    theta = rng.normal(size=(n, slopes.shape[1]))
    if slopes.shape[1] > 1:
        theta[:, 1] = correlation * theta[:, 0] + np.sqrt(1 - correlation**2) * theta[:, 1]
    p = 1 / (1 + np.exp(-(theta @ slopes.T + intercepts)))
    x = (rng.random(p.shape) < p).astype(float)
    x[rng.random(p.shape) > seen] = np.nan
    return irt.Responses.from_wide(x)


def bifactor_of(n_items: int, n_topics: int, n: int, seed: int, seen: float = 1.0) -> tuple[irt.Responses, Dimensions]:
    rng = np.random.default_rng(seed)
    slopes = np.zeros((n_items, 1 + n_topics))
    topic = np.arange(n_items) * n_topics // n_items
    slopes[:, 0], slopes[np.arange(n_items), 1 + topic] = rng.uniform(0.8, 2, n_items), rng.uniform(0.5, 1.2, n_items)
    x = simulated(slopes, rng.normal(size=n_items), n, seed + 1, seen=seen)
    return x, by_topic(x, "".join("abcdefgh"[k] for k in topic))


MIRT_GENERAL = [
    [0.7847, 1.4892, 1.1473, 0.5260, 0.9673, 1.1353, 1.0441, 0.6729, 0.4550, 1.0488, 1.5927, 0.1207, 1.1006, 1.0870],
    [1.3338, 0.7358, 1.5300, 1.7578, 0.8622, 1.5299, 0.5344, 1.6826, 0.6063, 1.2381, 0.7320, 1.4869, 1.9100, 1.0555],
    [1.2676, 0.4329, 2.6010, 0.1333],
]
MIRT_SPECIFIC = [
    [0.4332, 0.8158, -0.1548, 0.5809, 0.5154, 0.5753, 0.9223, 0.5168, 1.1135, 0.8221, 0.8134, 0.2755, 0.5763, 1.0361],
    [0.5293, 0.3853, 0.2657, 0.1900, 0.0385, 0.4180, 0.6522, -0.0729, 0.4987, 0.2138, 0.6479, 0.4923, 0.4001, 0.1527],
    [2.1618, -0.1683, -0.2780, 0.0272],
]
"""Slopes of SAT12 by `bfactor(key2binary(SAT12, key), specific, quadpts = 31, TOL = 1e-8)`, mirt 1.47.

With TOL = 1e-6 mirt stops .001 before the maximum, because item 29 hardly determines its specific slope."""


def test_bifactor_of_sat12_agrees_with_mirt(shared) -> None:
    """mirt prints four digits."""
    x = sat12(shared)
    fit = fit_dimensions(x, by_topic(x, SAT12_SPECIFIC), ("2pl",) * 32, nodes=31)
    assert fit.convergence.converged
    assert fit.convergence.loglik == pytest.approx(-9435.0510873761, abs=1e-6)
    assert fit.slopes[:, 0] == pytest.approx(np.concatenate(MIRT_GENERAL), abs=1e-4)
    assert fit.slopes[:, 1:].sum(axis=1) == pytest.approx(np.concatenate(MIRT_SPECIFIC), abs=1e-4)
    chosen = fit_dimensions(x, fit.dimensions, fit.models)
    dense = fit_dimensions(x, fit.dimensions, fit.models, nodes=41)
    assert chosen.convergence.loglik == pytest.approx(dense.convergence.loglik, abs=0.01)


def test_two_explored_dimensions_of_science_agree_with_mirt(shared) -> None:
    """`mirt(Science, 2, quadpts = 31, TOL = 1e-7)`, mirt 1.47: log L, and ΛΛᵀ, which no rotation changes."""
    x = science(shared)
    fit = fit_dimensions(x, Dimensions.explore(x.item_ids, 2), ("grm",) * 4, nodes=31)
    assert fit.convergence.loglik == pytest.approx(-1601.967407, abs=1e-5)
    mirt = [2.95905, 2.50475, 1.55594, 2.29933, 3.38250, 3.51968, 2.05247, 4.66156, 1.39428, 1.79563]
    assert (fit.slopes @ fit.slopes.T)[np.triu_indices(4)] == pytest.approx(mirt, abs=1e-3)


def test_correlated_dimensions_of_verbal_aggression_agree_with_mirt(shared) -> None:
    """`mirt(x, mirt.model("F1 = 1-8\\nF2 = 9-16\\nCOV = F1*F2"), quadpts = 31, TOL = 1e-6)`, mirt 1.47."""
    x = verbal(shared)
    dimensions = Dimensions.between({item: item[2:4] for item in x.item_ids})
    fit = fit_dimensions(x, dimensions, ("2pl",) * 16, nodes=31)
    assert fit.convergence.loglik == pytest.approx(-2721.992856, abs=1e-5)
    assert fit.correlations[0, 1] == pytest.approx(0.751392, abs=1e-5)
    chosen = fit_dimensions(x, dimensions, fit.models)
    dense = fit_dimensions(x, dimensions, fit.models, nodes=41)
    assert chosen.convergence.loglik == pytest.approx(dense.convergence.loglik, abs=0.01)


@pytest.mark.parametrize("model", ["2pl", "3pl", "gpcm", "grm", "nominal"])
def test_fit_of_one_dimension_is_the_one_dimensional_fit(shared, model: str) -> None:
    """On the same 61 nodes, two implementations reach one maximum, to the square of the last gradient."""
    x = sat12(shared) if model in ("2pl", "3pl") else science(shared)
    dimensions = Dimensions.from_frame({"item": x.item_ids, "dimension": ["x"] * x.n_items})
    fit = fit_dimensions(x, dimensions, (model,) * x.n_items, nodes=61)
    one = fit_em(x, model=model)
    assert fit.convergence.loglik == pytest.approx(one.convergence.loglik, abs=1e-5)
    assert fit.slopes[:, 0] == pytest.approx(one.a, abs=1e-3)  # c is nearly flat: both stop at a gradient of 1e-5 SE


def problem_of(
    x: irt.Responses, dimensions: Dimensions, models: tuple[str, ...], nodes: tuple[int, int], run: kernels.Run
) -> tuple[TwoTierProblem, np.ndarray]:
    """The likelihood on these nodes, and a point at which no derivative is 0."""
    counts = Counts.from_responses(x, np.ones(x.n_persons))
    layout = fitting._lay_out(dimensions, models, counts, irt.Priors(c=irt.Beta(5, 17)))
    answers = Answers.from_responses(x, dimensions, np.ones(x.n_persons))
    problem = TwoTierProblem(layout, answers, TwoTierGrid.from_nodes(dimensions.n_primary, nodes), run)
    values = fitting._start(layout, counts, x)
    start = layout.gather(values)
    return problem, start + 0.2 * np.random.default_rng(3).normal(size=start.size)


def mixed_answers() -> tuple[irt.Responses, Dimensions, tuple[str, ...]]:
    """Answers to items of five models on two correlated primary and two specific dimensions; a third is missing."""
    rng = np.random.default_rng(8)
    x = rng.integers(0, 3, (60, 12)).astype(float)
    x[:, ::3] = x[:, ::3] > 0
    x[:, 6] = x[:, 6] > 0
    x[rng.random(x.shape) < 0.3] = np.nan
    models = ("3pl", "gpcm", "grm", "2pl", "nominal", "grm", "2pl", "gpcm", "grm", "2pl", "gpcm", "nominal")
    sizes = [2 if m in ("2pl", "3pl") else 3 for m in models]
    responses = irt.Responses.from_wide(x, categories=sizes)
    rows = [(f"i{j + 1}", "AB"[j % 2], "free") for j in range(12)]
    rows += [(f"i{j + 1}", "s", "alike" if j in (0, 3) else "free") for j in (0, 3, 4, 7)]
    rows += [(f"i{j + 1}", "t", "free") for j in (1, 2, 5)]
    item, dimension, slope = zip(*rows, strict=True)
    table = {"item": item, "dimension": dimension, "slope": slope}
    dimensions = Dimensions.from_frame(table, specific=["s", "t"]).among(responses.item_ids)
    return responses, dimensions, models


def test_gradient_is_the_derivative_of_the_objective() -> None:
    """Central differences with step 1e-5; their error is about 1e-9 of the objective's third derivative."""
    x, dimensions, models = mixed_answers()
    with kernels.runner(1) as run:
        problem, at = problem_of(x, dimensions, models, (7, 7), run)
        gradient = problem.evaluate(at).gradient
        step = 1e-5
        for k in range(at.size):
            move = np.where(np.arange(at.size) == k, step, 0.0)
            ends = [problem.evaluate(at + sign * move).objective for sign in (1, -1)]
            assert gradient[k] == pytest.approx((ends[0] - ends[1]) / (2 * step), abs=1e-5)


def test_log_likelihood_is_the_integral_over_all_dimensions() -> None:
    """Sums over the full product of four dimensions, on the same nodes, without dimension reduction."""
    x, dimensions, models = mixed_answers()
    with kernels.runner(1) as run:
        problem, at = problem_of(x, dimensions, models, (7, 7), run)
        point, values = problem.evaluate(at), problem.layout.expand(at)
    axis = Grid.symmetric(7, 5.5)
    theta = np.array([*product(axis.nodes, repeat=4)])
    inverse = np.linalg.inv(values.correlations)
    weights = np.exp(-0.5 * np.einsum("td,de,te->t", theta, inverse, theta))
    weights /= weights.sum()
    z = values.slopes @ theta.T + values.intercepts[:, None]
    total = 0.0
    table = curves.log_probabilities(problem.layout.model, z, values.further, problem.layout.categories)
    for i in range(x.n_persons):
        own = x.person == i
        if own.any():
            total += np.log(weights @ np.exp(table[x.item[own], :, x.score[own]].sum(axis=0)))
    assert point.loglik == pytest.approx(total, abs=1e-9)


def test_results_are_the_same_for_any_number_of_threads() -> None:
    x, dimensions = bifactor_of(30, 3, 3000, 5, seen=0.7)
    fits = [fit_dimensions(x, dimensions, ("2pl",) * 30, nodes=9, threads=threads) for threads in (1, 3)]
    assert np.array_equal(fits[0].slopes, fits[1].slopes)
    assert fits[0].convergence == fits[1].convergence


def test_weighted_persons_count_as_repeated_persons() -> None:
    x, dimensions = bifactor_of(12, 2, 400, 11)
    weights = np.arange(400) % 3
    repeated = irt.Responses.from_wide(np.repeat(x.score.reshape(400, 12), weights, axis=0))
    fits = [
        fit_dimensions(x, dimensions, ("2pl",) * 12, weights=weights, nodes=15),
        fit_dimensions(repeated, dimensions, ("2pl",) * 12, nodes=15),
    ]
    assert fits[0].n_persons == fits[1].n_persons == weights.sum()
    assert fits[0].convergence.loglik == pytest.approx(fits[1].convergence.loglik, abs=1e-6)
    assert fits[0].slopes == pytest.approx(fits[1].slopes, abs=1e-3)  # both end within 1e-5 SE of a zero gradient


@pytest.mark.parametrize("seed", [1, 2])
def test_random_starts_reach_the_same_maximum(seed: int) -> None:
    slopes = np.random.default_rng(0).uniform(0.3, 1.6, (20, 2))
    x = simulated(slopes, np.linspace(-1, 1, 20), 1500, 21)
    dimensions = Dimensions.explore(x.item_ids, 2)
    fit = fit_dimensions(x, dimensions, ("2pl",) * 20, nodes=21)
    counts = Counts.from_responses(x, np.ones(x.n_persons))
    layout = fitting._lay_out(dimensions, ("2pl",) * 20, counts, irt.Priors())
    answers = Answers.from_responses(x, dimensions, np.ones(x.n_persons))
    with kernels.runner(None) as run:
        problem = TwoTierProblem(layout, answers, TwoTierGrid.from_nodes(2, (21, 1), 6.0), run)
        start = np.abs(np.random.default_rng(seed).normal(0.8, 0.5, layout.places.n_free))
        again = maximise(problem, start, 1e-5, 500)
    assert again.converged
    assert again.point.loglik == pytest.approx(fit.convergence.loglik, abs=1e-6)
    found = layout.expand(again.point.x).slopes
    assert found @ found.T == pytest.approx(fit.slopes @ fit.slopes.T, abs=1e-3)


def test_default_nodes_suffice_for_sixty_items() -> None:
    """log L at the estimates changes by less than .01 with 41 and with 81 nodes a dimension."""
    x, dimensions = bifactor_of(60, 5, 1000, 31)
    fit = fit_dimensions(x, dimensions, ("2pl",) * 60)
    assert fit.convergence.converged
    counts = Counts.from_responses(x, np.ones(x.n_persons))
    layout = fitting._lay_out(fit.dimensions, fit.models, counts, irt.Priors())
    answers = Answers.from_responses(x, fit.dimensions, np.ones(x.n_persons))
    with kernels.runner(None) as run:
        for n in (41, 81):
            dense = TwoTierProblem(layout, answers, TwoTierGrid.from_nodes(1, (n, n), 6.0), run)
            assert dense.evaluate(fit.vector).loglik == pytest.approx(fit.convergence.loglik, abs=0.01)


def test_equal_specific_slopes_agree_with_the_sd_of_testlet_effects() -> None:
    """Answers with one general slope a and one specific slope s follow a(θ + γ) with an SD of s/a for γ.

    `estimate_effect_sd` approximates how γ flattens curves, and the bifactor fit does not. With 4,000 persons the
    difference was .0017, .115 standard errors; with the 2,000 of this test it is below .1.
    """
    rng = np.random.default_rng(4)
    slopes = np.zeros((24, 7))
    slopes[:, 0], slopes[np.arange(24), 1 + np.arange(24) // 4] = 1.2, 1.2 * 0.6
    x = simulated(slopes, rng.normal(0, 0.8, 24), 2000, 41)
    topics = {item: f"t{j // 4}" for j, item in enumerate(x.item_ids)}
    sd = estimate_effect_sd(x, fit_em(x, model="1pl"), topics)
    rows = {"item": [*x.item_ids] * 2, "dimension": ["g"] * 24 + [*topics.values()], "slope": ["a"] * 24 + ["s"] * 24}
    fit = fit_dimensions(x, Dimensions.from_frame(rows, specific=[*dict.fromkeys(topics.values())]), ("2pl",) * 24)
    assert fit.convergence.n_parameters == 26
    ratio = fit.slopes[0, 1] / fit.slopes[0, 0]
    assert abs(ratio - sd.sd) < 0.1 * sd.se


def test_items_that_cannot_be_estimated_have_flags_and_change_nothing() -> None:
    x, dimensions = bifactor_of(12, 2, 500, 51)
    scores = np.full((500, 14), np.nan)
    scores[x.person, x.item] = x.score
    scores[:, 12] = 1.0
    more = irt.Responses.from_wide(scores)
    topics = {f"i{j + 1}": "ab"[j // 6] for j in range(12)} | {"i13": "a", "i14": None}
    fits = [
        fit_dimensions(x, dimensions, ("2pl",) * 12),
        fit_dimensions(more, Dimensions.bifactor(topics), ("2pl",) * 14),
    ]
    assert fits[1].flags[12:] == ((Flag.ALL_CORRECT,), (Flag.NO_DATA,))
    assert np.isnan(fits[1].slopes[12:]).all()
    assert fits[1].slopes[:12] == pytest.approx(fits[0].slopes, abs=1e-12)
    assert (fits[1].places.slopes[12:] == -1).all()
    assert replace(fits[1]).vector == pytest.approx(fits[0].vector, abs=1e-12)


def test_slopes_without_a_finite_maximum_and_duplicates_are_no_convergence() -> None:
    x, _ = bifactor_of(8, 2, 300, 61)
    scores = np.zeros((300, 9))
    scores[x.person, x.item] = x.score
    scores[:, 8] = scores[:, 0]
    twice = irt.Responses.from_wide(scores)
    fit = fit_dimensions(twice, Dimensions.bifactor({f"i{j + 1}": "aaaabbbba"[j] for j in range(9)}), ("2pl",) * 9)
    assert not fit.convergence.converged
    assert "same answers" in fit.convergence.reason
    assert Flag.DUPLICATE in fit.flags[8]
    assert Flag.AT_BOUND in fit.flags[0]


@pytest.mark.parametrize(
    ("model", "priors", "message"),
    [
        ("rasch", None, "need slopes of their own, got model 'rasch'"),
        ("2pl", irt.Priors.weakly_informative(), "priors on a and b"),
        ("2pl", irt.Priors(c=irt.Beta(5, 17)), "no guessing"),
    ],
)
def test_models_and_priors_without_meaning_are_rejected(model: str, priors, message: str) -> None:
    x, dimensions = bifactor_of(8, 2, 50, 71)
    with pytest.raises(PsychometricsError, match=message):
        fit_dimensions(x, dimensions, (model,) * 8, priors=priors)
