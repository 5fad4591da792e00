"""Changes of single categories: P(X ≥ k) on two sides, its errors, merged categories, and which changes are named."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.special import expit
from scipy.stats import norm

from irt_psychometrics.core.category_changes import (
    CategoryChanges,
    score_counts,
    separate_categories,
    with_common_q,
)
from irt_psychometrics.core.item_models import ItemCurves, OtherItems, item_model
from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.items import Model
from irt_psychometrics.responses import Responses
from psychometrics_testbed.scored_estimates import ScoredItems

MEAN, SD = 0.3, 1.2
THETA = MEAN + SD * Grid.symmetric().nodes
MODELS: tuple[Model, ...] = ("gpcm", "grm")


def curves_of(items: ScoredItems) -> ItemCurves:
    model = item_model(items.models[0])
    others = OtherItems.at_places(model, np.arange(items.size), items.parameters, items.categories)
    return ItemCurves(items.parameters[0], items.parameters[1], np.zeros(items.size), (others,))


def compare(
    new: ScoredItems, old: ScoredItems, cov: np.ndarray | None = None, counts: np.ndarray | None = None
) -> CategoryChanges:
    size, most = len(old.parameters), int(max(new.categories.max(), old.categories.max()))
    cov = np.zeros((old.size, 2, size, 2, size)) if cov is None else cov
    counts = np.full((1, old.size, most), 100) if counts is None else counts
    return CategoryChanges.compare(curves_of(new), curves_of(old), cov, THETA, counts)


def drawn(model: Model, max_scores: tuple[int, ...] = (4, 2, 3)) -> ScoredItems:
    return ScoredItems.draw(np.random.default_rng(4), max_scores, model)


def at_least(items: ScoredItems, j: int, k: int, theta: float) -> float:
    """P(X ≥ k | θ) by the formulas of Muraki (1992) and Samejima (1969), from the steps."""
    own = items.parameters[: 2 + items.categories[j], j]
    steps, _ = item_model(items.models[j]).steps(own)
    if items.models[j] == "grm":
        return float(expit(own[0] * (theta - steps[k - 1])))
    odds = np.exp(np.r_[0.0, np.cumsum(own[0] * (theta - steps))])
    return float(odds[k:].sum() / odds.sum())


@pytest.mark.parametrize("model", MODELS)
def test_area_matches_the_integral_over_the_learners(model: Model) -> None:
    old = drawn(model)
    new = old.with_step_moved(0, 2, 0.5).with_step_moved(2, 1, -0.3)
    found = compare(new, old)
    assert list(zip(found.item, found.score, strict=True)) == [
        (j, k) for j, m in enumerate((4, 2, 3)) for k in range(1, m + 1)
    ]
    for j, k, area in zip(found.item, found.score, found.wabc, strict=True):
        gap = lambda t, j=j, k=k: abs(at_least(new, j, k, t) - at_least(old, j, k, t)) * norm.pdf(t, MEAN, SD)  # noqa: E731
        assert area == pytest.approx(quad(gap, MEAN - 9 * SD, MEAN + 9 * SD)[0], abs=1e-6), (j, k)


def test_shift_of_a_graded_score_is_the_change_of_its_threshold() -> None:
    """To first order: the curve of the moved threshold keeps its shape, and the other curves do not change."""
    old = drawn("grm")
    found = compare(old.with_step_moved(0, 2, 0.05), old).of_item(0)
    assert found.shift == pytest.approx([0.0, 0.05, 0.0, 0.0], abs=1e-4)


def test_moved_step_of_a_partial_credit_item_moves_its_own_score_most() -> None:
    old = drawn("gpcm")
    found = compare(old.with_step_moved(0, 3, 0.5), old).of_item(0)
    assert int(found.wabc.argmax()) == 2
    assert (found.shift > 0).all()


@pytest.mark.parametrize("model", MODELS)
def test_error_of_a_shift_matches_finite_differences(model: Model) -> None:
    """Var(T) = ∂T/∂x Cov(x) (∂T/∂x)ᵀ, with T = −shift · slope recomputed at moved parameters of both sides."""
    rng, old = np.random.default_rng(5), drawn(model)
    new, size = old.with_step_moved(0, 2, 0.2), len(old.parameters)
    root = rng.normal(size=(old.size, 2 * size, 2 * size))
    cov = 1e-3 * (root @ root.swapaxes(1, 2)).reshape(old.size, 2, size, 2, size)
    found = compare(new, old, cov)
    nodes_weights = np.exp(Grid.symmetric().log_weights())

    def means(items: ScoredItems) -> np.ndarray:
        p = item_model(model).probabilities(THETA, items.parameters, items.categories)
        above = p[:, :, ::-1].cumsum(axis=2)[:, :, ::-1]
        return np.einsum("q,jqk->jk", nodes_weights, above)

    step, by = 1e-5, np.zeros((old.size, 5, 2, size))
    for side, (items, sign) in enumerate(((new, 1.0), (old, -1.0))):
        for x in range(size):
            ends = []
            for way in (step, -step):
                parameters = items.parameters.copy()
                parameters[x] += way
                ends.append(means(replace(items, parameters=parameters)))
            by[:, :, side, x] = sign * (ends[0] - ends[1]) / (2 * step)
    variance = np.einsum("jksx,jsxty,jkty->jk", by, cov, by)[found.item, found.score]
    difference = np.abs(means(new) - means(old))[found.item, found.score]
    z = -norm.ppf(found.p / 2)
    np.testing.assert_allclose(difference, z * np.sqrt(variance), rtol=1e-4, atol=1e-8)
    np.testing.assert_allclose(np.abs(found.shift), z * found.se, rtol=1e-6, atol=1e-8)


def test_categories_are_named_if_certain_and_large() -> None:
    """q by hand: Benjamini & Hochberg (1995) over four tests."""
    p = np.array([0.001, 0.02, 0.03, 0.5])
    none = np.zeros(4)
    changes = CategoryChanges(
        np.arange(4), np.ones(4, dtype=int), none, none, p, none, np.array([0.06, 0.04, 0.06, 0.2])
    )
    (found,) = with_common_q([changes])
    assert found.q == pytest.approx([0.004, 0.04, 0.04, 0.5])
    assert found.named.tolist() == [True, False, True, False]
    one, other = with_common_q([changes.select(p < 0.01), changes.select(p > 0.01)])
    assert [*one.q, *other.q] == pytest.approx(found.q)


@pytest.mark.parametrize(
    ("counts", "kept"),
    [
        ([[50, 50, 50]], [1, 2]),
        ([[50, 50, 9]], [1]),
        ([[9, 50, 50]], [2]),
        ([[50, 3, 20, 50]], [1, 3]),  # score 1 joins the smaller neighbour, score 2
        ([[50, 3, 4, 3, 50]], [1, 4]),  # three rare scores are enough together
        ([[50, 50, 50], [50, 9, 41]], [1]),  # rare in the second sample
        ([[4, 3, 2]], []),
    ],
)
def test_categories_with_fewer_than_ten_answers_are_merged(counts: list[list[int]], kept: list[int]) -> None:
    assert separate_categories(np.array(counts)) == kept


def test_scores_that_one_side_lacks_are_not_compared() -> None:
    """Score 2 was not in the old calibration: its answers count with score 1."""
    new = drawn("gpcm", (4,))
    parameters = new.parameters.copy()
    parameters[4] = -np.inf
    old = replace(new, parameters=parameters)
    assert compare(new, old).score.tolist() == [1, 3, 4]
    counts = np.array([[[50, 5, 5, 50, 50]]])
    assert compare(new, old, counts=counts).score.tolist() == [1, 3, 4]
    assert compare(new, new, counts=counts).score.tolist() == [1, 3, 4]
    assert compare(new, old, counts=np.array([[[50, 5, 4, 50, 50]]])).score.tolist() == [3, 4]


def test_items_of_two_categories_have_no_categories_to_compare() -> None:
    items = drawn("gpcm", (1, 1))
    two = replace(items, models=("gpcm", "gpcm"), parameters=np.vstack([items.parameters[:2], np.zeros((2, 2))]))
    assert compare(two, two).score.size == 0
    assert with_common_q([]) == []


def test_answers_are_counted_by_item_and_score() -> None:
    responses = Responses.from_wide(np.array([[0.0, 2.0], [1.0, 2.0], [np.nan, 0.0]]), ["a", "b"], [2, 3])
    assert score_counts(responses).tolist() == [[1, 1, 0], [1, 0, 2]]
    assert score_counts(responses, responses.person > 0).tolist() == [[0, 1, 0], [1, 0, 1]]
