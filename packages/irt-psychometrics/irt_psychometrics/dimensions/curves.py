"""Curves of items that measure several dimensions.

The probability of a score depends on the abilities only by z = Σ slope·θ + d, so the curve is the curve of the item's
model with a = 0 and d = z. The models themselves are in `core.model_families`.
"""

from __future__ import annotations

import numpy as np

from irt_psychometrics.core.arrays import Floats, Ints
from irt_psychometrics.core.item_models import parts
from irt_psychometrics.core.model_families import ItemModel

_ORIGIN = np.zeros(1)
"""θ at which an item whose intercept is z has the probabilities of z."""


def log_probabilities(model: ItemModel, z: Floats, further: Floats, categories: Ints) -> Floats:
    """Compute log P(score | z), shape (J, T, C); −∞ for scores that an item does not have.

    `z` (J, T) are values of Σ slope·θ + d. `further` (J, M) are the parameters besides a and d.
    """
    logs = np.full((*z.shape, int(categories.max(initial=2))), -np.inf)
    for at, one, flat, sizes in _by_model(model, z, further, categories):
        own = one.log_probabilities(_ORIGIN, flat, sizes)[:, 0]
        logs[at, :, : own.shape[1]] = own.reshape(len(at), z.shape[1], -1)
    return logs


def derivatives(model: ItemModel, z: Floats, further: Floats, categories: Ints) -> Floats:
    """Compute ∂ log P(score | z)/∂z and by each further parameter, shape (1 + M, J, T, C); arguments as above."""
    by = np.zeros((1 + further.shape[1], *z.shape, int(categories.max(initial=2))))
    for at, one, flat, sizes in _by_model(model, z, further, categories):
        own = one.by_parameters(_ORIGIN, flat, sizes)[1:, :, 0]
        by[: len(own), at, :, : own.shape[2]] = own.reshape(len(own), len(at), z.shape[1], -1)
    return by


def _by_model(model: ItemModel, z: Floats, further: Floats, categories: Ints):  # type: ignore[no-untyped-def]
    """Yield, for each model, the places of its items, and the parameters and categories of an item for each z."""
    T = z.shape[1]
    for some in parts(model, np.vstack([np.zeros((2, len(z))), further.T]), categories):
        flat = np.vstack([np.zeros(some.at.size * T), z[some.at].ravel(), np.repeat(some.further, T, axis=1)])
        yield some.at, some.model, flat, np.repeat(some.categories, T)
