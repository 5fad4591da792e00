"""The M-step of a 3PL against a general optimiser, item by item."""

from __future__ import annotations

import numpy as np
from scipy.optimize import minimize
from scipy.special import expit

from irt_assets.psychometrics.core import kernels
from irt_assets.psychometrics.core.item_models import item_model
from irt_assets.psychometrics.core.models import Responses
from irt_assets.psychometrics.core.priors import GUESSING_PRIOR
from irt_assets.psychometrics.core.quadrature import Grid
from irt_assets.psychometrics.estimation.marginal import Problem
from irt_assets.psychometrics.estimation.mstep import em_step
from irt_assets.psychometrics.estimation.parameter_layout import ParameterLayout
from irt_assets.psychometrics.estimation.response_layout import ResponseLayout

ITEMS = 8


def test_every_item_goes_to_the_maximum_of_its_expected_posterior():
    rng = np.random.default_rng(3)
    a, b = np.exp(rng.normal(0, 0.4, ITEMS)), rng.normal(0, 1, ITEMS)
    b[0] = -3.0  # an easy item, whose c the answers leave open
    p = 0.2 + 0.8 * expit(a * (rng.normal(size=(1500, 1)) - b))
    data = ResponseLayout.of(Responses.from_wide((rng.random(p.shape) < p).astype(float)), rarer=True)
    with kernels.runner(1) as run:
        problem = Problem(data, ParameterLayout.of(item_model("3pl"), ITEMS), Grid.spanning(), run, GUESSING_PRIOR)
        point = problem.evaluate(problem.start())
        moved = (point.x + em_step(problem, point, point.gradient, np.zeros(len(point.x), bool))).reshape(3, ITEMS)
    theta = problem.grid.nodes
    for j in range(ITEMS):

        def cost(y, seen=point.expected.seen[j], right=point.expected.right[j]):
            c = expit(y[2])
            p = c + (1 - c) * expit(y[0] * theta + y[1])
            prior = -0.5 * ((y[2] - np.log(0.25)) / 0.5) ** 2
            return -(right @ np.log(p) + (seen - right) @ np.log1p(-p) + prior)

        best = minimize(cost, point.x.reshape(3, ITEMS)[:, j], method="Nelder-Mead", options={"fatol": 1e-7}).fun
        # the M-step stops where the next step promises half of 0.01
        assert cost(moved[:, j]) < best + 0.01
        assert cost(point.x.reshape(3, ITEMS)[:, j]) > best + 0.01
