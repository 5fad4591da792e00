"""Move items' parameters by random errors with the covariance of their own errors, to measure the effect on an
estimate."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from irt_psychometrics.core.arrays import Floats
from irt_psychometrics.core.item_models import ItemCurves, OtherItems
from irt_psychometrics.core.items import ItemParameters
from irt_psychometrics.core.logistic import expit, logit

_SEED = 1


def moved_curves(items: ItemParameters, n: int) -> Iterator[ItemCurves]:
    """Yield n times the curves of the items, with parameters moved by errors from the normal distribution with their
    covariance.

    The parameters are a, d and the further ones on the scale of estimation. Items whose errors are not known do not
    move. The draws are the same at each call. Yields nothing if no item has errors.
    """
    cov = items.cov_of_all
    by = np.tile(np.eye(cov.shape[1]), (len(items.a), 1, 1))
    by[:, 1, 0], by[:, 1, 1] = -items.b, -items.a  # d = −ab
    cov = by @ cov @ by.swapaxes(1, 2)
    cov[~np.isfinite(cov).all(axis=(1, 2))] = 0.0
    if not cov.any():
        return
    variance, axes = np.linalg.eigh(cov)
    along = axes * np.sqrt(np.maximum(variance, 0.0))[:, None]
    drawn = np.random.default_rng(_SEED).normal(size=(n, *variance.shape))
    curves = items.curves
    for step in np.einsum("jpk,njk->njp", along, drawn):
        yield ItemCurves(curves.a + step[:, 0], curves.d + step[:, 1], *add_to_further(curves, step))


def add_to_further(items: ItemCurves | ItemParameters, by: Floats) -> tuple[Floats, tuple[OtherItems, ...]]:
    """c and the items of other models, with `by[:, 2:]` added to the further parameters on the scale of estimation."""
    others = tuple(
        replace(some, further=some.further + by[some.at, 2 : 2 + len(some.further)].T) for some in items.others
    )
    return expit(logit(items.c) + by[:, 2]), others
