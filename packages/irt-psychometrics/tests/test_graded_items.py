"""Items of a graded response model, which tests fit with another model."""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.quadrature import Grid
from irt_psychometrics.simulation import ScoredItems
from psychometrics_testbed.graded import GradedItems


def test_graded_items_have_the_same_shares_of_scores_but_different_curves():
    rng = np.random.default_rng(8)
    items = ScoredItems.draw(rng, [(0, 1, 2, 3), (0, 2)], np.array([1.2, 1.0]), np.array([0.3, -0.4]))
    theta = Grid.symmetric(241)
    weights, graded = np.exp(theta.log_weights()), GradedItems(items.a, items.b, items.t)
    for j, most in enumerate(items.max_scores):
        item, distance = np.full(theta.nodes.size, j), theta.nodes - items.b[j]
        one, other = (some.at_least(distance, item)[:, : most + 1] for some in (items, graded))
        np.testing.assert_allclose(weights @ one, weights @ other, atol=2e-4)
        assert (np.abs(one - other).max() > 0.005) == (most == 3)  # with two scores, both are a 2PL
