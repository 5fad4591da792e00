"""Simulated responses to scored items with planned missing forms. The responses are the same each time."""

from __future__ import annotations

import numpy as np
from scipy.special import softmax

from irt_psychometrics.core.responses import Responses

SCORES: tuple[tuple[int, ...], ...] = (
    *((0, 1),) * 6, *((0, 1, 2),) * 6, *((0, 1, 2, 3),) * 6, (0, 2), (0, 1, 3), (0, 1, 2, 3, 4),
)  # fmt: skip
"""Possible scores of each item."""


def planned_mixed(persons: int = 1200) -> Responses:
    """Responses of persons who each get one of three overlapping forms with two thirds of the items."""
    rng = np.random.default_rng(34)
    theta = rng.standard_normal(persons)
    values = np.full((persons, len(SCORES)), np.nan)
    form = np.arange(persons) % 3
    for j, scores in enumerate(SCORES):
        points, slope, middle = np.array(scores), 0.6 + 0.1 * (j % 7), -1.2 + 0.12 * j
        t = 0.5 * points * (points[-1] - points) * (0.6 + 0.1 * (j % 3))
        p = softmax(points * slope * (theta - middle)[:, None] + t, axis=1)
        drawn = points[(rng.random(persons)[:, None] > p.cumsum(axis=1)[:, :-1]).sum(axis=1)]
        values[:, j] = np.where(form != j % 3, drawn, np.nan)
    return Responses.from_wide(values, categories=np.array([scores[-1] + 1 for scores in SCORES]))
